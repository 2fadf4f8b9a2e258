"""The extension for 3D Slicer: masks and lesions, jobs, the Python package as its process, the logic and the extension's own test on
Slicer's scene, and that its files fit together. The panel needs Qt."""

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
import scene_case
import SimpleITK as sitk
import slicer
import vtk
from scene_case import DEMO, LPS_TO_RAS, MODULE, ROOT, SIZES, SceneCase, ijk_to_ras, maximum_model, wait_until
from segment_case import GEOMETRY
from vtk.util.numpy_support import vtk_to_numpy

import PatchmaskSegmentation as module
import volume_files
from PatchmaskSegmentationLib.job import Job, read_lesion_class, segment_command
from PatchmaskSegmentationLib.masks import binary_labelmap, check_same_grid, find_lesions

EXTENSION = ROOT / "examples" / "slicer"

# Oblique, anisotropic, left-handed: columns are what a step along column, row, slice does in RAS.
C, S = np.cos(0.4), np.sin(0.4)
IJK_TO_RAS = np.array([[-0.7 * C, 0.8 * S, 0, 30], [0.7 * S, 0.8 * C, 0, -20], [0, 0, 2.5, 110], [0, 0, 0, 1]])


def two_lesions():
    mask = np.zeros((7, 30, 40), np.uint8)
    mask[1:3, 4:9, 10:22] = 1  # 120 voxels
    mask[4:7, 20:30, 35:40] = 1  # 150 voxels, at the volume's border
    mask[5, 2, 2] = 2  # another class
    return mask


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


class PackageCase(SceneCase):
    """With the Python package of the sources, which finds the library in build/."""

    def setUp(self):
        super().setUp()
        self.enterContext(mock.patch.dict(os.environ, PYTHONPATH=str(ROOT / "python")))
        os.environ.pop("PYTHONUNBUFFERED", None)

    def make_it_slow(self):
        """A model and an input that take minutes."""
        Path(self.model).write_bytes(maximum_model.build(width=32, patch_size=64, stride=3))
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
        Path(self.model).write_bytes(maximum_model.build(metadata={"patchmask.lesion_class": "0"}))
        job = self.start()
        self.assertEqual(job.wait(120), "succeeded", job.error)
        self.assertEqual(read_lesion_class(Path(self.path("report.json"))), 0)

    def test_options(self):
        roi = [int(x < 20) for _ in range(3 * 38) for x in range(44)]
        volume_files.write_volume(self.path("roi.nrrd"), SIZES, roi, "uint8", extra=GEOMETRY)
        options = {"stride": 16, "fill": "linear", "pixel_mm": 0.75, "resample": False, "threshold": 0.625}
        job = self.start(roi=Path(self.path("roi.nrrd")), **options)
        self.assertEqual(job.wait(120), "succeeded", job.error)
        self.assertFalse(self.mask()[:, :, 20:].any())
        used = json.loads(Path(self.path("report.json")).read_text(encoding="utf-8"))["options"]
        self.assertEqual(used, used | options | {"device": "cpu", "roi": self.path("roi.nrrd")})

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


class Scene(PackageCase):
    """PatchmaskSegmentationLogic and the extension's own test on Slicer's scene, with the package's process behind a launcher."""

    def setUp(self):
        super().setUp()
        launcher = Path(self.path("PythonSlicer"))
        launcher.write_text(f'#!/bin/sh\n{shlex.quote(sys.executable)} "$@"\nexit $?\n')
        launcher.chmod(0o755)
        self.enterContext(mock.patch.dict(os.environ, PATH=f"{self.folder}:{os.environ['PATH']}"))
        self.logic = module.PatchmaskSegmentationLogic()
        self.segmentation = self.node("vtkMRMLSegmentationNode")
        self.segmentation.CreateDefaultDisplayNodes()

    def run_logic(self, volume, model=None, **options):
        lesions = self.logic.run(volume, self.segmentation, model or self.model, device="cpu", **options)
        self.assertNotIn("ERROR", self.logged())
        return lesions

    def lesion_id(self):
        ids = self.segmentation.GetSegmentation().GetSegmentIDs()
        self.assertEqual([self.segmentation.GetSegmentation().GetSegment(key).GetName() for key in ids], ["lesion"])
        return ids[0]

    def segment_voxels(self, volume):
        return slicer.util.arrayFromSegmentBinaryLabelmap(self.segmentation, self.lesion_id(), volume)

    def surface(self):
        """Points in patient coordinates, before the segmentation's transform; closed."""
        surface, edges = vtk.vtkPolyData(), vtk.vtkFeatureEdges()
        self.assertTrue(self.segmentation.GetClosedSurfaceRepresentation(self.lesion_id(), surface))
        edges.SetInputData(surface)
        edges.FeatureEdgesOff()
        edges.ManifoldEdgesOff()
        edges.NonManifoldEdgesOff()
        edges.Update()
        self.assertEqual(edges.GetOutput().GetNumberOfCells(), 0)
        return surface

    def assert_surface_encloses(self, mask, matrix):
        """The surface ends about half a voxel, which is smoothed, beyond the outer voxels' centres, and about fills them."""
        surface = self.surface()
        points = vtk_to_numpy(surface.GetPoints().GetData())
        ijk = (np.column_stack([points, np.ones(len(points))]) @ np.linalg.inv(matrix).T)[:, :3]
        occupied = np.argwhere(mask)[:, ::-1]
        np.testing.assert_allclose(ijk.min(0), occupied.min(0) - 0.5, atol=0.8)
        np.testing.assert_allclose(ijk.max(0), occupied.max(0) + 0.5, atol=0.8)
        mass = vtk.vtkMassProperties()
        mass.SetInputData(surface)
        self.assertAlmostEqual(mass.GetVolume() / (len(occupied) * abs(np.linalg.det(matrix[:3, :3]))), 1, delta=0.2)

    def nodes(self):
        return {node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLNode")}

    def test_of_the_extension(self):
        own = module.PatchmaskSegmentationTest("runTest")
        with mock.patch.dict(os.environ, PATCHMASK_MODEL=self.model):
            own.runTest()

    def test_segmentation_lies_on_the_volume(self):
        """Whatever way rows run: the network sees the patient as it was trained, the mask comes back flipped. Slices that are tilted
        against the patient are no problem."""
        flip = np.diag([1.0, -1, 1, 1])
        flip[1, 3] = SIZES[1] - 1
        tilt = np.eye(4)
        tilt[1:3, 1:3] = [[C, -S], [S, C]]
        for name, array, matrix, expected in (
            ("trained", self.array, LPS_TO_RAS, self.expected),
            ("flipped", self.array[:, ::-1], LPS_TO_RAS @ flip, self.expected[:, ::-1]),
            ("tilted", self.array, tilt @ LPS_TO_RAS, self.expected),
        ):
            with self.subTest(name):
                volume, told = self.volume(array, matrix), []
                before = self.nodes()
                for _ in range(2):  # the second run replaces the segment of the first
                    lesions = self.run_logic(volume, onProgress=told.append)
                    np.testing.assert_array_equal(self.segment_voxels(volume), expected)
                self.assert_surface_encloses(expected, matrix)
                self.assertEqual(sum(lesion.voxels for lesion in lesions), np.count_nonzero(expected))
                self.assertTrue(lesions)
                role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
                self.assertEqual(self.segmentation.GetNodeReferenceID(role), volume.GetID())
                self.assertIsNone(told[0])
                extra = {key for key in self.nodes() - before if not key.startswith("vtkMRMLLabelMapVolumeDisplayNode")}
                self.assertEqual(extra, set(), "nodes were left in the scene")

    def test_under_a_transform(self):
        volume, transform = self.volume(self.array), scene_case.transform()
        volume.SetAndObserveTransformNodeID(transform.GetID())
        lesions = self.run_logic(volume)
        self.assertEqual(self.segmentation.GetTransformNodeID(), transform.GetID())
        np.testing.assert_array_equal(self.segment_voxels(volume), self.expected)
        self.assert_surface_encloses(self.expected, LPS_TO_RAS)  # the centroids too are before the transform
        local, world = self.surface(), vtk.vtkPolyData()
        segments = slicer.modules.segmentations.logic()
        segments.GetSegmentClosedSurfaceRepresentation(self.segmentation, self.lesion_id(), world, True)
        local, world = (vtk_to_numpy(surface.GetPoints().GetData()) for surface in (local, world))
        matrix = slicer.util.arrayFromTransformMatrix(transform, toWorld=True)
        np.testing.assert_allclose(world, (np.column_stack([local, np.ones(len(local))]) @ matrix.T)[:, :3], atol=1e-3)
        for lesion in lesions:
            self.assertTrue((local.min(0) <= lesion.centroid_ras).all() and (lesion.centroid_ras <= local.max(0)).all())

    def test_roi_and_lesion_class(self):
        Path(self.model).write_bytes(maximum_model.build(metadata={"patchmask.lesion_class": "0"}))
        region = np.zeros(self.array.shape, np.uint8)
        region[:, :, :20] = 1
        volume, roi = self.volume(self.array), self.volume(region, kind="vtkMRMLLabelMapVolumeNode")
        self.logic.start(volume, self.model, roi, stride=16, fill="linear", device="cpu")
        found = self.logic.finish()
        self.assertEqual(found.lesionClass, 0)
        self.logic.fillSegmentation(self.segmentation, *found)
        np.testing.assert_array_equal(self.segment_voxels(volume), (found.mask == 0))

    def test_no_lesion(self):
        volume = self.volume(np.zeros_like(self.array))
        self.assertEqual(self.run_logic(volume), [])
        self.assertFalse(self.segment_voxels(volume).any())
        self.assertEqual(self.surface().GetNumberOfPoints(), 0)

    def test_pixels_of_another_size_than_the_models(self):
        """As in cli_module_test.py."""
        model, found = DEMO / "model.safetensors", []
        for times, options in ((1, {}), (2, {}), (1, {"pixelMm": 3, "resample": False}), (1, {"pixelMm": 3, "threshold": 0.01})):
            volume = scene_case.demo_volume(times)
            self.run_logic(volume, model, stride=15, **options)
            found.append(self.segment_voxels(volume))
        self.assertTrue(found[0].any())
        np.testing.assert_array_equal(found[1], scene_case.enlarge(found[0], 2))
        np.testing.assert_array_equal(found[2], found[0])
        self.assertTrue((found[3] != found[0]).any())

    def test_scene_saved_and_read_back(self):
        volume, transform = self.volume(self.array), scene_case.transform()
        volume.SetAndObserveTransformNodeID(transform.GetID())
        self.run_logic(volume)
        bundle = Path(self.path("bundle"))
        bundle.mkdir()
        picture = vtk.vtkImageData()
        picture.SetDimensions(4, 4, 1)
        picture.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 3)
        self.assertTrue(slicer.app.applicationLogic().SaveSceneToSlicerDataBundleDirectory(str(bundle), picture))
        slicer.mrmlScene.Clear()
        slicer.mrmlScene.SetURL(str(next(bundle.glob("*.mrml"))))
        self.assertEqual(slicer.mrmlScene.Connect(), 1)
        self.segmentation, volume = slicer.util.getNode("vtkMRMLSegmentationNode*"), slicer.util.getNode("ct")
        np.testing.assert_array_equal(self.segment_voxels(volume), self.expected)
        np.testing.assert_allclose(ijk_to_ras(volume), LPS_TO_RAS, atol=1e-6)
        self.assertEqual(self.segmentation.GetTransformNodeID(), volume.GetTransformNodeID())
        self.assertIsNotNone(self.segmentation.GetTransformNodeID())
        self.segmentation.CreateClosedSurfaceRepresentation()
        self.assert_surface_encloses(self.expected, LPS_TO_RAS)

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

    def test_volume_that_is_removed_meanwhile(self):
        volume = self.volume(self.array)
        self.logic.start(volume, self.model, device="cpu")
        slicer.mrmlScene.RemoveNode(volume)
        self.assertIsNone(self.logic.finish())

    def test_failures(self):
        volume = self.volume(self.array)
        with self.assertRaisesRegex(ValueError, "no voxels"):
            self.logic.start(self.node("vtkMRMLScalarVolumeNode"), self.model)
        with self.assertRaisesRegex(ValueError, "none.safetensors: no such model file"):
            self.logic.start(volume, self.path("none.safetensors"))
        with self.assertRaisesRegex(RuntimeError, "stride 33"):
            self.logic.run(volume, self.segmentation, self.model, stride=33, device="cpu")
        sheared = LPS_TO_RAS.copy()
        sheared[:3, 2] = (0, 1, 2.5)  # a tilted gantry
        with self.assertRaisesRegex(RuntimeError, "right angles"):
            self.logic.run(self.volume(self.array, sheared), self.segmentation, self.model, device="cpu")
        with self.assertRaisesRegex(RuntimeError, "could not be written"):
            with mock.patch.object(module.tempfile, "TemporaryDirectory") as folder, self.assertLogs(level="ERROR"):
                folder.return_value.name = "/dev/null"
                self.logic.start(volume, self.model)
        with self.assertRaisesRegex(RuntimeError, "PythonSlicer is not on PATH"):
            with mock.patch.dict(os.environ, PATH="/nowhere"):
                self.logic.start(volume, self.model)
        moved = LPS_TO_RAS.copy()
        moved[0, 3] += 1
        with self.assertRaisesRegex(ValueError, "1 mm away"):
            self.logic.fillSegmentation(self.segmentation, volume, self.expected, moved)
        self.assertEqual(self.segmentation.GetSegmentation().GetNumberOfSegments(), 0)

    def test_code_of_the_page(self):
        page = (ROOT / "docs" / "slicer.md").read_text(encoding="utf-8")
        (code,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
        with mock.patch.dict(os.environ, PYTHONPATH=f"{MODULE}:{os.environ['PYTHONPATH']}"):
            command = [sys.executable, "-c", code]
            done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=120)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(done.stdout.splitlines()[-1], "succeeded ")
        self.assertTrue(os.path.exists(self.path("mask.nrrd")))


class Files(unittest.TestCase):
    """Qt is not here to say that a name is wrong."""

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
            if widget.get("class") == "QDoubleSpinBox":
                (limits,) = self.parameters[self.parameter_of(widget)].__metadata__
                (high,) = [p.findtext("double") for p in widget.iter("property") if p.get("name") == "maximum"]
                self.assertEqual((0, float(high)), (limits.low, limits.high))

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
