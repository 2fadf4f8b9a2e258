"""NRRD with data attached or in other files; also every encoding, skips, lists and patterns of files.

Nothing of the geometry is invented: what the header does not say is unknown. Numbers are read by Python, whatever the
locale of the host; http://teem.sourceforge.net/nrrd/format.html has the format.
"""

from __future__ import annotations

import math
import re
import shlex
from pathlib import Path
from typing import BinaryIO, Optional

import numpy as np

from .grid import SAME_SPACING, Volume, millimetres
from .problem import AXES, NOT_ONE, VALUES, refuse
from .stored import Data, excess, pattern

_KINDS = {
    "int8": "signed char|int8|int8_t",
    "uint8": "uchar|unsigned char|uint8|uint8_t",
    "int16": "short|short int|signed short|signed short int|int16|int16_t",
    "uint16": "ushort|unsigned short|unsigned short int|uint16|uint16_t",
    "int32": "int|signed int|int32|int32_t",
    "uint32": "uint|unsigned int|uint32|uint32_t",
    "int64": "longlong|long long|long long int|signed long long|signed long long int|int64|int64_t",
    "uint64": "ulonglong|unsigned long long|unsigned long long int|uint64|uint64_t",
    "float32": "float",
    "float64": "double",
}
_KIND = {kind: kind for kind in _KINDS} | {name: kind for kind, names in _KINDS.items() for name in names.split("|")}
_ENCODING = {"raw": "raw", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2", "hex": "hex"}
_ENCODING |= dict.fromkeys(("text", "txt", "ascii"), "text")
_SPACE = ("domain", "space", "time", "none", "???")  # kinds of axes whose elements are voxels
_TO_LPS = {
    "leftposteriorsuperior": (1, 1, 1),
    "lps": (1, 1, 1),
    "rightanteriorsuperior": (-1, -1, 1),
    "ras": (-1, -1, 1),
    "leftanteriorsuperior": (1, -1, 1),
    "las": (1, -1, 1),
}


def read(path: Path) -> Volume:
    with open(path, "rb") as file:
        fields = _fields(path, file)
        sizes = [int(word) for word in fields["sizes"].split()]
        if not sizes or min(sizes) < 1 or len(sizes) != int(fields["dimension"]):
            raise refuse(path, f"sizes {fields['sizes']}: must be {fields['dimension']} numbers of at least 1")
        vectors = [_vector(word) for word in re.findall(r"none|\([^)]*\)", fields.get("spacedirections", ""))]
        axes = _axes(path, fields, sizes, vectors)
        voxels, more = _data(path, fields, math.prod(sizes)).read(path, file)
    notes = excess(more)
    units = {millimetres(word) for word in shlex.split(fields.get("spaceunits", ""))[:3]} or {1.0}
    scale = units.pop() if len(units) == 1 else math.nan
    space = re.sub(r"[^a-z]|time", "", fields.get("space", "").lower())
    if space not in _TO_LPS or not vectors:
        named = f" (space {fields['space']})" if space else ""
        notes.append(f"its axes are not tied to the patient{named}: taken as left, posterior, superior")
    to_lps = np.diag(_TO_LPS.get(space, (1, 1, 1)) if vectors else (1, 1, 1)) * scale
    steps = _spacings(fields, axes)
    affine = np.eye(4)
    origin = _vector(fields.get("spaceorigin", "none"))
    affine[:3, 3] = to_lps @ (np.zeros(3) if origin is None else origin)
    voxels = voxels.reshape([sizes[axis] for axis in reversed(axes)])
    if not vectors:
        return Volume(path, voxels, np.eye(3), steps, affine[:3, 3], notes)
    unknown = np.full(3, math.nan)
    affine[:3, :3] = to_lps @ np.array([unknown if (v := vectors[axis]) is None else v for axis in axes]).T
    volume = Volume.of_affine(path, voxels, affine, notes)
    if np.any(np.abs(steps / volume.spacing - 1) > SAME_SPACING):
        raise refuse(path, "its spacings contradict its space directions: take the wrong ones out of its header")
    return volume


def _fields(path: Path, file: BinaryIO) -> dict[str, str]:
    """The header by the names of its fields in small letters without spaces; a list of files has a line each."""
    if not re.fullmatch(rb"NRRD000[1-5]\r?\n", file.readline(16)):
        raise refuse(path, NOT_ONE.format("NRRD"))
    fields: dict[str, str] = {}
    for raw in file:
        line = raw.decode("utf-8", "surrogateescape").rstrip()
        if not line:
            break
        name, colon, value = line.partition(":")
        if line.startswith("#") or value.startswith("="):
            continue
        name = name.lower().replace(" ", "")
        if name in fields or not colon:
            raise refuse(path, f"{line[:60]!r} in its header: must be one field with a value")
        fields[name] = value.strip()
        if name == "datafile" and value.split()[:1] == ["LIST"]:
            fields[name] += "\n" + file.read().decode("utf-8", "surrogateescape")
    lacking = [name for name in ("dimension", "sizes", "type", "encoding") if name not in fields]
    if lacking:
        raise refuse(path, f"its header has no {' and no '.join(lacking)}: damaged or cut off; copy it again")
    if "oldmin" in fields or "oldmax" in fields:
        raise refuse(path, "its values are quantized (old min, old max): restore them first (unu unquantize)")
    return fields


def _axes(path: Path, fields: dict[str, str], sizes: list[int], vectors: list[Optional[np.ndarray]]) -> list[int]:
    """The three axes of space; others have one element, or the file is refused."""
    axes, kinds = list(range(len(sizes))), fields.get("kinds", "").lower().split() or ["domain"] * len(sizes)
    if len(kinds) != len(sizes) or vectors and len(vectors) != len(sizes):
        raise refuse(path, f"its header has {len(sizes)} sizes, but other numbers of kinds or space directions")
    inside = [
        kinds[axis] not in _SPACE or bool(vectors) and vectors[axis] is None and len(sizes) > 3 for axis in axes
    ]  # of a voxel, not of space
    for axis in sorted(axes, key=lambda axis: (not inside[axis], -axis)):
        if len(axes) > 3 and sizes[axis] == 1:
            axes.remove(axis)
    if len(axes) in (3, 4) and any(inside[axis] for axis in axes):
        values = next(sizes[axis] for axis in axes if inside[axis])
        raise refuse(path, VALUES.format(values))
    if len(axes) != 3:
        raise refuse(path, AXES.format(len(axes)))
    return axes


def _spacings(fields: dict[str, str], axes: list[int]) -> np.ndarray:
    """Millimetres along the three axes; NaN: unknown."""
    if "spacings" not in fields:
        return np.full(3, math.nan)
    spacings = [float(word) for word in fields["spacings"].split()]
    if len(spacings) != int(fields["dimension"]):
        raise ValueError(f"spacings {fields['spacings']}: must be {fields['dimension']} numbers")
    units = [millimetres(word) for word in shlex.split(fields.get("units", ""))] or [1.0] * len(spacings)
    return np.array([spacings[axis] * units[axis] for axis in axes])


def _vector(text: str) -> Optional[np.ndarray]:
    if text == "none":
        return None
    numbers = np.array([float(word) for word in text.strip("()").split(",")])
    if len(numbers) not in (3, 4):  # the fourth is time
        raise ValueError(f"{text}: must be three numbers")
    return numbers[:3]


def _data(path: Path, fields: dict[str, str], count: int) -> Data:
    def known(field: str, table: dict[str, str]) -> str:
        value = fields.get(field, "none")  # of types, the first of each one's names are told
        if value.lower() not in table:
            raise refuse(path, f"{field} {value}: must be one of {', '.join(list(table)[:11])}; convert it")
        return table[value.lower()]

    kind, encoding = np.dtype(known("type", _KIND)), known("encoding", _ENCODING)
    if kind.itemsize > 1 and encoding != "text":
        kind = np.dtype(known("endian", {"little": "<", "big": ">"}) + kind.str[1:])
    file, words = fields.get("datafile"), fields.get("datafile", "").split()
    names = None if file is None or file == "LOCAL" else [file]
    if file is not None and words[:1] == ["LIST"]:
        names = [line.strip() for line in file.split("\n")[1:] if line.strip()]
    elif len(words) > 3 and "%" in words[0]:
        names = pattern(words)
    lines, skipped = (int(fields.get(name, 0)) for name in ("lineskip", "byteskip"))
    if lines < 0 or skipped < -1 or skipped < 0 and encoding != "raw":
        raise refuse(path, f"line skip {lines}, byte skip {skipped}: must be at least 0; -1 is for raw bytes")
    return Data(kind, count, encoding, names, lines, skipped)
