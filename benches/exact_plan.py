"""Value numbering of VGG16, and what each layer computes: the library's plan (src/plan) written again in few lines.

    python3 benches/exact_plan.py          the table of docs/how-it-works.md
    for layer in layers(512, 512, 257, 8): layer.name, layer.rows, layer.columns, layer.macs
"""

from dataclasses import dataclass

BLOCKS = (2, 2, 3, 3, 3)  # convolutions between pools
FULL = (64, 64, 128, 128, 256, 256, 256) + (512,) * 6
STEPS = [step for count in BLOCKS for step in [3] * count + [2]]  # taps: 3 convolution, 2 pool
BLACK, ZERO = "black", "z"


@dataclass
class Layer:
    """One layer of a slice that is one tile."""

    name: str  # conv1 .. conv13, pool1 .. pool5, dense1 ..
    rows: int  # distinct values
    columns: int
    macs: int  # of the slice; 0 for pools
    channels: int  # of the output
    inputs: int = 0  # channels
    taps: tuple = ()  # of convolutions: for rows and columns, the three input values of each value (or ZERO)
    side: int = 1  # of a dense layer: rows of taps


def ranges(first, end, size, steps):
    """Positions (first, end) that a patch of positions 0 to `size` needs, of the input and after every step."""
    existing, needed = [(first, end)], [(0, size)]
    for taps in steps:
        first, end = (-(-first // 2), end // 2) if taps == 2 else (first, end)
        existing.append((first, end))
        needed.append((0, needed[-1][1] // 2) if taps == 2 else needed[-1])
    for index in reversed(range(len(steps))):
        (first, end), (low, high) = needed[index + 1], existing[index]
        needed[index] = (2 * first, 2 * end) if steps[index] == 2 else (max(first - 1, low), min(end + 1, high))
    return needed


def numbered(patches, needed, steps):
    """After each step: ([patch] -> {position: number}, distinct keys in the order of their numbers). A key is what a
    value is computed from: the numbers at its taps, ZERO where there is none. `patches`: {position: value} of the
    input.
    """
    for index, taps in enumerate(steps):
        numbers, reads = {}, lambda p: (p - 1, p, p + 1) if taps == 3 else (2 * p, 2 * p + 1)
        key = lambda values, p: tuple(values.get(at, ZERO) for at in reads(p))
        patches = [
            {p: numbers.setdefault(key(values, p), len(numbers)) for p in range(*of[index + 1])}
            for values, of in zip(patches, needed)
        ]
        yield patches, list(numbers)


def axis(length, size, stride, image=False):
    """(keys after every step, patches) of one axis of a slice."""
    starts = [centre - size // 2 for centre in range(0, length, stride)]
    covered = (starts[0], starts[-1] + size)
    needed = [ranges(*((at - start for at in covered) if image else (0, size)), size, STEPS) for start in starts]
    pixel = lambda at: at if 0 <= at < length else BLACK
    patches = [{p: pixel(start + p) for p in range(*of[0])} for start, of in zip(starts, needed)]
    return [keys for _, keys in numbered(patches, needed, STEPS)], len(starts)


def layers(width, height, size, stride, image=False, widths=FULL, hidden=(256, 256), classes=2, inputs=3):
    """Every layer of a slice evaluated as one tile."""
    (rows, down), (columns, across) = (axis(length, size, stride, image) for length in (height, width))
    made, outputs = [], iter(widths)
    for taps, *keys in zip(STEPS, rows, columns):
        counts = [len(of_axis) for of_axis in keys]
        if taps == 2:
            made.append(Layer(f"pool{STEPS[: len(made) + 1].count(2)}", *counts, 0, inputs, inputs))
            continue
        channels = next(outputs)
        macs = counts[0] * counts[1] * 9 * inputs * channels
        made.append(Layer(f"conv{STEPS[: len(made) + 1].count(3)}", *counts, macs, channels, inputs, tuple(keys)))
        inputs = channels
    side = size >> len(BLOCKS)
    inputs *= side**2
    for number, channels in enumerate((*hidden, classes), 1):
        macs = down * across * inputs * channels
        made.append(Layer(f"dense{number}", down, across, macs, channels, inputs, side=side))
        inputs, side = channels, 1
    return made


def patch_macs(size, widths=FULL, inputs=3):
    """Multiply-accumulates of a patch's convolutions."""
    macs, outputs = 0, iter(widths)
    for taps in STEPS:
        if taps == 2:
            size //= 2
        else:
            channels = next(outputs)
            macs += size**2 * 9 * inputs * channels
            inputs = channels
    return macs


def table():
    """Work of VGG16's convolutions, patch by patch and shared."""
    columns = "patch size / stride, slice of 512 x 512 | patches | TMAC, patch by patch | TMAC, shared | ratio"
    lines = [f"| {columns} |", "|---|---|---|---|---|"]
    for size, stride in ((257, 8), (257, 7), (65, 4)):
        count = len(range(0, 512, stride)) ** 2
        alone = count * patch_macs(size) / 1e12
        shared = sum(layer.macs for layer in layers(512, 512, size, stride) if layer.name.startswith("conv")) / 1e12
        lines.append(f"| {size} / {stride} | {count} | {alone:.1f} | {shared:.3g} | {alone / shared:.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
