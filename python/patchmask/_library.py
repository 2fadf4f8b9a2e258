"""The shared library: found and opened on first use, and called with errors as exceptions.

It is looked for in this order:

    $PATCHMASK_LIBRARY                      a path, for trying another build
    libpatchmask.so beside this file        where the wheel has it
    build/libpatchmask.so of the sources    when the package is used from a checkout
    libpatchmask.so.0.1, libpatchmask.so    the system's loader path
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
import threading
from pathlib import Path
from typing import Any, Optional, Self, TypeVar

from . import _abi
from ._exit import inside
from .errors import BY_STATUS, InvalidArgument, PatchmaskError

FILE_NAME = {"darwin": "libpatchmask.dylib", "win32": "patchmask.dll"}.get(sys.platform, "libpatchmask.so")

Struct = TypeVar("Struct", bound=ctypes.Structure)

_library: Optional[ctypes.CDLL] = None
_opening = threading.Lock()


def library() -> ctypes.CDLL:
    """The library with its functions declared; OSError where it is not there or has another ABI."""
    global _library
    with _opening:
        if _library is None:
            _library = _open()
        return _library


def call(name: str, *arguments: Any) -> None:
    """Calls patchmask_`name`; raises what its status stands for."""
    function = getattr(library(), f"patchmask_{name}")
    with inside():
        status = function(*arguments)
    check(status)


def check(status: int) -> None:
    """Raises the exception of a status, with the text of the last error: on the thread that made the failing call."""
    if status != _abi.OK:
        text = library().patchmask_last_error().decode("utf-8", "replace")
        raise BY_STATUS.get(status, PatchmaskError)(text or f"status {status}", status)


def new(struct: type[Struct], *arguments: Any) -> Struct:
    """A struct as its _init function leaves it; `arguments` are those beyond the struct and its size."""
    raw = struct()
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", struct.__name__).lower()
    call(f"{name}_init", ctypes.byref(raw), ctypes.sizeof(raw), *arguments)
    return raw


class Owner:
    """Owner of a handle of the library; freed by `close`, at the end of a `with` block, or with the object."""

    def __init__(self, what: str) -> None:
        self._what, self._raw, self._library = what, ctypes.c_void_p(), library()

    @property
    def _handle(self) -> ctypes.c_void_p:
        if not self._raw:
            raise InvalidArgument(f"the {self._what} is closed: make a new one")
        return self._raw

    def close(self) -> None:
        """Frees the handle; further use raises `InvalidArgument`."""
        handle, self._raw = self._raw, ctypes.c_void_p()
        getattr(self._library, f"patchmask_{self._what}_free")(handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_raw", None):
            self.close()


def _open() -> ctypes.CDLL:
    found, where = _find()
    for name, (result, arguments) in _abi.FUNCTIONS.items():
        function = getattr(found, f"patchmask_{name}", None)
        if function is None:
            raise OSError(f"{where}: is not the library that this package needs: patchmask_{name} is missing")
        function.restype, function.argtypes = result, arguments
    abi = found.patchmask_abi_version()
    if abi != _abi.ABI_VERSION:
        version = found.patchmask_version().decode()
        raise OSError(f"{where}: libpatchmask {version} has ABI {abi}, this package needs ABI {_abi.ABI_VERSION}")
    return found


def _find() -> tuple[ctypes.CDLL, str]:
    package = Path(__file__).resolve().parent
    beside = (package / FILE_NAME, package.parent.parent / "build" / FILE_NAME)
    named = os.environ.get("PATCHMASK_LIBRARY") or next((str(path) for path in beside if path.exists()), None)
    if named:
        return ctypes.CDLL(named), named
    for name in (f"libpatchmask.so.{_abi.VERSION_MAJOR}.{_abi.VERSION_MINOR}", FILE_NAME):
        try:
            return ctypes.CDLL(name), name
        except OSError:
            pass
    raise OSError(
        f"{FILE_NAME} is not in {package} and not on the loader's path: install the wheel, run make in a checkout, or "
        "name the file in PATCHMASK_LIBRARY"
    )
