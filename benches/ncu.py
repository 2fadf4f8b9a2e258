"""Times of a program's kernels by Nsight Compute: `launches` runs it, `of_layers` finds the layers of one slice among them.

    python benches/ncu.py RAW.csv       what bounds each kernel of the last slice, from `ncu --import FILE --page raw --csv`
    python benches/ncu.py --collect     ncu's options for that
"""

import csv
import re
import subprocess
import sys
from pathlib import Path

TIME = "gpu__time_duration.sum"
SECONDS = {"ns": 1e-9, "nsecond": 1e-9, "us": 1e-6, "usecond": 1e-6, "ms": 1e-3, "msecond": 1e-3, "s": 1, "second": 1}


class Failed(Exception):
    """ncu gave no times; the text says why."""


def launches(ncu, command, log, limit=180):
    """Every launch of `command`, in order; ncu writes the file `log`."""
    options = ["--csv", "--page", "raw", "--clock-control", "none", "--cache-control", "none", "--metrics", TIME]
    options += ["--log-file", log]
    try:
        words = list(map(str, [ncu, *options, *command]))
        done = subprocess.run(words, capture_output=True, text=True, timeout=limit, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(f"{ncu}: {error}") from error
    text = Path(log).read_text(encoding="utf-8", errors="replace") if Path(log).exists() else ""
    if done.returncode != 0:
        said = [line for line in (text + done.stdout + done.stderr).splitlines() if line.strip()]
        raise Failed(f"{ncu}: exit status {done.returncode}: {' '.join(said[-2:])}")
    return parse(text)


def parse(text):
    """Launches from the raw page as CSV: {column: text}, with the kernel's bare name as `kernel` and its `seconds`. Lines of
    ncu's own (`==PROF==`) come before the header; the first line after it has the units."""
    lines = text.splitlines()
    first = next((i for i, line in enumerate(lines) if line.startswith('"ID"')), None)
    if first is None:
        raise Failed("no table in ncu's output: " + " ".join(lines[-2:]))
    units, *rows = csv.DictReader(lines[first:])
    for row in rows:
        try:
            row["seconds"] = float(row[TIME].replace(",", "")) * SECONDS[units[TIME]]
        except (KeyError, ValueError) as error:
            raise Failed(f"ncu: {TIME} {row.get(TIME)!r} in {units.get(TIME)!r}") from error
        row["kernel"] = re.split("[(<]", row["Kernel Name"])[0].split()[-1]
    return rows


def last_slice(found):
    """The launches of the program's last slice: the self-test's come before the last slice's histogram."""
    starts = [index for index, launch in enumerate(found) if launch["kernel"] == "histogram"]
    if not starts:
        raise Failed(f"no slice among {len(found)} launches")
    return found[starts[-1] :]


def of_layers(found, layers):
    """[(kernel, seconds)] of `layers` (exact_plan) in the program's last slice, and of everything else in that slice.

    A slice in several tiles goes through the layers several times.
    """
    kernels, seconds, others, at = [""] * len(layers), [0.0] * len(layers), {}, len(layers)
    for launch in last_slice(found):
        name = launch["kernel"]
        if name == "conv3_first":
            if at != len(layers):
                raise Failed(f"a tile with {at} layers of {len(layers)}")
            at = 0
        if at < len(layers) and name.startswith(layers[at].kernel):
            kernels[at] = name
            seconds[at] += launch["seconds"]
            at += 1
        elif name == "split_k_reduce" and at > 0:
            seconds[at - 1] += launch["seconds"]
        else:
            others[name] = others.get(name, 0.0) + launch["seconds"]
    if at != len(layers) or not kernels[0]:
        raise Failed(f"{at} layers of {len(layers)} in the last slice")
    return list(zip(kernels, seconds)), others


# Column of the table -> metrics that tell it; their names differ between GPUs and versions.
FIGURES = {
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
HEADER = ["kernel", "grid", "us", *FIGURES, "stalls"]
# Warps that wait for this, for each instruction issued.
STALL = re.compile(r"smsp__average_warps_issue_stalled_(\w+)_per_issue_active\.ratio")
# What to collect for these figures. Names by regular expression may match nothing on a GPU.
COLLECT = (
    *("--section", "SpeedOfLight", "--section", "WarpStateStats", "--section", "LaunchStats"),
    "--metrics",
    "gpu__time_duration.sum,regex:^sm__pipe_tensor.*cycles_active$,regex:^sm__inst_executed_pipe_tensor(_op_[gh]mma)?$,"
    "regex:^l1tex__data_bank_conflicts_pipe_lsu$",
)


def stalls(launch):
    """The three reasons for which warps wait most."""
    found = ((STALL.fullmatch(name), value) for name, value in launch.items())
    ratios = sorted(((float(value.replace(",", "")), match[1]) for match, value in found if match and value), reverse=True)
    return " ".join(f"{reason}:{ratio:.1f}" for ratio, reason in ratios[:3]) or "-"


def figures(text):
    """Lines under HEADER: the launches of the last slice, from the raw page as CSV."""
    for launch in last_slice(parse(text)):
        found = [next((launch[name] for name in names if launch.get(name)), "-") for names in FIGURES.values()]
        line = [launch["kernel"], launch.get("Grid Size", "-"), f"{1e6 * launch['seconds']:.1f}"]
        yield [*line, *(value.replace(",", "") for value in found), stalls(launch)]


if __name__ == "__main__":
    if sys.argv[1] == "--collect":
        print(*COLLECT, sep="\n")
    else:
        try:
            for cells in [HEADER, *figures(Path(sys.argv[1]).read_text(encoding="utf-8", errors="replace"))]:
                print("  ".join(f"{cell:>14}" for cell in cells))
        except Failed as error:
            sys.exit(str(error))
