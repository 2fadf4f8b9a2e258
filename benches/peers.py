"""`build/segment` beside other programs that evaluate patch by patch, on the CPU, in one run on one machine.

    python benches/peers.py [ROW...] [--peers NAME...] [--patches 32] [--threads 2] [--json FILE]

ROW is PATCH/STRIDE (a whole 512 x 512 slice, shared work), PATCH/STRIDE/image (the classic dense evaluation: another function,
so only times compare) or PATCH (isolated patches, `--no-sharing`); default: 257/8 257/7 65/4 257 64 257/8/image. The network is
VGG16 with 3 channels, head 256-256-2, random weights.

Each row runs the peers (cpu_peer.py, a process each), segment, the peers again: their two rates show how much the machine drifted.
A peer is timed on `--patches` patches, half of them before and half after, and scaled to the slice; segment is timed whole
(`timings_s.segment`: intensity to mask, without loading). The logits of the timed patches are compared too.
Needs benches/requirements.txt.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests" / "golden"), str(ROOT / "tests" / "parity")]
import raw_nrrd  # noqa: E402
import reference  # noqa: E402
import synthetic  # noqa: E402
import vgg  # noqa: E402

SIDE = 512  # of the slice
ALONE_STRIDE = 8  # of the small lattice that --no-sharing evaluates
DEFAULT_ROWS = ["257/8", "257/7", "65/4", "257", "64", "257/8/image"]
DEFAULT_PEERS = ["onnxruntime", "openvino", "openvino-bf16", "torch", "torch-bf16"]
TOLERANCE = 1e-4  # of f32 peers

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


def measured(command):
    """Runs a command; (lines that it printed, its peak resident bytes)."""
    command = [str(word) for word in command]
    done = subprocess.run([sys.executable, "-c", MEASURE, *command], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        sys.exit("failed: " + " ".join(command))
    *lines, resident = done.stdout.split("\n")[:-1]
    return lines, int(resident) * 1024


def run_segment(program, folder, options):
    """Runs the program; (its report, peak resident bytes, logits [lattice y][lattice x][class])."""
    outputs = {name: folder / name for name in ("mask.nrrd", "logits.nrrd", "report.json")}
    command = [program, "--quiet", "--device", "cpu", "--model", folder / "model.safetensors", *options]
    command += ["--logits", outputs["logits.nrrd"], "--report", outputs["report.json"]]
    _, resident = measured([*command, folder / "ct.nrrd", outputs["mask.nrrd"]])
    fields, samples = raw_nrrd.read(outputs["logits.nrrd"])
    logits = np.frombuffer(samples, samples.typecode).reshape(fields["sizes"][::-1])[0]
    return json.loads(outputs["report.json"].read_text()), resident, logits


def write_scan(folder):
    """A synthetic CT slice, in memory and as ct.nrrd."""
    volume = synthetic.ct(SIDE, SIDE, 1, seed=9)
    data = volume.astype("<i2").tobytes()
    raw_nrrd.write(folder / "ct.nrrd", "int16", (SIDE, SIDE, 1), data, "little", raw_nrrd.ct_fields())
    return volume[0]


def write_model(folder, size):
    """The network for patches of this size, as model.safetensors and model.onnx."""
    model = vgg.random_vgg(vgg.FULL, hidden=(256, 256), channels=3, patch_size=size, seed=size)
    vgg.save_safetensors(model, folder / "model.safetensors")
    (folder / "model.onnx").write_bytes(vgg.onnx_bytes(model))
    return model


def write_patches(folder, model, image, setting, count):
    """`count` patches at random lattice points, as patches.npy; (those points, points of the lattice)."""
    _, _, starts_y, _, starts_x = reference.lattice(image.shape, setting)
    lattice = len(starts_y) * len(starts_x)
    chosen = np.random.default_rng(1).permutation(lattice)[:count]
    points = [divmod(int(index), len(starts_x)) for index in chosen]
    pixels, _, _ = reference.canvas(image, setting)
    size, stride = setting.patch_size, setting.stride
    cut = [pixels[y * stride : y * stride + size, x * stride : x * stride + size] for y, x in points]
    np.save(folder / "patches.npy", reference.normalise(np.stack(cut), model.channels, setting))
    return points, lattice


class Peer:
    """One of the other programs, and what has been measured of it."""

    def __init__(self, name, folder, size, threads):
        self.name = name
        batch = 4 if size > 150 else 32
        self.command = [sys.executable, ROOT / "benches" / "cpu_peer.py", name, folder, "--threads", threads, "--batch", batch]
        self.logits_file = folder / f"{name}.npy"
        self.ms, self.logits, self.resident, self.version = [], [], 0, None

    def run(self, first, end):
        """Evaluates patches first..end."""
        lines, resident = measured([*self.command, "--first", first, "--end", end])
        result = json.loads(lines[-1])
        self.version = result["version"]
        self.ms.append(1e3 * result["seconds_per_patch"])
        self.logits.append(np.load(self.logits_file))
        self.resident = max(self.resident, resident)

    def result(self, have, lattice, seconds, comparable):
        """What stands in the table, given segment's logits of the same patches and its seconds for the slice."""
        want = np.concatenate(self.logits)
        ours = 1e-3 * float(np.mean(self.ms)) * lattice
        return dict(
            version=self.version,
            ms_per_patch=self.ms,
            slice_s=ours,
            times_faster=ours / seconds,
            peak_rss_bytes=self.resident,
            logits_error=float(np.abs(have - want).max() / np.abs(want).max()) if comparable else None,
        )


def one_row(row, given, folder):
    """Measures a row; a dict of numbers."""
    size, stride, image_scope = (*row.split("/"), None, None)[:3]
    size, alone = int(size), stride is None
    crop, options = None, []
    if alone:
        # Enough of them that touching memory for the first time does not count: peers do that before the clock starts.
        count = 16 if size > 150 else 32
        low = (SIDE - count * ALONE_STRIDE) // 2
        crop = (low, low, low + count * ALONE_STRIDE, low + count * ALONE_STRIDE)
        options = ["--no-sharing", "--crop", ",".join(map(str, crop))]
    if image_scope:
        options = ["--padding", image_scope]
    setting = reference.Setting(size, int(stride or ALONE_STRIDE), crop=crop)
    image = reference.intensity(write_scan(folder), setting)
    model = write_model(folder, size)
    points, lattice = write_patches(folder, model, image, setting, given.patches)
    half = (len(points) + 1) // 2

    peers = [Peer(name, folder, size, given.threads) for name in given.peers]
    for peer in peers:
        peer.run(0, half)
    options += ["--patch-size", size, "--stride", setting.stride, "--threads", given.threads]
    report, resident, logits = run_segment(given.segment, folder, options)
    for peer in peers if half < len(points) else []:
        peer.run(half, len(points))

    if report["patches"] != lattice:
        sys.exit(f"{row}: segment evaluated {report['patches']} patches of {lattice}")
    have = np.stack([logits[y, x] for y, x in points])
    seconds = report["timings_s"]["segment"]
    return dict(
        row=row,
        patches=lattice,
        timed_patches=len(points),
        segment_s=seconds,
        macs=report["macs"],
        macs_unshared=report["macs_unshared"],
        peak_rss_bytes=resident,
        peak_bytes=report["peak_bytes"],
        load_average=os.getloadavg()[0],
        peers={peer.name: peer.result(have, lattice, seconds, not image_scope) for peer in peers},
    )


def mib(size):
    return f"{size / 2**20:.0f}"


def lines_of(result):
    """Lines of the Markdown table."""
    yield f"| {result['row']} | **patchmask** | {result['segment_s']:.2f} | | | {mib(result['peak_rss_bytes'])} | |"
    for name, peer in result["peers"].items():
        drift = ", ".join(f"{ms:.1f}" for ms in peer["ms_per_patch"])
        error = "another function" if peer["logits_error"] is None else f"{peer['logits_error']:.0e}"
        yield (
            f"| | {name} {peer['version']} | {peer['slice_s']:.1f} | **{peer['times_faster']:.2f}** | {drift} "
            f"| {mib(peer['peak_rss_bytes'])} | {error} |"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", default=DEFAULT_ROWS)
    parser.add_argument("--peers", nargs="*", default=DEFAULT_PEERS)
    parser.add_argument("--patches", type=int, default=32, help="patches that peers are timed on")
    parser.add_argument("--threads", type=int, default=2, help="of all programs")
    program = os.environ.get("SEGMENT", ROOT / "build" / "segment")
    parser.add_argument("--segment", type=os.path.abspath, default=program, help="default: SEGMENT, else build/segment")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    given = parser.parse_args()
    if not os.path.exists(given.segment):
        sys.exit(f"{given.segment}: not there; run `make`, or name it with --segment")
    machine = f"{processor()}, {given.threads} threads"
    print(machine, "\n")
    print("| patch/stride | program | seconds for all patches | times faster | ms a patch, before and after | peak RSS MiB | logits differ |")
    print("|" + "---|" * 7)
    results = []
    for row in given.rows:
        with tempfile.TemporaryDirectory() as temporary:
            results.append(one_row(row, given, Path(temporary)))
        print("\n".join(lines_of(results[-1])), flush=True)
        if given.json:
            given.json.write_text(json.dumps(dict(machine=machine, rows=results), indent=2) + "\n")
    f32 = [
        peer["logits_error"]
        for result in results
        for name, peer in result["peers"].items()
        if not name.endswith("bf16") and peer["logits_error"] is not None
    ]
    if not max(f32, default=0) <= TOLERANCE:
        sys.exit(f"logits differ by {max(f32):.1e} of the largest: more than {TOLERANCE:.0e}")


if __name__ == "__main__":
    main()
