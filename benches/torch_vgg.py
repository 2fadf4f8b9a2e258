"""The network in PyTorch, for peers on CPU and GPU: the layers with torchvision's names, random weights, the file that
the library loads, and how fast a GPU evaluates it patch by patch."""

import json
from collections import OrderedDict

import numpy as np
import torch
from torch import nn
from torch.utils.benchmark import Timer

from exact_plan import BLOCKS, FULL


def vgg(size, widths=FULL, hidden=(256, 256), classes=2):
    """[n][3][size][size] -> [n][classes]"""
    features, dense, inputs, outputs = [], [], 3, iter(widths)
    for count in BLOCKS:
        for _ in range(count):
            width = next(outputs)
            features += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU()]
            inputs = width
        features.append(nn.MaxPool2d(2))
    inputs *= (size >> 5) ** 2
    for width in (*hidden, classes):
        dense += [nn.Linear(inputs, width), nn.ReLU(), nn.Dropout()]
        inputs = width
    parts = dict(features=nn.Sequential(*features, nn.Flatten()), classifier=nn.Sequential(*dense[:-2]))
    return nn.Sequential(OrderedDict(parts)).eval()


@torch.no_grad()
def randomise(model, x, seed):
    """Random weights. Each layer's outputs are normalised by their statistics on patches `x`: otherwise the logits of a
    deep random network hardly depend on the patch, and a comparison proves little. Rounded to fp16: that is the
    network."""
    torch.manual_seed(seed)
    for layer in [*model.features, *model.classifier]:
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
            outputs = layer(x).transpose(0, 1).flatten(1)
            mean, std = outputs.mean(1), outputs.std(1) + 1e-3
            if isinstance(layer, nn.Linear):
                std[:] = std.mean()  # units that hardly depend on the patch would be rounding, enlarged
            layer.weight.div_(std.view(-1, *[1] * (layer.weight.dim() - 1)))
            layer.bias.copy_(0.2 * torch.randn_like(mean) - mean / std)
            layer.half().float()
        x = layer(x)
    return model


def save(model, path):
    """Writes model.safetensors in fp16."""
    header, data = {}, b""
    for name, value in model.state_dict().items():
        content = value.cpu().numpy().astype("<f2").tobytes()
        header[name] = dict(dtype="F16", shape=list(value.shape), data_offsets=[len(data), len(data) + len(content)])
        data += content
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def cut(image, size, stride, places):
    """The patches of a slice (intensities, [rows][columns]) at places of the patch grid: [n][3][P][P], f32."""
    padded = np.pad(image, (size // 2, size))
    patches = np.stack([padded[y * stride : y * stride + size, x * stride : x * stride + size] for y, x in places])
    return torch.from_numpy(np.repeat(patches[:, None], 3, 1).astype(np.float32))


@torch.no_grad()
def logits(model, patches, device, kind, batch=16):
    """[n][classes] in float64, computed in fp16 or in true f32."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    model = model.to(kind)
    made = [model(part.to(device, kind)).double().cpu() for part in patches.split(batch)]
    model.to(torch.float32)  # which holds fp16 values exactly
    return torch.cat(made).numpy()


def seconds(work):
    """Median seconds of one `work()`."""
    return Timer("work()", globals=dict(work=work)).blocked_autorange(min_run_time=0.5).median


@torch.no_grad()
def patch_seconds(model, patches, device, batches):
    """{batch size: seconds a patch} in fp16, channels last, cuDNN's own choice of algorithms, as a CUDA graph."""
    torch.backends.cudnn.benchmark = True
    model = model.to(torch.float16).to(memory_format=torch.channels_last)
    found = {}
    for batch in batches:
        part = patches.repeat(-(-batch // len(patches)), 1, 1, 1)[:batch]
        try:
            part = part.to(device, torch.float16).to(memory_format=torch.channels_last)
            found[batch] = seconds(replay(model, part, device)) / batch
        except torch.OutOfMemoryError:
            break
        finally:
            torch.cuda.empty_cache()
    model.to(torch.float32).to(memory_format=torch.contiguous_format)
    return found


def replay(model, part, device):
    """A function that evaluates `part`: a CUDA graph."""
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


def matrix_rate(device, size):
    """FLOP/s of an fp16 matrix product of random numbers."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.float16) for _ in range(2))
    out = torch.empty_like(a)
    return 2 * size**3 / seconds(lambda: torch.matmul(a, b, out=out))
