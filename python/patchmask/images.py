"""Scans and masks: read (`reading`), turned to the axes that the network knows, and written on the file's grid.

    read --> turn so that slices are as the network knows them --> array ... mask --> turn back --> write

A network is trained on axial slices whose columns run to the patient's left and rows to the back (LPS, as DICOM has
them). Files store other axes too (NIfTI often columns to the right); `turn` flips and swaps axes, it never resamples,
and `turn_back` puts a mask on exactly the grid of the file.
"""

from __future__ import annotations

import glob
import itertools
import math
import os
from pathlib import Path
from typing import Optional

import numpy as np
import SimpleITK as sitk

from .reading import READ_SUFFIXES, ImageError, Spacing, notes_of, read, read_mask, read_roi, series_of, suffix_of
from .reading.grid import IS_PART, SLICE_TOLERANCE, numbers
from .writing import WRITE_SUFFIXES, write

__all__ = [
    "READ_SUFFIXES",
    "WRITE_SUFFIXES",
    "ImageError",
    "Spacing",
    "axes_of",
    "check_same_grid",
    "files_of",
    "find",
    "is_part",
    "like",
    "notes_of",
    "on_grid",
    "read",
    "read_mask",
    "read_roi",
    "series_of",
    "suffix_of",
    "turn",
    "turn_back",
    "voxel_mm3",
    "write",
]


def turn(image: sitk.Image, axes: str = "LPS") -> sitk.Image:
    """The same voxels with axes towards `axes` (three of L R, P A, S I), or as they are for "file"."""
    if axes == "file":
        return image
    if sorted("LPS"["LRPASI".index(c) // 2] if c in "LRPASI" else "?" for c in axes) != ["L", "P", "S"]:
        raise ImageError(f"axes {axes}: must be three letters, one each of L or R, P or A, S or I; or file")
    turned: sitk.Image = sitk.DICOMOrient(image, axes)
    return turned


def axes_of(image: sitk.Image) -> str:
    """Towards which sides of the patient the axes run, such as "RAS"; the nearest sides for oblique grids."""
    code: str = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(image.GetDirection())
    return code


def turn_back(image: sitk.Image, like: sitk.Image) -> sitk.Image:
    """`image`, on a turned grid of `like`, on the grid of `like`: size, spacing, origin and directions equal it."""
    back = image if image.GetDirection() == like.GetDirection() else sitk.DICOMOrient(image, axes_of(like))
    if back.GetSize() != like.GetSize() or not np.allclose(back.GetOrigin(), like.GetOrigin(), atol=1e-3):
        raise ImageError("the turned grid does not turn back onto the file's")  # cannot happen with rigid directions
    back = sitk.Image(back)
    back.CopyInformation(like)  # rid of rounding
    return back


def voxel_mm3(image: sitk.Image) -> float:
    """The volume of a voxel, also of a slightly sheared one."""
    return float(math.prod(image.GetSpacing()) * abs(np.linalg.det(np.reshape(image.GetDirection(), (3, 3)))))


def like(array: np.ndarray, image: sitk.Image) -> sitk.Image:
    """An array [slice][row][column] as an image on the grid of `image`."""
    result = sitk.GetImageFromArray(array)
    result.CopyInformation(image)
    return result


def check_same_grid(image: sitk.Image, path: Path, other: sitk.Image, other_path: Path) -> None:
    """Size, and to a thousandth of a millimetre spacing, origin and directions."""
    for what in ("Size", "Spacing", "Origin", "Direction"):
        if not _same(image, other, what):
            have, want = getattr(image, f"Get{what}")(), getattr(other, f"Get{what}")()
            raise ImageError(f"{path}: {what.lower()} {numbers(have)}, but {other_path} has {numbers(want)}")


def _same(image: sitk.Image, other: sitk.Image, what: str) -> bool:
    return np.allclose(getattr(image, f"Get{what}")(), getattr(other, f"Get{what}")(), rtol=0, atol=1e-3)


def is_part(image: sitk.Image) -> bool:
    """A DICOM segmentation, which has only the slices with something in them."""
    return bool(image.HasMetaDataKey(IS_PART))


def on_grid(mask: sitk.Image, path: Path, image: sitk.Image, image_path: Path) -> sitk.Image:
    """`mask`, which has the grid of `image`, or is a DICOM segmentation of some of its slices: the others are 0."""
    if is_part(mask) and _same(mask, image, "Spacing") and _same(mask, image, "Direction"):
        whole = sitk.Resample(mask, image, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
        first = np.array(image.TransformPhysicalPointToContinuousIndex(mask.GetOrigin()))
        there, all_there = (np.count_nonzero(sitk.GetArrayViewFromImage(one)) for one in (whole, mask))
        off = np.abs(first - np.round(first))
        if there == all_there and (off <= (1e-2, 1e-2, SLICE_TOLERANCE)).all():
            return whole
    check_same_grid(mask, path, image, image_path)
    return mask


def files_of(path: Path) -> list[Path]:
    """The files that a volume is read from: those of a folder, a header with its data, or the one that `path` is."""
    if path.is_dir():
        return [file for file in path.iterdir() if file.is_file() and not file.name.startswith(".")]
    if (suffix_of(path) or "").lower() in (".mhd", ".nhdr"):
        return list(path.parent.glob(f"{glob.escape(path.stem)}.*"))
    return [path] if path.exists() else []


Found = tuple[str, Path, Optional[str]]


def find(folder: Path) -> list[Found]:
    """Scans under a folder as (name, path, DICOM series or None), sorted by name: files by their suffixes, and folders
    that hold DICOM files, a scan per series. Links are followed. Hidden files and folders are passed over. What cannot
    be read is among them: reading it says why."""
    found: list[Found] = []

    def visit(here: Path, name: str, above: tuple[Path, ...]) -> None:
        resolved = Path(os.path.realpath(here))
        if resolved in above:
            return  # a link that leads back
        rest = False
        try:
            for entry in sorted(here.iterdir()):
                label = f"{name}/{entry.name}" if name else entry.name
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    visit(entry, label, (*above, resolved))
                elif suffix := suffix_of(entry):
                    found.append((label[: -len(suffix)], entry, None))
                elif not entry.exists():
                    found.append((label, entry, None))  # a dead link
                else:
                    rest = True
            if rest:
                found.extend(_series_in(here, name or resolved.name))
        except OSError:
            found.append((name or resolved.name, here, None))

    visit(folder, "", ())
    found.sort(key=lambda scan: (scan[0], str(scan[1])))
    for (name, path, _), (other, second, _) in itertools.pairwise(found):
        if name == other:
            raise ImageError(f"{path} and {second}: both would be called {name}; rename one")
    return found


def _series_in(folder: Path, name: str) -> list[Found]:
    from .reading import dicom

    series = dicom.series_of(folder)
    if series is None:
        return []
    return [(f"{name}/{uid}", folder, uid) for uid in series] if len(series) > 1 else [(name, folder, None)]
