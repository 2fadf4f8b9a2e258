"""Starting from ImageNet: the convolutions of a VGG16 in a network that sees grey.

    .pth, .safetensors    torchvision's vgg16 or vgg16_bn: channels red, green, blue, normalised by MEANS and DEVIATIONS
    .onnx, .keras, .h5    Keras' VGG16: blue, green, red, 0..255 less CAFFE_MEAN; what follows the last pool is ignored

The file is given, nothing is downloaded. Its first layer takes three normalised channels; a grey slice repeated to
three gives the same as one channel with

    weight'[o] = sum over c of weight[o][c] * STD / std[c]
    bias'[o]   = bias[o] + sum over c and taps of weight[o][c] * (MEAN - mean[c]) / std[c]      inside the patch

for intensities normalised by the scalars MEAN and STD. On the patch's border, where taps are zero, it is an
approximation; training starts from there. Dense layers start at random: they are others than ImageNet's.

A narrower network takes the filters with the largest norm (Li et al., "Pruning filters for efficient ConvNets", 2017),
and of their weights those for the channels that are left.
"""

import pickle

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from vgg import FULL_WIDTHS, Vgg16, unfolded
from volume_io import weights

MEANS, DEVIATIONS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CAFFE_MEAN = (103.939, 116.779, 123.68)
TORCHVISION, CAFFE = (MEANS, DEVIATIONS), ([mean / 255 for mean in CAFFE_MEAN], [1 / 255] * 3)
KERAS = (".onnx", ".keras", ".h5", ".hdf5")
MEAN, STD = 0.449, 0.226
BATCH_NORM_EPSILON = 1e-5


def start(path, config, dropout, batch_norm, sample):
    """A Vgg16 with the file's convolutions. sample: normalised patches, which set the statistics of batch norms."""
    plain = Vgg16(**config, dropout=dropout, batch_norm=False)
    targets = [layer for layer in plain.features if isinstance(layer, torch.nn.Conv2d)]
    found = _keras(path) if path.suffix in KERAS else _torchvision(_state(path))
    wanted, widths = config["widths"], [len(weight) for weight, _ in found]
    if widths != list(FULL_WIDTHS):
        raise ValueError(f"{path}: convolutions {widths or 'none'}, but VGG16 has {list(FULL_WIDTHS)}")
    if any(ours > theirs for ours, theirs in zip(wanted, FULL_WIDTHS)):
        raise ValueError(f"--widths {wanted}: must be at most VGG16's {list(FULL_WIDTHS)} with --imagenet")
    found = _narrowed(_grey(found, *(CAFFE if path.suffix in KERAS else TORCHVISION)), wanted)
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


def _torchvision(state):
    """[(weight, bias)] in order, float64, batch norms folded."""
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
    return found


def _keras(path):
    """[(weight, bias)] in order, float64."""
    try:
        layers = weights.read(path, features_only=True).convolutions
    except (weights.WeightsError, ImportError) as error:
        raise ValueError(f"{path}: {error}") from error
    if any(layer.norm for layer in layers):
        raise ValueError(f"{path}: has batch norms: Keras' VGG16 has none")
    return [tuple(torch.tensor(part).double() for part in (layer.weight, layer.bias)) for layer in layers]


def _grey(found, means, deviations):
    """The first layer for one channel."""
    weight, bias = found[0]
    if weight.shape[1] == 3:
        means, deviations = (torch.tensor(values).double() for values in (means, deviations))
        bias = bias + (weight.sum((2, 3)) * ((MEAN - means) / deviations)).sum(1)
        weight = (weight * (STD / deviations)[:, None, None]).sum(1, keepdim=True)
    return [(weight, bias), *found[1:]]


def _narrowed(found, widths):
    """`widths` filters of each layer, in their order."""
    narrow, kept = [], slice(None)
    for (weight, bias), width in zip(found, widths):
        weight = weight[:, kept]
        kept = weight.flatten(1).norm(dim=1).topk(width).indices.sort().values
        narrow.append((weight[kept], bias[kept]))
    return narrow
