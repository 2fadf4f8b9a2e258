"""Keras models: .keras (Keras 3), .h5 of whole models and of weights (Keras 2 and 3). Needs h5py, not Keras.

    kernels [rows][columns][in][out]   -> [out][in][rows][columns]
    dense   [in][out]                  -> [out][in]
    flatten [rows][columns][channels]  -> the first dense layer's columns in [channels][rows][columns], by vgg.tensors

The file's configuration gives the layers, how they are connected, and everything that is checked: one chain, in which
each layer is part of a VGG16 or changes nothing at inference. A file of weights alone has none: layers then come in the
file's order, or in that of their names with numbers counted as numbers, and are taken for a VGG16: convolutions, a
flatten, dense layers.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any, Iterator, Optional, TypedDict, Union

import h5py
import numpy as np

from .chain import Chain
from .vgg import POOL_AFTER, Array, BatchNorm, Layer, Network, WeightsError, shape_text

NO_PART = {"InputLayer", "Dropout", "SpatialDropout2D", "GaussianNoise", "ActivityRegularization", "RandomFlip",
           "RandomRotation", "RandomZoom", "RandomTranslation", "RandomContrast", "RandomBrightness"}  # fmt: skip
NESTED = {"Sequential", "Functional", "Model"}
GROUPS = {"Conv2D": "conv2d", "BatchNormalization": "batch_normalization", "Dense": "dense"}  # class -> group of arrays

Settings = dict[str, Any]  # a layer's, as its class writes them into the JSON of the configuration
Weights = dict[str, list[Array]]  # layer name -> its arrays in Keras' order; layers in the file's order


class LayerConfig(TypedDict, total=False):
    """A layer in the configuration; the model itself and models inside it have LayerConfigs in `config`."""

    class_name: str
    module: str  # of Keras 3, where the class comes from
    inbound_nodes: list[Any]  # of Functional models' layers: what they are called with
    name: str  # of Functional models' layers; Sequential ones have it in `config`
    config: Union[Settings, list[LayerConfig]]


def read(path: Path, features_only: bool = False) -> Network:
    """The Network of a .keras or .h5 file."""
    config, weights = _open(path)
    if config is None:
        return _by_order(path, weights)
    walk = _Walk(path, weights, features_only)
    try:
        walk.layers(config)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise WeightsError(f"{path}: its configuration is not understood ({error!r}): a subclassed model?") from error
    return walk.chain.network if features_only else walk.chain.complete()


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
        if parts[-1] != "vars" or not len(file[name]) or {"optimizer", "seed_generator"} & set(parts):
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


def _sources(node: Any) -> list[str]:
    """The layers that an entry of a configuration names: ["name", 0, 0] in Keras 2, within keras_history in Keras 3."""
    if isinstance(node, dict):
        return [name for value in node.values() for name in _sources(value)]
    if not isinstance(node, (list, tuple)):
        return []
    if len(node) >= 3 and isinstance(node[0], str) and all(isinstance(number, int) for number in node[1:3]):
        return [node[0]]
    return [name for value in node for name in _sources(value)]


def _arguments(node: Any) -> Iterator[str]:
    """Names of what a layer is called with beside its input, and is neither None nor False."""
    calls = [node["kwargs"]] if isinstance(node, dict) else [part[3] for part in node if len(part) > 3]
    return (f"{key}={value}" for given in calls for key, value in given.items() if value)


def _connected(name: str, inside: Settings) -> list[LayerConfig]:
    """The layers of a Functional configuration from its input to its output; a WeightsError where they branch."""
    layers: list[LayerConfig] = inside["layers"]
    ends = [_sources(inside[key]) for key in ("input_layers", "output_layers")]
    chain: list[LayerConfig] = []
    wanted: list[str] = []  # the sources of the next layer
    while len(chain) < len(layers):
        following = [layer for layer in layers if _sources(layer["inbound_nodes"]) == wanted]
        if len(following) != 1 or len(following[0]["inbound_nodes"]) > 1:
            names = ", ".join(layer["name"] for layer in following) or "nothing"
            raise WeightsError(f"{name}: {(wanted or ['its input'])[0]} goes to {names}: a VGG16 is one chain")
        for call in following[0]["inbound_nodes"]:
            for argument in _arguments(call):
                raise WeightsError(f"{following[0]['name']}: is called with {argument}: only inference converts")
        chain += following
        wanted = [following[0]["name"]]
    if ends != [[chain[0]["name"]], wanted]:
        raise WeightsError(f"{name}: from {ends[0]} to {ends[1]}: a VGG16 goes from its one input to its last layer")
    return chain


class _Walk:
    """The layers of a configuration in order, into a Chain."""

    def __init__(self, path: Path, weights: Weights, features_only: bool) -> None:
        self.path, self.weights, self.features_only, self.chain = path, weights, features_only, Chain()
        self.by_class: Counter[str] = Counter()  # how many layers of each class there are
        self.numbered: dict[int, str] = {}  # id of a layer's settings -> what files without names call its group

    def layers(self, model: LayerConfig) -> None:
        """All layers of a Sequential or Functional configuration, nested ones too."""
        inside = model["config"]
        layers: list[LayerConfig] = inside["layers"] if isinstance(inside, dict) else inside  # old Sequentials: lists
        for layer in layers:
            kind = layer["class_name"]
            number = f"_{self.by_class[kind]}" if self.by_class[kind] else ""
            self.numbered[id(layer["config"])] = GROUPS.get(kind, kind) + number
            self.by_class[kind] += 1
        if isinstance(inside, dict) and "input_layers" in inside:
            layers = _connected(inside.get("name", model["class_name"]), inside)
        for layer in layers:
            if self.features_only and self.chain.has_features:
                return
            kind, settings = layer["class_name"], layer["config"]
            name = layer.get("name") or (settings.get("name", kind) if isinstance(settings, dict) else kind)
            if not str(layer.get("module") or "keras").startswith("keras"):
                raise self.chain.unknown(name, f"{layer['module']}.{kind}")
            if kind in NESTED:
                self.layers(layer)
            elif isinstance(settings, dict):
                self.layer(kind, name, settings)
            else:
                raise self.chain.unknown(name, kind)

    def layer(self, kind: str, name: str, settings: Settings) -> None:
        chain = self.chain
        if settings.get("data_format") == "channels_first":
            raise WeightsError(f"{name}: data_format channels_first: save the model with channels_last")
        shape = settings.get("batch_shape") or settings.get("batch_input_shape")
        if shape and len(shape) == 4 and shape[1] != shape[2]:
            raise WeightsError(f"{name}: an input of {shape[1]} x {shape[2]} pixels: patches have equal sides")
        if shape and len(shape) == 4 and chain.network.input_side is None:
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
            chain.relu(name)
        elif kind == "Activation":
            self.activation(name, settings["activation"])
        elif kind == "Softmax" and settings.get("axis", -1) in (-1, 1):
            chain.end(name, "softmax")
        elif kind == "MaxPooling2D":
            same = settings["padding"] == "same"
            strides = settings["strides"] or settings["pool_size"]
            chain.max_pool(name, size=settings["pool_size"], stride=strides, pads_odd_sides=same)
        elif kind == "GlobalAveragePooling2D":
            chain.global_average(name)
            if not settings.get("keepdims"):
                chain.flatten(name, "hwc")
        elif kind == "Flatten":
            chain.flatten(name, "hwc")
        elif kind == "Dense":
            weight, bias = self.arrays(name, settings, 2)
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
        weight, bias = self.arrays(name, settings, 4)
        self.chain.convolution(Layer(name, weight.transpose(3, 2, 0, 1), bias))
        self.activation(name, settings["activation"])

    def batch_norm(self, name: str, settings: Settings) -> BatchNorm:
        values = self.find(name, settings)
        if settings.get("axis", -1) not in (-1, 3, [-1], [3]):
            raise WeightsError(f"{name}: axis {settings['axis']}: a batch norm over channels, the last axis, converts")
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
            self.chain.relu(name)
        elif activation == "softmax":
            self.chain.end(name, "softmax")
        elif activation == "sigmoid":
            self.chain.end(name, "sigmoid")
        elif activation not in ("linear", None):
            raise WeightsError(
                f"{name}: activation {activation}: VGG16 has relu, and softmax or one sigmoid at the end"
            )

    def arrays(self, name: str, settings: Settings, axes: int) -> tuple[Array, Optional[Array]]:
        """(kernel, bias or None) of a convolution or dense layer."""
        found, use_bias = self.find(name, settings), settings["use_bias"]
        if len(found) != 1 + use_bias or found[0].ndim != axes:
            shapes = ", ".join(map(shape_text, found))
            bias = " and a bias" if use_bias else ""
            raise WeightsError(f"{name}: arrays of shapes {shapes}: expected a kernel of {axes} axes{bias}")
        return found[0], found[1] if use_bias else None

    def find(self, name: str, settings: Settings) -> list[Array]:
        """The arrays of a layer: by its name, or by class and number where groups are called conv2d, conv2d_1 ..."""
        for key in (name, self.numbered[id(settings)]):
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
        if len(arrays) < 3 and first.ndim in (2, 4) and chain.network.convolutions:
            chain.relu(name)  # which such a file does not say
        if len(arrays) < 3 and first.ndim == 4:
            chain.convolution(Layer(name, first.transpose(3, 2, 0, 1), bias))
            if len(chain.network.convolutions) - 1 in POOL_AFTER:
                chain.max_pool(name, size=(2, 2), stride=(2, 2), pads_odd_sides=False)
        elif len(arrays) < 3 and first.ndim == 2:
            chain.flatten(name, "hwc")
            chain.dense(Layer(name, first.T, bias))
        else:
            raise WeightsError(
                f"{name}: {len(arrays)} arrays, shape {shape_text(first)}: {path} has weights only, without the "
                "model's configuration, which layers other than convolutions and dense ones need: save the whole "
                "model, model.save('model.keras')"
            )
    return chain.network
