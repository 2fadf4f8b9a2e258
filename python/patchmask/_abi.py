"""The C interface for ctypes. Generated from include/patchmask.h by tools/abi.py: never edit by hand."""

import ctypes
from ctypes import POINTER, c_char, c_char_p, c_double, c_int32, c_size_t, c_uint32
from ctypes import c_uint64, c_void_p
from typing import Any

VERSION_MAJOR = 0
VERSION_MINOR = 1
VERSION_PATCH = 0
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
        ("spacing_x", c_double),
        ("spacing_y", c_double),
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
        ("pixel_mm", c_double),
        ("threshold", c_double),
        ("resample", c_int32),
        ("body", c_int32),
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
        ("unused", c_char * 7),
        ("pixel_mm", c_double),
        ("threshold", c_double),
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
        ("grid_origin_x", c_double),
        ("grid_origin_y", c_double),
        ("grid_spacing_x", c_double),
        ("grid_spacing_y", c_double),
        ("pixel_width", c_double),
        ("pixel_height", c_double),
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
        ("body_share", c_double),
    ]


# name without the prefix -> (result, arguments)
FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "version": (c_char_p, []),
    "abi_version": (c_uint32, []),
    "last_error": (c_char_p, []),
    "status_name": (c_char_p, [c_int32]),
    "volume_init": (c_int32, [POINTER(Volume), c_size_t, c_void_p, c_int32, c_uint64, c_uint64, c_uint64]),
    "outputs_init": (c_int32, [POINTER(Outputs), c_size_t]),
    "options_init": (c_int32, [POINTER(Options), c_size_t, c_void_p]),
    "model_info_init": (c_int32, [POINTER(ModelInfo), c_size_t]),
    "estimate_init": (c_int32, [POINTER(Estimate), c_size_t]),
    "result_init": (c_int32, [POINTER(Result), c_size_t]),
    "model_load": (c_int32, [c_char_p, POINTER(c_void_p)]),
    "model_load_memory": (c_int32, [c_void_p, c_size_t, POINTER(c_void_p)]),
    "model_get_info": (c_int32, [c_void_p, POINTER(ModelInfo)]),
    "model_class_name": (c_char_p, [c_void_p, c_uint32]),
    "model_free": (None, [c_void_p]),
    "session_new": (c_int32, [c_void_p, POINTER(Options), POINTER(c_void_p)]),
    "session_engine_name": (c_char_p, [c_void_p]),
    "session_estimate": (c_int32, [c_void_p, POINTER(Volume), POINTER(Volume), POINTER(Estimate)]),
    "session_segment": (c_int32, [c_void_p, POINTER(Volume), POINTER(Volume), POINTER(Outputs), POINTER(Result)]),
    "session_trim": (c_int32, [c_void_p]),
    "session_slices_done": (c_int32, [c_void_p, POINTER(c_uint64)]),
    "session_cancel": (c_int32, [c_void_p]),
    "session_free": (None, [c_void_p]),
}
