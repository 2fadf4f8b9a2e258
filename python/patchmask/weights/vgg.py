"""A VGG16 in one common layout, whatever it came from, and its tensors under torchvision's names.

    Network   13 convolutions [out][in][3][3], 1 to 4 dense layers [out][in], how the features were flattened
    tensors   -> features.{0,2,5...}.weight ... classifier.{0,3,6,9}.bias

What other frameworks do differently becomes weights here, and the function stays the same:

    flattened rows, columns, channels   columns of the first dense layer reordered to channels, rows, columns
    batch norm after a convolution      kept as it is (PyTorch's epsilon), else folded in float64
    global average of the features      each weight of the first dense layer spread over the g x g positions
    one output with a sigmoid           two classes with logits 0 and z: softmax((0, z)) = (1 - sigmoid z, sigmoid z)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, Optional

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]  # float16, float32 or float64, as in the source

CONVOLUTIONS = 13
POSITIONS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)  # of the convolutions in torchvision's vgg16
POSITIONS_BATCH_NORM = (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40)  # in vgg16_bn; the norm is one further
POOL_AFTER = (1, 3, 6, 9, 12)  # convolutions, counted from 0
LIBRARY_EPSILON = 1e-5  # that the library, like PyTorch, adds to a variance
ADAPTIVE_SIDE = 7  # of torchvision's AdaptiveAvgPool2d
F16_MAX = 65504.0
DENSE_MAX = 4


class WeightsError(Exception):
    """A file that does not become a model; the text names the tensor, its shape and the remedy."""


class OptionError(WeightsError):
    """An option that does not fit the model or another option."""


@dataclass
class BatchNorm:
    """After a convolution; arrays of one value per channel."""

    name: str
    gamma: Array
    beta: Array
    mean: Array
    variance: Array
    epsilon: float


@dataclass
class Layer:
    """A convolution, weight [out][in][3][3], or a dense layer, weight [out][in]; `name` is the source's, for errors."""

    name: str
    weight: Array
    bias: Optional[Array] = None
    norm: Optional[BatchNorm] = None


@dataclass
class Network:
    convolutions: list[Layer] = field(default_factory=list)
    dense: list[Layer] = field(default_factory=list)
    flattened: Literal["chw", "hwc"] = "chw"  # the order of the first dense layer's inputs
    adaptive: bool = False  # torchvision's average pooling to 7 x 7 comes before the first dense layer
    global_average: bool = False  # the features' mean over all positions is what the first dense layer takes
    uneven_pools: bool = True  # False: pools pad odd sides ("same"), which the library does not
    input_side: Optional[int] = None  # pixels, where the file says it
    scale: float = 1.0  # the model's own first step on its input: scale * x + offset
    offset: float = 0.0

    @property
    def classes(self) -> int:
        """Classes of the converted model: one output (a sigmoid) becomes two."""
        return max(2, len(self.dense[-1].weight)) if self.dense else 0

    @property
    def channels(self) -> int:
        """Input channels, 1 or 3."""
        return int(self.convolutions[0].weight.shape[1])


def tensors(network: Network, patch_size: Optional[int] = None) -> dict[str, Array]:
    """name -> array, float16, float32 or float64 as in the source; a WeightsError where it is no such VGG16.

    patch_size: pixels; decides what a global average becomes and is checked against the first dense layer.
    """
    _check_convolutions(network.convolutions)
    dense = _checked_dense(network, patch_size)
    norms = [layer.norm for layer in network.convolutions if layer.norm and layer.norm.epsilon == LIBRARY_EPSILON]
    keep_norms = len(norms) == len(network.convolutions)
    named: dict[str, Array] = {}
    for index, layer in enumerate(network.convolutions):
        position = (POSITIONS_BATCH_NORM if keep_norms else POSITIONS)[index]
        weight, bias = layer.weight, _bias(layer)
        if keep_norms:
            norm = norms[index]
            values = dict(weight=norm.gamma, bias=norm.beta, running_mean=norm.mean, running_var=norm.variance)
            named |= {f"features.{position + 1}.{kind}": value for kind, value in values.items()}
        else:
            weight, bias = _folded(layer, bias)
        named |= {f"features.{position}.weight": weight, f"features.{position}.bias": bias}
    for number, (_, weight, bias) in enumerate(dense):
        named |= {f"classifier.{3 * number}.weight": weight, f"classifier.{3 * number}.bias": bias}
    for name, value in named.items():
        _check_values(name, value)
    return {name: np.ascontiguousarray(value) for name, value in named.items()}


def patch_sizes(network: Network) -> Optional[range]:
    """Patch sizes (pixels) that the first dense layer of a network that `tensors` has passed fits; None: all."""
    side = _side(network)
    if network.adaptive and side == ADAPTIVE_SIDE:
        return None
    return range(32 * side, 32 * side + (32 if network.uneven_pools else 1))


def fp16_holds(named: dict[str, Array]) -> bool:
    """True if all parameters are fp16 numbers; the library rounds the others, on every engine."""
    return all(np.array_equal(value.astype(np.float16).astype(value.dtype), value) for value in named.values())


def shape_text(array: npt.NDArray[Any]) -> str:
    """`[64, 3, 3, 3]`."""
    return "[" + ", ".join(map(str, array.shape)) + "]"


def _bias(layer: Layer) -> Array:
    """[out], zeros where the layer has none."""
    return np.zeros(len(layer.weight), layer.weight.dtype) if layer.bias is None else layer.bias


def _check_convolutions(layers: list[Layer]) -> None:
    if len(layers) != CONVOLUTIONS:
        found = ", ".join(f"{layer.name} {shape_text(layer.weight)}" for layer in layers) or "none"
        raise WeightsError(f"{len(layers)} convolutions: VGG16 has {CONVOLUTIONS}; found {found}")
    inputs: Optional[int] = None
    for layer in layers:
        weight = layer.weight
        wanted = "1 or 3" if inputs is None else str(inputs)
        fits = weight.ndim == 4 and weight.shape[2:] == (3, 3) and str(weight.shape[1]) in wanted.split(" or ")
        if not fits:
            raise WeightsError(
                f"{layer.name}: shape {shape_text(weight)} ([out, in, rows, columns]): expected [*, {wanted}, 3, 3]: "
                "only VGG16's 3x3 convolutions, one after another, can be converted"
            )
        inputs = weight.shape[0]
        _check_vector(layer.name, layer.bias, inputs, "bias")
        if layer.norm:
            for kind in ("gamma", "beta", "mean", "variance"):
                _check_vector(layer.norm.name, getattr(layer.norm, kind), inputs, kind)


def _check_vector(name: str, vector: Optional[Array], length: int, kind: str) -> None:
    if vector is not None and vector.shape != (length,):
        raise WeightsError(f"{name}: {kind} has shape {shape_text(vector)}: expected [{length}], one per output")


def _checked_dense(network: Network, patch_size: Optional[int]) -> list[tuple[str, Array, Array]]:
    """(name, weight [out][in], bias [out]) per layer, inputs of the first in channels, rows, columns order."""
    if not 1 <= len(network.dense) <= DENSE_MAX:
        raise WeightsError(
            f"{len(network.dense)} dense layers: must be 1..={DENSE_MAX}; "
            "a model without its classifier (include_top=False) needs one trained on top first"
        )
    channels = network.convolutions[-1].weight.shape[0]
    layers: list[tuple[str, Array, Array]] = []
    inputs: Optional[int] = None
    for layer in network.dense:
        weight = layer.weight
        if weight.ndim != 2 or (inputs is not None and weight.shape[1] != inputs):
            raise WeightsError(f"{layer.name}: shape {shape_text(weight)} ([out, in]): expected [*, {inputs or '*'}]")
        bias = _bias(layer)
        _check_vector(layer.name, bias, len(weight), "bias")
        if inputs is None:
            weight = _first_dense(network, layer, channels, patch_size)
        inputs = len(weight)
        layers.append((layer.name, weight, bias))
    name, weight, bias = layers[-1]
    if len(weight) == 1:  # z -> (0, z)
        weight, bias = np.concatenate([0 * weight, weight]), np.concatenate([0 * bias, bias])
        layers[-1] = (name, weight, bias)
    if len(weight) > 255:
        raise WeightsError(
            f"{name}: shape {shape_text(weight)}: {len(weight)} classes: the last dense layer must have 2..=255. Is "
            "this the ImageNet classifier? Train a classifier for your own classes first"
        )
    return layers


def _first_dense(network: Network, layer: Layer, channels: int, patch_size: Optional[int]) -> Array:
    weight = layer.weight
    outputs, inputs = weight.shape
    side = _side(network)
    if inputs % channels or side * side * channels != inputs or side == 0:
        raise WeightsError(
            f"{layer.name}: shape {shape_text(weight)} ([out, in]): expected [*, {channels}*g*g], g x g positions of "
            f"the last convolution's {channels} channels"
        )
    patch_side = None if patch_size is None else patch_size // 32
    if network.global_average:
        if patch_side is None:
            raise OptionError(
                f"{layer.name}: shape {shape_text(weight)}: it takes the mean of each channel, which depends on the "
                "patch size: give --patch-size"
            )
        spread = np.repeat(weight.astype(np.float64) / patch_side**2, patch_side**2, axis=1)
        spread_weight: Array = spread.astype(np.promote_types(weight.dtype, np.float32))
        return spread_weight
    if patch_side is not None and side != patch_side and not (network.adaptive and side == ADAPTIVE_SIDE):
        raise OptionError(
            f"{layer.name}: shape {shape_text(weight)}: {side} x {side} positions of {channels} channels, but a patch "
            f"of {patch_size} pixels leaves {patch_side} x {patch_side}: --patch-size must be "
            f"{32 * side}..={32 * side + 31}"
        )
    if patch_size is not None and not network.uneven_pools and patch_size % 32:
        raise OptionError(
            f"patch size {patch_size}: this model's pools pad odd sides (padding \"same\"), the library's drop them: "
            f"--patch-size must be a multiple of 32"
        )
    if network.flattened == "hwc":
        weight = weight.reshape(outputs, side, side, channels).transpose(0, 3, 1, 2).reshape(outputs, inputs)
    return weight


def _side(network: Network) -> int:
    """g, where the first dense layer takes g x g positions of the last convolution's channels."""
    return math.isqrt(network.dense[0].weight.shape[1] // network.convolutions[-1].weight.shape[0])


def _folded(layer: Layer, bias: Array) -> tuple[Array, Array]:
    """(weight, bias) with the batch norm that follows folded in, in float64."""
    if layer.norm is None:
        return layer.weight, bias
    norm = layer.norm
    spread = norm.variance.astype(np.float64) + norm.epsilon
    if not (spread > 0).all():
        channel = int(np.argmin(spread))
        raise WeightsError(f"{norm.name}: variance[{channel}] is {norm.variance[channel]}: must not be negative")
    scale = norm.gamma / np.sqrt(spread)
    weight = layer.weight * scale[:, None, None, None]
    bias = (bias.astype(np.float64) - norm.mean) * scale + norm.beta
    stored = np.promote_types(layer.weight.dtype, np.float32)
    return weight.astype(stored), bias.astype(stored)


def _check_values(name: str, value: Array) -> None:
    bad = ~(np.abs(value.astype(np.float64, copy=False)) <= F16_MAX)  # NaN too
    if bad.any():
        index = tuple(int(i) for i in np.argwhere(bad)[0])
        raise WeightsError(
            f"{name}{list(index)} is {value[index]}: parameters must be finite and at most {F16_MAX:g} in magnitude, "
            "the limit of fp16: was training stable?"
        )
