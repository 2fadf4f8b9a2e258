"""The extension for 3D Slicer without Slicer: masks and lesions, jobs, the Python package as its process, the logic on
a double of Slicer's nodes, and that its files fit together.

What has widgets is tested by Slicer's own test of the module (PatchmaskSegmentationTest)."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import typing
import unittest
import xml.etree.ElementTree as ET
from pathlib import Path
from unittest import mock

import jsonschema
import numpy as np
import SimpleITK as sitk
import vtk
from vtk.util.numpy_support import vtk_to_numpy

ROOT = Path(__file__).resolve().parents[2]
EXTENSION = ROOT / "examples" / "slicer"
MODULE = EXTENSION / "PatchmaskSegmentation"
sys.path[:0] = [str(MODULE), str(ROOT / "tests" / "cli")]
import maximum_model  # noqa: E402
import slicer_double  # noqa: E402
import volume_files  # noqa: E402
from segment_case import GEOMETRY, SIZES, SegmentCase  # noqa: E402

slicer_double.install()
import PatchmaskSegmentation as module  # noqa: E402
from PatchmaskSegmentationLib.job import Job, read_lesion_class, segment_command  # noqa: E402
from PatchmaskSegmentationLib.masks import (  # noqa: E402
    binary_labelmap,
    check_same_grid,
    find_lesions,
    vtk_matrix,
)

# Oblique, anisotropic, left-handed: columns are what a step along column, row, slice does in RAS.
C, S = np.cos(0.4), np.sin(0.4)
IJK_TO_RAS = np.array([[-0.7 * C, 0.8 * S, 0, 30], [0.7 * S, 0.8 * C, 0, -20], [0, 0, 2.5, 110], [0, 0, 0, 1]])
# Slices as models are trained on them, a little oblique: columns to the patient's left, rows to the back.
LPS_TO_RAS = np.array([[-0.7 * C, 0.8 * S, 0, 30], [-0.7 * S, -0.8 * C, 0, -20], [0, 0, 2.5, 110], [0, 0, 0, 1]])


def two_lesions():
    mask = np.zeros((7, 30, 40), np.uint8)
    mask[1:3, 4:9, 10:22] = 1  # 120 voxels
    mask[4:7, 20:30, 35:40] = 1  # 150 voxels, at the volume's border
    mask[5, 2, 2] = 2  # another class
    return mask


def wait_until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.01)


# The rules of version 1.0.2 of Slicer's schema for catalogue entries (Schemas/ in Slicer's sources).
TEXT, SWITCH = {"type": "string"}, {"type": "boolean"}
CATALOGUE = {
    "type": "object",
    "required": ["$schema", "category", "scm_url"],
    "additionalProperties": False,
    "properties": {
        **{name: TEXT for name in ("$schema", "category", "scm_url", "scm_revision", "dicom_support_rule")},
        "scm_type": {"enum": ["git", "local"]},
        "build_dependencies": {"type": "array", "items": TEXT},
        "build_subdirectory": TEXT,
        "enabled": SWITCH,
        "tier": {"type": "integer", "minimum": 1, "maximum": 5},
    },
}


class Masks(unittest.TestCase):
    def test_lesions(self):
        large, small = find_lesions(two_lesions(), IJK_TO_RAS)
        self.assertEqual((large.voxels, small.voxels), (150, 120))
        voxel = 0.7 * 0.8 * 2.5
        self.assertAlmostEqual(large.volume_mm3, 150 * voxel)
        self.assertAlmostEqual(small.volume_mm3, 120 * voxel)
        np.testing.assert_allclose(large.centroid_ras, (IJK_TO_RAS @ (37, 24.5, 5, 1))[:3])
        np.testing.assert_allclose(small.centroid_ras, (IJK_TO_RAS @ (15.5, 6, 1.5, 1))[:3])

    def test_other_class_and_none(self):
        (lesion,) = find_lesions(two_lesions(), IJK_TO_RAS, 2)
        np.testing.assert_allclose(lesion.centroid_ras, (IJK_TO_RAS @ (2, 2, 5, 1))[:3])
        self.assertEqual(find_lesions(two_lesions(), IJK_TO_RAS, 3), [])

    def test_corners_do_not_connect(self):
        mask = np.zeros((2, 2, 2), np.uint8)
        mask[0, 0, 0] = mask[1, 1, 1] = 1
        self.assertEqual(len(find_lesions(mask, np.eye(4))), 2)

    def test_labelmap_has_the_order_of_the_array(self):
        mask = two_lesions()
        image = binary_labelmap(mask)
        self.assertEqual(image.GetDimensions(), mask.shape[::-1])
        self.assertEqual(image.GetScalarComponentAsDouble(21, 8, 2, 0), 1)
        self.assertEqual(image.GetScalarComponentAsDouble(2, 2, 5, 0), 0)
        voxels = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(mask.shape)
        np.testing.assert_array_equal(voxels, mask == 1)
        strided = np.asfortranarray(mask.astype(np.int32))[:, ::2]
        voxels = vtk_to_numpy(binary_labelmap(strided).GetPointData().GetScalars()).reshape(strided.shape)
        np.testing.assert_array_equal(voxels, mask[:, ::2] == 1)

    def test_closed_surface_lies_where_the_lesions_do(self):
        """The surface that a segmentation node makes of the labelmap: closed, of about the volume and centroids."""
        mask = two_lesions()
        pad = vtk.vtkImageConstantPad()
        pad.SetInputData(binary_labelmap(mask))
        pad.SetOutputWholeExtent(-1, 40, -1, 30, -1, 7)
        surface = vtk.vtkDiscreteFlyingEdges3D()
        surface.SetInputConnection(pad.GetOutputPort())
        surface.SetValue(0, 1)
        transform = vtk.vtkTransform()
        transform.SetMatrix(vtk_matrix(IJK_TO_RAS))
        move = vtk.vtkTransformFilter()
        move.SetTransform(transform)
        move.SetInputConnection(surface.GetOutputPort())
        edges = vtk.vtkFeatureEdges()
        edges.SetInputConnection(move.GetOutputPort())
        edges.FeatureEdgesOff()
        edges.ManifoldEdgesOff()
        edges.NonManifoldEdgesOff()
        edges.Update()
        self.assertEqual(edges.GetOutput().GetNumberOfCells(), 0)
        points = vtk_to_numpy(move.GetOutput().GetPoints().GetData())
        occupied = np.argwhere(mask == 1)[:, ::-1]
        corners = np.concatenate([occupied + d for d in np.array(np.meshgrid(*[(-0.5, 0.5)] * 3)).reshape(3, -1).T])
        placed = (np.column_stack([corners, np.ones(len(corners))]) @ IJK_TO_RAS.T)[:, :3]
        self.assertTrue((points.min(0) >= placed.min(0) - 1e-3).all())
        self.assertTrue((points.max(0) <= placed.max(0) + 1e-3).all())
        mass = vtk.vtkMassProperties()
        mass.SetInputConnection(move.GetOutputPort())
        expected = sum(lesion.volume_mm3 for lesion in find_lesions(mask, IJK_TO_RAS))
        self.assertAlmostEqual(mass.GetVolume() / expected, 1, delta=0.2)

    def test_grids(self):
        check_same_grid((3, 4, 5), IJK_TO_RAS, (3, 4, 5), IJK_TO_RAS + 1e-6)
        with self.assertRaisesRegex(ValueError, r"\(5, 4, 2\)"):
            check_same_grid((3, 4, 5), IJK_TO_RAS, (2, 4, 5), IJK_TO_RAS)
        flipped = IJK_TO_RAS @ np.diag([1, -1, 1, 1])
        with self.assertRaisesRegex(ValueError, "mm away"):
            check_same_grid((3, 4, 5), IJK_TO_RAS, (3, 4, 5), flipped)
        with self.assertRaises(ValueError):
            check_same_grid((3, 4, 5), IJK_TO_RAS, (3, 4, 5), IJK_TO_RAS * np.nan)


class Jobs(unittest.TestCase):
    def python(self, text):
        return Job([sys.executable, "-c", text])

    def test_progress(self):
        job = self.python(
            "import time\n"
            "print('<filter-start>\\n</filter-start>\\n<filter-progress>0.2500</filter-progress>', flush=True)\n"
            "print('other words, <filter-progress>?</filter-progress>', flush=True)\n"
            "time.sleep(1)"
        )
        self.assertEqual(job.state, "running")
        wait_until(lambda: job.fraction is not None)
        self.assertEqual((job.state, job.fraction, job.error), ("running", 0.25, ""))
        self.assertEqual(job.wait(20), "succeeded")
        self.assertEqual((job.fraction, job.error), (1.0, ""))

    def test_failure_has_its_line(self):
        job = self.python("import sys; sys.exit('patchmask: it was too dark')")
        self.assertEqual(job.wait(20), "failed")
        self.assertEqual(job.error, "patchmask: it was too dark")
        silent = self.python("raise SystemExit(3)")
        silent.wait(20)
        self.assertEqual(silent.error, "exit status 3")

    def test_much_output_does_not_block(self):
        job = self.python("import sys\nfor i in range(30000): print('x' * 20); print('y' * 20, file=sys.stderr)")
        self.assertEqual(job.wait(60), "succeeded")

    def test_cancel(self):
        sleep = "import time; print('<filter-progress>0.0000</filter-progress>', flush=True); time.sleep(60)"
        for name, text in (
            ("plain", sleep),
            ("deaf", f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {sleep}"),
            ("launcher", f"import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', {sleep!r}]))"),
        ):
            with self.subTest(name):
                job = self.python(text)
                wait_until(lambda: job.fraction is not None)
                began = time.monotonic()
                job.cancel()
                self.assertLess(time.monotonic() - began, 0.5)
                self.assertEqual(job.wait(20), "cancelled")
                self.assertLess(time.monotonic() - began, Job.GRACE_SECONDS + 5)
                self.assertEqual(job.error, "")
                job.cancel()  # of no effect afterwards
                self.assertEqual(job.state, "cancelled")

    def test_killed_by_another(self):
        job = self.python("import time; time.sleep(60)")
        os.kill(job._process.pid, signal.SIGKILL)
        self.assertEqual(job.wait(20), "failed")
        self.assertEqual(job.error, "exit status -9")

    def test_program_that_is_not_there(self):
        with self.assertRaises(OSError):
            Job(["/no/such/program"])


class PackageCase(SegmentCase):
    """With the Python package of the sources, which finds the library in build/."""

    def setUp(self):
        super().setUp()
        self.enterContext(mock.patch.dict(os.environ, PYTHONPATH=str(ROOT / "python")))
        os.environ.pop("PYTHONUNBUFFERED", None)

    def make_it_slow(self):
        """A model and an input that take minutes."""
        with open(self.path("model.safetensors"), "wb") as file:
            file.write(maximum_model.build(width=32, patch_size=64, stride=3))
        volume_files.write(self.path("input.nrrd"), volume_files.header((256, 256, 40)), bytes(2 * 256 * 256 * 40))


class Package(PackageCase):
    def start(self, **options):
        paths = [Path(self.path(name)) for name in ("input.nrrd", "mask.nrrd", "report.json", "model.safetensors")]
        return Job(segment_command(sys.executable, *paths, device="cpu", **options))

    def mask(self):
        return sitk.GetArrayFromImage(sitk.ReadImage(self.path("mask.nrrd")))

    def test_whole_way(self):
        job = self.start()
        self.assertEqual(job.wait(120), "succeeded", job.error)
        np.testing.assert_array_equal(self.mask(), np.reshape(maximum_model.mask(SIZES, self.voxels), SIZES[::-1]))
        self.assertEqual(read_lesion_class(Path(self.path("report.json"))), 1)

    def test_lesion_class_is_the_models(self):
        with open(self.path("model.safetensors"), "wb") as file:
            file.write(maximum_model.build(metadata={"patchmask.lesion_class": "0"}))
        job = self.start()
        self.assertEqual(job.wait(120), "succeeded", job.error)
        self.assertEqual(read_lesion_class(Path(self.path("report.json"))), 0)

    def test_options(self):
        roi = [int(x < 20) for _ in range(3 * 38) for x in range(44)]
        volume_files.write_volume(self.path("roi.nrrd"), SIZES, roi, "uint8", extra=GEOMETRY)
        job = self.start(stride=16, fill="linear", roi=Path(self.path("roi.nrrd")))
        self.assertEqual(job.wait(120), "succeeded", job.error)
        self.assertFalse(self.mask()[:, :, 20:].any())
        options = json.loads(Path(self.path("report.json")).read_text(encoding="utf-8"))["options"]
        self.assertEqual((options["stride"], options["fill"], options["device"]), (16, "linear", "cpu"))
        self.assertEqual(options["roi"], self.path("roi.nrrd"))

    def test_error_of_the_library(self):
        job = self.start(stride=33)
        self.assertEqual(job.wait(120), "failed")
        self.assertIn("stride 33", job.error)
        self.assertFalse(os.path.exists(self.path("mask.nrrd")))

    def test_progress_and_cancel(self):
        self.make_it_slow()
        job = self.start()
        wait_until(lambda: job.fraction)
        first = job.fraction
        wait_until(lambda: job.fraction > first, seconds=5)  # one that is not flushed comes after more
        self.assertEqual(job.state, "running")
        self.assertLess(job.fraction, 1)
        began = time.monotonic()
        job.cancel()
        self.assertEqual(job.wait(30), "cancelled")
        self.assertLess(time.monotonic() - began, 5)
        self.assertFalse(os.path.exists(self.path("mask.nrrd")))

    def test_reader_that_has_gone_ends_the_work(self):
        """Slicer has crashed: nobody would take the mask."""
        self.make_it_slow()
        paths = [Path(self.path(name)) for name in ("input.nrrd", "mask.nrrd", "report.json", "model.safetensors")]
        command = segment_command(sys.executable, *paths, device="cpu")
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            process.stdout.readline()
            process.stdout.close()
            self.assertEqual(process.wait(30), 1)

    def test_package_that_is_not_there(self):
        with mock.patch.dict(os.environ, PYTHONPATH="", PYTHONNOUSERSITE="1"):
            job = self.start()
            self.assertEqual(job.wait(20), "failed")
        self.assertIn("No module named patchmask", job.error)


class Logic(PackageCase):
    """PatchmaskSegmentationLogic on the double of Slicer, with the package's process behind a launcher."""

    def setUp(self):
        super().setUp()
        launcher = Path(self.path("PythonSlicer"))
        launcher.write_text(f'#!/bin/sh\n{shlex.quote(sys.executable)} "$@"\nexit $?\n')
        launcher.chmod(0o755)
        temporary = Path(self.path("temporary"))
        temporary.mkdir()
        self.enterContext(mock.patch.dict(os.environ, PATH=f"{self.folder}:{os.environ['PATH']}"))
        self.enterContext(mock.patch.object(module.slicer.app, "temporaryPath", str(temporary)))
        self.addCleanup(lambda: self.assertEqual(list(temporary.iterdir()), []))
        self.logic = module.PatchmaskSegmentationLogic()
        self.model = self.path("model.safetensors")
        self.array = np.reshape(self.voxels, SIZES[::-1]).astype(np.int16)
        self.expected = np.reshape(maximum_model.mask(SIZES, self.voxels), SIZES[::-1])

    def volume(self, array, ijk_to_ras=LPS_TO_RAS):
        return slicer_double.Volume("ct", array, ijk_to_ras)

    def segment_voxels(self, segmentation):
        ((name, image),) = segmentation.segments.values()
        self.assertEqual(name, "lesion")
        voxels = vtk_to_numpy(image.GetPointData().GetScalars())
        return voxels.reshape(image.GetDimensions()[::-1]), image.ijk_to_ras

    def test_segmentation_lies_on_the_volume(self):
        """Rows that run the other way: the network sees the patient as it was trained, the mask comes back flipped."""
        flip = np.diag([1.0, -1, 1, 1])
        flip[1, 3] = SIZES[1] - 1
        for name, array, matrix, expected in (
            ("trained", self.array, LPS_TO_RAS, self.expected),
            ("flipped", self.array[:, ::-1], LPS_TO_RAS @ flip, self.expected[:, ::-1]),
        ):
            with self.subTest(name):
                volume, segmentation, told = self.volume(array.copy(), matrix), slicer_double.Segmentation(), []
                for _ in range(2):  # the second run replaces the segment of the first
                    lesions = self.logic.run(volume, segmentation, self.model, told.append, device="cpu")
                    voxels, ijk_to_ras = self.segment_voxels(segmentation)
                    np.testing.assert_array_equal(voxels, expected)
                    np.testing.assert_allclose(ijk_to_ras, matrix, atol=1e-5)
                self.assertEqual(sum(lesion.voxels for lesion in lesions), np.count_nonzero(expected))
                self.assertTrue(lesions)
                self.assertTrue(segmentation.has_surface)
                self.assertIs(segmentation.reference, volume)
                self.assertEqual(segmentation.transform, volume.GetTransformNodeID())
                self.assertIsNone(told[0])

    def test_code_of_the_page(self):
        page = (ROOT / "docs" / "slicer.md").read_text(encoding="utf-8")
        (code,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
        with mock.patch.dict(os.environ, PYTHONPATH=f"{MODULE}:{os.environ['PYTHONPATH']}"):
            command = [sys.executable, "-c", code]
            done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=120)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(done.stdout.splitlines()[-1], "succeeded ")
        self.assertTrue(os.path.exists(self.path("mask.nrrd")))

    def test_roi_and_lesion_class(self):
        Path(self.model).write_bytes(maximum_model.build(metadata={"patchmask.lesion_class": "0"}))
        roi = np.zeros(self.array.shape, np.uint8)
        roi[:, :, :20] = 1
        self.logic.start(self.volume(self.array), self.model, self.volume(roi), stride=16, fill="linear", device="cpu")
        found = self.logic.finish()
        self.assertEqual(found.lesionClass, 0)
        self.assertFalse(found.mask[:, :, 20:].any())
        segmentation = slicer_double.Segmentation()
        self.logic.fillSegmentation(segmentation, *found)
        np.testing.assert_array_equal(self.segment_voxels(segmentation)[0], found.mask == 0)

    def test_cancel(self):
        self.make_it_slow()
        self.logic.start(self.volume(np.zeros((40, 256, 256), np.int16)), self.model, device="cpu")
        with self.assertRaisesRegex(RuntimeError, "is running"):
            self.logic.start(self.volume(self.array), self.model)
        wait_until(lambda: self.logic.fraction)
        began = time.monotonic()
        self.logic.cancel()
        self.assertIsNone(self.logic.finish())
        self.assertLess(time.monotonic() - began, Job.GRACE_SECONDS)
        self.assertFalse(self.logic.running)

    def test_volume_that_was_removed(self):
        volume = self.volume(self.array)
        self.logic.start(volume, self.model, device="cpu")
        volume.scene = None
        self.assertIsNone(self.logic.finish())

    def test_failures(self):
        volume = self.volume(self.array)
        with self.assertRaisesRegex(ValueError, "no voxels"):
            self.logic.start(slicer_double.Volume("empty", None, LPS_TO_RAS), self.model)
        with self.assertRaisesRegex(ValueError, "none.safetensors: no such model file"):
            self.logic.start(volume, self.path("none.safetensors"))
        with self.assertRaisesRegex(RuntimeError, "stride 33"):
            self.logic.run(volume, slicer_double.Segmentation(), self.model, stride=33, device="cpu")
        with self.assertRaisesRegex(RuntimeError, "could not be written"):
            with mock.patch.object(module.slicer.util, "exportNode", lambda *_: False):
                self.logic.start(volume, self.model)
        with self.assertRaisesRegex(RuntimeError, "PythonSlicer is not on PATH"):
            with mock.patch.dict(os.environ, PATH="/nowhere"):
                self.logic.start(volume, self.model)
        moved = LPS_TO_RAS.copy()
        moved[0, 3] += 1
        with self.assertRaisesRegex(ValueError, "1 mm away"):
            self.logic.fillSegmentation(slicer_double.Segmentation(), volume, self.expected, moved)


class Files(unittest.TestCase):
    """Slicer is not here to say that a name is wrong."""

    @classmethod
    def setUpClass(cls):
        cls.source = (MODULE / "PatchmaskSegmentation.py").read_text(encoding="utf-8")
        cls.ui = ET.parse(MODULE / "Resources" / "UI" / "PatchmaskSegmentation.ui")
        cls.parameters = typing.get_type_hints(module.PatchmaskSegmentationParameterNode, include_extras=True)

    def test_classes(self):
        for ending in ("", "Widget", "Logic", "Test"):
            made = getattr(module, f"PatchmaskSegmentation{ending}")
            self.assertEqual(made.__mro__[1].__name__, f"ScriptedLoadableModule{ending}")

    def test_widgets_that_the_module_uses_are_in_the_ui_file(self):
        names = {widget.get("name") for widget in self.ui.iter("widget")}
        used = set(re.findall(r"self\.ui\.(\w+)", self.source))
        self.assertTrue(used)
        self.assertLessEqual(used, names)

    def parameter_of(self, widget):
        (name,) = [p.findtext("string") for p in widget.iter("property") if p.get("name") == "SlicerParameterName"]
        return name

    def test_every_parameter_has_a_widget(self):
        shown = [p.findtext("string") for p in self.ui.iter("property") if p.get("name") == "SlicerParameterName"]
        self.assertEqual(sorted(shown), sorted(self.parameters))

    def test_ui_shows_the_limits_of_the_parameters(self):
        for widget in self.ui.iter("widget"):
            if widget.get("class") == "QComboBox":
                (choice,) = self.parameters[self.parameter_of(widget)].__metadata__
                self.assertEqual([item.findtext("property/string") for item in widget.iter("item")], choice.choices)
            if widget.get("class") == "QSpinBox":
                (limits,) = self.parameters[self.parameter_of(widget)].__metadata__
                (high,) = [p.findtext("number") for p in widget.iter("property") if p.get("name") == "maximum"]
                self.assertEqual((0, int(high)), (limits.low, limits.high))

    def test_node_selectors_take_the_parameters_nodes(self):
        for widget in self.ui.iter("widget"):
            if widget.get("class") == "qMRMLNodeComboBox":
                (kind,) = [p for p in widget.iter("property") if p.get("name") == "nodeTypes"]
                self.assertIn(kind.findtext("stringlist/string"), self.annotation(self.parameter_of(widget)))

    def annotation(self, name):
        return re.search(rf"^    {name}: (.*)$", self.source, re.MULTILINE)[1]

    def test_node_selectors_hear_of_the_scene(self):
        selectors = {w.get("name") for w in self.ui.iter("widget") if w.get("class") == "qMRMLNodeComboBox"}
        self.assertEqual({c.findtext("receiver") for c in self.ui.iter("connection")}, selectors)

    def test_cmake_names_every_file(self):
        text = (MODULE / "CMakeLists.txt").read_text(encoding="utf-8").replace("${MODULE_NAME}", MODULE.name)
        named = set(re.findall(r"^  (\S+\.(?:py|ui))$", text, re.MULTILINE))
        there = {p.relative_to(MODULE).as_posix() for p in MODULE.rglob("*") if p.suffix in (".py", ".ui")}
        self.assertEqual(named, there)
        self.assertIn(f"add_subdirectory({MODULE.name})", (EXTENSION / "CMakeLists.txt").read_text(encoding="utf-8"))

    def test_library_needs_no_slicer(self):
        program = "import sys; sys.path.insert(0, sys.argv[1]); import PatchmaskSegmentationLib.job, " \
                  "PatchmaskSegmentationLib.masks; sys.exit(not {'slicer', 'qt'}.isdisjoint(sys.modules))"
        subprocess.run([sys.executable, "-c", program, str(MODULE)], check=True)

    def test_catalogue_entry(self):
        """Against CATALOGUE, and against the schema itself where PATCHMASK_SLICER_SCHEMA names its file."""
        entry = json.loads((EXTENSION / "Patchmask.json").read_text(encoding="utf-8"))
        self.assertIn("extension-catalog-entry-schema-v1.0.2.json", entry["$schema"])
        schemas = [CATALOGUE]
        if "PATCHMASK_SLICER_SCHEMA" in os.environ:
            schemas.append(json.loads(Path(os.environ["PATCHMASK_SLICER_SCHEMA"]).read_text(encoding="utf-8")))
        for schema in schemas:
            jsonschema.validate(entry, schema)
            for wrong in ({"tier": 6}, {"tier": "1"}, {"scm_type": "svn"}, {"homepage": "here"}, {"category": None}):
                with self.assertRaises(jsonschema.ValidationError, msg=wrong):
                    jsonschema.validate(entry | wrong, schema)


if __name__ == "__main__":
    unittest.main()
