"""Times of a program's kernels by Nsight Compute: `launches` runs it, `parse` reads its CSV, `of_layers` finds the layers
of one slice among them.

    python benches/ncu.py RAW.csv       what bounds each kernel of the last slice, from `ncu --import FILE --page raw --csv`
    python benches/ncu.py --collect     ncu's options for that
"""

import csv
import os
import re
import subprocess
import sys

METRIC = "gpu__time_duration.sum"
SECONDS = {"ns": 1e-9, "nsecond": 1e-9, "us": 1e-6, "usecond": 1e-6, "ms": 1e-3, "msecond": 1e-3, "s": 1, "second": 1}


class Failed(Exception):
    """ncu gave no times; the text says why."""


def launches(ncu, command, log, limit=180):
    """[(kernel, seconds)] of every launch of `command`, in order; ncu's own output goes to the file `log`."""
    options = ["--csv", "--print-units", "base", "--clock-control", "none", "--cache-control", "none"]
    options += ["--metrics", METRIC, "--log-file", log]
    try:
        done = subprocess.run(
            [*map(str, [ncu, *options, *command])], capture_output=True, text=True, timeout=limit, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(f"{ncu}: {error}") from error
    text = ""
    if os.path.exists(log):
        with open(log, encoding="utf-8", errors="replace") as file:
            text = file.read()
    if done.returncode != 0:
        said = [line for line in (text + done.stdout + done.stderr).splitlines() if line.strip()]
        raise Failed(f"{ncu}: exit status {done.returncode}: {' '.join(said[-2:])}")
    return parse(text)


def parse(text):
    """[(kernel, seconds)] from ncu's CSV, one line a launch and metric; lines of its own (`==PROF==`) come before."""
    lines = text.splitlines()
    first = next((i for i, line in enumerate(lines) if line.startswith('"ID"')), None)
    if first is None:
        raise Failed("no table in ncu's output: " + " ".join(lines[-2:]))
    found = []
    for line in csv.DictReader(lines[first:]):
        if line.get("Metric Name") != METRIC:
            continue
        unit, value = line["Metric Unit"], line["Metric Value"].replace(",", "")
        try:
            seconds = float(value) * SECONDS[unit]
        except (KeyError, ValueError) as error:
            raise Failed(f"ncu: {METRIC} {value!r} in {unit!r}") from error
        name = line["Kernel Name"].split("(")[0].split("<")[0].split()[-1]
        found.append((name, seconds))
    return found


def of_layers(found, layers):
    """[(kernel, seconds)] of `layers` (exact_plan) in the program's last slice, and of everything else in that slice.

    What a library launches before, to try its kernels out, comes before the last slice's histogram. A slice in several
    tiles walks through the layers several times.
    """
    starts = [index for index, (name, _) in enumerate(found) if name == "histogram"]
    if not starts:
        raise Failed(f"no slice among {len(found)} launches")
    kernels, seconds, others, at = [""] * len(layers), [0.0] * len(layers), {}, len(layers)
    for name, duration in found[starts[-1] :]:
        if name == "conv3_first":
            if at != len(layers):
                raise Failed(f"a tile with {at} layers of {len(layers)}")
            at = 0
        if at < len(layers) and name.startswith(layers[at].kernel):
            kernels[at] = name
            seconds[at] += duration
            at += 1
        elif name == "split_k_reduce" and at > 0:
            seconds[at - 1] += duration
        else:
            others[name] = others.get(name, 0.0) + duration
    if at != len(layers) or not kernels[0]:
        raise Failed(f"{at} layers of {len(layers)} in the last slice")
    return list(zip(kernels, seconds)), others


# Column of the table -> metrics that tell it; their names differ between GPUs and versions.
FIGURES = {
    "us": ("gpu__time_duration.sum",),
    # wgmma and mma.sync together, then by the instructions of either.
    "tensor %": (
        "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_active",
        "sm__pipe_tensor_op_hmma_cycles_active.avg.pct_of_peak_sustained_active",
        "sm__inst_executed_pipe_tensor.avg.pct_of_peak_sustained_active",
    ),
    "gmma %": ("sm__inst_executed_pipe_tensor_op_gmma.avg.pct_of_peak_sustained_active",),
    "hmma %": ("sm__inst_executed_pipe_tensor_op_hmma.avg.pct_of_peak_sustained_active",),
    "sm %": ("sm__throughput.avg.pct_of_peak_sustained_elapsed",),
    "l1 %": ("l1tex__throughput.avg.pct_of_peak_sustained_active",),
    "l2 %": ("lts__throughput.avg.pct_of_peak_sustained_elapsed",),
    "dram %": ("gpu__dram_throughput.avg.pct_of_peak_sustained_elapsed", "dram__throughput.avg.pct_of_peak_sustained_elapsed"),
    "warps %": ("sm__warps_active.avg.pct_of_peak_sustained_active",),
    "issued %": ("smsp__issue_active.avg.pct_of_peak_sustained_active", "sm__inst_issued.avg.pct_of_peak_sustained_active"),
    "registers": ("launch__registers_per_thread",),
    "bank conflicts": ("l1tex__data_bank_conflicts_pipe_lsu.sum",),
    "local bytes": ("launch__local_mem_per_thread", "smsp__inst_executed_op_local.sum"),
}


# Warps that wait for this, for each instruction issued.
STALL = re.compile(r"smsp__average_warps_issue_stalled_(\w+)_per_issue_active\.ratio")
# What to collect for these figures. Names by regular expression may match nothing on a GPU.
COLLECT = (
    *("--section", "SpeedOfLight", "--section", "WarpStateStats", "--section", "LaunchStats"),
    "--metrics",
    "gpu__time_duration.sum,regex:^sm__pipe_tensor.*cycles_active$,regex:^sm__inst_executed_pipe_tensor(_op_[gh]mma)?$,"
    "regex:^l1tex__data_bank_conflicts_pipe_lsu$",
)


def stalls(row):
    """The three reasons for which warps wait most."""
    found = ((STALL.fullmatch(name), value) for name, value in row.items())
    ratios = sorted(((float(value.replace(",", "")), match[1]) for match, value in found if match and value), reverse=True)
    return " ".join(f"{reason}:{ratio:.1f}" for ratio, reason in ratios[:3]) or "-"


def figures(text):
    """[[kernel, grid, figures..., stalls]] of the launches since the last histogram, from the raw page as CSV."""
    lines = text.splitlines()
    first = next((i for i, line in enumerate(lines) if line.startswith('"ID"')), None)
    if first is None:
        raise Failed("no table in ncu's output: " + " ".join(lines[-2:]))
    units, *rows = csv.DictReader(lines[first:])
    starts = [i for i, row in enumerate(rows) if row["Kernel Name"].startswith("histogram")]
    table = []
    for row in rows[starts[-1] if starts else 0 :]:
        line = [row["Kernel Name"].split("(")[0], row.get("Grid Size", "-")]
        for column, metrics in FIGURES.items():
            metric = next((metric for metric in metrics if row.get(metric)), None)
            value = row[metric].replace(",", "") if metric else "-"
            if column == "us" and metric:
                value = f"{1e6 * SECONDS[units[metric]] * float(value):.1f}"
            line.append(value)
        table.append([*line, stalls(row)])
    return table


if __name__ == "__main__":
    if sys.argv[1] == "--collect":
        print(*COLLECT, sep="\n")
        sys.exit()
    with open(sys.argv[1], encoding="utf-8", errors="replace") as raw:
        try:
            made = figures(raw.read())
        except Failed as error:
            sys.exit(str(error))
    for line in [["kernel", "grid", *FIGURES, "stalls"], *made]:
        print("  ".join(f"{word:>14}" for word in line))
