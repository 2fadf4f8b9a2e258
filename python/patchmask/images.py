"""Scans and masks in files: DICOM folders, NIfTI, NRRD, MetaImage, through SimpleITK.

    read --> turn so that slices are as the network knows them --> array ... mask --> turn back --> write

A network is trained on axial slices whose columns run to the patient's left and rows to the back (LPS, as DICOM has
them). Files store other axes too (NIfTI often columns to the right); `turn` flips and swaps axes, it never resamples,
and `turn_back` puts a mask on exactly the grid of the file.
"""

from __future__ import annotations

import glob
import itertools
import os
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, Optional

import numpy as np
import SimpleITK as sitk

from . import truncation
from .errors import InvalidArgument
from .pending import Pending

READ_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
# One file each, so that a rename makes it appear at once.
WRITE_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")

# The types that the library reads without a copy.
_VOXELS = (
    sitk.sitkInt8,
    sitk.sitkUInt8,
    sitk.sitkInt16,
    sitk.sitkUInt16,
    sitk.sitkInt32,
    sitk.sitkFloat32,
    sitk.sitkFloat64,
)
SLICE_TOLERANCE = 0.1  # of the distance of slices: positions differ by rounding, a missing slice by 1


class ImageError(Exception):
    """A file that cannot be used; the text names it and says why."""


def suffix_of(path: Path, suffixes: tuple[str, ...] = READ_SUFFIXES) -> Optional[str]:
    """Which of `suffixes` the name ends with, in its own spelling of capitals; None for others."""
    for suffix in suffixes:
        if path.name.lower().endswith(suffix):
            return path.name[-len(suffix) :]
    return None


def series_of(folder: Path) -> list[str]:
    """UIDs of the DICOM series in a folder, sorted."""
    with _quiet():
        return sorted(sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder)))


def read(path: Path, series: Optional[str] = None) -> sitk.Image:
    """A volume in HU: a file, or a folder with a DICOM series (named by its UID where there are several)."""
    path = Path(path)
    if not path.exists():
        raise ImageError(f"{path}: no such file or folder")
    if path.is_dir():
        return _read_series(path, series)
    if series is not None:
        raise InvalidArgument(f"{path}: is a file; a series is chosen in a folder of DICOM files")
    if suffix_of(path) is None and not _is_dicom(path):
        raise ImageError(f"{path}: not a DICOM folder and not one of {', '.join(READ_SUFFIXES)}")
    lacking = truncation.missing(path)
    if lacking:
        raise ImageError(f"{path}: {lacking}")
    try:
        with _quiet():
            image = sitk.ReadImage(str(path))
    except RuntimeError as failed:
        raise ImageError(f"{path}: {_reason(failed)}") from None
    return _checked(image, path)


def read_mask(path: Path) -> sitk.Image:
    """A volume of class numbers; refuses scans and probabilities, which would be scored or drawn as if they were."""
    image = read(path)
    for plane in sitk.GetArrayViewFromImage(image):  # by slices: the comparisons are as large as what they compare
        wrong = plane[~((plane >= 0) & (plane <= 255) & (plane == np.floor(plane)))]
        if wrong.size:
            raise ImageError(
                f"{path}: has the value {wrong[0]:g}: must be a mask, whole numbers of 0..=255, no scan or probability"
            )
    return image


def _is_dicom(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"


def _read_series(folder: Path, series: Optional[str]) -> sitk.Image:
    found = series_of(folder)
    if not found:
        raise ImageError(
            f"{folder}: no DICOM series in this folder; its subfolders are searched by `patchmask batch` only"
        )
    if series is None and len(found) > 1:
        raise ImageError(f"{folder}: {len(found)} DICOM series, name one with --series: {', '.join(found)}")
    if series is not None and series not in found:
        raise InvalidArgument(f"{folder}: has no DICOM series {series}, only {', '.join(found)}")
    with _quiet():
        names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series or found[0])
        try:
            _check_slices(folder, names)
            image = sitk.ReadImage(names)
        except RuntimeError as failed:
            raise ImageError(f"{folder}: {_reason(failed)}") from None
    return _checked(image, folder)


def _check_slices(folder: Path, names: tuple[str, ...]) -> None:
    """Refuses a series with a slice missing or doubled, or sheared by a gantry tilt: its grid would be a lie."""
    positions = []
    normal = np.array([0.0, 0.0, 1.0])
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    for name in names:
        reader.SetFileName(name)
        reader.ReadImageInformation()
        if reader.GetDimension() == 3 and reader.GetSize()[2] > 1:
            return  # an enhanced file holds the whole volume
        positions.append(reader.GetOrigin())
        normal = np.reshape(reader.GetDirection(), (3, 3))[:, 2] if reader.GetDimension() == 3 else normal
    if len(positions) < 2:
        return
    steps = np.diff(np.array(positions), axis=0)
    along = steps @ normal
    typical = float(np.median(np.abs(along)))
    if typical == 0 or np.any(np.abs(np.abs(along) - typical) > SLICE_TOLERANCE * typical):
        at = int(np.argmax(np.abs(np.abs(along) - typical)))
        raise ImageError(
            f"{folder}: slices are {typical:g} mm apart, but {Path(names[at]).name} and {Path(names[at + 1]).name} "
            f"{abs(along[at]):g} mm: a slice is missing or there twice"
        )
    aside = np.linalg.norm(steps - np.outer(along, normal), axis=1)
    if np.any(aside > SLICE_TOLERANCE * typical):
        raise ImageError(
            f"{folder}: slices shift sideways by {aside.max():g} mm each (gantry tilt): straighten it first"
        )


def _checked(image: sitk.Image, path: Path) -> sitk.Image:
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        image = image[:, :, :, 0]
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        if image.GetDimension() == 3:
            raise ImageError(f"{path}: has {image.GetNumberOfComponentsPerPixel()} values per voxel: needs one")
        raise ImageError(
            f"{path}: has {image.GetDimension()} axes: needs 3, one value per voxel "
            "(take one time point out of a series)"
        )
    if image.GetPixelID() not in _VOXELS:
        image = sitk.Cast(image, sitk.sitkFloat64)
    return image


def _reason(failed: RuntimeError) -> str:
    """ITK's exceptions are paragraphs with source lines; the last line says what happened."""
    lines = [line.strip() for line in str(failed).splitlines() if line.strip()]
    return lines[-1].removeprefix("Error:").strip() if lines else "cannot be read"


@contextmanager
def _quiet() -> Iterator[None]:
    """ITK writes warnings to stderr, where this package has one line at most."""
    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before)


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


def like(array: np.ndarray, image: sitk.Image) -> sitk.Image:
    """An array [slice][row][column] as an image on the grid of `image`."""
    result = sitk.GetImageFromArray(array)
    result.CopyInformation(image)
    return result


def check_same_grid(image: sitk.Image, path: Path, other: sitk.Image, other_path: Path) -> None:
    """Size, and to a thousandth of a millimetre spacing, origin and directions."""
    for what in ("Size", "Spacing", "Origin", "Direction"):
        have, want = getattr(image, f"Get{what}")(), getattr(other, f"Get{what}")()
        if not np.allclose(have, want, rtol=0, atol=1e-3):
            raise ImageError(f"{path}: {what.lower()} {_numbers(have)}, but {other_path} has {_numbers(want)}")


def _numbers(values: Any) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"


def write(image: sitk.Image, path: Path, pending: Pending) -> None:
    """Writes an image under its temporary name; compressed, apart from NRRD, which the program `segment` reads
    uncompressed."""
    temporary = pending.place(path)
    compress = (suffix_of(path, WRITE_SUFFIXES) or "").lower() not in (".nrrd", ".nii")
    try:
        sitk.WriteImage(image, str(temporary), useCompression=compress)
    except RuntimeError as failed:
        raise ImageError(f"{path}: {_reason(failed)}") from None


def files_of(path: Path) -> list[Path]:
    """The files that a volume is read from: those of a folder, a header with its data, or the one that `path` is."""
    if path.is_dir():
        return [file for file in path.iterdir() if file.is_file() and not file.name.startswith(".")]
    if (suffix_of(path) or "").lower() in (".mhd", ".nhdr"):
        return list(path.parent.glob(f"{glob.escape(path.stem)}.*"))
    return [path] if path.exists() else []


def find(folder: Path) -> Iterator[tuple[str, Path, Optional[str]]]:
    """Scans under a folder as (name, path, DICOM series or None), sorted by name: files by their suffixes, and folders
    that hold DICOM files, a scan per series. Hidden files and folders are passed over."""
    found = []
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        here = Path(root)
        relative = here.relative_to(folder).as_posix()
        volumes = [here / name for name in files if not name.startswith(".") and suffix_of(Path(name))]
        for path in volumes:
            suffix = suffix_of(path) or ""
            found.append((path.relative_to(folder).as_posix()[: -len(suffix)], path, None))
        if len(volumes) < sum(not name.startswith(".") for name in files):
            series: list[Any] = series_of(here)
            base = here.resolve().name if relative == "." else relative
            many = len(series) > 1
            found += [(f"{base}/{uid}" if many else base, here, uid if many else None) for uid in series]
    found.sort(key=lambda scan: (scan[0], str(scan[1])))
    for (name, path, _), (other, second, _) in itertools.pairwise(found):
        if name == other:
            raise ImageError(f"{path} and {second}: both would be called {name}; rename one")
    yield from found
