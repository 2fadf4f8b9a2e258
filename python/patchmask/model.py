"""A model: a VGG16 from a safetensors file."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from typing import Optional, Union

from . import _abi
from .errors import check

#: The path of a safetensors file, or its bytes.
Source = Union[str, "os.PathLike[str]", bytes, bytearray, memoryview]


@dataclass(frozen=True)
class ModelInfo:
    """What a model is."""

    input_channels: int  #: 1 or 3; a grey slice is repeated
    classes: int  #: 2 to 255
    dense_layers: int  #: 1 to 4
    lesion_class: int  #: according to the metadata, else 1
    patch_size: Optional[int]  #: pixels, according to the metadata
    stride: Optional[int]  #: pixels, according to the metadata
    parameters: int  #: weights and biases of all layers
    sha256: str  #: of the model file, hexadecimal
    class_names: Optional[tuple[str, ...]]  #: according to the metadata


class Model:
    """A VGG16. Immutable: any threads and sessions may use it at once; sessions outlive it.

    `source` is the path of a safetensors file, or its bytes. Raises `ModelFileError` where the file cannot be
    read and `BadModel` where it is not a usable VGG16.
    """

    def __init__(self, source: Source):
        self._handle = ctypes.c_void_p()
        self._library = _abi.library()
        if isinstance(source, (bytes, bytearray, memoryview)):
            data = bytes(source)
            check(self._library.patchmask_model_load_memory(data, len(data), ctypes.byref(self._handle)))
        else:
            check(self._library.patchmask_model_load(os.fsencode(source), ctypes.byref(self._handle)))
        self.info = self._describe()

    def _describe(self) -> ModelInfo:
        raw = _abi.ModelInfo()
        check(self._library.patchmask_model_info_init(ctypes.byref(raw), ctypes.sizeof(raw)))
        check(self._library.patchmask_model_get_info(self._handle, ctypes.byref(raw)))
        names = [self._library.patchmask_model_class_name(self._handle, i) for i in range(raw.classes)]
        return ModelInfo(
            raw.input_channels,
            raw.classes,
            raw.dense_layers,
            raw.lesion_class,
            raw.patch_size or None,
            raw.stride or None,
            raw.parameters,
            raw.sha256.decode("ascii"),
            None if None in names else tuple(name.decode("utf-8") for name in names),
        )

    def close(self) -> None:
        """Frees the model; further use raises `InvalidArgument`. Sessions made from it stay valid."""
        handle, self._handle = self._handle, ctypes.c_void_p()
        self._library.patchmask_model_free(handle)

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self.close()

    def __repr__(self) -> str:
        info = self.info
        return f"<patchmask.Model {info.classes} classes, {info.parameters} parameters, sha256 {info.sha256[:12]}>"
