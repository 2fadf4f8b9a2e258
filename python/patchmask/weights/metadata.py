"""How patches are cut and scaled -> the `patchmask.*` strings of the file, checked as the library checks them.

The library's intensity is 0..1 (the HU window), and a network sees (intensity - mean) / std. Preprocessing that is
stated for pixels of 0..255 is the same thing with other numbers (--preprocess):

    caffe   255 x - (103.939, 116.779, 123.68), channels blue, green, red   keras.applications.vgg16
    torch   (x - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)             torchvision's ImageNet models
    tf      2 x - 1                                                         other keras.applications
    255     255 x                                                           networks fed with pixels as they are

A grey slice is repeated to three channels, so the order of the channels is only that of these means.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from .vgg import Network, OptionError

Numbers = tuple[float, ...]

CAFFE_MEAN = (103.939, 116.779, 123.68)  # blue, green, red
PREPROCESS: dict[str, tuple[Numbers, Numbers]] = {  # mean and deviation of intensities of 0..1
    "none": ((0.0,), (1.0,)),
    "255": ((0.0,), (1 / 255,)),
    "tf": ((0.5,), (0.5,)),
    "torch": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "caffe": (tuple(mean / 255 for mean in CAFFE_MEAN), (1 / 255,)),
}


# The library's defaults where the file has no value.
DEFAULTS = {"patch_size": "257", "stride": "7", "window": "-160,240", "equalize": "false", "mean": "0", "std": "1"}


@dataclass(frozen=True)
class Training:
    """How the network was trained, as far as somebody says it; None: not said."""

    patch_size: Optional[int] = None  #: pixels
    stride: Optional[int] = None  #: pixels
    window: Optional[tuple[float, float]] = None  #: HU
    equalize: Optional[bool] = None
    mean: Optional[Numbers] = None  #: of intensities of 0..1, one number or one per channel
    std: Optional[Numbers] = None  #: above 0
    preprocess: Optional[str] = None  #: a name in PREPROCESS, in place of mean and std
    classes: Optional[tuple[str, ...]] = None
    lesion_class: Optional[int] = None
    pixel_mm: Optional[float] = None  #: side of the pixels, above 0
    threshold: Optional[float] = None  #: probability from which a voxel is lesion, above 0, at most 1


def strings(network: Network, training: Training) -> dict[str, str]:
    """The metadata of the converted file. Keys of what is not said are left out, apart from mean and std where
    preprocessing or a scaling inside the model make them necessary."""
    texts: dict[str, str] = {}
    if training.patch_size is not None:
        texts["patch_size"] = str(training.patch_size)
    if training.stride is not None:
        if training.patch_size is not None and training.stride > training.patch_size:
            raise OptionError(f"--stride {training.stride}: must be 1..={training.patch_size}, the patch size")
        texts["stride"] = str(training.stride)
    if training.window is not None:
        texts["window"] = ",".join(f"{value:.17g}" for value in training.window)
    if training.equalize is not None:
        texts["equalize"] = "true" if training.equalize else "false"
    texts |= _normalisation(network, training)
    if training.classes is not None:
        names = ",".join(training.classes)
        if len(training.classes) != network.classes:
            raise OptionError(f"--classes {names}: the model has {network.classes}: give that many names, with commas")
        texts["classes"] = names
    if training.lesion_class is not None:
        if training.lesion_class >= network.classes:
            raise OptionError(f"--lesion-class {training.lesion_class}: must be 0..={network.classes - 1}")
        texts["lesion_class"] = str(training.lesion_class)
    texts |= {name: f"{value:.17g}" for name in ("pixel_mm", "threshold") if (value := getattr(training, name)) is not None}
    return {f"patchmask.{key}": value for key, value in texts.items()}


def _normalisation(network: Network, training: Training) -> dict[str, str]:
    """mean and std, with the model's own scale * x + offset composed in:

    scale * (i - mean) / std + offset = (i - (mean - offset * std / scale)) / (std / scale)
    """
    mean, std, preprocess = training.mean, training.std, training.preprocess
    if preprocess is not None and (mean is not None or std is not None):
        raise OptionError(f"--preprocess {preprocess}: is a mean and a deviation: leave out --mean and --std, or it")
    means, deviations = PREPROCESS[preprocess or "none"]
    means = means if mean is None else mean
    deviations = deviations if std is None else std
    for option, values in (("--mean", means), ("--std", deviations)):
        if len(values) not in (1, network.channels):
            option = option if preprocess is None else f"--preprocess {preprocess}"
            raise OptionError(
                f"{option}: has three channels, but the model's first convolution takes {network.channels}: give --mean "
                "and --std of one number"
            )
    said = mean is not None or std is not None or preprocess is not None
    if network.scale != 1 or network.offset != 0:
        said = True
        width = max(len(means), len(deviations))
        means, deviations = means * (width // len(means)), deviations * (width // len(deviations))
        means = tuple(m - network.offset * s / network.scale for m, s in zip(means, deviations))
        deviations = tuple(s / network.scale for s in deviations)
    if not said:
        return {}
    return {"mean": ",".join(map(repr, means)), "std": ",".join(map(repr, deviations))}
