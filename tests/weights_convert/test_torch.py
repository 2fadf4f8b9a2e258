"""PyTorch checkpoints: torchvision's networks against the library."""

import copy
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
import torchvision
from safetensors import safe_open
from torchvision.models import vgg

from convert_case import F32, PATCH, ROUNDED, STRIDE, WIDTHS, ConvertCase, patches

METADATA = (f"--patch-size={PATCH}", f"--stride={STRIDE}", "--window=-160,240")


def network(batch_norm=False, channels=3, classes=2, hidden=(14,), seed=1, side=7, rounded=True):
    """torchvision's VGG16 with narrow layers and random weights, that fp16 holds where they are `rounded`; `side`
    positions after the last pool."""
    torch.manual_seed(seed)
    layout, widths = [], iter(WIDTHS)
    for item in vgg.cfgs["D"]:
        layout.append(item if item == "M" else next(widths))
    model = vgg.VGG.__new__(vgg.VGG)  # its own constructor would make 120 million weights of the usual head
    torch.nn.Module.__init__(model)
    model.features = vgg.make_layers(layout, batch_norm)
    if channels == 1:
        model.features[0] = torch.nn.Conv2d(1, WIDTHS[0], 3, padding=1)
    model.avgpool = torch.nn.AdaptiveAvgPool2d((side, side))
    layers, inputs = [], WIDTHS[-1] * side**2
    for width in hidden:
        layers += [torch.nn.Linear(inputs, width), torch.nn.ReLU(True), torch.nn.Dropout()]
        inputs = width
    model.classifier = torch.nn.Sequential(*layers, torch.nn.Linear(inputs, classes))
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear)):
                torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                torch.nn.init.normal_(layer.bias, std=0.05)
            elif isinstance(layer, torch.nn.BatchNorm2d):
                layer.weight.uniform_(0.7, 1.3)
                layer.bias.normal_(std=0.1)
                layer.running_mean.normal_(std=0.1)
                layer.running_var.uniform_(0.5, 1.5)
    return round_to_fp16(model.eval()) if rounded else model.eval()


def round_to_fp16(model):
    for parameter in model.state_dict().values():
        if parameter.is_floating_point():
            parameter.copy_(parameter.half().float())
    return model


@torch.inference_mode()
def run(model, x):
    return model(torch.from_numpy(x)).numpy()


class Torch(ConvertCase):
    def save(self, content, name="model.pth"):
        torch.save(content, self.folder / name)
        return self.folder / name

    def test_vgg16_of_torchvision(self):
        model = network()
        self.converted(self.save(model.state_dict()), *METADATA)
        self.assert_logits(run(model, patches(channels=3)), ROUNDED)  # average pooling is folded

    def test_names_are_those_of_the_real_vgg16(self):
        with torch.device("meta"):
            plain, norm = torchvision.models.vgg16(), torchvision.models.vgg16_bn()
        self.assertEqual(plain.state_dict().keys() - network(hidden=(14, 9)).state_dict().keys(), set())
        self.assertEqual(norm.state_dict().keys() - network(True, hidden=(14, 9)).state_dict().keys(), set())

    def test_batch_norm(self):
        model = network(batch_norm=True)
        self.converted(self.save(model.state_dict()), *METADATA)
        self.assert_logits(run(model, patches(channels=3)), 2 * ROUNDED)

    def test_without_pooling_it_is_exact(self):
        side = 225  # 7 x 7 positions
        model = network(channels=1, hidden=())
        self.converted(self.save(model.state_dict()), f"--patch-size={side}", "--mean=0.25", "--std=0.5")
        self.assert_logits(run(model, patches(side, 1, 0.25, 0.5)), side=side)

    def test_f32_weights_are_rounded_to_fp16(self):
        """Exact against the rounded network; against the network as it was trained, about 1e-3 of the largest logit."""
        for seed in range(1, 5):
            model = network(hidden=(14,), side=2, seed=seed, rounded=False)
            path = self.save(model.state_dict())
            self.assertIn("rounds them to fp16", self.converted(path, *METADATA))
            self.assert_logits(run(model, patches(channels=3)), F32)
            round_to_fp16(model)
            self.assert_logits(run(model, patches(channels=3)))
            self.assertNotIn("fp16", self.converted(self.save(model.state_dict()), *METADATA))

    def test_what_the_file_does_not_say(self):
        """No patch size, though only some fit; and what the library assumes."""
        path = self.save(network(channels=1, hidden=(), side=2).state_dict())
        told = self.converted(path)
        self.assertIn("no patch size, and the first dense layer fits 64..=95 only: give --patch-size", told)
        assumed = "assumes: patch_size 257, stride 7, window -160,240, equalize false, mean 0, std 1\n"
        self.assertIn(assumed, told)
        options = ("--window=-160,240", "--stride=8", "--no-equalize", "--mean=0.5", "--std=0.5")
        told = self.converted(path, "--patch-size=64", *options)
        self.assertNotIn("no patch size", told)
        self.assertNotIn("assumes", told)
        self.assertEqual(self.logits(64).shape, (16, 2))
        self.assertNotIn("first dense layer", self.converted(self.save(network().state_dict())))  # any size fits

    def test_wrappers_and_checkpoints(self):
        model = network(hidden=(14, 9))
        plain = self.save(model.state_dict())
        self.converted(plain, *METADATA)
        expected = self.output.read_bytes()
        parallel = {f"module.{name}": value for name, value in model.state_dict().items()}
        compiled = {f"_orig_mod.module.{name}": value for name, value in model.state_dict().items()}
        for content in (parallel, compiled, {"epoch": 3, "state_dict": parallel}, {"model_state_dict": compiled}):
            self.converted(self.save(content, "wrapped.pt"), *METADATA)
            self.assertEqual(self.output.read_bytes(), expected)

    def test_half_and_bfloat16(self):
        model = network()
        half = copy.deepcopy(model).half().state_dict()
        self.converted(self.save(half), *METADATA)
        self.assert_logits(run(model, patches(channels=3)), ROUNDED)
        model = model.bfloat16()
        self.converted(self.save(model.state_dict()), *METADATA)
        self.assert_logits(run(model.float(), patches(channels=3)), ROUNDED)

    def test_one_output_becomes_two_classes(self):
        model = network(classes=1)
        self.converted(self.save(model.state_dict()), *METADATA, "--classes=background,lesion")
        one = run(model, patches(channels=3))
        self.assert_logits(np.concatenate([0 * one, one], 1), ROUNDED)

    def test_preprocessing(self):
        model = network(hidden=())
        path = self.save(model.state_dict())
        mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        expected = run(model, patches(channels=3, mean=mean, std=std))
        self.converted(path, *METADATA, "--preprocess=torch")
        self.assert_logits(expected, ROUNDED)
        self.converted(path, *METADATA, "--mean=0.485,0.456,0.406", "--std=0.229,0.224,0.225")
        self.assert_logits(expected, ROUNDED)

    def test_refusals_name_the_tensor_and_the_remedy(self):
        good = network().state_dict()
        changed = lambda name, value: self.save({**good, name: value})  # noqa: E731
        without = lambda name: self.save({k: v for k, v in good.items() if k != name})  # noqa: E731

        def shapes(name, shape, *texts):
            self.refused(changed(name, torch.zeros(shape)), name, str(shape), *texts)

        shapes("features.5.weight", [8, 6, 5, 5], "3x3")
        shapes("features.5.weight", [8, 5, 3, 3], "[*, 6, 3, 3]")
        shapes("classifier.0.weight", [14, 500], "[*, 12*g*g]")
        self.refused(changed("classifier.3.weight", torch.zeros(1000, 14)), "classifier.3", "bias has shape [2]")
        self.refused(changed("features.0.bias", torch.full((6,), torch.nan)), "features.0.bias[0] is nan")
        self.refused(changed("features.0.bias", torch.full((6,), 7e4)), "features.0.bias[0] is 70000", "65504")
        self.refused(changed("fc.weight", torch.zeros(2, 2)), "fc.weight", "[2, 2]", "rename")
        self.refused(without("features.28.weight"), "features.28.weight is missing")
        large = {**good, "classifier.3.weight": torch.zeros(1000, 14), "classifier.3.bias": torch.zeros(1000)}
        self.refused(self.save(large), "[1000, 14]", "ImageNet", "2..=255")
        self.refused(self.save(network()), "more than weights", "state_dict()")
        self.refused(self.save({"epoch": 3}), "no state dict", "epoch")
        (self.folder / "text.pth").write_text("no checkpoint")
        self.refused(self.folder / "text.pth", "text.pth")
        self.refused(self.folder / "absent.pth", "absent.pth", "no such file")
        path = self.save(good)
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        self.refused(path, "truncated")

    def test_as_the_installed_program(self):
        program = str(Path(sys.executable).with_name("patchmask"))
        words = [program, "convert", self.save({"epoch": 3}), self.output]
        done = subprocess.run(words, capture_output=True, text=True)
        self.assertEqual((done.returncode, len(done.stderr.splitlines())), (1, 1), done.stderr)
        self.assertEqual(subprocess.run(words[:3], capture_output=True).returncode, 2)
        self.assertEqual(list(self.folder.iterdir()), [words[2]])

    def test_without_the_framework(self):
        program = "import sys; sys.modules['torch'] = None\n"
        program += "from patchmask.commands import main; sys.exit(main(sys.argv[1:]))"
        line = [sys.executable, "-c", program, "convert", self.save(network().state_dict()), self.output]
        done = subprocess.run(line, capture_output=True, text=True)
        self.assertEqual((done.returncode, len(done.stderr.splitlines())), (1, 1), done.stderr)
        self.assertIn("package torch is missing: pip install torch", done.stderr)

    def test_metadata_is_checked_as_the_library_does(self):
        path = self.save(network().state_dict())
        for option, text in (
            ("--patch-size=31", "32..=1024"),
            ("--stride=0", "1..=1024"),
            ("--window=240,-160", "LO below HI"),
            ("--mean=1,2", "1 or 3"),
            ("--std=0", "above 0"),
            ("--std=1,nan,1", "finite"),
            ("--classes=one", "has 2"),
            ("--classes=one,", "separated by commas"),
            ("--lesion-class=2", "0..=1"),
        ):
            self.refused(path, option.split("=")[0], text, options=(option,), status=2)
        self.refused(path, "leave out", options=("--preprocess=tf", "--mean=1"), status=2)
        self.refused(path, "--stride 70", "1..=64", options=("--patch-size=64", "--stride=70"), status=2)
        one = self.save(network(channels=1).state_dict())
        for option in ("--mean=1,2,3", "--std=1,2,3", "--preprocess=caffe"):
            self.refused(one, "takes 1", options=(option,), status=2)

    def test_names_of_files_that_cannot_be(self):
        path = self.save(network().state_dict(), "model.safetensors")
        self.refused(path, "named twice", options=("--from=torch",), status=2)
        path = path.rename(self.folder / "model.weights")
        self.refused(path, "unknown kind of file", "--from")
        self.output = self.folder / "model.pth"
        self.refused(path, "end in .safetensors", status=2)

    def test_the_same_model_gives_the_same_bytes(self):
        model = network(batch_norm=True)
        path = self.save(model.state_dict())
        options = (*METADATA, "--equalize", "--mean=0.4", "--std=0.3", "--lesion-class=1", '--classes=Leber, "Läsion"')
        contents = set()
        for _ in range(4):  # the safetensors package alone would write 8 keys in one of 40320 orders each time
            self.converted(path, *options)
            contents.add(self.output.read_bytes())
        self.assertEqual(len(contents), 1)
        with safe_open(self.output, "numpy") as file:
            metadata = file.metadata()
            self.assertEqual(metadata["patchmask.classes"], 'Leber,"Läsion"')
            self.assertEqual(len(metadata), 8)
            for name, value in model.state_dict().items():
                if not name.endswith("num_batches_tracked"):
                    np.testing.assert_array_equal(file.get_tensor(name), value.numpy())
        self.assert_logits(run(model, patches(channels=3, mean=0.4, std=0.3)), 2 * ROUNDED, options=("--no-equalize",))

    def test_an_existing_file_survives_a_failure(self):
        self.output.write_bytes(b"precious")
        (self.folder / "text.pth").write_text("no checkpoint")
        self.refused(self.folder / "text.pth", "text.pth")
        self.assertEqual(self.output.read_bytes(), b"precious")
