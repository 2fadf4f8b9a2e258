"""Weights of other frameworks -> the safetensors file that the library loads.

    from_torch, from_keras, from_onnx    a file -> vgg.Network, in one common layout
    vgg                                  Network -> tensors with torchvision's names, every shape checked
    metadata                             how patches are cut and scaled -> the file's `patchmask.*` strings
    safetensors_file                     both to a file, the same bytes for the same model
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Optional

from .vgg import Network, WeightsError

Source = Literal["torch", "keras", "onnx"]
SUFFIXES: dict[str, Source] = {
    ".pth": "torch",
    ".pt": "torch",
    ".ckpt": "torch",
    ".bin": "torch",
    ".h5": "keras",
    ".hdf5": "keras",
    ".keras": "keras",
    ".onnx": "onnx",
}


def read(path: Path, source: Optional[Source] = None) -> Network:
    """The vgg.Network in a file. `source`: by the file's name where it is None.

    The module that reads it is imported only then: converting a Keras model needs h5py and no PyTorch.
    """
    source = source or SUFFIXES.get(path.suffix.lower())
    if source is None:
        raise WeightsError(f"{path}: unknown kind of file: expected {', '.join(SUFFIXES)}; or say which with --from")
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    if source == "torch":
        from . import from_torch

        return from_torch.read(path)
    if source == "keras":
        from . import from_keras

        return from_keras.read(path)
    from . import from_onnx

    return from_onnx.read(path)
