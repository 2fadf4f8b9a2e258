"""What becomes of the lesions of a mask: probabilities smoothed in 3-D, small lesions left out, a table of the rest.

    probability --> Gaussian in mm --> lesion from the threshold on --> lesions of at least min_mm3 --> mask, table

A lesion is a piece of voxels of the lesion class that touch by their faces. The Gaussian is a normalised convolution
(Knutsson and Westin 1993): what was not evaluated, outside the ROI or the crop, has no say and is no lesion. Voxels
that are lesion no more take the class of the nearest others.
"""

from __future__ import annotations

import csv
import io
import math
from dataclasses import astuple, dataclass
from typing import Optional

import numpy as np
import SimpleITK as sitk

COLUMNS = "label,voxels,volume_mm3,centroid_x_mm,centroid_y_mm,centroid_z_mm,diameter_mm".split(",")
LONGEST = 400  # of a kernel, in voxels


@dataclass(frozen=True)
class Refinement:
    """What is done to a mask; 0: nothing."""

    smooth_mm: float = 0.0  #: standard deviation of the Gaussian, in patient space
    min_mm3: float = 0.0  #: smaller lesions are left out


@dataclass(frozen=True)
class Lesion:
    """Measures of one lesion, mm in patient coordinates LPS."""

    label: int  #: from 1, the largest
    voxels: int
    volume_mm3: float
    centroid_x_mm: float
    centroid_y_mm: float
    centroid_z_mm: float
    diameter_mm: float  #: the largest between voxel centres


def smooth(probability: np.ndarray, evaluated: np.ndarray, grid: sitk.Image, mm: float) -> np.ndarray:
    """Probabilities [slice][row][column] on `grid`, smoothed over the voxels that are `evaluated`; 0 elsewhere."""
    variance = [mm**2 if length > 1 else 0.0 for length in grid.GetSize()]

    def blurred(array: np.ndarray) -> np.ndarray:
        image = sitk.GetImageFromArray(array.astype(np.float32))
        image.SetSpacing(grid.GetSpacing())
        result: np.ndarray = sitk.GetArrayFromImage(sitk.DiscreteGaussian(image, variance, LONGEST, 1e-3, True))
        return result

    weight = blurred(evaluated)
    sums = blurred(np.where(evaluated, probability, 0))
    smoothed = np.zeros_like(probability)
    np.divide(sums, weight, out=smoothed, where=evaluated)
    return smoothed


def label(lesion: np.ndarray, grid: sitk.Image, voxel_mm3: float, min_mm3: float = 0.0) -> sitk.Image:
    """A label map of boolean voxels on `grid`: n for the nth largest piece, 0 elsewhere and where pieces are smaller."""
    image = sitk.GetImageFromArray(lesion.astype(np.uint8))
    image.CopyInformation(grid)
    least = max(1, math.ceil(min_mm3 / voxel_mm3 - 1e-6))
    labels: sitk.Image = sitk.RelabelComponent(sitk.ConnectedComponent(image), least, True)
    return labels


def replaced(mask: np.ndarray, lesion: np.ndarray, lesion_class: int) -> np.ndarray:
    """`mask` with the lesion class where `lesion` is true, and there only."""
    others = np.unique(mask[mask != lesion_class])
    if len(others) > 1:
        # Markers grow into what has none, on level ground: by the nearest.
        markers = sitk.GetImageFromArray(np.where(mask == lesion_class, 0, mask.astype(np.uint16) + 1))
        flat = sitk.Image(markers.GetSize(), sitk.sitkUInt8)
        grown = sitk.MorphologicalWatershedFromMarkers(flat, markers, False)
        other = (sitk.GetArrayViewFromImage(grown) - 1).astype(np.uint8)
    else:
        other = np.full_like(mask, others[0] if len(others) else int(lesion_class == 0))
    return np.where(lesion, np.uint8(lesion_class), other)


def table(labels: sitk.Image, voxel_mm3: float) -> list[Lesion]:
    """The measures of every label. The diameter compares all pairs of border voxels: seconds for a large lesion."""
    measure = sitk.LabelShapeStatisticsImageFilter()
    measure.ComputeFeretDiameterOn()
    measure.ComputePerimeterOff()
    measure.Execute(labels)

    def lesion(number: int) -> Lesion:
        voxels = measure.GetNumberOfPixels(number)
        x, y, z = measure.GetCentroid(number)
        return Lesion(number, voxels, voxels * voxel_mm3, x, y, z, measure.GetFeretDiameter(number))

    return [lesion(number) for number in measure.GetLabels()]


def as_csv(lesions: list[Lesion]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([f"{value:.10g}" for value in astuple(lesion)] for lesion in lesions)
    return text.getvalue()


def refine(
    mask: np.ndarray,
    probability: Optional[np.ndarray],
    evaluated: Optional[np.ndarray],
    grid: sitk.Image,
    voxel_mm3: float,
    how: Refinement,
    lesion_class: int = 1,
    threshold: float = 0.0,
) -> tuple[np.ndarray, Optional[np.ndarray]]:
    """Mask and probability after `how`. Smoothed probabilities are lesion from `threshold` on, or 0.5 where that is 0."""
    if how == Refinement():
        return mask, probability
    lesion = mask == lesion_class
    if how.smooth_mm:
        assert probability is not None and evaluated is not None
        evaluated = evaluated.astype(bool)
        probability = smooth(probability, evaluated, grid, how.smooth_mm)
        lesion = evaluated & (probability >= np.float32(threshold or 0.5))
    if how.min_mm3:
        lesion = sitk.GetArrayFromImage(label(lesion, grid, voxel_mm3, how.min_mm3)) > 0
    return replaced(mask, lesion, lesion_class), probability
