"""`build/segment --device cuda` beside PyTorch (cuDNN) evaluating patch by patch on the same GPU, in one run.

    python benches/gpu.py [ROW...] [--slices 100] [--patches 256] [--json FILE]

ROW is PATCH/STRIDE or PATCH/STRIDE/image; default: 257/8 257/7 65/4 257/8/image. A slice has 512 x 512 pixels, the network is
VGG16 with 3 channels, head 256-256-2, random weights. What is measured and how: benches/README.md. Needs numpy, PyTorch
with CUDA for the peer, and Nsight Compute (`ncu`) for single layers; without a GPU it says so and ends.
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
sys.path[:0] = [str(ROOT / "tests" / "golden"), str(ROOT / "tests" / "parity")]
import raw_nrrd  # noqa: E402
import synthetic  # noqa: E402

DEFAULT_ROWS = ["257/8", "257/7", "65/4", "257/8/image"]
WINDOW = (-160.0, 240.0)
TOLERANCE = 1e-2  # of the largest logit, against PyTorch in f32
# Targets on an H100
TIMES_FASTER = {"257/8": 12}  # than PyTorch patch by patch
SLICE_MS = {"257/8": 26}
MATRIX_SHARE = 75  # % of the matrix rate in the convolutions
LONGEST_SCAN = 15  # seconds of one timed run


def tried_out(given):
    """What --small makes of the settings: everything as small as it can be, to try this script itself."""
    given.side, given.slices, given.patches, given.batches = 40, 3, 6, (2, 4)
    given.widths, given.hidden = tuple(width // 16 for width in exact_plan.FULL), (16, 16)
    given.rows = given.rows or ["33/16", "32/8/image"]
    given.matrix, given.copy = 64, 1 << 20


class Failed(Exception):
    """segment failed; the text is what it said."""


def segment(given, folder, row, scan, *options):
    """Runs the program on a scan; (its report, seconds from start to end)."""
    size, stride, *padding = row.split("/")
    report = folder / "report.json"
    command = [given.segment, "--device", "cuda", "--model", folder / "model.safetensors"]
    command += ["--patch-size", size, "--stride", stride, "--padding", (padding or ["patch"])[0]]
    command += ["--report", report, *options, folder / scan, folder / "mask.nrrd"]
    command = [str(word) for word in command]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    took = time.perf_counter() - began
    if done.returncode != 0:
        raise Failed(done.stderr.strip())
    left_out = [line for line in done.stderr.splitlines() if "left out" in line and "PATCHMASK_WITHOUT" not in line]
    if left_out:
        raise Failed(" ".join(left_out))
    return json.loads(report.read_text()), took, command


def write_scan(path, volume):
    """HU [slice][row][column] as NRRD."""
    data = volume.astype("<i2").tobytes()
    raw_nrrd.write(path, "int16", volume.shape[::-1], data, "little", raw_nrrd.ct_fields())


def our_times(given, folder, row, volume):
    """The library's side of a row: ms a slice, the whole scan, work, logits of the first slice."""
    write_scan(folder / "one.nrrd", volume[:1])
    logits = folder / "logits.nrrd"
    segment(given, folder, row, "one.nrrd")  # the driver compiles the kernels once
    runs = [segment(given, folder, row, "one.nrrd", "--logits", logits) for _ in range(3)]
    one = statistics.median(report["timings_s"]["segment"] for report, _, _ in runs)
    slices = min(len(volume), max(3, int(LONGEST_SCAN / one)))
    write_scan(folder / "scan.nrrd", volume[:slices])
    scans = [segment(given, folder, row, "scan.nrrd")[:2] for _ in range(3)]
    fields, samples = raw_nrrd.read(logits)
    report, _, command = runs[-1]
    slice_ms = [1e3 * (report["timings_s"]["segment"] - one) / (slices - 1) for report, _ in scans]
    return dict(
        engine=report["engine"],
        patches=report["patches"],
        macs=report["macs"],
        macs_unshared=report["macs_unshared"],
        tiles=report["tiles"],
        device_peak_bytes=report["device_peak_bytes"],
        slice_ms=statistics.median(slice_ms),
        slice_ms_runs=slice_ms,
        first_slice_ms=1e3 * one,
        slices=slices,
        scan_s=statistics.median(took for _, took in scans),
        scan_timings_s=scans[-1][0]["timings_s"],
    ), np.frombuffer(samples, samples.typecode).reshape(fields["sizes"][::-1])[0], command


def layer_times(given, command, layers, log):
    """Every layer's kernel, ms and TFLOP/s by Nsight Compute; and the ms of all other kernels of the slice."""
    times, others = ncu.of_layers(ncu.launches(given.ncu, command, log), layers)
    rows = [
        dict(
            layer=layer.name,
            kernel=kernel,
            rows=layer.rows,
            columns=layer.columns,
            channels=layer.channels,
            gmacs=layer.macs / 1e9,
            ms=1e3 * seconds,
            tflops=2e-12 * layer.macs / seconds if seconds else 0.0,
        )
        for layer, (kernel, seconds) in zip(layers, times)
    ]
    return rows, {name: 1e3 * seconds for name, seconds in others.items()}


def peer_times(given, model, image, row, have):
    """PyTorch's side of a row: ms a patch for each batch size, and how far the logits are apart."""
    import torch_vgg

    size, stride, *_ = row.split("/")
    lattice = [-(-given.side // int(stride))] * 2
    chosen = np.random.default_rng(1).permutation(lattice[0] * lattice[1])[: given.patches]
    points = [divmod(int(index), lattice[1]) for index in chosen]
    patches = torch_vgg.cut(image, int(size), int(stride), points)
    batches = torch_vgg.patch_seconds(model, patches, given.device, given.batches)
    exact = torch_vgg.logits(model, patches, given.device, half=False)
    theirs = torch_vgg.logits(model, patches, given.device, half=True)
    ours = np.stack([have[y, x] for y, x in points]).astype(np.float64)
    error = lambda a, b: float(np.abs(a - b).max() / np.abs(exact).max())
    changed = lambda a, b: int((a.argmax(1) != b.argmax(1)).sum())
    best = min(batches, key=batches.get)
    return dict(
        timed_patches=len(points),
        torch_ms_per_patch={batch: 1e3 * seconds for batch, seconds in batches.items()},
        torch_batch=best,
        torch_slice_ms=1e3 * batches[best] * lattice[0] * lattice[1],
        error_to_torch_f32=error(ours, exact),
        error_to_torch_fp16=error(ours, theirs),
        torch_fp16_to_f32=error(theirs, exact),
        changed_to_torch_f32=changed(ours, exact),
        changed_to_torch_fp16=changed(ours, theirs),
        logits_spread=float((exact.max(0) - exact.min(0)).max() / np.abs(exact).max()),
    )


def intensity(hu):
    """A slice as the network sees it."""
    return np.clip((hu.astype(np.float64) - WINDOW[0]) / (WINDOW[1] - WINDOW[0]), 0, 1)


def make_files(given):
    """model.safetensors and one.nrrd, for a profiler to run segment on."""
    given.make.mkdir(parents=True, exist_ok=True)
    volume = synthetic.ct(given.side, given.side, 1, seed=9)
    write_scan(given.make / "one.nrrd", volume)
    make_model(given, int(given.rows[0].split("/")[0]), intensity(volume[0]), given.make / "model.safetensors")


def one_row(given, row, volume, machine):
    """Measures a row; a dict of numbers."""
    size, stride, *padding = row.split("/")
    image = intensity(volume[0])
    result = dict(row=row)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = make_model(given, int(size), image, folder / "model.safetensors")
        ours, logits, command = our_times(given, folder, row, volume)
        result.update(ours)
        layers = exact_plan.layers(
            given.side, given.side, int(size), int(stride), bool(padding), given.widths, given.hidden
        )
        planned = sum(layer.macs for layer in layers)
        result["planned_macs"] = planned
        if result["tiles"] == 1 and planned != result["macs"]:
            print(f"{row}: the plan here has {planned} MACs, the report {result['macs']}", file=sys.stderr)
        if given.ncu:
            try:
                result["layers"], result["other_ms"] = layer_times(given, command, layers, folder / "ncu.csv")
            except ncu.Failed as error:
                result["layers_missing"] = str(error)
        if not padding:
            result.update(peer_times(given, model, image, row, logits))
    result["tflops"] = 2e-9 * result["macs"] / result["slice_ms"] if result["slice_ms"] > 0 else 0.0
    result["percent_of_matrix_rate"] = 100 * result["tflops"] / machine["matrix_tflops"]
    if "layers" in result:
        convolutions = [layer for layer in result["layers"] if layer["layer"].startswith("conv")]
        seconds = sum(layer["ms"] for layer in convolutions) / 1e3
        result["convolution_tflops"] = 2e-3 * sum(layer["gmacs"] for layer in convolutions) / seconds
        result["convolution_percent"] = 100 * result["convolution_tflops"] / machine["matrix_tflops"]
    if "torch_slice_ms" in result:
        result["times_faster"] = result["torch_slice_ms"] / result["slice_ms"] if result["slice_ms"] > 0 else 0.0
    return result


def make_model(given, size, image, path):
    """Random weights for patches of this size, calibrated on patches of the slice; saved for the library."""
    import torch_vgg

    rng = np.random.default_rng(size)
    points = [tuple(point) for point in rng.integers(0, len(image), (torch_vgg.CALIBRATION, 2))]
    patches = torch_vgg.cut(image, size, 1, points).to(given.device)
    model = torch_vgg.Vgg(patches, given.widths, given.hidden, seed=size).to(given.device)
    model.save(path)
    return model


def table(header, lines):
    """Prints a Markdown table."""
    print(f"\n| {' | '.join(header)} |\n|" + "---|" * len(header))
    for line in lines:
        print(f"| {' | '.join(line)} |")
    sys.stdout.flush()


def summary(result):
    """A row of the first table."""
    show = lambda key, form="{:.3g}": form.format(result[key]) if key in result else "-"
    target = lambda value, wanted: value if wanted is None or value == "-" else f"{value} (target {wanted})"
    return [
        result["row"],
        str(result["patches"]),
        target(show("slice_ms"), SLICE_MS.get(result["row"])),
        show("tflops"),
        show("percent_of_matrix_rate", "{:.1f}"),
        target(show("convolution_percent", "{:.1f}"), MATRIX_SHARE),
        f"{result['slices']}: {result['scan_s']:.2f}",
        f"{min(result['torch_ms_per_patch'].values()):.3g} ({result['torch_batch']})" if "torch_batch" in result else "-",
        show("torch_slice_ms"),
        target(show("times_faster"), TIMES_FASTER.get(result["row"])),
        show("error_to_torch_f32", "{:.1e}"),
        show("torch_fp16_to_f32", "{:.1e}"),
        f"{result['changed_to_torch_f32']} of {result['timed_patches']}" if "torch_batch" in result else "-",
    ]


SUMMARY = (
    *("row", "patches", "ms a slice", "TFLOP/s", "% of matrix rate", "% in convolutions", "slices: seconds, whole program"),
    *("PyTorch ms a patch (batch)", "PyTorch ms a slice", "times faster", "error", "PyTorch's own error", "class changed"),
)


def layer_lines(result, machine):
    """The second table of a row."""
    for layer in result["layers"]:
        percent = 100 * layer["tflops"] / machine["matrix_tflops"]
        work = [f"{layer['gmacs']:.1f}", f"{layer['tflops']:.1f}", f"{percent:.1f}"] if layer["gmacs"] else ["-"] * 3
        image = f"{layer['rows']} x {layer['columns']} x {layer['channels']}"
        yield [layer["layer"], layer["kernel"], image, f"{layer['ms']:.3f}", *work]
    for name, milliseconds in result["other_ms"].items():
        yield ["-", name, "-", f"{milliseconds:.3f}", "-", "-", "-"]


def measure_machine(given):
    """The machine's own limits, and names."""
    import torch
    import torch_vgg

    cuda = given.device == "cuda"
    return dict(
        gpu=torch.cuda.get_device_name() if cuda else "none: PyTorch on the CPU",
        torch=torch.__version__,
        cudnn=torch.backends.cudnn.version() if cuda else None,
        matrix_tflops=torch_vgg.matrix_rate(given.device, given.matrix) / 1e12,
        copy_gb_s=torch_vgg.copy_rate(given.device, given.copy) / 1e9,
    )


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help="default: " + " ".join(DEFAULT_ROWS))
    parser.add_argument("--slices", type=int, default=100, help="of the scan")
    parser.add_argument("--patches", type=int, default=256, help="that PyTorch is timed on")
    program = os.environ.get("SEGMENT", ROOT / "build" / "segment")
    parser.add_argument("--segment", type=os.path.abspath, default=program, help="default: SEGMENT, else build/segment")
    parser.add_argument("--ncu", default=shutil.which("ncu"), help="Nsight Compute; '' leaves single layers out")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    parser.add_argument("--make", type=Path, metavar="FOLDER", help="only write the first ROW's model and slice there")
    parser.add_argument("--small", action="store_true", help="try this script out, PyTorch on the CPU; no figures")
    given = parser.parse_args()
    given.side, given.widths, given.hidden = 512, exact_plan.FULL, (256, 256)
    given.batches, given.matrix, given.copy = (16, 32, 64, 128, 256), 8192, 1 << 31
    if given.small:
        tried_out(given)
    given.rows = given.rows or DEFAULT_ROWS
    return given


def no_gpu(given):
    """Why there is nothing to measure, or None."""
    try:
        import torch
    except ImportError as error:
        return f"PyTorch: {error}"
    given.device = "cuda" if torch.cuda.is_available() and not given.small else "cpu"
    if given.device == "cpu" and not given.small:
        return "PyTorch finds no GPU"
    if not os.path.exists(given.segment):
        sys.exit(f"{given.segment}: not there; run `make`, or name it with --segment")
    return None


def main():
    given = arguments()
    reason = no_gpu(given)
    if reason:
        print(f"SKIPPED: {reason}")
        return
    if given.make:
        make_files(given)
        return
    volume = synthetic.ct(given.side, given.side, given.slices, seed=9)
    machine = measure_machine(given)
    print(
        f"{machine['gpu']}, PyTorch {machine['torch']}, cuDNN {machine['cudnn']}; fp16 matrix product of "
        f"{given.matrix}: {machine['matrix_tflops']:.4g} TFLOP/s; copy {machine['copy_gb_s']:.4g} GB/s",
        flush=True,
    )
    results = []
    for row in given.rows:
        try:
            results.append(one_row(given, row, volume, machine))
        except Failed as error:
            print(f"{row}: segment failed: {error}", flush=True)
            results.append(dict(row=row, failed=str(error)))
        if given.json:  # what stands, should a later row take too long
            given.json.write_text(json.dumps(dict(machine=machine, rows=results), indent=2) + "\n")
    measured = [result for result in results if "failed" not in result]
    for result in measured:
        if "layers" in result:
            print(f"\n{result['row']}, one slice, {result['tiles']} tiles")
            header = ("layer", "kernel", "values", "ms", "GMAC", "TFLOP/s", "% of matrix rate")
            table(header, layer_lines(result, machine))
        else:
            print(f"{result['row']}: no times of layers: {result.get('layers_missing', 'no ncu')}")
    table(SUMMARY, map(summary, measured))
    wrong = [f"{r['row']}: {r['error_to_torch_f32']:.1e}" for r in measured if not r.get("error_to_torch_f32", 0) <= TOLERANCE]
    if wrong:
        sys.exit(f"logits differ by more than {TOLERANCE:.0e} of the largest: " + ", ".join(wrong))
    if len(measured) < len(results):
        sys.exit("segment failed; see above")


if __name__ == "__main__":
    main()
