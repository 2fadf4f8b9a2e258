"""Images to NIfTI, NRRD or MetaImage: on exactly their grid, under any name and in any locale of the host.

SimpleITK writes decimal commas into NRRD where the host has set such a locale, makes slightly sheared NIfTI grids
rectangular, and ends the process at names that are not UTF-8.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .pending import Pending
from .reading import suffix_of

# One file each, so that a rename makes it appear at once.
WRITE_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")
_META_TYPES = {"u1": "UCHAR", "i1": "CHAR", "u2": "USHORT", "i2": "SHORT", "i4": "INT", "f4": "FLOAT", "f8": "DOUBLE"}
_NRRD_TYPES = {"i1": "int8", "u1": "uint8", "i2": "int16", "u2": "uint16", "i4": "int32", "f4": "float", "f8": "double"}


def write(image: sitk.Image, path: Path, pending: Pending) -> None:
    """Writes under the temporary name; compressed, apart from NRRD, which the program `segment` reads uncompressed."""
    temporary = pending.place(path)
    suffix = (suffix_of(path, WRITE_SUFFIXES) or "").lower()
    voxels = sitk.GetArrayViewFromImage(image)
    if suffix.startswith(".nii"):
        _write_nifti(image, voxels, temporary)
    else:
        temporary.write_bytes(_nrrd(image, voxels) if suffix == ".nrrd" else _meta_image(image, voxels))


def _write_nifti(image: sitk.Image, voxels: np.ndarray, place: Path) -> None:
    import nibabel

    directions = np.reshape(image.GetDirection(), (3, 3))
    affine = np.eye(4)
    affine[:3, :3] = directions * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    affine[:2] *= -1  # LPS to RAS
    nifti = nibabel.Nifti1Image(voxels.T, affine)
    nifti.set_sform(affine, 1)
    # A rotation: none where the axes are not quite at right angles.
    rectangular = np.allclose(directions.T @ directions, np.eye(3), atol=1e-6)
    nifti.set_qform(affine if rectangular else None, 1 if rectangular else 0)
    nifti.header.set_xyzt_units("mm")
    nibabel.save(nifti, place)


def _nrrd(image: sitk.Image, voxels: np.ndarray) -> bytes:
    columns = (np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()).T.tolist()

    def vector(numbers: object) -> str:
        return "(" + ",".join(map(repr, numbers)) + ")"  # type: ignore[call-overload]

    header = (
        "NRRD0004\n"
        f"type: {_NRRD_TYPES[voxels.dtype.str[1:]]}\n"
        "dimension: 3\n"
        "space: left-posterior-superior\n"
        f"sizes: {' '.join(map(str, image.GetSize()))}\n"
        f"space directions: {' '.join(map(vector, columns))}\n"
        "kinds: domain domain domain\n"
        "endian: little\n"
        "encoding: raw\n"
        f"space origin: {vector(image.GetOrigin())}\n\n"
    )
    return header.encode() + voxels.astype(voxels.dtype.newbyteorder("<"), copy=False).tobytes()


def _meta_image(image: sitk.Image, voxels: np.ndarray) -> bytes:
    packed = zlib.compress(voxels.astype(voxels.dtype.newbyteorder("<"), copy=False).tobytes(), 2)

    def numbers(values: object) -> str:
        return " ".join(map(repr, values))  # type: ignore[call-overload]

    header = (
        "ObjectType = Image\n"
        "NDims = 3\n"
        "BinaryData = True\n"
        "BinaryDataByteOrderMSB = False\n"
        "CompressedData = True\n"
        f"CompressedDataSize = {len(packed)}\n"
        f"TransformMatrix = {numbers(np.reshape(image.GetDirection(), (3, 3)).T.ravel().tolist())}\n"
        f"Offset = {numbers(image.GetOrigin())}\n"
        f"ElementSpacing = {numbers(image.GetSpacing())}\n"
        f"DimSize = {numbers(image.GetSize())}\n"
        f"ElementType = MET_{_META_TYPES[voxels.dtype.str[1:]]}\n"
        "ElementDataFile = LOCAL\n"
    )
    return header.encode() + packed
