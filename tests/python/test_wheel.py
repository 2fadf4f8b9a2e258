"""The wheel: the library inside, one tag, and nothing needed from the checkout."""

import os
import re
import subprocess
import sys
import zipfile

import pytest
from conftest import MODEL, ROOT

WHEELS = sorted((ROOT / "build/python").glob("patchmask-*.whl"))


@pytest.fixture(scope="module")
def wheel():
    assert len(WHEELS) == 1, "make wheel leaves one"
    return WHEELS[0]


def test_contents(wheel):
    tag = re.fullmatch(r"patchmask-0\.1\.0-py3-none-manylinux_2_(\d+)_x86_64(\.manylinux2014_x86_64)?\.whl", wheel.name)
    assert tag and int(tag[1]) >= 17 and (tag[2] is None) == (int(tag[1]) > 17)
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        library = file.read("patchmask/libpatchmask.so")
        assert b"Root-Is-Purelib: false" in file.read(next(n for n in names if n.endswith("/WHEEL")))
    assert library == (ROOT / "build/libpatchmask.so").resolve().read_bytes()
    asked = {int(minor) for minor in re.findall(rb"\0GLIBC_2\.(\d+)\b", library)}
    assert max(17, *asked) == int(tag[1])
    assert {
        "patchmask/py.typed",
        "patchmask/licenses/THIRD-PARTY-NOTICES.txt",
        "patchmask/commands/segment.py",
    } <= names
    assert not [name for name in names if "__pycache__" in name or name.endswith(("wheel.py", ".safetensors"))]


def test_stands_alone(wheel, tmp_path):
    """Installed elsewhere, with nothing that points to the checkout."""
    where = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*install, "--target", where, wheel], check=True)
    program = "import patchmask, sys; print(patchmask.__file__, patchmask.Model(sys.argv[1]).info.classes)"
    settings = {name: value for name, value in os.environ.items() if not name.startswith(("PATCHMASK", "LD_"))}
    settings["PYTHONPATH"] = str(where)
    line = [sys.executable, "-c", program, MODEL]
    done = subprocess.run(line, cwd=tmp_path, env=settings, capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.split() == [str(where / "patchmask/__init__.py"), "2"]


def test_other_libraries(tmp_path):
    """A library that is not there, is none, or is another one: a sentence, no crash."""
    (tmp_path / "text.so").write_text("no library")
    program = "import patchmask\ntry:\n    patchmask.library_version()\nexcept OSError as e:\n    print(e)\n"
    for path, text in ((tmp_path / "none.so", "none.so"), (tmp_path / "text.so", "text.so"), ("libm.so.6", "missing")):
        settings = {**os.environ, "PATCHMASK_LIBRARY": str(path)}
        done = subprocess.run(
            [sys.executable, "-c", program], env=settings, capture_output=True, encoding="utf-8", check=True
        )
        assert text in done.stdout


def test_builds_only_with_a_library(tmp_path):
    settings = {**os.environ, "PATCHMASK_LIBRARY": str(tmp_path / "none.so")}
    line = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path]
    done = subprocess.run([*line, ROOT / "python"], env=settings, capture_output=True, encoding="utf-8")
    assert done.returncode != 0 and "run make at the top of the repository first" in done.stdout + done.stderr
