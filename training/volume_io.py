"""Volumes: NRRD with attached data, raw or gzip, read, and raw, written; NIfTI, read.

Arrays are [slice][row][column]; the file lists its axes fastest first, so `sizes` is columns, rows, slices.
World space is left-posterior-superior in mm: columns run to the patient's left, rows to the back,
slices to the head. NIfTI is turned to that (scans of one collection lie in their files one way or another); NRRD is
taken as it lies.
"""

import gzip
import math
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
    encoding, kind = fields.get("encoding"), fields.get("type")
    if encoding in ("gzip", "gz"):
        data = gzip.decompress(data)
    elif encoding != "raw":
        raise ValueError(f"{path}: encoding {encoding}: only raw and gzip are read here")
    if kind not in DTYPES:
        raise ValueError(f"{path}: type {kind}: must be one of {', '.join(DTYPES)}")
    dtype = np.dtype(DTYPES[kind]).newbyteorder(">" if fields.get("endian", "little") == "big" else "<")
    sizes = [int(word) for word in fields.get("sizes", "").split()]
    if len(sizes) != 3:
        raise ValueError(f"{path}: {len(sizes)} axes: a volume has 3")
    if len(data) < math.prod(sizes) * dtype.itemsize:
        raise ValueError(f"{path}: {len(data)} bytes of voxels: {sizes} of {kind} are more")
    voxels = np.frombuffer(data, dtype, count=math.prod(sizes)).reshape(sizes[::-1])
    spacing, origin = (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)
    if "space directions" in fields:
        columns = [_vector(word) for word in fields["space directions"].split()]
        spacing = tuple(float(np.linalg.norm(column)) for column in reversed(columns))
    if "space origin" in fields:
        origin = tuple(_vector(fields["space origin"]))
    return Volume(voxels.astype(dtype.newbyteorder("=")), spacing, origin)


def read_volume(path):
    """A Volume from .nrrd, .nii or .nii.gz."""
    return read_nifti(path) if str(path).endswith((".nii", ".nii.gz")) else read_nrrd(path)


def read_nifti(path):
    import nibabel  # phantoms need only NRRD

    try:
        image = nibabel.as_closest_canonical(nibabel.load(path))  # right-anterior-superior
        voxels = np.asarray(image.dataobj)  # [x][y][z], rescaled to HU
    except (OSError, EOFError, ValueError, nibabel.filebasedimages.ImageFileError) as error:
        raise ValueError(f"{path}: not a whole NIfTI file: {error}") from error
    if voxels.ndim != 3:
        raise ValueError(f"{path}: {voxels.ndim} axes: a volume has 3")
    affine = image.affine
    corner = affine @ [voxels.shape[0] - 1, voxels.shape[1] - 1, 0, 1]  # becomes voxel 0 when x and y are turned round
    voxels = np.ascontiguousarray(voxels[::-1, ::-1].transpose(2, 1, 0))
    if voxels.dtype.kind == "f":
        voxels = voxels.astype(np.float32)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)[::-1]
    return Volume(voxels, tuple(map(float, spacing)), (-float(corner[0]), -float(corner[1]), float(corner[2])))


def _vector(text):
    return [float(word) for word in text.strip("()").split(",")]
