"""The commands of lits.sh and those of docs/accuracy.md, on a small stand-in for LiTS' folder."""

import os
import subprocess
import sys
from pathlib import Path

from export import load
from training_case import ROOT, TRAINING, TrainingCase, write_lits


class Lits(TrainingCase):
    def setUp(self):
        super().setUp()
        write_lits(self.folder / "Training Batch 1")
        write_lits(self.folder / "Training Batch 2", [4])

    def run_here(self, *command):
        python = Path(sys.executable).parent
        places = dict(LITS=str(self.folder), TEST="4", PATH=f"{python}:{os.environ['PATH']}", PYTHONPATH=str(ROOT / "python"))
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
