"""Two processes by torchrun, on the CPU: one training."""

import subprocess
import sys
from pathlib import Path

import torch
from training_case import TINY, TRAINING, TrainingCase


class TwoProcesses(TrainingCase):
    def torchrun(self, program, *words, processes=2):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes),
                   program, *TINY, *map(str, words)]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_stop_and_resume(self):
        cache = self.folder / "cache"
        command = [TRAINING / "train.py", self.lits, "--steps", 8, "--epochs", 3, "--resume"]
        printed = self.torchrun(*command, "--out", self.folder / "whole", "--cache", cache)
        self.assertEqual(printed.count("best epoch"), 1)
        self.assertEqual(len(list(cache.iterdir())), 3)
        for stop in (2, 3):
            self.torchrun(*command, "--out", self.folder / "parts", "--stop-after", stop)
        self.assert_same_models(self.folder / "whole", self.folder / "parts")

    def test_same_as_one_process(self):
        """With the same patches, and what is random per process switched off."""
        program = Path(__file__).with_name("same_patches.py")
        options = ["--dropout", 0, "--no-batch-norm", "--steps", 4]
        for processes in (1, 2):
            self.torchrun(program, self.lits, "--out", self.folder / str(processes), *options, processes=processes)
        [one] = self.states(1)
        first, second = self.states(2)
        self.assertEqual(first["scores"], second["scores"])
        self.assertAlmostEqual(one["scores"]["held_out_dice"], first["scores"]["held_out_dice"], delta=0.01)
        self.assertAlmostEqual(one["loss"], (first["loss"] + second["loss"]) / 2, delta=1e-4)
        for name, weights in one["weights"].items():
            self.assertTrue(torch.equal(first["weights"][name], second["weights"][name]), name)
            moved = (weights - one["before"][name]).abs().max()
            self.assertGreater(moved, 1e-3)
            self.assertLess((first["weights"][name] - weights).abs().max(), 1e-2 * moved, name)

    def states(self, processes):
        paths = sorted((self.folder / str(processes)).glob("rank-*.pt"))
        return [torch.load(path, weights_only=True) for path in paths]
