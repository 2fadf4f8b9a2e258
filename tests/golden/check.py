"""Runs `build/segment` on the golden cases and compares logits and masks. Standard library only.

    python3 tests/golden/check.py [NAME...]          SEGMENT=path/to/segment, else build/segment

Logits: within 1e-4 of the largest of the case. Masks: equal, except where the two best classes of the reference differ
by less than that (`close` in case.json): those that differ are counted. Header lines of the grid: those of ct.nrrd. The
first difference is printed with its place, and the exit status is 1.
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


def differences(what, have, want, sizes, allowed):
    """Indices where two lists differ; an error at the first that is not `allowed`: (slice,row,column[,class])."""
    found = [index for index, (a, b) in enumerate(zip(have, want)) if a != b and (a == a or b == b)]
    for index in found:
        if not allowed(index):
            place, rest = [], index
            for size in sizes:
                place.insert(0, rest % size)
                rest //= size
            raise RuntimeError(f"{what} ({','.join(map(str, place))}): {have[index]}, expected {want[index]}")
    return found


def check(folder, extra=()):
    """Runs one case; a line about it."""
    case = json.loads((folder / "case.json").read_text())
    with tempfile.TemporaryDirectory() as temporary:
        outputs = [Path(temporary, name) for name in ("logits.nrrd", "mask.nrrd")]
        command = [SEGMENT, "--quiet", "--device", "cpu", "--model", "model.safetensors", *case["segment"], *extra]
        command += ["--logits", outputs[0], "ct.nrrd", outputs[1]]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"segment exits with {done.returncode}: {done.stderr.strip()}")
        (logits_fields, logits), (mask_fields, mask) = map(volume_files.read, outputs)
    ct_fields, _ = volume_files.read(folder / "ct.nrrd")
    want_fields, want_logits = volume_files.read(folder / "logits.nrrd")
    _, want_mask = volume_files.read(folder / "mask.nrrd")
    for name in ("sizes", "space", "space directions", "space origin"):
        if mask_fields.get(name) != ct_fields.get(name):
            raise RuntimeError(f"mask header {name}: {mask_fields.get(name)}, expected {ct_fields.get(name)}")
    if logits_fields["sizes"] != want_fields["sizes"]:
        raise RuntimeError(f"logits sizes: {logits_fields['sizes']}, expected {want_fields['sizes']}")
    largest = max(abs(value) for value in want_logits if not math.isnan(value))
    error = lambda index: abs(logits[index] - want_logits[index]) / largest  # NaN when only one is
    sizes = volume_files.sizes(want_fields), volume_files.sizes(ct_fields)
    off = differences("logits", logits, want_logits, sizes[0], lambda index: error(index) <= TOLERANCE)
    close = differences("mask", mask, want_mask, sizes[1], case["close"].__contains__)
    worst = max(map(error, off), default=0)
    return f"{case['patches']} patches, logits {worst:.1e} (limit {TOLERANCE:.0e}), {len(close)} close voxels differ"


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
            except RuntimeError as mismatch:
                failed += 1
                print(f"FAILED {label}: {mismatch}", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
