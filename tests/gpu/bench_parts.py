"""The parts of the GPU's benchmarks that need none: the plan's numbers against the library's, Nsight Compute's tables, the
estimates.

    SEGMENT=build/segment python3 tests/gpu/bench_parts.py
"""

import json
import os
import random
import stat
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
    """The raw page that ncu writes for launches (kernel, time as a text); `columns`: name -> (unit, text of launch i)."""
    columns = {ncu.TIME: (unit, lambda i: launches[i][1]), **columns}
    line = lambda *cells: ",".join(f'"{cell}"' for cell in cells)
    lines = ["==PROF== Connected to process 77 (/build/segment)", '==PROF== Profiling "histogram" - 0: 100%']
    lines += [line("ID", "Kernel Name", "Grid Size", *columns), line("", "", "", *(unit for unit, _ in columns.values()))]
    lines += [
        line(i, name, "(7, 1, 1)", *(text(i) for _, text in columns.values())) for i, (name, _) in enumerate(launches)
    ]
    return "\n".join(lines) + "\n"


def slice_of(layers, tiles=1):
    """The launches of a slice, 1000 ns each: two of a dense layer, scores being the last one's second."""
    network = ["conv3_first"] + [layer.kernel + "_x" for layer in layers[1:-3]]
    network += ["gemm", "split_k_reduce"] * 2 + ["gemm", "scores"]
    return [(name, "1,000") for name in ["histogram", "equalize", *network * tiles, "write_mask"]]


class Plan(unittest.TestCase):
    def test_figures_of_the_design(self):
        for size, stride, image, tera in ((257, 8, False, 6.85), (257, 7, False, 20.7), (65, 4, False, 10.5)):
            layers = exact_plan.layers(512, 512, size, stride, image)
            work = sum(layer.macs for layer in layers if layer.name.startswith("conv")) / 1e12
            self.assertLess(abs(work - tera), 0.01 * tera, (size, stride))

    def test_same_work_as_the_library_reports(self):
        if not os.path.exists(SEGMENT):
            self.skipTest(f"{SEGMENT} is not there")
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
                command = [SEGMENT, "--device", "cpu", "--model", str(MODEL), "--stride", str(stride), "--padding", padding]
                command += ["--report", "report.json", "--quiet", "ct.nrrd", "mask.nrrd"]
                subprocess.run(command, cwd=folder, check=True)
                report = json.loads(Path(folder, "report.json").read_text(encoding="utf-8"))
                layers = exact_plan.layers(
                    width, height, size, stride, padding == "image", widths, hidden, classes, shapes[order[0]][1]
                )
                self.assertEqual(report["tiles"], 1)
                self.assertEqual(sum(layer.macs for layer in layers), report["macs"])


class Times(unittest.TestCase):
    def setUp(self):
        self.layers = exact_plan.layers(64, 64, 33, 16)
        self.assertEqual(len(self.layers), 13 + 5 + 3)

    def test_values_and_units(self):
        launches = [("conv3_32_128(ConvParams)", "1,234,567"), ("gather_max_pool", "10.5")]
        for unit, seconds in (("ns", 1e-9), ("usecond", 1e-6), ("ms", 1e-3)):
            found = ncu.parse(table(launches, unit))
            self.assertEqual([launch["kernel"] for launch in found], ["conv3_32_128", "gather_max_pool"])
            self.assertAlmostEqual(found[0]["seconds"], 1234567 * seconds)
        for text in ("", "==ERROR== No kernels were profiled.", table(launches, "parsec")):
            with self.assertRaises(ncu.Failed):
                ncu.parse(text)

    def test_layers_of_the_last_slice(self):
        tried_out = slice_of(self.layers)[:9]
        for tiles in (1, 3):
            found = ncu.parse(table(tried_out + slice_of(self.layers, tiles)))
            times, others = ncu.of_layers(found, self.layers)
            self.assertEqual(times[0][0], "conv3_first")
            launches = [1] * (len(times) - 3) + [2, 2, 1]
            for (_, seconds), count in zip(times, launches):
                self.assertAlmostEqual(seconds, tiles * count * 1e-6, 9)
            self.assertEqual(sorted(others), ["equalize", "histogram", "scores", "write_mask"])
        whole = slice_of(self.layers)
        for broken in (tried_out, whole[:10], whole[:7] + whole[8:], whole[1:], []):
            with self.assertRaises(ncu.Failed):
                ncu.of_layers(ncu.parse(table(broken)), self.layers)

    def test_what_bounds_a_kernel(self):
        stall = "smsp__average_warps_issue_stalled_{}_per_issue_active.ratio"
        columns = {
            "dram__throughput.avg.pct_of_peak_sustained_elapsed": ("%", str),
            stall.format("gmma"): ("inst", lambda i: "1.25"),
            stall.format("short_scoreboard"): ("inst", lambda i: str(3 * i)),
        }
        launches = [(name, "1,000.5") for name in ("write_mask", "histogram", "scores")]
        made = [dict(zip(ncu.HEADER, line)) for line in ncu.figures(table(launches, "ms", **columns))]
        self.assertEqual([line["kernel"] for line in made], ["histogram", "scores"])
        self.assertEqual((made[1]["us"], made[1]["dram %"], made[1]["sm %"]), ("1000500.0", "2", "-"))
        self.assertEqual([line["stalls"] for line in made], ["short_scoreboard:3.0 gmma:1.2", "short_scoreboard:6.0 gmma:1.2"])
        with self.assertRaises(ncu.Failed):
            list(ncu.figures(""))

    def test_running_ncu(self):
        with tempfile.TemporaryDirectory() as folder:
            fake, log = Path(folder, "ncu"), Path(folder, "log.csv")
            fake.write_text(
                '#!/bin/sh\nwhile [ "$1" != --log-file ]; do shift; done\n'
                f"cat >\"$2\" <<'END'\n{table([('write_mask', '5')])}END\nshift 2\n\"$@\"\n"
            )
            fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
            (launch,) = ncu.launches(fake, ["true"], log)
            self.assertEqual((launch["kernel"], launch["seconds"]), ("write_mask", 5e-9))
            with self.assertRaisesRegex(ncu.Failed, "exit status 1"):
                ncu.launches(fake, ["false"], log)
            with self.assertRaisesRegex(ncu.Failed, "no-such"):
                ncu.launches("no-such-program", ["true"], log)


class Estimates(unittest.TestCase):
    """Counts of benches/model.py."""

    def test_blocks_take_as_many_values_as_fit(self):
        zero = exact_plan.ZERO
        taps = [(zero, 0, 1), (0, 1, 2), (7, 8, 9), (20, 21, 22), (1, 2, 3)]
        self.assertEqual(model.blocks(taps, 8, 22), [10])  # 0 1 2 3 7 8 9 20 21 22
        self.assertEqual(model.blocks(taps, 2, 22), [3, 6, 3])
        self.assertEqual(model.blocks(taps, 8, 6), [6, 6])

    def test_work_covers_the_plan_and_little_more(self):
        layers = exact_plan.layers(512, 512, 257, 8)
        work = {w.name: w for w in model.work_of(layers, 512, model.GPUS["A100"])}
        self.assertEqual([layer.name for layer in layers] + ["intensity", "write_mask"], list(work))
        for layer in layers[1:]:
            of = work[layer.name]
            self.assertEqual(of.useful, 2 * layer.macs)
            if layer.name.startswith("conv"):
                self.assertTrue(1 <= of.operations / of.useful <= 1.05, layer.name)
                # Every input is read at least once, and weights once for every tile.
                self.assertGreater(of.l2, of.blocks * 18 * layer.inputs * min(128, layer.channels))
            elif layer.name.startswith("pool"):
                self.assertGreaterEqual(of.memory, 2 * layer.rows * layer.columns * layer.channels)

    def test_the_longest_need_counts_in_whole_rounds(self):
        gpu = model.Gpu(10, 100e12, 0.5, 0.5, 1e12, 1e12, 1e12, 50 << 20, 2, 1)
        bound = lambda **needs: model.Work("x", **needs).seconds(gpu, 1)
        self.assertEqual(bound(operations=5e13)[1], "matrix")
        self.assertAlmostEqual(bound(operations=5e13, blocks=20)[0], 1.0, 4)
        self.assertAlmostEqual(bound(operations=5e13, blocks=21)[0], 40 / 21, 4)
        self.assertEqual(bound(operations=5e13, l2=2e12)[1], "L2")
        # Slices side by side share rounds and the launches' time.
        together = model.Work("x", operations=5e13, blocks=21).seconds(gpu, 2)[0]
        self.assertAlmostEqual(together, 60 / 42, 4)
        self.assertAlmostEqual(bound(memory=3e12)[0], 3.0, 4)

    def test_small_slices_are_side_by_side(self):
        together = lambda side: model.side_by_side(exact_plan.layers(side, side, 257, 8), model.GPUS["H100"])
        self.assertEqual([together(side) for side in (64, 128, 512)], [4, 4, 1])


if __name__ == "__main__":
    unittest.main()
