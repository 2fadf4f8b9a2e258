"""Trace events of benches/scan.rs -> a picture: when each slice was uploaded, computed and downloaded.

    python benches/timeline.py trace/257-8.json timeline.png

Needs matplotlib. The same file opens in Perfetto and chrome://tracing.
"""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

SLICES = 8  # the first ones are drawn
STAGES = "upload", "compute", "download"  # a lane is "cuda:0 upload" or "cuda:0 compute 1"

trace, picture = sys.argv[1:]
events = json.loads(Path(trace).read_text())["traceEvents"]
lanes = {event["tid"]: event["args"]["name"] for event in events if event["ph"] == "M"}
order = sorted(lanes.values(), key=lambda lane: (lane.split()[0], STAGES.index(lane.split()[1]), lane))
figure, axes = pyplot.subplots(figsize=(11, 1 + 0.5 * len(lanes)), layout="constrained")
for event in events:
    if event["ph"] == "X" and (number := int(event["name"].split()[1])) < SLICES:
        line, begin, milliseconds = order.index(lanes[event["tid"]]), event["ts"] / 1e3, event["dur"] / 1e3
        axes.barh(line, milliseconds, left=begin, color=f"C{number % 10}", edgecolor="white", linewidth=0.4)
        if " compute " in order[line]:
            axes.text(begin + milliseconds / 2, line, number, ha="center", va="center", size=8)
axes.set_yticks(range(len(order)), order)
axes.invert_yaxis()
axes.set_xlabel("ms since the call began; numbers and colours: slices")
figure.savefig(picture, dpi=110)
