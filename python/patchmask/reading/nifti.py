"""NIfTI-1 and -2 in one file, by nibabel's reading of the header.

The sform counts where its code is above 0, else the qform, else the pixdims with nibabel's axes. Values are
scl_slope * voxel + scl_inter where the slope is a number other than 0, else as stored.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from .grid import SAME_SPACING, Volume, numbers, rescaled
from .problem import AXES, NOT_ONE, refuse
from .stored import beginning, excess, unpacked

_UNITS = {"unknown": 1.0, "mm": 1.0, "meter": 1000.0, "micron": 1e-3}
_SAME = 0.1  # of a voxel, at the corners: sform and qform differ by rounding
_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read(path: Path) -> Volume:
    # By content, as the NIfTI library does: a file called .nii.gz may be plain.
    encoding = "gzip" if beginning(path, "raw", 2) == b"\x1f\x8b" else "raw"
    header = _header(path, beginning(path, encoding, 540))
    kind, shape = header.get_data_dtype(), [max(1, length) for length in header.get_data_shape()]
    if kind.kind not in "iuf" or kind.itemsize > 8:
        raise refuse(path, f"its voxels are of type {kind}: must be one real number each; convert it")
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    if len(shape) != 3:
        raise refuse(path, AXES.format(len(shape)))
    offset = header.get_data_offset()
    if offset < header.single_vox_offset:
        raise refuse(path, f"vox_offset {offset}: its voxels would begin in its header; copy it again")
    with open(path, "rb") as file:
        content, more = unpacked(path, file, encoding, offset, math.prod(shape) * kind.itemsize)
    voxels = np.frombuffer(content, kind).reshape(shape[::-1])
    slope, intercept = header.get_slope_inter()
    if slope is not None and (slope, intercept) != (1, 0):
        voxels = rescaled(list(voxels), [(slope, intercept)] * len(voxels))
    affine, notes = _affine(path, header, shape)
    return Volume.of_affine(path, voxels, affine, notes + excess(more))


def _header(path: Path, start: bytes) -> Any:
    """nibabel's header, without its corrections, which put 1 where a spacing is 0."""
    if start[344:348] == b"n+1\0":
        return nibabel.Nifti1Header(start[:348], check=False)
    if start[4:8] == b"n+2\0":
        return nibabel.Nifti2Header(start, check=False)
    pair = start[344:348] == b"ni1\0" or start[4:8] == b"ni2\0"
    raise refuse(path, "its voxels are in another file: convert the pair to one" if pair else NOT_ONE.format("NIfTI"))


def _affine(path: Path, header: Any, shape: list[int]) -> tuple[np.ndarray, list[str]]:
    """Column, row, slice to mm in LPS, and what is said about it."""
    notes = []
    sizes = np.abs(header["pixdim"][1:4].astype(float))
    sform, qform = header.get_sform(coded=True)[0], None
    if header["qform_code"] > 0:
        try:
            qform = header.get_qform()
        except Exception as failed:
            if sform is None:
                raise refuse(path, f"its qform is no rotation ({failed}): write a right one") from None
            notes.append("its qform is no rotation: the sform counts")
    if sform is not None:
        affine = sform
        steps = np.linalg.norm(sform[:3, :3], axis=0)
        if not np.allclose(steps, sizes, rtol=SAME_SPACING, atol=0):
            notes.append(f"its sform has voxels of {numbers(steps)} mm, its pixdim {numbers(sizes)}: the sform counts")
        elif qform is not None:
            corners = np.array(np.meshgrid(*([0, length - 1] for length in shape), [1])).reshape(4, -1)
            apart = np.linalg.norm(((sform - qform) @ corners), axis=0).max()
            if not apart <= _SAME * sizes.min():
                notes.append(f"its sform and qform differ by up to {apart:.3g} mm: the sform counts")
    elif qform is not None:
        affine = qform
    else:
        affine = header.get_base_affine()
        notes.append("neither sform nor qform says where its axes point: taken as left, anterior, superior")
    scale = _UNITS.get(header.get_xyzt_units()[0], math.nan)
    return _TO_LPS @ np.diag([scale, scale, scale, 1]) @ affine, notes
