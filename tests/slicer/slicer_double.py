"""As much of 3D Slicer as the extension's logic touches: nodes that hold an array and a matrix, NRRD files by
SimpleITK.

install() makes it what `import slicer` and `import qt` find. Widgets and the scene's events need Slicer itself."""

import sys
import tempfile
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import SimpleITK as sitk
import vtk

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # RAS to LPS and back


class Node:
    def __init__(self, name, scene):
        self.name, self.scene = name, scene

    def GetName(self):
        return self.name

    def GetScene(self):
        return self.scene

    def GetTransformNodeID(self):
        return f"transform of {self.name}"


class Volume(Node):
    """`array` [slice][row][column] and its IJK to RAS matrix."""

    def __init__(self, name, array, ijk_to_ras, scene="the scene"):
        super().__init__(name, scene)
        self.array, self.ijk_to_ras = array, np.asarray(ijk_to_ras, float)

    def GetImageData(self):
        return None if self.array is None else vtk.vtkImageData()

    def GetIJKToRASMatrix(self, matrix):
        matrix.DeepCopy(self.ijk_to_ras.ravel().tolist())


class OrientedImageData(vtk.vtkImageData):
    def SetGeometryFromImageToWorldMatrix(self, matrix):
        self.ijk_to_ras = array_from_matrix(matrix)


class Segmentation(Node):
    """Both vtkMRMLSegmentationNode and its vtkSegmentation; `segments`: id -> (name, image)."""

    def __init__(self, name="lesions", scene="the scene"):
        super().__init__(name, scene)
        self.segments, self.transform, self.reference, self.has_surface = {}, None, None, False

    def GetSegmentation(self):
        return self

    def GetSegmentIdBySegmentName(self, name):
        return next((key for key, (of, _) in self.segments.items() if of == name), "")

    def RemoveSegment(self, key):
        del self.segments[key]

    def AddSegmentFromBinaryLabelmapRepresentation(self, image, name, colour):
        assert len(colour) == 3
        self.segments[f"Segment_{len(self.segments) + 1}"] = (name, image)
        self.has_surface = False

    def CreateDefaultDisplayNodes(self):
        pass

    def SetReferenceImageGeometryParameterFromVolumeNode(self, volume):
        self.reference = volume

    def CreateClosedSurfaceRepresentation(self):
        self.has_surface = True

    def SetAndObserveTransformNodeID(self, key):
        self.transform = key


def array_from_matrix(matrix):
    return np.array([[matrix.GetElement(i, j) for j in range(4)] for i in range(4)])


def export_node(node, path, properties):
    assert properties == {"useCompression": 0}, properties
    image = sitk.GetImageFromArray(node.array)
    matrix = LPS @ node.ijk_to_ras
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((matrix[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(matrix[:3, 3].tolist())
    sitk.WriteImage(image, path, useCompression=False)
    return True


def load_label_volume(path, properties):
    image = sitk.ReadImage(path)
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    matrix[:3, 3] = image.GetOrigin()
    return Volume(Path(path).stem, sitk.GetArrayFromImage(image), LPS @ matrix)


def install():
    def module(name, **members):
        made = sys.modules[name] = ModuleType(name)
        made.__dict__.update(members)
        return made

    bases = ("ScriptedLoadableModule", "ScriptedLoadableModuleWidget", "ScriptedLoadableModuleLogic",
             "ScriptedLoadableModuleTest")
    module("qt")
    slicer = module(
        "slicer",
        app=SimpleNamespace(temporaryPath=tempfile.gettempdir(), processEvents=lambda: None),
        mrmlScene=SimpleNamespace(RemoveNode=lambda node: setattr(node, "scene", None)),
        vtkMRMLScalarVolumeNode=Volume,
        vtkMRMLLabelMapVolumeNode=Volume,
        vtkMRMLSegmentationNode=Segmentation,
        vtkOrientedImageData=OrientedImageData,
    )
    slicer.util = module(
        "slicer.util",
        VTKObservationMixin=type("VTKObservationMixin", (), {}),
        arrayFromVTKMatrix=array_from_matrix,
        arrayFromVolume=lambda volume: volume.array,
        exportNode=export_node,
        loadLabelVolume=load_label_volume,
    )
    module("slicer.i18n", tr=str, translate=lambda context, text: text)
    module("slicer.ScriptedLoadableModule", **{name: type(name, (), {}) for name in bases})
    module(
        "slicer.parameterNodeWrapper",
        Choice=lambda choices: SimpleNamespace(choices=choices),
        WithinRange=lambda low, high: SimpleNamespace(low=low, high=high),
        parameterNodeWrapper=lambda wrapped: wrapped,
    )
