"""Runs of `segment` for comparing the bits of two builds: the golden cases, and four slices of the demo."""

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
DEMO = HERE.parents[1] / "examples/demo"
sys.path.insert(0, str(HERE.parent / "cli"))
import volume_files  # noqa: E402


def runs(slices):
    """Names and words of the command line up to the input; writes the demo's slices to this path."""
    width, height, depth = 240, 180, 4
    voxels = (DEMO / "ct.nrrd").read_bytes().split(b"\n\n", 1)[1]
    size = 2 * width * height
    volume_files.write(slices, volume_files.header([width, height, depth]), voxels[14 * size : (14 + depth) * size])
    crop = ["--crop", "60,40,140,120", "--stride", "12", "--fill", "linear", "--no-resample"]
    found = {"demo": ["--model", DEMO / "model.safetensors", *crop, slices]}
    for path in sorted(HERE.glob("*/case.json")):
        case = path.parent
        words = [case / word if (case / word).is_file() else word for word in json.loads(path.read_text())["segment"]]
        found[case.name] = ["--model", case / "model.safetensors", *words, case / "ct.nrrd"]
    return found
