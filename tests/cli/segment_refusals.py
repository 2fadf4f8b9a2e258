"""Refusals of `segment`: wrong usage (exit 2), unreadable or unfit files (exit 1). Always one line on
stderr that names the cause, never a new file. Run by segment_cli.py."""

import math
import os
import struct
import time
import unittest

import maximum_model
import volume_files
from segment_case import GEOMETRY, SIZES, SegmentCase


class Usage(SegmentCase):
    def test_help_and_version(self):
        for option, says in (("--help", b"usage: segment"), ("--version", b"segment 0.")):
            done = self.succeed(option)
            self.assertTrue(done.stdout.startswith(says), done.stdout)

    def test_values(self):
        for words, says in (
            ("--nonsense", "unknown option"),
            ("-x", "unknown option"),
            ("--quiet=1", "takes no value"),
            ("--patch-size 31", "32 to 1024"),
            ("--patch-size 1025", "32 to 1024"),
            ("--patch-size 64px", "64px"),
            ("--stride 0", "--stride 0"),
            ("--stride -1", "--stride -1"),
            ("--stride 99999999999999999999", "whole number"),
            ("--padding none", "patch or image"),
            ("--fill cubic", "nearest or linear"),
            ("--window 240,-160", "LO below HI"),
            ("--window 1,1", "LO below HI"),
            ("--window nan,1", "finite"),
            ("--window 0,inf", "finite"),
            ("--window 5", "LO,HI"),
            ("--window 5,", "LO,HI"),
            ("--window 0,1,2", "LO,HI"),
            ("--crop 0,0,0,0", "X0 < X1"),
            ("--crop 4,0,4,9", "X0 < X1"),
            ("--crop 1,2,3", "X0,Y0,X1,Y1"),
            ("--crop 1,2,3,4,5", "X0,Y0,X1,Y1"),
            ("--crop -1,0,3,4", "X0,Y0,X1,Y1"),
            ("--spacing 1,1", "X,Y,Z in mm"),
            ("--spacing 1,1,1,1", "X,Y,Z in mm"),
            ("--spacing 1,1,0", "above 0"),
            ("--spacing 1,-1,1", "above 0"),
            ("--spacing nan,1,1", "above 0"),
            ("--spacing inf,1,1", "above 0"),
            ("--device gpu", "auto, cpu, cuda"),
            ("--device cuda:", "auto, cpu, cuda"),
            ("--device cuda:x", "auto, cpu, cuda"),
            ("--device cuda:99999999999", "auto, cpu, cuda"),
            ("--threads many", "whole number"),
            ("--memory 18446744073709551615", "whole number"),
            ("--stride x --stride 8", "--stride x"),
        ):
            with self.subTest(words=words):
                self.refuse(2, *words.split(), says=says)

    def test_paths(self):
        self.refuse(2, paths=(), says="INPUT.nrrd MASK.nrrd")
        self.refuse(2, paths=("input.nrrd",), says="INPUT.nrrd MASK.nrrd")
        self.refuse(2, paths=("input.nrrd", "a", "b"), says="b: one path too many")
        self.refuse(2, paths=("input.nrrd", "mask.nrrd", "--stride"), says="needs a value")
        self.refuse(1, paths=("--", "--quiet", "mask.nrrd"), says="--quiet: No such file")

    def test_outputs_named_like_another_format(self):
        for name in ("mask.nii.gz", "mask.mha", "mask.nii"):
            self.refuse(2, paths=("input.nrrd", name), says=(name, ".nrrd"))
        self.refuse(2, "--probability", "p.nii", says="p.nii")

    def test_model_is_required(self):
        self.refuse(2, model="", paths=("--model",), says="needs a value")

    def test_outputs_equal_to_an_input_or_each_other(self):
        folder = os.path.basename(self.folder)
        os.link(self.path("input.nrrd"), self.path("link.nrrd"))
        self.refuse(2, paths=("input.nrrd", "input.nrrd"), says="input and an output")
        self.refuse(2, paths=("input.nrrd", f"../{folder}/input.nrrd"), says="input and an output")
        self.refuse(2, paths=("input.nrrd", "link.nrrd"), says="input and an output")
        self.refuse(2, "--report", "model.safetensors", says="input and an output")
        self.refuse(2, "--roi", "roi.nrrd", "--logits", "roi.nrrd", says="input and an output")
        self.refuse(2, "--truth", "t.nrrd", "--logits", "t.nrrd", says="input and an output")
        self.refuse(2, "--report", "mask.nrrd", says="two outputs")
        self.refuse(2, "--report", "./mask.nrrd", says="two outputs")
        self.refuse(2, "--logits", "a", "--probability", self.path("a"), says="two outputs")


class Volumes(SegmentCase):
    """Inputs that are not volumes of three spatial axes with raw, attached data."""

    def check(self, says, lines, data=b"\0" * 2 * math.prod(SIZES)):
        volume_files.write(self.path("input.nrrd"), lines, data)
        with self.subTest(lines=lines):
            self.refuse(1, says=says)

    def extra(self, says, *lines):
        self.check(says, volume_files.header(SIZES, extra=lines))

    def test_encodings(self):
        for encoding in ("gzip", "gz", "bzip2", "bz2", "ascii", "text", "txt", "hex", "zstd"):
            self.check((f"'{encoding}'", "raw"), volume_files.header(SIZES, encoding=encoding))

    def test_detached_data(self):
        self.extra(("detached", "input.raw"), "data file: input.raw")
        self.extra("detached", "datafile: LIST")

    def test_types(self):
        for name in ("uint32", "unsigned int", "int64", "long long", "uint64", "block", "char", "half"):
            self.check((f"'{name}'", "int16"), volume_files.header(SIZES, name))

    def test_dimensions_and_sizes(self):
        self.check("dimension 2", volume_files.header(SIZES[:2]))
        self.check("dimension 4", volume_files.header((3, *SIZES)))
        for sizes in ((0, 4, 4), (4, 4), (4, 4, 4, 4), (-4, 4, 4), (4, "x", 4), ("4,4", 4, 4)):
            self.check("sizes", volume_files.header(sizes, dimension=3))

    def test_huge_claims_allocate_nothing(self):
        huge = 1 << 40
        self.check("no machine", volume_files.header((huge, huge, huge)))
        self.check("sizes", volume_files.header((4, 4, 10**30)), b"")
        started = time.monotonic()
        self.check((str(2 << 60), "10032"), volume_files.header((huge, 1 << 20, 1)))
        self.assertLess(time.monotonic() - started, 5)

    def test_short_file_names_expected_and_actual_bytes(self):
        self.check(("10032", "10031"), volume_files.header(SIZES), b"\0" * 10031)
        self.check(("10032", " 0"), volume_files.header(SIZES), b"")

    def test_longer_file_contradicts_its_header(self):
        self.check(("10032", "10034", "type"), volume_files.header(SIZES), b"\0" * 10034)
        self.check(("10032", "20064"), volume_files.header(SIZES), b"\0" * 20064)  # float voxels called int16

    def test_fields(self):
        complete = volume_files.header(SIZES)
        for name in ("type", "dimension", "sizes", "encoding", "endian"):
            lines = [line for line in complete if not line.startswith(name)]
            self.check(f"'{name}' is missing", lines)
        self.check("endian 'middle'", volume_files.header(SIZES, endian="middle"))
        self.extra("'type' is there twice", "type: int16")
        self.extra("'frobnicate: 3'", "frobnicate: 3")
        self.extra("'no colon'", "no colon")
        self.extra("line skip: 2", "line skip: 2")
        self.extra("byte skip: -1", "byteskip: -1")

    def test_axes(self):
        self.extra(("axis 1", "RGB-color"), "kinds: RGB-color domain domain")
        self.extra(("axis 3", "time"), "kinds: domain domain time")
        self.extra("each of the 3 axes", "kinds: domain domain")
        self.extra(("axis 1", "none"), "space: LPS", "space directions: none (1,0,0) (0,1,0)")
        self.extra("space directions", "space directions: (1,0) (0,1) (0,0)")
        self.extra("space directions", "space directions: (1,0,0) (0,1,0) (0,0,nan)")
        self.extra("space origin", "space origin: (1,2)")
        for space in ("middle-earth", "", "left-posterior-superior-time"):
            self.extra((f"space '{space}'", "left-posterior-superior"), f"space: {space}")

    def test_unknown_spacing(self):
        for lines in (
            (),
            ("spacings: nan nan nan",),
            ("spacings: 0.7 0.7 NaN",),
            ("space: LPS", "space origin: (1,2,3)"),
            ("axis mins: 0 0 0", "axis maxs: 44 38 3", "thicknesses: 1 1 1"),
        ):
            self.extra(("unknown", "give --spacing X,Y,Z in mm"), *lines)

    def test_spacings_that_cannot_be(self):
        for spacings in ("1 2", "1 2 3 4", "1 2 0", "-1 1 1", "1 inf 1", "0,7 0,7 2,5", "one 1 1"):
            self.extra(("spacings", spacings, "three numbers above 0"), f"spacings: {spacings}")

    def test_directions_that_are_no_grid(self):
        for third in ("(0,0.8,3)", "(0,0.03,2.5)", "(0.703125,0,0)", "(1,1,1)"):
            self.extra(("right angle", "resample"), f"space directions: (0.703125,0,0) (0,0.703125,0) {third}")
        self.extra(("axis 3", "not be 0"), "space directions: (1,0,0) (0,1,0) (0,0,0)")
        self.extra("three vectors", "space directions: (1,0,0) (0,1,0) (0,0,inf)")
        self.extra("three vectors", "space directions: (1,0,0) (0,1,0) (0,0,nan)")
        self.extra("three vectors", "space directions: (0,7,0,0) (0,0,7,0) (0,0,2,5)")  # a decimal comma

    def test_spacing_that_contradicts_the_directions(self):
        self.extra(("contradict", "take the wrong ones out"), GEOMETRY[1], "spacings: 1 1 1")

    def test_spacing_given_for_one_that_is_known(self):
        for options in ("--spacing=0.7,0.8,2.5", "--spacing=1,1,1"):
            self.refuse(2, options, says=("0.703125 mm", "input.nrrd", "leave the option out"))
        volume_files.write_volume(self.path("input.nrrd"), SIZES, self.voxels, extra=("spacings: nan 0.8 nan",))
        self.refuse(2, "--spacing=0.7,0.7,2.5", says=("axis 2", "0.8 mm"))

    def test_spacings_of_another_unit(self):
        for spacings, axis in (("0.0007 0.7 2.5", 1), ("0.7 0.7 2500", 3)):
            self.extra((f"axis {axis}", "0.001 to 1000", "another unit"), f"spacings: {spacings}")

    def test_values_that_are_quantized(self):
        self.extra(("quantized", "unquantize"), "spacings: 1 1 1", "old min: -1024", "old max: 3071")

    def test_other_units(self):
        self.extra(("space units", "cm", "must be mm"), GEOMETRY[1], 'space units: "mm" "mm" "cm"')
        self.extra(("units", "um", "must be mm"), "spacings: 1 1 1", 'units: "um" "um" "um"')

    def test_not_nrrd(self):
        for lines in (["NRRD0009"], ["NRRD00.01"], ["", ""], ["P5 4 4 255"]):
            self.check("NRRD", lines)
        for data in (b"", b"NRRD", b"NRRD0004\ntype: int16\n", b"NRRD0004\n\0\n\n"):
            with open(self.path("input.nrrd"), "wb") as file:
                file.write(data)
            self.refuse(1, says="NRRD")
        self.check("NRRD", ["NRRD0004", "#" * 100000])
        self.check("NRRD", ["NRRD0004", *["# and so on"] * 20000])

    def test_not_a_file(self):
        self.refuse(1, paths=("missing.nrrd", "mask.nrrd"), says="missing.nrrd")
        self.refuse(1, paths=(".", "mask.nrrd"), says="not a regular file")
        os.mkfifo(self.path("pipe"))
        self.refuse(1, paths=("pipe", "mask.nrrd"), says="not a regular file")

    def test_line_break_in_a_name_stays_one_line(self):
        self.refuse(1, paths=("a\nb\033[2J", "mask.nrrd"), says="a?b?[2J")


class Companions(SegmentCase):
    """A ROI or a truth that does not lie on the input's grid."""

    def check(self, says, sizes=SIZES, extra=GEOMETRY):
        voxels = [1] * math.prod(sizes)
        volume_files.write_volume(self.path("other.nrrd"), sizes, voxels, "uint8", extra=extra)
        for option in ("--roi", "--truth"):
            with self.subTest(option=option):
                self.refuse(1, option, "other.nrrd", says=("other.nrrd", says))

    def test_missing(self):
        for option in ("--roi", "--truth"):
            self.refuse(1, option, "other.nrrd", says="other.nrrd")

    def test_sizes(self):
        self.check("44 x 38 x 2", (44, 38, 2))
        self.check("38 x 44 x 3", (38, 44, 3))

    def test_geometry(self):
        space, directions, origin, kinds = GEOMETRY
        self.check("space origin", extra=(space, directions, "space origin: (-180.5,-171.25,12.01)"))
        self.check("space directions", extra=("space: right-anterior-superior", directions, origin))
        self.check("space 'scanner-xyz'", extra=("space: scanner-xyz", directions, origin))
        flipped = directions.replace("2.5", "-2.5")
        self.check("space directions", extra=(space, flipped, origin, kinds))
        self.check("spacings", extra=("spacings: 0.703125 0.703125 3",))


class Outputs(SegmentCase):
    def test_folder_that_cannot_be_written(self):
        self.refuse(1, paths=("input.nrrd", "no/such/mask.nrrd"), says="no/such/mask.nrrd")
        for option in ("--logits", "--probability", "--report"):
            self.refuse(1, option, "no/such/file", says="no/such/file")

    @unittest.skipIf(os.geteuid() == 0, "root may write everywhere")
    def test_folder_without_permission(self):
        os.mkdir(self.path("closed"), 0o555)
        self.refuse(1, paths=("input.nrrd", "closed/mask.nrrd"), says="Permission")

    def test_output_that_is_not_a_regular_file(self):
        os.mkdir(self.path("folder"))
        os.mkfifo(self.path("pipe"))
        self.refuse(1, "--logits", "folder", says="not a regular file")
        self.refuse(1, "--report", "pipe", says="not a regular file")


class Models(SegmentCase):
    def check(self, data, says=()):
        with open(self.path("bad.safetensors"), "wb") as file:
            file.write(data)
        self.refuse(1, model="bad.safetensors", says=says)

    def test_unusable(self):
        good = maximum_model.build()
        self.refuse(1, model="missing.safetensors", says="missing.safetensors")
        self.refuse(1, model=".")
        self.check(b"")
        self.check(b"not a model at all")
        self.check(good[:-1])
        self.check(struct.pack("<Q", 1 << 60) + good[8:])
        self.check(good.replace(b"features.10.weight", b"features.11.weight"), "features.1")
        self.check(maximum_model.build(metadata={"patchmask.window": "5,1"}), "window")

    def test_options_that_do_not_fit(self):
        self.refuse(1, "--stride", "33", says="stride 33")
        self.refuse(1, "--patch-size", "64", says="32..=63")
        self.refuse(1, "--crop", "0,0,45,38", says="45")
        self.refuse(1, "--device", "cuda:63")
