"""Estimate of a slice's time on an H100, layer by layer, from operations, bytes and the machine's rates; needs no GPU.

    python benches/model.py [ROW...] [--side N]

ROW is PATCH/STRIDE or PATCH/STRIDE/image (default 257/8), full-width VGG16 on slices of 512 x 512. A kernel takes the
longest of the times that its operations, its bytes from L2 and its bytes from memory need, in whole rounds of blocks,
and a launch. Small slices (`--side`) run side by side (src/engine/cuda/buffers/arena.rs) and share launches and rounds:

    seconds = launch + max(operations / matrix rate, L2 bytes / L2 rate, memory bytes / copy rate) * rounds
"""

import argparse
import math
from dataclasses import dataclass

import exact_plan


# Rates that programs reach on an H100, not those of the data sheet: the matrix and copy rates were measured on one;
# mma.sync reaches 390 to 495 of 798 TFLOP/s, register-A wgmma 640 and more (published); L2 is from micro-benchmarks.
MULTIPROCESSORS = 132
MATRIX_FLOPS, F32_FLOPS = 798e12, 62e12
CONV_SHARE, DENSE_SHARE = 0.80, 0.55  # of the matrix rate, in the inner loops of wgmma and mma.sync
COPY, L2, L2_BYTES = 3000e9, 5500e9, 50 << 20  # bytes a second, read and written; bytes a second; bytes
SUBTILES = 2  # of a block of a convolution, which share the weights that it reads
LAUNCH_S = 2.5e-6  # of a kernel in a graph
SLOTS, ARENA_BYTES = 4, 4 << 20  # slices side by side while their images take no more than this for each multiprocessor
SUBTILE, INPUTS = (8, 16), (12, 22)  # values of a subtile of a convolution, and the maximum of its distinct input values
DENSE = (128, 256)  # patches and outputs of a block of gemm
HOST_S_PER_BYTE = 5e-11  # one host thread copies voxels to page-locked memory, and masks from there


def sections(taps, values, inputs):
    """Distinct inputs of each section of an axis: consecutive values while they fit (src/engine/cuda/sections.rs)."""
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
    operations: float = 0  # on matrix units, subtiles' empty pixels included
    f32: float = 0
    l2: float = 0  # bytes
    memory: float = 0
    blocks: int = 0
    useful: float = 0  # operations that the plan asks for
    dense: bool = False  # by mma.sync, in two launches

    def seconds(self, together=1):
        """(seconds of one of so many slices side by side, what bounds it)"""
        times = {
            "matrix": self.operations / (MATRIX_FLOPS * (DENSE_SHARE if self.dense else CONV_SHARE)),
            "f32": self.f32 / F32_FLOPS,
            "L2": self.l2 / L2,
            "memory": self.memory / COPY,
        }
        bound = max(times, key=times.get)
        seconds, rounds = (
            times[bound],
            self.blocks * together / MULTIPROCESSORS,
        )  # a block on a multiprocessor at a time
        if bound == "matrix" and rounds:
            seconds *= math.ceil(rounds) / rounds
        return (2 if self.dense else 1) * LAUNCH_S / together + seconds, bound


def split_k(layer):
    """Number of parts that a dense layer's sums are split into (src/engine/cuda/weights.rs)."""
    padded = 16 * math.ceil(layer.channels / 16)
    return math.ceil(layer.side / math.ceil(layer.side / max(1, min(layer.side, 2048 // padded))))


def side_by_side(layers):
    """Number of slices that are evaluated at a time."""
    sums = lambda layer: 4 * split_k(layer) if layer.name.startswith("dense") else 0
    images = [layer.rows * layer.columns * layer.channels * (2 + sums(layer)) for layer in layers]
    arena = max(images[::2]) + max(images[1::2])
    return next((slots for slots in (SLOTS, SLOTS // 2) if slots * arena <= ARENA_BYTES * MULTIPROCESSORS), 1)


def work_of(layers, side):
    """Every launch of a slice; images that fit L2 (with their successor) are not fetched from memory again."""
    before = 0  # bytes of the previous image
    for layer in layers:
        pixels, useful = layer.rows * layer.columns, 2 * layer.macs
        image = 2 * pixels * layer.channels
        passing = before + image
        memory = passing if passing > L2_BYTES else 0
        if layer.name == "conv1":
            yield Work(layer.name, f32=72 * pixels * layer.channels, memory=image, useful=useful)
        elif layer.name.startswith("conv"):
            outputs = 128 if layer.channels % 128 == 0 else 64
            made = math.ceil(layer.channels / outputs)
            halos = [sections(taps, *limits) for taps, limits in zip(layer.taps, zip(SUBTILE, INPUTS))]
            subtiles = len(halos[0]) * len(halos[1])
            halo_bytes = 2 * sum(halos[0]) * sum(halos[1]) * layer.inputs
            weights = 18 * layer.inputs * outputs
            yield Work(
                layer.name,
                operations=subtiles * SUBTILE[0] * SUBTILE[1] * made * weights,
                l2=made * (halo_bytes + subtiles * weights / SUBTILES) + image,
                memory=memory,
                blocks=math.ceil(subtiles / SUBTILES) * made,
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
                memory=2 * layer.inputs * outputs + sum(moved for moved in (before, 2 * sums) if moved > L2_BYTES),
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


def estimate(row, side):
    """Prints the table of the layers; the line of the summary."""
    size, stride, *image = row.split("/")
    layers = exact_plan.layers(side, side, int(size), int(stride), bool(image))
    together = side_by_side(layers)
    work = list(work_of(layers, side))
    found = [one.seconds(together) for one in work]
    lines = []
    for one, (seconds, bound) in zip(work, found):
        waste = f"{100 * (one.operations / one.useful - 1):.0f} %" if one.operations else "-"
        cells = f"{one.useful / 1e9:.0f}", waste, f"{one.l2 / 1e9:.2f}", f"{one.memory / 1e9:.2f}", bound
        lines.append([one.name, *cells, f"{1e3 * seconds:.3f}"])
    print(f"\n{row}")
    table(["layer", "GFLOP", "subtiles' waste", "L2 GB", "memory GB", "bound", "ms"], lines)
    total = sum(seconds for seconds, _ in found)
    in_turn = sum(one.seconds()[0] for one in work)
    convolutions = [(one.useful, seconds) for one, (seconds, _) in zip(work, found) if one.name.startswith("conv")]
    share = sum(useful for useful, _ in convolutions) / sum(seconds for _, seconds in convolutions) / MATRIX_FLOPS
    gpus = total / (3 * side**2 * HOST_S_PER_BYTE)
    return [row, f"{1e3 * total:.2f}", f"{100 * share:.0f} %", str(together), f"{in_turn / total:.1f}", f"{gpus:.0f}"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", default=["257/8"], metavar="ROW")
    parser.add_argument("--side", type=int, default=512, help="pixels of a slice's rows and columns (default 512)")
    given = parser.parse_args()
    lines = [estimate(row, given.side) for row in given.rows]
    header = ["row", "ms a slice", "% of the matrix rate in convolutions", "slices side by side"]
    table([*header, "times faster than in turn", "GPUs that one host thread feeds"], lines)


if __name__ == "__main__":
    main()
