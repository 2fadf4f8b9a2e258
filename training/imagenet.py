"""Starting from ImageNet: the convolutions of a torchvision vgg16 or vgg16_bn file in a network that sees grey.

The file is given, nothing is downloaded. Its first layer takes three normalised channels; a grey slice repeated to
three gives the same as one channel with

    weight'[o] = sum over c of weight[o][c] * STD / std[c]
    bias'[o]   = bias[o] + sum over c and taps of weight[o][c] * (MEAN - mean[c]) / std[c]      inside the patch

for intensities normalised by the scalars MEAN and STD. On the patch's border, where taps are zero, it is an
approximation; training starts from there. Dense layers start at random: they are others than ImageNet's.
"""

import pickle

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from vgg import Vgg16, unfolded

MEANS, DEVIATIONS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MEAN, STD = 0.449, 0.226
BATCH_NORM_EPSILON = 1e-5


def start(path, config, dropout, batch_norm, sample):
    """A Vgg16 with the file's convolutions. sample: normalised patches, which set the statistics of batch norms."""
    plain = Vgg16(**config, dropout=dropout, batch_norm=False)
    targets = [layer for layer in plain.features if isinstance(layer, torch.nn.Conv2d)]
    found = _convolutions(_state(path))
    expected, shapes = [tuple(layer.weight.shape) for layer in targets], [tuple(weight.shape) for weight, _ in found]
    if shapes != expected:
        widths, wanted = ([shape[0] for shape in each] or "none" for each in (shapes, expected))
        raise ValueError(f"{path}: convolutions {widths}, but a VGG16 with {wanted} is trained: torchvision's vgg16 or "
                         "vgg16_bn goes with --widths full")  # fmt: skip
    with torch.no_grad():
        for target, (weight, bias) in zip(targets, found):
            target.weight.copy_(weight)
            target.bias.copy_(bias)
    return unfolded(plain, sample, dropout) if batch_norm else plain


def _state(path):
    """Tensors by name."""
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, SafetensorError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path}: not a file of weights: {str(error).splitlines()[0]}") from error
    state = state.get("state_dict", state) if isinstance(state, dict) else {}
    return {str(name).removeprefix("module."): value for name, value in state.items()}


def _convolutions(state):
    """[(weight, bias)] in order, float64, batch norms folded and the first layer made grey."""
    names = [name.split(".") for name in state]
    numbers = sorted(int(name[1]) for name in names if name[0] == "features" and name[2:] == ["weight"])
    value = lambda number, kind: state[f"features.{number}.{kind}"].double()  # noqa: E731
    found = []
    for number in numbers:
        weight = value(number, "weight")
        if weight.ndim == 4:
            bias = value(number, "bias") if f"features.{number}.bias" in state else weight.new_zeros(len(weight))
            found.append((weight, bias))
        else:
            before, bias = found.pop()
            scale = weight / torch.sqrt(value(number, "running_var") + BATCH_NORM_EPSILON)
            bias = (bias - value(number, "running_mean")) * scale + value(number, "bias")
            found.append((before * scale[:, None, None, None], bias))
    if found and found[0][0].shape[1] == 3:
        weight, bias = found[0]
        means, deviations = (torch.tensor(values).double() for values in (MEANS, DEVIATIONS))
        bias = bias + (weight.sum((2, 3)) * ((MEAN - means) / deviations)).sum(1)
        found[0] = (weight * (STD / deviations)[:, None, None]).sum(1, keepdim=True), bias
    return found
