"""NRRD files as `segment` reads and writes them: attached, raw, either byte order. Standard library only, because
tests/golden/check.py and machines with a GPU have no more; `save` and `load` are for programs that have numpy."""

import array
import math
import sys

TYPES = {"int8": "b", "uint8": "B", "int16": "h", "uint16": "H", "int32": "i", "float": "f", "double": "d"}
# A CT's header lines: patient space, anisotropic spacing, an origin.
GRID = (
    ("space", "left-posterior-superior"),
    ("space directions", "(0.75,0,0) (0,0.8,0) (0,0,2.5)"),
    ("kinds", "domain domain domain"),
    ("space origin", "(-12.5,30.0,-101.25)"),
)


def write(path, kind, sizes, data, endian="little", fields=GRID):
    """Writes `data`, bytes in byte order `endian`; `sizes` are listed fastest axis first."""
    lines = ["NRRD0004", f"type: {kind}", f"dimension: {len(sizes)}", "sizes: " + " ".join(map(str, sizes))]
    lines += [f"{name}: {value}" for name, value in fields]
    with open(path, "wb") as file:
        file.write("\n".join([*lines, f"endian: {endian}", "encoding: raw", "", ""]).encode() + data)


def read(path):
    """(header fields by name with `sizes` as numbers, samples as an array.array)"""
    with open(path, "rb") as file:
        head, data = file.read().split(b"\n\n", 1)
    fields = dict(line.split(": ", 1) for line in head.decode().splitlines() if ": " in line)
    fields["sizes"] = tuple(map(int, fields["sizes"].split()))
    samples = array.array(TYPES[fields["type"]], data)
    if len(samples) != math.prod(fields["sizes"]) or fields["encoding"] != "raw":
        raise ValueError(f"{path}: {len(samples)} samples, header {fields}")
    if fields.get("endian", sys.byteorder) != sys.byteorder:
        samples.byteswap()
    return fields, samples


def save(path, values, endian="little", fields=GRID):
    """Writes a numpy array, whose axes are listed slowest first."""
    kind = {"float32": "float", "float64": "double"}.get(values.dtype.name, values.dtype.name)
    data = values.astype(values.dtype.newbyteorder(endian)).tobytes()
    write(path, kind, values.shape[::-1], data, endian, fields)


def load(path):
    """The samples as a numpy array, slowest axis first."""
    import numpy

    fields, samples = read(path)
    return numpy.frombuffer(samples, samples.typecode).reshape(fields["sizes"][::-1])
