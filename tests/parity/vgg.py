"""Random VGG16s of any width, as safetensors (torchvision's names) and as ONNX with the same fp16-rounded weights.

    model = random_vgg(NARROW, hidden=(12,), patch_size=65, seed=1)
    save_safetensors(model, "m.safetensors", metadata)
    onnx_bytes(model)                       of patches
    onnx_bytes(model, image_scope=True)     of all patches of an image

A `Vgg` holds the tensors of the file (`stored`) and those that the network computes with (`convs`, `dense`): batch
normalisation and average pooling folded in float64, then everything rounded to fp16 once.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save

import synthetic

BLOCKS = (2, 2, 3, 3, 3)  # convolutions between pools
CONV_NAMES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)  # torchvision's vgg16
CONV_NAMES_BN = (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40)  # vgg16_bn; the norm is at N + 1
BN_EPSILON = 1e-5
ADAPTIVE = 7  # torchvision's AdaptiveAvgPool2d((7, 7))

NARROW = (4, 4, 8, 8, 8, 8, 8, 16, 16, 16, 16, 16, 16)
EIGHT = (8,) * 13
UNEVEN = (3, 5, 7, 6, 9, 10, 11, 12, 13, 9, 17, 15, 14)
FULL = (64, 64, 128, 128, 256, 256, 256) + (512,) * 6

DTYPES = {"F16": np.float16, "BF16": ml_dtypes.bfloat16, "F32": np.float32, "F64": np.float64}


@dataclass
class Vgg:
    """A network for one patch size."""

    patch_size: int
    stored: dict  # name in the file -> float64 array that its dtype holds exactly
    dtype: str  # of the file
    convs: list = field(default_factory=list)  # 13 x (weight [out][in][3][3], bias [out]), f32 holding fp16 values
    dense: list = field(default_factory=list)  # (weight [out][in], bias [out]), f32 holding fp16 values

    @property
    def channels(self):
        """Input channels, 1 or 3."""
        return self.convs[0][0].shape[1]

    @property
    def side(self):
        """Side of the last feature map."""
        return self.patch_size >> 5


def random_vgg(
    widths, hidden=(12,), classes=2, channels=1, patch_size=65, seed=0, dtype="F16", batch_norm=False, adaptive=False,
    mean=0.0, std=1.0,
):  # fmt: skip
    """Random weights. `hidden`: widths of all dense layers but the last.

    Every layer is scaled and shifted by its statistics on a few sample patches, as batch normalisation would:
    otherwise the logits of a deep random network hardly depend on the patch, and a comparison proves little.
    `adaptive`: the first dense layer takes C * 7 * 7 inputs after AdaptiveAvgPool2d((7, 7)). `mean`, `std`: of the
    intensity, one or one per channel.
    """
    rng = np.random.default_rng(seed)
    stored = {}
    per_channel = lambda value: np.broadcast_to(np.asarray(value, np.float64), channels)[:, None, None]
    x = (_sample_patches(patch_size, channels) - per_channel(mean)) / per_channel(std)  # [n][channels][h][w], float64
    names = CONV_NAMES_BN if batch_norm else CONV_NAMES
    pooled_after = np.cumsum(BLOCKS) - 1
    for index, (name, width) in enumerate(zip(names, widths)):
        weight = rng.normal(0, np.sqrt(2 / (9 * x.shape[1])), (width, x.shape[1], 3, 3))
        bias = rng.normal(0, 0.1, width)
        y = _conv(x, weight)
        mean, std = y.mean((0, 2, 3)), y.std((0, 2, 3)) + 1e-3
        shift = rng.normal(0, 0.2, width)
        if batch_norm:
            stored[f"features.{name + 1}.weight"] = rng.uniform(0.7, 1.3, width)
            stored[f"features.{name + 1}.bias"] = shift
            stored[f"features.{name + 1}.running_mean"] = mean + bias
            stored[f"features.{name + 1}.running_var"] = std**2
        else:
            weight, bias = weight / std[:, None, None, None], shift - mean / std
        stored[f"features.{name}.weight"], stored[f"features.{name}.bias"] = weight, bias
        x = np.maximum((y - mean[:, None, None]) / std[:, None, None] + shift[:, None, None], 0)
        if index in pooled_after:
            height, width = x.shape[2] // 2, x.shape[3] // 2
            x = x[:, :, : 2 * height, : 2 * width].reshape(*x.shape[:2], height, 2, width, 2).max((3, 5))
    if adaptive:
        pool = adaptive_matrix(x.shape[2])
        x = np.einsum("iy,jx,ncyx->ncij", pool, pool, x)
    x = x.reshape(len(x), -1)
    for index, width in enumerate((*hidden, classes)):
        weight = rng.normal(0, np.sqrt(2 / x.shape[1]), (width, x.shape[1]))
        y = x @ weight.T
        weight, y = weight / y.std(0).mean(), y / y.std(0).mean()
        bias = rng.normal(0, 0.1, width) - y.mean(0)
        stored[f"classifier.{3 * index}.weight"], stored[f"classifier.{3 * index}.bias"] = weight, bias
        x = np.maximum(y + bias, 0)
    model = Vgg(
        patch_size, {name: value.astype(DTYPES[dtype]).astype(np.float64) for name, value in stored.items()}, dtype
    )
    fold(model)
    return model


def _sample_patches(patch_size, channels, count=12):
    """Patches that set the scales of a random network: [count][channels][P][P] in 0..1, partly black."""
    hu = synthetic.ct(2 * patch_size, 2 * patch_size, 1, seed=77)[0]
    image = np.pad(np.clip((hu + 160) / 400, 0, 1), patch_size // 2)
    starts = np.random.default_rng(5).integers(0, 2 * patch_size, (count, 2))
    patches = np.stack([image[y : y + patch_size, x : x + patch_size] for y, x in starts])
    return np.repeat(patches[:, None], channels, 1)


def _conv(x, weight):
    """3x3 convolution with zeros around: [n][in][h][w] -> [n][out][h][w], float64."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    height, width = x.shape[2:]
    tap = lambda i, j: padded[:, :, i : i + height, j : j + width]
    y = sum(np.tensordot(weight[:, :, i, j], tap(i, j), ((1,), (1,))) for i in range(3) for j in range(3))
    return y.swapaxes(0, 1)


def fold(model):
    """Fills `convs` and `dense` from `stored`."""
    fp16 = lambda array: array.astype(np.float16).astype(np.float32)
    stored = model.stored
    batch_norm = "features.1.running_var" in stored
    model.convs, model.dense = [], []
    for name in CONV_NAMES_BN if batch_norm else CONV_NAMES:
        weight, bias = stored[f"features.{name}.weight"], stored[f"features.{name}.bias"]
        if batch_norm:
            norm = f"features.{name + 1}."
            scale = stored[norm + "weight"] / np.sqrt(stored[norm + "running_var"] + BN_EPSILON)
            weight = weight * scale[:, None, None, None]
            bias = (bias - stored[norm + "running_mean"]) * scale + stored[norm + "bias"]
        model.convs.append((fp16(weight), fp16(bias)))
    features, side = len(bias), model.side
    for index in range(sum(name.startswith("classifier.") for name in stored) // 2):
        weight, bias = stored[f"classifier.{3 * index}.weight"], stored[f"classifier.{3 * index}.bias"]
        if index == 0 and weight.shape[1] == features * ADAPTIVE**2 and side != ADAPTIVE:
            pool = adaptive_matrix(side)
            cells = weight.reshape(-1, features, ADAPTIVE, ADAPTIVE)
            weight = np.einsum("ocij,iy,jx->ocyx", cells, pool, pool).reshape(len(weight), -1)
        model.dense.append((fp16(weight), fp16(bias)))


def adaptive_matrix(side):
    """[7][side]: average pooling of `side` positions into 7, as torch's AdaptiveAvgPool defines it."""
    matrix = np.zeros((ADAPTIVE, side))
    for cell in range(ADAPTIVE):
        first, end = cell * side // ADAPTIVE, -(-(cell + 1) * side // ADAPTIVE)
        matrix[cell, first:end] = 1 / (end - first)
    return matrix


def balance(model, logits):
    """Shifts the last bias so that no class wins everywhere; returns the logits of the shifted model.

    Not where patches are few or hardly differ: what is left after the shift would be rounding, many times enlarged.
    """
    flat = logits[np.isfinite(logits[..., 0])]
    if len(flat) < 8 or flat.std(0).max() < 0.15 * np.abs(flat).max():
        return logits
    name = f"classifier.{3 * (len(model.dense) - 1)}.bias"
    before = model.dense[-1][1]
    model.stored[name] = (model.stored[name] - np.median(flat, 0)).astype(DTYPES[model.dtype]).astype(np.float64)
    fold(model)
    return logits - before + model.dense[-1][1]


def save_safetensors(model, path, metadata=None):
    """Writes the file that the library loads. `metadata`: `patchmask.*` keys and their texts."""
    tensors = {name: value.astype(DTYPES[model.dtype], order="C") for name, value in model.stored.items()}
    if "features.1.running_var" in model.stored:  # torch's files have these, and the library skips them
        tensors["features.1.num_batches_tracked"] = np.array(7, np.int64)
    content = save(tensors, metadata)
    # The package writes the metadata in random order: sort, so that the same model is the same file.
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    Path(path).write_bytes(len(header).to_bytes(8, "little") + header + content[end:])


def onnx_bytes(model, image_scope=False):
    """The network in ONNX: [n][channels][P][P] -> [n][classes], with zeros at every patch's border, as in training.

    `image_scope`: [1][channels][h][w] -> [1][classes][row][column], the logits of the patch that starts there. Pools do
    not halve the image but double the distance between the taps of what follows, so that they are anchored at the start
    of each patch, for all starts at once; zeros are read only outside the image.
    """
    nodes, weights, distance, last = [], {}, 1, "input"

    def add(kind, *tensors, **attributes):
        nonlocal last
        names = [f"{kind}{len(nodes)}.{index}" for index in range(len(tensors))]
        weights.update(zip(names, tensors))
        nodes.append(helper.make_node(kind, [last, *names], [f"{kind}{len(nodes)}"], **attributes))
        last = nodes[-1].output[0]

    convs = iter(model.convs)
    for count in BLOCKS:
        for _ in range(count):
            add("Conv", *next(convs), pads=[distance] * 4, dilations=[distance] * 2)
            add("Relu")
        add("MaxPool", kernel_shape=[2, 2], dilations=[distance] * 2, strides=[1 if image_scope else 2] * 2)
        distance *= 2 if image_scope else 1
    side = model.side
    if not image_scope:
        add("Flatten")
    for index, (weight, bias) in enumerate(model.dense):
        if index > 0:
            add("Relu")
        if image_scope:
            add("Conv", weight.reshape(len(weight), -1, side, side), bias, dilations=[distance] * 2)
        else:
            add("Gemm", weight, bias, transB=1)
        side = 1
    tensor = lambda name, *shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    size, rest = (["h", "w"], ["row", "column"]) if image_scope else ([model.patch_size] * 2, [])
    inputs, outputs = tensor("input", "n", model.channels, *size), tensor(last, "n", len(bias), *rest)
    initializers = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "vgg16", [inputs], [outputs], initializers)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    return made.SerializeToString()
