"""Every `sh` and `python` block of the pages, run in order, in a folder with what the page says is there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import SimpleITK as sitk
from conftest import DEMO, MODEL, ROOT
from dicom_files import write_series

sys.path.insert(0, str(ROOT / "tests/docs"))
import page as page_blocks  # noqa: E402

PAGES = ("docs/python.md", "docs/cluster.md", "python/README.md")
CONVERSION = "docs/weights.md"  # run by `make test-convert`, which has the frameworks


@pytest.mark.parametrize("page", PAGES)
def test_page(page, tmp_path, part):
    for name in ("ct.nrrd", "truth.nrrd", "model.safetensors"):
        shutil.copy(DEMO / name, tmp_path)
    (tmp_path / "scans/clinic").mkdir(parents=True)
    sitk.WriteImage(part, str(tmp_path / "scans/a.nii.gz"))
    sitk.WriteImage(part[:, :, :2], str(tmp_path / "scans/clinic/p17.nrrd"))
    write_series(tmp_path / "series", sitk.GetArrayViewFromImage(part))
    bin_folder = str(Path(sys.executable).parent)
    array = {"SLURM_ARRAY_TASK_COUNT": "1", "SLURM_ARRAY_TASK_ID": "0", "SLURM_CPUS_PER_TASK": "2"}
    settings = {**os.environ, **array, "PATH": f"{bin_folder}:{os.environ['PATH']}"}
    run = [(kind, text) for _, kind, text in page_blocks.blocks(ROOT / page) if kind in ("sh", "python")]
    assert run, f"{page}: no blocks"
    for kind, text in run:
        line = ["bash", "-eu", "-c", text] if kind == "sh" else [sys.executable, "-c", text]
        done = subprocess.run(line, cwd=tmp_path, env=settings, capture_output=True, encoding="utf-8", timeout=300)
        assert done.returncode == 0, f"{page}:\n{text}\n{done.stdout}{done.stderr}"


def test_the_pages_name_every_option(command):
    """A command that is listed has its help, and every command is on a page."""
    told = "".join((ROOT / page).read_text(encoding="utf-8") for page in (*PAGES, CONVERSION))
    from patchmask import commands

    listed = command("--help").stdout
    assert {"segment", "batch", "view", "metrics", "convert"} <= set(commands.COMMANDS)
    for name in commands.COMMANDS:
        assert f"patchmask {name} " in told and f"\n    {name} " in listed
        assert f"usage: patchmask {name} " in command(name, "--help").stdout


def test_help_needs_no_heavy_packages(tmp_path):
    """numpy alone is enough for `patchmask --help` and for arrays."""
    program = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in sys.argv[2:]:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
import numpy, patchmask
from patchmask.commands import main
patchmask.segment(numpy.zeros((1, 64, 64), "int16"), sys.argv[1], stride=32, device="cpu")
assert main(["view", "--ct", "a", "--mask", "b"]) == 1
for name in ("a.pth", "a.h5", "a.onnx"):
    open(name, "w").close()
    assert main(["convert", name, "b.safetensors"]) == 1
main(["--help"])
"""
    heavy = ("SimpleITK", "nibabel", "pydicom", "highdicom", "matplotlib", "vtk", "dask", "distributed", "tqdm")
    heavy += ("torch", "h5py", "onnx", "safetensors")
    line = [sys.executable, "-c", program, MODEL, *heavy]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, encoding="utf-8")
    assert done.returncode == 0 and "segment" in done.stdout, done.stderr
    unknown, *told = done.stderr.splitlines()
    assert "spacing is not known" in unknown
    assert re.search(r"package (SimpleITK|matplotlib) is missing", told[0])
    # Before reading, which takes long for large files, `convert` looks for what writing needs.
    assert all(re.search(r"package (\w+) is missing: pip install \1$", line) for line in told) and len(told) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "a.onnx", "a.pth"]
