"""PyTorch checkpoints: torchvision's networks against the library."""

import argparse
import copy
import datetime
import re
import subprocess
import sys
from collections import defaultdict
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

    def test_training_checkpoints(self):
        """What training programs keep beside the weights: all of it is passed over, and none of its code runs."""
        model = network(hidden=(14, 9))
        self.converted(self.save(model.state_dict()), *METADATA)
        expected = self.output.read_bytes()
        parallel = {f"module.{name}": value for name, value in model.state_dict().items()}
        optimiser = torch.optim.Adam(model.parameters())
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [1, 2])
        imagenet = dict(epoch=3, arch="vgg16", state_dict=parallel, best_acc1=torch.tensor(71.2),
                        optimizer=optimiser.state_dict(), scheduler=schedule.state_dict())  # fmt: skip

        class Settings(dict):
            """As configuration packages have them: a dict with attributes."""

        class Run:
            def __reduce__(self):
                return exec, (f"open({str(ran)!r}, 'w')",)

        ran, settings = self.folder / "ran", Settings(depth=16)
        settings.path = Path("data")
        globals()["Settings"], Settings.__qualname__ = Settings, "Settings"
        self.addCleanup(globals().pop, "Settings")
        for name, content in {
            "imagenet": imagenet,
            "numpy": {"state_dict": parallel, "loss": np.float64(0.3), "history": np.arange(3.0)},
            "namespace": {"model": model.state_dict(), "args": argparse.Namespace(lr=0.1, data=Path("data"))},
            "classes": {
                "net": parallel,
                "when": datetime.datetime.now(),
                "kind": Path,
                "log": defaultdict(list, a=[1]),
            },
            "settings dict": {"model_state_dict": parallel, "settings": settings, "model": {"name": "vgg16"}},
            "nested": {"model": {"state_dict": parallel, "step": 7}, "set": {1, 2}, "number": 1j},
            "whole": {"state_dict": parallel, "whole": model},
            "code": {"state_dict": parallel, "run": Run()},
        }.items():
            for zipped in (True, False)[: 1 + (name != "whole")]:  # the old format keeps a module's source
                with self.subTest(name, zipped=zipped):
                    torch.save(content, self.folder / "made.pt", _use_new_zipfile_serialization=zipped)
                    self.converted(self.folder / "made.pt", *METADATA)
                    self.assertEqual(self.output.read_bytes(), expected)
        self.assertFalse(ran.exists())

    def test_checkpoints_that_are_refused(self):
        good = network().state_dict()
        self.refused(self.save({"state_dict": good, "net": good}), "2 state dicts")
        self.refused(self.save({"model": network(), "epoch": 3}), "model VGG", "epoch int", "state_dict()")
        self.refused(self.save({**good, "epoch": 3}), "epoch is a int")
        self.refused(self.save({**good, 3: torch.zeros(1)}), "3 is a Tensor")
        self.refused(self.save(list(good.values())), "list", "state_dict()")
        self.refused(self.save({name: value.numpy() for name, value in good.items()}), "features.0.weight")
        scripted = torch.jit.trace(network(), torch.zeros(1, 3, 32, 32))
        scripted.save(self.folder / "scripted.pt")
        self.refused(self.folder / "scripted.pt", "TorchScript", "state_dict()")

    def test_layers_at_other_places_hide_what_is_between(self):
        """A dropout or another pool in the features, batch norm in the wrong place, dense layers without a ReLU."""
        good, norm = network(hidden=(14,)).state_dict(), network(batch_norm=True).state_dict()

        def moved(named, part, step):
            return {re.sub(rf"({part}\.)(\d+)", lambda m: f"{m[1]}{step(int(m[2]))}", k): v for k, v in named.items()}

        self.refused(self.save(moved(good, "features", lambda n: n + (n > 3))), "features.6", "at 5")
        self.refused(self.save(moved(norm, "features", lambda n: n + (n > 3))), "features.8", "vgg16_bn", "at 7")
        self.refused(self.save(moved(norm, "features", lambda n: n + (n % 100 == 1))), "features.2", "vgg16_bn", "at 1")
        self.refused(self.save(moved(good, "classifier", lambda n: n // 3)), "classifier.1", "no ReLU fits")
        some = {name: value for name, value in norm.items() if not name.startswith("features.41.")}
        self.refused(self.save(some), "features.38", "one after every convolution")
        self.converted(self.save(moved(good, "classifier", lambda n: 1 + n // 3 * 2)), *METADATA)

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
