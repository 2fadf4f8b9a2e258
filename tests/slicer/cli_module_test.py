"""`segment` as a command-line module of 3D Slicer: its description by ctk-cli, its calls as Slicer makes them."""

import os
import re
import subprocess
import sys
import unittest

import numpy as np
from ctk_cli import CLIModule

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "cli"))
import maximum_model  # noqa: E402
import volume_files  # noqa: E402
from segment_case import SEGMENT, SIZES, SegmentCase  # noqa: E402

# The header that Slicer's NRRD writer makes, in its order and spelling.
SLICER_HEADER = (
    "NRRD0004",
    "# Complete NRRD file format specification at:",
    "# http://teem.sourceforge.net/nrrd/format.html",
    "type: short",
    "dimension: 3",
    "space: left-posterior-superior",
    "sizes: 44 38 3",
    "space directions: (0.703125,0,0) (0,-0.703125,0) (0,0,2.5)",
    "kinds: domain domain domain",
    "endian: little",
    "encoding: raw",
    "space origin: (-180.5,171.25,12)",
    "measurement frame: (1,0,0) (0,1,0) (0,0,1)",
)


def slicer_command(module, images, values=()):
    """The command line as Slicer builds it: flags in the order of the description, then what has an index. A string,
    vector or file that is empty and an image that is not chosen are left out, a boolean has no value, everything else
    is passed with its default."""
    values = dict(values)
    arguments, options, outputs = module.classifyParameters()
    assert not outputs, outputs
    command = [module.path]
    for parameter in options:
        value = images.get(parameter.name) if parameter.typ == "image" else values.get(parameter.name)
        if value is None and parameter.default is not None:
            value = str(parameter.default).lower() if parameter.typ == "boolean" else str(parameter.default)
        if parameter.typ == "boolean":
            command += [parameter.longflag] if value == "true" else []
        elif value:
            command += [parameter.longflag, value]
        else:
            empty = parameter.typ in ("string", "file", "directory", "image") or parameter.typ.endswith("-vector")
            assert empty, f"Slicer would pass {parameter.longflag} without a value"
    return command + [images[parameter.name] for parameter in arguments]


class Description(unittest.TestCase):
    def test_ctk_cli_reads_it_without_a_warning(self):
        with self.assertNoLogs("ctk_cli", "WARNING"):
            module = CLIModule(SEGMENT)
            arguments, options, outputs = module.classifyParameters()
        self.assertEqual([(a.name, a.typ, a.channel) for a in arguments],
                         [("inputVolume", "image", "input"), ("outputMask", "image", "output")])
        self.assertEqual(arguments[1].subtype, "label")
        self.assertEqual(outputs, [])
        self.assertTrue(module.title and module.description and module.category and module.version)
        names = [p.name for p in module.parameters()]
        self.assertEqual(len(names), len(set(names)))
        for parameter in options:
            self.assertTrue(parameter.longflag and parameter.label and parameter.description, parameter)
            if parameter.elements:
                self.assertIn(parameter.default, parameter.elements)
        hidden = [p.name for p in module.parameters() if p.hidden]
        self.assertEqual(hidden, ["slicerProgress"])


class Calls(SegmentCase):
    def setUp(self):
        super().setUp()
        volume_files.write(self.path("CT volume_vtkMRMLScalarVolumeNodeB.nrrd"), SLICER_HEADER,
                           volume_files.pack(self.voxels))
        self.inputs = set(os.listdir(self.folder))
        self.images = {"inputVolume": self.path("CT volume_vtkMRMLScalarVolumeNodeB.nrrd"),
                       "outputMask": self.path("mask.nrrd")}
        self.module = CLIModule(SEGMENT)

    def slicer(self, images=(), **values):
        values = {"model": self.path("model.safetensors"), "device": "cpu", **values}
        command = slicer_command(self.module, {**self.images, **dict(images)}, values)
        done = subprocess.run(command, capture_output=True, timeout=300, cwd="/")
        self.assertEqual((done.returncode, done.stderr), (0, b""), done)
        return done.stdout.decode()

    def test_defaults(self):
        output = self.slicer()
        self.assert_mask(maximum_model.mask(SIZES, self.voxels))
        fields, _ = self.read("mask.nrrd")
        for line in SLICER_HEADER:
            if re.match("space|kinds|measurement", line):
                name, value = line.split(": ")
                self.assertEqual(fields[name], value)
        self.assertTrue(output.startswith("<filter-start>\n"), output)
        self.assertRegex(output, r"<filter-progress>[0-9.e-]+</filter-progress>\n")
        self.assertIn("<filter-end>\n", output)
        # Slicer shows the text without the tags.
        plain = re.sub(r"<filter-(progress|name|comment|time)>[^<]*</filter-\1>\s*", "", output)
        plain = re.sub(r"<filter-(start|end)>[^<]*</filter-\1>\s*", "", plain)
        self.assertNotIn("<", plain)

    def test_every_parameter(self):
        roi = np.zeros(SIZES[::-1], np.int16)
        roi[:, :, :20] = 1
        volume_files.write(self.path("roi.nrrd"), SLICER_HEADER, roi.tobytes())
        self.slicer(
            {"roi": self.path("roi.nrrd"), "probability": self.path("probability.nrrd")},
            patchSize="32", stride="8", window="-160,240", fill="linear", padding="image", threads="1", memory="256",
        )
        self.assertEqual(self.read("probability.nrrd")[0]["type"], "float")
        self.assertNotIn(1, np.reshape(self.read("mask.nrrd")[1], SIZES[::-1])[:, :, 20:])

    def test_what_is_wrong_is_one_line(self):
        command = slicer_command(self.module, self.images, {"model": self.path("nothing.safetensors")})
        done = subprocess.run(command, capture_output=True, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"\Asegment: [^\n]*nothing.safetensors[^\n]*\n\Z")
        done = subprocess.run(slicer_command(self.module, self.images), capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (2, "segment: --model FILE: is required\n"))
        self.assertEqual(set(os.listdir(self.folder)), self.inputs)


if __name__ == "__main__":
    unittest.main()
