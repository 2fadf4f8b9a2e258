"""Runs `build/segment` on the golden cases and compares logits and masks. Standard library only.

    python3 tests/golden/check.py [NAME...]          SEGMENT=path/to/segment, else build/segment

Logits: within 1e-4 of the largest of the case. Masks: equal, except where the reference's two best classes differ
by less than that, which are counted. Header lines of the grid: those of ct.nrrd. The first difference is printed as
(slice,row,column) with both values, and the exit status is 1.
"""

import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import raw_nrrd  # noqa: E402

TOLERANCE = 1e-4
GRID = ("sizes", "space", "space directions", "space origin")


class Mismatch(Exception):
    """What differs first."""


def first_bad(index, sizes, have, want):
    """Text with (slice,row,column) of flat `index` in an array of `sizes`, fastest first."""
    place = []
    for size in sizes:
        place.append(index % size)
        index //= size
    label = f"({','.join(map(str, reversed(place[-3:])))})"
    if len(place) == 4:
        label = f"lattice {label} class {place[0]}"
    return f"{label}: {have}, expected {want}"


def compare_logits(have, want, sizes):
    """Largest difference relative to the largest logit."""
    largest = max(abs(value) for value in want if not math.isnan(value))
    worst = 0.0
    for index, (a, b) in enumerate(zip(have, want)):
        if math.isnan(a) and math.isnan(b):
            continue
        difference = abs(a - b) / largest
        if not difference <= TOLERANCE:  # also when only one is NaN
            raise Mismatch("logits " + first_bad(index, sizes, a, b))
        worst = max(worst, difference)
    return worst, TOLERANCE * largest


class Lattice:
    """The reference's logits, to ask how clear the choice at a voxel was."""

    def __init__(self, case, sizes, logits):
        self.case, self.sizes, self.logits = case, sizes, logits

    def at(self, x, y, z):
        classes, width, height, _ = self.sizes
        first = ((z * height + y) * width + x) * classes
        return self.logits[first : first + classes]

    def margin(self, index, width, height):
        """Distance of the two best classes at voxel `index`: logits, or probabilities for linear fill."""
        x, y, z = index % width, index // width % height, index // (width * height)
        column, row = x - self.case["origin"][0], y - self.case["origin"][1]
        if self.case["fill"] == "linear":
            values = self.interpolated(column, row, z)
        else:
            values = self.at(self.nearest(column, self.sizes[1]), self.nearest(row, self.sizes[2]), z)
        best = sorted(values)
        return best[-1] - best[-2]

    def nearest(self, position, count):
        return min(range(count), key=lambda k: abs(position - k * self.case["stride"]))

    def interpolated(self, column, row, z):
        stride, (classes, width, height, _) = self.case["stride"], self.sizes
        mixed = [0.0] * classes
        low_x, low_y = min(column // stride, width - 1), min(row // stride, height - 1)
        right = 0.0 if low_x == width - 1 else column / stride - low_x
        down = 0.0 if low_y == height - 1 else row / stride - low_y
        for y, weight_y in ((low_y, 1 - down), (min(low_y + 1, height - 1), down)):
            for x, weight_x in ((low_x, 1 - right), (min(low_x + 1, width - 1), right)):
                exponentials = [math.exp(value) for value in self.at(x, y, z)]
                for index, value in enumerate(exponentials):
                    mixed[index] += weight_y * weight_x * value / sum(exponentials)
        return mixed


def compare_mask(have, want, sizes, lattice, limit):
    """Voxels that differ although the choice was close."""
    close = 0
    for index, (a, b) in enumerate(zip(have, want)):
        if a != b:
            if not lattice.margin(index, sizes[0], sizes[1]) < limit:
                raise Mismatch("mask " + first_bad(index, sizes, a, b))
            close += 1
    return close


def check(folder, segment, extra=()):
    """Runs one case; returns a line about it."""
    case = json.loads((folder / "case.json").read_text())
    with tempfile.TemporaryDirectory() as temporary:
        mask_path, logits_path = Path(temporary, "mask.nrrd"), Path(temporary, "logits.nrrd")
        command = [segment, "--quiet", "--device", "cpu", "--model", "model.safetensors", *case["segment"], *extra]
        command += ["--logits", str(logits_path), "ct.nrrd", str(mask_path)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode != 0:
            raise Mismatch(f"segment exits with {done.returncode}: {done.stderr.strip()}")
        mask_fields, mask = raw_nrrd.read(mask_path)
        logits_fields, logits = raw_nrrd.read(logits_path)
    ct_fields, _ = raw_nrrd.read(folder / "ct.nrrd")
    want_fields, want_logits = raw_nrrd.read(folder / "logits.nrrd")
    _, want_mask = raw_nrrd.read(folder / "mask.nrrd")
    for name in GRID:
        if mask_fields.get(name) != ct_fields.get(name):
            raise Mismatch(f"mask header {name}: {mask_fields.get(name)}, expected {ct_fields.get(name)}")
    if logits_fields["sizes"] != want_fields["sizes"]:
        raise Mismatch(f"logits sizes: {logits_fields['sizes']}, expected {want_fields['sizes']}")
    sizes = want_fields["sizes"]
    error, limit = compare_logits(logits, want_logits, sizes)
    close = compare_mask(mask, want_mask, ct_fields["sizes"], Lattice(case, sizes, want_logits), limit)
    return f"{case['patches']} patches, logits {error:.1e} (limit {TOLERANCE:.0e}), {close} close voxels differ"


def main():
    segment = os.path.abspath(os.environ.get("SEGMENT", HERE.parent.parent / "build" / "segment"))
    if not os.path.exists(segment):
        sys.exit(f"{segment}: not there; run `make`, or name it in SEGMENT")
    names = sys.argv[1:] or sorted(path.parent.name for path in HERE.glob("*/case.json"))
    failed = 0
    for name in names:
        for label, extra in ((name, ()), (f"{name} --no-sharing", ("--no-sharing",))):
            try:
                print(f"ok {label}: {check(HERE / name, segment, extra)}", flush=True)
            except Mismatch as mismatch:
                failed += 1
                print(f"FAILED {label}: {mismatch}", flush=True)
    if not names:
        sys.exit(f"{HERE}: no cases")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
