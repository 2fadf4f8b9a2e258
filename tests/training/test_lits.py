"""The commands that made the liver model and those of docs/accuracy.md, on a small stand-in for LiTS' folder."""

import os
import subprocess
import sys
from pathlib import Path

from export import load
from training_case import ROOT, TRAINING, TrainingCase, write_lits

MODEL = ROOT / "models/liver-lesion.safetensors"


class Lits(TrainingCase):
    def setUp(self):
        super().setUp()
        write_lits(self.folder / "Training Batch 1")
        write_lits(self.folder / "Training Batch 2", [4])

    def run_here(self, *command):
        python = Path(sys.executable).parent
        places = dict(LITS=str(self.folder), PATH=f"{python}:{os.environ['PATH']}", PYTHONPATH=str(ROOT / "python"))
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ | places)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def test_trains_the_model(self):
        self.run_here(TRAINING / "lits.sh", self.folder, self.folder / "out", "0.02")
        made = load(self.folder / "out/liver-lesion.safetensors")
        self.assertEqual((made.pixel_mm, made.intensity.window), (1.5, (-40, 160)))
        self.assertTrue(0 < made.threshold < 1)
        self.assertTrue((self.folder / "out/test.json").exists())

    def test_page(self):
        self.run_here(sys.executable, "tests/docs/page.py", "docs/accuracy.md")

    def test_model(self):
        """What the card says of the file; and it goes with no package."""
        made = load(MODEL)
        self.assertLess(MODEL.stat().st_size, 8e6)
        self.assertEqual((made.pixel_mm, made.intensity.window), (1.5, (-40, 160)))
        self.assertIn("Attribution-NonCommercial-ShareAlike 4.0", (MODEL.parent / "LICENSE").read_text())
        listed = subprocess.run(
            ["cargo", "package", "--list", "--allow-dirty", "--offline"], capture_output=True, text=True, cwd=ROOT
        )
        if listed.returncode == 0:
            self.assertIn("src/lib.rs", listed.stdout)
        self.assertNotIn("liver-lesion", listed.stdout)
        for packaging in ("python/wheel.py", "python/pyproject.toml", "tools/install.sh"):
            self.assertNotIn("models", (ROOT / packaging).read_text())
