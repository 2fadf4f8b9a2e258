"""What lies in a folder of DICOM files: its series of images, and what is none.

Only headers are parsed, once, and of those only the elements that are asked for later; pixels stay in the file.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterator, Optional

import pydicom
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
)

from .dicom_strangers import AGAIN, sort
from .problem import ImageError, refuse

ELEMENTS = (
    "SOPClassUID SOPInstanceUID Modality ImageType SeriesInstanceUID FrameOfReferenceUID InstanceNumber "
    "ImagePositionPatient ImageOrientationPatient PixelSpacing SliceThickness SpacingBetweenSlices "
    "SamplesPerPixel PhotometricInterpretation NumberOfFrames Rows Columns BitsAllocated BitsStored HighBit "
    "PixelRepresentation RescaleSlope RescaleIntercept RescaleType ModalityLUTSequence ImagesInAcquisition "
    "SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence PlanarConfiguration "
    "PixelData FloatPixelData DoubleFloatPixelData ExtendedOffsetTable ExtendedOffsetTableLengths"
).split()
_TAGS = [Tag(name) for name in ELEMENTS]
_DEFERRED = 1 << 10  # bytes: larger elements are read when they are asked for
_BARE = (b"\x08\x00", b"\x02\x00", b"\x00\x08", b"\x00\x02")  # groups that a file without preamble begins with


@dataclass
class Folder:
    """The DICOM files of one folder, by what they are."""

    series: dict[str, list[Dataset]] = field(default_factory=dict)  # headers of images, by the UID of their series
    segmentations: dict[str, list[Dataset]] = field(default_factory=dict)
    others: Counter[str] = field(default_factory=Counter)  # what else there is: RT Dose Storage, localizers
    damaged: list[tuple[Optional[str], ImageError]] = field(default_factory=list)  # with the series, where it is known
    passed_over: list[str] = field(default_factory=list)  # names of files that nobody knows

    @property
    def is_dicom(self) -> bool:
        return bool(self.series or self.segmentations or self.others or self.damaged)

    @property
    def notes(self) -> list[str]:
        names = self.passed_over
        more = f" and {len(names) - 3} more" * (len(names) > 3)
        return [f"no DICOM files, passed over: {' '.join(', '.join(names[:3]).split())}{more}"] if names else []


@contextmanager
def pydicom_warnings(action: str) -> Iterator[None]:
    """pydicom warns of what it does not understand: "ignore" that, or take it for an "error"."""
    with warnings.catch_warnings():
        warnings.filterwarnings(action, module=r"pydicom\b")  # type: ignore[arg-type]
        yield


def look(folder: Path) -> Folder:
    """Reads the headers of a folder; never raises because of a file in it."""
    found, slices, strange = Folder(), [], []
    with pydicom_warnings("ignore"):
        for path in sorted(folder.iterdir()):
            if path.name.startswith(".") or path.is_dir():
                continue
            try:
                header = header_of(path) if path.is_file() else None
                if header is None:
                    strange.append(path)
                    continue
                _sort(path, header, found)
            except ImageError as failed:
                found.damaged.append((None, failed))
            except OSError as failed:
                found.damaged.append((None, refuse(path, f"cannot be read: {failed.strerror}")))
            except Exception:
                found.damaged.append((None, refuse(path, f"its header is damaged: {AGAIN}")))
            slices.append(path)
    lost, found.passed_over = sort(strange, slices)
    found.damaged += [(None, failed) for failed in lost]
    for uid in [uid for uid, headers in found.series.items() if all(map(is_localizer, headers))]:
        found.others["localizer"] += len(found.series.pop(uid))
    return found


def header_of(path: Path) -> Optional[Dataset]:
    """The elements of a DICOM file that count here; None for other files."""
    with open(os.fspath(path), "rb") as file:
        start = file.read(132)
        if start[128:] != b"DICM" and start[:2] not in _BARE:
            return None
        file.seek(0)
        try:
            header = pydicom.dcmread(file, defer_size=_DEFERRED, specific_tags=_TAGS, force=True)
        except Exception:
            raise refuse(path, f"damaged or cut off: {AGAIN}") from None
    if start[128:] != b"DICM" and "SOPClassUID" not in header:
        return None
    return header


def kind_of(header: Dataset) -> str:
    """ "image", "segmentation", the name of another kind of object, or "" where what an image has is missing."""
    name = sop_class(header)
    if header.get("Modality") == "SEG":
        return "segmentation"
    if name.endswith("Storage") and not name.endswith("Image Storage"):
        return name
    return "image" if "Rows" in header and header.get("SeriesInstanceUID") else ""


def sop_class(header: Dataset) -> str:
    """The name of what the file is; the UID where it is a private one, "" where the file does not say."""
    uid = header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID")
    return UID(uid).name if uid else ""


def _sort(path: Path, header: Dataset, found: Folder) -> None:
    kind, uid = kind_of(header), header.get("SeriesInstanceUID")
    if kind == MediaStorageDirectoryStorage.name:
        return
    if kind == "":
        found.damaged.append((uid, cut_off(path)))
    elif kind in ("image", "segmentation"):
        (found.series if kind == "image" else found.segmentations).setdefault(uid, []).append(header)
    else:
        found.others[kind] += 1


def cut_off(path: Path) -> ImageError:
    return refuse(path, f"cut off or damaged before its pixels: {AGAIN}")


def is_localizer(header: Dataset) -> bool:
    return "LOCALIZER" in (header.get("ImageType") or ())


def transfer_syntax(dataset: Dataset) -> UID:
    """Of files without a meta header as pydicom has found it to be."""
    known = dataset.file_meta.get("TransferSyntaxUID")
    if known:
        return UID(known)
    implicit, little = dataset.original_encoding
    return ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
