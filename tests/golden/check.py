"""Runs `build/segment` on the golden cases and compares logits and masks. Standard library only.

    python3 tests/golden/check.py [NAME...]          SEGMENT=path/to/segment, else build/segment

Logits: within 1e-4 of the largest of the case. Masks: equal, except where the two best classes of the reference differ by less
than that (`close` in case.json): those that differ are counted. Header lines of the grid: those of ct.nrrd. The first
difference is printed with its place, and the exit status is 1.
"""

import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "cli"))
import volume_files  # noqa: E402

SEGMENT = os.path.abspath(os.environ.get("SEGMENT", HERE.parent.parent / "build" / "segment"))
TOLERANCE = 1e-4


class Mismatch(Exception):
    """The first difference."""


def first_bad(index, sizes, have, want):
    """Text with the place of flat `index`: (slice,row,column), in the patch grid (slice,row,column,class)."""
    place = []
    for size in sizes:
        place.insert(0, index % size)
        index //= size
    return f"({','.join(map(str, place))}): {have}, expected {want}"


def compare_logits(have, want, sizes):
    """Largest difference relative to the largest logit."""
    largest = max(abs(value) for value in want if not math.isnan(value))
    differences = [0.0 if a != a and b != b else abs(a - b) / largest for a, b in zip(have, want)]
    for index, difference in enumerate(differences):
        if not difference <= TOLERANCE:  # also when only one is NaN
            raise Mismatch("logits " + first_bad(index, sizes, have[index], want[index]))
    return max(differences)


def compare_mask(have, want, sizes, close):
    """Number of voxels that differ, all of them close."""
    wrong = [index for index, (a, b) in enumerate(zip(have, want)) if a != b]
    for index in wrong:
        if index not in close:
            raise Mismatch("mask " + first_bad(index, sizes, have[index], want[index]))
    return len(wrong)


def check(folder, extra=()):
    """Runs one case; a line about it."""
    case = json.loads((folder / "case.json").read_text())
    with tempfile.TemporaryDirectory() as temporary:
        outputs = [Path(temporary, name) for name in ("logits.nrrd", "mask.nrrd")]
        command = [SEGMENT, "--quiet", "--device", "cpu", "--model", "model.safetensors", *case["segment"], *extra]
        command += ["--logits", outputs[0], "ct.nrrd", outputs[1]]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Mismatch(f"segment exits with {done.returncode}: {done.stderr.strip()}")
        (logits_fields, logits), (mask_fields, mask) = map(volume_files.read, outputs)
    ct_fields, _ = volume_files.read(folder / "ct.nrrd")
    want_fields, want_logits = volume_files.read(folder / "logits.nrrd")
    _, want_mask = volume_files.read(folder / "mask.nrrd")
    for name in ("sizes", "space", "space directions", "space origin"):
        if mask_fields.get(name) != ct_fields.get(name):
            raise Mismatch(f"mask header {name}: {mask_fields.get(name)}, expected {ct_fields.get(name)}")
    if logits_fields["sizes"] != want_fields["sizes"]:
        raise Mismatch(f"logits sizes: {logits_fields['sizes']}, expected {want_fields['sizes']}")
    error = compare_logits(logits, want_logits, volume_files.sizes(want_fields))
    close = compare_mask(mask, want_mask, volume_files.sizes(ct_fields), case["close"])
    return f"{case['patches']} patches, logits {error:.1e} (limit {TOLERANCE:.0e}), {close} close voxels differ"


def main():
    names = sys.argv[1:] or sorted(path.parent.name for path in HERE.glob("*/case.json"))
    if not names or not os.path.exists(SEGMENT):
        sys.exit(f"{HERE}: no cases" if not names else f"{SEGMENT}: not there; run `make`, or name it in SEGMENT")
    failed = 0
    for name in names:
        for extra in ((), ("--no-sharing",)):
            label = " ".join([name, *extra])
            try:
                print(f"ok {label}: {check(HERE / name, extra)}", flush=True)
            except Mismatch as mismatch:
                failed += 1
                print(f"FAILED {label}: {mismatch}", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
