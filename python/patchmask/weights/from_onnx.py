"""ONNX graphs, as PyTorch, tf2onnx and SAS DLPy export them.

The graph is one chain from the input to the output and is walked node by node, whatever the tensors are called (DLPy:
`conv1_1_w` ... `fc8_b`). Dense weights are taken as the node uses them: Gemm with transB [out][in]; Gemm without and
MatMul [in][out], which is DLPy's way. Where a channels-last model was exported, a Transpose before the flatten says so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn, Optional

import onnx
from google.protobuf.message import DecodeError
from onnx import helper, numpy_helper

from .chain import Chain
from .vgg import ADAPTIVE_SIDE, Array, BatchNorm, Layer, Network, WeightsError, shape_text

TO_CHANNELS_LAST, TO_CHANNELS_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]

Attributes = dict[str, Any]  # of a node, as its kind of node defines them


def read(path: Path, features_only: bool = False) -> Network:
    """The Network of an ONNX file (with its external data beside it)."""
    try:
        model = onnx.load(path)
    except (DecodeError, OSError, ValueError, onnx.checker.ValidationError) as error:
        raise WeightsError(
            f"{path}: not an ONNX file, truncated, or its external data are missing: {error}"
        ) from error
    if not model.graph.node:
        raise WeightsError(f"{path}: not an ONNX file: it has no graph")
    return _Walk(model.graph).network(features_only)


class _Walk:
    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph, self.chain = graph, Chain()
        self.constants: dict[str, onnx.TensorProto] = {tensor.name: tensor for tensor in graph.initializer}
        self.makers: dict[str, onnx.NodeProto] = {output: node for node in graph.node for output in node.output}
        self.channels_last = False  # of the activation where the walk is

    def network(self, features_only: bool) -> Network:
        inputs = [value for value in self.graph.input if value.name not in self.constants]
        if len(inputs) != 1:
            names = ", ".join(value.name for value in inputs)
            raise WeightsError(f"{len(inputs)} inputs ({names}): a VGG16 has one, the patches")
        self._input_side(inputs[0])
        current: str = inputs[0].name
        while True:
            users = [node for node in self.graph.node if current in node.input and node.op_type != "Shape"]
            if not users or (features_only and self.chain.has_features):
                return self.chain.network
            if len(users) > 1:
                names = ", ".join(f"{node.op_type} {_name(node)}" for node in users)
                raise WeightsError(f"{current}: used by {names}: a VGG16 is one chain without branches")
            self._node(users[0], current)
            current = users[0].output[0]

    def _input_side(self, value: onnx.ValueInfoProto) -> None:
        sizes = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        if len(sizes) == 4:
            for rows, columns, channels in ((sizes[2], sizes[3], sizes[1]), (sizes[1], sizes[2], sizes[3])):
                if channels in (1, 3) and rows == columns and rows:
                    self.chain.network.input_side = rows
                    return

    def _node(self, node: onnx.NodeProto, current: str) -> None:
        chain, kind, name = self.chain, node.op_type, _name(node)
        attributes = _attributes(node)
        if kind == "Conv":
            self._conv(node, name, attributes)
        elif kind == "BatchNormalization":
            gamma, beta, mean, variance = (self._value(node, index) for index in range(1, 5))
            chain.batch_norm(BatchNorm(name, gamma, beta, mean, variance, attributes.get("epsilon", 1e-5)))
        elif kind == "Relu":
            chain.relu()
        elif kind == "MaxPool":
            self._max_pool(name, attributes)
        elif kind in ("GlobalAveragePool", "ReduceMean", "AveragePool"):
            self._average(node, name, kind, attributes)
        elif kind == "Transpose":
            self._transpose(name, attributes.get("perm"))
        elif kind in ("Flatten", "Reshape"):
            chain.flatten("hwc" if self.channels_last else "chw")
        elif kind in ("Gemm", "MatMul"):
            self._dense(node, name, kind, attributes)
        elif kind in ("Add", "Sub", "Mul", "Div"):
            self._arithmetic(node, name, kind, current)
        elif kind in ("Softmax", "LogSoftmax"):
            chain.end(name, "softmax")
        elif kind == "Sigmoid":
            chain.end(name, "sigmoid")
        elif kind == "ImageScaler":
            self._image_scaler(name, attributes)
        elif kind not in ("Dropout", "Identity", "Squeeze", "Cast"):
            raise chain.unknown(name, kind)

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
            axes = attributes.get("axes")
            axes = self._value(node, 1).tolist() if axes is None and len(node.input) > 1 else list(axes or [])
            if sorted(axis % 4 for axis in axes) != ([1, 2] if self.channels_last else [2, 3]):
                raise WeightsError(f"{name}: ReduceMean over axes {axes}: expected rows and columns")
            return self.chain.global_average(name)
        size, strides = list(attributes["kernel_shape"]), list(attributes.get("strides", [1, 1]))
        side = (self.chain.network.input_side or 0) // 32
        if size == [1, 1] and strides == [1, 1] and side in (0, ADAPTIVE_SIDE):
            self.chain.network.adaptive = True  # torchvision's pooling of 7 x 7 to 7 x 7
        elif size == strides == [side, side]:
            self.chain.global_average(name)
        elif size == strides and size == [side // ADAPTIVE_SIDE] * 2 and side % ADAPTIVE_SIDE == 0:
            self.chain.network.adaptive = True
        else:
            raise WeightsError(
                f"{name}: average pool of {size} every {strides}: expected torchvision's pooling to 7 x 7"
            )

    def _transpose(self, name: str, perm: Optional[list[int]]) -> None:
        expected = TO_CHANNELS_FIRST if self.channels_last or not self.chain.network.convolutions else TO_CHANNELS_LAST
        if list(perm or []) != expected:
            raise WeightsError(f"{name}: perm {perm}: only channels last to channels first and back can be converted")
        self.channels_last = expected == TO_CHANNELS_LAST

    def _dense(self, node: onnx.NodeProto, name: str, kind: str, attributes: Attributes) -> None:
        weight = self._value(node, 1)
        if kind == "Gemm":
            for key, value in dict(alpha=1.0, beta=1.0, transA=0).items():
                if attributes.get(key, value) != value:
                    raise WeightsError(f"{name}: {key} {attributes[key]}: only {value} can be converted")
        if weight.ndim != 2:
            raise WeightsError(f"{node.input[1]}: shape {shape_text(weight)}: a dense layer has two axes")
        weight = weight if attributes.get("transB", 0) else weight.T
        bias = self._value(node, 2).reshape(-1) if len(node.input) > 2 and node.input[2] else None
        self.chain.dense(Layer(node.input[1], weight, bias))

    def _arithmetic(self, node: onnx.NodeProto, name: str, kind: str, current: str) -> None:
        """The bias of the layer before as an Add of its own, or numbers that scale the input."""
        side = 1 if node.input[0] == current else 0
        value = self._value(node, side)
        network = self.chain.network
        layers = network.dense or network.convolutions
        layer = layers[-1] if layers else None
        if layer is None:
            if value.size != 1 or (kind in ("Sub", "Div") and side == 0):
                raise WeightsError(
                    f"{name}: {kind} with {shape_text(value)} before the first convolution: only one number can be "
                    "converted; take it out of the model and give --mean and --std instead"
                )
            number = float(value.reshape(()))
            scale = {"Mul": number, "Div": 1 / number if number else 0.0}.get(kind, 1.0)
            self.chain.scaling(name, scale, {"Add": number, "Sub": -number}.get(kind, 0.0))
        elif kind == "Add" and layer.bias is None and layer.norm is None and value.size == len(layer.weight):
            layer.bias = value.reshape(-1)
        else:
            raise self.chain.unknown(name, kind)

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
