"""Starting from torchvision's and Keras' VGG16, with their names and shapes and random weights."""

import imagenet
import onnx
import torch
from onnx import helper, numpy_helper
from torch import nn
from torchvision.models import vgg
from training_case import TrainingCase
from vgg import FULL_WIDTHS

FULL = ["--widths", "full", "--batch", 4, "--steps", 1, "--mine", 0, "--epochs", 1]


def convolutions(batch_norm=False):
    """torchvision's layers, without the dense ones that take half a gigabyte."""
    torch.manual_seed(3)
    layers = vgg.make_layers(vgg.cfgs["D"], batch_norm)
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.normal_(layer.bias, std=0.1)
        elif isinstance(layer, nn.BatchNorm2d):
            for values in (layer.weight, layer.running_var):
                nn.init.uniform_(values, 0.5, 1.5)
            for values in (layer.bias, layer.running_mean):
                nn.init.normal_(values, std=0.1)
    return layers.eval()


def file_of(layers, path):
    dense = {"classifier.6.weight": torch.zeros(1000, 8), "classifier.6.bias": torch.zeros(1000)}
    torch.save({f"features.{name}": value for name, value in layers.state_dict().items()} | dense, path)
    return path


def onnx_of(layers, path):
    """As a base of Keras with a head that no VGG16 has."""
    nodes, stored, current = [], [], "image"

    def add(kind, *values, **attributes):
        nonlocal current
        names = [f"{len(nodes)}_{k}" for k in range(len(values))]
        stored.extend(numpy_helper.from_array(value.numpy(), name) for name, value in zip(names, values))
        nodes.append(helper.make_node(kind, [current, *names], [f"y{len(nodes)}"], name=f"n{len(nodes)}", **attributes))
        current = nodes[-1].output[0]

    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            add("Conv", layer.weight.detach(), layer.bias.detach(), pads=[1, 1, 1, 1], kernel_shape=[3, 3])
        elif isinstance(layer, nn.ReLU):
            add("Relu")
        else:
            add("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    add("GlobalAveragePool")
    add("Tanh")
    value = helper.make_tensor_value_info
    image, end = value("image", 1, [1, 3, 224, 224]), value(current, 1, None)
    onnx.save(helper.make_model(helper.make_graph(nodes, "vgg16", [image], [end], stored)), path)
    return path


class Imagenet(TrainingCase):
    def started(self, layers, *options):
        """A training's network before the first step."""
        path = file_of(layers, self.folder / "vgg16.pth")
        training = self.training(self.lits, *FULL, "--imagenet", path, *options)
        self.assertEqual((training.intensity.mean, training.intensity.std), (imagenet.MEAN, imagenet.STD))
        return training.model.eval()

    @torch.no_grad()
    def assert_sees_the_same(self, layers, network, last, taken=(imagenet.MEANS, imagenet.DEVIATIONS)):
        """Three normalised channels in torchvision and one here give the same, except on the rim: zeros differ."""
        grey = torch.rand(2, 1, 20, 20)
        means, deviations = (torch.tensor(v)[:, None, None] for v in taken)
        expected = layers[:last]((grey - means) / deviations)
        blocks = [k for k, layer in enumerate(network.features) if isinstance(layer, nn.ReLU)]
        found = network.features[: blocks[1] + 1]((grey - imagenet.MEAN) / imagenet.STD)
        inside = (..., slice(2, -2), slice(2, -2))
        self.assertGreater(expected[inside].std(), 0.1)
        torch.testing.assert_close(found[inside], expected[inside], rtol=1e-3, atol=1e-3)

    def assert_same_weights(self, layers, network):
        theirs, ours = ([m.weight for m in each if isinstance(m, nn.Conv2d)][1:] for each in (layers, network.features))
        for one, other in zip(theirs, ours, strict=True):
            self.assertTrue(torch.equal(one, other))

    def test_vgg16(self):
        layers = convolutions()
        network = self.started(layers, "--no-batch-norm")
        self.assert_sees_the_same(layers, network, 4)
        self.assert_same_weights(layers, network)

    def test_vgg16_with_new_batch_norms(self):
        """Their statistics are those of a sample: still the same function."""
        layers = convolutions()
        network = self.started(layers)
        self.assertTrue(any(isinstance(layer, nn.BatchNorm2d) for layer in network.features))
        self.assert_sees_the_same(layers, network, 4)
        self.assert_same_weights(layers, network)

    def test_vgg16_bn(self):
        layers = convolutions(batch_norm=True)
        self.assert_sees_the_same(layers, self.started(layers, "--no-batch-norm"), 6)

    def test_keras(self):
        """Pixels of 0..255 less the means of blue, green and red."""
        layers = convolutions()
        with torch.no_grad():
            layers[0].weight /= 64
        path = onnx_of(layers, self.folder / "vgg16.onnx")
        network = self.training(self.lits, *FULL, "--imagenet", path, "--no-batch-norm").model.eval()
        caffe = [value / 255 for value in (103.939, 116.779, 123.68)], [1 / 255] * 3
        self.assert_sees_the_same(layers, network, 4, caffe)
        self.assert_same_weights(layers, network)

    def test_narrow(self):
        """The filters with the largest norm, with their weights for one another."""
        layers = convolutions()
        path = file_of(layers, self.folder / "vgg16.pth")
        widths = "24,64,8,8,8,8,8,8,8,8,8,8,8"
        network = self.training(self.lits, *FULL, "--imagenet", path, "--no-batch-norm", "--widths", widths).model
        second, ours = [m.weight.detach() for m in layers if isinstance(m, nn.Conv2d)][1], network.features[2].weight
        self.assertEqual(tuple(ours.shape), (64, 24, 3, 3))
        grey = network.features[0].weight.flatten(1)
        theirs = (layers[0].weight / torch.tensor(imagenet.DEVIATIONS)[:, None, None]).sum(1).flatten(1) * imagenet.STD
        kept = theirs.norm(dim=1).topk(24).indices.sort().values
        torch.testing.assert_close(grey, theirs[kept])
        torch.testing.assert_close(ours, second[:, kept])

    def test_trains(self):
        path = file_of(convolutions(), self.folder / "vgg16.pth")
        printed = self.train(self.lits, *FULL, "--imagenet", path, "--out", self.folder)
        self.assertIn("best epoch 1", printed)

    def test_refused(self):
        path = file_of(convolutions(), self.folder / "vgg16.pth")
        wide = ["--widths", "4,4,6,6,8,8,8,12,12,12,16,16,513"]
        self.refused(self.lits, "--imagenet", path, *wide, text="513]: must be at most VGG16's [64")
        torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7), "fc.bias": torch.zeros(9)}, self.folder / "resnet.pth")
        self.refused(
            self.lits, *FULL, "--imagenet", self.folder / "resnet.pth", text="resnet.pth: convolutions none, but VGG16 has"
        )
        (self.folder / "text.pth").write_text("no weights")
        (self.folder / "text.safetensors").write_text("no weights")
        for name in ("text.pth", "text.safetensors", "missing.pth", "missing.safetensors"):
            self.refused(self.lits, *FULL, "--imagenet", self.folder / name, text=f"{name}: not a file of weights")
        (self.folder / "text.onnx").write_text("no weights")
        for name in ("text.onnx", "missing.onnx", "missing.keras"):
            self.refused(self.lits, *FULL, "--imagenet", self.folder / name, text=f"{name}: ")
