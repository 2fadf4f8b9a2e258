"""ONNX graphs against the library: PyTorch's exporter, tf2onnx's and SAS DLPy's layouts, all run by onnxruntime."""

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from convert_case import EXACT, PATCH, STRIDE, WIDTHS, ConvertCase, fp16, patches

METADATA = (f"--stride={STRIDE}", "--window=-160,240")
BLOCK_ENDS = (1, 3, 6, 9, 12)
NAMES = ("conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1", "conv3_2", "conv3_3", "conv4_1", "conv4_2", "conv4_3",
         "conv5_1", "conv5_2", "conv5_3")  # fmt: skip


class Graph:
    """A VGG16 as a graph, node by node. style: dlpy, torch or tf."""

    def __init__(self, style="dlpy", channels=1, hidden=(11, 9), classes=2, softmax=True, before=()):
        self.style, self.rng = style, np.random.default_rng(8)
        self.nodes, self.initialisers, self.inputs = [], [], []
        shape = [1, PATCH, PATCH, channels] if style == "tf" else [1, channels, PATCH, PATCH]
        shape = shape if style == "dlpy" else ["n", *shape[1:]]
        self.inputs.append(helper.make_tensor_value_info("data", TensorProto.FLOAT, shape))
        self.x = "data"
        for kind, value in before:
            self.add(kind, [self.x, self.constant(f"before{len(self.nodes)}", np.float32(value))])
        if style == "tf":
            self.add("Transpose", [self.x], perm=[0, 3, 1, 2])
        for index, width in enumerate(WIDTHS):
            self.conv(NAMES[index], width, channels)
            channels = width
            if index in BLOCK_ENDS:
                self.add("MaxPool", [self.x], kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 0, 0])
        self.flatten()
        inputs = channels * (PATCH // 32) ** 2
        for index, width in enumerate((*hidden, classes)):
            self.dense(f"fc{index + 6}", inputs, width)
            inputs = width
            if index < len(hidden):
                self.add("Relu", [self.x])
        self.logits = self.x
        if softmax:
            self.add("Softmax", [self.x])

    def add(self, kind, inputs, **attributes):
        self.x = f"{kind.lower()}_{len(self.nodes)}_out"
        self.nodes.append(helper.make_node(kind, inputs, [self.x], name=f"{kind}_{len(self.nodes)}", **attributes))

    def constant(self, name, value):
        self.initialisers.append(numpy_helper.from_array(np.asarray(value), name))
        if self.style == "dlpy":  # it lists weights among the inputs of the graph too
            value = np.asarray(value)
            self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape))
        return name

    def conv(self, name, width, channels):
        weight = self.constant(f"{name}_w", fp16(self.rng, width, channels, 3, 3, fan_in=9 * channels))
        bias = self.constant(f"{name}_b", fp16(self.rng, width, fan_in=800))
        self.add("Conv", [self.x, weight, bias], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[1, 1])
        self.add("Relu", [self.x])

    def flatten(self):
        if self.style == "tf":
            self.add("Transpose", [self.x], perm=[0, 2, 3, 1])
            shape = numpy_helper.from_array(np.array([-1, WIDTHS[-1] * (PATCH // 32) ** 2]), "shape")
            self.initialisers.append(shape)
            self.add("Reshape", [self.x, "shape"])
        elif self.style == "torch":
            self.add("Flatten", [self.x])

    def dense(self, name, inputs, width):
        weight, bias = fp16(self.rng, inputs, width, fan_in=inputs), fp16(self.rng, width, fan_in=800)
        if self.style == "dlpy":
            self.add("Flatten", [self.x], axis=0)
            self.add("Gemm", [self.x, self.constant(f"{name}_w", weight), self.constant(f"{name}_b", bias)])
        elif self.style == "torch":
            weight = np.ascontiguousarray(weight.T)
            names = [self.constant(f"{name}.weight", weight), self.constant(f"{name}.bias", bias)]
            self.add("Gemm", [self.x, *names], transB=1)
        else:
            self.add("MatMul", [self.x, self.constant(f"{name}/kernel", weight)])
            self.add("Add", [self.x, self.constant(f"{name}/bias", bias)])

    def model(self, output=None):
        output = helper.make_tensor_value_info(output or self.x, TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "vgg16", self.inputs, [output], self.initialisers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        model.ir_version = 8
        return model

    def run(self, x):
        """Logits by onnxruntime."""
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # DLPy lists weights as inputs, and onnxruntime says so each time
        session = onnxruntime.InferenceSession(self.model(self.logits).SerializeToString(), options)
        x = x.transpose(0, 2, 3, 1) if self.style == "tf" else x
        return np.concatenate([session.run(None, {"data": np.ascontiguousarray(one[None])})[0] for one in x])


class Onnx(ConvertCase):
    def saved(self, graph, name="model.onnx"):
        onnx.save(graph.model(), self.folder / name)
        return self.folder / name

    def check(self, graph, x=None):
        self.converted(self.saved(graph), *METADATA)
        self.assert_logits(graph.run(patches() if x is None else x), EXACT)

    def test_dlpy(self):
        graph = Graph("dlpy", hidden=(11, 9), channels=3)
        self.assertIn("conv1_1_w", [tensor.name for tensor in graph.initialisers])
        self.check(graph, patches(channels=3))

    def test_pytorch_layout(self):
        self.check(Graph("torch", softmax=False))

    def test_neither_names_nor_the_order_of_tensors_matter(self):
        graph = Graph("torch")
        expected = graph.run(patches())
        names = {tensor.name: f"t{index * 7 % 37}" for index, tensor in enumerate(graph.initialisers)}
        for tensor in graph.initialisers:
            tensor.name = names[tensor.name]
        for node in graph.nodes:
            node.input[:] = [names.get(name, name) for name in node.input]
        graph.initialisers.reverse()
        self.converted(self.saved(graph), *METADATA)
        self.assert_logits(expected, EXACT)

    def test_channels_last_layout_of_tf2onnx(self):
        self.check(Graph("tf", channels=3), patches(channels=3))

    def test_scaling_in_the_graph(self):
        self.check(Graph("torch", before=(("Mul", 2.5), ("Sub", 0.75))))

    def test_torchs_own_exporter(self):
        try:
            import torch

            import test_torch
        except ImportError as missing:
            self.skipTest(f"SKIPPED: {missing}")
        model = test_torch.network(channels=1, hidden=(14,))
        model.avgpool = torch.nn.Identity()
        side = PATCH // 32
        model.classifier[0] = torch.nn.Linear(WIDTHS[-1] * side * side, 14)
        model.classifier[0].weight.data = model.classifier[0].weight.data.half().float()
        model.classifier[0].bias.data = model.classifier[0].bias.data.half().float()
        path = self.folder / "exported.onnx"
        try:
            torch.onnx.export(model, torch.zeros(1, 1, PATCH, PATCH), path, dynamo=False)
        except Exception as failed:  # the old exporter leaves torch some day; the new one needs onnxscript
            self.skipTest(f"SKIPPED: torch.onnx.export: {failed}")
        self.converted(path, *METADATA)
        self.assert_logits(test_torch.run(model, patches()))

    def test_patch_size_comes_from_the_graph(self):
        self.assertIn(f"patchmask.patch_size = {PATCH}", self.converted(self.saved(Graph())))

    def test_refusals(self):
        graph = Graph()
        graph.nodes[1].op_type = "Tanh"
        self.refused(self.saved(graph), "Tanh", "no part of a VGG16")
        graph = Graph()
        del graph.nodes[4]  # a max pool
        graph.nodes[4].input[0] = graph.nodes[3].output[0]
        self.refused(self.saved(graph), "conv2_1_w", "no max pool before it")
        graph = Graph()
        graph.initialisers[2].CopyFrom(numpy_helper.from_array(np.zeros((6, 5, 3, 3), np.float32), "conv1_2_w"))
        self.refused(self.saved(graph), "conv1_2_w", "[6, 5, 3, 3]", "[*, 6, 3, 3]")
        graph = Graph()
        graph.initialisers.pop(0)
        self.refused(self.saved(graph), "conv1_1_w", "one, the patches")
        graph = Graph()
        graph.nodes.insert(0, helper.make_node("ImageScaler", ["raw"], ["data"], bias=[103.9], scale=1.0))
        graph.inputs[0].name = "raw"
        self.refused(self.saved(graph), "ImageScaler", "--mean 0.407451 --std 0.00392157")
        (self.folder / "text.onnx").write_text("no graph")
        self.refused(self.folder / "text.onnx", "text.onnx", "not an ONNX file")
