"""The ctypes mirror against include/patchmask.h: a change in the header that the mirror misses fails here."""

import ctypes
import re
import subprocess

import pytest
from conftest import ROOT

import patchmask
from patchmask import _abi

HEADER = (ROOT / "include/patchmask.h").read_text()
CODE = re.sub(r"//[^\n]*|/\*.*?\*/", "", HEADER, flags=re.S)

STRUCTS = {
    name: [re.sub(r"\[\d+\]", "", line.split()[-1].lstrip("*")) for line in body.split(";") if line.strip()]
    for body, name in re.findall(r"typedef struct patchmask_\w+ \{(.*?)\} patchmask_(\w+);", CODE, re.S)
}
CONSTANTS = [name for name in re.findall(r"#define PATCHMASK_(\w+) \d+", CODE) if not name.startswith("VERSION_")]
FUNCTIONS = {
    name: (result.strip(), [] if arguments.strip() == "void" else arguments.split(","))
    for result, name, arguments in re.findall(r"^([\w \*]+?)patchmask_(\w+)\(([^)]*)\);", CODE, re.M)
}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """What a C compiler makes of the header: "struct", "struct.field" and constants -> numbers."""
    folder = tmp_path_factory.mktemp("layout")
    lines = []
    for struct, fields in STRUCTS.items():
        lines.append(f'printf("{struct} %zu\\n", sizeof(patchmask_{struct}));')
        for field in fields:
            at = f"offsetof(patchmask_{struct}, {field})"
            size = f"sizeof(((patchmask_{struct} *)0)->{field})"
            lines.append(f'printf("{struct}.{field} %zu\\nsize {struct}.{field} %zu\\n", {at}, {size});')
    for name in [*CONSTANTS, "VERSION_MAJOR", "VERSION_MINOR", "VERSION_PATCH"]:
        lines.append(f'printf("{name} %ld\\n", (long)PATCHMASK_{name});')
    body = "\n    ".join(lines)
    includes = "#include <stddef.h>\n#include <stdio.h>\n#include <patchmask.h>\n"
    (folder / "layout.c").write_text(f"{includes}int main(void)\n{{\n    {body}\n    return 0;\n}}\n")
    program = folder / "layout"
    subprocess.run(["cc", "-Wall", "-Werror", f"-I{ROOT}/include", folder / "layout.c", "-o", program], check=True)
    printed = subprocess.run([program], capture_output=True, encoding="utf-8", check=True).stdout
    return {name: int(number) for name, number in (line.rsplit(" ", 1) for line in printed.splitlines())}


def test_the_header_was_understood():
    """The patterns above must not pass because they find nothing."""
    assert len(STRUCTS) == 6 and len(FUNCTIONS) >= 23 and len(CONSTANTS) >= 35
    assert "logits_stride_class" in STRUCTS["outputs"] and "sha256" in STRUCTS["model_info"]


@pytest.mark.parametrize("struct", STRUCTS)
def test_struct(struct, compiled):
    mirror = _abi.STRUCTS[struct]
    assert [name for name, _ in mirror._fields_] == STRUCTS[struct]
    assert ctypes.sizeof(mirror) == compiled[struct]
    for name, _ in mirror._fields_:
        field = getattr(mirror, name)
        assert (name, field.offset, field.size) == (
            name,
            compiled[f"{struct}.{name}"],
            compiled[f"size {struct}.{name}"],
        )


@pytest.mark.parametrize("struct", STRUCTS)
def test_field_kinds(struct):
    """Integer or floating point, signed or not: what offsets and sizes do not tell."""
    body = re.search(rf"typedef struct patchmask_{struct} \{{(.*?)\}}", CODE, re.S)[1]
    declared = [line.strip() for line in body.split(";") if line.strip()]
    kinds = {
        "size_t": ctypes.c_size_t, "int32_t": ctypes.c_int32, "uint32_t": ctypes.c_uint32,
        "uint64_t": ctypes.c_uint64, "double": ctypes.c_double, "char": ctypes.c_char,
        "patchmask_progress_callback": _abi.ProgressCallback, "patchmask_log_callback": _abi.LogCallback,
    }  # fmt: skip
    for (name, kind), line in zip(_abi.STRUCTS[struct]._fields_, declared):
        element = getattr(kind, "_type_", kind) if issubclass(kind, ctypes.Array) else kind
        expected = ctypes.c_void_p if "*" in line else kinds[line.split()[0]]
        assert element is expected, f"{struct}.{name}: {line}"


def test_no_struct_is_missing():
    assert set(_abi.STRUCTS) == set(STRUCTS)


@pytest.mark.parametrize("name", CONSTANTS)
def test_constant(name, compiled):
    assert getattr(_abi, name) == compiled[name]


def test_functions():
    """The same functions, as many arguments, pointers where the header has pointers."""
    assert set(_abi.FUNCTIONS) == set(FUNCTIONS)
    for name, (result, arguments) in FUNCTIONS.items():
        mirrored_result, mirrored = _abi.FUNCTIONS[name]
        assert len(mirrored) == len(arguments), name
        assert (mirrored_result is None) == (result == "void"), name
        for have, want in zip(mirrored, arguments):
            is_pointer = have in (ctypes.c_void_p, ctypes.c_char_p) or hasattr(have, "contents")
            assert is_pointer == ("*" in want), f"{name}: {want.strip()}"


def test_versions(compiled):
    version = ".".join(str(compiled[f"VERSION_{part}"]) for part in ("MAJOR", "MINOR", "PATCH"))
    assert patchmask.__version__ == patchmask.library_version() == version
    assert version == re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]


def test_every_status_has_an_exception():
    """Every number of the error families, with the name that the library has for it."""
    statuses = {name: getattr(_abi, name) for name in CONSTANTS if name == "IO" or name in _STATUS_NAMES}
    assert set(_abi.library().patchmask_status_name(s).decode() for s in statuses.values()) == set(statuses)
    assert set(patchmask.errors.BY_STATUS) == set(statuses.values())
    assert len(set(patchmask.errors.BY_STATUS.values())) == len(statuses)


_STATUS_NAMES = {
    name
    for name in CONSTANTS
    if 100 <= int(re.search(rf"#define PATCHMASK_{name} (\d+)", CODE)[1]) and not name.startswith("PATCH_SIZE")
}
