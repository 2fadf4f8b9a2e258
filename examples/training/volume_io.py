"""NRRD volumes with attached raw data: the one file format that these examples read and write.

Arrays are [slice][row][column]; the file lists its axes fastest first, so `sizes` is columns, rows, slices.
World space is left-posterior-superior in mm: columns run to the patient's left, rows to the back,
slices to the head.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

TYPE_NAMES = {"int16": "short", "uint8": "uchar", "float32": "float"}
DTYPES = {
    "short": "i2", "int16": "i2", "int16_t": "i2", "signed short": "i2",
    "ushort": "u2", "uint16": "u2", "uint16_t": "u2", "unsigned short": "u2",
    "uchar": "u1", "uint8": "u1", "uint8_t": "u1", "unsigned char": "u1",
    "float": "f4", "int": "i4", "int32": "i4", "double": "f8",
}  # fmt: skip


@dataclass
class Volume:
    voxels: np.ndarray  # [slices][rows][columns]
    spacing: tuple  # mm between slices, rows, columns
    origin: tuple = (0.0, 0.0, 0.0)  # mm, left-posterior-superior, centre of voxel [0][0][0]


def write_nrrd(path, volume):
    voxels = np.ascontiguousarray(volume.voxels)
    slices, rows, columns = voxels.shape
    dz, dy, dx = volume.spacing
    header = [
        "NRRD0004",
        f"type: {TYPE_NAMES[voxels.dtype.name]}",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {columns} {rows} {slices}",
        f"space directions: ({dx:g},0,0) (0,{dy:g},0) (0,0,{dz:g})",
        "kinds: domain domain domain",
        "endian: little",
        "encoding: raw",
        "space origin: (%g,%g,%g)" % tuple(volume.origin),
    ]
    little_endian = voxels.astype(voxels.dtype.newbyteorder("<"), copy=False)
    Path(path).write_bytes(("\n".join(header) + "\n\n").encode("ascii") + little_endian.tobytes())


def read_nrrd(path):
    blob = Path(path).read_bytes()
    head, separator, data = blob.partition(b"\n\n")
    if not blob.startswith(b"NRRD") or not separator:
        raise ValueError(f"{path}: not an NRRD file with attached data")
    fields = dict(
        line.split(": ", 1) for line in head.decode("ascii").splitlines()[1:] if ": " in line and line[0] != "#"
    )
    if fields["encoding"] != "raw":
        raise ValueError(f"{path}: encoding {fields['encoding']}: only raw is read here")
    dtype = np.dtype(DTYPES[fields["type"]])
    dtype = dtype.newbyteorder(">" if fields.get("endian", "little") == "big" else "<")
    sizes = [int(word) for word in fields["sizes"].split()]
    if len(sizes) != 3:
        raise ValueError(f"{path}: {len(sizes)} axes: a volume has 3")
    voxels = np.frombuffer(data, dtype, count=int(np.prod(sizes))).reshape(sizes[::-1])
    spacing, origin = (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)
    if "space directions" in fields:
        columns = [_vector(word) for word in fields["space directions"].split()]
        spacing = tuple(float(np.linalg.norm(column)) for column in reversed(columns))
    if "space origin" in fields:
        origin = tuple(_vector(fields["space origin"]))
    return Volume(voxels.astype(dtype.newbyteorder("=")), spacing, origin)


def _vector(text):
    return [float(word) for word in text.strip("()").split(",")]
