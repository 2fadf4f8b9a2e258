"""Shared by the tests of training: tiny scans of a disc with dark spots, and train.py in this process."""

import contextlib
import io
import os
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TRAINING = ROOT / "training"
SEGMENT = ROOT / os.environ.get("SEGMENT", "build/segment")
sys.path.insert(0, str(TRAINING))

import numpy as np  # noqa: E402
import SimpleITK as sitk  # noqa: E402
import torch  # noqa: E402
import train  # noqa: E402
from processes import Group  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from trainer import Training  # noqa: E402
from volume_io import Volume, image_of, images, patchmask, write_nrrd  # noqa: E402, F401

SHAPE, SPACING = (4, 52, 60), (5.0, 1.5, 1.25)  # slices, rows, columns; mm
TINY = (
    "--patch-size 32 --stride 8 --widths 4,4,6,6,8,8,8,12,12,12,16,16,16 --dense 16 --batch 32 --steps 30 --epochs 4 "
    "--dropout 0.2 --mine 200 --learning-rate 5e-3 --fold 3/3 --device cpu --precision float32"
).split()


def scan(seed):
    """(HU int16, labels uint8) [slice][row][column]: liver 1, and in each slice two lesions 2."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(SHAPE[1:])
    hu, labels = np.full(SHAPE, -60.0), np.zeros(SHAPE, np.uint8)
    for k in range(SHAPE[0]):
        labels[k][np.hypot(rows - 26, columns - 28) < 20] = 1
        for row, column in rng.uniform((14, 16), (38, 40), (2, 2)):
            labels[k][np.hypot(rows - row, columns - column) < 5] = 2
    hu[labels == 1], hu[labels == 2] = 120, 20
    return np.rint(hu + rng.normal(0, 8, SHAPE)).astype(np.int16), labels


def write_nifti(path, voxels, axes="LPS"):
    """Voxels that run to the patient's left, back and head, stored with other axes."""
    sitk.WriteImage(images.turn(image_of(Volume(voxels, SPACING)), axes), str(path))


def write_lits(folder, seeds=(0, 1, 2), end=".nii"):
    """The challenge's layout; scans are stored one way or another, as there."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, axes in zip(seeds, ("LPS", "RAS", "LAS")):
        for name, voxels in zip(("volume", "segmentation"), scan(seed)):
            path = folder / f"{name}-{seed}{end}"
            if end == ".nrrd":
                write_nrrd(path, Volume(voxels, SPACING))
            else:
                write_nifti(path, voxels, axes)
    return folder


class TrainingCase(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        torch.set_num_threads(1)
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.shared = Path(folder.name)
        cls.lits = write_lits(cls.shared / "lits")

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    @staticmethod
    def train(*words):
        """train.py with TINY and `words`: what it prints."""
        with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.redirect_stderr(io.StringIO()):
            train.train(arguments(*words))
        return printed.getvalue()

    def training(self, *words):
        """A Training that has not begun."""
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return Training(arguments("--out", self.folder / "unused", *words), Group("cpu"))

    def refused(self, *words, text):
        """train.py ends with an error that holds `text`."""
        with self.assertRaises(ValueError) as caught:
            self.train("--out", self.folder / "refused", *words)
        self.assertIn(text, str(caught.exception))

    def assert_same_models(self, one, other):
        """Every tensor of two runs' exported models, bit by bit."""
        one, other = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
        self.assertEqual(one.keys(), other.keys())
        for name in one:
            self.assertTrue(torch.equal(one[name], other[name]), name)


def arguments(*words):
    return train.checked(train.parser().parse_args([*TINY, *map(str, words)]))
