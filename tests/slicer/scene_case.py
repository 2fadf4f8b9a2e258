"""The common start of the tests on Slicer's scene: an empty scene, a model whose answer is known, and a folder for temporary files
in which nothing may be left."""

import sys
import time
from pathlib import Path

import numpy as np
import slicer
import slicer_host
import vtk

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "examples" / "slicer" / "PatchmaskSegmentation"
DEMO = ROOT / "examples" / "demo"
sys.path[:0] = [str(MODULE), str(ROOT / "tests" / "cli")]
import maximum_model  # noqa: E402
from segment_case import SIZES, SegmentCase  # noqa: E402

# IJK to RAS, oblique and anisotropic: columns are what a step along column, row, slice does. Slices as models are trained on
# them, a little oblique: columns to the patient's left, rows to the back.
C, S = np.cos(0.4), np.sin(0.4)
LPS_TO_RAS = np.array([[-0.7 * C, 0.8 * S, 0, 30], [-0.7 * S, -0.8 * C, 0, -20], [0, 0, 2.5, 110], [0, 0, 0, 1]])


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        slicer.app.processEvents()
        time.sleep(0.01)


def ijk_to_ras(volume):
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def enlarge(array, times):
    """[slice][row][column] with each pixel as `times` x `times`."""
    return array.repeat(times, 1).repeat(times, 2)


def demo_volume(times=1):
    """Part of the demo scan, which has pixels of 1.5 mm like the demo model, in pixels of 1.5 mm / `times`."""
    whole = slicer_host.volumes.AddArchetypeVolume(str(DEMO / "ct.nrrd"), "whole", 0)
    array, matrix = np.array(slicer.util.arrayFromVolume(whole)[15:18, 30:130, 50:150]), ijk_to_ras(whole)
    slicer.mrmlScene.RemoveNode(whole)
    shift = (1 / times - 1) / 2
    matrix[:3, 3] = (matrix @ (50 + shift, 30 + shift, 15, 1))[:3]
    matrix[:3, :2] /= times
    return slicer.util.addVolumeFromArray(enlarge(array, times), matrix, "demo")


def transform():
    """A transform node that turns the patient and moves it."""
    matrix = np.array([[C, -S, 0, 100], [S, C, 0, -50], [0, 0, 1, 20], [0, 0, 0, 1]])
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    return node


class SceneCase(SegmentCase):
    def setUp(self):
        super().setUp()
        slicer.mrmlScene.Clear()
        slicer.mrmlScene.GetSubjectHierarchyNode()  # Slicer always has one
        self.logged_before = len(slicer_host.log.GetOutput())
        temporary = Path(self.path("temporary"))
        temporary.mkdir()
        slicer_host.set_temporary_path(temporary)
        self.addCleanup(lambda: self.assertEqual(list(temporary.iterdir()), []))
        self.model = self.path("model.safetensors")
        self.array = np.reshape(self.voxels, SIZES[::-1]).astype(np.int16)
        self.expected = np.reshape(maximum_model.mask(SIZES, self.voxels), SIZES[::-1])

    def volume(self, array, ijk_to_ras=LPS_TO_RAS, kind="vtkMRMLScalarVolumeNode"):
        return slicer.util.addVolumeFromArray(np.ascontiguousarray(array), ijk_to_ras, "ct", kind)

    def node(self, kind):
        return slicer.mrmlScene.AddNewNodeByClass(kind)

    def logged(self):
        """What Slicer's error log got during this test."""
        return slicer_host.log.GetOutput()[self.logged_before :]
