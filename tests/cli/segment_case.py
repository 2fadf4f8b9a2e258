"""The common start of every test of `segment`: a folder with a model and an input, and ways to call the
program (the environment's SEGMENT, else build/segment) that check its promises each time."""

import json
import os
import subprocess
import tempfile
import unittest

import maximum_model
import volume_files

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SEGMENT = os.path.abspath(os.environ.get("SEGMENT", os.path.join(ROOT, "build", "segment")))

SIZES = (44, 38, 3)
GEOMETRY = (
    "space: left-posterior-superior",
    "space directions: (0.703125,0,0) (0,0.703125,0) (0,0,2.5)",
    "space origin: (-180.5,-171.25,12)",
    "kinds: domain domain domain",
)


def disc(sizes=SIZES):
    """Soft tissue with a bright spot that moves from slice to slice."""
    width, height, depth = sizes
    return [
        120 if (x - 30 + 9 * z) ** 2 + (y - 9 - 7 * z) ** 2 < 6 else 0
        for z in range(depth)
        for y in range(height)
        for x in range(width)
    ]


class SegmentCase(unittest.TestCase):
    """A fresh folder with a model and an input for every test."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.voxels = disc()
        with open(self.path("model.safetensors"), "wb") as file:
            file.write(maximum_model.build())
        volume_files.write_volume(self.path("input.nrrd"), SIZES, self.voxels, extra=GEOMETRY)
        self.inputs = set(os.listdir(self.folder))

    def path(self, name):
        return os.path.join(self.folder, name)

    def command(self, *options, model="model.safetensors", paths=("input.nrrd", "mask.nrrd")):
        return [SEGMENT, "--model", model, "--device", "cpu", *options, *paths]

    def call(self, *options, **keywords):
        """Runs segment in the folder."""
        names = {k: keywords.pop(k) for k in ("model", "paths") if k in keywords}
        command = self.command(*options, **names)
        return subprocess.run(command, cwd=self.folder, capture_output=True, timeout=300, **keywords)

    def succeed(self, *options, **keywords):
        done = self.call(*options, **keywords)
        self.assertEqual((done.returncode, done.stderr), (0, b""), done)
        return done

    def refuse(self, exit_code, *options, says=(), **keywords):
        """Fails with `exit_code`, one line on stderr that has each text of `says`, and no new file."""
        before = set(os.listdir(self.folder))
        done = self.call(*options, **keywords)
        error = done.stderr.decode()
        self.assertEqual(done.returncode, exit_code, error)
        self.assertRegex(error, r"\Asegment: [^\n]+\n\Z")
        for text in [says] if isinstance(says, str) else says:
            self.assertIn(text, error)
        self.assertEqual(set(os.listdir(self.folder)), before, "files were left")

    def read(self, name):
        return volume_files.read(self.path(name))

    def assert_mask(self, expected):
        """mask.nrrd is `expected`; else names the first voxel that is not."""
        mask = self.read("mask.nrrd")[1]
        self.assertEqual(len(mask), len(expected))
        for i, (value, wanted) in enumerate(zip(mask, expected)):
            if value != wanted:
                place = (i // (SIZES[0] * SIZES[1]), i // SIZES[0] % SIZES[1], i % SIZES[0])
                self.fail(f"(slice, row, column) {place} is {value}, must be {wanted}")

    def report(self, *options, **keywords):
        self.succeed("--report", "report.json", *options, **keywords)
        with open(self.path("report.json"), encoding="utf-8") as file:
            return json.load(file, parse_constant=lambda word: self.fail(f"{word} is not JSON"))
