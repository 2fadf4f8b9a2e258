"""The commands of docs/weights.md, as they stand there, in a folder with files of the names that they use."""

import os
import re
import subprocess
import sys

import onnx
import torch

import test_keras
import test_onnx
import test_torch
from convert_case import ROOT, SEGMENT, SLICE, ConvertCase


class Page(ConvertCase):
    def test_every_command_runs(self):
        text = (ROOT / "docs/weights.md").read_text()
        commands = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.S))
        self.assertGreaterEqual(commands.count("patchmask convert"), 4)
        self.files()
        # `patchmask` is the installed program; here it is the module.
        (self.folder / "bin").mkdir()
        program = self.folder / "bin/patchmask"
        program.write_text(f'#!/bin/sh\nshift\nexec "{sys.executable}" -m patchmask.commands.convert "$@"\n')
        program.chmod(0o755)
        (self.folder / "bin/segment").symlink_to(SEGMENT)
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "examples/python"),
                       "PATH": f"{self.folder / 'bin'}:{os.path.dirname(sys.executable)}:{os.environ['PATH']}"}  # fmt: skip
        done = subprocess.run(["sh", "-eu", "-c", commands], cwd=self.folder, env=environment, capture_output=True, text=True)
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
        head = f"NRRD0004\ntype: short\ndimension: 3\nsizes: {width} {height} 1\nendian: little\nencoding: raw\n\n"
        (self.folder / "ct.nrrd").write_bytes(head.encode() + SLICE.tobytes())
