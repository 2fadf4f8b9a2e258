"""MetaImage (.mha, .mhd), data inside or in other files, by its header's own numbers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .grid import Volume, millimetres, numbers
from .problem import AXES, VALUES, refuse
from .stored import Data, excess, pattern

_KINDS = {
    "CHAR": "int8",
    "UCHAR": "uint8",
    "SHORT": "int16",
    "USHORT": "uint16",
    "INT": "int32",
    "UINT": "uint32",
    "LONG": "int32",  # whatever the machine, as ITK has it
    "ULONG": "uint32",
    "LONG_LONG": "int64",
    "ULONG_LONG": "uint64",
    "FLOAT": "float32",
    "DOUBLE": "float64",
}
_MATRIX = ("TransformMatrix", "Rotation", "Orientation")  # older names too
_ORIGIN = ("Offset", "Position", "Origin")


def read(path: Path) -> Volume:
    with open(path, "rb") as file:
        fields = _fields(path, file)
        sizes = [int(word) for word in fields["DimSize"].split()]
        dimensions = int(fields["NDims"])
        if len(sizes) != dimensions or min(sizes, default=0) < 1:
            raise refuse(path, f"DimSize {fields['DimSize']}: must be {dimensions} numbers of at least 1")
        channels = int(fields.get("ElementNumberOfChannels", 1))
        if channels != 1:
            raise refuse(path, VALUES.format(channels))
        if dimensions < 3 or any(size > 1 for size in sizes[3:]):
            raise refuse(path, AXES.format(dimensions))
        voxels, more = _data(path, fields, math.prod(sizes)).read(path, file)
    notes = excess(more)
    if not any(name in fields for name in _MATRIX):
        notes.append("its header does not say where its axes point: taken as left, posterior, superior")
    scale = millimetres(fields.get("DistanceUnits", ""))
    spacing = fields.get("ElementSpacing", fields.get("ElementSize"))
    steps = _numbers(spacing, dimensions)[:3] * scale if spacing else np.full(3, math.nan)
    matrix = _numbers(_first(fields, _MATRIX), dimensions**2, np.eye(dimensions).ravel())
    if not np.isfinite(matrix).all():
        raise refuse(path, f"TransformMatrix {numbers(matrix)}: must be finite numbers; correct it")
    # Each row of the header's matrix is the direction of one axis.
    directions = matrix.reshape(dimensions, dimensions)[:3, :3].T
    origin = _numbers(_first(fields, _ORIGIN), dimensions, np.zeros(dimensions))[:3] * scale
    return Volume(path, voxels.reshape(sizes[2::-1]), directions, steps, origin, notes)


def _fields(path: Path, file: BinaryIO) -> dict[str, str]:
    """The header up to its last field; a list of files has a line each."""
    fields: dict[str, str] = {}
    while "ElementDataFile" not in fields:
        line = file.readline(1 << 16).decode("utf-8", "surrogateescape")
        key, equals, value = line.partition("=")
        if not equals:
            raise refuse(path, f"{line[:60]!r} in its header: damaged or not a MetaImage; copy it again")
        if key.strip() in fields:
            raise refuse(path, f"{key.strip()} is twice in its header: take the wrong one out")
        fields[key.strip()] = value.strip()
    if fields["ElementDataFile"].split()[:1] == ["LIST"]:
        fields["ElementDataFile"] += "\n" + file.read().decode("utf-8", "surrogateescape")
    lacking = [name for name in ("NDims", "DimSize", "ElementType") if name not in fields]
    if lacking:
        raise refuse(path, f"its header has no {' and no '.join(lacking)}: copy it again")
    for name, identity in (("ElementToIntensityFunctionSlope", 1), ("ElementToIntensityFunctionOffset", 0)):
        if float(fields.get(name, identity)) != identity:
            raise refuse(path, f"{name} {fields[name]}: apply it first, its voxels must be HU")
    return fields


def _first(fields: dict[str, str], names: tuple[str, ...]) -> str:
    """The value of a field that has several names."""
    found = {fields[name] for name in names if name in fields}
    if len(found) > 1:
        raise ValueError(f"{' and '.join(name for name in names if name in fields)} contradict each other")
    return found.pop() if found else ""


def _numbers(text: str, count: int, default: np.ndarray | None = None) -> np.ndarray:
    if not text and default is not None:
        return default
    found = np.array([float(word) for word in text.split()])
    if len(found) != count:
        raise ValueError(f"{text}: must be {count} numbers")
    return found


def _data(path: Path, fields: dict[str, str], count: int) -> Data:
    def true(*names: str) -> bool:
        return _first(fields, names).lower() in ("true", "1")

    name = fields["ElementType"].removeprefix("MET_")
    if name not in _KINDS:
        raise refuse(path, f"ElementType {fields['ElementType']}: must be one of MET_{', MET_'.join(_KINDS)}")
    big = true("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
    kind = np.dtype((">" if big else "<") + np.dtype(_KINDS[name]).str[1:])
    source = fields["ElementDataFile"]
    words = source.split()
    names = None if words == ["LOCAL"] or words == ["Local"] or words == ["local"] else [source]
    if words[:1] == ["LIST"]:
        names = [line.strip() for line in source.split("\n")[1:] if line.strip()]
    elif len(words) > 3 and "%" in words[0]:
        names = pattern(words)
    encoding = (
        "zlib" if true("CompressedData") else "raw" if true("BinaryData") or "BinaryData" not in fields else "text"
    )
    return Data(kind, count, encoding, names, 0, int(fields.get("HeaderSize", 0)))
