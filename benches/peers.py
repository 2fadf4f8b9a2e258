"""`build/segment` beside onnxruntime evaluating patch by patch, in one run on one machine.

    python benches/peers.py [ROW...] [--patches 64] [--threads 2] [--json FILE]

ROW is PATCH/STRIDE (a whole 512 x 512 slice, shared work) or PATCH (isolated patches, `--no-sharing`);
default: 257/8 257/7 65/4 257 64. The network is VGG16 with 3 channels, head 256-256-2, random weights.

Each row runs onnxruntime, segment, onnxruntime: the two onnxruntime rates show how much the machine drifted. It times
`--patches` patches (half before, half after) in f32 and scales them to the slice; segment is timed whole
(`timings_s.segment`: intensity to mask, without loading). The logits of the timed patches are compared too.
Needs tests/parity/requirements.txt.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests" / "golden"), str(ROOT / "tests" / "parity")]
import raw_nrrd  # noqa: E402
import reference  # noqa: E402
import synthetic  # noqa: E402
import vgg  # noqa: E402

SIDE = 512  # of the slice
ALONE_STRIDE = 16  # of the small lattice that --no-sharing evaluates
DEFAULT_ROWS = ["257/8", "257/7", "65/4", "257", "64"]
TOLERANCE = 1e-4
COLUMNS = (
    *("patch/stride", "what", "patches", "onnxruntime ms/patch, before and after", "onnxruntime s", "segment s"),
    *("times faster", "segment ms/patch", "GFLOP/s of unshared work", "work shared", "peak RSS MiB", "logits differ"),
)

# A small process in between: what Linux calls a program's peak begins with that of the process that started it.
MEASURE = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:])
_, status, usage = os.wait4(process.pid, 0)
print(usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status) and 1)
"""


def processor():
    """The processor's name, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def run_segment(program, folder, options):
    """Runs the program; (its report, peak resident bytes, logits [lattice y][lattice x][class])."""
    outputs = {name: folder / name for name in ("mask.nrrd", "logits.nrrd", "report.json")}
    command = [program, "--quiet", "--device", "cpu", "--model", folder / "model.safetensors", *options]
    command += ["--logits", outputs["logits.nrrd"], "--report", outputs["report.json"]]
    command += [folder / "ct.nrrd", outputs["mask.nrrd"]]
    done = subprocess.run([sys.executable, "-c", MEASURE, *map(str, command)], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit("segment failed: " + " ".join(map(str, command)))
    resident = int(done.stdout.split()[-1]) * 1024
    fields, samples = raw_nrrd.read(outputs["logits.nrrd"])
    logits = np.frombuffer(samples, samples.typecode).reshape(fields["sizes"][::-1])[0]
    return json.loads(outputs["report.json"].read_text()), resident, logits


class Onnx:
    """Patches of the slice at chosen lattice points, and the seconds that onnxruntime takes for them."""

    def __init__(self, model, image, setting, points, threads):
        pixels, _, _ = reference.canvas(image, setting)
        size, stride = setting.patch_size, setting.stride
        self.points = points
        cut = [pixels[y * stride : y * stride + size, x * stride : x * stride + size] for y, x in points]
        self.patches = reference.normalise(np.stack(cut), model.channels, setting)
        self.batch = 4 if size > 150 else 32
        self.session = reference.session(vgg.onnx_bytes(model), threads)
        self.session.run(None, {"input": self.patches[: self.batch]})  # warm

    def run(self, first, end):
        """(seconds per patch, logits) for patches first..end."""
        started = time.perf_counter()
        logits = [
            self.session.run(None, {"input": self.patches[i : min(i + self.batch, end)]})[0]
            for i in range(first, end, self.batch)
        ]
        return (time.perf_counter() - started) / (end - first), np.concatenate(logits)


def one_row(row, given, folder, volume):
    """Measures a row; a dict of numbers."""
    size, _, stride = row.partition("/")
    size, alone = int(size), not stride
    crop = None
    if alone:
        count = max(1, round(given.patches**0.5))
        low = (SIDE - count * ALONE_STRIDE) // 2
        crop = (low, low, low + count * ALONE_STRIDE, low + count * ALONE_STRIDE)
    setting = reference.Setting(size, int(stride or ALONE_STRIDE), crop=crop)
    model = vgg.random_vgg(vgg.FULL, hidden=(256, 256), channels=3, patch_size=size, seed=size)
    vgg.save_safetensors(model, folder / "model.safetensors")
    image = reference.intensity(volume[0], setting)
    _, _, starts_y, _, starts_x = reference.lattice(image.shape, setting)
    lattice = len(starts_y) * len(starts_x)
    chosen = np.random.default_rng(1).permutation(lattice)[: given.patches]
    points = [divmod(int(index), len(starts_x)) for index in chosen]

    options = ["--patch-size", size, "--stride", setting.stride, "--threads", given.threads]
    if alone:
        options += ["--no-sharing", "--crop", ",".join(map(str, crop))]
    onnx = Onnx(model, image, setting, points, given.threads)
    half = (len(points) + 1) // 2
    before, logits_before = onnx.run(0, half)
    report, resident, logits = run_segment(given.segment, folder, options)
    after, logits_after = onnx.run(half, len(points)) if half < len(points) else (before, logits_before[:0])

    want = np.concatenate([logits_before, logits_after])
    have = np.stack([logits[y, x] for y, x in points])
    per_patch = (before * half + after * (len(points) - half)) / len(points)
    seconds = report["timings_s"]["segment"]
    if report["patches"] != lattice:
        sys.exit(f"{row}: segment evaluated {report['patches']} patches of {lattice}")
    return dict(
        row=row,
        sharing=not alone,
        patches=lattice,
        timed_patches=len(points),
        batch=onnx.batch,
        onnxruntime_ms_per_patch=[before * 1e3, after * 1e3],
        onnxruntime_s=per_patch * lattice,
        segment_s=seconds,
        ratio=per_patch * lattice / seconds,
        macs=report["macs"],
        macs_unshared=report["macs_unshared"],
        peak_rss_bytes=resident,
        peak_bytes=report["peak_bytes"],
        logits_error=float(np.abs(have - want).max() / np.abs(want).max()),
        timings_s=report["timings_s"],
        load_average=os.getloadavg()[0],
    )


def table_line(result):
    """One line of the Markdown table."""
    before, after = result["onnxruntime_ms_per_patch"]
    gflops = 2e-9 * result["macs_unshared"] / result["segment_s"]
    what = "512x512 slice" if result["sharing"] else "isolated"
    return (
        f"| {result['row']} | {what} | {result['patches']} | {before:.1f}, {after:.1f} | {result['onnxruntime_s']:.1f} "
        f"| {result['segment_s']:.2f} | {result['ratio']:.2f} | {1e3 * result['segment_s'] / result['patches']:.2f} "
        f"| {gflops:.0f} | {result['macs_unshared'] / result['macs']:.1f} | {result['peak_rss_bytes'] / 2**20:.0f} "
        f"| {result['logits_error']:.0e} |"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", default=DEFAULT_ROWS)
    parser.add_argument("--patches", type=int, default=64, help="patches that onnxruntime is timed on")
    parser.add_argument("--threads", type=int, default=2, help="of both programs")
    program = os.environ.get("SEGMENT", ROOT / "build" / "segment")
    parser.add_argument("--segment", type=os.path.abspath, default=program, help="default: SEGMENT, else build/segment")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    given = parser.parse_args()
    if not os.path.exists(given.segment):
        sys.exit(f"{given.segment}: not there; run `make`, or name it with --segment")
    machine = f"{processor()}, {given.threads} threads, onnxruntime {onnxruntime.__version__} f32"
    print(machine)
    print()
    print(f"| {' | '.join(COLUMNS)} |")
    print("|" + "---|" * len(COLUMNS))
    results = []
    for row in given.rows:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            volume = synthetic.ct(SIDE, SIDE, 1, seed=9)
            data = volume.astype("<i2").tobytes()
            raw_nrrd.write(folder / "ct.nrrd", "int16", (SIDE, SIDE, 1), data, "little", raw_nrrd.ct_fields())
            results.append(one_row(row, given, folder, volume))
        print(table_line(results[-1]), flush=True)
    if given.json:
        given.json.write_text(json.dumps(dict(machine=machine, rows=results), indent=2) + "\n")
    worst = max(result["logits_error"] for result in results)
    if not worst <= TOLERANCE:
        sys.exit(f"logits differ by {worst:.1e} of the largest: more than {TOLERANCE:.0e}")


if __name__ == "__main__":
    main()
