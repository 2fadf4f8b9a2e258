"""The parts of the GPU's benchmarks that need none: the plan's numbers against the library's, Nsight Compute's tables,
the estimates.

    SEGMENT=build/segment python3 tests/gpu/bench_parts.py
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "benches"), str(ROOT / "tests" / "cli")]
import exact_plan  # noqa: E402
import model  # noqa: E402
import ncu  # noqa: E402
import volume_files  # noqa: E402

SEGMENT = os.path.abspath(os.environ.get("SEGMENT", ROOT / "build" / "segment"))
MODEL = ROOT / "examples" / "demo" / "model.safetensors"


def table(launches, unit="ns", **columns):
    """ncu's raw page of launches (kernel, time as a text); `columns`: name -> (unit, text of launch i)."""
    columns = {ncu.TIME: (unit, lambda i: launches[i][1]), **columns}
    line = lambda *cells: ",".join(f'"{cell}"' for cell in cells)
    lines = ["==PROF== Connected to process 77 (/build/segment)", '==PROF== Profiling "histogram" - 0: 100%']
    lines.append(line("ID", "Kernel Name", "Grid Size", *columns))
    lines.append(line("", "", "", *(unit for unit, _ in columns.values())))
    for i, (name, _) in enumerate(launches):
        lines.append(line(i, name, "(7, 1, 1)", *(text(i) for _, text in columns.values())))
    return "\n".join(lines) + "\n"


class Plan(unittest.TestCase):
    def test_figures_of_the_design(self):
        for size, stride, image, tera in ((257, 8, False, 6.85), (257, 7, False, 20.7), (65, 4, False, 10.5)):
            layers = exact_plan.layers(512, 512, size, stride, image)
            work = sum(layer.macs for layer in layers if layer.name.startswith("conv")) / 1e12
            self.assertLess(abs(work - tera), 0.01 * tera, (size, stride))

    def test_same_work_as_the_library_reports(self):
        with open(MODEL, "rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        size = int(header["__metadata__"]["patchmask.patch_size"])
        shapes = {name: value["shape"] for name, value in header.items() if name.endswith(".weight")}
        order = sorted(shapes, key=lambda name: (name.split(".")[0] == "classifier", int(name.split(".")[1])))
        widths = [shapes[name][0] for name in order if len(shapes[name]) == 4]
        *hidden, classes = [shapes[name][0] for name in order if len(shapes[name]) == 2]
        generator = random.Random(3)
        for width, height, stride, padding in ((45, 31, 8, "patch"), (40, 52, 7, "patch"), (33, 47, 16, "image")):
            with self.subTest((width, height, stride, padding)), tempfile.TemporaryDirectory() as folder:
                voxels = [generator.randrange(-200, 300) for _ in range(width * height)]
                volume_files.write_volume(f"{folder}/ct.nrrd", (width, height, 1), voxels)
                options = f"--device cpu --quiet --no-resample --stride {stride} --padding {padding} --report report.json".split()
                command = [SEGMENT, "--model", MODEL, *options, "ct.nrrd", "mask.nrrd"]
                subprocess.run(command, cwd=folder, check=True)
                report = json.loads(Path(folder, "report.json").read_text(encoding="utf-8"))
                layers = exact_plan.layers(
                    width, height, size, stride, padding == "image", widths, hidden, classes, shapes[order[0]][1]
                )
                self.assertEqual(report["tiles"], 1)
                self.assertEqual(sum(layer.macs for layer in layers), report["macs"])


class Profile(unittest.TestCase):
    def test_values_and_units_of_the_last_slice(self):
        launches = [("histogram", "7"), ("scores", "8"), ("histogram", "9"), ("conv3_32_128(ConvParams)", "1,234,567")]
        for unit, seconds in (("ns", 1e-9), ("usecond", 1e-6), ("ms", 1e-3)):
            found = ncu.last_slice(table(launches, unit))
            self.assertEqual([launch["kernel"] for launch in found], ["histogram", "conv3_32_128"])
            self.assertAlmostEqual(found[1]["seconds"], 1234567 * seconds)
        no_slice = table(launches[1:2]), table([])
        for text in ("", "==ERROR== No kernels were profiled.", table(launches, "parsec"), *no_slice):
            with self.assertRaises(ValueError):
                ncu.last_slice(text)

    def test_rate_of_the_convolutions(self):
        launches = [("histogram", "50"), ("conv3_first", "4"), ("conv3_wgmma_128", "6"), ("gather_max_pool", "3")]
        seconds, rate = ncu.convolutions(ncu.last_slice(table(launches, "ms")), "257/8")
        self.assertAlmostEqual(seconds, 0.010)
        self.assertAlmostEqual(rate / 1e12, 2 * 6.84 / 0.010, delta=2)

    def test_what_bounds_a_kernel(self):
        stall = "smsp__average_warps_issue_stalled_{}_per_issue_active.ratio"
        columns = {
            "dram__throughput.avg.pct_of_peak_sustained_elapsed": ("%", str),
            stall.format("gmma"): ("inst", lambda i: "1.25"),
            stall.format("short_scoreboard"): ("inst", lambda i: str(3 * i)),
        }
        launches = [(name, "1,000.5") for name in ("write_mask", "histogram", "scores")]
        found = ncu.figures(ncu.last_slice(table(launches, "ms", **columns)))
        made = [dict(zip(ncu.HEADER, line)) for line in found]
        self.assertEqual([line["kernel"] for line in made], ["histogram", "scores"])
        self.assertEqual((made[1]["us"], made[1]["dram %"], made[1]["sm %"]), ("1000500.0", "2", "-"))
        stalls = ["short_scoreboard:3.0 gmma:1.2", "short_scoreboard:6.0 gmma:1.2"]
        self.assertEqual([line["stalls"] for line in made], stalls)


class Estimates(unittest.TestCase):
    """Counts of benches/model.py."""

    def test_sections_take_as_many_values_as_fit(self):
        zero = exact_plan.ZERO
        taps = [(zero, 0, 1), (0, 1, 2), (7, 8, 9), (20, 21, 22), (1, 2, 3)]
        self.assertEqual(model.sections(taps, 8, 22), [10])  # 0 1 2 3 7 8 9 20 21 22
        self.assertEqual(model.sections(taps, 2, 22), [3, 6, 3])
        self.assertEqual(model.sections(taps, 8, 6), [6, 6])

    def test_work_covers_the_plan_and_little_more(self):
        layers = exact_plan.layers(512, 512, 257, 8)
        work = {w.name: w for w in model.work_of(layers, 512)}
        self.assertEqual([layer.name for layer in layers] + ["intensity", "write_mask"], list(work))
        for layer in layers[1:]:
            of = work[layer.name]
            self.assertEqual(of.useful, 2 * layer.macs)
            if layer.name.startswith("conv"):
                self.assertTrue(1 <= of.operations / of.useful <= 1.05, layer.name)
                # Every input is read at least once, and weights once for every block.
                self.assertGreater(of.l2, of.blocks * 18 * layer.inputs * min(128, layer.channels))
            elif layer.name.startswith("pool"):
                self.assertGreaterEqual(of.memory, 2 * layer.rows * layer.columns * layer.channels)

    def test_the_longest_need_counts_in_whole_rounds(self):
        second = model.MATRIX_FLOPS * model.CONV_SHARE
        bound = lambda together=1, **needs: model.Work("x", **needs).seconds(together)
        self.assertEqual(bound(operations=second)[1], "matrix")
        self.assertAlmostEqual(bound(operations=second, blocks=132)[0], 1.0, 4)
        self.assertAlmostEqual(bound(operations=second, blocks=133)[0], 264 / 133, 4)
        self.assertEqual(bound(operations=second, l2=2 * model.L2)[1], "L2")
        # Slices side by side share rounds and the launches' time.
        self.assertAlmostEqual(bound(together=2, operations=second, blocks=133)[0], 396 / 266, 4)
        self.assertAlmostEqual(bound(memory=3 * model.COPY)[0], 3.0, 4)

    def test_small_slices_are_side_by_side(self):
        together = lambda side: model.side_by_side(exact_plan.layers(side, side, 257, 8))
        self.assertEqual([together(side) for side in (64, 128, 512)], [4, 4, 1])


if __name__ == "__main__":
    unittest.main()
