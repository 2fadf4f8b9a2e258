"""How many values each layer of VGG16 has when those of all patches of a slice are numbered once, and its
multiply-accumulates: the library's plan (src/plan/axis.rs), written again in few lines.

    for layer in layers(512, 512, 257, 8): layer.name, layer.rows, layer.columns, layer.macs
"""

from dataclasses import dataclass

BLOCKS = (2, 2, 3, 3, 3)  # convolutions between poolings
FULL = (64, 64, 128, 128, 256, 256, 256) + (512,) * 6
STEPS = [step for count in BLOCKS for step in [3] * count + [2]]  # taps: 3 convolution, 2 pooling
BLACK, ZERO = "black", "zero"


@dataclass
class Layer:
    """One launch of the engine for a slice that is one tile."""

    name: str  # conv1 .. conv13, pool1 .. pool5, dense1 ..
    rows: int  # distinct values
    columns: int
    macs: int  # of the slice; 0 for poolings
    channels: int  # of the output
    inputs: int = 0  # channels
    taps: tuple = ()  # of convolutions: for rows and columns, the three input values of each value (or ZERO)
    side: int = 1  # of a dense layer: rows of taps

    @property
    def kernel(self):
        """How the name of the kernel that computes it begins; split_k_reduce adds up what gemm makes."""
        return {"conv": "conv3_", "pool": "gather_max_pool", "dens": "gemm"}[self.name[:4]]


def ranges(start, size, covered, image):
    """Positions of a patch that the head needs: of the input and after every step, as (first, end)."""
    existing = [(covered[0] - start, covered[1] - start) if image else (0, size)]
    for taps in STEPS:
        first, end = existing[-1]
        existing.append((-(-first // 2), end // 2) if taps == 2 else (first, end))
    needed = existing[:-1] + [(0, size >> len(BLOCKS))]
    for index in reversed(range(len(STEPS))):
        first, end = needed[index + 1]
        low, high = existing[index]
        needed[index] = (2 * first, 2 * end) if STEPS[index] == 2 else (max(first - 1, low), min(end + 1, high))
    return needed


def axis(length, size, stride, image=False):
    """(taps of the distinct values after every step, patches) of one axis of a slice."""
    starts = [centre - size // 2 for centre in range(0, length, stride)]
    covered = (starts[0], starts[-1] + size)
    needed = [ranges(start, size, covered, image) for start in starts]
    patches = [
        {position: start + position if 0 <= start + position < length else BLACK for position in range(*of[0])}
        for start, of in zip(starts, needed)
    ]
    tables = []
    for index, taps in enumerate(STEPS):
        numbers = {}
        for patch, values in enumerate(patches):
            keys = (
                tuple(values.get(at, ZERO) for at in ((p - 1, p, p + 1) if taps == 3 else (2 * p, 2 * p + 1)))
                for p in range(*needed[patch][index + 1])
            )
            patches[patch] = {
                p: numbers.setdefault(key, len(numbers)) for p, key in zip(range(*needed[patch][index + 1]), keys)
            }
        tables.append(list(numbers))
    return tables, len(starts)


def layers(width, height, size, stride, image=False, widths=FULL, hidden=(256, 256), classes=2, inputs=3):
    """Every layer of a slice evaluated as one tile."""
    (rows, down), (columns, across) = (axis(length, size, stride, image) for length in (height, width))
    made, convolutions, pools = [], 0, 0
    for index, taps in enumerate(STEPS):
        count = (len(rows[index]), len(columns[index]))
        if taps == 3:
            outputs = widths[convolutions]
            convolutions += 1
            macs = count[0] * count[1] * 9 * inputs * outputs
            made.append(Layer(f"conv{convolutions}", *count, macs, outputs, inputs, (rows[index], columns[index])))
            inputs = outputs
        else:
            pools += 1
            made.append(Layer(f"pool{pools}", *count, 0, inputs, inputs))
    side = size >> len(BLOCKS)
    inputs *= side**2
    for number, outputs in enumerate((*hidden, classes), 1):
        macs = down * across * inputs * outputs
        made.append(Layer(f"dense{number}", down, across, macs, outputs, inputs, side=side))
        inputs, side = outputs, 1
    return made
