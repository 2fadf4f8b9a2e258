"""numpy arrays as the library's volumes and buffers, without copies.

A volume is an array [slice][row][column] (z, y, x) of any memory order: strides are handed over. What the ABI
cannot express (other types, other byte orders, axes that run backwards) is refused with the remedy, for a copy of
a CT made behind the caller's back costs hundreds of megabytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _abi
from ._library import new
from .errors import InvalidArgument

VOXEL_TYPES = {
    np.dtype(np.int8): _abi.VOXEL_I8,
    np.dtype(np.uint8): _abi.VOXEL_U8,
    np.dtype(np.int16): _abi.VOXEL_I16,
    np.dtype(np.uint16): _abi.VOXEL_U16,
    np.dtype(np.int32): _abi.VOXEL_I32,
    np.dtype(np.float32): _abi.VOXEL_F32,
    np.dtype(np.float64): _abi.VOXEL_F64,
}


def voxels(given: Any, what: str) -> np.ndarray:
    """`given` as a numpy array that a volume can point to; the same memory."""
    array: np.ndarray = np.asarray(given)
    if array.dtype == np.bool_:
        array = array.view(np.uint8)  # one byte each: the same memory
    if array.ndim != 3:
        raise InvalidArgument(f"{what}: {array.ndim} axes, must be 3: [slice][row][column]")
    if array.dtype not in VOXEL_TYPES:
        names = ", ".join(str(dtype) for dtype in VOXEL_TYPES)
        raise InvalidArgument(
            f"{what}: type {array.dtype.str}, must be one of {names} in native byte order; use astype"
        )
    strides(array, what)
    return array


def strides(array: np.ndarray, what: str) -> list[int]:
    """Bytes between neighbours on each axis, all positive: dense where an axis has one element only."""
    result = []
    step = array.itemsize
    for length, stride in zip(reversed(array.shape), reversed(array.strides)):
        if length > 1 and stride <= 0 and array.size:
            raise InvalidArgument(
                f"{what}: stride {stride} bytes: axes that run backwards or repeat are not offered; "
                "use numpy.ascontiguousarray"
            )
        result.append(stride if length > 1 else step)
        step = result[-1] * max(length, 1)
    return result[::-1]


def volume(array: np.ndarray, slope: float, intercept: float, what: str) -> _abi.Volume:
    """The struct for an array that `voxels` has passed. Points into the array: keep that alive."""
    raw = new(_abi.Volume, array.ctypes.data, VOXEL_TYPES[array.dtype], *reversed(array.shape))
    raw.stride_z, raw.stride_y, raw.stride_x = strides(array, what)
    raw.slope, raw.intercept = slope, intercept
    return raw


def output(wanted: Any, shape: tuple[int, ...], dtype: Any, what: str) -> np.ndarray | None:
    """The buffer for one output: None for False or None, a new array for True, else the caller's own, checked."""
    if wanted is None or wanted is False:
        return None
    if wanted is True:
        return np.empty(shape, dtype)
    if not isinstance(wanted, np.ndarray):
        raise TypeError(f"{what}: {type(wanted).__name__}: must be True, False or a numpy array to write to")
    if wanted.shape != shape or wanted.dtype != np.dtype(dtype):
        raise InvalidArgument(f"{what}: array {wanted.dtype} {wanted.shape}: must be {np.dtype(dtype)} {shape}")
    if not wanted.flags.writeable:
        raise InvalidArgument(f"{what}: the array is read-only")
    strides(wanted, what)
    return wanted
