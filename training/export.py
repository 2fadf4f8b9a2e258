"""A trained network -> the safetensors file that the library loads.

Batch normalisation is folded, weights are rounded to fp16, torchvision's names are kept with every dense layer
under its index, and the metadata says how patches must be cut and scaled. `load` reads such a file
back for checks in PyTorch.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
import torch

from intensity import Intensity
from vgg import Vgg16, folded

NEEDED = {"patch_size", "stride", "window", "equalize", "mean", "std", "classes"}  # by `load`


@dataclass(frozen=True)
class Settings:
    """How slices become patches, and masks."""

    intensity: Intensity
    stride: int  # pixels
    classes: tuple  # names, the last is lesion
    pixel_mm: float | None = None
    threshold: float | None = None  # None: the most probable class


@dataclass(frozen=True)
class Exported(Settings):
    """A file that was read back. model: with the fp16-rounded weights in f32."""

    model: Vgg16 | None = None

    def options(self):
        """Those of train.py that a training which goes on from this file must have, too."""
        config, intensity = self.model.config, self.intensity
        return dict(patch_size=config["patch_size"], widths=config["widths"], dense=config["dense"],
                    classes=self.classes, window=intensity.window, equalize=intensity.equalize,
                    pixel_mm=self.pixel_mm)  # fmt: skip


def export(path, model, settings):
    tensors = {}
    for name, value in folded(model).state_dict().items():
        rounded = value.half().contiguous()
        if not torch.isfinite(rounded).all():
            raise ValueError(f"{name}: largest magnitude {value.abs().max():g} does not fit fp16 (65504)")
        tensors[name] = rounded
    intensity = settings.intensity
    metadata = {
        "patch_size": str(model.config["patch_size"]),
        "stride": str(settings.stride),
        "window": "%g,%g" % intensity.window,
        "equalize": "true" if intensity.equalize else "false",
        "mean": repr(intensity.mean),
        "std": repr(intensity.std),
        "classes": ",".join(settings.classes),
        "lesion_class": str(len(settings.classes) - 1),
    }
    metadata |= {name: f"{value:g}" for name in ("pixel_mm", "threshold") if (value := getattr(settings, name))}
    Path(path).write_bytes(save(tensors, {f"patchmask.{key}": value for key, value in metadata.items()}))


def load(path):
    """An Exported file."""
    try:
        with safe_open(path, "pt") as file:
            meta = {key.removeprefix("patchmask."): value for key, value in (file.metadata() or {}).items()}
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}
    except SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file: {error}") from error
    if missing := NEEDED - meta.keys():
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
    pixel_mm, threshold = (float(meta[name]) if name in meta else None for name in ("pixel_mm", "threshold"))
    return Exported(intensity, int(meta["stride"]), tuple(meta["classes"].split(",")), pixel_mm, threshold, model.eval())


def with_threshold(path, threshold):
    """Writes it into the metadata of an exported file."""
    known = load(path)
    export(path, known.model, replace(known, threshold=threshold))
