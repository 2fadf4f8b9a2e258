"""Where patches come from and how they are varied; crops that hold many; resampling; folds; thresholds."""

import json
import subprocess
import sys

import augmentation
import folds
import numpy as np
import resampling
import scans
import SimpleITK as sitk
import torch
import validation
from augmentation import Augmentation, augmented
from export import Settings, export, load
from intensity import Intensity
from patches import BalancedSampler
from scipy import ndimage
from training_case import TRAINING, TrainingCase, patchmask, write_lits
from vgg import DENSE_STEP, Vgg16, folded

STILL = Augmentation(turn=0, zoom=(1, 1), gain=0, shift=0, noise=0)
WIDTHS = [4, 4, 6, 6, 8, 8, 8, 12, 12, 12, 16, 16, 16]


class Crops(TrainingCase):
    def test_same_as_the_library(self):
        """A crop's patches are those of the library with zeros at the image's border only."""
        for size in (32, 65, 70):
            torch.manual_seed(size)
            model = Vgg16(size, WIDTHS, [16], batch_norm=False)
            torch.nn.init.normal_(model.classifier[-1].weight)
            path, intensity = self.folder / "model.safetensors", Intensity((-100, 100), mean=0.3, std=0.5)
            export(path, model, Settings(intensity, DENSE_STEP, ("a", "b")))
            hu = np.random.default_rng(size).normal(0, 60, (1, 40, 56)).astype(np.float32)
            with patchmask.Session(path, padding="image", device="cpu", threads=1) as session:
                found = session.segment(hu, mask=False, logits=True).logits[0]
            # What all patches cover together: black where the slice ends.
            last = [DENSE_STEP * (n - 1) - size // 2 + size for n in found.shape[:2]]
            black = np.pad(intensity.windowed(hu)[0], [(size // 2, max(0, end - n)) for end, n in zip(last, hu.shape[1:])])
            black = black[: size // 2 + last[0], : size // 2 + last[1]]
            crop = torch.from_numpy((black - intensity.mean) / intensity.std)[None, None]
            with torch.inference_mode():
                expected = model.half().float().eval().dense(crop)[0].permute(1, 2, 0).numpy()
            self.assertEqual(found.shape, expected.shape)
            np.testing.assert_allclose(found, expected, atol=2e-4 * np.abs(expected).max())
            self.assertGreater(expected.std((0, 1)).max(), 0.01 * np.abs(expected).max())

    def test_one_patch(self):
        """Of a crop as large as a patch: the patch itself, with batch norms too."""
        model = Vgg16(64, WIDTHS, [16, 8], classes=3)
        patches = torch.randn(3, 1, 64, 64)
        model(patches)  # statistics
        for network in (model.eval(), folded(model)):
            expected = network(patches)
            torch.testing.assert_close(network.dense(patches)[..., 0, 0], expected, rtol=1e-4, atol=1e-5)

    def test_trains_and_writes_its_settings(self):
        options = ["--labels", 3, "--classes", 3, "--pixel-mm", 1.5, "--window", "-40,160", "--threshold", 0.4, "--flip",
                   "--average", 0.9, "--by-size", 0.5, "--outside", 0, "--freeze", 1, "--blur", 1, "--batch", 8,
                   "--minutes", 0.05, "--epochs", 100_000, "--steps", 5, "--keep-epochs", "--mine", 0]  # fmt: skip
        before = self.training(self.lits, *options).model.state_dict()
        printed = self.train(self.lits, *options, "--out", self.folder)
        self.assertIn("held-out Dice", printed)
        known = load(self.folder / "model.safetensors")
        self.assertEqual((known.pixel_mm, known.threshold), (1.5, 0.4))
        self.assertEqual((known.intensity.window, known.classes), ((-40, 160), ("background", "organ", "lesion")))
        epochs = len(list(self.folder.glob("epoch-*.safetensors")))
        self.assertTrue(1 <= epochs < 100_000, epochs)
        after = torch.load(self.folder / "checkpoint.pt", weights_only=True)["model"]
        kept = [name for name in before if torch.equal(before[name], after[name])]
        self.assertEqual([name for name in kept if name.endswith("weight")], [f"features.{k}.weight" for k in (0, 1, 3, 4)])


class Augmented(TrainingCase):
    def test_labels_stay_in_place(self):
        """Turned, zoomed and flipped, every label is that of the pixel under it."""
        torch.manual_seed(0)
        how, side, labels = Augmentation(180, (0.6, 1.4), True, 0, 0, 0, 0), 80, 7
        width = side + 2 * how.margin(side)
        classes = torch.zeros(6, width, width, dtype=torch.uint8)
        centre = width // 2
        classes[:, centre - 30 : centre, centre - 10 : centre + 40] = 2
        patches, found = augmented((classes[:, None] > 0).float(), side, how, classes, labels)
        points = (torch.arange(labels) - labels // 2) * DENSE_STEP + side // 2
        under = patches[:, 0, points[:, None], points]
        sure = (under - 0.5).abs() > 0.49
        self.assertGreater(sure.float().mean(), 0.8)
        torch.testing.assert_close(found[sure], (under[sure] > 0.5).long() * 2)
        self.assertGreater(len({tuple(each.flatten().tolist()) for each in found}), 3)

    def test_margin(self):
        """Nothing from beyond the window: ones stay ones."""
        for zoom, turn in (((0.4, 1.1), 180), ((0.4, 0.4), 45), ((1, 1), 10), ((1.5, 2), 30)):
            how = Augmentation(turn, zoom, True, 0, 0, 0, 0)
            for side in (32, 65):
                width = side + 2 * how.margin(side)
                patches, _ = augmented(torch.ones(40, 1, width, width), side, how)
                self.assertGreater(patches.min(), 0.999)

    def test_still(self):
        window = torch.rand(2, 1, 40, 40)
        rim = STILL.margin(32)
        found, _ = augmented(window[:, :, : 32 + 2 * rim, : 32 + 2 * rim], 32, STILL)
        torch.testing.assert_close(found, window[:, :, rim : rim + 32, rim : rim + 32], atol=1e-5, rtol=0)

    def test_blur(self):
        """Each patch by its own deviation, as scipy does; its mean stays."""
        patches = torch.rand(3, 1, 40, 40)
        found = augmentation.blurred(patches, torch.tensor([0.0, 0.7, 1.5]))
        torch.testing.assert_close(found[0], patches[0])
        for k, deviation in ((1, 0.7), (2, 1.5)):
            expected = ndimage.gaussian_filter(patches[k, 0].numpy(), deviation, mode="nearest", radius=5)
            np.testing.assert_allclose(found[k, 0].numpy(), expected, atol=1e-3)


class Sampled(TrainingCase):
    def drawn(self, **options):
        sampler = BalancedSampler(self.loaded, 1, 0, np.random.default_rng(1), **options)
        return sampler, sampler.batch(4000)[1].flatten().numpy()

    def setUp(self):
        super().setUp()
        self.loaded = scans.load(scans.find(self.lits), Intensity(), quiet=True)

    def test_outside(self):
        for outside in (0.0, 0.5):
            _, classes = self.drawn(outside=outside)
            self.assertEqual((classes == 2).mean(), 0.5)
            around = np.mean([(scan.classes == 0).mean() for scan in self.loaded])
            self.assertLess(abs(2 * (classes == 0).mean() - outside * (1 if outside else 0)), 0.12 + 0.3 * outside * around)

    def test_by_size(self):
        """Lesions come from all patients alike, or by their voxels."""
        big = self.loaded[0]
        big.counts["lesion"] *= 20
        draws = {x: self.drawn(by_size=x)[0].patients.chances for x in (0.0, 1.0)}
        np.testing.assert_allclose(draws[0.0], 1 / 3)
        self.assertGreater(draws[1.0][0], 0.8)

    def test_others(self):
        """Their share of the patches is what was asked for, in each stratum; offsets are those of the scans."""
        for k, scan in enumerate(others := scans.load(scans.find(write_lits(self.folder, [5, 6])), Intensity(), quiet=True)):
            scan.counts = {name: count * (k + 2) for name, count in scan.counts.items()}
        for share in (0.1, 0.6):
            sampler = BalancedSampler(self.loaded, 1, 0, np.random.default_rng(1), others=others, mixed=share)
            self.assertEqual(sampler.offsets, self.drawn()[0].offsets)
            for name in ("lesion", *sampler.shares):
                drawn = [sampler._draw(name)[0] for _ in range(2000)]
                self.assertAlmostEqual(np.mean([scan in others for scan in drawn]), share, delta=0.05, msg=name)
                self.assertEqual(len(set(drawn)), 5, name)
        # A stratum that the others lack is drawn from the scans.
        for scan in others:
            scan.counts["lookalike"], scan.strata["lookalike"] = 0, []
        self.assertFalse({sampler._draw("lookalike")[0] for _ in range(100)} & set(others))

    def test_prior_of_the_average_patient(self):
        """A scan with many more voxels of the same kind changes nothing."""
        before = self.drawn()[0].offsets
        one = self.loaded[0]
        one.image = np.concatenate([one.image] * 5)
        one.counts = {name: 5 * count for name, count in one.counts.items()}
        self.assertEqual(before.keys(), (after := self.drawn()[0].offsets).keys())
        for name in before:
            self.assertAlmostEqual(before[name], after[name], places=6)


class Resampled(TrainingCase):
    def test_average(self):
        """By whole numbers the mean of blocks; else as much of each pixel as lies inside."""
        volume = np.random.default_rng(0).normal(size=(2, 12, 15))
        blocks = volume.reshape(2, 6, 2, 5, 3).mean((2, 4))
        np.testing.assert_allclose(resampling.resized(volume, 6, 5), blocks, atol=1e-6)
        np.testing.assert_allclose(resampling.weights(5, 2), [[0.4, 0.4, 0.2, 0, 0], [0, 0, 0.2, 0.4, 0.4]], atol=1e-6)

    def test_linear(self):
        """As SimpleITK between the centres of pixels; clamped beyond."""
        volume = np.random.default_rng(0).normal(size=(1, 9, 7)).astype(np.float32)
        rows, columns = 20, 10
        image = sitk.GetImageFromArray(volume[0])
        grid = sitk.Image(columns, rows, sitk.sitkFloat32)
        steps = (7 / columns, 9 / rows)
        grid.SetSpacing(steps)
        grid.SetOrigin([0.5 * step - 0.5 for step in steps])
        expected = sitk.GetArrayFromImage(sitk.Resample(image, grid, sitk.Transform(), sitk.sitkLinear))
        np.testing.assert_allclose(resampling.resized(volume, rows, columns)[0, 2:-2, 1:-1], expected[2:-2, 1:-1], atol=1e-5)

    def test_there_and_back(self):
        for old, new in ((9, 4), (4, 9), (7, 7), (1, 3)):
            rows = resampling.weights(old, new)
            np.testing.assert_allclose(rows.sum(1), 1, atol=1e-6)
            back = resampling.nearest(np.arange(new)[None, :, None].repeat(new, 2), old, old)
            self.assertTrue((np.diff(back[0, :, 0]) >= 0).all())


class Chosen(TrainingCase):
    def test_folds(self):
        """Lesions of all sizes in each, whatever the names are; each scan in one."""
        loaded = [type("Scan", (), dict(name=f"{k:02d}", counts={"lesion": 10 ** (k % 5)}))() for k in range(11)]
        dealt = folds.folds(loaded, 2)
        self.assertEqual(sorted(scan.name for fold in dealt for scan in fold), [scan.name for scan in loaded])
        sizes = [sum(scan.counts["lesion"] for scan in fold) for fold in dealt]
        self.assertLess(max(sizes) / min(sizes), 3)
        renamed = [type("Scan", (), dict(name=scan.name[::-1], counts=scan.counts))() for scan in loaded[::-1]]
        for one, other in zip(dealt, folds.folds(renamed, 2)):
            self.assertEqual(*(sorted(scan.counts["lesion"] for scan in fold) for fold in (one, other)))
        training, held_out = folds.split(loaded, (2, 3))
        self.assertEqual((len(training), len(held_out)), (7, 4))
        self.assertEqual(folds.split(loaded, (0, 3)), (loaded, []))

    def test_dice_at_every_threshold(self):
        rng = np.random.default_rng(0)
        probability = rng.random((2, 4, 20, 20), np.float32).round(3)
        truths = rng.random((2, 4, 20, 20)) < probability**2
        library = type("Known", (), dict(threshold=0.3))()
        sources = [type("Source", (), dict(name=str(k), read=lambda self, k=k: (probability[k], truths[k], None)))() for k in (0, 1)]
        library.probability = lambda volume, organ: volume
        scores = [validation.score(library, source) for source in sources]
        each, pooled = validation.dice(scores)
        for threshold in (0.1, 0.3, 0.55, 0.9):
            masks = probability >= threshold - 1e-6
            k = round(threshold * validation.STEPS)
            for one, mask, truth in zip(each, masks, truths):
                self.assertAlmostEqual(one[k], patchmask.metrics.dice(truth, mask), places=6)
            self.assertAlmostEqual(pooled[k], patchmask.metrics.dice(truths, masks), places=6)
        best = validation.best_threshold([scores])
        curve = each.mean(0) + pooled
        self.assertGreater(curve[round(best * validation.STEPS)], curve.max() - 0.02)
        self.assertGreater(curve.max() - curve[50], 0.02)

    def test_window_of_a_start(self):
        """Another window gives the network the same numbers."""
        old = Intensity((-160, 240), mean=0.4, std=0.3)
        new = old.rewindowed((-40, 160))
        hu = np.linspace(-40, 160, 9).reshape(1, 1, 9)
        seen = [(each.windowed(hu) - each.mean) / each.std for each in (old, new)]
        np.testing.assert_allclose(*seen, atol=1e-6)

    def test_start_is_not_overridden(self):
        self.train(self.lits, "--out", self.folder, "--epochs", 1, "--steps", 2)
        start = ["--start", self.folder / "model.safetensors"]
        for option, value in (("--widths", "4,4,6,6,8,8,8,12,12,12,16,16,17"), ("--patch-size", 64), ("--classes", 3)):
            given = "background,organ,lesion" if value == 3 else value
            self.refused(self.lits, *start, option, value, text=f"{option} {given}: {start[1]} has")
        self.assertEqual(self.training(self.lits, *start, "--window", "-100,200").intensity.window, (-100, 200))

    def test_programs(self):
        """Scores of a model without training, and a threshold written into it."""

        def run(program, *words):
            done = subprocess.run([sys.executable, TRAINING / program, *map(str, words)], capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stderr)
            return done.stdout

        self.train(self.lits, "--out", self.folder, "--epochs", 2)
        model = self.folder / "model.safetensors"
        files = [self.folder / f"{k}.json" for k in (1, 2)]
        printed = run("evaluate.py", model, self.lits, "--only", "0,1", "--device", "cpu", "--json", files[0])
        self.assertIn("held_out_dice", printed)
        self.assertEqual([row["name"] for row in json.loads(files[0].read_text())], ["0", "1"])
        run("evaluate.py", "hu", self.lits, "--leave-out", "0,1", "--json", files[1])
        said = float(run("threshold.py", *files, "--write", model).split("threshold ")[1])
        self.assertEqual(load(model).threshold, said)
