"""DICOM segmentations as volumes of segment numbers, by highdicom: 0 where there is no segment.

Slices without any segment may be missing at the ends: `images.on_grid` adds them.
"""

from __future__ import annotations

from pathlib import Path

import highdicom
import numpy as np
from pydicom.dataset import Dataset

from .dicom_folder import pydicom_warnings
from .grid import SLICE_TOLERANCE, Volume
from .problem import refuse


def read(path: Path, headers: list[Dataset]) -> Volume:
    if len(headers) != 1:
        raise refuse(path, f"{len(headers)} DICOM segmentations: name one file")
    with pydicom_warnings("ignore"):
        try:
            segmentation = highdicom.seg.segread(headers[0].filename)
            if segmentation.segmentation_type == highdicom.seg.SegmentationTypeValues.FRACTIONAL:
                raise refuse(path, "its segments are fractions: needs a binary segmentation or a label map")
            volume = segmentation.get_volume(
                combine_segments=True, allow_missing_positions=True, rtol=SLICE_TOLERANCE
            )
        except (ValueError, RuntimeError, AttributeError) as failed:
            raise refuse(path, f"is no volume of separate segments ({failed}): convert it to NRRD") from None
    # highdicom counts (slice, row, column), from either end; series are read so that the grid is right-handed.
    affine, voxels = volume.affine[:, [2, 1, 0, 3]], np.asarray(volume.array)
    if np.linalg.det(affine[:3, :3]) < 0:
        affine[:3, 3] += affine[:3, 2] * (len(voxels) - 1)
        affine[:3, 2] *= -1
        voxels = voxels[::-1]
    found = Volume.of_affine(path, voxels, affine, [])
    found.is_part = True
    return found
