"""What bounds each kernel of a program's last slice, and the rate of its convolutions, from Nsight Compute's raw page.

    python benches/ncu.py RAW.csv ROW     RAW.csv from `ncu --import FILE --page raw --csv`; ROW as in gpu.py
    python benches/ncu.py --collect       ncu's options for that
"""

import csv
import re
import sys
from pathlib import Path

import exact_plan

TIME = "gpu__time_duration.sum"
SECONDS = {"ns": 1e-9, "nsecond": 1e-9, "us": 1e-6, "usecond": 1e-6, "ms": 1e-3, "msecond": 1e-3, "s": 1, "second": 1}


def last_slice(text):
    """Launches of the last slice as {column: text}, with the kernel's bare name as `kernel` and its `seconds`. Lines of
    ncu's own (`==PROF==`) come before the header, whose next line has the units; a slice begins with its histogram."""
    lines = text.splitlines()
    first = next((i for i, line in enumerate(lines) if line.startswith('"ID"')), None)
    if first is None:
        raise ValueError("no table in ncu's output: " + " ".join(lines[-2:]))
    units, *launches = csv.DictReader(lines[first:])
    for launch in launches:
        try:
            launch["seconds"] = float(launch[TIME].replace(",", "")) * SECONDS[units[TIME]]
        except (KeyError, ValueError) as error:
            raise ValueError(f"ncu: {TIME} {launch.get(TIME)!r} in {units.get(TIME)!r}") from error
        launch["kernel"] = re.split("[(<]", launch["Kernel Name"])[0].split()[-1]
    starts = [index for index, launch in enumerate(launches) if launch["kernel"] == "histogram"]
    if not starts:
        raise ValueError(f"no slice among {len(launches)} launches")
    return launches[starts[-1] :]


ACTIVE, ELAPSED = ".avg.pct_of_peak_sustained_active", ".avg.pct_of_peak_sustained_elapsed"
# Column of the table -> metrics that tell it; their names differ between GPUs and versions.
FIGURES = {
    # wgmma and mma.sync.
    "tensor %": [name + ACTIVE for name in ("sm__pipe_tensor_cycles_active", "sm__pipe_tensor_op_hmma_cycles_active")],
    "sm %": ["sm__throughput" + ELAPSED],
    "l1 %": ["l1tex__throughput" + ACTIVE],
    "l2 %": ["lts__throughput" + ELAPSED],
    "dram %": ["gpu__dram_throughput" + ELAPSED, "dram__throughput" + ELAPSED],
    "warps %": ["sm__warps_active" + ACTIVE],
    "issued %": ["sm__issue_active" + ELAPSED],
    "registers": ["launch__registers_per_thread"],
    "bank conflicts": ["l1tex__data_bank_conflicts_pipe_lsu_mem_shared.sum"],
    "local stores": ["sass__inst_executed_local_stores", "smsp__sass_inst_executed_op_local_st.sum"],
}
HEADER = ["kernel", "grid", "us", *FIGURES, "stalls"]
# Warps that wait for this, for each instruction issued.
STALL = re.compile(r"smsp__average_warps_issue_stalled_(\w+)_per_issue_active\.ratio")
SECTIONS = "SpeedOfLight", "ComputeWorkloadAnalysis", "MemoryWorkloadAnalysis_Tables", "WarpStateStats", "LaunchStats"
# ncu's options for these figures: sections are there on every GPU, while a metric that one lacks would end the profile.
COLLECT = [word for section in SECTIONS for word in ("--section", section)]


def stalls(launch):
    """The three most frequent reasons why warps wait."""
    found = ((STALL.fullmatch(name), value) for name, value in launch.items())
    ratios = [(float(value.replace(",", "")), match[1]) for match, value in found if match and value]
    return " ".join(f"{reason}:{ratio:.1f}" for ratio, reason in sorted(ratios)[:-4:-1]) or "-"


def figures(slice_of):
    """Lines under HEADER, one for each launch."""
    for launch in slice_of:
        found = [next((launch[name] for name in names if launch.get(name)), "-") for names in FIGURES.values()]
        line = [launch["kernel"], launch.get("Grid Size", "-"), f"{1e6 * launch['seconds']:.1f}"]
        yield [*line, *(value.replace(",", "") for value in found), stalls(launch)]


def convolutions(slice_of, row):
    """(seconds, FLOP/s) of the convolutions of a full-width VGG16."""
    size, stride, *image = row.split("/")
    layers = exact_plan.layers(512, 512, int(size), int(stride), bool(image))
    seconds = sum(launch["seconds"] for launch in slice_of if launch["kernel"].startswith("conv3_"))
    return seconds, 2 * sum(layer.macs for layer in layers if layer.name.startswith("conv")) / max(seconds, 1e-9)


def main():
    if sys.argv[1] == "--collect":
        return print(*COLLECT, sep="\n")
    try:
        slice_of = last_slice(Path(sys.argv[1]).read_text(encoding="utf-8", errors="replace"))
    except ValueError as error:
        sys.exit(str(error))
    for cells in [HEADER, *figures(slice_of)]:
        print("  ".join(f"{cell:>14}" for cell in cells))
    seconds, rate = convolutions(slice_of, sys.argv[2])
    target = "75 % of the matrix rate that gpu.py measures"
    return print(f"convolutions: {1e3 * seconds:.2f} ms, {rate / 1e12:.0f} TFLOP/s (target: {target})")


if __name__ == "__main__":
    main()
