"""NRRD files for the tests and benchmarks of `segment`, by hand, so that their bytes are exactly what a test says. Only `save`
and `load` need numpy."""

import math
import struct

TYPES = {  # NRRD name -> struct code
    "int8": "b",
    "uint8": "B",
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "float": "f",
    "double": "d",
}


SPACING = ("spacings: 1 1 1",)  # mm


def header(sizes, type_name="int16", endian="little", encoding="raw", extra=SPACING, dimension=None):
    """The lines of a header; `extra` lines stand between the sizes and the encoding."""
    return [
        "NRRD0004",
        f"type: {type_name}",
        f"dimension: {len(sizes) if dimension is None else dimension}",
        "sizes: " + " ".join(map(str, sizes)),
        *extra,
        f"endian: {endian}",
        f"encoding: {encoding}",
    ]


def write(path, lines, data=b"", line_end="\n"):
    with open(path, "wb") as file:
        file.write((line_end.join(lines) + line_end * 2).encode() + data)


def pack(voxels, type_name="int16", endian="little"):
    order = "<" if endian == "little" else ">"
    return struct.pack(f"{order}{len(voxels)}{TYPES[type_name]}", *voxels)


def write_volume(path, sizes, voxels, type_name="int16", endian="little", extra=SPACING, line_end="\n"):
    """A whole volume; `voxels` are listed x fastest."""
    lines = header(sizes, type_name, endian, extra=extra)
    write(path, lines, pack(voxels, type_name, endian), line_end)


def read(path):
    """Fields (a dictionary of texts) and voxels (a tuple) of what `segment` wrote."""
    with open(path, "rb") as file:
        head, data = file.read().split(b"\n\n", 1)
    lines = head.decode().splitlines()
    assert lines[0].startswith("NRRD000"), lines[0]
    fields = dict(line.split(": ", 1) for line in lines[1:] if not line.startswith("#"))
    assert fields["encoding"] == "raw" and fields.get("endian", "little") == "little", fields
    return fields, struct.unpack(f"<{math.prod(sizes(fields))}{TYPES[fields['type']]}", data)


def sizes(fields):
    """Sizes of the axes, fastest first."""
    return tuple(map(int, fields["sizes"].split()))


def save(path, values, endian="little", extra=SPACING):
    """A numpy array as a volume; its axes are listed slowest first."""
    type_name = {"float32": "float", "float64": "double"}.get(values.dtype.name, values.dtype.name)
    data = values.astype(values.dtype.newbyteorder(endian)).tobytes()
    write(path, header(values.shape[::-1], type_name, endian, extra=extra), data)


def load(path):
    """The voxels as a numpy array, slowest axis first."""
    import numpy

    fields, voxels = read(path)
    return numpy.array(voxels, TYPES[fields["type"]]).reshape(sizes(fields)[::-1])
