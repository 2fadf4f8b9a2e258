"""The commands of lits.sh and of the pages on models for the liver, on a small stand-in for LiTS' folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

from export import load
from training_case import ROOT, TRAINING, TrainingCase, write_lits

SMALL = "--patch-size 32 --widths 4,4,6,6,8,8,8,12,12,12,16,16,16 --dense 16 --batch 16 --steps 3 --epochs 1"


class Lits(TrainingCase):
    def setUp(self):
        super().setUp()
        self.first = write_lits(self.folder / "Training Batch 1")
        write_lits(self.folder / "Training Batch 2", [4])

    def run_here(self, *command, **more):
        python = Path(sys.executable).parent
        places = dict(LITS=str(self.first), TEST="4", PATH=f"{python}:{os.environ['PATH']}", PYTHONPATH=str(ROOT / "python"))
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ | places | more)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def test_trains_the_model(self):
        out = self.shared / "out"
        self.run_here(TRAINING / "lits.sh", self.folder, out, PHANTOMS="1", OPTIONS=SMALL)
        made = load(out / "liver-lesion.safetensors")
        self.assertEqual((made.pixel_mm, made.stride, made.intensity.window), (1.5, 2, (-40, 160)))
        self.assertTrue(0 < made.threshold < 1)
        names = [[one["name"] for one in json.loads((out / name).read_text())] for name in ("fold-1.json", "fold-2.json", "test.json")]
        self.assertEqual(sorted(sum(names, [])), ["0", "1", "2", "4"])
        self.assertEqual(names[2], ["4"])
        self.assertEqual(len(list((out / "phantoms").glob("*_ct.nrrd"))), 1)

    def test_pages(self):
        self.run_here(sys.executable, "tests/docs/page.py", "docs/accuracy.md", "models/README.md")
