"""The files that repeat include/patchmask.h are those that tools/abi.py makes of it; ctypes lays structs out as C does."""

import ctypes
import re
import sys

import pytest
from conftest import ROOT

import patchmask
from patchmask import _abi, _library

sys.path.insert(0, str(ROOT / "tools"))
import abi  # noqa: E402

LAYOUT = abi.LAYOUT.read_text()
GENERATED = abi.generate()


@pytest.mark.parametrize("path", GENERATED, ids=lambda path: path.name)
def test_generated(path):
    assert path.read_text() == GENERATED[path], "run `make abi`"


def test_struct_layout():
    """The offsets and sizes that tests/c/layout.c has a C compiler assert."""
    expected = re.findall(r"^AT\(patchmask_(\w+), (\w+), (\d+)\);", LAYOUT, re.M)
    sizes = re.findall(r"^SIZE\(patchmask_(\w+), (\d+)\);", LAYOUT, re.M)
    assert len(expected) > 80 and len(sizes) == 6
    for struct, field, offset in expected:
        assert getattr(getattr(_abi, abi.camel(struct)), field).offset == int(offset), f"{struct}.{field}"
    for struct, size in sizes:
        mirror = getattr(_abi, abi.camel(struct))
        assert ctypes.sizeof(mirror) == int(size), struct
        assert len(mirror._fields_) == sum(struct == name for name, _, _ in expected), struct


def test_what_compiled_programs_rely_on_is_kept():
    """A moved field and a changed number are refused; an appended field is not, nor is a new ABI number."""
    assert abi.broken(LAYOUT, LAYOUT) == []
    moved = LAYOUT.replace("(patchmask_volume, width, 24)", "(patchmask_volume, width, 28)")
    assert abi.broken(LAYOUT, moved) == ["AT(patchmask_volume, width, 24);"]
    assert abi.broken(LAYOUT, LAYOUT.replace("_BUSY, 102", "_BUSY, 103")) == ["NUMBER(PATCHMASK_BUSY, 102);"]
    appended = LAYOUT.replace("SIZE(patchmask_volume, 104);", "AT(patchmask_volume, new, 104);\nSIZE(patchmask_volume, 112);")
    assert abi.broken(LAYOUT, appended) == []
    assert abi.broken(LAYOUT, moved.replace("ABI_VERSION, 1)", "ABI_VERSION, 2)")) == []


@pytest.mark.parametrize("name", ("Estimate", "Result", "ModelInfo"))
def test_dataclasses_have_every_field(name):
    fields = [field for field, *_ in getattr(_abi, name)._fields_ if field not in ("struct_size", "unused")]
    assert [field for field in getattr(patchmask, name).__dataclass_fields__ if field != "class_names"] == fields


def test_versions():
    version = f"{_abi.VERSION_MAJOR}.{_abi.VERSION_MINOR}.{_abi.VERSION_PATCH}"
    assert patchmask.__version__ == patchmask.library_version() == version
    assert version == re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]


def test_every_status_has_an_exception():
    """Every number of the error families, with the name that the library has for it."""
    numbers = vars(_abi).items()
    errors = {name: n for name, n in numbers if isinstance(n, int) and n >= 100 and not name.startswith("PATCH_SIZE")}
    assert len(errors) == 12
    for name, status in errors.items():
        assert _library.library().patchmask_status_name(status).decode() == name
    assert set(patchmask.errors.BY_STATUS) == set(errors.values())
