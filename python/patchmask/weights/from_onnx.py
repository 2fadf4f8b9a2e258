"""ONNX graphs, as PyTorch, tf2onnx and SAS DLPy export them.

The graph is one chain from the input to the output and is walked node by node, whatever the tensors are called
(DLPy: `conv1_1_w` ... `fc8_b`); a node that is neither on the chain nor makes weights or shapes for it is refused.
Dense weights are taken as the node uses them: Gemm with transB [out][in]; Gemm without and MatMul [in][out], which is
DLPy's way. Where a channels-last model was exported, a Transpose before the flatten says so.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal, NoReturn, Optional

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from .chain import Chain
from .vgg import ADAPTIVE_SIDE, Array, BatchNorm, Layer, Network, WeightsError, shape_text

TO_CHANNELS_LAST, TO_CHANNELS_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]
FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE)
PATCHES, SIDE = 17, 5  # of activations from whose shape a graph computes another

Attributes = dict[str, Any]  # of a node, as its kind of node defines them


def read(path: Path, features_only: bool = False) -> Network:
    """The Network of an ONNX file (with its external data beside it)."""
    try:
        model = onnx.load(path)
    except (DecodeError, OSError, ValueError, onnx.checker.ValidationError) as error:
        raise WeightsError(f"{path}: not an ONNX file, truncated, or its external data are missing: {error}") from error
    if not model.graph.node:
        raise WeightsError(f"{path}: not an ONNX file: it has no graph")
    return _Walk(model).network(features_only)


class _Walk:
    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph, self.opsets, self.chain = model.graph, model.opset_import, Chain()
        graph = model.graph
        self.constants: dict[str, onnx.TensorProto] = {tensor.name: tensor for tensor in graph.initializer}
        self.makers: dict[str, onnx.NodeProto] = {output: node for node in graph.node for output in node.output}
        self.used: set[str] = set()  # first outputs of the nodes that were walked or made weights or shapes
        self.reshaped_to = -1  # features, where a Reshape says how many
        self.channels_last: Optional[bool] = None  # of the activation where the walk is; None: not known yet

    def network(self, features_only: bool) -> Network:
        inputs = [value for value in self.graph.input if value.name not in self.constants]
        for values, kind in ((inputs, "inputs"), (self.graph.output, "outputs")):
            if len(values) != 1:
                names = ", ".join(value.name for value in values)
                one = "one, the patches" if kind == "inputs" else "one, the classes"
                raise WeightsError(f"{len(values)} {kind} ({names}): a VGG16 has {one}")
        self.batch = self._sizes(inputs[0])[0]
        current: str = inputs[0].name
        while current != self.graph.output[0].name:
            users = [node for node in self.graph.node if current in node.input and node.op_type != "Shape"]
            if features_only and self.chain.has_features:
                return self.chain.network
            if len(users) != 1:
                names = ", ".join(f"{node.op_type} {_name(node)}" for node in users) or "nothing"
                raise WeightsError(f"{current}: used by {names}: a VGG16 is one chain without branches")
            self._node(users[0], current)
            current = users[0].output[0]
            self.used.add(current)
        for node in self.graph.node:
            if node.op_type != "Constant" and node.output[0] not in self.used:
                raise WeightsError(f"{_name(node)}: {node.op_type}: not on the chain from the input to the output")
        return self.chain.complete()

    def _sizes(self, value: onnx.ValueInfoProto) -> list[int]:
        """Of the input, 0 where they are open; also tells the network its side."""
        sizes = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        if not sizes:
            return [0]
        if len(sizes) != 4 or (all(sizes) and sizes[2] not in (sizes[1], sizes[3])):
            raise WeightsError(f"{value.name}: shape {sizes}: must be patches, channels and two equal sides")
        for rows, columns, channels in ((sizes[2], sizes[3], sizes[1]), (sizes[1], sizes[2], sizes[3])):
            if channels in (1, 3) and rows == columns and rows:
                self.chain.network.input_side = rows
                break
        return sizes

    def _node(self, node: onnx.NodeProto, current: str) -> None:
        chain, kind, name = self.chain, node.op_type, _name(node)
        attributes = _attributes(node)
        order: Literal["chw", "hwc"] = "hwc" if self.channels_last else "chw"
        places = [place for place, given in enumerate(node.input) if given == current]
        if node.domain not in ("", "ai.onnx") and kind != "ImageScaler":
            raise chain.unknown(name, f"{node.domain}.{kind}")
        if len(places) != 1 or (places[0] != 0 and kind not in ("Add", "Mul")):
            raise chain.unknown(name, f"{kind} with the activations as input {places}")
        if kind in ("Conv", "BatchNormalization", "MaxPool", "GlobalAveragePool", "AveragePool"):
            if self.channels_last:
                raise WeightsError(f"{name}: {kind} of channels-last activations: a Transpose is missing")
            self.channels_last = False
        if kind == "Conv":
            self._conv(node, name, attributes)
        elif kind == "BatchNormalization" and attributes.get("spatial", 1) == 1 and not attributes.get("training_mode"):
            gamma, beta, mean, variance = (self._value(node, index) for index in range(1, 5))
            chain.batch_norm(BatchNorm(name, gamma, beta, mean, variance, attributes.get("epsilon", 1e-5)))
        elif kind == "Relu":
            chain.relu(name)
        elif kind == "MaxPool":
            self._max_pool(name, attributes)
        elif kind in ("GlobalAveragePool", "ReduceMean", "AveragePool"):
            self._average(node, name, kind, attributes)
        elif kind == "Transpose":
            self._transpose(name, attributes.get("perm"))
        elif kind == "Flatten" and (attributes.get("axis", 1) == 1 or (attributes["axis"] == 0 and self.batch == 1)):
            chain.flatten(name, order)
        elif kind == "Reshape":
            self._reshape(name, self._shape(node.input[1], current))
        elif kind == "Squeeze" and chain.network.global_average and not chain.flat:
            axes = self._axes(node, attributes)
            if axes != self._sides():
                raise WeightsError(f"{name}: Squeeze of axes {axes}: expected rows and columns")
            chain.flatten(name, order)
        elif kind in ("Gemm", "MatMul"):
            self._dense(node, name, kind, attributes)
        elif kind in ("Add", "Sub", "Mul", "Div"):
            self._arithmetic(node, name, kind, current)
        elif kind in ("Softmax", "LogSoftmax") and attributes.get("axis", 1) in (1, -1):
            chain.end(name, "softmax")
        elif kind == "Sigmoid":
            chain.end(name, "sigmoid")
        elif kind == "ImageScaler":
            self._image_scaler(name, attributes)
        elif kind == "Dropout" and (len(node.input) < 3 or not node.input[2] or not self._value(node, 2)):
            pass  # not in training: nothing
        elif kind != "Identity" and not (kind == "Cast" and attributes["to"] in FLOATS):
            raise chain.unknown(name, " ".join([kind, *(f"{key}={value}" for key, value in attributes.items())]))

    def _sides(self) -> list[int]:
        """The axes of rows and columns."""
        return [1, 2] if self.channels_last else [2, 3]

    def _axes(self, node: onnx.NodeProto, attributes: Attributes) -> list[int]:
        """An attribute of old operators, an input of newer ones."""
        given = attributes["axes"] if "axes" in attributes or len(node.input) < 2 else self._value(node, 1).tolist()
        return sorted(axis % 4 for axis in given)

    def _shape(self, name: str, current: str) -> list[int]:
        """The target of a Reshape, stored or computed from the shape of the activation, which is that of 17 patches."""
        stored, nodes, wanted = [], set(), [name]
        while wanted:
            value = wanted.pop()
            maker = self.makers.get(value)
            if maker is None:
                stored.append(numpy_helper.from_array(self._constant(value, "a Reshape"), value))
                continue
            self.used.add(maker.output[0])
            if maker.op_type == "Shape" and maker.input[0] == current and not maker.attribute:
                stored.append(numpy_helper.from_array(np.array([PATCHES, *self._patch_shape(SIDE)]), value))
            elif maker.op_type == "Shape":
                raise WeightsError(f"{_name(maker)}: the shape of {maker.input[0]} decides how {current} is reshaped")
            else:
                nodes.add(maker.output[0])
                wanted += maker.input
        output = helper.make_tensor_value_info(name, onnx.TensorProto.INT64, None)
        chosen = [node for node in self.graph.node if node.output[0] in nodes]
        graph = helper.make_graph(chosen, "shape", [], [output], stored)
        model = helper.make_model(graph, opset_imports=self.opsets)
        return [int(size) for size in ReferenceEvaluator(model).run(None, {})[0]]

    def _patch_shape(self, side: int) -> list[int]:
        """Of the activation of one patch; the graph need not say its side."""
        features = self.chain.features
        if self.chain.flat:
            return [features]
        return [side, side, features] if self.channels_last else [features, side, side]

    def _reshape(self, name: str, target: list[int]) -> None:
        """Refuses all but [patches][features]; a stored number of features is checked with the dense layer."""
        patches, features = target if len(target) == 2 else (-1, -1)
        computed, flat = patches == PATCHES, self.chain.flat
        known = math.prod(self._patch_shape(SIDE)) if computed or flat else features
        if patches not in (-1, 0, 1, self.batch, PATCHES) or features not in (-1, known) or patches == features == -1:
            raise WeightsError(f"{name}: reshapes to {target}: only a flatten to patches and features can be converted")
        self.reshaped_to = self.reshaped_to if computed or flat else features
        self.chain.flatten(name, "hwc" if self.channels_last else "chw")

    def _conv(self, node: onnx.NodeProto, name: str, attributes: Attributes) -> None:
        same = _pads_same(attributes)
        wanted: Attributes = dict(pads=[1, 1, 1, 1], strides=[1, 1], dilations=[1, 1], group=1)
        defaults = {**wanted, "pads": [1, 1, 1, 1] if same else [0, 0, 0, 0]}
        for key, value in wanted.items():
            found = attributes.get(key, defaults[key])
            found = defaults[key] if key == "pads" and same else found
            found = list(found) if isinstance(value, list) else found
            if found != value:
                raise WeightsError(f"{name}: {key} {found}: VGG16's convolutions have {value}")
        bias = self._value(node, 2) if len(node.input) > 2 and node.input[2] else None
        self.chain.convolution(Layer(node.input[1], self._value(node, 1), bias))

    def _max_pool(self, name: str, attributes: Attributes) -> None:
        pads = list(attributes.get("pads", [0, 0, 0, 0]))
        odd = _pads_same(attributes) or attributes.get("ceil_mode", 0) == 1
        if list(attributes.get("dilations", [1, 1])) != [1, 1]:
            raise WeightsError(f"{name}: dilations {attributes['dilations']}: VGG16's max pools have none")
        if not odd and pads != [0, 0, 0, 0]:
            # One more row and column behind, as "same" writes it: like ceil, it matters for odd sides only.
            if pads[:2] != [0, 0] or max(pads) > 1:
                raise WeightsError(f"{name}: pads {pads}: VGG16's max pools have none")
            odd = True
        size, stride = attributes["kernel_shape"], attributes.get("strides", [1, 1])
        self.chain.max_pool(name, size=size, stride=stride, pads_odd_sides=odd)

    def _average(self, node: onnx.NodeProto, name: str, kind: str, attributes: Attributes) -> None:
        if kind == "GlobalAveragePool":
            return self.chain.global_average(name)
        if kind == "ReduceMean":
            axes = self._axes(node, attributes)
            if axes != self._sides():
                raise WeightsError(f"{name}: ReduceMean over axes {axes}: expected rows and columns")
            self.chain.global_average(name)
            if not attributes.get("keepdims", 1):
                self.chain.flatten(name, "chw")
            return None
        size, strides = list(attributes["kernel_shape"]), list(attributes.get("strides", [1, 1]))
        side = (self.chain.network.input_side or 0) // 32
        plain = not any(attributes.get("pads", [])) and not _pads_same(attributes) and not attributes.get("ceil_mode")
        if plain and size == [1, 1] and strides == [1, 1] and side in (0, ADAPTIVE_SIDE):
            self.chain.adaptive_average(name)  # torchvision's pooling of 7 x 7 to 7 x 7
        elif plain and size == strides == [side, side]:
            self.chain.global_average(name)
        elif plain and size == strides and size == [side // ADAPTIVE_SIDE] * 2 and side % ADAPTIVE_SIDE == 0:
            self.chain.adaptive_average(name)
        else:
            raise WeightsError(
                f"{name}: average pool of {size} every {strides}: expected torchvision's pooling to 7 x 7"
            )

    def _transpose(self, name: str, perm: Optional[list[int]]) -> None:
        turned = {tuple(TO_CHANNELS_FIRST): False, tuple(TO_CHANNELS_LAST): True}.get(tuple(perm or []))
        if turned is None or turned == self.channels_last or self.chain.flat:
            raise WeightsError(f"{name}: perm {perm}: only channels last to channels first and back can be converted")
        self.channels_last = turned

    def _dense(self, node: onnx.NodeProto, name: str, kind: str, attributes: Attributes) -> None:
        weight = self._value(node, 1)
        if kind == "Gemm":
            for key, value in dict(alpha=1.0, beta=1.0, transA=0).items():
                if attributes.get(key, value) != value:
                    raise WeightsError(f"{name}: {key} {attributes[key]}: only {value} can be converted")
        if weight.ndim != 2:
            raise WeightsError(f"{node.input[1]}: shape {shape_text(weight)}: a dense layer has two axes")
        weight = weight if attributes.get("transB", 0) else weight.T
        if not self.chain.network.dense and self.reshaped_to not in (-1, weight.shape[1]):
            raise WeightsError(
                f"{name}: takes {weight.shape[1]} features, a Reshape before it gives {self.reshaped_to}"
            )
        bias = self._value(node, 2) if len(node.input) > 2 and node.input[2] else None
        self.chain.dense(Layer(node.input[1], weight))
        if bias is not None:
            self._bias(name, bias)

    def _bias(self, name: str, values: Array) -> None:
        """Numbers that are added: one for each channel or output, as the axes of the activations have it."""
        if values.ndim == 0 or [1, *self._patch_shape(1)][-values.ndim :] != list(values.shape):
            raise WeightsError(f"{name}: adds values of shape {shape_text(values)}: a bias has one for each channel")
        self.chain.bias(name, values.reshape(-1))

    def _arithmetic(self, node: onnx.NodeProto, name: str, kind: str, current: str) -> None:
        """The bias of the layer before as an Add of its own, or numbers that scale the input."""
        value = self._value(node, 1 if node.input[0] == current else 0)
        if self.chain.network.convolutions and kind == "Add":
            return self._bias(name, value)
        if self.chain.network.convolutions:
            raise self.chain.unknown(name, kind)
        if value.size != 1 or value.ndim > 4:
            raise WeightsError(
                f"{name}: {kind} with {shape_text(value)} before the first convolution: only one number can be "
                "converted; take it out of the model and give --mean and --std instead"
            )
        number = float(value.reshape(()))
        scale = {"Mul": number, "Div": 1 / number if number else 0.0}.get(kind, 1.0)
        return self.chain.scaling(name, scale, {"Add": number, "Sub": -number}.get(kind, 0.0))

    def _image_scaler(self, name: str, attributes: Attributes) -> NoReturn:
        scale, offsets = attributes.get("scale", 1.0), list(attributes.get("bias", []))
        means = ",".join(f"{offset / (255 * scale):.6g}" for offset in offsets)
        raise WeightsError(
            f"{name}: ImageScaler with scale {scale:g} and offsets {offsets}: ONNX adds them, SAS subtracts them. Take "
            "the node out (DLPy: offsets=None, scale=1 in InputLayer before deploy) and give --mean and --std for "
            f"intensities of 0..1: SAS's meaning for pixels of 0..255 is --mean {means} --std {1 / (255 * scale):.6g}"
        )

    def _value(self, node: onnx.NodeProto, index: int) -> Array:
        """A constant input of a node as an array."""
        return self._constant(node.input[index], f"{node.op_type} {_name(node)}")

    def _constant(self, name: str, user: str) -> Array:
        maker = self.makers.get(name)
        attributes = _attributes(maker) if maker is not None else {}
        stored: Optional[onnx.TensorProto] = self.constants.get(name)
        if maker is not None:
            self.used.add(maker.output[0])
        if maker is not None and maker.op_type == "Constant":
            stored = attributes.get("value")
        if stored is not None:
            array: Array = numpy_helper.to_array(stored)
            return array
        if maker is not None and maker.op_type == "Identity":
            return self._constant(maker.input[0], user)
        if maker is not None and maker.op_type == "Transpose":
            return self._constant(maker.input[0], user).transpose(attributes.get("perm"))
        made = f"made by {maker.op_type}" if maker is not None else "an input of the graph"
        raise WeightsError(
            f"{name}: weights of {user} are {made}, not stored: export with constants folded, unquantised"
        )


def _name(node: onnx.NodeProto) -> str:
    return str(node.name or node.output[0])


def _attributes(node: onnx.NodeProto) -> Attributes:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _pads_same(attributes: Attributes) -> bool:
    """True if zeros are added so that sides stay the same (stride 1) or are rounded up."""
    return attributes.get("auto_pad", b"NOTSET") in (b"SAME_UPPER", b"SAME_LOWER")
