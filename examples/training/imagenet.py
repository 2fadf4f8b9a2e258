"""Starting from ImageNet: the convolutions of a torchvision vgg16 or vgg16_bn file in a network that sees grey.

The file is given, nothing is downloaded. Its first layer takes three normalised channels; a grey slice repeated to three
gives the same as one channel with

    weight'[o] = sum over c of weight[o][c] * STD / std[c]
    bias'[o]   = bias[o] + sum over c and taps of weight[o][c] * (MEAN - mean[c]) / std[c]      inside the patch

for intensities normalised by the scalars MEAN and STD. On the patch's border, where taps are zero, it is an approximation;
training starts from there. Dense layers start at random: they are others than ImageNet's.
"""

import torch
from safetensors.torch import load_file

from vgg import Vgg16, unfolded

MEANS, DEVIATIONS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MEAN, STD = 0.449, 0.226
FULL = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
BATCH_NORM_EPSILON = 1e-5


def start(path, config, dropout, batch_norm, sample):
    """A Vgg16 with the file's convolutions. sample: normalised patches, which set the statistics of batch norms that the
    file does not have."""
    convolutions = _convolutions(_state(path), path, config["widths"])
    plain = Vgg16(**config, dropout=dropout, batch_norm=False)
    targets = [layer for layer in plain.features if isinstance(layer, torch.nn.Conv2d)]
    with torch.no_grad():
        for target, (weight, bias) in zip(targets, convolutions):
            target.weight.copy_(weight)
            target.bias.copy_(bias)
    return unfolded(plain, sample, dropout) if batch_norm else plain


def _state(path):
    if path.suffix == ".safetensors":
        state = load_file(path)
    else:
        state = torch.load(path, map_location="cpu", weights_only=True)
        state = state.get("state_dict", state)
    return {name.removeprefix("module."): value for name, value in state.items()}


def _convolutions(state, path, widths):
    """[(weight, bias)] with batch norm folded and the first layer made grey, float64."""
    numbers = sorted({int(name.split(".")[1]) for name in state if name.startswith("features.")})
    found = []
    for number in numbers:
        value = lambda kind, k=number: state[f"features.{k}.{kind}"].double()  # noqa: E731
        if state[f"features.{number}.weight"].ndim == 4:
            weight = value("weight")
            bias = value("bias") if f"features.{number}.bias" in state else weight.new_zeros(len(weight))
            found.append((weight, bias))
        else:
            weight, bias = found.pop()
            scale = value("weight") / torch.sqrt(value("running_var") + BATCH_NORM_EPSILON)
            found.append((weight * scale[:, None, None, None], (bias - value("running_mean")) * scale + value("bias")))
    shapes = [len(weight) for weight, _ in found]
    if shapes != list(widths):
        raise SystemExit(f"{path}: convolutions of widths {shapes}, but --widths are {list(widths)}: for torchvision's "
                         "weights use --widths full")  # fmt: skip
    weight, bias = found[0]
    if weight.shape[1] == 3:
        means, deviations = (torch.tensor(values).double() for values in (MEANS, DEVIATIONS))
        bias = bias + (weight.sum((2, 3)) * ((MEAN - means) / deviations)).sum(1)
        weight = (weight * (STD / deviations)[:, None, None]).sum(1, keepdim=True)
        found[0] = (weight, bias)
    return found
