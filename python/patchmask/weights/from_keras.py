"""Keras models: .keras (Keras 3), .h5 of whole models and of weights (Keras 2 and 3). Needs h5py, not Keras.

    kernels [rows][columns][in][out]   -> [out][in][rows][columns]
    dense   [in][out]                  -> [out][in]
    flatten [rows][columns][channels]  -> the first dense layer's columns in [channels][rows][columns], by vgg.tensors

The file's configuration gives the order of the layers and everything that is checked. A file of weights alone has none:
layers then come in the file's order, or in that of their names with numbers counted as numbers, and are taken for a
VGG16: convolutions, a flatten, dense layers.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any, Optional, TypedDict, Union

import h5py
import numpy as np

from .chain import Chain
from .vgg import POOL_AFTER, Array, BatchNorm, Layer, Network, WeightsError, shape_text

NO_PART = {"InputLayer", "Dropout", "SpatialDropout2D", "GaussianNoise", "ActivityRegularization", "RandomFlip",
           "RandomRotation", "RandomZoom", "RandomTranslation", "RandomContrast", "RandomBrightness"}  # fmt: skip
NESTED = {"Sequential", "Functional", "Model"}

Settings = dict[str, Any]  # a layer's, as its class writes them into the JSON of the configuration
Weights = dict[str, list[Array]]  # layer name -> its arrays in Keras' order; layers in the file's order


class LayerConfig(TypedDict, total=False):
    """A layer in the configuration; the model itself and models inside it have LayerConfigs in `config`."""

    class_name: str
    name: str  # of Functional models' layers; Sequential ones have it in `config`
    config: Union[Settings, list[LayerConfig]]


def read(path: Path, features_only: bool = False) -> Network:
    """The Network of a .keras or .h5 file."""
    config, weights = _open(path)
    if config is None:
        return _by_order(path, weights)
    walk = _Walk(path, weights, features_only)
    walk.layers(config)
    return walk.chain.network


def _open(path: Path) -> tuple[Optional[LayerConfig], Weights]:
    """(configuration or None, weights)."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                config = json.loads(archive.read("config.json"))
                with h5py.File(io.BytesIO(archive.read("model.weights.h5")), "r") as file:
                    return config, _variables(file)
        with h5py.File(path, "r") as file:
            config = file.attrs.get("model_config")
            root = file["model_weights"] if "model_weights" in file else file
            weights = _legacy(root) if "layer_names" in root.attrs else _variables(file)
            return json.loads(config) if config is not None else None, weights
    except (OSError, KeyError, ValueError) as error:
        raise WeightsError(f"{path}: not a Keras file, or truncated: {str(error).splitlines()[0][:200]}") from error


def _legacy(root: h5py.Group) -> Weights:
    """Keras 2: one group per layer, the order of arrays in the attribute weight_names; nested models hold several."""
    found: Weights = {}
    for layer in root.attrs["layer_names"]:
        group = root[_text(layer)]
        for name in group.attrs["weight_names"]:
            array = group[_text(name)]
            found.setdefault(array.parent.name.rsplit("/", 1)[-1], []).append(array[()])
    return found


def _variables(file: h5py.File) -> Weights:
    """Keras 3: arrays are .../GROUP/vars/0, 1 ...; the attribute `name` of vars is the layer's, where it is written."""
    groups: list[str] = []
    file.visititems(lambda name, node: groups.append(name) if isinstance(node, h5py.Group) else None)
    found: Weights = {}
    for name in sorted(groups, key=_natural):
        parts = name.split("/")
        if parts[-1] != "vars" or not len(file[name]) or "optimizer" in parts:
            continue
        group = file[name]
        layer = _text(group.attrs.get("name", parts[-2] if len(parts) > 1 else "model"))
        if layer in found:
            raise WeightsError(f"{file.filename}: two layers are called {layer}: give them different names")
        found[layer] = [group[key][()] for key in sorted(group, key=_natural)]
    return found


def _text(value: Union[bytes, str]) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _natural(name: str) -> list[tuple[int, str]]:
    """conv2d_10 after conv2d_2, dense before dense_1."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


class _Walk:
    """The layers of a configuration in order, into a Chain."""

    def __init__(self, path: Path, weights: Weights, features_only: bool) -> None:
        self.path, self.weights, self.features_only, self.chain = path, weights, features_only, Chain()
        self.by_class: dict[str, int] = {}  # how many layers of each class have been met, for files without names

    def layers(self, model: LayerConfig) -> None:
        """All layers of a Sequential or Functional configuration, nested ones too."""
        inside = model["config"]
        layers: list[LayerConfig] = inside["layers"] if isinstance(inside, dict) else inside  # old Sequentials: lists
        for layer in layers:
            if self.features_only and self.chain.has_features:
                return
            kind, settings = layer["class_name"], layer["config"]
            if kind in NESTED:
                self.layers(layer)
            elif isinstance(settings, dict):
                self.layer(kind, layer.get("name") or settings.get("name", kind), settings)

    def layer(self, kind: str, name: str, settings: Settings) -> None:
        chain = self.chain
        if settings.get("data_format") == "channels_first":
            raise WeightsError(f"{name}: data_format channels_first: save the model with channels_last")
        shape = settings.get("batch_shape") or settings.get("batch_input_shape")
        if shape and len(shape) == 4 and shape[1] == shape[2] and chain.network.input_side is None:
            chain.network.input_side = shape[1]
        if kind in NO_PART:
            return
        if kind == "Conv2D":
            self.convolution(name, settings)
        elif kind == "BatchNormalization":
            chain.batch_norm(self.batch_norm(name, settings))
        elif kind == "ReLU":
            if settings.get("max_value") is not None or settings.get("negative_slope") or settings.get("threshold"):
                raise WeightsError(f"{name}: a ReLU with a limit, slope or threshold: VGG16 has the plain one")
            chain.relu()
        elif kind == "Activation":
            self.activation(name, settings["activation"])
        elif kind == "Softmax":
            chain.end(name, "softmax")
        elif kind == "MaxPooling2D":
            same = settings["padding"] == "same"
            strides = settings["strides"] or settings["pool_size"]
            chain.max_pool(name, size=settings["pool_size"], stride=strides, pads_odd_sides=same)
        elif kind == "GlobalAveragePooling2D":
            chain.global_average(name)
        elif kind == "Flatten":
            chain.flatten("hwc")
        elif kind == "Dense":
            weight, bias = self.arrays(kind, name, settings["use_bias"], 2)
            chain.dense(Layer(name, weight.T, bias))
            self.activation(name, settings["activation"])
        elif kind == "Rescaling" and np.ndim(settings["scale"]) == np.ndim(settings["offset"]) == 0:
            chain.scaling(name, float(settings["scale"]), float(settings["offset"]))
        elif kind in ("Rescaling", "Normalization"):
            raise WeightsError(
                f"{name}: {kind} per channel: take it out of the model and give --mean and --std instead"
            )
        else:
            raise chain.unknown(name, kind)

    def convolution(self, name: str, settings: Settings) -> None:
        wanted: Settings = dict(padding="same", strides=[1, 1], dilation_rate=[1, 1], groups=1)
        for key, value in wanted.items():
            found = settings.get(key, value)
            found = list(found) if isinstance(found, (list, tuple)) else found
            if found != value:
                raise WeightsError(f"{name}: {key} {found}: VGG16's convolutions have {value}")
        weight, bias = self.arrays("Conv2D", name, settings["use_bias"], 4)
        self.chain.convolution(Layer(name, weight.transpose(3, 2, 0, 1), bias))
        self.activation(name, settings["activation"])

    def batch_norm(self, name: str, settings: Settings) -> BatchNorm:
        values = self.find("BatchNormalization", name)
        expected = 2 + settings["scale"] + settings["center"]
        if len(values) != expected:
            raise WeightsError(f"{name}: {len(values)} arrays in the file: expected {expected} for this batch norm")
        values = list(values)
        ones = np.ones_like(values[-1])
        gamma = values.pop(0) if settings["scale"] else ones
        beta = values.pop(0) if settings["center"] else 0 * ones
        mean, variance = values
        return BatchNorm(name, gamma, beta, mean, variance, settings["epsilon"])

    def activation(self, name: str, activation: Optional[str]) -> None:
        if activation == "relu":
            self.chain.relu()
        elif activation == "softmax":
            self.chain.end(name, "softmax")
        elif activation == "sigmoid":
            self.chain.end(name, "sigmoid")
        elif activation not in ("linear", None):
            raise WeightsError(
                f"{name}: activation {activation}: VGG16 has relu, and softmax or one sigmoid at the end"
            )

    def arrays(self, kind: str, name: str, use_bias: bool, axes: int) -> tuple[Array, Optional[Array]]:
        """(kernel, bias or None) of a convolution or dense layer."""
        found = self.find(kind, name)
        if len(found) != 1 + use_bias or found[0].ndim != axes:
            shapes = ", ".join(map(shape_text, found))
            bias = " and a bias" if use_bias else ""
            raise WeightsError(f"{name}: arrays of shapes {shapes}: expected a kernel of {axes} axes{bias}")
        return found[0], found[1] if use_bias else None

    def find(self, kind: str, name: str) -> list[Array]:
        """The arrays of a layer: by its name, or by class and number where groups are called conv2d, conv2d_1 ..."""
        count = self.by_class.get(kind, 0)
        self.by_class[kind] = count + 1
        snake = {"Conv2D": "conv2d", "BatchNormalization": "batch_normalization", "Dense": "dense"}[kind]
        for key in (name, f"{snake}_{count}" if count else snake):
            if key in self.weights:
                return self.weights[key]
        found = ", ".join(list(self.weights)[:6]) or "none"
        raise WeightsError(f"{self.path}: the weights of layer {name} are missing; found {found}")


def _by_order(path: Path, weights: Weights) -> Network:
    """The Network of a file without configuration."""
    chain = Chain()
    # A nested base may stand after its head: convolutions first, each kind in the file's order.
    for name, arrays in sorted(weights.items(), key=lambda item: item[1][0].ndim == 2):
        first = arrays[0]
        bias = arrays[1] if len(arrays) > 1 else None
        if first.ndim == 4:
            chain.relu()
            chain.convolution(Layer(name, first.transpose(3, 2, 0, 1), bias))
            if len(chain.network.convolutions) - 1 in POOL_AFTER:
                chain.max_pool(name, size=(2, 2), stride=(2, 2), pads_odd_sides=False)
        elif first.ndim == 2:
            chain.relu()
            chain.flatten("hwc")
            chain.dense(Layer(name, first.T, bias))
        else:
            raise WeightsError(
                f"{name}: shape {shape_text(first)}: {path} has weights only, without the model's configuration, which "
                "layers other than convolutions and dense ones need: save the whole model, model.save('model.keras')"
            )
    return chain.network
