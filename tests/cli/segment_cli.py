"""The contract of the program `segment`: results, files, reports, interrupts.

    SEGMENT=build/segment python3 tests/cli/segment_cli.py [-v] [TestClass[.test]]

Standard library only. `segment_refusals.py` holds the wrong inputs; this file runs both."""

import math
import os
import pty
import re
import resource
import shutil
import signal
import subprocess
import time
import unittest
import xml.etree.ElementTree
from pathlib import Path

import maximum_model
import segment_refusals
import volume_files
from segment_case import GEOMETRY, SEGMENT, SIZES, SegmentCase


# A parent such as nohup hands its ignored signals down; the program honours that, and these tests send them.
signal.signal(signal.SIGHUP, signal.SIG_DFL)


class Results(SegmentCase):
    def test_mask_is_that_of_the_nearest_patches(self):
        done = self.succeed()
        fields, mask = self.read("mask.nrrd")
        self.assert_mask(maximum_model.mask(SIZES, self.voxels))
        self.assertIn(1, mask)
        self.assertIn(0, mask)
        self.assertEqual((fields["type"], fields["sizes"]), ("uint8", "44 38 3"))
        self.assertGreater(len(done.stdout.splitlines()), 1)

    def test_quiet_prints_nothing(self):
        self.assertEqual(self.succeed("--quiet").stdout, b"")

    def test_every_type_and_byte_order_gives_the_same_mask(self):
        expected = maximum_model.mask(SIZES, [min(v, 100) for v in self.voxels])
        for type_name in volume_files.TYPES:
            for endian in ("little", "big"):
                with self.subTest(type=type_name, endian=endian):
                    voxels = [min(v, 100) for v in self.voxels]
                    path = self.path("typed.nrrd")
                    volume_files.write_volume(path, SIZES, voxels, type_name, endian)
                    self.succeed(paths=("typed.nrrd", "mask.nrrd"))
                    self.assert_mask(expected)

    def test_grid_is_carried_on_letter_by_letter(self):
        lines = (
            *GEOMETRY[:3],
            "Kinds: space space domain",
            'labels: "a b" "" "c"',
            'space units: "mm" "mm" "mm"',
            "thicknesses: NaN NaN 2.500",
            "measurement frame: (1,0,0) (0,1.0,0) (0,0,1)",
            "centerings: cell cell cell",
            "content: not about the mask",
            "modality:=CT",
            "# a comment",
        )
        path = self.path("input.nrrd")
        volume_files.write_volume(path, SIZES, self.voxels, extra=lines, line_end="\r\n")
        self.succeed("--probability", "probability.nrrd")
        for name in ("mask.nrrd", "probability.nrrd"):
            fields = self.read(name)[0]
            self.assertEqual(fields["space directions"], GEOMETRY[1].split(": ")[1])
            self.assertEqual(fields["space origin"], "(-180.5,-171.25,12)")
            self.assertEqual(fields["space"], "left-posterior-superior")
            self.assertEqual(fields["kinds"], "space space domain")
            self.assertEqual(fields["labels"], '"a b" "" "c"')
            self.assertEqual(fields["space units"], '"mm" "mm" "mm"')
            self.assertEqual(fields["thicknesses"], "NaN NaN 2.500")
            self.assertEqual(fields["measurement frame"], "(1,0,0) (0,1.0,0) (0,0,1)")
            self.assertEqual(fields["centers"], "cell cell cell")
            self.assertNotIn("content", fields)

    def test_old_spacings_are_carried_on(self):
        extra = ("spacings: 0.7 0.7 3", "axis mins: 1 2 3")
        volume_files.write_volume(self.path("input.nrrd"), SIZES, self.voxels, extra=extra)
        self.succeed()
        fields = self.read("mask.nrrd")[0]
        self.assertEqual((fields["spacings"], fields["axis mins"]), ("0.7 0.7 3", "1 2 3"))

    def write(self, *lines):
        volume_files.write_volume(self.path("input.nrrd"), SIZES, self.voxels, extra=lines)

    def test_spacing_that_the_user_knows(self):
        self.write()
        self.assertEqual(self.report("--spacing", "0.7,0.8,2.5")["options"]["spacing"], [0.7, 0.8, 2.5])
        fields = self.read("mask.nrrd")[0]
        self.assertEqual([float(word) for word in fields["spacings"].split()], [0.7, 0.8, 2.5])
        self.write("spacings: nan 0.8 nan", "space: LPS", "space origin: (1,2,3)")
        self.succeed("--spacing=0.7,0.8,2.5")
        fields = self.read("mask.nrrd")[0]
        self.assertEqual([float(word) for word in fields["spacings"].split()], [0.7, 0.8, 2.5])
        self.assertEqual(fields["space origin"], "(1,2,3)")

        self.write(*GEOMETRY[:2])
        self.succeed("--spacing=0.703125,0.7031,2.5")  # what the file says, too: it counts letter by letter
        self.assertEqual(self.read("mask.nrrd")[0]["space directions"], GEOMETRY[1].split(": ")[1])

    def test_directions_that_are_nearly_at_right_angles(self):
        directions = "space directions: (0.703125,0,0) (0,0.703125,0) (0,0.02,2.5)"
        self.write(directions, "spacings: 0.703125 0.703125 2.5")
        self.succeed()
        self.assertEqual(self.read("mask.nrrd")[0]["space directions"], directions.split(": ")[1])
        self.assertIsNone(self.report()["options"]["spacing"])

    def test_names_and_texts_that_are_not_utf8(self):
        name = b"M\xfcller.nrrd"
        lines = [*volume_files.header(SIZES, extra=(*GEOMETRY, "content: M%ller", 'labels: "%" "" ""'))]
        head = ("\n".join(lines) + "\n\n").encode().replace(b"%", b"\xfc")
        with open(os.path.join(os.fsencode(self.folder), name), "wb") as file:
            file.write(head + volume_files.pack(self.voxels))
        self.succeed(paths=(name, "mask.nrrd"))
        with open(self.path("mask.nrrd"), "rb") as file:
            self.assertIn(b'labels: "\xfc" "" ""\n', file.read())

    @unittest.skipUnless(shutil.which("localedef"), "no localedef")
    def test_locale_with_a_decimal_comma_changes_nothing(self):
        made = subprocess.run(["localedef", "-i", "de_DE", "-f", "UTF-8", self.path("de_DE.UTF-8")], capture_output=True)
        if made.returncode > 1:  # 1: made, with warnings
            self.skipTest("no sources of the German locale")
        environment = {**os.environ, "LOCPATH": self.folder, "LC_ALL": "de_DE.UTF-8", "LANG": "de_DE.UTF-8"}
        said = subprocess.run(["locale", "decimal_point"], env=environment, capture_output=True).stdout
        self.assertEqual(said, b",\n")
        words = ("--window=-160.5,240.25", "--spacing=0.703125,0.703125,2.5", "--probability", "p.nrrd", "--report", "r.json")
        contents = []
        for env in (os.environ, environment):
            self.succeed(*words, env=env)
            files = [Path(self.path(name)).read_bytes() for name in ("mask.nrrd", "p.nrrd", "r.json")]
            contents.append([*files[:2], re.sub(rb"(?s)\"timings_s\".*?\}", b"", files[2])])
        self.assertEqual(*contents)
        self.assertIn(b"-160.5, 240.25", contents[1][2])

    def test_logits_and_probability(self):
        self.succeed("--logits", "logits.nrrd", "--probability", "probability.nrrd")
        fields, logits = self.read("logits.nrrd")
        self.assertEqual((fields["type"], fields["sizes"]), ("float", "2 6 5 3"))
        expected = [v for s in maximum_model.logits(SIZES, self.voxels) for row in s for v in row]
        for i, value in enumerate(expected):
            self.assertAlmostEqual(logits[2 * i], maximum_model.THRESHOLD, delta=1e-4)
            self.assertAlmostEqual(logits[2 * i + 1], value, delta=1e-4)
        fields, probability = self.read("probability.nrrd")
        self.assertEqual((fields["type"], fields["sizes"]), ("float", "44 38 3"))
        for is_lesion, value in zip(self.read("mask.nrrd")[1], probability, strict=True):
            logit = maximum_model.intensity(120 if is_lesion else 0) - maximum_model.THRESHOLD
            self.assertAlmostEqual(value, 1 / (1 + math.exp(-logit)), delta=1e-4)

    def test_roi_evaluates_only_inside(self):
        roi = [int(x < 20 and z == 1) for z in range(3) for _ in range(38) for x in range(44)]
        volume_files.write_volume(self.path("roi.nrrd"), SIZES, roi, "uint8", extra=GEOMETRY)
        report = self.report("--roi", "roi.nrrd", "--logits", "logits.nrrd")
        self.assertEqual(report["patches"], 3 * 5)  # patches at 0, 8 and 16 have footprints below 20
        everywhere = maximum_model.mask(SIZES, self.voxels)
        self.assert_mask([value * inside for value, inside in zip(everywhere, roi)])
        self.assertEqual(sum(not math.isnan(v) for v in self.read("logits.nrrd")[1]), 2 * 15)

    def test_roi_of_another_space_at_the_same_place(self):
        extra = (
            "space: RAS",
            "space directions: (-0.703125,0,0) (0,-0.7031249999,0) (0,0,2.5)",
            "space origin: (180.5,171.2501,12)",
        )
        volume_files.write_volume(self.path("roi.nrrd"), SIZES, self.voxels, extra=extra)
        self.succeed("--roi", "roi.nrrd")

    def test_crop_moves_the_patch_grid(self):
        report = self.report("--crop", "10,4,40,36")
        self.assertEqual(report["lattice"], [4, 4])
        self.assertEqual(report["options"]["crop"], [10, 4, 40, 36])
        mask = self.read("mask.nrrd")[1]
        self.assertEqual({v for i, v in enumerate(mask) if not 10 <= i % 44 < 40}, {0})
        self.assertIn(1, mask)

    def test_linear_fill_without_sharing_and_with_little_memory(self):
        self.succeed("--no-sharing")
        self.assert_mask(maximum_model.mask(SIZES, self.voxels))
        self.succeed("--memory", "64", "--threads", "1")
        self.assert_mask(maximum_model.mask(SIZES, self.voxels))
        self.succeed("--fill", "linear", "--padding", "image")

    def test_pixels_of_the_model(self):
        # 44 x 38 voxels of 0.703125 mm are 22 x 19 pixels of twice that.
        report = self.report("--pixel-mm", "1.40625", "--stride", "8", "--logits", "logits.nrrd")
        self.assertEqual(report["lattice"], [3, 3])
        self.assertEqual(report["pixel_mm"], [1.40625, 1.40625])
        fields, _ = self.read("logits.nrrd")
        self.assertEqual((fields["sizes"], fields["spacings"]), ("2 3 3 3", "nan 11.25 11.25 2.5"))
        self.assertEqual(fields["axis mins"], "nan 0.3515625 0.3515625 0")
        self.assertEqual(self.read("mask.nrrd")[0]["sizes"], "44 38 3")
        report = self.report("--pixel-mm", "1.40625", "--no-resample")
        self.assertEqual((report["lattice"], report["pixel_mm"]), ([6, 5], [0.703125, 0.703125]))
        self.assert_mask(maximum_model.mask(SIZES, self.voxels))

    def test_body(self):
        # In slice 0 two rows of tissue in air, and a voxel apart; air alone in slice 1; slice 2 as it is.
        width, height, _ = SIZES
        voxels = [-1000] * (width * height)
        voxels[4 * width : 6 * width] = [0] * (width - 1) + [120] + [0] * width
        voxels[30 * width] = 100
        voxels += [-1000] * (width * height) + self.voxels[2 * width * height :]
        volume_files.write_volume(self.path("air.nrrd"), SIZES, voxels, "int16")
        report = self.report("--body", paths=("air.nrrd", "mask.nrrd"))
        self.assertTrue(report["options"]["body"])
        self.assertEqual(report["body_share"], (2 * width + width * height) / (3 * width * height))
        self.assertEqual(report["patches"], 6 * 2 + 6 * 5)  # rows 4 and 5 are nearest to centres at 0 and 8
        mask, whole = self.read("mask.nrrd")[1], maximum_model.mask(SIZES, voxels)
        in_body = [4 * width <= i < 6 * width or i >= 2 * width * height for i in range(len(voxels))]
        self.assertEqual(list(mask), [class_ if inside else 0 for class_, inside in zip(whole, in_body)])
        self.assertIn(1, mask[: width * height])
        report = self.report(paths=("air.nrrd", "mask.nrrd"))
        self.assertEqual((report["options"]["body"], report["body_share"], report["patches"]), (False, 1, 6 * 5 * 3))

    def test_threshold(self):
        self.succeed("--threshold", "1e-6")
        self.assertEqual(set(self.read("mask.nrrd")[1]), {1})
        self.succeed("--threshold", "1")
        self.assertEqual(set(self.read("mask.nrrd")[1]), {0})


class Reports(SegmentCase):
    def test_schema(self):
        report = self.report("--memory", "500", "--threads", "2")
        self.assertEqual(report["size"], [44, 38, 3])
        self.assertEqual(report["lattice"], [6, 5])
        self.assertEqual(report["patches"], 6 * 5 * 3)
        self.assertRegex(report["model_sha256"], r"\A[0-9a-f]{64}\Z")
        self.assertTrue(report["engine"].startswith("cpu"))
        self.assertGreater(report["macs"], 0)
        self.assertGreaterEqual(report["macs_unshared"], report["macs"])
        self.assertGreater(report["peak_bytes"], 0)
        self.assertGreater(report["tiles"], 0)
        self.assertEqual(report["nonfinite_voxels"], 0)
        timings = report["timings_s"]
        self.assertEqual(set(timings), {"load", "plan", "intensity", "network", "mask", "segment"})
        self.assertTrue(all(seconds >= 0 for seconds in timings.values()), timings)
        self.assertGreater(timings["segment"], 0)
        for absent in ("dice", "sensitivity", "precision"):
            self.assertNotIn(absent, report)
        options = report["options"]
        known = {"patch_size": 32, "stride": 8, "padding": "patch", "window": [-160, 240]}
        known |= {"equalize": False, "fill": "nearest", "crop": None, "roi": None, "body": False, "sharing": True}
        known |= {"device": "cpu", "threads": 2, "memory_mib": 500, "lesion_class": 1}
        known |= {"model": "model.safetensors", "mean": [0, 0, 0], "std": [1, 1, 1], "spacing": None}
        known |= {"pixel_mm": 0, "resample": True, "threshold": 0}
        self.assertEqual({name: options[name] for name in known}, known)

    def test_metadata_counts_and_the_command_line_counts_more(self):
        metadata = {"patchmask.window": "-100,300", "patchmask.equalize": "true"}
        with open(self.path("other.safetensors"), "wb") as file:
            file.write(maximum_model.build(stride=5, metadata=metadata))
        options = self.report(model="other.safetensors")["options"]
        self.assertEqual((options["window"], options["equalize"], options["stride"]), ([-100, 300], True, 5))
        words = ("--no-equalize", "--window", "0,1", "--stride", "9")
        options = self.report(*words, model="other.safetensors")["options"]
        self.assertEqual((options["window"], options["equalize"], options["stride"]), ([0, 1], False, 9))

    def test_last_repeated_option_wins(self):
        words = "--stride 3 --stride=16 --equalize --no-equalize --window 0,1 --window -200,250 --fill linear"
        words += " --fill nearest --padding image --padding patch --report other.json --crop 0,0,4,4"
        words += " --crop 0,0,40,30"
        options = self.report(*words.split(), "--report", "report.json")["options"]
        self.assertEqual((options["stride"], options["equalize"]), (16, False))
        self.assertEqual((options["window"], options["fill"]), ([-200, 250], "nearest"))
        self.assertEqual((options["padding"], options["crop"]), ("patch", [0, 0, 40, 30]))
        self.assertFalse(os.path.exists(self.path("other.json")))

    def test_strings_are_escaped(self):
        name = b'quote" back\\ tab\t \xff \xc3\xa4.nrrd'
        os.rename(self.path("input.nrrd"), os.fsencode(self.folder) + b"/" + name)
        report = self.report(paths=(name, "mask.nrrd"))
        self.assertEqual(report["input"], 'quote" back\\ tab\t \ufffd \u00e4.nrrd')

    def test_nonfinite_voxels_are_counted(self):
        voxels = [float(v) for v in self.voxels]
        voxels[5], voxels[77], voxels[900] = math.nan, math.inf, -math.inf
        volume_files.write_volume(self.path("input.nrrd"), SIZES, voxels, "float")
        self.assertEqual(self.report()["nonfinite_voxels"], 3)


class Truth(SegmentCase):
    def measure(self, truth, type_name="uint8", extra=GEOMETRY):
        volume_files.write_volume(self.path("truth.nrrd"), SIZES, truth, type_name, extra=extra)
        report = self.report("--truth", "truth.nrrd")
        return report["dice"], report["sensitivity"], report["precision"]

    def test_measures(self):
        predicted = maximum_model.mask(SIZES, self.voxels)
        self.assertEqual(self.measure(predicted), (1, 1, 1))
        truth = [int(i % 44 > 25) for i in range(len(predicted))]
        both = sum(p and t for p, t in zip(predicted, truth))
        dice, sensitivity, precision = self.measure([3 * t for t in truth], "int16", extra=())
        self.assertAlmostEqual(dice, 2 * both / (sum(truth) + sum(predicted)), places=12)
        self.assertAlmostEqual(sensitivity, both / sum(truth), places=12)
        self.assertAlmostEqual(precision, both / sum(predicted), places=12)

    def test_only_above_zero_is_lesion(self):
        truth = [(-1.0, 0.0, math.nan)[i % 3] for i in range(len(self.voxels))]
        self.assertEqual(self.measure(truth, "float"), (0, None, 0))

    def test_both_empty(self):
        self.voxels = [0] * len(self.voxels)
        volume_files.write_volume(self.path("input.nrrd"), SIZES, self.voxels, extra=GEOMETRY)
        self.assertEqual(self.measure(self.voxels), (1, None, None))


class Files(SegmentCase):
    EVERYTHING = ("--logits", "l.nrrd", "--probability", "p.nrrd", "--report", "r.json")

    def test_only_the_outputs_appear(self):
        self.succeed(*self.EVERYTHING)
        made = set(os.listdir(self.folder)) - self.inputs
        self.assertEqual(made, {"mask.nrrd", "l.nrrd", "p.nrrd", "r.json"})
        umask = os.umask(0)
        os.umask(umask)
        self.assertEqual(os.stat(self.path("mask.nrrd")).st_mode & 0o777, 0o666 & ~umask)

    def test_failure_keeps_what_was_there(self):
        for name in ("mask.nrrd", "r.json"):
            with open(self.path(name), "w", encoding="ascii") as file:
                file.write("old")
        self.refuse(1, *self.EVERYTHING, "--crop", "0,0,1000,1000")
        with open(self.path("mask.nrrd"), encoding="ascii") as file:
            self.assertEqual(file.read(), "old")
        self.succeed(*self.EVERYTHING)
        self.assertEqual(len(self.read("mask.nrrd")[1]), math.prod(SIZES))

    def test_symbolic_link_as_output_stays(self):
        os.mkdir(self.path("there"))
        with open(self.path("there/real.nrrd"), "wb"):
            pass
        os.symlink("there/real.nrrd", self.path("mask.nrrd"))
        self.succeed()
        self.assertTrue(os.path.islink(self.path("mask.nrrd")))
        self.assertEqual(os.listdir(self.path("there")), ["real.nrrd"])
        self.assertEqual(len(self.read("there/real.nrrd")[1]), math.prod(SIZES))

    def test_long_name(self):
        self.succeed(paths=("input.nrrd", "m" * 250 + ".nrrd"[:5]))

    def test_full_disk(self):
        for limit in (0, 100, 3000, 20000):
            with self.subTest(limit=limit):
                limits = (resource.RLIMIT_FSIZE, (limit, limit))
                self.refuse(1, *self.EVERYTHING, preexec_fn=lambda: resource.setrlimit(*limits))

    def test_stdout_that_cannot_be_written(self):
        with open("/dev/full", "wb") as full:
            done = subprocess.run(self.command(), cwd=self.folder, stdout=full, stderr=subprocess.PIPE)
        self.assertEqual((done.returncode, done.stderr.count(b"\n")), (1, 1))
        self.assertEqual(set(os.listdir(self.folder)), self.inputs)


class SlicerModule(SegmentCase):
    """The interface that 3D Slicer expects of a command-line module; tests/slicer has its other conventions."""

    TAG = re.compile(rb"<filter-progress>([^<]*)</filter-progress>\n")

    def describe(self):
        done = subprocess.run([SEGMENT, "--xml"], capture_output=True, timeout=5)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertTrue(done.stdout.startswith(b"<?xml"), done.stdout[:20])
        return xml.etree.ElementTree.fromstring(done.stdout)

    def test_description(self):
        root = self.describe()
        self.assertEqual(root.tag, "executable")
        version = subprocess.run([SEGMENT, "--version"], capture_output=True).stdout.decode().split()[1]
        self.assertEqual(f"{root.findtext('version')},", version)
        names = [element.text for element in root.iter("name")]
        self.assertEqual(len(names), len(set(names)))
        self.assertEqual([e.findtext("name") for e in root.iter("image") if e.find("index") is not None],
                         ["inputVolume", "outputMask"])

    def test_help_lists_every_flag(self):
        text = subprocess.run([SEGMENT, "--help"], capture_output=True).stdout.decode()
        flags = [element.text for element in self.describe().iter("longflag")]
        self.assertIn("--slicer_progress", flags)
        for flag in flags:
            self.assertRegex(flag, r"\A--[A-Za-z_][A-Za-z0-9_]*\Z")  # else Slicer refuses all of it
            self.assertIn(f"  {flag.replace('_', '-')} ", text)

    def test_underscores_do_as_hyphens(self):
        """Slicer takes no hyphens inside a flag."""
        plain = self.report("--patch-size", "32", "--no-resample", "--no-equalize", "--pixel-mm=0.8")
        self.assertEqual(self.report("--patch_size", "32", "--no_resample", "--no_equalize", "--pixel_mm=0.8")["options"],
                         plain["options"])
        for wrong in ("_-model", "-_model", "--patch.size", "--patch_sizes", "--patch"):
            self.refuse(2, wrong, "32", says="unknown option" if wrong[0] == "-" else "one path too many")

    def test_every_enumeration_element_is_accepted(self):
        for enumeration in self.describe().iter("string-enumeration"):
            self.assertIn(enumeration.findtext("default"), [e.text for e in enumeration.iter("element")])
            for element in enumeration.iter("element"):
                if element.text != "cuda":
                    with self.subTest(name=enumeration.findtext("name"), value=element.text):
                        self.succeed(enumeration.findtext("longflag"), element.text)

    def test_progress_tags(self):
        for quiet in ((), ("--quiet",)):
            output = self.succeed("--slicer-progress", *quiet).stdout
            start, end = (output.index(b"<filter-" + word + b">\n") for word in (b"start", b"end"))
            self.assertEqual(start, 0)
            fractions = [float(text) for text in self.TAG.findall(output[:end])]
            self.assertEqual(fractions, sorted(fractions))
            self.assertTrue(fractions and 0 <= fractions[0] and fractions[-1] <= 1, fractions)
            self.assertEqual(output.endswith(b"</filter-end>\n"), bool(quiet))
        self.assert_mask(maximum_model.mask(SIZES, self.voxels))

    def test_without_the_flag_there_are_no_tags(self):
        self.assertNotIn(b"<filter", self.succeed().stdout)

    def test_warnings_stay_off_stderr(self):
        voxels = [float(v) for v in self.voxels]
        voxels[5] = math.nan
        volume_files.write_volume(self.path("input.nrrd"), SIZES, voxels, "float")
        self.succeed("--slicer-progress")

    def test_failure_is_one_line_on_stderr(self):
        self.refuse(1, "--slicer-progress", "--crop", "0,0,1000,1000", says="crop")


class Interrupts(SegmentCase):
    def setUp(self):
        super().setUp()
        with open(self.path("model.safetensors"), "wb") as file:
            file.write(maximum_model.build(width=32, patch_size=64, stride=3))
        sizes = (256, 256, 40)
        volume_files.write(
            self.path("input.nrrd"), volume_files.header(sizes), bytes(2 * math.prod(sizes))
        )

    def wait_for_work(self, process):
        """Until it has computed for a second: reading the model and the volume takes much less."""
        deadline = time.monotonic() + 60
        computed = 0
        while computed < 1:
            self.assertIsNone(process.poll(), "finished before it was interrupted")
            self.assertLess(time.monotonic(), deadline, "did not start")
            time.sleep(0.01)
            with open(f"/proc/{process.pid}/stat", encoding="utf-8") as file:
                ticks = file.read().rpartition(")")[2].split()[11:13]
            computed = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")

    def test_interrupt_leaves_nothing(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            with self.subTest(signal=number.name):
                command = self.command(*Files.EVERYTHING)
                process = subprocess.Popen(command, cwd=self.folder, stderr=subprocess.PIPE)
                self.wait_for_work(process)
                process.send_signal(number)
                sent = time.monotonic()
                error = process.communicate(timeout=60)[1]
                self.assertLess(time.monotonic() - sent, 2)
                self.assertEqual((process.returncode, error), (1, b"segment: interrupted\n"))
                self.assertEqual(set(os.listdir(self.folder)), self.inputs)

    def test_progress_tags_arrive_while_it_works(self):
        command = self.command("--slicer-progress")
        process = subprocess.Popen(command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        read = b""
        while read.count(b"</filter-progress>") < 3:
            self.assertTrue(part := os.read(process.stdout.fileno(), 1 << 16), read)
            read += part
        self.assertIsNone(process.poll(), "finished before its progress was read")
        process.kill()  # what Slicer's Cancel does
        process.communicate()
        self.assertEqual(set(os.listdir(self.folder)), self.inputs)

    def test_progress_bar_on_a_terminal(self):
        for quiet in (False, True):
            with self.subTest(quiet=quiet):
                screen, terminal = pty.openpty()
                command = self.command(*["--quiet"][: int(quiet)])
                process = subprocess.Popen(command, cwd=self.folder, stderr=terminal)
                os.close(terminal)
                self.wait_for_work(process)
                process.send_signal(signal.SIGINT)
                process.wait(60)
                seen = os.read(screen, 1 << 16)
                os.close(screen)
                self.assertEqual(b"\r[" in seen, not quiet, seen)
                wiped = b"" if quiet else b"\r\033[K"
                self.assertTrue(seen.endswith(wiped + b"segment: interrupted\r\n"), seen)


def load_tests(loader, tests, _pattern):
    tests.addTests(loader.loadTestsFromModule(segment_refusals))
    return tests


if __name__ == "__main__":
    unittest.main()
