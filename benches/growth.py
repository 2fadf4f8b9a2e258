"""How time and memory of `build/segment` grow with stride, patch size, slices and threads: a table and PNG plots.

    python benches/growth.py [--threads 2] [--out build/growth]

Full-width VGG16 on the CPU. Beside it stands what onnxruntime would take patch by patch: its time for one batch of patches of that
size, in the same run, times their number. Writes stride.png, patch_size.png, slices.png, threads.png and growth.json to --out.
Needs benches/requirements.txt.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402

import peers  # noqa: E402
from peers import ROOT, raw_nrrd, reference  # noqa: E402

CROP = 160  # pixels of each side of the slice that have patch centres
STRIDES = (1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32)
PATCH_SIZES = (33, 49, 65, 97, 129, 193, 257)
SLICES = (1, 2, 4, 8, 16)


class Point:
    """One run and what onnxruntime would take for the same patches."""

    def __init__(self, given, size=65, stride=8, slices=1, threads=None):
        threads = threads or given.threads
        low = (peers.SIDE - CROP) // 2
        crop = (low, low, low + CROP, low + CROP)
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            slice_of = peers.write_scan(folder)
            volume = np.repeat(slice_of[None], slices, axis=0).astype("<i2")
            sizes = (peers.SIDE, peers.SIDE, slices)
            raw_nrrd.write(folder / "ct.nrrd", "int16", sizes, volume.tobytes(), "little", raw_nrrd.ct_fields())
            setting = reference.Setting(size, stride, crop=crop)
            model = peers.write_model(folder, size)
            batch = 8 if size > 150 else 64
            peers.write_patches(folder, model, reference.intensity(slice_of, setting), setting, batch)
            peer = peers.Peer("onnxruntime", folder, size, threads)
            peer.run(0, min(batch, len(np.load(folder / "patches.npy", mmap_mode="r"))))
            options = ["--patch-size", size, "--stride", stride, "--threads", threads, "--crop", ",".join(map(str, crop))]
            report, resident, _ = peers.run_segment(given.segment, folder, options)
        self.patches = report["patches"]
        self.seconds = report["timings_s"]["segment"]
        self.peer_seconds = 1e-3 * peer.ms[0] * self.patches
        self.mib = resident / 2**20


def plot(given, name, label, xs, points):
    """One picture: seconds of both, and memory below."""
    figure, (time, memory) = plt.subplots(2, 1, figsize=(6, 6), sharex=True, height_ratios=(2, 1))
    time.plot(xs, [point.peer_seconds for point in points], "o--", label="onnxruntime, patch by patch", color="tab:gray")
    time.plot(xs, [point.seconds for point in points], "o-", label="patchmask", color="tab:blue")
    time.set_yscale("log")
    time.set_ylabel("seconds")
    time.legend()
    time.grid(alpha=0.3, which="both")
    memory.plot(xs, [point.mib for point in points], "o-", color="tab:blue")
    memory.set_ylim(bottom=0)
    memory.set_ylabel("peak MiB")
    memory.set_xlabel(label)
    memory.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(given.out / f"{name}.png", dpi=120)
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    program = os.environ.get("SEGMENT", ROOT / "build" / "segment")
    parser.add_argument("--segment", type=os.path.abspath, default=program, help="default: SEGMENT, else build/segment")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "growth")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    cores = os.cpu_count() or 1
    sweeps = (
        ("stride", "pixels between 65-pixel patches", STRIDES, lambda x: dict(stride=x)),
        ("patch_size", "patch side in pixels, every 8 pixels", PATCH_SIZES, lambda x: dict(size=x)),
        ("slices", "slices, 65-pixel patches every 8 pixels", SLICES, lambda x: dict(slices=x)),
        ("threads", "threads, 65-pixel patches every 8 pixels", range(1, cores + 1), lambda x: dict(threads=x)),
    )
    print(peers.processor(), "\n")
    print("| what | patches | patchmask s | onnxruntime s | times faster | peak RSS MiB |")
    print("|" + "---|" * 6)
    numbers = {}
    for name, label, xs, setting in sweeps:
        points = []
        for x in xs:
            points.append(Point(given, **setting(x)))
            p = points[-1]
            ratio = p.peer_seconds / p.seconds
            print(f"| {name} {x} | {p.patches} | {p.seconds:.2f} | {p.peer_seconds:.1f} | {ratio:.1f} | {p.mib:.0f} |", flush=True)
        numbers[name] = {x: vars(point) for x, point in zip(xs, points)}
        plot(given, name, label, list(xs), points)
    (given.out / "growth.json").write_text(json.dumps(numbers, indent=2) + "\n")


if __name__ == "__main__":
    main()
