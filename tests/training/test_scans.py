"""Folders of scans: what is found and how it is read, and what is refused."""

import warnings

import numpy as np
import scans
import SimpleITK as sitk
from intensity import Intensity
from training_case import SHAPE, SPACING, TrainingCase, scan, write_lits, write_nifti
from volume_io import Volume, image_of, read_volume, write_nrrd


class Layouts(TrainingCase):
    def assert_scans(self, folder):
        """The three scans, whatever their files: voxels in the patient's order, lesions and liver told apart."""
        for seed, source in enumerate(scans.find(folder)):
            hu, labels = scan(seed)
            found = scans.Scan(source, Intensity())
            np.testing.assert_array_equal(found.classes, labels)
            np.testing.assert_allclose(found.image, Intensity().windowed(hu), atol=1e-3)
            self.assertEqual(found.counts["lesion"], (labels == 2).sum())
            shell_and_liver = np.union1d(found.strata["shell"], found.strata["liver"])
            self.assertTrue(np.isin(np.flatnonzero(labels == 1), shell_and_liver).all())
        self.assertEqual(seed, 2)

    def test_lits(self):
        self.assert_scans(self.lits)
        self.assertEqual(np.round(read_volume(self.lits / "volume-1.nii").spacing, 4).tolist(), list(SPACING))

    def test_compressed(self):
        self.assert_scans(write_lits(self.folder, end=".nii.gz"))

    def test_nrrd(self):
        self.assert_scans(write_lits(self.folder, end=".nrrd"))

    def test_gzip_nrrd(self):
        hu, _ = scan(0)
        sitk.WriteImage(image_of(Volume(hu, SPACING)), str(self.folder / "packed.nrrd"), useCompression=True)
        np.testing.assert_array_equal(read_volume(self.folder / "packed.nrrd").voxels, hu)

    def test_folders_in_folders(self):
        """As the challenge's archives are unpacked."""
        for batch, seed in (("Training Batch 1", 0), ("Training Batch 2", 1)):
            write_lits(self.folder / batch, [seed])
        self.assertEqual([source.name for source in scans.find(self.folder)], ["0", "1"])

    def test_pattern_and_labels(self):
        hu, labels = scan(0)
        write_nifti(self.folder / "a_image.nii.gz", hu)
        write_nifti(self.folder / "a_labels.nii.gz", np.where(labels == 2, 7, labels * 5).astype(np.uint8))
        [source] = scans.find(self.folder, ("*_image.nii.gz", "*_labels.nii.gz"), scans.Labels(lesion=7, organ=5))
        found = scans.Scan(source, Intensity())
        np.testing.assert_array_equal(found.classes, labels)
        self.assertGreater(found.counts["liver"], 0)

    def test_stacks(self):
        """Pictures: -40 to 160 HU as grey, slices in the order of their numbers, a patient without lesions too."""
        for seed, name in ((0, "volume-7"), (1, "volume-12")):
            hu, labels = scan(seed)
            grey = np.rint((np.clip(hu, -40, 160) + 40) * (255 / 200)).astype(np.uint8)
            (self.folder / name).mkdir()
            for k, number in enumerate((8, 9, 10, 31)):
                for picture, end in ((grey[k], ".jpg"), (np.minimum(labels[k], 2 - seed), "_labels.png")):
                    image = sitk.GetImageFromArray(picture)
                    sitk.WriteImage(image, str(self.folder / name / f"{number:03d}{end}"), useCompression=False, compressionLevel=100)
        sources = scans.find(self.folder)
        self.assertEqual(sorted(source.name for source in sources), ["12", "7"])
        [first] = [source for source in sources if source.name == "7"]
        volume, truth, organ = first.read()
        hu, labels = scan(0)
        np.testing.assert_array_equal(truth, labels == 2)
        np.testing.assert_array_equal(organ, labels > 0)
        self.assertLess(np.abs(volume.voxels - np.clip(hu, -40, 160)).mean(), 5)
        self.assertEqual(scans.Scan(first, Intensity((-40, 160)), 1.5).shape, (4, 26, 30))
        next(self.folder.rglob("031_labels.png")).unlink()
        with self.assertRaisesRegex(ValueError, "volume-.*031_labels"):
            [source.read() for source in sources]

    def test_pixel_mm(self):
        """Slices and labels at another pixel size, the axes each by its own spacing."""
        [source, *_] = scans.find(self.lits)
        hu, labels = scan(0)
        found = scans.Scan(source, Intensity(), 2.5)
        self.assertEqual(found.shape, (4, round(52 * 1.5 / 2.5), 30))  # rows of 1.5 mm, columns of 1.25
        np.testing.assert_allclose(found.image.mean(), Intensity().windowed(resampled := hu).mean(), atol=0.02)
        self.assertAlmostEqual((found.classes == 2).mean(), (labels == 2).mean(), delta=0.01)
        self.assertLess(found.image.std(), Intensity().windowed(resampled).std())

    def test_cache(self):
        sources, cache = scans.find(self.lits), self.folder / "cache"
        scans.load(sources, Intensity(), None, cache, quiet=True)
        entries = sorted(cache.iterdir())
        self.assertEqual(len(entries), 3)
        computed = scans.load(sources, Intensity(), quiet=True)
        for cached, fresh in zip(scans.load(sources, Intensity(), None, cache, quiet=True), computed):
            np.testing.assert_array_equal(cached.image, fresh.image)
            self.assertEqual(cached.counts, fresh.counts)
            for name in fresh.strata:
                np.testing.assert_array_equal(cached.strata[name], fresh.strata[name])
            for one, other in zip(cached.lesions, fresh.lesions, strict=True):
                np.testing.assert_array_equal(one, other)
        self.assertEqual(sorted(cache.iterdir()), entries)
        scans.load(sources, Intensity(equalize=True), None, cache, quiet=True)
        scans.load(sources, Intensity(), 2.0, cache, quiet=True)
        self.assertEqual(len(list(cache.iterdir())), 9)


class Refused(TrainingCase):
    def setUp(self):
        super().setUp()
        self.scans = write_lits(self.folder / "scans")

    def test_no_scans(self):
        self.refused(self.folder / "nothing", text="no scans (*_ct.nrrd, volume-*.nii")

    def test_missing_pair(self):
        (self.scans / "segmentation-1.nii").unlink()
        self.refused(self.scans, text="segmentation-1.nii: missing, the labels of volume-1.nii")

    def test_other_shape(self):
        write_nifti(self.scans / "segmentation-1.nii", scan(1)[1][:, :-1])
        self.refused(self.scans, text=f"segmentation-1.nii: shape (4, 51, 60), but its image has {SHAPE}")

    def test_unknown_label(self):
        labels = scan(1)[1]
        labels[0, 0, 0] = 3
        write_nifti(self.scans / "segmentation-1.nii", labels)
        self.refused(self.scans, text="segmentation-1.nii: label 3, but only 0, 1, 2 are known")
        self.train(self.scans, "--out", self.folder, "--lesion-label", 2, "--organ-label", 1, "--epochs", 1)

    def test_no_lesion(self):
        for seed in (0, 1):
            write_nifti(self.scans / f"segmentation-{seed}.nii", np.minimum(scan(seed)[1], 1))
        self.refused(self.scans, "--fold", "1/3", text="no lesion in any training scan")

    def test_no_held_out_lesion(self):
        write_nifti(self.scans / "segmentation-2.nii", np.minimum(scan(2)[1], 1))
        self.refused(self.scans, text="no lesion in any held-out scan")

    def test_held_out_from_training(self):
        self.refused(self.scans, self.folder, text="volume-0.nii: both in")

    def test_mixed_from_training(self):
        """Nothing that is held out or set aside comes in by the side door."""
        self.refused(self.scans, "--mix", self.scans, text="volume-0.nii: both in")
        (only := self.folder / "other").mkdir()
        for name in ("volume-1.nii", "segmentation-1.nii"):
            (only / name).symlink_to(self.scans / name)
        self.refused(self.scans, "--mix", only, "--leave-out", 1, text="volume-1.nii: both in")
        self.refused(write_lits(self.folder / "more", [5]), only, "--mix", only, text="volume-1.nii: both in")

    def test_mixed_without_lesions(self):
        self.refused(self.scans, "--mix", self.folder / "none", text=f"{self.folder / 'none'}: no scans (")
        healthy = write_lits(self.folder / "healthy", [5])
        write_nifti(healthy / "segmentation-5.nii", np.minimum(scan(5)[1], 1))
        self.refused(self.scans, "--mix", healthy, text=f"{healthy}: no lesion in any of 1 scans")

    def test_nothing_held_out(self):
        self.refused(self.scans, "--fold", "4/4", text="3 scans in 4 folds: leaves none")
        self.refused(self.scans, "--leave-out", "0,1,2", text="no scans are left")

    def test_names_that_no_scan_has(self):
        self.refused(self.scans, "--leave-out", "0,9,volume-1", text="9, volume-1: no scan of this name; there are 0, 1, 2")

    def test_broken_files(self):
        whole = (self.scans / "volume-1.nii").read_bytes()
        for content, text in ((whole[:2000], "truncated: 2000 bytes"), (b"no image", "")):
            (self.scans / "volume-1.nii").write_bytes(content)
            self.refused(self.scans, text=f"volume-1.nii: {text}")
        nrrd = write_lits(self.folder / "nrrd", end=".nrrd")
        whole = (nrrd / "volume-1.nrrd").read_bytes()
        for content, text in (
            (whole[:-1], "truncated: 24959 bytes, but the header announces 24960"),
            (b"no image", ""),
            (whole.replace(b"encoding: raw", b"encoding: hex"), "volume-1.nrrd: damaged"),
            (whole.replace(b"type: short", b"type: block"), "type block: must be one of"),
            (whole.replace(b"sizes: 60 52 4", b"sizes: 60 208"), "sizes 60 208: must be 3 numbers"),
        ):
            (nrrd / "volume-1.nrrd").write_bytes(content)
            self.refused(nrrd, text=text if text else "volume-1.nrrd: ")

    def test_labels_elsewhere(self):
        """Headers that disagree about the place are told, not refused: collections have them."""
        hu, labels = scan(0)
        write_nrrd(self.folder / "volume-0.nrrd", Volume(hu, SPACING))
        write_nrrd(self.folder / "segmentation-0.nrrd", Volume(labels, SPACING, (9.0, 0.0, 0.0)))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            scans.Scan(scans.find(self.folder, ("volume-*.nrrd", "segmentation-*.nrrd"))[0], Intensity())
        self.assertTrue(any("look whether labels are in place" in str(each.message) for each in caught))

    def test_options(self):
        for words, text in (
            (["--batch", 3], "--batch 3: must be even"),
            (["--batch", 0], "--batch 0: must be at least 2"),
            (["--stride", 33], "--stride 33: must be 1..=32"),
            (["--dropout", 1], "--dropout 1.0: must be"),
            (["--labels", 2], "--labels 2: must be odd"),
            (["--outside", 2], "--outside 2.0: must be at most 1"),
            (["--mix-share", 0], "--mix-share 0.0: must be at least 0.01"),
            (["--threshold", -1], "--threshold -1.0: must be at least 0.01"),
            (["--patch-size", 31], "--patch-size 31: must be at least 32"),
            (["--organ-label", 1], "--organ-label: needs --lesion-label"),
            (["--pattern", "a", "b*"], "each needs one *"),
            (["--start", "a", "--imagenet", "b"], "choose one"),
            (["--start", self.scans / "volume-0.nii"], "not a safetensors file"),
        ):
            with self.subTest(text):
                self.refused(self.scans, *words, text=text)
