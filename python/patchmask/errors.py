"""One exception for each status of the library, with the text of patchmask_last_error().

Each is also of the built-in kind that Python code expects, so that `except ValueError`, `except OSError` and
`except MemoryError` work without knowing this package.
"""

from __future__ import annotations

from . import _abi


BY_STATUS: dict[int, type[PatchmaskError]] = {}  #: the exception of each status


class PatchmaskError(Exception):
    """A call that failed. `status` is the library's number, `str()` its sentence: value, limit, remedy."""

    status: int = _abi.PANIC

    def __init_subclass__(cls) -> None:
        BY_STATUS[cls.status] = cls

    def __init__(self, text: str, status: int | None = None):
        super().__init__(text)
        if status is not None:
            self.status = status


class InvalidArgument(PatchmaskError, ValueError):
    """A size, option or array that is not usable."""

    status = _abi.INVALID_ARGUMENT


class Unsupported(PatchmaskError, NotImplementedError):
    """A valid request that this version does not offer."""

    status = _abi.UNSUPPORTED


class Busy(PatchmaskError):
    """The session is running a call already: use one session per thread."""

    status = _abi.BUSY


class WrongProcess(PatchmaskError):
    """The session was made by the parent of this process, before fork()."""

    status = _abi.WRONG_PROCESS


class ModelFileError(PatchmaskError, OSError):
    """The model file could not be read."""

    status = _abi.IO

    def __str__(self) -> str:
        return str(self.args[0])


class BadModel(PatchmaskError, ValueError):
    """The model file is not a usable VGG16, or its activations overflow."""

    status = _abi.BAD_MODEL


class OutOfMemory(PatchmaskError, MemoryError):
    """Host memory ran out, or `memory_budget` is too small for one patch."""

    status = _abi.OUT_OF_MEMORY


class DeviceOutOfMemory(OutOfMemory):
    """Device memory ran out."""

    status = _abi.DEVICE_OUT_OF_MEMORY


class NoDevice(PatchmaskError):
    """The requested device is not there or not usable."""

    status = _abi.NO_DEVICE


class DeviceFailed(PatchmaskError):
    """The device failed in the middle of a call; the session is of no further use."""

    status = _abi.DEVICE_FAILED


class Cancelled(PatchmaskError):
    """The call was cancelled by `Session.cancel` or by its progress callback."""

    status = _abi.CANCELLED


class Panic(PatchmaskError):
    """A defect in the library, caught. Please report the text."""

    status = _abi.PANIC
