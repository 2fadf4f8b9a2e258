"""Starting from torchvision's VGG16, with its names and shapes and random weights."""

import imagenet
import torch
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


class Imagenet(TrainingCase):
    def started(self, layers, *options):
        """A training's network before the first step."""
        path = file_of(layers, self.folder / "vgg16.pth")
        training = self.training(self.lits, *FULL, "--imagenet", path, *options)
        self.assertEqual((training.intensity.mean, training.intensity.std), (imagenet.MEAN, imagenet.STD))
        return training.model.eval()

    @torch.no_grad()
    def assert_sees_the_same(self, layers, network, last):
        """Three normalised channels in torchvision and one here give the same, except on the rim: zeros differ."""
        grey = torch.rand(2, 1, 20, 20)
        means, deviations = (torch.tensor(v)[:, None, None] for v in (imagenet.MEANS, imagenet.DEVIATIONS))
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

    def test_trains(self):
        path = file_of(convolutions(), self.folder / "vgg16.pth")
        printed = self.train(self.lits, *FULL, "--imagenet", path, "--out", self.folder)
        self.assertIn("best epoch 1", printed)

    def test_refused(self):
        path = file_of(convolutions(), self.folder / "vgg16.pth")
        self.refused(self.lits, "--imagenet", path, text=f"convolutions {list(FULL_WIDTHS)}, but a VGG16 with [4, 4, 6")
        torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7), "fc.bias": torch.zeros(9)}, self.folder / "resnet.pth")
        self.refused(
            self.lits, *FULL, "--imagenet", self.folder / "resnet.pth", text="resnet.pth: convolutions none, but"
        )
        (self.folder / "text.pth").write_text("no weights")
        (self.folder / "text.safetensors").write_text("no weights")
        for name in ("text.pth", "text.safetensors", "missing.pth", "missing.safetensors"):
            self.refused(self.lits, *FULL, "--imagenet", self.folder / name, text=f"{name}: not a file of weights")
