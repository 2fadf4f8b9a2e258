"""Whole trainings: that they learn, what they export, that they go on after a stop."""

import json
import subprocess

import numpy as np
import torch
from export import load
from patch_grid import logits_at
from training_case import SEGMENT, SPACING, TrainingCase, scan, write_lits
from volume_io import Volume, write_nrrd

ENOUGH = 0.55  # held-out Dice; all painted is 0.1


def dice(out, key="held_out_dice"):
    return max(row[key] for row in json.loads((out / "history.json").read_text()))


class Trained(TrainingCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.whole = cls.shared / "whole"
        cls.printed = cls.train(cls.lits, "--out", cls.whole)

    def test_learns(self):
        self.assertIn("best epoch", self.printed)
        self.assertGreater(dice(self.whole), ENOUGH)
        self.assertTrue((self.whole / "curves.png").exists())

    def test_nrrd(self):
        """The same scans in other files give the same model."""
        data = write_lits(self.folder / "data", end=".nrrd")
        self.train(data, "--out", self.folder)
        self.assert_same_models(self.folder, self.whole)

    def test_two_folders(self):
        held_out = write_lits(self.folder / "held-out", [5])
        printed = self.train(self.lits, held_out, "--out", self.folder, "--epochs", 1)
        self.assertIn("best epoch 1", printed)

    def test_low_precision(self):
        """bfloat16 and float16 learn as well, and are not float32 by another name."""
        for precision, epochs, enough in (("bfloat16", 4, ENOUGH), ("float16", 2, 0.3)):  # float16 is slow on a CPU
            self.train(self.lits, "--out", self.folder, "--precision", precision, "--epochs", epochs)
            self.assertGreater(dice(self.folder, "dice_there"), enough)
            self.assertNotEqual(dice(self.folder, "dice_there"), dice(self.whole, "dice_there"))

    def test_as_if_never_stopped(self):
        for stop in (1, 3):
            self.train(self.lits, "--out", self.folder, "--resume", "--stop-after", stop)
            self.assertEqual(len(json.loads((self.folder / "history.json").read_text())), stop)
        printed = self.train(self.lits, "--out", self.folder, "--resume")
        self.assertIn("resumed after epoch 3", printed)
        histories = [json.loads((out / "history.json").read_text()) for out in (self.whole, self.folder)]
        for row in (row for history in histories for row in history):
            row.pop("minutes")
        self.assertEqual(*histories)
        self.assertGreater(histories[0][-1]["missed"] + histories[0][-1]["mistaken"], 0)  # mined patches too went on
        self.assert_same_models(self.whole, self.folder)

    def test_others(self):
        """Scans of --mix are drawn from, and mined places in them survive a stop."""
        others = write_lits(self.folder / "others", [5, 6])
        options = ["--mix", others, "--mix-share", 0.8, "--resume"]
        printed = self.train(self.lits, *options, "--out", self.folder / "once")
        self.assertIn(f"; 2 scans and 2 others, held out: 2", printed)
        self.train(self.lits, *options, "--out", self.folder / "twice", "--stop-after", 3)
        mined = torch.load(self.folder / "twice/checkpoint.pt", weights_only=True)["random"][0]["mined"]
        self.assertLessEqual({2, 3}, {int(scan) for places in mined.values() for scan in places[:, 0]})
        moved = others.rename(self.folder / "moved")
        self.train(self.lits, "--mix", moved, *options[2:], "--out", self.folder / "twice")
        self.assert_same_models(self.folder / "once", self.folder / "twice")
        fewer = ["--mix", write_lits(self.folder / "fewer", [5]), *options[2:], "--out", self.folder / "twice"]
        self.refused(self.lits, *fewer, text="checkpoint.pt: made with --mix ['5', '6'], now ['5']")
        self.refused(self.lits, *fewer[-3:], text="checkpoint.pt: made with --mix ['5', '6'], now []")

    def test_resumed_with_other_options(self):
        self.train(self.lits, "--out", self.folder, "--epochs", 2, "--stop-after", 1)
        resume = ["--out", self.folder, "--resume"]
        self.refused(self.lits, *resume, text="checkpoint.pt: made with --epochs 2, now 4")
        other = write_lits(self.folder / "other", [0, 5, 6])
        self.refused(other, *resume, "--epochs", 2, text="checkpoint.pt: made with scans ['0', '1'], now ['5', '6']")
        (self.folder / "checkpoint.pt").write_bytes(b"half a")
        self.refused(self.lits, *resume, text="checkpoint.pt: not a checkpoint")


class Exported(TrainingCase):
    def library(self, model, hu):
        """[slices * points][classes] that the library computes."""
        write_nrrd(self.folder / "ct.nrrd", Volume(hu, SPACING))
        command = [SEGMENT, "--model", model, "--quiet", "--device", "cpu", "--threads", "1", "--logits", "logits.nrrd",
                   "ct.nrrd", "mask.nrrd"]  # fmt: skip
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        return np.frombuffer((self.folder / "logits.nrrd").read_bytes().split(b"\n\n", 1)[1], "<f4").reshape(-1, 2)

    def pytorch(self, model, intensity, hu):
        """The same of a PyTorch network."""
        rows, columns = (points.ravel() for points in np.mgrid[0 : hu.shape[1] : 8, 0 : hu.shape[2] : 8])
        return np.concatenate([logits_at(model, image, intensity, rows, columns) for image in intensity.windowed(hu)])

    def assert_near(self, found, expected, limit):
        scale = np.abs(expected).max()
        self.assertEqual(found.shape, expected.shape)
        self.assertGreater(
            expected.std(0).max() / scale, 10 * limit, "these patches differ too little to prove anything"
        )
        self.assertLessEqual(np.abs(found - expected).max() / scale, limit)

    def test_library_computes_the_same(self):
        for options in ([], ["--equalize", "--no-batch-norm", "--learning-rate", "2e-3"]):
            with self.subTest(options):
                training = self.training(self.lits, "--epochs", 3, *options)
                training.say = lambda *words: None
                training.run()
                model, hu = training.args.out / "model.safetensors", scan(7)[0]
                found = self.library(model, hu)
                known = load(model)
                self.assert_near(found, self.pytorch(known.model, known.intensity, hu), 1e-4)
                if training.best["epoch"] == 3:  # the network still has the exported weights
                    network = training.model.eval()
                    self.assert_near(found, self.pytorch(network, training.intensity, hu), 6e-3)  # weights in fp16

    def test_start(self):
        """Going on from an exported model begins with what it computes."""
        self.train(self.lits, "--out", self.folder, "--epochs", 3)
        known = load(self.folder / "model.safetensors")
        model, intensity = known.model, known.intensity
        for option, limit in (("--no-batch-norm", 1e-6), ("--batch-norm", 1e-3)):
            go_on = self.training(self.lits, "--start", self.folder / "model.safetensors", option)
            self.assertEqual(go_on.intensity, intensity)
            hu = scan(7)[0]
            self.assert_near(self.pytorch(go_on.model.eval(), intensity, hu), self.pytorch(model, intensity, hu), limit)
