"""The extension's logic without Slicer, and that its files fit together.

What has nodes and widgets is tested by Slicer's own test of the module (PatchmaskSegmentationTest)."""

import ast
import json
import os
import re
import subprocess
import sys
import time
import unittest
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import vtk
from vtk.util.numpy_support import vtk_to_numpy

ROOT = Path(__file__).resolve().parents[2]
EXTENSION = ROOT / "examples" / "slicer"
MODULE = EXTENSION / "PatchmaskSegmentation"
sys.path[:0] = [str(MODULE), str(ROOT / "tests" / "c")]
import maximum_model  # noqa: E402
import volume_files  # noqa: E402
from PatchmaskSegmentationLib.job import Job, check_package, read_lesion_class, segment_command  # noqa: E402
from PatchmaskSegmentationLib.masks import (  # noqa: E402
    binary_labelmap,
    check_same_grid,
    find_lesions,
    vtk_matrix,
)
from segment_case import SEGMENT, SIZES, SegmentCase  # noqa: E402

# Oblique, anisotropic, left-handed: columns are what a step along column, row, slice does in RAS.
C, S = np.cos(0.4), np.sin(0.4)
IJK_TO_RAS = np.array([[-0.7 * C, 0.8 * S, 0, 30], [0.7 * S, 0.8 * C, 0, -20], [0, 0, 2.5, 110], [0, 0, 0, 1]])


def two_lesions():
    mask = np.zeros((7, 30, 40), np.uint8)
    mask[1:3, 4:9, 10:22] = 1  # 120 voxels
    mask[4:7, 20:30, 35:40] = 1  # 150 voxels, at the volume's border
    mask[5, 2, 2] = 2  # another class
    return mask


def environment(package):
    return {**os.environ, "PYTHONPATH": str(package), "SEGMENT": SEGMENT}


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
        """What a segmentation node makes of the labelmap: closed, of about the volume, around the centroids."""
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

    def wait_until(self, condition, seconds=20):
        deadline = time.monotonic() + seconds
        while not condition():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)

    def test_progress_and_output(self):
        text = (
            "print('<filter-start>\\n<filter-name>x</filter-name>\\n</filter-start>', flush=True)\n"
            "print('<filter-progress>0.25</filter-progress>\\n<filter-progress>?</filter-progress>', flush=True)\n"
            "import time; time.sleep(1); print('<filter-end>\\n</filter-end>\\nsummary')"
        )
        job = self.python(text)
        self.assertEqual(job.state, "running")
        self.wait_until(lambda: job.fraction is not None)
        self.assertEqual((job.state, job.fraction, job.error), ("running", 0.25, ""))
        self.assertEqual(job.wait(20), "succeeded")
        self.assertEqual((job.fraction, job.output, job.error), (1.0, "summary", ""))

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
        for text in (
            "import time; print('<filter-progress>0</filter-progress>', flush=True); time.sleep(60)",
            "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            "print('<filter-progress>0</filter-progress>', flush=True); time.sleep(60)",
        ):
            job = self.python(text)
            self.wait_until(lambda: job.fraction is not None)
            began = time.monotonic()
            job.cancel()
            self.assertLess(time.monotonic() - began, 0.5)
            self.assertEqual(job.wait(20), "cancelled")
            self.assertLess(time.monotonic() - began, Job.GRACE_SECONDS + 5)
            self.assertEqual(job.error, "")
            job.cancel()  # of no effect afterwards
            self.assertEqual(job.state, "cancelled")

    def test_program_that_is_not_there(self):
        with self.assertRaises(OSError):
            Job(["/no/such/program"])


class Package(SegmentCase):
    """The command line, against a stand-in of the Python package, or the package where PATCHMASK_PYTHON_PACKAGE (a
    folder for PYTHONPATH) names it."""

    def setUp(self):
        super().setUp()
        self.package = Path(os.environ.get("PATCHMASK_PYTHON_PACKAGE") or ROOT / "tests" / "slicer" / "stand_in")

    def start(self, **options):
        environ = environment(self.package)
        progress = check_package(sys.executable, environ)
        names = ("input.nrrd", "mask.nrrd", "report.json", "model.safetensors")
        paths = [Path(self.path(name)) for name in names]
        command = segment_command(sys.executable, *paths, device="cpu", progress=progress, **options)
        return Job(command, environ), progress

    def test_whole_way(self):
        job, progress = self.start()
        self.assertEqual(job.wait(120), "succeeded", job.error)
        self.assert_mask(maximum_model.mask(SIZES, self.voxels))
        if "stand_in" in self.package.parts:
            self.assertTrue(progress)
        self.assertEqual(read_lesion_class(Path(self.path("report.json"))), 1)

    def test_lesion_class_is_the_models(self):
        with open(self.path("model.safetensors"), "wb") as file:
            file.write(maximum_model.build(metadata={"patchmask.lesion_class": "0"}))
        job, _ = self.start()
        self.assertEqual(job.wait(120), "succeeded", job.error)
        self.assertEqual(read_lesion_class(Path(self.path("report.json"))), 0)

    def test_options(self):
        roi = [int(x < 20) for _ in range(3 * 38) for x in range(44)]
        extra = [line for line in self.input_header() if line.startswith("space")]
        volume_files.write_volume(self.path("roi.nrrd"), SIZES, roi, "uint8", extra=extra)
        job, _ = self.start(stride=16, fill="linear", roi=Path(self.path("roi.nrrd")))
        self.assertEqual(job.wait(120), "succeeded", job.error)
        mask = np.reshape(self.read("mask.nrrd")[1], SIZES[::-1])
        self.assertFalse(mask[:, :, 20:].any())

    def input_header(self):
        with open(self.path("input.nrrd"), "rb") as file:
            return file.read().split(b"\n\n", 1)[0].decode().splitlines()

    def test_error_of_the_library(self):
        job, _ = self.start(stride=33)
        self.assertEqual(job.wait(120), "failed")
        self.assertIn("stride 33", job.error)
        self.assertFalse(os.path.exists(self.path("mask.nrrd")))

    def test_cancel_leaves_no_mask(self):
        with open(self.path("model.safetensors"), "wb") as file:
            file.write(maximum_model.build(width=32, patch_size=64, stride=3))
        sizes = (256, 256, 40)
        volume_files.write(
            self.path("input.nrrd"), volume_files.header(sizes), bytes(2 * sizes[0] * sizes[1] * sizes[2])
        )
        job, progress = self.start()
        deadline = time.monotonic() + 30
        while progress and not job.fraction and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.5)
        self.assertEqual(job.state, "running")
        job.cancel()
        self.assertEqual(job.wait(30), "cancelled")
        self.assertFalse(os.path.exists(self.path("mask.nrrd")))

    def test_package_that_is_not_there(self):
        empty = Path(self.path("empty"))
        empty.mkdir()
        environ = {**os.environ, "PYTHONPATH": str(empty), "PYTHONNOUSERSITE": "1"}
        installed = subprocess.run([sys.executable, "-c", "import patchmask"], env=environ, capture_output=True)
        if installed.returncode == 0:
            self.skipTest("the package is installed in this interpreter")
        with self.assertRaisesRegex(RuntimeError, "cannot run the Python package patchmask: .*No module named"):
            check_package(sys.executable, environ)
        with self.assertRaisesRegex(RuntimeError, "/no/such/python"):
            check_package("/no/such/python")


class Files(unittest.TestCase):
    """Slicer is not here to say that a name is wrong."""

    @classmethod
    def setUpClass(cls):
        cls.source = (MODULE / "PatchmaskSegmentation.py").read_text(encoding="utf-8")
        cls.tree = ast.parse(cls.source)
        cls.ui = ET.parse(MODULE / "Resources" / "UI" / "PatchmaskSegmentation.ui")
        cls.classes = {node.name: node for node in cls.tree.body if isinstance(node, ast.ClassDef)}

    def test_classes(self):
        for ending, base in (
            ("", "ScriptedLoadableModule"),
            ("Widget", "ScriptedLoadableModuleWidget"),
            ("Logic", "ScriptedLoadableModuleLogic"),
            ("Test", "ScriptedLoadableModuleTest"),
        ):
            node = self.classes[f"PatchmaskSegmentation{ending}"]
            self.assertEqual(node.bases[0].id, base)
        self.assertEqual(self.classes["PatchmaskSegmentationParameterNode"].decorator_list[0].id, "parameterNodeWrapper")

    def test_widgets_that_the_module_uses_are_in_the_ui_file(self):
        names = {widget.get("name") for widget in self.ui.iter("widget")}
        used = set(re.findall(r"self\.ui\.(\w+)", self.source))
        self.assertTrue(used)
        self.assertLessEqual(used, names)

    def test_every_parameter_has_a_widget(self):
        node = self.classes["PatchmaskSegmentationParameterNode"]
        fields = [field.target.id for field in node.body if isinstance(field, ast.AnnAssign)]
        shown = [p.findtext("string") for p in self.ui.iter("property") if p.get("name") == "SlicerParameterName"]
        self.assertEqual(sorted(shown), sorted(fields))

    def test_choices_of_the_ui_are_those_of_the_parameters(self):
        choices = dict(re.findall(r"(\w+): Annotated\[str, Choice\((\[[^]]*\])\)\]", self.source))
        for widget in self.ui.iter("widget"):
            if widget.get("class") == "QComboBox":
                (name,) = [
                    p.findtext("string") for p in widget.iter("property") if p.get("name") == "SlicerParameterName"
                ]
                texts = [item.findtext("property/string") for item in widget.iter("item")]
                self.assertEqual(texts, ast.literal_eval(choices[name]))

    def test_node_selectors_hear_of_the_scene(self):
        selectors = {w.get("name") for w in self.ui.iter("widget") if w.get("class") == "qMRMLNodeComboBox"}
        self.assertEqual({c.findtext("receiver") for c in self.ui.iter("connection")}, selectors)

    def test_cmake_names_every_file(self):
        text = (MODULE / "CMakeLists.txt").read_text(encoding="utf-8").replace("${MODULE_NAME}", MODULE.name)
        named = set(re.findall(r"^  (\S+\.(?:py|ui))$", text, re.MULTILINE))
        there = {p.relative_to(MODULE).as_posix() for p in MODULE.rglob("*") if p.suffix in (".py", ".ui")}
        self.assertEqual(named, there)
        self.assertIn(f"add_subdirectory({MODULE.name})", (EXTENSION / "CMakeLists.txt").read_text(encoding="utf-8"))

    def test_library_imports_nothing_of_slicer(self):
        for path in (MODULE / "PatchmaskSegmentationLib").glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                names += [node.module] if isinstance(node, ast.ImportFrom) else []
                for name in names:
                    self.assertNotIn(name.split(".")[0], ("slicer", "qt", "ctk", "mrml"), path)

    def test_catalogue_entry(self):
        entry = json.loads((EXTENSION / "Patchmask.json").read_text(encoding="utf-8"))
        self.assertIn("extension-catalog-entry-schema-v1.0.2.json", entry["$schema"])
        known = {"$schema": str, "category": str, "scm_url": str, "scm_revision": str, "scm_type": str}
        known |= {"build_dependencies": list, "dicom_support_rule": str, "build_subdirectory": str}
        known |= {"enabled": bool, "tier": int}
        self.assertLessEqual({"$schema", "category", "scm_url"}, set(entry))
        for key, value in entry.items():
            self.assertIs(type(value), known.get(key), key)
        self.assertIn(entry["scm_type"], ("git", "local"))
        self.assertTrue(1 <= entry["tier"] <= 5)
        schema = os.environ.get("PATCHMASK_SLICER_SCHEMA")
        if not schema:
            print("SKIPPED Slicer's schema: PATCHMASK_SLICER_SCHEMA names no file; its keys were checked")
            return
        import jsonschema

        jsonschema.validate(entry, json.loads(Path(schema).read_text(encoding="utf-8")))


if __name__ == "__main__":
    unittest.main()
