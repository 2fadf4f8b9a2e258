"""Lesions painted into copies of scans: where they may lie, how they look, and that held-out scans have no part in it."""

import numpy as np
import scans
from intensity import Intensity
from painted import BRIGHTER, LARGEST_MM, SMALLEST_MM, painted
from scipy import ndimage
from training_case import TrainingCase, scan, write_nifti

PIXEL_MM = 1.5


class Painted(TrainingCase):
    def setUp(self):
        super().setUp()
        rng, size = np.random.default_rng(0), 160
        rows, columns = np.indices((size, size))
        self.organ = np.broadcast_to(np.hypot(rows - 80, columns - 80) < 60, (40, size, size)).copy()
        self.organ[0] = False  # a slice without the organ
        self.truth = self.organ & (np.hypot(rows - 60, columns - 60) < 6)
        self.hu = np.where(self.organ, 100, -60) - 60 * self.truth + rng.normal(0, 10, self.organ.shape)
        self.new_hu, self.new_truth = painted(self.hu, self.organ, self.truth, PIXEL_MM, np.random.default_rng(1))
        self.lesions = self.new_truth & ~self.truth

    def test_only_the_healthy_organ(self):
        self.assertTrue(self.lesions.any())
        self.assertTrue(self.new_truth[self.truth].all())
        self.assertFalse(self.lesions[~self.organ].any())
        kept = ~self.organ | self.truth
        np.testing.assert_array_equal(self.new_hu[kept], self.hu.astype(np.float32)[kept])
        self.assertFalse(np.may_share_memory(self.hu, self.new_hu))

    def test_sizes_and_contrasts(self):
        """From small to as large as the organ allows; mostly darker, with the noise of the scan."""
        found = []
        for slice_, lesions in zip(self.new_hu, self.lesions):
            parts, count = ndimage.label(lesions)
            found += [(np.sqrt((parts == k).sum() * 4 / np.pi) * PIXEL_MM, slice_[parts == k]) for k in range(1, count + 1)]
        across = np.array([mm for mm, _ in found])
        self.assertLess(across.min(), 2 * SMALLEST_MM)
        self.assertGreater(across.max(), 60)
        self.assertLess(across.max(), 1.3 * LARGEST_MM)
        darker = np.array([np.median(hu) < 100 for mm, hu in found if mm > SMALLEST_MM])
        self.assertGreater(darker.mean(), 1 - 3 * BRIGHTER)
        for mm, hu in found:
            if mm > 20:
                self.assertGreater(np.median(np.abs(np.diff(hu))), 3)
        self.assertGreater(min(np.median(hu) for mm, hu in found if mm > SMALLEST_MM), 0)  # not darker than water

    def test_repeats(self):
        again = painted(self.hu, self.organ, self.truth, PIXEL_MM, np.random.default_rng(1))
        other = painted(self.hu, self.organ, self.truth, PIXEL_MM, np.random.default_rng(2))
        np.testing.assert_array_equal(again[0], self.new_hu)
        self.assertFalse(np.array_equal(other[1], self.new_truth))


class Copies(TrainingCase):
    def test_of_a_scan(self):
        [source, *_] = scans.find(self.lits)
        whole, *copies = (scans.Scan(source, Intensity(), copy=k) for k in range(3))
        self.assertEqual([one.name for one in copies], ["0-1", "0-2"])
        self.assertFalse(np.array_equal(copies[0].classes, copies[1].classes))
        for one in copies:
            np.testing.assert_array_equal(one.classes > 0, whole.classes > 0)
            self.assertTrue((one.classes[whole.classes == 2] == 2).all())
            self.assertGreater(one.counts["lesion"], whole.counts["lesion"])
            self.assertEqual(one.counts["lesion"], (one.classes == 2).sum())

    def test_cache(self):
        sources, cache = scans.find(self.lits), self.folder / "cache"
        for folder in (None, cache, cache):
            loaded = scans.load(sources, Intensity(), None, folder, quiet=True, copies=(1, 2))
            self.assertEqual([one.name for one in loaded], ["0-1", "0-2", "1-1", "1-2", "2-1", "2-2"])
            fresh = loaded if folder is None else fresh
            for one, other in zip(loaded, fresh):
                np.testing.assert_array_equal(one.image, other.image)
        self.assertEqual(len(list(cache.iterdir())), 6)

    def test_training(self):
        """Copies are drawn from beside other scans, and never those of a held-out scan."""
        training = self.training(self.lits, "--painted", 2, "--mix-share", 0.5)
        self.assertEqual([one.name for one in training.held_out], ["2"])
        self.assertEqual([one.name for one in training.others], ["0-1", "0-2", "1-1", "1-2"])
        drawn = [training.sampler._draw("lesion")[0] in training.others for _ in range(1000)]
        self.assertAlmostEqual(np.mean(drawn), 0.5, delta=0.06)

    def test_no_organ(self):
        hu, labels = scan(0)
        for name, voxels in (("a_image", hu), ("a_labels", (labels == 2).astype(np.uint8))):
            write_nifti(self.folder / f"{name}.nii", voxels)
        options = ["--pattern", "*_image.nii", "*_labels.nii", "--fold", "0/2", "--painted", 1]
        self.refused(self.folder, *options, text="a_labels.nii: no organ is labelled that lesions could be painted into")
