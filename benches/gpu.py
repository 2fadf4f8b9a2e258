"""`build/segment --device cuda` beside PyTorch (cuDNN) evaluating patch by patch on the same GPU, in one run.

    python benches/gpu.py [ROW...] [--json FILE]

ROW is PATCH/STRIDE or PATCH/STRIDE/image; default: 257/8 257/7 65/4 257/8/image. A slice has 512 x 512 pixels, the
network is VGG16 with 3 channels, head 256-256-2, random weights. benches/README.md explains the columns. Needs numpy
and PyTorch with CUDA; without a GPU it says so and ends. SEGMENT names another program than build/segment.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import exact_plan

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests" / "cli"), str(ROOT / "tests" / "parity")]
import synthetic  # noqa: E402
import volume_files  # noqa: E402

SEGMENT = os.path.abspath(os.environ.get("SEGMENT", ROOT / "build" / "segment"))
TOLERANCE = 1e-2  # of the largest logit, against PyTorch in f32
LONGEST_SCAN = 15  # seconds of one timed run
CALIBRATION = 16  # patches
TARGETS = {"257/8": (26, 12)}  # on an H100: ms a slice; times faster than PyTorch patch by patch


class Row:
    """A row of the table: a patch size, a stride and a scope."""

    def __init__(self, given, name, folder, volume):
        size, stride, *image = name.split("/")
        self.given, self.name, self.folder, self.volume = given, name, folder, volume
        self.size, self.stride, self.image = int(size), int(stride), bool(image)
        self.slice = np.clip((volume[0] + 160.0) / 400, 0, 1)  # as the network sees it
        self.command = [SEGMENT, *"--device cuda --model model.safetensors --report report.json".split()]
        self.command += ["--patch-size", size, "--stride", stride, "--padding", "image" if image else "patch"]

    def segment(self, scan, *options):
        """Runs the program on a scan; (its report, seconds from start to end)."""
        began = time.perf_counter()
        command = [*self.command, *options, scan, "mask.nrrd"]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        took = time.perf_counter() - began
        left_out = [line for line in done.stderr.splitlines() if "left out" in line and "PATCHMASK_WITHOUT" not in line]
        if done.returncode != 0 or left_out:
            raise RuntimeError(f"{self.name}: segment failed: {' '.join(left_out) or done.stderr.strip()}")
        return json.loads((self.folder / "report.json").read_text()), took

    def make_model(self):
        """Random weights, calibrated on patches of the slice; saved for the library."""
        import torch_vgg

        places = np.random.default_rng(self.size).integers(0, self.given.side, (CALIBRATION, 2))
        patches = torch_vgg.cut(self.slice, self.size, 1, places).to(self.given.device)
        model = torch_vgg.vgg(self.size, self.given.widths, self.given.hidden).to(self.given.device)
        torch_vgg.save(torch_vgg.randomise(model, patches, self.size), self.folder / "model.safetensors")
        return model

    def ours(self):
        """The library's side: ms a slice, the whole scan, the report of a slice; and its logits."""
        volume_files.save(self.folder / "one.nrrd", self.volume[:1])
        self.segment("one.nrrd")  # the driver compiles the kernels once
        runs = [self.segment("one.nrrd", "--logits", "logits.nrrd") for _ in range(3)]
        one = statistics.median(report["timings_s"]["segment"] for report, _ in runs)
        slices = min(len(self.volume), max(3, int(LONGEST_SCAN / one)))
        volume_files.save(self.folder / "scan.nrrd", self.volume[:slices])
        scans = [self.segment("scan.nrrd") for _ in range(3)]
        slice_ms = [1e3 * (report["timings_s"]["segment"] - one) / (slices - 1) for report, _ in scans]
        return dict(
            report=runs[-1][0],
            slice_ms=max(statistics.median(slice_ms), 1e-9),
            slices=slices,
            scan_s=statistics.median(took for _, took in scans),
        ), volume_files.load(self.folder / "logits.nrrd")[0]

    def peer(self, model, logits):
        """PyTorch's side: ms a patch for each batch size, and how far logits are apart."""
        import torch
        import torch_vgg

        grid = [-(-self.given.side // self.stride)] * 2
        chosen = np.random.default_rng(1).permutation(grid[0] * grid[1])[: self.given.patches]
        places = [divmod(int(index), grid[1]) for index in chosen]
        patches = torch_vgg.cut(self.slice, self.size, self.stride, places)
        batches = torch_vgg.patch_seconds(model, patches, self.given.device, self.given.batches)
        kinds = torch.float32, torch.float16
        exact, theirs = (torch_vgg.logits(model, patches, self.given.device, kind) for kind in kinds)
        ours = np.stack([logits[y, x] for y, x in places])
        error = lambda a: float(np.abs(a - exact).max() / np.abs(exact).max())
        best = min(batches, key=batches.get)
        return dict(
            torch_batch=best,
            torch_patch_ms=1e3 * batches[best],
            torch_slice_ms=1e3 * batches[best] * grid[0] * grid[1],
            error=error(ours),
            torch_error=error(theirs),
        )

    def measure(self, machine):
        """A dict of numbers."""
        model = self.make_model()
        result, logits = self.ours()
        flops = 2e3 * result["report"]["macs"] / result["slice_ms"]
        result |= dict(row=self.name, tflops=flops / 1e12, percent=100 * flops / machine["matrix_flops"])
        if not self.image:
            result |= self.peer(model, logits)
            result["times_faster"] = result["torch_slice_ms"] / result["slice_ms"]
        return result


def cells(result):
    """A row of the table: column -> text."""
    show = lambda key, form="{:.3g}": form.format(result[key]) if key in result else "-"
    target = lambda text, wanted: text if wanted is None or text == "-" else f"{text} (target {wanted})"
    target_ms, target_times = TARGETS.get(result["row"], (None, None))
    return {
        "row": result["row"],
        "patches": str(result["report"]["patches"]),
        "ms a slice": target(show("slice_ms"), target_ms),
        "TFLOP/s": show("tflops"),
        "% of matrix rate": show("percent", "{:.1f}"),
        "slices: seconds, whole program": f"{result['slices']}: {result['scan_s']:.2f}",
        "PyTorch ms a patch (batch)": f"{show('torch_patch_ms')} ({show('torch_batch', '{}')})",
        "PyTorch ms a slice": show("torch_slice_ms"),
        "times faster": target(show("times_faster"), target_times),
        "error": show("error", "{:.1e}"),
        "PyTorch's own error": show("torch_error", "{:.1e}"),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    parser.add_argument("--small", action="store_true", help="try this script out, PyTorch on the CPU; no figures")
    given = parser.parse_args()
    given.rows = given.rows or (["33/16", "32/8/image"] if given.small else ["257/8", "257/7", "65/4", "257/8/image"])
    given.side, given.slices, given.patches, given.matrix = (40, 3, 6, 64) if given.small else (512, 100, 256, 8192)
    given.batches = (2, 4) if given.small else (16, 32, 64, 128, 256)
    given.widths, given.hidden = exact_plan.FULL, (256, 256)
    if given.small:
        given.widths, given.hidden = tuple(width // 16 for width in given.widths), (16, 16)
    try:
        import torch
        import torch_vgg
    except ImportError as error:
        return print(f"SKIPPED: PyTorch: {error}")
    given.device = "cpu" if given.small else "cuda"
    if given.device == "cuda" and not torch.cuda.is_available():
        return print("SKIPPED: PyTorch finds no GPU")
    if not os.path.exists(SEGMENT):
        sys.exit(f"{SEGMENT}: not there; run `make`, or name it in SEGMENT")
    volume = synthetic.ct(given.side, given.side, given.slices, seed=9)
    machine = dict(
        gpu="none: PyTorch on the CPU" if given.small else torch.cuda.get_device_name(),
        torch=torch.__version__,
        cudnn=torch.backends.cudnn.version(),
        matrix_flops=torch_vgg.matrix_rate(given.device, given.matrix),
    )
    print("{gpu}, PyTorch {torch}, cuDNN {cudnn}; fp16 matrix product: {matrix_flops:.4g} FLOP/s\n".format(**machine))
    results, failures = [], []
    for name in given.rows:
        try:
            with tempfile.TemporaryDirectory() as folder:
                results.append(Row(given, name, Path(folder), volume).measure(machine))
            line = cells(results[-1])
            if len(results) == 1:
                print(f"| {' | '.join(line)} |\n|{'---|' * len(line)}")
            print(f"| {' | '.join(line.values())} |", flush=True)
            if not results[-1].get("error", 0) <= TOLERANCE:
                failures.append(f"{name}: logits differ by {results[-1]['error']:.1e} of the largest")
        except RuntimeError as error:
            failures.append(str(error))
        if given.json:  # after every row, should a later one take too long
            given.json.write_text(json.dumps(dict(machine=machine, rows=results, failures=failures), indent=2) + "\n")
    return sys.exit("\n".join(failures)) if failures else None


if __name__ == "__main__":
    main()
