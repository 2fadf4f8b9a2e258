"""What a slice should take on a GPU: operations, bytes and the machine's rates, layer by layer; no GPU needed.

    python benches/model.py [ROW...] [--side N] [--gpu NAME...] [--layers] [--measured bench.json] [--picture FILE.png]

ROW is PATCH/STRIDE or PATCH/STRIDE/image as in gpu.py, full-width VGG16 on slices of 512 x 512. A kernel takes the longest
of what its operations, its bytes from L2 and its bytes from memory need, in whole rounds of blocks, and a launch. Small slices
(`--side`) are at work side by side (src/engine/cuda/buffers/arena.rs) and share launches' time and rounds:

    seconds = launch + max(operations / matrix rate, L2 bytes / L2 rate, memory bytes / copy rate) * rounds

`--measured` puts gpu.py's times of the layers beside it. The table of several GPUs deals slices out as a session does
(one host thread copies voxels in and masks out) and says from how many GPUs on the host is the limit.
"""

import argparse
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import exact_plan

DEFAULT_ROWS = ["257/8", "257/7", "65/4", "257/8/image"]
VOXEL_BYTES, OUTPUT_BYTES = 2, 1  # int16 in, class mask out


@dataclass
class Gpu:
    """Rates that programs reach, not those of the data sheet. Sources: SOURCES."""

    multiprocessors: int
    matrix_tflops: float  # fp16 products with f32 sums
    share: float  # of that rate which the convolution kernels' inner loop can reach
    mma_share: float  # the same of a kernel with mma.sync
    f32_tflops: float
    copy_gb_s: float  # bytes read + bytes written
    l2_gb_s: float
    l2_mib: float
    host_gb_s: float  # over PCIe, one direction
    blocks: int  # of a convolution on a multiprocessor at a time
    tiles: int  # of such a block, which share the weights that it reads


# Blocks are those of the kernels that the library chooses (src/engine/cuda/kernels.rs).
# mma.sync reaches 390 to 495 of 798 TFLOP/s on Hopper, register-A wgmma products 640 and more; before Hopper mma.sync is
# the matrix rate itself.
GPUS = {
    "A100": Gpu(108, 270, 0.90, 0.90, 19.5, 1700, 4500, 40, 22, 2, 1),
    "H100": Gpu(132, 798, 0.80, 0.55, 62, 3000, 5500, 50, 45, 1, 2),
    "H100 mma": Gpu(132, 798, 0.55, 0.55, 62, 3000, 5500, 50, 45, 2, 1),
    "H200": Gpu(132, 798, 0.80, 0.55, 62, 4200, 5500, 50, 45, 1, 2),
    "RTX 4090": Gpu(128, 160, 0.90, 0.90, 75, 920, 5000, 72, 22, 2, 1),
}
SOURCES = """H100: matrix and copy rate measured on one; shares from published fp16 products by wgmma and mma.sync. H200: an H100 with the
copy rate of its memory. A100, RTX 4090: 87 and 97 % of the data sheet's dense fp16 rate, 87 and 91 % of its bandwidth. L2 and PCIe:
published micro-benchmarks. Only what --measured shows was measured with these kernels."""

LAUNCH_S = 2.5e-6  # of a kernel in a graph
SLOTS, ARENA_MIB = 4, 4  # slices side by side while their images take no more than this for each multiprocessor
TILE = (8, 16)  # values of a convolution's tile
INPUTS = (12, 22)  # most distinct input values of it
DENSE = (128, 256)  # points and outputs of a block of gemm


def blocks(taps, values, inputs):
    """The distinct inputs of each block of an axis: consecutive values while they fit (src/engine/cuda/blocks.rs)."""
    found, count = [], 0
    for of_value in taps:
        wanted = set(of_value) - {exact_plan.ZERO}
        if count in (0, values) or len(found[-1] | wanted) > inputs:
            found.append(set())
            count = 0
        found[-1] |= wanted
        count += 1
    return [len(block) for block in found]


@dataclass
class Work:
    """What a kernel does for a slice."""

    name: str
    operations: float = 0  # on matrix units, tiles' empty pixels included
    f32: float = 0
    l2: float = 0  # bytes
    memory: float = 0
    blocks: int = 0
    useful: float = 0  # operations that the plan asks for
    dense: bool = False  # by mma.sync on every GPU, one block on a multiprocessor at a time, two launches

    def seconds(self, gpu, together):
        """(seconds of one of so many slices side by side, what bounds it)"""
        share, blocks_at_once, launches = (gpu.mma_share, 1, 2) if self.dense else (gpu.share, gpu.blocks, 1)
        times = {
            "matrix": self.operations / (gpu.matrix_tflops * 1e12 * share),
            "f32": self.f32 / (gpu.f32_tflops * 1e12),
            "L2": self.l2 / (gpu.l2_gb_s * 1e9),
            "memory": self.memory / (gpu.copy_gb_s * 1e9),
        }
        bound = max(times, key=times.get)
        at_once = gpu.multiprocessors * blocks_at_once
        blocks = self.blocks * together
        rounds = math.ceil(blocks / at_once) * at_once / blocks if blocks else 1
        return launches * LAUNCH_S / together + times[bound] * (rounds if bound == "matrix" else 1), bound


def parts_of(layer):
    """Into how many parts a dense layer's sums are split (src/engine/cuda/weights.rs)."""
    padded = 16 * math.ceil(layer.channels / 16)
    return math.ceil(layer.side / math.ceil(layer.side / max(1, min(layer.side, 2048 // padded))))


def image_bytes(layer):
    """Of a layer's output, with a dense layer's sums."""
    sums = 4 * parts_of(layer) if layer.name.startswith("dense") else 0
    return layer.rows * layer.columns * layer.channels * (2 + sums)


def work_of(layers, side, l2_bytes, tiles_of_block=1):
    """Every launch of a slice; images that fit L2 (with their successor) are not fetched from memory again."""
    before = 0  # bytes of the previous image
    for layer in layers:
        pixels = layer.rows * layer.columns
        image = 2 * pixels * layer.channels
        passing = before + image
        memory = passing if passing > l2_bytes else 0
        if layer.name == "conv1":
            yield Work(layer.name, f32=72 * pixels * layer.channels, memory=image, useful=2 * layer.macs)
        elif layer.name.startswith("conv"):
            outputs = 128 if layer.channels % 128 == 0 else 64
            made = math.ceil(layer.channels / outputs)
            halos = [blocks(taps, *limits) for taps, limits in zip(layer.taps, zip(TILE, INPUTS))]
            tiles = len(halos[0]) * len(halos[1])
            halo_pixels = sum(halos[0]) * sum(halos[1])
            weights = 18 * layer.inputs * outputs
            yield Work(
                layer.name,
                operations=2 * tiles * TILE[0] * TILE[1] * 9 * layer.inputs * made * outputs,
                l2=made * (2 * halo_pixels * layer.inputs + tiles * weights / tiles_of_block) + image,
                memory=memory,
                blocks=math.ceil(tiles / tiles_of_block) * made,
                useful=2 * layer.macs,
            )
        elif layer.name.startswith("pool"):
            yield Work(layer.name, memory=passing, l2=passing)
        else:
            down, across = math.ceil(pixels / DENSE[0]), math.ceil(layer.channels / DENSE[1])
            outputs = 64 * math.ceil(layer.channels / 64)
            parts = parts_of(layer)
            sums = 4 * parts * pixels * layer.channels
            yield Work(
                layer.name,
                operations=2 * down * DENSE[0] * outputs * layer.inputs,
                l2=2 * layer.inputs * (across * pixels + down * outputs) + 2 * sums,
                memory=2 * layer.inputs * outputs + sum(moved for moved in (before, 2 * sums) if moved > l2_bytes),
                blocks=down * across * parts,
                useful=2 * layer.macs,
                dense=True,
            )
        before = image
    pixels = side * side
    yield Work("intensity", memory=pixels * VOXEL_BYTES)
    yield Work("write_mask", memory=pixels * OUTPUT_BYTES)


@dataclass
class Prediction:
    row: str
    together: int  # slices at work at a time
    layers: list  # (Work, seconds, bound)
    slice_s: float
    copies_s: float  # over PCIe, hidden behind the work
    convolutions_share: float  # of the matrix rate, useful operations

    @property
    def each_s(self):
        """Seconds that one more slice costs."""
        return max(self.slice_s, self.copies_s)


def side_by_side(layers, gpu):
    """Slices that are at work at a time."""
    images = [image_bytes(layer) for layer in layers]
    arena = max(images[::2]) + max(images[1::2])
    most = ARENA_MIB * 2**20 * gpu.multiprocessors
    return next((slots for slots in (SLOTS, SLOTS // 2) if slots * arena <= most), 1)


def predict(row, side, gpu):
    size, stride, *image = row.split("/")
    layers = exact_plan.layers(side, side, int(size), int(stride), bool(image))
    together = side_by_side(layers, gpu)
    found = [(work, *work.seconds(gpu, together)) for work in work_of(layers, side, gpu.l2_mib * 2**20, gpu.tiles)]
    convolutions = [(work, seconds) for work, seconds, _ in found if work.name.startswith("conv")]
    seconds = sum(seconds for _, seconds in convolutions)
    return Prediction(
        row,
        together,
        found,
        sum(seconds for _, seconds, _ in found),
        side * side * max(VOXEL_BYTES, OUTPUT_BYTES) / (gpu.host_gb_s * 1e9),
        sum(work.useful for work, _ in convolutions) / seconds / (gpu.matrix_tflops * 1e12),
    )


def host_seconds(side):
    """Seconds that the host thread copies for a slice: voxels to page-locked memory, the mask from there."""
    sizes = [side * side * VOXEL_BYTES, side * side * OUTPUT_BYTES]
    pairs = [(bytes(size), memoryview(bytearray(size))) for size in sizes]
    best = math.inf
    for _ in range(50):
        began = time.perf_counter()
        for source, target in pairs:
            target[:] = source
        best = min(best, time.perf_counter() - began)
    return best


def scan_seconds(prediction, slices, gpus, host_s):
    """A scan's slices on several GPUs: the slowest of the GPUs and the one thread that feeds them."""
    return max(math.ceil(slices / gpus) * prediction.each_s, slices * host_s) + 2 * prediction.copies_s


def table(header, lines):
    print(f"\n| {' | '.join(header)} |\n|{'---|' * len(header)}")
    for line in lines:
        print(f"| {' | '.join(map(str, line))} |")


def layer_table(prediction, name, measured):
    header = ["layer", "GFLOP", "tiles' waste", "L2 GB", "memory GB", "bound", "ms predicted"]
    lines = []
    for work, seconds, bound in prediction.layers:
        waste = f"{100 * (work.operations / work.useful - 1):.0f} %" if work.operations and work.useful else "-"
        line = [work.name, f"{work.useful / 1e9:.0f}", waste, f"{work.l2 / 1e9:.2f}", f"{work.memory / 1e9:.2f}", bound]
        line.append(f"{1e3 * seconds:.3f}")
        if work.name in measured:
            line += [f"{measured[work.name]:.3f}", f"{1e3 * seconds / measured[work.name]:.2f}"]
        elif measured:
            line += ["-", "-"]
        lines.append(line)
    print(f"\n{prediction.row} on {name}")
    table(header + (["ms measured", "predicted / measured"] if measured else []), lines)


def measured_layers(path):
    """{row: {layer: ms}} of gpu.py's file."""
    rows = json.loads(path.read_text())["rows"] if path else []
    return {row["row"]: {layer["layer"]: layer["ms"] for layer in row["layers"]} for row in rows if "layers" in row}


def timeline(predictions, path):
    """Predicted kernels of a slice as bars, a line for each GPU."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(11, 1 + 0.7 * len(predictions)), layout="constrained")
    for line, (name, prediction) in enumerate(predictions):
        begin = 0.0
        for number, (work, seconds, _) in enumerate(prediction.layers):
            axes.barh(line, 1e3 * seconds, left=1e3 * begin, color=pyplot.cm.tab20(number % 20), edgecolor="white", lw=0.4)
            if seconds > 0.04 * prediction.slice_s:
                axes.text(1e3 * (begin + seconds / 2), line, work.name.removeprefix("conv"), ha="center", va="center", size=8)
            begin += seconds
    axes.set_yticks(range(len(predictions)), [f"{name}, {prediction.row}" for name, prediction in predictions])
    axes.invert_yaxis()
    axes.set_xlabel("ms of a slice, predicted (numbers: convolutions)")
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", default=DEFAULT_ROWS, metavar="ROW", help="default: " + " ".join(DEFAULT_ROWS))
    parser.add_argument("--side", type=int, default=512, help="pixels of a slice's rows and columns (default 512)")
    parser.add_argument("--gpu", nargs="+", default=list(GPUS), choices=list(GPUS), metavar="NAME", help=", ".join(GPUS))
    parser.add_argument("--layers", action="store_true", help="also a table of the layers")
    parser.add_argument("--measured", type=Path, help="bench.json of gpu.py, from the first --gpu")
    parser.add_argument("--slices", type=int, default=100, help="of a scan (default 100)")
    parser.add_argument("--picture", type=Path, help="also draw the first ROW's kernels here (matplotlib)")
    given = parser.parse_args()
    measured = measured_layers(given.measured)
    host_s = host_seconds(given.side)
    predictions = {(row, name): predict(row, given.side, GPUS[name]) for row in given.rows for name in given.gpu}
    lines, several = [], []
    for (row, name), prediction in predictions.items():
        lines.append(
            [
                row,
                name,
                prediction.together,
                f"{1e3 * prediction.slice_s:.2f}",
                f"{100 * prediction.convolutions_share:.0f} %",
                f"{1e6 * prediction.copies_s:.0f} us",
                f"{given.slices * prediction.each_s:.2f} s",
            ]
        )
        most = prediction.each_s / host_s
        scans = [f"{scan_seconds(prediction, given.slices, gpus, host_s):.2f}" for gpus in (1, 2, 4, 8)]
        several.append([row, name, *scans, f"{most:.0f}"])
        if given.layers or row in measured:
            layer_table(prediction, name, measured.get(row, {}) if name == given.gpu[0] else {})
    table(["row", "GPU", "at a time", "ms a slice", "of the matrix rate, convolutions", "copies, hidden", f"{given.slices} slices"], lines)
    print(f"\nSeveral GPUs: seconds for {given.slices} slices; the host thread copies {1e6 * host_s:.0f} us a slice (measured here)")
    table(["row", "GPU", *(f"{n} GPU" for n in (1, 2, 4, 8)), "GPUs at which the host is the limit"], several)
    print(f"\n{SOURCES}")
    if given.picture:
        timeline([(name, predictions[given.rows[0], name]) for name in given.gpu], given.picture)


if __name__ == "__main__":
    main()
