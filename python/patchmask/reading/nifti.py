"""NIfTI-1 and -2 in one file, by nibabel's reading of the header.

The sform counts where its code is above 0, else the qform, else the pixdims with nibabel's axes. Values are
scl_slope * voxel + scl_inter where the slope is a number other than 0, else as stored.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Optional

import nibabel
import numpy as np

from .grid import SAME_SPACING, Volume, numbers, rescaled
from .problem import AXES, NOT_ONE, refuse
from .stored import beginning, excess, unpacked

_UNITS = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 1e-3}  # mm, by the low three bits of xyzt_units; 0: not said
_SAME = 0.1  # of a voxel, at the corners: sform and qform differ by rounding
_ROUNDED = 1e-5  # of a quaternion's square
_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read(path: Path) -> Volume:
    # By content, as the NIfTI library does: a file called .nii.gz may be plain.
    encoding = "gzip" if beginning(path, "raw", 2) == b"\x1f\x8b" else "raw"
    header = _header(path, beginning(path, encoding, 540))
    kind, shape = header.get_data_dtype(), list(header.get_data_shape())
    if kind.kind not in "iuf" or kind.itemsize > 8:
        raise refuse(path, f"its voxels are of type {kind}: must be one real number each; convert it")
    if not all(length >= 1 for length in shape):
        raise refuse(path, f"size {numbers(shape)}: must be at least 1 on each axis; copy it again, or correct it")
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    if len(shape) != 3:
        raise refuse(path, AXES.format(len(shape)))
    offset = float(header["vox_offset"])
    if not header.single_vox_offset <= offset < math.inf:
        raise refuse(path, f"vox_offset {offset:g}: must be at least {header.single_vox_offset}; copy it again")
    with open(path, "rb") as file:
        content, more = unpacked(path, file, encoding, int(offset), math.prod(shape) * kind.itemsize)
    voxels = np.frombuffer(content, kind).reshape(shape[::-1])
    slope, intercept = header.get_slope_inter()
    if slope is not None and (slope, intercept) != (1, 0):
        voxels = rescaled(list(voxels), [(slope, intercept)] * len(voxels))
    affine, sizes, notes = _affine(path, header, shape)
    volume = Volume.of_affine(path, voxels, affine, notes + excess(more))
    if sizes is not None:
        volume.spacing = sizes
    return volume


def _header(path: Path, start: bytes) -> Any:
    """nibabel's header, without its corrections, which put 1 where a spacing is 0."""
    if start[344:348] == b"n+1\0":
        return nibabel.Nifti1Header(start[:348], check=False)
    if start[4:8] == b"n+2\0":
        return nibabel.Nifti2Header(start, check=False)
    pair = start[344:348] == b"ni1\0" or start[4:8] == b"ni2\0"
    raise refuse(path, "its voxels are in another file: convert the pair to one" if pair else NOT_ONE.format("NIfTI"))


def _affine(path: Path, header: Any, shape: list[int]) -> tuple[np.ndarray, Optional[np.ndarray], list[str]]:
    """Column, row, slice to mm in LPS; the spacing where that has unit vectors instead; and what is said about it."""
    unit, notes = int(header["xyzt_units"]) & 7, []
    if unit not in _UNITS:
        notes.append(f"its unit of length has the code {unit}, which NIfTI does not have: taken as mm")
    scale = np.diag([*[_UNITS.get(unit, 1.0)] * 3, 1.0])
    pixdim = header["pixdim"][1:4].astype(float)
    header["pixdim"][0] = -1 if header["pixdim"][0] < 0 else 1  # 0 is 1
    header["pixdim"][1:4], header.quaternion_threshold = 1, -_ROUNDED
    sform, qform = header.get_sform(coded=True)[0], None
    if header["qform_code"] > 0:
        try:
            qform = header.get_qform()
        except Exception:
            if sform is None:
                raise refuse(path, "its qform is no rotation: write a right one, or an sform") from None
            notes.append("its qform is no rotation: the sform counts")
    if sform is not None:
        sizes, steps = np.abs(pixdim), np.linalg.norm(sform[:3, :3], axis=0)
        if not np.allclose(steps, sizes, rtol=SAME_SPACING, atol=0):
            notes.append(f"its sform has voxels of {numbers(steps)} mm, its pixdim {numbers(sizes)}: the sform counts")
        elif qform is not None:
            corners = np.array(np.meshgrid(*([0, length - 1] for length in shape), [1])).reshape(4, -1)
            apart = np.linalg.norm(((sform - qform @ np.diag([*sizes, 1])) @ corners), axis=0).max()
            if not apart <= _SAME * sizes.min():
                notes.append(f"its sform and qform differ by up to {apart:.3g} mm: the sform counts")
        return _TO_LPS @ scale @ sform, None, notes
    sizes = np.where(pixdim > 0, pixdim, math.nan)
    if qform is None:
        qform = header.get_base_affine()
        qform[:3, 3] *= np.nan_to_num(sizes)
        notes.append("neither sform nor qform says where its axes point: taken as left, anterior, superior")
    qform[:3, 3] *= scale.diagonal()[:3]
    return _TO_LPS @ qform, sizes * scale[0, 0], notes
