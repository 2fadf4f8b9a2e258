"""Growth of time and memory of `build/segment` with stride, patch size, slices and threads: a table and PNG plots.

    python benches/growth.py

Full-width VGG16 on the CPU, beside what onnxruntime would take patch by patch: its time for one batch of patches of
that size, in the same run, times their number. Writes stride.png, patch_size.png, slices.png, threads.png and
growth.json to build/growth. Needs benches/requirements.txt.
"""

import json
import os
import tempfile
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

import peers  # noqa: E402

OUT = peers.ROOT / "build" / "growth"
CROP = (176, 176, 336, 336)  # patches have their centres in these 160 x 160 pixels
# Name of the picture and of the setting -> its label and values; the others are the defaults of `measure`.
SWEEPS = {
    "stride": ("pixels between 65-pixel patches", (1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32)),
    "patch_size": ("patch side in pixels, every 8 pixels", (33, 49, 65, 97, 129, 193, 257)),
    "slices": ("slices, 65-pixel patches every 8 pixels", (1, 2, 4, 8, 16)),
    "threads": ("threads, 65-pixel patches every 8 pixels", range(1, (os.cpu_count() or 1) + 1)),
}


def measure(patch_size=65, stride=8, slices=1, threads=peers.THREADS):
    """One run, and what onnxruntime would take for the same patches."""
    with tempfile.TemporaryDirectory() as folder:
        batch = 8 if patch_size > 150 else 64
        bench = peers.Bench(Path(folder), peers.reference.Setting(patch_size, stride, crop=CROP), batch, slices)
        peer = bench.peer("onnxruntime", 0, len(bench.places), threads)
        report, resident, _ = bench.segment(threads=threads)
    patches, seconds = report["patches"], report["timings_s"]["segment"]
    return dict(
        patches=patches, seconds=seconds, peer_seconds=peer["seconds_per_patch"] * patches, mib=resident / 2**20
    )


def plot(name, label, points):
    """One picture: seconds of both, and memory below."""
    figure, (time, memory) = plt.subplots(2, 1, figsize=(6, 6), sharex=True, height_ratios=(2, 1))
    of = lambda key: (list(points), [point[key] for point in points.values()])
    time.plot(*of("peer_seconds"), "o--", label="onnxruntime, patch by patch", color="tab:gray")
    time.plot(*of("seconds"), "o-", label="patchmask", color="tab:blue")
    time.set(yscale="log", ylabel="seconds")
    time.legend()
    time.grid(alpha=0.3, which="both")
    memory.plot(*of("mib"), "o-", color="tab:blue")
    memory.set(ylim=(0, None), ylabel="peak MiB", xlabel=label)
    memory.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(OUT / f"{name}.png", dpi=120)


OUT.mkdir(parents=True, exist_ok=True)
print(peers.processor(), "\n")
print("| what | patches | patchmask s | onnxruntime s | times faster | peak RSS MiB |\n|" + "---|" * 6)
numbers = {}
for sweep, (text, values) in SWEEPS.items():
    numbers[sweep] = {}
    for x in values:
        p = numbers[sweep][x] = measure(**{sweep: x})
        ratio = p["peer_seconds"] / p["seconds"]
        cells = [p["patches"], f"{p['seconds']:.2f}", f"{p['peer_seconds']:.1f}", f"{ratio:.1f}", f"{p['mib']:.0f}"]
        print(f"| {sweep} {x} | {' | '.join(map(str, cells))} |", flush=True)
    plot(sweep, text, numbers[sweep])
(OUT / "growth.json").write_text(json.dumps(numbers, indent=2) + "\n")
