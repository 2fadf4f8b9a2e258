"""From a mask as an array to what a segmentation node takes, and to a list of lesions.

Arrays are [slice][row][column], as slicer.util.arrayFromVolume gives them. `ijk_to_ras` (4 x 4) leads from the voxel
(column, row, slice, 1) to patient coordinates RAS in mm."""

from dataclasses import dataclass

import numpy as np
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy


@dataclass(frozen=True)
class Lesion:
    voxels: int
    volume_mm3: float
    centroid_ras: tuple[float, float, float]  # mm


def check_same_grid(shape, ijk_to_ras, other_shape, other_ijk_to_ras, tolerance_mm=1e-2):
    """Raises ValueError where two volumes do not have all of their voxels at the same places."""
    if tuple(shape) != tuple(other_shape):
        raise ValueError(f"the mask has {other_shape[::-1]} voxels, the volume {shape[::-1]}")
    corners = np.array([(i, j, k, 1.0) for k in (0, shape[0]) for j in (0, shape[1]) for i in (0, shape[2])])
    difference = corners @ (np.asarray(ijk_to_ras) - np.asarray(other_ijk_to_ras)).T
    largest = float(np.abs(difference).max())
    if not largest <= tolerance_mm:
        raise ValueError(f"the mask lies {largest:.3g} mm away from the volume")


def binary_labelmap(mask, lesion_class=1):
    """The voxels of the lesion class as vtkImageData of 0 and 1, in voxel coordinates: origin 0, spacing 1."""
    lesion = np.ascontiguousarray(np.asarray(mask) == lesion_class, np.uint8)
    image = vtk.vtkImageData()
    image.SetDimensions(*lesion.shape[::-1])
    scalars = numpy_to_vtk(lesion.ravel(), deep=True, array_type=vtk.VTK_UNSIGNED_CHAR)
    scalars.SetName("ImageScalars")
    image.GetPointData().SetScalars(scalars)
    return image


def vtk_matrix(matrix):
    """The same 4 x 4 numbers as vtkMatrix4x4."""
    result = vtk.vtkMatrix4x4()
    result.DeepCopy(np.asarray(matrix, float).ravel().tolist())
    return result


def find_lesions(mask, ijk_to_ras, lesion_class=1):
    """The lesions of a mask, connected by faces, the largest first."""
    image = binary_labelmap(mask, lesion_class)
    connect = vtk.vtkImageConnectivityFilter()
    connect.SetInputData(image)
    connect.SetScalarRange(1, 1)
    connect.SetExtractionModeToAllRegions()
    connect.SetLabelModeToSizeRank()
    connect.SetLabelScalarTypeToInt()
    connect.Update()
    labels = vtk_to_numpy(connect.GetOutput().GetPointData().GetScalars()).reshape(np.shape(mask))
    count = connect.GetNumberOfExtractedRegions()
    matrix = np.asarray(ijk_to_ras, float)
    voxel_mm3 = abs(np.linalg.det(matrix[:3, :3]))
    inside = np.nonzero(labels)
    of = labels[inside]
    voxels = np.bincount(of, minlength=count + 1)[1:]
    middle = [np.bincount(of, axis, count + 1)[1:] / voxels for axis in inside[::-1]]  # column, row, slice
    centroids = np.column_stack([*middle, np.ones(count)]) @ matrix.T
    return [
        Lesion(int(n), float(n * voxel_mm3), tuple(float(v) for v in centroid[:3]))
        for n, centroid in zip(voxels, centroids)
    ]
