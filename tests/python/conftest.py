"""Shared by the tests: the demo model and phantom, a part of it that takes a second, and the command itself."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

import patchmask

ROOT = Path(__file__).resolve().parent.parent.parent
DEMO = ROOT / "examples/demo"
MODEL = DEMO / "model.safetensors"

# A shell that starts the tests in the background has Ctrl-C ignored, by this process and by those that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def model():
    return patchmask.Model(MODEL)


@pytest.fixture(scope="session")
def phantom():
    """The demo's CT, 240 x 180 x 32, as an image."""
    return sitk.ReadImage(str(DEMO / "ct.nrrd"))


@pytest.fixture(scope="session")
def part(phantom):
    """Five slices of it, 96 x 80, with a lesion: the image."""
    truth = sitk.GetArrayFromImage(sitk.ReadImage(str(DEMO / "truth.nrrd")))
    z, y, x = (int(round(float(c))) for c in np.argwhere(truth).mean(0))

    def inside(centre, size, whole):
        return max(0, min(centre - size // 2, whole - size))

    width, height, depth = phantom.GetSize()
    x, y, z = inside(x, 96, width), inside(y, 80, height), inside(z, 5, depth)
    return phantom[x : x + 96, y : y + 80, z : z + 5]


@pytest.fixture(scope="session")
def voxels(part):
    """`part` as an array [slice][row][column]."""
    return sitk.GetArrayFromImage(part)


@pytest.fixture(scope="session")
def command():
    """Runs `patchmask WORDS...` as another process; `status` is what it must return."""

    def run(*words, status=0, **settings):
        line = [str(Path(sys.executable).with_name("patchmask")), *map(str, words)]
        done = subprocess.run(line, capture_output=True, encoding="utf-8", timeout=300, **settings)
        assert done.returncode == status, f"{line}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        if status != 0:
            assert "Traceback" not in done.stderr, done.stderr
        return done

    return run


@pytest.fixture(scope="session")
def real_scans():
    """The folder of real scans, where there is one."""
    if not os.environ.get("PATCHMASK_TEST_DATA"):
        pytest.skip("PATCHMASK_TEST_DATA names no folder with real scans")
    return Path(os.environ["PATCHMASK_TEST_DATA"])
