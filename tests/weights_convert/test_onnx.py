"""ONNX graphs against the library: PyTorch's exporter, tf2onnx's and SAS DLPy's layouts, all run by onnxruntime."""

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from convert_case import EXACT, PATCH, ROUNDED, STRIDE, WIDTHS, ConvertCase, fp16, patches

METADATA = (f"--stride={STRIDE}", "--window=-160,240")
BLOCK_ENDS = (1, 3, 6, 9, 12)
NAMES = ("conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1", "conv3_2", "conv3_3", "conv4_1", "conv4_2", "conv4_3",
         "conv5_1", "conv5_2", "conv5_3")  # fmt: skip


class Graph:
    """A VGG16 as a graph, node by node. style: dlpy, torch or tf."""

    def __init__(self, style="dlpy", channels=1, hidden=(11, 9), classes=2, softmax=True, before=(), positions=4):
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
        inputs = channels * positions
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

    def insert(self, place, kind, *values, into=0, **attributes):
        """A node behind node `place` (an index, from the end where negative) with further constant inputs; `into` is
        the place of the activations among its inputs."""
        before = self.nodes[place]
        old, new = before.output[0], f"{kind.lower()}_new_{len(self.nodes)}"
        for node in self.nodes:
            node.input[:] = [new if name == old else name for name in node.input]
        inputs = [self.constant(f"{new}_{number}", value) for number, value in enumerate(values)]
        inputs.insert(into, old)
        node = helper.make_node(kind, inputs, [new], name=f"{kind}_{new}", **attributes)
        self.nodes.insert(self.nodes.index(before) + 1, node)
        self.x = new if self.x == old else self.x
        self.logits = new if self.logits == old else self.logits
        return self

    def without_bias(self, place):
        """A layer's bias taken off its node; its values."""
        name = self.nodes[place].input.pop()
        at = next(i for i, tensor in enumerate(self.initialisers) if tensor.name == name)
        return numpy_helper.to_array(self.initialisers.pop(at))

    def flattened(self, *names):
        """In place of the flatten: nodes in a row, each a kind, inputs beside the activations, and attributes."""
        at = next(i for i, node in enumerate(self.nodes) if node.op_type == "Flatten")
        after, current = self.nodes[at].output[0], self.nodes[at].input[0]
        made = []
        for number, (kind, inputs, attributes) in enumerate(names):
            inputs = [current if name is None else name for name in inputs]
            output = after if number == len(names) - 1 else f"flat_{number}"
            made.append(helper.make_node(kind, inputs, [output], name=f"{kind}_{number}", **attributes))
            current = current if kind in ("Shape", "Gather", "Unsqueeze", "Concat") else output
        self.nodes[at : at + 1] = made
        return self

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

    def test_bias_as_a_node_of_its_own(self):
        for shape in ((1, -1, 1, 1), (-1, 1, 1)):
            graph = Graph("torch", softmax=False)
            for place in (28, 10, 0):  # from the back: places in front stay
                graph.insert(place, "Add", graph.without_bias(place).reshape(shape), into=place % 4 // 2)
            graph.insert(-1, "Add", graph.without_bias(-1)[None])
            with self.subTest(shape):
                self.check(graph)

    def test_flattens(self):
        features = WIDTHS[-1] * (PATCH // 32) ** 2
        size = ("Shape", [None], {}), ("Gather", ["flat_0", "first"], {"axis": 0})
        computed = ("Unsqueeze", ["flat_1", "axis"], {}), ("Concat", ["flat_2", "rest"], {"axis": 0})
        computed = (*size, *computed, ("Reshape", [None, "flat_3"], {}))
        for target, nodes in (
            ([0, -1], [("Reshape", [None, "target"], {})]),
            ([-1, features], [("Reshape", [None, "target"], {})]),
            ([], computed),
            ([], [("Identity", [None], {}), ("Flatten", [None], {"axis": 1}), ("Flatten", [None], {})]),
        ):
            graph = Graph("torch", softmax=False)
            graph.constant("target", np.array(target, np.int64))
            for name, value in (("first", 0), ("axis", [0]), ("rest", [-1])):
                graph.constant(name, np.array(value, np.int64))
            with self.subTest(target=target, nodes=[kind for kind, *_ in nodes]):
                self.check(graph.flattened(*nodes))

    def test_global_averages(self):
        for nodes in (
            [("GlobalAveragePool", [None], {}), ("Flatten", [None], {})],
            [("GlobalAveragePool", [None], {}), ("Squeeze", [None, "sides"], {})],
            [("ReduceMean", [None], {"axes": [-1, 2], "keepdims": 0})],
            [("AveragePool", [None], {"kernel_shape": [2, 2], "strides": [2, 2]}), ("Flatten", [None], {})],
        ):
            graph = Graph("torch", softmax=False, positions=1)
            graph.constant("sides", np.array([2, 3]))
            with self.subTest([kind for kind, *_ in nodes]):
                path = self.saved(graph.flattened(*nodes))
                self.converted(path, *METADATA)
                self.assert_logits(graph.run(patches()), EXACT)

    def test_torchvisions_average_to_7_x_7(self):
        """As it is exported: a pool of 2 where the features have 14 x 14 positions, of 1 where the side is open."""
        for side, shape, pool, positions in ((448, 448, 2, 49), (PATCH, "side", 1, 4)):
            graph = Graph("torch", softmax=False, positions=positions)
            graph.inputs[0] = helper.make_tensor_value_info("data", TensorProto.FLOAT, ["n", 1, shape, shape])
            size = {"kernel_shape": [pool, pool], "strides": [pool, pool]}
            self.converted(self.saved(graph.insert(-7, "AveragePool", **size)), *METADATA, f"--patch-size={side}")
            self.assert_logits(graph.run(patches(side)), ROUNDED, side=side)

    def test_steps_that_change_nothing(self):
        graph = Graph("torch", softmax=False)
        graph.nodes[3:5] = [graph.nodes[4], graph.nodes[3]]  # the first max pool before its ReLU: the same function
        graph.nodes[3].input[0], graph.nodes[4].input[0] = graph.nodes[2].output[0], graph.nodes[3].output[0]
        graph.nodes[5].input[0] = graph.nodes[4].output[0]
        graph.nodes[0].ClearField("attribute")
        graph.nodes[0].attribute.append(helper.make_attribute("auto_pad", "SAME_UPPER"))
        graph.insert(1, "Relu").insert(8, "Dropout", np.float32(0.5), np.array(False)).insert(-1, "Identity")
        graph.insert(-1, "Cast", to=TensorProto.FLOAT)
        self.check(graph)

    def test_batch_norm(self):
        graph, rng = Graph("torch", softmax=False), np.random.default_rng(2)
        for place in (28, 10, 0):
            channels = len(graph.without_bias(place))
            draw = lambda low, high: rng.uniform(low, high, channels).astype(np.float32)  # noqa: B023, E731
            graph.insert(place, "BatchNormalization", draw(0.7, 1.3), draw(-0.1, 0.1), draw(-0.1, 0.1), draw(0.5, 1.5))
        self.converted(self.saved(graph), *METADATA)
        self.assert_logits(graph.run(patches()), ROUNDED)

    def test_one_output_with_a_sigmoid(self):
        graph = Graph("torch", classes=1, softmax=False).insert(-1, "Sigmoid")
        graph.logits = graph.nodes[-2].output[0]
        one = graph.run(patches())
        self.converted(self.saved(graph), *METADATA)
        self.assert_logits(np.concatenate([0 * one, one], 1))

    def test_what_is_no_vgg16_is_refused_by_its_name(self):
        """Places of Graph("torch"): Conv 0, Relu 1, Conv 2, Relu 3, MaxPool 4, Conv 5 ... Flatten -7, Gemm -6, Relu
        -5 ... Gemm -2, Softmax -1."""
        one = lambda *shape: np.ones(shape, np.float32)  # noqa: E731
        norm = [np.ones(WIDTHS[0], np.float32)] * 4
        classes = 2
        for says, place, kind, values, attributes in (
            ("adds numbers", 1, "Add", [one(1, WIDTHS[0], 1, 1)], {}),  # after the ReLU
            ("adds numbers", 4, "Add", [one(1, WIDTHS[1], 1, 1)], {}),  # after the pool
            ("adds numbers", 0, "Add", [one(1, WIDTHS[0], 1, 1)], {}),  # a second bias
            ("adds numbers", -2, "Add", [one(classes)], {}),
            ("bias has one for each channel", 0, "Add", [one(PATCH, 1)], {}),  # of each row
            ("bias has one for each channel", 0, "Add", [one()], {}),
            ("no part", 0, "Mul", [one(1)], {}),
            ("no part", 1, "Div", [one(1)], {}),
            ("no part", 1, "Sub", [one(1)], {}),
            ("adds numbers", -1, "Add", [one(classes)], {}),
            ("no part", 0, "LeakyRelu", [], {"alpha": 0.1}),
            ("no part", 0, "Clip", [np.float32(0), np.float32(6)], {}),
            ("no part", 1, "Pad", [np.array([0, 0, 1, 1, 0, 0, 1, 1])], {"mode": "reflect"}),
            ("no part", 1, "Elu", [], {}),
            ("no part", -3, "Cast", [], {"to": TensorProto.INT32}),
            ("no part", 1, "Dropout", [np.float32(0.5), np.array(True)], {}),
            ("batch norm that does not", 1, "BatchNormalization", norm, {}),
            ("batch norm that does not", 4, "BatchNormalization", norm, {}),
            ("no part", 0, "BatchNormalization", norm, {"training_mode": 1}),
            ("max pool after", 1, "MaxPool", [], {"kernel_shape": [2, 2], "strides": [2, 2]}),
            ("average", 3, "AveragePool", [], {"kernel_shape": [2, 2], "strides": [2, 2]}),
            ("average", 1, "GlobalAveragePool", [], {}),
            ("only channels last", -8, "Transpose", [], {"perm": [0, 1, 3, 2]}),
            ("only channels last", -8, "Transpose", [], {"perm": [0, 3, 2, 1]}),
            ("channels-last activations", 3, "Transpose", [], {"perm": [0, 2, 3, 1]}),
            ("flattened", 4, "Flatten", [], {}),
            ("no part", -8, "Flatten", [], {"axis": 2}),
            ("reshapes to", -8, "Reshape", [np.array([-1, WIDTHS[-1], 4])], {}),
            ("a Reshape before it gives", -8, "Reshape", [np.array([-1, WIDTHS[-1]])], {}),
            ("softmax that does not", -3, "Softmax", [], {}),
            ("softmax that does not", -1, "Softmax", [], {}),
            ("no part", -2, "Softmax", [], {"axis": 0}),
            ("sigmoid that does not", 1, "Sigmoid", [], {}),
            ("cuts off", -2, "Relu", [], {}),
            ("follows no layer", -1, "Relu", [], {}),
            ("no part", -2, "Squeeze", [], {}),
            ("no part", -1, "ArgMax", [], {"axis": 1}),
        ):
            graph = Graph("torch").insert(place, kind, *values, **attributes)
            if says == "cuts off":
                graph.nodes.pop()
                graph.x = graph.nodes[-1].output[0]
            if kind == "Reshape":
                del graph.nodes[-7]
                graph.nodes[-6].input[0] = graph.nodes[-7].output[0]
            with self.subTest(kind=kind, place=place):
                self.refused(self.saved(graph), kind if says == "no part" else "", says)

    def test_attributes_that_change_a_layer(self):
        for place, key, value, says in (
            (2, "dilations", [2, 2], "dilations"),
            (2, "strides", [2, 2], "strides"),
            (2, "group", 2, "group 2"),
            (2, "pads", [0, 0, 0, 0], "pads"),
            (2, "pads", [2, 2, 0, 0], "pads"),
            (4, "dilations", [2, 2], "dilations"),
            (4, "kernel_shape", [3, 3], "(3, 3)"),
            (4, "strides", [1, 1], "(1, 1)"),
            (4, "pads", [1, 1, 1, 1], "pads"),
            (-2, "alpha", 0.5, "alpha"),
            (-2, "beta", 0.0, "beta"),
            (-2, "transA", 1, "transA"),
        ):
            graph = Graph("torch")
            node = graph.nodes[place]
            kept = [attribute for attribute in node.attribute if attribute.name != key]
            node.ClearField("attribute")
            node.attribute.extend([*kept, helper.make_attribute(key, value)])
            with self.subTest(key=key, place=place):
                self.refused(self.saved(graph), says)
        graph = Graph("torch")
        graph.nodes[4].attribute.append(helper.make_attribute("ceil_mode", 1))
        self.refused(self.saved(graph), "pad odd sides", status=2)  # 70 pixels have odd sides further on

    def test_graphs_that_are_no_chain(self):
        def refused(change, *texts):
            graph = Graph("torch")
            model = change(graph) or graph.model()
            onnx.save(model, self.folder / "model.onnx")
            self.refused(self.folder / "model.onnx", *texts)

        def output_inside(graph):
            return graph.model(graph.nodes[-5].output[0])

        def two_outputs(graph):
            model = graph.model()
            model.graph.output.append(helper.make_tensor_value_info(graph.logits, TensorProto.FLOAT, None))
            return model

        def residual(graph):
            graph.nodes.insert(
                4, helper.make_node("Add", [graph.nodes[3].output[0], graph.nodes[1].output[0]], ["sum"])
            )
            graph.nodes[5].input[0] = "sum"

        def doubled(graph):
            graph.insert(-3, "Identity")
            graph.nodes[-3] = helper.make_node("Add", [graph.nodes[-4].output[0]] * 2, graph.nodes[-3].output[:])

        def unused(graph):
            graph.nodes.append(helper.make_node("Relu", ["fc8.weight"], ["nowhere"], name="idle"))

        def activations_as_weights(graph):
            node = graph.nodes[-2]
            graph.nodes[-2] = helper.make_node("MatMul", [node.input[1], node.input[0]], node.output[:])

        def another_domain(graph):
            graph.nodes[0].domain = "com.example"

        def shape_of_another(graph):
            graph.flattened(("Shape", [graph.nodes[0].output[0]], {}), ("Reshape", [None, "flat_0"], {}))

        refused(output_inside, "Gemm")
        refused(two_outputs, "2 outputs", "one, the classes")
        refused(residual, "one chain without branches")
        refused(doubled, "Add")
        refused(unused, "idle", "not on the chain")
        refused(activations_as_weights, "MatMul", "input [1]")
        refused(another_domain, "com.example.Conv")
        refused(shape_of_another, "the shape of")

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
