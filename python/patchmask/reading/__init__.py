"""Scans and masks from files: is this a grid of HU, whole and known? Read right, or refused with a reason.

    __init__    which reader                         grid      the checks that all formats share, values to HU
    dicom       dicom_folder (dicom_strangers) --> dicom_slices --> dicom_series --> dicom_pixels; dicom_segmentation
    nifti       nrrd       meta_image                stored    bytes of files, unpacked and counted

docs/scans.md has the table of what is read and what is refused.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import numpy as np
import SimpleITK as sitk

from ..errors import InvalidArgument
from .grid import Spacing, Volume, notes_of
from .problem import ImageError, refuse

if TYPE_CHECKING:
    from .dicom_slices import Slice

# The module of each suffix; imported when one is read, so that only that format's packages are needed.
_READERS = {
    ".nii.gz": "nifti",
    ".nii": "nifti",
    ".nrrd": "nrrd",
    ".nhdr": "nrrd",
    ".mha": "meta_image",
    ".mhd": "meta_image",
}
READ_SUFFIXES = tuple(_READERS)
# Python's words for text where a number must be.
_NO_NUMBER = re.compile(r"(?:could not convert string to float|invalid literal for int\(\) with base 10): (.*)")


def suffix_of(path: Path, suffixes: tuple[str, ...] = READ_SUFFIXES) -> Optional[str]:
    """Which of `suffixes` the name ends with, in its own spelling of capitals; None for others."""
    for suffix in suffixes:
        if path.name.lower().endswith(suffix):
            return path.name[-len(suffix) :]
    return None


def read(path: Path, series: Optional[str] = None, spacing: Optional[Spacing] = None) -> sitk.Image:
    """A scan in HU: a file, or a folder with a DICOM series (named by its UID where there are several).

    `spacing` in mm along columns, rows and slices, where the file does not say it. `notes_of` the image has what is
    doubtful.
    """
    return _read(Path(path), series, spacing, mask=False)


def read_roi(path: Path, series: Optional[str] = None, spacing: Optional[Spacing] = None) -> sitk.Image:
    """A volume of any numbers: as `read`, but a DICOM segmentation is one, too."""
    return _read(Path(path), series, spacing, mask=True)


def read_mask(path: Path, spacing: Optional[Spacing] = None) -> sitk.Image:
    """A volume of class numbers; refuses scans and probabilities, which would be scored or drawn as if they were."""
    image = read_roi(path, None, spacing)
    for plane in sitk.GetArrayViewFromImage(image):  # by slices: the comparisons are as large as what they compare
        wrong = plane[~((plane >= 0) & (plane <= 255) & (plane == np.floor(plane)))]
        if wrong.size:
            raise refuse(
                path, f"has the value {wrong[0]:g}: must be a mask, whole numbers of 0..=255, no scan or probability"
            )
    return image


def series_of(folder: Path) -> list[str]:
    """UIDs of the DICOM series of images in a folder, sorted."""
    from . import dicom

    return dicom.series_of(folder) or []


def slices_of(path: Path, series: Optional[str] = None) -> list[Slice]:
    """The slices of a DICOM scan, as files, frames and positions, in the order of the volume that `read` returns."""
    from . import dicom

    if not path.is_dir() and suffix_of(path) is not None:
        raise InvalidArgument(f"{path}: is no DICOM series, whose slices a DICOM segmentation refers to: leave out --dicom-seg")
    return dicom.slices_of(path, series)


def _read(path: Path, series: Optional[str], spacing: Optional[Spacing], mask: bool) -> sitk.Image:
    try:
        if not path.exists():
            raise refuse(path, "no such file or folder")
        if not path.is_dir():
            if not path.is_file():
                raise refuse(path, "is no regular file, which could be read twice: copy what it gives to one")
            if path.stat().st_size == 0:
                raise refuse(path, "is empty: copy it again")
        return _volume(path, series, mask).image(spacing)
    except (ImageError, InvalidArgument, ImportError):
        raise
    except MemoryError:
        raise refuse(path, "does not fit into memory; close other programs, or use a larger machine") from None
    except OSError as failed:
        raise refuse(path, f"cannot be read: {failed.strerror or failed}") from failed
    except Exception as failed:
        reason = " ".join(_NO_NUMBER.sub(r"\1 is no number", str(failed)).split()) or type(failed).__name__
        raise refuse(
            path, f"damaged, or not as its format demands ({reason}): copy it again, or convert it"
        ) from failed


def _volume(path: Path, series: Optional[str], mask: bool) -> Volume:
    suffix = None if path.is_dir() else suffix_of(path)
    if series is not None and not path.is_dir():
        raise InvalidArgument(f"{path}: is a file; a series is chosen in a folder of DICOM files")
    if suffix is not None:
        volume: Volume = importlib.import_module(f".{_READERS[suffix.lower()]}", __name__).read(path)
        return volume
    from . import dicom

    if path.is_dir():
        return dicom.read_folder(path, series, mask)
    if not dicom.is_dicom(path):
        raise refuse(path, f"not a DICOM folder and not one of {', '.join(READ_SUFFIXES)}")
    return dicom.read_file(path, mask)


__all__ = [
    "READ_SUFFIXES",
    "ImageError",
    "Spacing",
    "notes_of",
    "read",
    "read_mask",
    "read_roi",
    "series_of",
    "slices_of",
    "suffix_of",
]
