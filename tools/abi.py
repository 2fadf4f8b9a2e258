"""Writes what repeats include/patchmask.h, from the header as clang reads it:

    python/patchmask/_abi.py    constants, structs and functions for ctypes
    tests/c/abi.inc             the layout that compiled programs have, asserted by tests/c/layout.c
    tests/c/exports.txt         what the shared library exports

    pip install -r tools/requirements.txt
    python tools/abi.py             `make abi` does both, after the header

Offsets and numbers in tests/c/abi.inc never change: fields and constants are only appended. What would break compiled
programs is refused, unless PATCHMASK_ABI_VERSION has changed.
"""

import re
import subprocess
import sys
from pathlib import Path

from clang.cindex import CursorKind, Index, TranslationUnit, TypeKind

ROOT = Path(__file__).resolve().parent.parent
HEADER = ROOT / "include/patchmask.h"
PYTHON, LAYOUT, EXPORTS = ROOT / "python/patchmask/_abi.py", ROOT / "tests/c/abi.inc", ROOT / "tests/c/exports.txt"
NAMES = {"void": "None", "size_t": "c_size_t", "patchmask_status": "c_int32"}  # of types that ctypes spells otherwise
GENERATED = "Generated from include/patchmask.h by tools/abi.py: never edit by hand."


def declarations(header=HEADER):
    """The cursors of the header, system headers left out."""
    system = subprocess.run(["cc", "-print-file-name=include"], capture_output=True, text=True, check=True).stdout
    whole = TranslationUnit.PARSE_DETAILED_PROCESSING_RECORD  # macros too
    unit = Index.create().parse(str(header), ["-xc", f"-I{system.strip()}"], options=whole)
    if list(unit.diagnostics):
        sys.exit("\n".join(map(str, unit.diagnostics)))
    return [cursor for cursor in unit.cursor.get_children() if str(cursor.location.file) == str(header)]


class Header:
    """Lists in the header's order, names without the prefix."""

    def __init__(self):
        found = declarations()
        macros = [[t.spelling for t in c.get_tokens()] for c in found if c.kind == CursorKind.MACRO_DEFINITION]
        self.numbers = [(short(words[0]), int(words[1])) for words in macros if len(words) == 2]
        self.structs = [c for c in found if c.kind == CursorKind.STRUCT_DECL and c.is_definition()]
        self.functions = [c for c in found if c.kind == CursorKind.FUNCTION_DECL]
        typedefs = [c for c in found if c.kind == CursorKind.TYPEDEF_DECL]
        self.callbacks = [c for c in typedefs if c.underlying_typedef_type.get_pointee().kind == TypeKind.FUNCTIONPROTO]


def short(name):
    return re.sub("^patchmask_", "", name, flags=re.IGNORECASE)


def camel(name):
    return "".join(word.capitalize() for word in short(name).split("_"))


def ctype(kind, in_struct=False):
    """The ctypes expression for a C type. Handles are addresses, and so are the buffers that a struct points to."""
    name = kind.spelling.removeprefix("const ").removeprefix("struct ")
    if kind.kind == TypeKind.CONSTANTARRAY:
        return f"{ctype(kind.element_type)} * {kind.element_count}"
    if kind.kind == TypeKind.POINTER:
        target = kind.get_pointee()
        if target.spelling == "const char":
            return "c_char_p"
        opaque = target.kind == TypeKind.VOID or target.get_size() < 0
        return "c_void_p" if opaque or in_struct else f"POINTER({ctype(target)})"
    if name in NAMES:
        return NAMES[name]
    return camel(name) if name.startswith("patchmask_") else f"c_{name.removesuffix('_t')}"


def python(header):
    """The text of _abi.py."""
    lines = [f'"""The C interface for ctypes. {GENERATED}"""', ""]
    lines += ["import ctypes", "from ctypes import POINTER, c_char, c_char_p, c_double, c_int32, c_size_t, c_uint32"]
    lines += ["from ctypes import c_uint64, c_void_p", "from typing import Any", ""]
    lines += [f"{name} = {number}" for name, number in header.numbers] + [""]
    for callback in header.callbacks:
        kind = callback.underlying_typedef_type.get_pointee()
        types = ", ".join(map(ctype, [kind.get_result(), *kind.argument_types()]))
        lines.append(f"{camel(callback.spelling)} = ctypes.CFUNCTYPE({types})")
    for struct in header.structs:
        fields = [f'        ("{field.spelling}", {ctype(field.type, True)}),' for field in struct.type.get_fields()]
        lines += ["", "", f"class {camel(struct.spelling)}(ctypes.Structure):", "    _fields_ = [", *fields, "    ]"]
    lines += ["", "", "# name without the prefix -> (result, arguments)", "FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {"]
    for function in header.functions:
        arguments = ", ".join(ctype(argument.type) for argument in function.get_arguments())
        lines.append(f'    "{short(function.spelling)}": ({ctype(function.result_type)}, [{arguments}]),')
    return "\n".join([*lines, "}", ""])


def layout(header):
    """The text of abi.inc: AT(struct, field, offset), SIZE(struct, bytes) and NUMBER(name, number)."""
    lines = [f"/* {GENERATED} */"]
    for struct in header.structs:
        name = struct.spelling
        for field in struct.type.get_fields():
            lines.append(f"AT({name}, {field.spelling}, {struct.type.get_offset(field.spelling) // 8});")
        lines.append(f"SIZE({name}, {struct.type.get_size()});")
    lines += [f"NUMBER(PATCHMASK_{name}, {number});" for name, number in header.numbers if "VERSION_" not in name]
    return "\n".join([*lines, ""])


def exports(header):
    return "".join(f"{name}\n" for name in sorted(function.spelling for function in header.functions))


def broken(old, new):
    """Lines of the old layout that no longer hold; structs may grow, and fields may take the place of unused bytes."""
    kept = [line for line in old.splitlines() if line.startswith(("AT(", "NUMBER(")) and ", unused, " not in line]
    same_abi = not kept or next(line for line in kept if "ABI_VERSION" in line) in new
    return [line for line in kept if line not in new.splitlines()] if same_abi else []


def generate():
    """Path -> text of every file that is made of the header."""
    header = Header()
    return {PYTHON: python(header), LAYOUT: layout(header), EXPORTS: exports(header)}


def main():
    files = generate()
    lost = broken(LAYOUT.read_text(encoding="utf-8") if LAYOUT.exists() else "", files[LAYOUT])
    if lost:
        sys.exit("compiled programs rely on this: append instead, or raise PATCHMASK_ABI_VERSION\n" + "\n".join(lost))
    for path, text in files.items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
