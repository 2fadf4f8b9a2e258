"""A model: a VGG16 from a safetensors file."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from typing import Optional, Union

from . import _abi
from ._library import Owner, call, new

#: The path of a safetensors file, or its bytes.
Source = Union[str, "os.PathLike[str]", bytes, bytearray, memoryview]


@dataclass(frozen=True)
class ModelInfo:
    """Description of a model."""

    input_channels: int  #: 1 or 3; a grey slice is repeated
    classes: int  #: 2 to 255
    dense_layers: int  #: 1 to 4
    lesion_class: int  #: according to the metadata, else 1
    patch_size: Optional[int]  #: pixels, according to the metadata
    stride: Optional[int]  #: pixels, according to the metadata
    parameters: int  #: weights and biases of all layers
    sha256: str  #: of the model file, hexadecimal
    class_names: Optional[tuple[str, ...]]  #: according to the metadata
    pixel_mm: Optional[float]  #: side of the pixels that it was trained on, according to the metadata
    threshold: Optional[float]  #: probability from which a voxel has the lesion class, according to the metadata


class Model(Owner):
    """A VGG16. Immutable: any threads and sessions may use it at once; sessions outlive it.

    `source` is the path of a safetensors file, or its bytes. Raises `ModelFileError` where the file cannot be
    read and `BadModel` where it is not a usable VGG16.
    """

    def __init__(self, source: Source):
        super().__init__("model")
        if isinstance(source, (bytes, bytearray, memoryview)):
            data = bytes(source)
            call("model_load_memory", data, len(data), ctypes.byref(self._raw))
        else:
            call("model_load", os.fsencode(source), ctypes.byref(self._raw))
        self.info = self._describe()

    def _describe(self) -> ModelInfo:
        raw = new(_abi.ModelInfo)
        call("model_get_info", self._handle, ctypes.byref(raw))
        names = [self._library.patchmask_model_class_name(self._handle, i) for i in range(raw.classes)]
        return ModelInfo(
            **{name: getattr(raw, name) for name in ("input_channels", "classes", "dense_layers", "lesion_class")},
            patch_size=raw.patch_size or None,
            stride=raw.stride or None,
            parameters=raw.parameters,
            sha256=raw.sha256.decode("ascii"),
            pixel_mm=raw.pixel_mm or None,
            threshold=raw.threshold or None,
            class_names=None if None in names else tuple(name.decode("utf-8") for name in names),
        )

    def __repr__(self) -> str:
        info = self.info
        return f"<patchmask.Model {info.classes} classes, {info.parameters} parameters, sha256 {info.sha256[:12]}>"
