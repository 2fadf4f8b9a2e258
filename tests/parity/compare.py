"""Parity: `build/segment` against patch-by-patch evaluation in onnxruntime, over awkward geometries.

    python tests/parity/compare.py [CASE...] [--quick]          the cases of cases.py, or those named
    python tests/parity/compare.py --random 100 --seed 1        cases drawn at random instead of the list

Per case and for both ways of evaluation (shared, `--no-sharing`):
    logits       max |difference| / max |logit| <= 1e-4, NaN exactly where a ROI asks for nothing
    mask         equal, but for voxels whose two best classes differ by less than that (counted: `close`)
    probability  within 1e-4 of the same scale
and for some cases that threads and memory budget do not change a bit. Prints a table, where `spread` is the deviation
of the logits between patches over the largest logit: a case with little spread would pass without proving anything.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from cases import CASES, TOLERANCE, random_case, volume_files

SEGMENT = Path(os.environ.get("SEGMENT", Path(__file__).resolve().parents[2] / "build" / "segment")).resolve()
OUTPUTS = ("logits", "mask", "probability")


def first_bad(what, wrong, have, want):
    """Raises an error with the first place where `wrong`: slice, row, column (of the patch grid for logits), class."""
    if wrong.any():
        place = tuple(map(int, np.argwhere(wrong)[0]))
        raise RuntimeError(f"{what}: {wrong.sum()} wrong, first {place}: {have[place]}, expected {want[place]}")


def run(case, folder, *extra):
    """Runs the program; ([logits, mask, probability], seconds)."""
    command = [SEGMENT, "--quiet", "--device", "cpu", "--model", "model.safetensors", *case.options(), *extra]
    command += ["--logits", "logits.nrrd", "--probability", "probability.nrrd", "ct.nrrd", "mask.nrrd"]
    started = time.monotonic()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - started
    if done.returncode != 0:
        raise RuntimeError(f"exit status {done.returncode}: {done.stderr.strip()}")
    return [volume_files.load(folder / f"{name}.nrrd") for name in OUTPUTS], seconds


def check(have, expected):
    """(relative error of the logits, close voxels that differ)"""
    logits, mask, probability = have
    want_logits, (want_mask, want_probability, close), limit = expected
    if logits.shape != want_logits.shape:
        raise RuntimeError(f"logits of shape {logits.shape}, expected {want_logits.shape}")
    difference = np.where(np.isnan(logits) & np.isnan(want_logits), 0, np.abs(logits - want_logits))
    first_bad("logits", ~(difference <= limit), logits, want_logits)
    first_bad("mask", (mask != want_mask) & ~close, mask, want_mask)
    first_bad("probability", ~(np.abs(probability - want_probability) <= limit), probability, want_probability)
    return difference.max() / limit * TOLERANCE, (mask != want_mask).sum()


def same_bits(case, folder, first):
    """Threads and the memory budget must not change a bit of the shared evaluation."""
    for extra in (("--threads", "1"), ("--threads", "3"), ("--memory", str(case.memory))):
        for name, a, b in zip(OUTPUTS, first, run(case, folder, *extra)[0]):
            bits = [x.view(f"u{x.itemsize}") for x in (a, b)]
            first_bad(f"{' '.join(extra)} changes {name}", bits[0] != bits[1], b, a)


def one_case(case, folder):
    """Runs a case; the cells of its line in the table."""
    started = time.monotonic()
    expected = case.write(folder)
    seconds = time.monotonic() - started
    logits, (_, _, close), _ = expected
    patches = logits[np.isfinite(logits[..., 0])]
    spread = patches.std(0).max() / np.abs(patches).max() if len(patches) else 0.0
    yield f"{len(patches):7}  {spread:6.2f}  {seconds:6.1f}  {close.sum():5}"
    shared, seconds = run(case, folder)
    yield "{:9.1e}  {:6}  {:6.1f}".format(*check(shared, expected), seconds)
    alone, seconds = run(case, folder, "--no-sharing")
    yield "{:9.1e}  {:6}  {:6.1f}".format(*check(alone, expected), seconds)
    if case.memory:
        same_bits(case, folder, shared)
        yield "same bits"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help="names (default: all)")
    parser.add_argument("--quick", action="store_true", help="only the cases marked quick")
    parser.add_argument("--random", type=int, default=0, metavar="N", help="N random cases instead of the list")
    parser.add_argument("--seed", type=int, default=1, help="of the first random case")
    given = parser.parse_args()
    chosen = [random_case(given.seed + index) for index in range(given.random)] or [
        case for case in CASES if (case.name in given.cases or not given.cases) and (case.quick or not given.quick)
    ]
    if not chosen or not SEGMENT.exists():
        sys.exit("no such case" if not chosen else f"{SEGMENT}: not there; run `make`, or name it in SEGMENT")
    started = time.monotonic()
    way = "    error  differ       s"
    print(f"{'case':26}  patches  spread  ref. s  close  {way}  {way}, alone")
    failed = 0
    for case in chosen:
        print(f"{case.name:26}", end="", flush=True)
        try:
            with tempfile.TemporaryDirectory() as folder:
                for cells in one_case(case, Path(folder)):
                    print(f"  {cells}", end="", flush=True)
            print()
        except RuntimeError as failure:
            failed += 1
            print(f"  FAILED: {failure}")
    print(f"{len(chosen) - failed} of {len(chosen)} cases agree, {time.monotonic() - started:.0f} s")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
