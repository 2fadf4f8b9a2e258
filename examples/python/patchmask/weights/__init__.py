"""Weights of other frameworks -> the safetensors file that the library loads.

    from_torch, from_keras, from_onnx    a file -> vgg.Network, in one common layout
    vgg                                  Network -> tensors with torchvision's names, every shape checked
    metadata                             how patches are cut and scaled -> the file's `patchmask.*` strings
    safetensors_file                     written whole under a temporary name, then renamed
"""

from .vgg import WeightsError


def read(path, source=None):
    """The vgg.Network in a file. `source`: torch, keras or onnx; by the file's name where it is None.

    The module that reads it is imported only then: converting a Keras model needs h5py and no PyTorch.
    """
    suffixes = {".pth": "torch", ".pt": "torch", ".ckpt": "torch", ".bin": "torch",
                ".h5": "keras", ".hdf5": "keras", ".keras": "keras", ".onnx": "onnx"}  # fmt: skip
    source = source or suffixes.get(path.suffix.lower())
    if source is None:
        raise WeightsError(f"{path}: unknown kind of file: expected {', '.join(suffixes)}; or say which with --from")
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    try:
        if source == "torch":
            from .from_torch import read as read_it
        elif source == "keras":
            from .from_keras import read as read_it
        else:
            from .from_onnx import read as read_it
    except ModuleNotFoundError as error:
        raise WeightsError(f"{path}: reading it needs the Python package {error.name}: pip install {error.name}") from error
    return read_it(path)
