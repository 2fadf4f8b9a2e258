"""Segments one slice of liver with a lesion, as in examples/c/minimal.c."""

from pathlib import Path

import numpy as np
import patchmask

MODEL = Path(__file__).resolve().parents[2] / "examples/demo/model.safetensors"
rows, columns = np.ogrid[:80, :96]
volume = np.where((columns - 40) ** 2 + (rows - 30) ** 2 < 200, 60, 120).astype(np.int16)[None]
with patchmask.Session(MODEL, stride=16, device="cpu") as session:
    done = session.segment(volume)
    print(f"{session.engine}: {np.count_nonzero(done.mask)} voxels of lesion")
