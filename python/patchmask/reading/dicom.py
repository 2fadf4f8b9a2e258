"""DICOM: a file, or one series of a folder; images are scans, segmentations (SEG) are masks."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from pydicom.dataset import Dataset

from ..errors import InvalidArgument
from . import dicom_series
from .dicom_folder import Folder, cut_off, header_of, kind_of, look, pydicom_warnings
from .dicom_slices import Slice
from .grid import Volume
from .problem import ImageError, refuse


def is_dicom(path: Path) -> bool:
    with pydicom_warnings("ignore"):
        try:
            return header_of(path) is not None
        except ImageError:
            return True


def series_of(folder: Path) -> Optional[list[str]]:
    """UIDs of the series of images in a folder, sorted; None where no file is DICOM."""
    found = look(folder)
    return sorted(found.series) if found.is_dicom else None


def slices_of(path: Path, series: Optional[str]) -> list[Slice]:
    """The slices of a scan, a folder or a file, in the order of the volume that `read_folder` or `read_file` returns."""
    headers = _chosen(look(path), path, series, {})[1] if path.is_dir() else [_header(path)]
    return dicom_series.slices_in_order(path, headers)[0]


def read_file(path: Path, mask: bool) -> Volume:
    header = _header(path)
    return _read([header], path, mask, kind_of(header) == "segmentation")


def _header(path: Path) -> Dataset:
    with pydicom_warnings("ignore"):
        header = header_of(path)
    if header is None:
        raise refuse(path, "not a DICOM file")
    kind = kind_of(header)
    if kind == "":
        raise cut_off(path)
    if kind not in ("image", "segmentation"):
        raise refuse(path, f"is no image of a scanner, but {kind}: name the images")
    return header


def read_folder(folder: Path, series: Optional[str], mask: bool) -> Volume:
    """The one series, or that of the UID `series`."""
    found = look(folder)
    uid, headers = _chosen(found, folder, series, found.segmentations if mask else {})
    volume = _read(headers, folder, mask, uid in found.segmentations)
    volume.notes += found.notes
    return volume


def _chosen(
    found: Folder, folder: Path, series: Optional[str], segmentations: dict[str, list[Dataset]]
) -> tuple[str, list[Dataset]]:
    """The UID of the one series, or of `series`, and the headers of its files."""
    choice = {**found.series, **segmentations}
    if series is not None and series not in choice:
        raise InvalidArgument(f"{folder}: has no DICOM series {series}, only {', '.join(sorted(choice)) or 'none'}")
    if series is None and len(choice) > 1:
        raise refuse(folder, f"{len(choice)} DICOM series, name one with --series: {', '.join(sorted(choice))}")
    uid = series or next(iter(choice), None)
    for known, damage in found.damaged:
        if known == uid or known not in choice:  # a UID may be cut off, too
            raise damage
    if uid is None:
        raise refuse(folder, _why_none(found))
    return uid, choice[uid]


def _why_none(found: Folder) -> str:
    others = [*found.others, *(["DICOM segmentation"] if found.segmentations else [])]
    if others:
        return f"no DICOM series of images in this folder, only {', '.join(others)}: copy the series into it"
    return "no DICOM series in this folder; its subfolders are searched by `patchmask batch` only"


def _read(headers: list[Dataset], path: Path, mask: bool, segmentation: bool) -> Volume:
    if not segmentation:
        return dicom_series.read(path, headers)
    if not mask:
        raise refuse(path, "is a DICOM segmentation, no scan: name the series of images")
    from . import dicom_segmentation  # highdicom, which takes a second to import

    return dicom_segmentation.read(path, headers)
