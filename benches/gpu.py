"""`build/segment --device cuda` beside PyTorch (cuDNN) evaluating patch by patch on the same GPU, in one run.

    python benches/gpu.py [ROW...] [--json FILE]

ROW is PATCH/STRIDE or PATCH/STRIDE/image; default: 257/8 257/7 65/4 257/8/image. A slice has 512 x 512 pixels, the network is
VGG16 with 3 channels, head 256-256-2, random weights. What is measured and how: benches/README.md. Needs numpy, PyTorch
with CUDA for the peer, and Nsight Compute (`ncu`) for single layers; without a GPU it says so and ends. SEGMENT names
another program than build/segment.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import exact_plan
import ncu

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests" / "cli"), str(ROOT / "tests" / "parity")]
import synthetic  # noqa: E402
import volume_files  # noqa: E402

SEGMENT = os.path.abspath(os.environ.get("SEGMENT", ROOT / "build" / "segment"))
TOLERANCE = 1e-2  # of the largest logit, against PyTorch in f32
LONGEST_SCAN = 15  # seconds of one timed run
CALIBRATION = 16  # patches
# Targets on an H100
TIMES_FASTER = {"257/8": 12}  # than PyTorch patch by patch
SLICE_MS = {"257/8": 26}
MATRIX_SHARE = 75  # % of the matrix rate in the convolutions


class Failed(Exception):
    """segment failed; the text is what it said."""


class Row:
    """A row of the table: a patch size, a stride and a scope."""

    def __init__(self, given, name, folder, volume):
        size, stride, *image = name.split("/")
        self.given, self.name, self.folder, self.volume = given, name, folder, volume
        self.size, self.stride, self.image = int(size), int(stride), bool(image)
        self.slice = np.clip((volume[0] + 160.0) / 400, 0, 1)  # as the network sees it
        self.command = [SEGMENT, "--device", "cuda", "--model", folder / "model.safetensors", "--report", folder / "report.json"]
        self.command += ["--patch-size", size, "--stride", stride, *["--padding", "image"][: 2 * self.image]]

    def segment(self, scan, *options):
        """Runs the program on a scan; (its report, seconds from start to end)."""
        began = time.perf_counter()
        command = [*self.command, *options, self.folder / scan, self.folder / "mask.nrrd"]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
        took = time.perf_counter() - began
        left_out = [line for line in done.stderr.splitlines() if "left out" in line and "PATCHMASK_WITHOUT" not in line]
        if done.returncode != 0 or left_out:
            raise Failed(" ".join(left_out) or done.stderr.strip())
        return json.loads((self.folder / "report.json").read_text()), took

    def make_model(self):
        """Random weights for patches of this size, calibrated on patches of the slice; saved for the library."""
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
        runs = [self.segment("one.nrrd", "--logits", self.folder / "logits.nrrd") for _ in range(3)]
        one = statistics.median(report["timings_s"]["segment"] for report, _ in runs)
        slices = min(len(self.volume), max(3, int(LONGEST_SCAN / one)))
        volume_files.save(self.folder / "scan.nrrd", self.volume[:slices])
        scans = [self.segment("scan.nrrd") for _ in range(3)]
        slice_ms = [1e3 * (report["timings_s"]["segment"] - one) / (slices - 1) for report, _ in scans]
        return dict(
            report=runs[-1][0],
            slice_ms=max(statistics.median(slice_ms), 1e-9),
            slice_ms_runs=slice_ms,
            slices=slices,
            scan_s=statistics.median(took for _, took in scans),
        ), volume_files.load(self.folder / "logits.nrrd")[0]

    def layers(self, plan):
        """Each layer's kernel and ms by Nsight Compute; and the ms of all other kernels of the slice."""
        if not self.given.ncu:
            raise ncu.Failed("no times of layers: no ncu")
        command = [*self.command, self.folder / "one.nrrd", self.folder / "mask.nrrd"]
        times, others = ncu.of_layers(ncu.launches(self.given.ncu, command, self.folder / "ncu.csv"), plan)
        made = [dict(layer=layer.name, kernel=kernel, ms=1e3 * seconds) for layer, (kernel, seconds) in zip(plan, times)]
        return made, {name: 1e3 * seconds for name, seconds in others.items()}

    def peer(self, model, logits):
        """PyTorch's side: ms a patch for each batch size, and how far logits are apart."""
        import torch
        import torch_vgg

        grid = [-(-self.given.side // self.stride)] * 2
        chosen = np.random.default_rng(1).permutation(grid[0] * grid[1])[: self.given.patches]
        places = [divmod(int(index), grid[1]) for index in chosen]
        patches = torch_vgg.cut(self.slice, self.size, self.stride, places)
        batches = torch_vgg.patch_seconds(model, patches, self.given.device, self.given.batches)
        exact, theirs = (
            torch_vgg.logits(model, patches, self.given.device, kind) for kind in (torch.float32, torch.float16)
        )
        ours = np.stack([logits[y, x] for y, x in places])
        error = lambda a: float(np.abs(a - exact).max() / np.abs(exact).max())
        best = min(batches, key=batches.get)
        return dict(
            timed_patches=len(places),
            torch_ms_per_patch={batch: 1e3 * seconds for batch, seconds in batches.items()},
            torch_batch=best,
            torch_slice_ms=1e3 * batches[best] * grid[0] * grid[1],
            error=error(ours),
            torch_error=error(theirs),
            changed=int((ours.argmax(1) != exact.argmax(1)).sum()),
        )

    def measure(self, machine):
        """A dict of numbers."""
        given, side = self.given, self.given.side
        model = self.make_model()
        result, logits = self.ours()
        macs = result["report"]["macs"]
        plan = exact_plan.layers(side, side, self.size, self.stride, self.image, given.widths, given.hidden)
        planned = sum(layer.macs for layer in plan)
        if result["report"]["tiles"] == 1 and planned != macs:
            print(f"{self.name}: the plan here has {planned} MACs, the report {macs}", file=sys.stderr)
        rate = lambda macs, ms: dict(tflops=2e-9 * macs / ms, percent=2e5 * macs / ms / machine["matrix_flops"])
        result |= rate(macs, result["slice_ms"])
        try:
            result["layers"], result["other_ms"] = self.layers(plan)
        except ncu.Failed as error:
            result["layers_missing"] = str(error)
        else:
            for layer, planned in zip(result["layers"], plan):
                layer |= dict(values=f"{planned.rows} x {planned.columns} x {planned.channels}", macs=planned.macs)
                layer |= rate(planned.macs, max(layer["ms"], 1e-9))
            convolutions = [layer for layer in result["layers"] if layer["layer"].startswith("conv")]
            total = [sum(layer[key] for layer in convolutions) for key in ("macs", "ms")]
            result["convolution_percent"] = rate(*total)["percent"]
        if not self.image:
            result |= self.peer(model, logits)
            result["times_faster"] = result["torch_slice_ms"] / result["slice_ms"]
        return dict(row=self.name, **result)


def table(header, lines):
    """Prints a Markdown table."""
    print(f"\n| {' | '.join(header)} |\n|{'---|' * len(header)}")
    for line in lines:
        print(f"| {' | '.join(line)} |", flush=True)


def summary(result):
    """A line of the first table."""
    show = lambda key, form="{:.3g}": form.format(result[key]) if key in result else "-"
    target = lambda text, wanted: text if wanted is None or text == "-" else f"{text} (target {wanted})"
    peer = "torch_batch" in result
    return [
        result["row"],
        str(result["report"]["patches"]),
        target(show("slice_ms"), SLICE_MS.get(result["row"])),
        show("tflops"),
        show("percent", "{:.1f}"),
        target(show("convolution_percent", "{:.1f}"), MATRIX_SHARE),
        f"{result['slices']}: {result['scan_s']:.2f}",
        f"{min(result['torch_ms_per_patch'].values()):.3g} ({result['torch_batch']})" if peer else "-",
        show("torch_slice_ms"),
        target(show("times_faster"), TIMES_FASTER.get(result["row"])),
        show("error", "{:.1e}"),
        show("torch_error", "{:.1e}"),
        f"{result['changed']} of {result['timed_patches']}" if peer else "-",
    ]


SUMMARY = (
    *("row", "patches", "ms a slice", "TFLOP/s", "% of matrix rate", "% in convolutions", "slices: seconds, whole program"),
    *("PyTorch ms a patch (batch)", "PyTorch ms a slice", "times faster", "error", "PyTorch's own error", "class changed"),
)


def layer_lines(result):
    """The second table of a row."""
    for layer in result["layers"]:
        work = [f"{layer['macs'] / 1e9:.1f}", f"{layer['tflops']:.1f}", f"{layer['percent']:.1f}"]
        yield [layer["layer"], layer["kernel"], layer["values"], f"{layer['ms']:.3f}", *(work if layer["macs"] else ["-"] * 3)]
    for name, milliseconds in result["other_ms"].items():
        yield ["-", name, "-", f"{milliseconds:.3f}", *["-"] * 3]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW")
    parser.add_argument("--ncu", default=shutil.which("ncu"), help="Nsight Compute; '' leaves single layers out")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    parser.add_argument("--small", action="store_true", help="try this script out, PyTorch on the CPU; no figures")
    given = parser.parse_args()
    given.rows = given.rows or (["33/16", "32/8/image"] if given.small else ["257/8", "257/7", "65/4", "257/8/image"])
    given.side, given.slices, given.patches, given.matrix = (40, 3, 6, 64) if given.small else (512, 100, 256, 8192)
    given.batches = (2, 4) if given.small else (16, 32, 64, 128, 256)
    given.widths, given.hidden = exact_plan.FULL, (256, 256)
    if given.small:
        given.widths, given.hidden = tuple(width // 16 for width in given.widths), (16, 16)
    return given


def main():
    given = arguments()
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
    print("{gpu}, PyTorch {torch}, cuDNN {cudnn}; fp16 matrix product: {matrix_flops:.4g} FLOP/s".format(**machine), flush=True)
    results, failures = [], []
    for name in given.rows:
        try:
            with tempfile.TemporaryDirectory() as folder:
                results.append(Row(given, name, Path(folder), volume).measure(machine))
        except Failed as error:
            failures.append(f"{name}: segment failed: {error}")
        if given.json:  # after every row, should a later one take too long
            given.json.write_text(json.dumps(dict(machine=machine, rows=results, failures=failures), indent=2) + "\n")
    for result in results:
        print(f"\n{result['row']}, one slice, {result['report']['tiles']} tiles", result.get("layers_missing", ""))
        if "layers" in result:
            table(("layer", "kernel", "values", "ms", "GMAC", "TFLOP/s", "% of matrix rate"), layer_lines(result))
    table(SUMMARY, map(summary, results))
    wrong = [result for result in results if not result.get("error", 0) <= TOLERANCE]
    failures += [f"{result['row']}: logits differ by {result['error']:.1e} of the largest" for result in wrong]
    return sys.exit("\n".join(failures)) if failures else None


if __name__ == "__main__":
    main()
