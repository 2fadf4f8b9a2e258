"""Volumes as arrays [slice][row][column], read and written through the Python package (../python) and SimpleITK.

World space is left-posterior-superior in mm: columns run to the patient's left, rows to the back, slices to the head.
NIfTI is turned to that (scans of one collection lie in their files one way or another); NRRD is taken as it lies.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))
import patchmask  # noqa: E402
from patchmask import images, metrics, weights  # noqa: E402, F401


@dataclass
class Volume:
    voxels: np.ndarray  # [slices][rows][columns]
    spacing: tuple  # mm between slices, rows, columns
    origin: tuple = (0.0, 0.0, 0.0)  # mm, left-posterior-superior, centre of voxel [0][0][0]


def image_of(volume):
    """A SimpleITK image with axes towards left, posterior and superior."""
    image = sitk.GetImageFromArray(volume.voxels)
    image.SetSpacing([float(step) for step in reversed(volume.spacing)])
    image.SetOrigin([float(place) for place in volume.origin])
    return image


def write_nrrd(path, volume):
    """Raw, as the program `segment` reads it."""
    sitk.WriteImage(image_of(volume), str(path))


def read_volume(path):
    """A Volume from .nrrd, .nii or .nii.gz."""
    try:
        image = images.read(path)
    except images.ImageError as error:
        raise ValueError(str(error)) from error
    if str(path).endswith((".nii", ".nii.gz")):
        image = images.turn(image, "LPS")
    voxels = sitk.GetArrayFromImage(image)
    if voxels.dtype == np.float64:
        voxels = voxels.astype(np.float32)
    return Volume(voxels, image.GetSpacing()[::-1], image.GetOrigin())
