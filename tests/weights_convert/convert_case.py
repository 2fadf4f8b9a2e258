"""Shared by the tests of conversion: a slice, its patches as the library cuts them, the command, `segment --logits`.

Weights are random and representable in fp16, as far as possible: the library rounds to fp16 once, and a comparison is
then as tight as f32 arithmetic. One test has weights as training leaves them, f32. Where folding gives other numbers
(batch norm, average pooling), rounding to fp16 is in the difference.
"""

import contextlib
import io
import os
import subprocess
import tempfile
import unittest
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from patchmask import commands

ROOT = Path(__file__).resolve().parents[2]
SEGMENT = ROOT / os.environ.get("SEGMENT", "build/segment")
WIDTHS = (6, 6, 8, 8, 8, 9, 8, 10, 10, 10, 12, 12, 12)
PATCH, STRIDE = 70, 16  # 2 x 2 positions after the last pool; odd sides in between
WINDOW = (-160.0, 240.0)
EXACT = 1e-4  # of the largest logit
F32 = 5e-3  # weights that the library rounds to fp16; measured: up to 2.5e-3 in these narrow networks
ROUNDED = 6e-3  # where folded weights are rounded to fp16

_rng = np.random.default_rng(4)
_smooth = np.add.outer(200 * np.sin(np.arange(52) / 7), 180 * np.cos(np.arange(60) / 5))
SLICE = np.rint(_smooth + _rng.normal(0, 60, (52, 60))).astype("<i2")  # [row][column], HU


def patches(side=PATCH, channels=1, mean=0.0, std=1.0):
    """float32 [patches][channels][side][side], normalised; rows of the patch grid outside."""
    low, high = WINDOW
    image = np.clip((SLICE.astype(np.float64) - low) / (high - low), 0, 1)
    padded = np.pad(image, side)
    rows, columns = (range(0, length, STRIDE) for length in SLICE.shape)
    start = side - side // 2
    cut = [padded[r + start : r + start + side, c + start : c + start + side] for r in rows for c in columns]
    cut = np.repeat(np.stack(cut)[:, None], channels, 1)
    per_channel = lambda value: np.reshape(value, (-1, 1, 1))  # noqa: E731
    return ((cut - per_channel(mean)) / per_channel(std)).astype(np.float32)


def fp16(rng, *shape, fan_in):
    """He-initialised weights that fp16 holds exactly, float32."""
    return rng.normal(0, np.sqrt(2 / fan_in), shape).astype(np.float16).astype(np.float32)


class ConvertCase(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.output = self.folder / "model.safetensors"

    def convert(self, path, *options):
        """`patchmask convert`, in this process: importing a framework takes longer than a test."""
        words = ["convert", str(path), str(self.output), *options]
        with contextlib.redirect_stdout(io.StringIO()) as stdout, contextlib.redirect_stderr(io.StringIO()) as stderr:
            try:
                status = commands.main(words)
            except SystemExit as usage:  # how argparse ends
                status = usage.code
        return SimpleNamespace(returncode=status, stdout=stdout.getvalue(), stderr=stderr.getvalue())

    def converted(self, path, *options):
        done = self.convert(path, *options)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def refused(self, path, *texts, options=(), status=1):
        """Conversion fails with one line that holds `texts` (and argparse's usage before it, where it complains), and
        leaves no file."""
        before = sorted(self.folder.iterdir())
        done = self.convert(path, *options)
        self.assertEqual(done.returncode, status, done.stderr)
        *usage, line = done.stderr.splitlines()
        self.assertTrue(not usage or status == 2 and usage[0].startswith("usage: patchmask convert"), done.stderr)
        for text in texts:
            self.assertIn(text, line)
        self.assertEqual(sorted(self.folder.iterdir()), before)

    def logits(self, side=PATCH, options=()):
        """[patches][classes] that the library computes with the converted file."""
        height, width = SLICE.shape
        head = f"NRRD0004\ntype: short\ndimension: 3\nsizes: {width} {height} 1\nspacings: 1 1 1\n"
        head += "endian: little\nencoding: raw\n\n"
        (self.folder / "ct.nrrd").write_bytes(head.encode() + SLICE.tobytes())
        command = [SEGMENT, "--model", self.output, "--patch-size", str(side), "--stride", str(STRIDE), "--quiet",
                   "--device", "cpu", *options, "--logits", self.folder / "logits.nrrd",
                   self.folder / "ct.nrrd", self.folder / "mask.nrrd"]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        head, data = (self.folder / "logits.nrrd").read_bytes().split(b"\n\n", 1)
        fields = dict(line.split(": ", 1) for line in head.decode().splitlines()[1:] if ": " in line)
        sizes = [int(word) for word in fields["sizes"].split()]  # class, patch x, patch y, slice
        return np.frombuffer(data, "<f4").reshape(sizes[1] * sizes[2], sizes[0])

    def assert_logits(self, expected, limit=EXACT, side=PATCH, options=()):
        """The library's logits are `expected` [patches][classes], within `limit` of the largest."""
        actual = self.logits(side, options)
        self.assertEqual(actual.shape, expected.shape)
        scale = np.abs(expected).max()
        spread = expected.std(0).max() / scale
        self.assertGreater(spread, 4 * limit, "these patches differ too little to prove anything")
        error = np.abs(actual - expected).max() / scale
        self.assertLessEqual(error, limit)
