"""The same VGG16 in PyTorch: random weights with a spread like that of a trained network, the file that the library loads,
and how fast PyTorch evaluates it patch by patch.
"""

import json
import statistics
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from exact_plan import BLOCKS

NAMES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)  # torchvision's vgg16
BATCHES = (16, 32, 64, 128, 256)
CALIBRATION = 16  # patches


class Vgg(nn.Module):
    """[n][3][P][P] -> [n][classes], weights drawn and scaled by their statistics on `patches` (f32), then rounded to fp16.

    Without that the logits of a deep random network hardly depend on the patch, and a comparison proves little.
    """

    @torch.no_grad()
    def __init__(self, patches, widths, hidden, classes=2, seed=0):
        super().__init__()
        device, generator = patches.device, torch.Generator().manual_seed(seed)
        normal = lambda *shape: torch.randn(*shape, generator=generator).to(device)
        x, inputs, widths = patches, patches.shape[1], iter(widths)
        self.convolutions, self.dense = nn.ModuleList(), nn.ModuleList()
        self.pooled = []  # after this convolution
        for count in BLOCKS:
            for _ in range(count):
                layer = nn.Conv2d(inputs, next(widths), 3, padding=1, device=device)
                layer.weight.copy_(normal(*layer.weight.shape) * (2 / (9 * inputs)) ** 0.5)
                layer.bias.zero_()
                y = layer(x)
                mean, std = y.mean((0, 2, 3)), y.std((0, 2, 3)) + 1e-3
                layer.weight.div_(std[:, None, None, None])
                layer.bias.copy_(0.2 * normal(len(mean)) - mean / std)
                round_to_fp16(layer)
                x, inputs = functional.relu(layer(x)), layer.out_channels
                self.convolutions.append(layer)
            self.pooled.append(len(self.convolutions) - 1)
            x = functional.max_pool2d(x, 2)
        x = x.flatten(1)
        for width in (*hidden, classes):
            layer = nn.Linear(x.shape[1], width, device=device)
            layer.weight.copy_(normal(*layer.weight.shape) * (2 / x.shape[1]) ** 0.5)
            layer.bias.zero_()
            y = layer(x)
            scale = y.std(0).mean() + 1e-6
            layer.weight.div_(scale)
            # No class wins everywhere, no unit is always off.
            layer.bias.copy_(-(y / scale).median(0).values)
            round_to_fp16(layer)
            x = functional.relu(layer(x))
            self.dense.append(layer)

    def forward(self, x):
        for index, layer in enumerate(self.convolutions):
            x = functional.relu(layer(x))
            if index in self.pooled:
                x = functional.max_pool2d(x, 2)
        x = x.flatten(1)
        for layer in self.dense[:-1]:
            x = functional.relu(layer(x))
        return self.dense[-1](x)

    def save(self, path):
        """The safetensors file with torchvision's names."""
        layers = [(f"features.{name}", layer) for name, layer in zip(NAMES, self.convolutions)]
        layers += [(f"classifier.{3 * index}", layer) for index, layer in enumerate(self.dense)]
        header, data, at = {}, [], 0
        for name, layer in layers:
            for kind in ("weight", "bias"):
                value = getattr(layer, kind).detach().cpu().numpy().astype("<f2")
                end = at + value.nbytes
                header[f"{name}.{kind}"] = dict(dtype="F16", shape=list(value.shape), data_offsets=[at, end])
                data.append(value.tobytes())
                at = end
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with open(path, "wb") as file:
            file.write(len(text).to_bytes(8, "little") + text + b"".join(data))


@torch.no_grad()
def round_to_fp16(layer):
    """The network is the rounded one, on every engine."""
    for parameter in layer.parameters():
        parameter.copy_(parameter.half().to(parameter.dtype))


def cut(image, size, stride, points):
    """The patches of a slice (intensities, [rows][columns]) at lattice points (row, column): [n][3][P][P], f32."""
    padded = np.pad(image, (size // 2, size))
    patches = np.stack([padded[y * stride : y * stride + size, x * stride : x * stride + size] for y, x in points])
    return torch.from_numpy(np.repeat(patches[:, None], 3, 1).astype(np.float32))


@torch.no_grad()
def logits(model, patches, device, half, batch=16):
    """[n][classes] in float64, computed in fp16 or in true f32."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    kind = torch.float16 if half else torch.float32
    model = model.to(kind)
    made = [model(part.to(device, kind)).double().cpu() for part in patches.split(batch)]
    model.to(torch.float32)  # which holds fp16 values exactly
    return torch.cat(made).numpy()


def seconds(work, device, at_least=0.5, repeats=5):
    """Median seconds of one `work()`."""
    if device == "cpu":
        work()
        began = time.perf_counter()
        work()
        return time.perf_counter() - began

    def timed(count):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(count):
            work()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1e3 / count

    timed(1)
    count = max(1, int(at_least / repeats / timed(2)))
    return statistics.median(timed(count) for _ in range(repeats))


@torch.no_grad()
def patch_seconds(model, patches, device, batches=BATCHES):
    """{batch size: seconds a patch} in fp16, channels last, cuDNN's own choice of algorithms, as a CUDA graph."""
    torch.backends.cudnn.benchmark = True
    model = model.to(torch.float16).to(memory_format=torch.channels_last)
    found = {}
    for batch in batches:
        part = patches.repeat(-(-batch // len(patches)), 1, 1, 1)[:batch]
        try:
            part = part.to(device, torch.float16).to(memory_format=torch.channels_last)
            found[batch] = seconds(replay(model, part, device), device) / batch
        except torch.OutOfMemoryError:
            break
        finally:
            if device != "cpu":
                torch.cuda.empty_cache()
    model.to(torch.float32).to(memory_format=torch.contiguous_format)
    return found


def replay(model, part, device):
    """A function that evaluates `part`."""
    if device == "cpu":
        return lambda: model(part)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            model(part)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        model(part)
    return graph.replay


def matrix_rate(device, size=8192):
    """FLOP/s of an fp16 matrix product of random numbers."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.float16) for _ in range(2))
    out = torch.empty_like(a)
    return 2 * size**3 / seconds(lambda: torch.matmul(a, b, out=out), device)


def copy_rate(device, count=1 << 31):
    """Bytes a second, read and written, of a copy within the device's memory."""
    a = torch.empty(count, dtype=torch.uint8, device=device).random_()
    b = torch.empty_like(a)
    return 2 * count / seconds(lambda: b.copy_(a), device)
