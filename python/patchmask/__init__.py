"""Lesion masks from CT volumes: every overlapping patch of every slice through a VGG16.

    import patchmask

    model = patchmask.Model("liver.safetensors")
    with patchmask.Session(model, stride=8) as session:
        mask = session.segment(volume, progress=True).mask      # volume: [slice][row][column] in HU

numpy arrays in and out, without copies; the rest of the package reads files (`images`), compares masks (`metrics`)
and draws (`pictures`), and is what the command `patchmask` is made of.
"""

from . import _library
from .errors import (
    BadModel,
    Busy,
    Cancelled,
    DeviceFailed,
    DeviceOutOfMemory,
    InvalidArgument,
    ModelFileError,
    NoDevice,
    OutOfMemory,
    Panic,
    PatchmaskError,
    Unsupported,
    WrongProcess,
)
from .model import Model, ModelInfo
from .session import Estimate, Progress, Result, Segmentation, Session, segment

__version__ = "0.1.0"


def library_version() -> str:
    """Version of the library that is loaded."""
    version: bytes = _library.library().patchmask_version()
    return version.decode("ascii")


__all__ = [
    "BadModel",
    "Busy",
    "Cancelled",
    "DeviceFailed",
    "DeviceOutOfMemory",
    "Estimate",
    "InvalidArgument",
    "Model",
    "ModelFileError",
    "ModelInfo",
    "NoDevice",
    "OutOfMemory",
    "Panic",
    "PatchmaskError",
    "Progress",
    "Result",
    "Segmentation",
    "Session",
    "Unsupported",
    "WrongProcess",
    "library_version",
    "segment",
]
