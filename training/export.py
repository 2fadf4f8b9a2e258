"""A trained network -> the safetensors file that the library loads.

Batch normalisation is folded, weights are rounded to fp16, torchvision's names are kept with every dense layer
under its index, and the metadata says how patches must be cut and scaled. `load` reads such a file
back for checks in PyTorch.
"""

from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
import torch

from intensity import Intensity
from vgg import Vgg16, folded

CLASSES = ("background", "lesion")
METADATA = {"patch_size", "stride", "window", "equalize", "mean", "std", "classes"}  # what `load` needs


def export(path, model, intensity, stride):
    tensors = {}
    for name, value in folded(model).state_dict().items():
        rounded = value.half().contiguous()
        if not torch.isfinite(rounded).all():
            raise ValueError(f"{name}: largest magnitude {value.abs().max():g} does not fit fp16 (65504)")
        tensors[name] = rounded
    metadata = {
        "patchmask.patch_size": str(model.config["patch_size"]),
        "patchmask.stride": str(stride),
        "patchmask.window": "%g,%g" % intensity.window,
        "patchmask.equalize": "true" if intensity.equalize else "false",
        "patchmask.mean": repr(intensity.mean),
        "patchmask.std": repr(intensity.std),
        "patchmask.classes": ",".join(CLASSES),
        "patchmask.lesion_class": "1",
    }
    Path(path).write_bytes(save(tensors, metadata))


def load(path):
    """(model with the file's fp16-rounded weights in f32, its Intensity, its stride)."""
    try:
        with safe_open(path, "pt") as file:
            meta = {key.removeprefix("patchmask."): value for key, value in (file.metadata() or {}).items()}
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}
    except SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file: {error}") from error
    if missing := METADATA - meta.keys():
        raise ValueError(f"{path}: has no patchmask.{min(missing)}: not a model of train.py")
    weights = lambda prefix: [  # noqa: E731
        tensors[name]
        for name in sorted(tensors, key=lambda n: int(n.split(".")[1]))
        if name.startswith(prefix) and name.endswith(".weight")
    ]
    model = Vgg16(
        int(meta["patch_size"]),
        [weight.shape[0] for weight in weights("features")],
        [weight.shape[0] for weight in weights("classifier")[:-1]],
        len(meta["classes"].split(",")),
        batch_norm=False,
    )
    model.load_state_dict(tensors)
    low, high = map(float, meta["window"].split(","))
    intensity = Intensity((low, high), meta["equalize"] == "true", float(meta["mean"]), float(meta["std"]))
    return model.eval(), intensity, int(meta["stride"])
