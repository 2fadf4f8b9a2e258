"""Time of a slice on 1, 2, 4, ... threads, measured as far as this machine has cores, and predicted to 128.

    python benches/scaling.py [PATCH/STRIDE]

Runs `cargo bench --bench layers` for each number of threads. The prediction starts from the measured multiplications of each layer
and the time on one thread, and assumes that
- a chunk of Winograd runs has three parts (transform of inputs, products, transform of sums), after each of which all threads wait
  for the last: 5 us for each doubling of their number, and what is left over when the tasks do not divide by the threads; 36 points of
  a chunk have all its rows;
- transforms take a fifth of the products' time, and divide evenly;
- memory is as fast for each thread as it is for one: a machine with many cores has as many channels.
"""

import math
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WIDTHS = dict(zip("1_2 2_1 2_2 3_1 3_2 3_3 4_1 4_2 4_3 5_1 5_2 5_3".split(), [64, 64, 128, 128, 256, 256, 256] + 5 * [512]))
OUTPUTS = dict(zip(WIDTHS, [64, 128, 128, 256, 256, 256] + 6 * [512]))
PANEL, POINTS, WAIT = 32, 36, 5e-6  # outputs of a task, points of a run pair, seconds


def measured(setting, threads):
    """Seconds and products of each layer."""
    command = ["cargo", "bench", "--quiet", "--bench", "layers", "--", setting, str(threads)]
    printed = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    rows = re.findall(r"^\| (\w+) \| [\d.]+ \| ([\d.]+) \| ([\d.]+) \|", printed, re.MULTILINE)
    return {name: (float(seconds), 1e9 * float(products)) for name, products, seconds in rows}


def chunk_rows(inputs, outputs, threads):
    """As src/engine/cpu/winograd/layer.rs."""
    floats = min(max(64 * inputs * outputs // 4, 1 << 20), 4 << 20) * math.ceil(threads / 16)
    return floats // (inputs + 16 + outputs)


def predicted(name, seconds, products, threads):
    """Seconds of a layer on so many threads, given those on one."""
    if name.removeprefix("conv") not in WIDTHS:
        return seconds / threads
    inputs, outputs = WIDTHS[name.removeprefix("conv")], OUTPUTS[name.removeprefix("conv")]
    chunks = products / (inputs * outputs * chunk_rows(inputs, outputs, threads))
    tasks = POINTS * outputs // PANEL
    uneven = math.ceil(tasks / threads) / (tasks / threads)
    return seconds / threads * (1 / 6 + 5 / 6 * uneven) + 3 * WAIT * chunks * math.log2(threads)


def main():
    setting = sys.argv[1] if len(sys.argv) > 1 else "257/8"
    cores = os.cpu_count() or 1
    one = measured(setting, 1)
    total = sum(seconds for seconds, _ in one.values())
    print("| threads | s, measured | efficiency | s, predicted | efficiency |\n|" + "---|" * 5)
    for threads in (1 << power for power in range(8)):
        cells = ["", ""]
        if threads <= cores:
            seconds = sum(seconds for seconds, _ in (measured(setting, threads) if threads > 1 else one).values())
            cells = [f"{seconds:.2f}", f"{100 * total / threads / seconds:.0f} %"]
        guess = sum(predicted(name, *layer, threads) for name, layer in one.items())
        print("|", " | ".join([str(threads), *cells, f"{guess:.2f}", f"{100 * total / threads / guess:.0f} %"]), "|", flush=True)


if __name__ == "__main__":
    main()
