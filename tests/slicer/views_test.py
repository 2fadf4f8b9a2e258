"""The extension's result as a user sees it: Slicer's slice view and 3-D view, drawn without a window by what draws them in Slicer.
SLICER_VIEWS names a folder that gets the pictures."""

import ctypes.util
import os
import unittest
from pathlib import Path

import numpy as np
import scene_case
import slicer
import slicer_host
import vtk
from scene_case import SceneCase, ijk_to_ras
from vtk.util.numpy_support import vtk_to_numpy

import PatchmaskSegmentation as module

SIDE = 400  # pixels


@unittest.skipIf(ctypes.util.find_library("EGL") is None, "views are drawn by EGL, which is not there (Debian's libegl1)")
class Views(SceneCase):
    def setUp(self):
        """A bright ball in a dim cylinder, turned against the patient and under a transform, and the segmentation of the ball."""
        super().setUp()
        z, y, x = np.mgrid[:24, :90, :120]
        self.ball = (x - 45) ** 2 + (y - 40) ** 2 + (3 * (z - 12)) ** 2 < 15**2
        array = np.where((x - 60) ** 2 / 50**2 + (y - 45) ** 2 / 40**2 < 1, 60, -160)
        array[self.ball] = 160
        self.ct = self.volume(array.astype(np.int16))
        self.ct.SetAndObserveTransformNodeID(scene_case.transform().GetID())
        self.segmentation = self.node("vtkMRMLSegmentationNode")
        (lesion,) = module.PatchmaskSegmentationLogic().fillSegmentation(
            self.segmentation, self.ct, self.ball.astype(np.uint8), ijk_to_ras(self.ct)
        )
        self.to_world = slicer.util.arrayFromTransformMatrix(self.ct.GetParentTransformNode(), toWorld=True)
        self.centre = self.to_world @ (*lesion.centroid_ras, 1)
        self.window, self.renderer = vtk.vtkRenderWindow(), vtk.vtkRenderer()
        self.window.SetOffScreenRendering(True)
        self.window.SetSize(SIDE, SIDE)
        self.window.AddRenderer(self.renderer)
        self.interactor = vtk.vtkRenderWindowInteractor()
        self.interactor.SetRenderWindow(self.window)

    def show(self, view, factory, manager):
        """Draws the segmentation into the renderer, as the view's node asks for."""
        factory.GetInstance().SetMRMLApplicationLogic(slicer_host.logic)
        manager.SetMRMLApplicationLogic(slicer_host.logic)
        self.managers = slicer.vtkMRMLDisplayableManagerGroup()
        self.managers.Initialize(factory.GetInstance(), self.renderer)
        self.managers.AddDisplayableManager(manager)
        self.managers.SetMRMLDisplayableNode(view)

    def picture(self, name):
        """[row, from the bottom][column][RGB], 0 to 255; also in SLICER_VIEWS."""
        self.window.Render()
        grab = vtk.vtkWindowToImageFilter()
        grab.SetInput(self.window)
        grab.Update()
        if "SLICER_VIEWS" in os.environ:
            folder = Path(os.environ["SLICER_VIEWS"])
            folder.mkdir(parents=True, exist_ok=True)
            writer = vtk.vtkPNGWriter()
            writer.SetInputConnection(grab.GetOutputPort())
            writer.SetFileName(str(folder / f"{name}.png"))
            writer.Write()
        return vtk_to_numpy(grab.GetOutput().GetPointData().GetScalars()).reshape(SIDE, SIDE, 3).astype(int)

    def assert_orange(self, picture, expected, dice):
        """What has the lesion's colour, more red than blue, is `expected`."""
        orange = picture[:, :, 0] - picture[:, :, 2] > 30
        self.assertGreater(2 * np.count_nonzero(orange & expected) / (np.count_nonzero(orange) + np.count_nonzero(expected)), dice)

    def test_slice_view(self):
        logic = slicer_host.module_logic(slicer.vtkMRMLSliceLogic)
        view = logic.AddSliceNode("Red")
        view.SetDimensions(SIDE, SIDE, 1)
        logic.GetSliceCompositeNode().SetBackgroundVolumeID(self.ct.GetID())
        logic.FitSliceToAll(SIDE, SIDE)
        logic.SetSliceOffset(self.centre[2])
        mapper, background = vtk.vtkImageMapper(), vtk.vtkActor2D()
        mapper.SetColorWindow(255)
        mapper.SetColorLevel(127.5)
        mapper.SetInputConnection(logic.GetImageDataConnection())
        background.SetMapper(mapper)
        self.renderer.AddViewProp(background)
        self.show(view, slicer.vtkMRMLSliceViewDisplayableManagerFactory, slicer.vtkMRMLSegmentationsDisplayableManager2D())
        picture = self.picture("slice")

        y, x = np.mgrid[:SIDE, :SIDE]
        of_pixels = np.stack([x, y, np.zeros_like(x), np.ones_like(x)], -1)
        to_ijk = np.linalg.inv(self.to_world @ ijk_to_ras(self.ct)) @ slicer.util.arrayFromVTKMatrix(view.GetXYToRAS())
        i, j, k = np.rint(of_pixels @ to_ijk.T)[:, :, :3].astype(int).transpose(2, 0, 1)
        inside = (k >= 0) & (k < 24) & (j >= 0) & (j < 90) & (i >= 0) & (i < 120)
        self.assert_orange(picture, inside & self.ball[k.clip(0, 23), j.clip(0, 89), i.clip(0, 119)], dice=0.95)
        body = inside & ((i - 60) ** 2 / 40**2 + (j - 45) ** 2 / 30**2 < 1)
        self.assertGreater(picture[body].mean(), 50 + picture[~inside].mean())

    def test_3d_view(self):
        view = self.node("vtkMRMLViewNode")
        self.show(view, slicer.vtkMRMLThreeDViewDisplayableManagerFactory, slicer.vtkMRMLSegmentationsDisplayableManager3D())
        camera = self.renderer.GetActiveCamera()
        camera.SetFocalPoint(self.centre[:3])
        camera.SetPosition(self.centre[:3] + (0, 0, 500))  # from the head
        camera.SetViewUp(0, 1, 0)
        camera.ParallelProjectionOn()
        camera.SetParallelScale(40)  # mm from the middle to the upper edge
        self.renderer.ResetCameraClippingRange()
        picture = self.picture("surface")

        mm = 80 / SIDE
        y, x = (np.mgrid[:SIDE, :SIDE] - SIDE / 2 + 0.5) * mm
        turn = (self.to_world @ ijk_to_ras(self.ct))[:2, :2]
        column, row = np.linalg.inv(turn) @ np.stack([x.ravel(), y.ravel()])
        self.assert_orange(picture, (column**2 + row**2 < 15**2).reshape(SIDE, SIDE), dice=0.93)


if __name__ == "__main__":
    unittest.main()
