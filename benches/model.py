"""Estimate of a slice's time on a GPU, layer by layer, from operations, bytes and the machine's rates; needs no GPU.

    python benches/model.py [ROW...] [--side N] [--gpu NAME...] [--measured gpu.json]

ROW is PATCH/STRIDE or PATCH/STRIDE/image (default 257/8), full-width VGG16 on slices of 512 x 512. A kernel takes the longest
of the times that its operations, its bytes from L2 and its bytes from memory need, in whole rounds of blocks, and a launch.
Small slices (`--side`) are evaluated side by side (src/engine/cuda/buffers/arena.rs) and share launches' time and rounds:

    seconds = launch + max(operations / matrix rate, L2 bytes / L2 rate, memory bytes / copy rate) * rounds

`--measured` puts gpu.py's times of the layers beside it.
"""

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path

import exact_plan


@dataclass
class Gpu:
    """Rates that programs reach, not those of the data sheet."""

    multiprocessors: int
    matrix_flops: float  # fp16 products with f32 sums
    share: float  # of that rate which the convolution kernels' inner loop can reach
    mma_share: float  # the same of a kernel with mma.sync
    f32_flops: float
    copy: float  # bytes a second, read and written
    l2: float  # bytes a second
    l2_bytes: int
    blocks: int  # of a convolution on a multiprocessor at a time
    tiles: int  # of such a block, which share the weights that it reads


# H100: matrix and copy rate measured on one; before Hopper mma.sync is the matrix rate itself, on Hopper it reaches 390 to 495 of
# 798 TFLOP/s, register-A wgmma products 640 and more (published). A100: 87 % of the data sheet. L2: published micro-benchmarks.
# Blocks are those of the kernels that the library chooses (src/engine/cuda/kernels.rs).
GPUS = {
    "H100": Gpu(132, 798e12, 0.80, 0.55, 62e12, 3000e9, 5500e9, 50 << 20, 1, 2),
    "A100": Gpu(108, 270e12, 0.90, 0.90, 19.5e12, 1700e9, 4500e9, 40 << 20, 2, 1),
}
LAUNCH_S = 2.5e-6  # of a kernel in a graph
SLOTS, ARENA_BYTES = 4, 4 << 20  # slices side by side while their images take no more than this for each multiprocessor
TILE = (8, 16)  # values of a convolution's tile
INPUTS = (12, 22)  # maximum of distinct input values of it
DENSE = (128, 256)  # patches and outputs of a block of gemm
HOST_S_PER_BYTE = 5e-11  # one host thread copies voxels to page-locked memory, and masks from there


def blocks(taps, values, inputs):
    """Distinct inputs of each block of an axis: consecutive values while they fit (src/engine/cuda/blocks.rs)."""
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
    """Work of a kernel for a slice."""

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
            "matrix": self.operations / (gpu.matrix_flops * share),
            "f32": self.f32 / gpu.f32_flops,
            "L2": self.l2 / gpu.l2,
            "memory": self.memory / gpu.copy,
        }
        bound = max(times, key=times.get)
        seconds, at_once, all_blocks = times[bound], gpu.multiprocessors * blocks_at_once, self.blocks * together
        if bound == "matrix" and all_blocks:
            seconds *= math.ceil(all_blocks / at_once) * at_once / all_blocks
        return launches * LAUNCH_S / together + seconds, bound


def split_k(layer):
    """Number of parts that a dense layer's sums are split into (src/engine/cuda/weights.rs)."""
    padded = 16 * math.ceil(layer.channels / 16)
    return math.ceil(layer.side / math.ceil(layer.side / max(1, min(layer.side, 2048 // padded))))


def side_by_side(layers, gpu):
    """Number of slices that are evaluated at a time."""
    sums = lambda layer: 4 * split_k(layer) if layer.name.startswith("dense") else 0
    images = [layer.rows * layer.columns * layer.channels * (2 + sums(layer)) for layer in layers]
    arena = max(images[::2]) + max(images[1::2])
    return next((slots for slots in (SLOTS, SLOTS // 2) if slots * arena <= ARENA_BYTES * gpu.multiprocessors), 1)


def work_of(layers, side, gpu):
    """Every launch of a slice; images that fit L2 (with their successor) are not fetched from memory again."""
    before = 0  # bytes of the previous image
    for layer in layers:
        pixels, useful = layer.rows * layer.columns, 2 * layer.macs
        image = 2 * pixels * layer.channels
        passing = before + image
        memory = passing if passing > gpu.l2_bytes else 0
        if layer.name == "conv1":
            yield Work(layer.name, f32=72 * pixels * layer.channels, memory=image, useful=useful)
        elif layer.name.startswith("conv"):
            outputs = 128 if layer.channels % 128 == 0 else 64
            made = math.ceil(layer.channels / outputs)
            halos = [blocks(taps, *limits) for taps, limits in zip(layer.taps, zip(TILE, INPUTS))]
            tiles = len(halos[0]) * len(halos[1])
            halo_bytes = 2 * sum(halos[0]) * sum(halos[1]) * layer.inputs
            weights = 18 * layer.inputs * outputs
            yield Work(
                layer.name,
                operations=tiles * TILE[0] * TILE[1] * made * weights,
                l2=made * (halo_bytes + tiles * weights / gpu.tiles) + image,
                memory=memory,
                blocks=math.ceil(tiles / gpu.tiles) * made,
                useful=useful,
            )
        elif layer.name.startswith("pool"):
            yield Work(layer.name, memory=passing, l2=passing)
        else:
            down, across = math.ceil(pixels / DENSE[0]), math.ceil(layer.channels / DENSE[1])
            outputs = 64 * math.ceil(layer.channels / 64)
            sums = 4 * split_k(layer) * pixels * layer.channels
            yield Work(
                layer.name,
                operations=2 * down * DENSE[0] * outputs * layer.inputs,
                l2=2 * layer.inputs * (across * pixels + down * outputs) + 2 * sums,
                memory=2 * layer.inputs * outputs + sum(moved for moved in (before, 2 * sums) if moved > gpu.l2_bytes),
                blocks=down * across * split_k(layer),
                useful=useful,
                dense=True,
            )
        before = image
    yield Work("intensity", memory=2 * side**2)
    yield Work("write_mask", memory=side**2)


def table(header, lines):
    print(f"\n| {' | '.join(header)} |\n|{'---|' * len(header)}")
    for line in lines:
        print(f"| {' | '.join(line)} |")


def estimate(row, name, side, measured):
    """Prints the table of the layers; the line of the summary."""
    gpu, (size, stride, *image) = GPUS[name], row.split("/")
    layers = exact_plan.layers(side, side, int(size), int(stride), bool(image))
    together = side_by_side(layers, gpu)
    work = list(work_of(layers, side, gpu))
    found = [one.seconds(gpu, together) for one in work]
    lines = []
    for one, (seconds, bound) in zip(work, found):
        waste = f"{100 * (one.operations / one.useful - 1):.0f} %" if one.operations else "-"
        cells = [one.name, f"{one.useful / 1e9:.0f}", waste, f"{one.l2 / 1e9:.2f}", f"{one.memory / 1e9:.2f}", bound]
        ms = [1e3 * seconds, *([measured[one.name], 1e3 * seconds / measured[one.name]] if one.name in measured else [])]
        lines.append([*cells, *(f"{value:.3f}" for value in ms)])
    print(f"\n{row} on {name}")
    compared = ["ms measured", "estimate / measured"] if measured else []
    table(["layer", "GFLOP", "tiles' waste", "L2 GB", "memory GB", "bound", "ms", *compared], lines)
    total = sum(seconds for seconds, _ in found)
    in_turn = sum(one.seconds(gpu, 1)[0] for one in work)
    convolutions = [(one.useful, seconds) for one, (seconds, _) in zip(work, found) if one.name.startswith("conv")]
    share = sum(useful for useful, _ in convolutions) / sum(seconds for _, seconds in convolutions) / gpu.matrix_flops
    gpus = total / (3 * side**2 * HOST_S_PER_BYTE)
    return [row, name, f"{1e3 * total:.2f}", f"{100 * share:.0f} %", str(together), f"{in_turn / total:.1f}", f"{gpus:.0f}"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", default=["257/8"], metavar="ROW")
    parser.add_argument("--side", type=int, default=512, help="pixels of a slice's rows and columns (default 512)")
    parser.add_argument("--gpu", nargs="+", default=["H100"], choices=list(GPUS), metavar="NAME", help=", ".join(GPUS))
    parser.add_argument("--measured", type=Path, help="the file of gpu.py --json, from the first --gpu")
    given = parser.parse_args()
    rows = json.loads(given.measured.read_text())["rows"] if given.measured else []
    measured = {row["row"]: {layer["layer"]: layer["ms"] for layer in row.get("layers", [])} for row in rows}
    lines = [
        estimate(row, name, given.side, measured.get(row, {}) if name == given.gpu[0] else {})
        for row in given.rows
        for name in given.gpu
    ]
    in_turn = "slices side by side", "times faster than in turn"
    table(["row", "GPU", "ms a slice", "% of the matrix rate in convolutions", *in_turn, "GPUs that one host thread feeds"], lines)


if __name__ == "__main__":
    main()
