"""Weights of other frameworks -> the safetensors file that the library loads.

    from_torch, from_keras, from_onnx    a file -> vgg.Network, in one common layout
    vgg                                  Network -> tensors with torchvision's names, every shape checked
    metadata                             how patches are cut and scaled -> the file's `patchmask.*` strings
    safetensors_file                     both to a file, the same bytes for the same model
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Literal, Optional

from .vgg import Network, WeightsError

Source = Literal["torch", "keras", "onnx"]
SUFFIXES: dict[str, Source] = {
    **dict.fromkeys((".pth", ".pt", ".ckpt", ".bin"), "torch"),
    **dict.fromkeys((".h5", ".hdf5", ".keras"), "keras"),
    ".onnx": "onnx",
}


def read(path: Path, source: Optional[Source] = None, features_only: bool = False) -> Network:
    """The vgg.Network in a file. `source`: by the file's name where it is None.

    features_only: of Keras and ONNX the convolutions, whatever follows their last pool.
    The module that reads it is imported only then: converting a Keras model needs h5py and no PyTorch.
    """
    source = source or SUFFIXES.get(path.suffix.lower())
    if source is None:
        raise WeightsError(f"{path}: unknown kind of file: expected {', '.join(SUFFIXES)}; or say which with --from")
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    module = importlib.import_module(f"{__name__}.from_{source}")
    network: Network = module.read(path, features_only) if source != "torch" else module.read(path)
    return network
