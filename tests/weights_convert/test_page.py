"""The commands of docs/weights.md, as they stand there, in a folder with files of the names that they use."""

import os
import subprocess
import sys

import onnx
import torch

import test_keras
import test_onnx
import test_torch
from convert_case import ROOT, SEGMENT, SLICE, ConvertCase

sys.path.insert(0, str(ROOT / "tests/docs"))
import page  # noqa: E402


class Page(ConvertCase):
    def test_every_command_runs(self):
        commands = "\n".join(text for _, kind, text in page.blocks(ROOT / "docs/weights.md") if kind == "sh")
        self.assertGreaterEqual(commands.count("patchmask convert"), 4)
        self.files()
        (self.folder / "bin").mkdir()
        (self.folder / "bin/segment").symlink_to(SEGMENT)
        installed = os.path.dirname(sys.executable)  # `patchmask` and `python` with its packages
        settings = {**os.environ, "PATH": f"{self.folder / 'bin'}:{installed}:{os.environ['PATH']}"}
        line = ["sh", "-eu", "-c", commands]
        done = subprocess.run(line, cwd=self.folder, env=settings, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr + done.stdout)
        self.assertTrue((self.folder / "mask.nrrd").exists())

    def files(self):
        torch.save({"state_dict": test_torch.network(hidden=(14, 9)).state_dict()}, self.folder / "liver.pth")
        base = test_keras.convolutions(3)
        layers = test_keras.layers
        head = (layers.Flatten(), test_keras.dense(11), test_keras.dense(1, "sigmoid"))
        test_keras.with_head(base, *head, channels=3).save(self.folder / "liver.keras")
        onnx.save(test_onnx.Graph("dlpy").model(), self.folder / "liver.onnx")
        height, width = SLICE.shape
        head = f"NRRD0004\ntype: short\ndimension: 3\nsizes: {width} {height} 1\nspacings: 1 1 1\n"
        head += "endian: little\nencoding: raw\n\n"
        (self.folder / "ct.nrrd").write_bytes(head.encode() + SLICE.tobytes())
