"""`build/segment --device cuda` beside PyTorch/cuDNN evaluating patch by patch, and beside the GPU's own limits, in one run.

    python benches/gpu.py [ROW...] [--slices 20] [--patches 1024] [--scan 100] [--ncu ncu] [--json FILE]

ROW is PATCH/STRIDE, or PATCH/STRIDE/image for the IMAGE scope; default 257/8 257/7 65/4 257/8/image. The network is VGG16 with 3 channels, head
256-256-2, random weights. Both sides compute in fp16 with f32 sums.

patchmask   milliseconds a slice: (N + 1 slices - 1 slice) / N, from the report's `timings_s.segment`: host voxels to host mask;
            and a scan of --scan slices, end to end
PyTorch     channels_last, cudnn.benchmark, CUDA graph, the best of several batch sizes; timed on --patches patches
            and scaled to the slice
limits      the rate of an fp16 matrix product (8192^3, PyTorch), the rate of a copy on the device
--ncu       each layer's time under Nsight Compute, as a rate and as a part of the matrix product's

Needs numpy, torch and safetensors. Without a GPU it says so and ends.
"""

import argparse
import csv
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "golden"))
import raw_nrrd  # noqa: E402

SIDE = 512
WIDTHS = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
BLOCKS = (2, 2, 3, 3, 3)  # convolutions between poolings
FEATURES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)  # torchvision's names
HEAD = (256, 256, 2)
WINDOW = (-160.0, 240.0)
TARGETS = {"257/8": "PyTorch at least 8 times slower; convolutions at least 45 % of the matrix rate"}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("rows", nargs="*", default=["257/8", "257/7", "65/4", "257/8/image"])
    parser.add_argument("--segment", type=Path, default=ROOT / "build" / "segment")
    parser.add_argument("--slices", type=int, default=20, help="N (default 20)")
    parser.add_argument("--scan", type=int, default=100, help="slices of the whole scan; 0: none (default 100)")
    parser.add_argument("--patches", type=int, default=1024, help="that PyTorch is timed on (default 1024)")
    parser.add_argument("--side", type=int, default=SIDE, help="of a slice in pixels (default 512)")
    parser.add_argument("--ncu", help="path of Nsight Compute, for the table of layers")
    parser.add_argument("--json", type=Path, help="write all numbers here")
    parser.add_argument("--anyway", action="store_true", help="run PyTorch on the CPU where it has no GPU (a trial)")
    return parser.parse_args()


# ------------------------------------------------------------------------------------------------ the network


def random_network(patch_size, torch):
    """(tensors by name in fp16, torch module in f32 with the same values)."""
    generator = torch.Generator().manual_seed(patch_size)
    layers, tensors, inputs = [], {}, 3
    names = iter(FEATURES)
    widths = iter(WIDTHS)

    def layer(module, name, fan_in):
        for kind, scale in (("weight", (2 / fan_in) ** 0.5), ("bias", 0.05)):
            values = torch.randn(getattr(module, kind).shape, generator=generator) * scale
            tensors[f"{name}.{kind}"] = values.half()
            getattr(module, kind).data = values.half().float()
        return module

    for count in BLOCKS:
        for _ in range(count):
            outputs = next(widths)
            layers += [
                layer(torch.nn.Conv2d(inputs, outputs, 3, padding=1), f"features.{next(names)}", 9 * inputs),
                torch.nn.ReLU(inplace=True),
            ]
            inputs = outputs
        layers.append(torch.nn.MaxPool2d(2))
    layers.append(torch.nn.Flatten())
    inputs *= (patch_size // 32) ** 2
    for number, outputs in enumerate(HEAD):
        layers.append(layer(torch.nn.Linear(inputs, outputs), f"classifier.{3 * number}", inputs))
        if number + 1 < len(HEAD):
            layers.append(torch.nn.ReLU(inplace=True))
        inputs = outputs
    return tensors, torch.nn.Sequential(*layers).eval()


def distinct(patch_size, stride, side):
    """Distinct values of an axis after every convolution: the plan's value numbering, on its own.

    Rows of a patch are numbered by what they see; equal numbers are equal activations for all patches.
    """
    zero, black, known = -1, "black", {}
    rows = []
    for centre in range(0, side, stride):
        start = centre - patch_size // 2
        rows.append([start + j if 0 <= start + j < side else black for j in range(patch_size)])
    counts = []
    for count in BLOCKS:
        for _ in range(count):
            known = {}
            number = lambda key: known.setdefault(key, len(known))  # noqa: E731
            rows = [
                [number((r[j - 1] if j else zero, r[j], r[j + 1] if j + 1 < len(r) else zero)) for j in range(len(r))]
                for r in rows
            ]
            counts.append(len(known))
        known = {}
        rows = [[known.setdefault((r[2 * j], r[2 * j + 1]), len(known)) for j in range(len(r) // 2)] for r in rows]
    return counts


# ------------------------------------------------------------------------------------------------ patchmask


class Segment:
    """The program with one model and one setting."""

    def __init__(self, program, folder, row, side):
        self.program, self.folder, self.side = program, folder, side
        size, stride, *scope = row.split("/")
        self.patch_size, self.stride, self.image_scope = int(size), int(stride), scope == ["image"]

    def command(self, slices):
        path = self.folder / f"ct_{slices}.nrrd"
        if not path.exists():
            voxels = np.random.default_rng(5).normal(40, 80, (slices, self.side, self.side)).astype("<i2")
            sizes = f"{self.side} {self.side} {slices}"
            header = f"NRRD0004\ntype: int16\ndimension: 3\nsizes: {sizes}\nendian: little\nencoding: raw\n\n"
            path.write_bytes(header.encode() + voxels.tobytes())
        return [
            *(self.program, "--device", "cuda", "--quiet", "--model", self.folder / "model.safetensors"),
            *("--patch-size", self.patch_size, "--stride", self.stride, "--window", "%g,%g" % WINDOW),
            *("--padding", "image" if self.image_scope else "patch"),
            *("--report", self.folder / "report.json", "--logits", self.folder / "logits.nrrd"),
            *(path, self.folder / "mask.nrrd"),
        ]

    def run(self, slices):
        """The report of one run."""
        done = subprocess.run([str(word) for word in self.command(slices)], stderr=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        return json.loads((self.folder / "report.json").read_text())

    def logits(self):
        """[lattice y][lattice x][class] of the first slice."""
        fields, samples = raw_nrrd.read(self.folder / "logits.nrrd")
        return np.frombuffer(samples, samples.typecode).reshape(fields["sizes"][::-1])[0]

    def milliseconds_a_slice(self, more):
        self.run(1)  # the driver compiles the kernels once
        seconds = [min(self.run(n)["timings_s"]["segment"] for _ in range(3)) for n in (1, more + 1)]
        return 1e3 * (seconds[1] - seconds[0]) / more

    def layers(self, ncu):
        """[(kernel, milliseconds)] of the launches of one slice, in order."""
        command = [ncu, "--csv", "--metrics", "gpu__time_duration.sum", *map(str, self.command(1))]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        return slice_launches(done.stdout)


def slice_launches(text):
    """The launches of the slice in Nsight Compute's CSV: those from the last histogram on."""
    lines = text[text.index('"ID"') :]
    units = {"ns": 1e-6, "nsecond": 1e-6, "us": 1e-3, "usecond": 1e-3, "ms": 1.0, "msecond": 1.0}
    launches = []
    for row in csv.DictReader(io.StringIO(lines)):
        name = row["Kernel Name"].split("(")[0]
        value = float(row["Metric Value"].replace(",", "")) * units[row["Metric Unit"]]
        launches = [(name, value)] if name == "histogram" else [*launches, (name, value)]
    return launches


# ------------------------------------------------------------------------------------------------ PyTorch


def seconds_of(work, torch, repeat=5):
    """Median seconds of `work` on the device."""
    if not torch.cuda.is_available():
        started = time.perf_counter()
        work()
        return time.perf_counter() - started
    times = []
    for _ in range(repeat):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        work()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end) / 1e3)
    return float(np.median(times))


def limits(torch):
    """(TFLOP/s of an fp16 matrix product, TB/s of a copy, read and written)."""
    n = 8192 if torch.cuda.is_available() else 256
    a, b = (torch.randn(n, n, device=device(torch)).half() for _ in range(2))
    big = torch.empty(n * n * 16, dtype=torch.uint8, device=device(torch))
    other = torch.empty_like(big)
    for _ in range(3):
        a @ b
        other.copy_(big)
    return 2 * n**3 / seconds_of(lambda: a @ b, torch) / 1e12, 2 * big.numel() / seconds_of(
        lambda: other.copy_(big), torch
    ) / 1e12


def device(torch):
    return "cuda" if torch.cuda.is_available() else "cpu"


class PatchByPatch:
    """cuDNN's VGG16 on patches cut from the padded slice."""

    def __init__(self, module, segment, torch):
        self.torch, self.size = torch, segment.patch_size
        with open(segment.folder / "ct_1.nrrd", "rb") as file:
            voxels = np.frombuffer(file.read().split(b"\n\n", 1)[1], "<i2").reshape(segment.side, segment.side)
        image = np.clip((voxels - WINDOW[0]) / (WINDOW[1] - WINDOW[0]), 0, 1).astype(np.float32)
        half = self.size // 2
        padded = torch.from_numpy(np.pad(image, ((half, self.size), (half, self.size)))).to(device(torch)).half()
        windows = padded.unfold(0, self.size, 1).unfold(1, self.size, 1)
        count = (segment.side - 1) // segment.stride + 1
        self.lattice = count * count
        self.windows = windows[:: segment.stride, :: segment.stride][:count, :count]
        self.module = module.to(device(torch)).half().to(memory_format=torch.channels_last)

    def patches(self, points):
        width = self.windows.shape[1]
        cut = self.torch.stack([self.windows[p // width, p % width] for p in points])
        cut = cut[:, None].expand(-1, 3, -1, -1)
        return cut.contiguous(memory_format=self.torch.channels_last)

    def milliseconds_a_patch(self, most):
        """Of the best batch size, and that size."""
        best = None
        for batch in (32, 64, 128, 256, 512):
            if batch > most:
                break
            try:
                seconds = seconds_of(self.batch_runner(batch), self.torch, repeat=max(3, most // batch))
            except self.torch.cuda.OutOfMemoryError:
                break
            best = min(best or (np.inf, 0), (1e3 * seconds / batch, batch))
        return best

    def batch_runner(self, batch):
        torch = self.torch
        points = np.random.default_rng(batch).integers(0, self.lattice, batch)
        inputs = self.patches(points)
        with torch.inference_mode():
            if not torch.cuda.is_available():
                return lambda: self.module(inputs)
            stream = torch.cuda.Stream()
            with torch.cuda.stream(stream):
                for _ in range(3):
                    self.module(inputs)
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self.module(inputs)
        graph.replay()
        return graph.replay

    def logits(self, points):
        with self.torch.inference_mode():
            parts = [self.module(self.patches(points[i : i + 32])) for i in range(0, len(points), 32)]
        return self.torch.cat(parts).float().cpu().numpy()


# ------------------------------------------------------------------------------------------------ the run


def one_row(row, given, torch, rates, folder):
    from safetensors.torch import save_file

    segment = Segment(given.segment, folder, row, given.side)
    tensors, module = random_network(segment.patch_size, torch)
    save_file(tensors, folder / "model.safetensors")
    ours = segment.milliseconds_a_slice(given.slices)
    report = segment.run(1)
    numbers = dict(
        row=row, patches=report["patches"], macs=report["macs"], slice_ms=ours, engine=report["engine"],
        device_peak_bytes=report["device_peak_bytes"], tflops=2 * report["macs"] / ours / 1e9,
    )  # fmt: skip
    numbers["part_of_matrix_rate"] = numbers["tflops"] / rates[0]
    peer = PatchByPatch(module, segment, torch)
    per_patch, batch = peer.milliseconds_a_patch(given.patches)
    numbers |= dict(torch_ms_per_patch=per_patch, torch_batch=batch, torch_slice_s=per_patch * peer.lattice / 1e3)
    numbers["times_faster"] = per_patch * peer.lattice / ours
    if not segment.image_scope:
        points = np.random.default_rng(1).permutation(peer.lattice)[: min(256, given.patches)]
        want, have = peer.logits(points), segment.logits().reshape(peer.lattice, -1)[points]
        numbers["logits_differ"] = float(np.abs(want - have).max() / np.abs(want).max())
        numbers["changed_classes"] = int((want.argmax(1) != have.argmax(1)).sum())
    if given.scan:
        scan = segment.run(given.scan)
        numbers |= dict(scan_slices=given.scan, scan_s=scan["timings_s"]["segment"], scan_timings_s=scan["timings_s"])
    if given.ncu:
        numbers["layers"] = rated(segment.layers(given.ncu), segment)
    return numbers


def rated(launches, segment):
    """Launches with their operations: [kernel, ms, TFLOP/s or None]."""
    counts = iter(distinct(segment.patch_size, segment.stride, segment.side))
    inputs, widths, table = 3, iter(WIDTHS), []
    for kernel, ms in launches:
        rate = None
        if kernel.startswith("conv3") and not segment.image_scope:
            outputs, count = next(widths), next(counts)
            rate = 2 * 9 * inputs * outputs * count * count / ms / 1e9
            inputs = outputs
        table.append([kernel, ms, rate])
    return table


def print_row(numbers, rates):
    print(f"\n## {numbers['row']}, {numbers['engine']}\n")
    for key, value in numbers.items():
        if key not in ("layers", "row", "engine"):
            print(f"{key:22} {value:.6g}" if isinstance(value, float) else f"{key:22} {value}")
    if numbers["row"] in TARGETS:
        print(f"{'target':22} {TARGETS[numbers['row']]}")
    layers = numbers.get("layers", [])
    for kernel, ms, rate in layers:
        part = f"{rate:8.1f} TFLOP/s {100 * rate / rates[0]:5.1f} % of the matrix rate" if rate else ""
        print(f"  {kernel:16} {ms:8.3f} ms {part}")
    convolutions = [(ms, rate) for kernel, ms, rate in layers if rate and kernel != "conv3_first"]
    if convolutions:
        total = sum(ms for ms, _ in convolutions)
        rate = sum(ms * rate for ms, rate in convolutions) / total
        print(f"  convolutions     {total:8.3f} ms {rate:8.1f} TFLOP/s {100 * rate / rates[0]:5.1f} % of the matrix rate")
    sys.stdout.flush()


def main():
    given = arguments()
    try:
        import torch
    except ImportError:
        sys.exit("torch is not installed: pip install torch safetensors numpy")
    if not torch.cuda.is_available() and not given.anyway:
        print("SKIPPED: PyTorch sees no CUDA device here")
        return
    torch.backends.cudnn.benchmark = True
    rates = limits(torch)
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    print(f"{name}, PyTorch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}")
    print(f"fp16 matrix product {rates[0]:.1f} TFLOP/s, copy on the device {rates[1]:.2f} TB/s")
    rows = []
    for row in given.rows:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(one_row(row, given, torch, rates, Path(folder)))
        print_row(rows[-1], rates)
        if given.json:
            text = json.dumps(dict(device=name, matrix_tflops=rates[0], copy_tbs=rates[1], rows=rows), indent=1)
            given.json.write_text(text + "\n")


if __name__ == "__main__":
    os.environ.setdefault("CUDA_MODULE_LOADING", "EAGER")
    main()
