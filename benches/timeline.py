"""Trace events of benches/scan.rs -> a picture: which slice was on its way up, at work, on its way down, and when.

    python benches/timeline.py trace/257-8.json timeline.png [--slices 8]

Needs matplotlib. The same file opens in Perfetto and chrome://tracing.
"""

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402


def place(lane):
    """Of a lane such as "cuda:0 compute 1" in the picture."""
    gpu, stage, *number = lane.split()
    return gpu, ("upload", "compute", "download").index(stage), number


def read(path):
    """(names of the lanes, [(lane, slice, begin, milliseconds)])"""
    events = json.loads(path.read_text())["traceEvents"]
    lanes = {event["tid"]: event["args"]["name"] for event in events if event["ph"] == "M"}
    order = sorted(lanes.values(), key=place)
    spans = [event for event in events if event["ph"] == "X"]
    return order, [(lanes[e["tid"]], int(e["name"].split()[1]), e["ts"] / 1e3, e["dur"] / 1e3) for e in spans]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--slices", type=int, default=8, help="the first ones are drawn (default 8)")
    given = parser.parse_args()
    lanes, spans = read(given.trace)
    figure, axes = pyplot.subplots(figsize=(11, 1 + 0.5 * len(lanes)), layout="constrained")
    for lane, number, begin, milliseconds in spans:
        if number < given.slices:
            line = lanes.index(lane)
            axes.barh(line, milliseconds, left=begin, color=f"C{number % 10}", edgecolor="white", linewidth=0.4)
            if " compute " in lane:
                axes.text(begin + milliseconds / 2, line, number, ha="center", va="center", size=8)
    axes.set_yticks(range(len(lanes)), lanes)
    axes.invert_yaxis()
    axes.set_xlabel("ms since the call began; numbers and colours: slices")
    figure.savefig(given.picture, dpi=110)


if __name__ == "__main__":
    main()
