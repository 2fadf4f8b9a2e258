"""include/patchmask.h for ctypes: constants, structs and functions, and the search for the library.

The structs repeat the header field by field; tests/python/test_abi.py compiles a program against the header
and compares every size, offset, constant and function, so that a change there is found here.

The library is opened on first use, not on import. It is looked for in this order:

    $PATCHMASK_LIBRARY                      a path, for trying another build
    libpatchmask.so beside this file        where the wheel has it
    build/libpatchmask.so of the sources    when the package is used from a checkout
    libpatchmask.so.0.1, libpatchmask.so    the system's loader path
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from ctypes import c_char, c_char_p, c_double, c_int32, c_size_t, c_uint32, c_uint64, c_void_p
from pathlib import Path
from typing import Any, Optional

VERSION = (0, 1, 0)
ABI_VERSION = 1

OK = 0
INVALID_ARGUMENT = 100
UNSUPPORTED = 101
BUSY = 102
WRONG_PROCESS = 103
IO = 200
BAD_MODEL = 201
OUT_OF_MEMORY = 300
DEVICE_OUT_OF_MEMORY = 301
NO_DEVICE = 400
DEVICE_FAILED = 401
CANCELLED = 500
PANIC = 900

VOXEL_I8 = 1
VOXEL_U8 = 2
VOXEL_I16 = 3
VOXEL_U16 = 4
VOXEL_I32 = 5
VOXEL_F32 = 6
VOXEL_F64 = 7

PADDING_PATCH = 0
PADDING_IMAGE = 1
INTERPOLATION_NEAREST = 0
INTERPOLATION_LINEAR = 1
DEVICE_AUTO = 0
DEVICE_CPU = 1
DEVICE_CUDA = 2
MEMORY_HOST = 0
MEMORY_CUDA = 1
STAGE_PLAN = 1
STAGE_INTENSITY = 2
STAGE_NETWORK = 3
STAGE_MASK = 4
LOG_WARNING = 1
LOG_INFO = 2
PATCH_SIZE_MIN = 32
PATCH_SIZE_MAX = 1024

ProgressCallback = ctypes.CFUNCTYPE(c_int32, c_double, c_int32, c_void_p)
LogCallback = ctypes.CFUNCTYPE(None, c_int32, c_char_p, c_void_p)


class Volume(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("data", c_void_p),
        ("voxel_type", c_int32),
        ("width", c_uint64),
        ("height", c_uint64),
        ("depth", c_uint64),
        ("stride_x", c_uint64),
        ("stride_y", c_uint64),
        ("stride_z", c_uint64),
        ("slope", c_double),
        ("intercept", c_double),
        ("memory", c_int32),
        ("stream", c_void_p),
    ]


class Outputs(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("mask", c_void_p),
        ("mask_stride_x", c_uint64),
        ("mask_stride_y", c_uint64),
        ("mask_stride_z", c_uint64),
        ("probability", c_void_p),
        ("probability_stride_x", c_uint64),
        ("probability_stride_y", c_uint64),
        ("probability_stride_z", c_uint64),
        ("coverage", c_void_p),
        ("coverage_stride_x", c_uint64),
        ("coverage_stride_y", c_uint64),
        ("coverage_stride_z", c_uint64),
        ("logits", c_void_p),
        ("logits_stride_class", c_uint64),
        ("logits_stride_x", c_uint64),
        ("logits_stride_y", c_uint64),
        ("logits_stride_z", c_uint64),
        ("memory", c_int32),
        ("stream", c_void_p),
    ]


class Options(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("patch_size", c_uint32),
        ("stride", c_uint32),
        ("padding", c_int32),
        ("interpolation", c_int32),
        ("window_low", c_double),
        ("window_high", c_double),
        ("mean", c_double * 3),
        ("std", c_double * 3),
        ("equalize", c_int32),
        ("sharing", c_int32),
        ("crop_x0", c_uint64),
        ("crop_y0", c_uint64),
        ("crop_x1", c_uint64),
        ("crop_y1", c_uint64),
        ("lesion_class", c_uint32),
        ("device", c_int32),
        ("cuda_devices", c_uint64),
        ("threads", c_uint32),
        ("memory_budget", c_uint64),
        ("progress", ProgressCallback),
        ("progress_user_data", c_void_p),
        ("log", LogCallback),
        ("log_user_data", c_void_p),
    ]


class ModelInfo(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("input_channels", c_uint32),
        ("classes", c_uint32),
        ("dense_layers", c_uint32),
        ("lesion_class", c_uint32),
        ("patch_size", c_uint32),
        ("stride", c_uint32),
        ("parameters", c_uint64),
        ("sha256", c_char * 65),
    ]


class Estimate(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("grid_width", c_uint64),
        ("grid_height", c_uint64),
        ("classes", c_uint64),
        ("patches", c_uint64),
        ("macs", c_uint64),
        ("macs_unshared", c_uint64),
        ("peak_bytes", c_uint64),
        ("tiles", c_uint64),
        ("device_peak_bytes", c_uint64),
    ]


class Result(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("patches", c_uint64),
        ("macs", c_uint64),
        ("macs_unshared", c_uint64),
        ("peak_bytes", c_uint64),
        ("nonfinite_voxels", c_uint64),
        ("tiles", c_uint64),
        ("engine", c_int32),
        ("plan_seconds", c_double),
        ("intensity_seconds", c_double),
        ("network_seconds", c_double),
        ("mask_seconds", c_double),
        ("segment_seconds", c_double),
        ("device_peak_bytes", c_uint64),
    ]


# C's name of each struct above, without the prefix.
STRUCTS = {
    "volume": Volume,
    "outputs": Outputs,
    "options": Options,
    "model_info": ModelInfo,
    "estimate": Estimate,
    "result": Result,
}

_of = ctypes.POINTER
_Status = c_int32
_Handle = c_void_p  # patchmask_model *, patchmask_session *

# name without the prefix -> (result, arguments)
FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "version": (c_char_p, []),
    "abi_version": (c_uint32, []),
    "last_error": (c_char_p, []),
    "status_name": (c_char_p, [_Status]),
    "volume_init": (_Status, [_of(Volume), c_size_t, c_void_p, c_int32, c_uint64, c_uint64, c_uint64]),
    "outputs_init": (_Status, [_of(Outputs), c_size_t]),
    "options_init": (_Status, [_of(Options), c_size_t, _Handle]),
    "model_info_init": (_Status, [_of(ModelInfo), c_size_t]),
    "estimate_init": (_Status, [_of(Estimate), c_size_t]),
    "result_init": (_Status, [_of(Result), c_size_t]),
    "model_load": (_Status, [c_char_p, _of(_Handle)]),
    "model_load_memory": (_Status, [c_void_p, c_size_t, _of(_Handle)]),
    "model_get_info": (_Status, [_Handle, _of(ModelInfo)]),
    "model_class_name": (c_char_p, [_Handle, c_uint32]),
    "model_free": (None, [_Handle]),
    "session_new": (_Status, [_Handle, _of(Options), _of(_Handle)]),
    "session_engine_name": (c_char_p, [_Handle]),
    "session_estimate": (_Status, [_Handle, _of(Volume), _of(Volume), _of(Estimate)]),
    "session_segment": (_Status, [_Handle, _of(Volume), _of(Volume), _of(Outputs), _of(Result)]),
    "session_trim": (_Status, [_Handle]),
    "session_slices_done": (_Status, [_Handle, _of(c_uint64)]),
    "session_cancel": (_Status, [_Handle]),
    "session_free": (None, [_Handle]),
}

_library: Optional[ctypes.CDLL] = None
_opening = threading.Lock()


def library() -> ctypes.CDLL:
    """The library with its functions declared; OSError where it is not there or has another ABI."""
    global _library
    with _opening:
        if _library is None:
            _library = _open()
        return _library


def _open() -> ctypes.CDLL:
    found, where = _find()
    for name, (result, arguments) in FUNCTIONS.items():
        function = getattr(found, f"patchmask_{name}", None)
        if function is None:
            raise OSError(f"{where}: is not the library that this package needs: patchmask_{name} is missing")
        function.restype, function.argtypes = result, arguments
    abi = found.patchmask_abi_version()
    if abi != ABI_VERSION:
        version = found.patchmask_version().decode()
        raise OSError(f"{where}: libpatchmask {version} has ABI {abi}, this package needs ABI {ABI_VERSION}")
    return found


def _file_name() -> str:
    return {"darwin": "libpatchmask.dylib", "win32": "patchmask.dll"}.get(sys.platform, "libpatchmask.so")


def _find() -> tuple[ctypes.CDLL, str]:
    named = os.environ.get("PATCHMASK_LIBRARY")
    if named:
        return ctypes.CDLL(named), named
    package = Path(__file__).resolve().parent
    for folder in (package, package.parent.parent.parent / "build"):
        path = folder / _file_name()
        if path.exists():
            return ctypes.CDLL(str(path)), str(path)
    for name in ("libpatchmask.so.0.1", _file_name()):
        try:
            return ctypes.CDLL(name), name
        except OSError:
            pass
    raise OSError(
        f"{_file_name()} is not in {package} and not on the loader's path: install the wheel, run make in a "
        "checkout, or name the file in PATCHMASK_LIBRARY"
    )
