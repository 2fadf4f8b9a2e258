"""How patches are cut and scaled -> the `patchmask.*` strings of the file, checked as the library checks them.

The library's intensity is 0..1 (the HU window), and a network sees (intensity - mean) / std. Preprocessing that is
stated for pixels of 0..255 is the same thing with other numbers (--preprocess):

    caffe   255 x - (103.939, 116.779, 123.68), channels blue, green, red   keras.applications.vgg16
    torch   (x - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)             torchvision's ImageNet models
    tf      2 x - 1                                                         other keras.applications
    255     255 x                                                           networks fed with pixels as they are

A grey slice is repeated to three channels, so the order of the channels is only that of these means.
"""

import math

from .vgg import WeightsError

CAFFE_MEAN = (103.939, 116.779, 123.68)  # blue, green, red
PREPROCESS = {
    "none": ((0.0,), (1.0,)),
    "255": ((0.0,), (1 / 255,)),
    "tf": ((0.5,), (0.5,)),
    "torch": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "caffe": (tuple(mean / 255 for mean in CAFFE_MEAN), (1 / 255,)),
}


def numbers(text, counts, what):
    """The finite numbers between the commas of `text`, as many as one of `counts`."""
    try:
        values = tuple(float(word) for word in text.split(","))
    except ValueError:
        values = ()
    if len(values) not in counts or not all(map(math.isfinite, values)):
        raise WeightsError(f"{what} {text}: must be {' or '.join(map(str, counts))} finite numbers separated by commas")
    return values


def strings(network, *, patch_size=None, stride=None, window=None, equalize=None, mean=None, std=None, classes=None,
            lesion_class=None, preprocess=None):  # fmt: skip
    """The metadata of the converted file. Keys of options that are not given are left out, apart from mean and std
    where preprocessing or a scaling inside the model make them necessary."""
    texts = {}
    if patch_size is not None:
        texts["patch_size"] = _integer("--patch-size", patch_size, 32, 1024)
    if stride is not None:
        texts["stride"] = _integer("--stride", stride, 1, patch_size or 1024)
    if window is not None:
        low, high = numbers(window, (2,), "--window")
        if not low < high:
            raise WeightsError(f"--window {window}: must be LO,HI in HU, LO < HI")
        texts["window"] = f"{low:.17g},{high:.17g}"
    if equalize is not None:
        texts["equalize"] = "true" if equalize else "false"
    texts |= _normalisation(network, mean, std, preprocess)
    if classes is not None:
        names = [name.strip() for name in classes.split(",")]
        if len(names) != network.classes or not all(name and name.isprintable() for name in names):
            raise WeightsError(f"--classes {classes}: the model has {network.classes}: give that many names, with commas")
        texts["classes"] = ",".join(names)
    if lesion_class is not None:
        texts["lesion_class"] = _integer("--lesion-class", lesion_class, 0, network.classes - 1)
    return {f"patchmask.{key}": value for key, value in texts.items()}


def _integer(option, value, low, high):
    if not low <= value <= high:
        raise WeightsError(f"{option} {value}: must be {low}..={high}")
    return str(value)


def _normalisation(network, mean, std, preprocess):
    """mean and std, with the model's own scale * x + offset composed in:

    scale * (i - mean) / std + offset = (i - (mean - offset * std / scale)) / (std / scale)
    """
    if preprocess is not None and (mean is not None or std is not None):
        raise WeightsError("--preprocess stands for a mean and a deviation: leave out --mean and --std, or it")
    counts = (1, 3) if network.channels == 3 else (1,)
    means, deviations = PREPROCESS[preprocess or "none"]
    means = means if mean is None else numbers(mean, counts, "--mean")
    deviations = deviations if std is None else numbers(std, counts, "--std")
    if min(deviations) <= 0:
        raise WeightsError(f"--std {std}: must be above 0")
    if max(len(means), len(deviations)) > network.channels:
        raise WeightsError(
            f"--preprocess {preprocess}: it has three channels, but the model's first convolution takes "
            f"{network.channels}: give --mean and --std of one number"
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
