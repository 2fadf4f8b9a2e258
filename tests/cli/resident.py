"""The memory that the process takes, against the budget and the estimate: from the smallest budget that works to none
at all, and for few and many slices.

    SEGMENT=build/segment python3 tests/cli/resident.py

The process itself, the model and the caller's volume and mask are not the session's to budget: what is held besides the peak that
the report tells, where memory is plenty, shows what they take. Linux only; standard library only."""

import json
import os
import re
import subprocess
import sys
import tempfile
import unittest

import volume_files
from segment_case import ROOT, SEGMENT

DEMO = os.path.join(ROOT, "examples", "demo")
SLICE = (240, 180)
MIB = 1 << 20
# Numbering the values of an axis takes some memory for a moment, which is not counted. Of a budget as small as that of the demo's
# network it is more than a tenth.
PLANNING = 4 * MIB

# On Linux a program's peak begins with that of the process that started it: so a small one in between.
MEASURE = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:])
_, status, usage = os.wait4(process.pid, 0)
print(usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))
"""


@unittest.skipUnless(sys.platform.startswith("linux"), "SKIPPED: peaks are read as Linux counts them")
class Resident(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        # Any voxels will do.
        self.voxels = [number * 7919 % 400 - 200 for number in range(16 * SLICE[0] * SLICE[1])]

    def run_segment(self, *options, slices=1):
        """(peak resident bytes, peak that the report tells, seconds); the error text where it fails."""
        scan = os.path.join(self.folder, f"{slices}.nrrd")
        voxels = self.voxels[: slices * SLICE[0] * SLICE[1]]
        volume_files.write_volume(scan, (*SLICE, slices), voxels)
        report = os.path.join(self.folder, "report.json")
        command = [SEGMENT, "--quiet", "--device", "cpu", "--threads", "2", "--model", os.path.join(DEMO, "model.safetensors")]
        command += ["--report", report, *options, scan, os.path.join(self.folder, "mask.nrrd")]
        done = subprocess.run([sys.executable, "-c", MEASURE, *command], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            return done.stderr
        with open(report, encoding="utf-8") as file:
            told = json.load(file)
        return int(done.stdout.split()[-1]) * 1024, told["peak_bytes"], told["tiles"]

    def test_budgets_hold_and_peaks_are_estimated(self):
        options = ("--stride", "4")
        resident, largest, _ = min(self.run_segment(*options) for _ in range(3))
        besides = resident - largest
        self.assertTrue(0 < besides < 32 * MIB, f"{besides} bytes besides {largest}")
        # A budget that is too small says by how much.
        smallest = 8 * MIB
        while isinstance(outcome := self.run_segment(*options, "--memory", str(smallest // MIB)), str):
            text = re.search(r"raise the budget by (\d+) MiB|take (\d+);", outcome)
            self.assertIsNotNone(text, outcome)
            smallest = smallest + int(text[1]) * MIB if text[1] else (int(text[2]) // MIB + 1) * MIB
        tiles = []
        for budget in (smallest, smallest + (largest - smallest) // 4, smallest + (largest - smallest) // 2, largest + MIB):
            # The least of three: which of its arenas the C library's malloc takes, and keeps, differs from run to run.
            runs = (self.run_segment(*options, "--memory", str(budget // MIB)) for _ in range(3))
            resident, told, count = min(runs)
            have = resident - besides
            print(f"budget {budget / MIB:.0f} MiB: {have / MIB:.1f} held, {told / MIB:.1f} estimated, {count} tiles")
            self.assertLessEqual(told, budget)
            self.assertLess(have, 1.1 * budget + PLANNING)
            self.assertLess(abs(have - told), 0.1 * told + PLANNING, "held and estimated")
            tiles.append(count)
        self.assertEqual(tiles, sorted(tiles, reverse=True))
        self.assertGreater(tiles[0], 4 * tiles[-1])

    def test_slices_come_and_go(self):
        options = ("--stride", "8")
        one, many = (self.run_segment(*options, slices=n)[0] for n in (1, 16))
        callers = 15 * (2 + 1) * SLICE[0] * SLICE[1]
        print(f"held for 1 slice {one / MIB:.1f} MiB, for 16 {many / MIB:.1f} MiB, {callers / MIB:.1f} the caller's")
        self.assertLess(abs(many - callers - one), 0.05 * one)


if __name__ == "__main__":
    unittest.main()
