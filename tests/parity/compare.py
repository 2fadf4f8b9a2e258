"""Parity: `build/segment` against patch-by-patch evaluation in onnxruntime, over awkward geometries.

    python tests/parity/compare.py [--quick] [--only TEXT] [--segment PATH] [--no-unshared]
    python tests/parity/compare.py --random 100 --seed 1         cases drawn at random instead of the list

Per case and for both ways of evaluation (shared, `--no-sharing`):
    logits       max |difference| / max |logit| <= 1e-4, NaN exactly where a ROI asks for nothing
    mask         equal, but for voxels whose two best classes differ by less than that (counted: `close`)
    probability  within 1e-4 of the same scale
and for some cases that threads and memory budget do not change a bit. Prints a table; exit status 1 on failure.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "golden"))
import cases as case_list  # noqa: E402
import raw_nrrd  # noqa: E402
import reference  # noqa: E402
import synthetic  # noqa: E402
import vgg  # noqa: E402

TOLERANCE = 1e-4


class Failure(Exception):
    """Why a case failed."""


def first_bad(wrong, have, want, names):
    """Text about the first place where `wrong`, such as `slice 0 row 3 column 4: 1, expected 0`."""
    place = tuple(np.argwhere(wrong)[0])
    label = " ".join(f"{name} {index}" for name, index in zip(names, place))
    return f"{int(wrong.sum())} wrong, first {label}: {have[place]}, expected {want[place]}"


def read(path):
    """(fields, samples as an array, slowest axis first)."""
    fields, samples = raw_nrrd.read(path)
    return fields, np.frombuffer(samples, samples.typecode).reshape(fields["sizes"][::-1])


def prepare(case, folder):
    """Writes the files of a case; returns what the reference makes of them."""
    setting = case.setting
    model = vgg.random_vgg(patch_size=setting.patch_size, mean=setting.mean, std=setting.std, **case.model)
    width, height, depth = case.size
    volume = case_list.convert(synthetic.ct_part(width, height, depth, seed=case.seed), case)
    roi = case_list.roi_of(volume.shape, case.seed) if case.roi else None
    network = reference.Network(model)
    started = time.monotonic()
    logits = reference.volume_logits(network, volume, setting, roi)
    seconds = time.monotonic() - started
    logits = vgg.balance(model, logits)
    limit = TOLERANCE * np.abs(logits[np.isfinite(logits)]).max(initial=1e-3)
    voxels = reference.voxels(logits, volume.shape[1:], setting, limit, roi)

    vgg.save_safetensors(model, folder / "model.safetensors", case.metadata() or None)
    grid = raw_nrrd.ct_fields()
    order = {"little": "<", "big": ">"}[case.endian]
    data = volume.astype(volume.dtype.newbyteorder(order)).tobytes()
    raw_nrrd.write(folder / "ct.nrrd", case.voxel, case.size, data, case.endian, grid)
    if case.roi:
        raw_nrrd.write(folder / "roi.nrrd", "uint8", case.size, roi.tobytes(), "little", grid)
    return logits, voxels, limit, seconds


def run(segment, case, folder, extra=()):
    """Runs the program; (logits, mask, probability, seconds)."""
    outputs = {name: folder / f"{name}.nrrd" for name in ("logits", "mask", "probability")}
    command = [segment, "--quiet", "--device", "cpu", "--model", "model.safetensors", *case.options(), *extra]
    command += ["--logits", outputs["logits"], "--probability", outputs["probability"], "ct.nrrd", outputs["mask"]]
    started = time.monotonic()
    done = subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True)
    seconds = time.monotonic() - started
    if done.returncode != 0:
        raise Failure(f"exit status {done.returncode}: {done.stderr.strip()}")
    return *(read(path)[1] for path in outputs.values()), seconds


def check(case, have, expected):
    """(relative error of the logits, close voxels that differ); raises Failure."""
    logits, mask, probability, _ = have
    want_logits, (want_mask, want_probability, close), limit, _ = expected
    if logits.shape != want_logits.shape:
        raise Failure(f"logits of shape {logits.shape}, expected {want_logits.shape}")
    difference = np.where(np.isnan(logits) & np.isnan(want_logits), 0, np.abs(logits - want_logits))
    wrong = ~(difference <= limit)
    error = np.nanmax(difference) / limit * TOLERANCE
    if wrong.any():
        names = ("slice", "lattice row", "lattice column", "class")
        raise Failure(f"logits off by {error:.1e}: {first_bad(wrong, logits, want_logits, names)}")
    differ = mask != want_mask
    names = ("slice", "row", "column")
    if (differ & ~close).any():
        raise Failure("mask: " + first_bad(differ & ~close, mask, want_mask, names))
    wrong = ~(np.abs(probability - want_probability) <= limit)
    if wrong.any():
        raise Failure("probability: " + first_bad(wrong, probability, want_probability, names))
    return error, int(differ.sum())


def same_bits(segment, case, folder, first):
    """Threads and the memory budget must not change a bit of the shared evaluation."""
    for extra in (("--threads", "1"), ("--threads", "3"), ("--memory", str(case.memory))):
        again = run(segment, case, folder, extra)
        for name, a, b in zip(("logits", "mask", "probability"), first, again):
            if a.tobytes() != b.tobytes():
                wrong = (a != b) & ~((a != a) & (b != b))
                where = first_bad(wrong, b, a, ("slice", "row", "column", "class"))
                raise Failure(f"{' '.join(extra)} changes {name}: {where}")


def one_case(case, segment, unshared):
    """Runs a case; (line of the table, passed)."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        cells = [f"{case.name:26}"]
        try:
            expected = prepare(case, folder)
            logits, (_, _, close), _, seconds = expected
            points = logits[np.isfinite(logits[..., 0])]
            spread = points.std(0).max() / np.abs(points).max() if len(points) else 0.0
            cells += [f"{len(points):7}", f"{spread:6.2f}", f"{seconds:7.1f}"]
            shared = run(segment, case, folder)
            error, differ = check(case, shared, expected)
            cells += [f"{error:8.1e}", f"{differ:4}/{int(close.sum()):<4}", f"{shared[3]:6.1f}"]
            if unshared:
                alone = run(segment, case, folder, ("--no-sharing",))
                error, differ = check(case, alone, expected)
                cells += [f"{error:8.1e}", f"{differ:4}", f"{alone[3]:6.1f}"]
            if case.memory:
                same_bits(segment, case, folder, shared)
                cells.append("same bits")
            return "  ".join(cells), True
        except Failure as failure:
            return "  ".join(cells) + f"  FAILED: {failure}", False


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("SEGMENT", HERE.parent.parent / "build" / "segment")
    parser.add_argument("--segment", default=default, help="the program (default: SEGMENT, else build/segment)")
    parser.add_argument("--quick", action="store_true", help="only the cases marked quick")
    parser.add_argument("--only", default="", help="only cases whose name contains this")
    parser.add_argument("--no-unshared", action="store_true", help="leave out --no-sharing")
    parser.add_argument("--random", type=int, default=0, metavar="N", help="N random cases instead of the list")
    parser.add_argument("--seed", type=int, default=1, help="of the first random case")
    given = parser.parse_args()
    segment = os.path.abspath(given.segment)
    if not os.path.exists(segment):
        sys.exit(f"{segment}: not there; run `make`, or name it with --segment")
    everything = case_list.CASES
    if given.random:
        everything = [case_list.random_case(seed) for seed in range(given.seed, given.seed + given.random)]
    given.quick = given.quick and not given.random
    chosen = [case for case in everything if given.only in case.name and (case.quick or not given.quick)]
    if not chosen:
        sys.exit(f"no case matches {given.only!r}")
    started = time.monotonic()
    print(f"{'':26}  {'':7}  {'':6}  {'onnx':>7}  {'shared':>8}  {'':9}  {'':6}  {'alone':>8}")
    print(
        f"{'case':26}  {'patches':>7}  {'spread':>6}  {'s':>7}  {'error':>8}  {'differ/':>4}{'close':<2}  {'s':>5}  "
        f"{'error':>8}  {'diff':>4}  {'s':>6}"
    )
    failed = 0
    for case in chosen:
        line, passed = one_case(case, segment, not given.no_unshared)
        failed += not passed
        print(line, flush=True)
    print(f"{len(chosen) - failed} of {len(chosen)} cases agree, {time.monotonic() - started:.0f} s")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
