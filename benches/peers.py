"""`build/segment` beside other programs that evaluate patch by patch, on the CPU, in one run on one machine.

    python benches/peers.py [ROW...] [--json FILE]

ROW is PATCH/STRIDE (a whole 512 x 512 slice, shared work), PATCH/STRIDE/image (plain dense evaluation: another
function, so only times compare) or PATCH (isolated patches, `--no-sharing`); default: 257/8 257/7 65/4 257 64
257/8/image. The network is VGG16 with 3 channels, head 256-256-2, random weights. All programs have two threads.
SEGMENT names another program than build/segment. Needs benches/requirements.txt.

Each row runs the peers (cpu_peer.py, a process each), segment, the peers again: their two rates show how much the
machine drifted. A peer is timed on 32 patches (64 small ones), half of them before and half after, and scaled to the
slice; segment is timed whole (`timings_s.segment`: intensity to mask, without loading). Logits are compared too.

What is black is not computed twice, so segment is also timed on a slice of a real torso, where PATCHMASK_TEST_DATA names a folder with
ct_torso.nii.gz. A peer's time does not depend on what a slice shows.
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
sys.path.insert(0, str(ROOT / "tests" / "parity"))
import vgg  # noqa: E402
from cases import reference, synthetic, volume_files  # noqa: E402

SEGMENT = os.path.abspath(os.environ.get("SEGMENT", ROOT / "build" / "segment"))
SIDE = 512  # of the slice
THREADS = 2
PEERS = ["onnxruntime", "openvino", "openvino-bf16", "torch", "torch-bf16"]
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
    """The processor's name, where the system tells it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if os.path.exists("/proc/cpuinfo") else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def measured(folder, command):
    """Runs a command in this folder; (lines that it printed, its peak resident bytes)."""
    command = [sys.executable, "-c", MEASURE, *map(str, command)]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        sys.exit("failed: " + " ".join(command))
    *lines, resident = done.stdout.splitlines()
    return lines, int(resident) * 1024


def torso():
    """A slice through the liver, enlarged to the size of the others; None without it."""
    path = Path(os.environ.get("PATCHMASK_TEST_DATA", "")) / "ct_torso.nii.gz"
    if not path.exists():
        return None
    import SimpleITK as sitk

    voxels = sitk.GetArrayFromImage(sitk.ReadImage(path, sitk.sitkFloat32))
    square = np.full((1, SIDE, SIDE), -1000, np.int16)
    scale = min(SIDE / side for side in voxels.shape[1:])
    image = sitk.GetImageFromArray(voxels[len(voxels) // 2])
    size = [round(scale * side) for side in image.GetSize()]
    large = sitk.Resample(image, size, sitk.Transform(), sitk.sitkLinear, image.GetOrigin(), [1 / scale] * 2, image.GetDirection(), -1000)
    square[0, : size[1], : size[0]] = sitk.GetArrayFromImage(large).round()
    return square


class Bench:
    """A setting in a folder: the slice, the network, and `count` patches at random places of the patch grid."""

    def __init__(self, folder, setting, count, slices=1):
        self.folder, self.setting = folder, setting
        volume = np.repeat(synthetic.ct(SIDE, SIDE, 1, seed=9), slices, axis=0)
        self.save(volume)
        size = setting.patch_size
        model = vgg.random_vgg(vgg.FULL, hidden=(256, 256), channels=3, patch_size=size, seed=size)
        vgg.save_safetensors(model, folder / "model.safetensors")
        (folder / "model.onnx").write_bytes(vgg.onnx_bytes(model))
        pixels, rows, columns = reference.canvas(reference.intensity(volume[0], setting), setting)
        self.grid = len(rows) * len(columns)
        chosen = np.random.default_rng(1).permutation(self.grid)[:count]
        self.places = [divmod(int(index), len(columns)) for index in chosen]
        cut = [pixels[rows[i] :, columns[j] :][:size, :size] for i, j in self.places]
        np.save(folder / "patches.npy", reference.normalise(np.stack(cut), 3, setting))

    def save(self, volume):
        """Makes this the volume, [slice][row][column]."""
        volume_files.save(self.folder / "ct.nrrd", volume)
        self.black = float((reference.intensity(volume[0], self.setting) == 0).mean())

    def segment(self, *options, threads=THREADS):
        """Runs the program; (its report, peak resident bytes, logits [grid row][grid column][class])."""
        crop = ["--crop", ",".join(map(str, self.setting.crop))] if self.setting.crop else []
        command = [
            SEGMENT,
            *"--quiet --device cpu --model model.safetensors --threads".split(),
            threads,
            *crop,
            *options,
        ]
        command += ["--patch-size", self.setting.patch_size, "--stride", self.setting.stride]
        command += "--logits logits.nrrd --report report.json ct.nrrd mask.nrrd".split()
        _, resident = measured(self.folder, command)
        report = json.loads((self.folder / "report.json").read_text())
        return report, resident, volume_files.load(self.folder / "logits.nrrd")[0]

    def peer(self, name, first, end, threads=THREADS):
        """Patches first..end by one of the other programs; what it printed and its peak resident bytes."""
        batch = 4 if self.setting.patch_size > 150 else 32
        command = [sys.executable, ROOT / "benches" / "cpu_peer.py", name, threads, batch, first, end]
        (*_, line), resident = measured(self.folder, command)
        return json.loads(line) | dict(resident=resident)


def one_row(row, folder):
    """Measures a row; a dict of numbers."""
    size, stride, *image = row.split("/") if "/" in row else (row, None)
    small = int(size) <= 150
    setting = reference.Setting(int(size), int(stride or 8))
    options = ["--padding", "image"] if image else []
    if stride is None:
        # Enough of them that touching memory for the first time does not count: peers do that before the clock starts.
        side = 8 * (32 if small else 16)
        low = (SIDE - side) // 2
        setting.crop = (low, low, low + side, low + side)
        options = ["--no-sharing"]
    bench = Bench(folder, setting, 64 if small else 32)
    count = len(bench.places)
    before = [bench.peer(name, 0, count // 2) for name in PEERS]
    report, resident, logits = bench.segment(*options)
    after = [bench.peer(name, count // 2, count) for name in PEERS]
    slices = dict(synthetic=dict(black=bench.black, seconds=report["timings_s"]["segment"]))
    if (real := torso()) is not None:
        bench.save(real)
        slices["torso"] = dict(black=bench.black, seconds=bench.segment(*options)[0]["timings_s"]["segment"])
    if report["patches"] != bench.grid:
        sys.exit(f"{row}: segment evaluated {report['patches']} patches of {bench.grid}")
    ours = np.stack([logits[y, x] for y, x in bench.places])
    result = dict(row=row, slices=slices, report=report, resident=resident, load_average=os.getloadavg()[0], peers={})
    for name, *halves in zip(PEERS, before, after):
        theirs = np.concatenate([half["logits"] for half in halves])
        ms = [1e3 * half["seconds_per_patch"] for half in halves]
        seconds = 1e-3 * sum(ms) / 2 * bench.grid
        result["peers"][name] = dict(
            version=halves[0]["version"],
            ms_per_patch=ms,
            slice_s=seconds,
            times_faster=seconds / report["timings_s"]["segment"],
            resident=max(half["resident"] for half in halves),
            error=None if image else float(np.abs(ours - theirs).max() / np.abs(theirs).max()),
        )
    return result


def print_row(result):
    """Lines of the Markdown table."""
    mib = lambda of: f"{of['resident'] / 2**20:.0f}"
    print(f"| {result['row']} | **patchmask** | {result['report']['timings_s']['segment']:.2f} | | | {mib(result)} | |")
    for name, peer in result["peers"].items():
        drift = ", ".join(f"{ms:.1f}" for ms in peer["ms_per_patch"])
        error = "another function" if peer["error"] is None else f"{peer['error']:.0e}"
        seconds = f"{peer['slice_s']:.1f} | **{peer['times_faster']:.2f}**"
        print(f"| | {name} {peer['version']} | {seconds} | {drift} | {mib(peer)} | {error} |")
    texts = [f"{name}, {of['black']:.0%} black: {of['seconds']:.2f} s" for name, of in result["slices"].items()]
    print(f"| | {'; '.join(texts)} | | | | | |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    rows = "257/8 257/7 65/4 257 64 257/8/image".split()
    parser.add_argument("rows", nargs="*", metavar="ROW", default=rows)
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    given = parser.parse_args()
    if not os.path.exists(SEGMENT):
        sys.exit(f"{SEGMENT}: not there; run `make`, or name it in SEGMENT")
    machine = f"{processor()}, {THREADS} threads"
    print(machine, "\n")
    times = "seconds for all patches | times faster | ms a patch, before and after"
    print(f"| patch/stride | program | {times} | peak RSS MiB | logits differ |\n|{'---|' * 7}")
    results = []
    for row in given.rows:
        with tempfile.TemporaryDirectory() as folder:
            results.append(one_row(row, Path(folder)))
        print_row(results[-1])
        if given.json:
            given.json.write_text(json.dumps(dict(machine=machine, rows=results), indent=2) + "\n")
    for result in results:
        for name, peer in result["peers"].items():
            if not name.endswith("bf16") and not (peer["error"] or 0) <= TOLERANCE:
                sys.exit(f"{result['row']}: logits differ from {name}'s by {peer['error']:.1e} of the largest")


if __name__ == "__main__":
    main()
