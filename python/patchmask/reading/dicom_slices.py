"""What a DICOM file says of each of its slices: position, orientation, spacing, and how its pixels become HU.

A classic file is one slice; of a multi-frame file the functional groups of each frame count, then the shared ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import numpy as np
from pydicom.dataset import Dataset

from .dicom_folder import is_localizer, sop_class
from .grid import SHEAR_MAX
from .grid import numbers as shown
from .problem import refuse

_VALUES = "PixelValueTransformationSequence"
_HU = ("", "HU", "US")  # types of rescaling that a CT has: HU, or not specified
_WHOLE = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated")
_WHOLE_INTEGERS = (*_WHOLE, "BitsStored", "PixelRepresentation")


@dataclass(frozen=True)
class Slice:
    """One slice of a series, by its own numbers."""

    path: Path
    frame: Optional[int]  # of a multi-frame file, from 0
    shape: tuple[int, int]  # rows, columns
    position: np.ndarray  # mm, LPS, centre of the first pixel
    orientation: np.ndarray  # 2 x 3: the directions along a row and down a column
    pixel_spacing: np.ndarray  # mm between rows, between columns; NaN: unknown
    thickness: float  # mm, else the spacing that the header has; NaN: unknown
    rescale: Optional[tuple[float, float]]  # slope and intercept
    units: str  # HU, else what RescaleType says
    modality: str
    frame_of_reference: str

    @property
    def name(self) -> str:
        return self.path.name if self.frame is None else f"frame {self.frame + 1} of {self.path.name}"


def slices_of(header: Dataset) -> list[Slice]:
    """The slices of a file; ImageError where what is needed is missing or is none of a CT's or MR's."""
    path = Path(header.filename)
    _check_pixels(path, header)
    per_frame, shared = (header.get(f"{which}FunctionalGroupsSequence") or [] for which in ("PerFrame", "Shared"))
    frames = header.get("NumberOfFrames")
    if frames == 0:
        raise refuse(path, "NumberOfFrames 0: must be at least 1; correct it")
    frames = int(frames or 1)
    if not per_frame and not shared:
        if frames > 1:
            raise refuse(path, f"{frames} frames without positions: split it into one file a slice, with positions")
        return [_slice(path, None, header, [header])]
    if len(per_frame) != frames:
        raise refuse(path, f"{frames} frames, but {len(per_frame)} positions of frames: damaged; copy it again")
    return [_slice(path, at, header, [groups, *shared[:1]]) for at, groups in enumerate(per_frame)]


def _slice(path: Path, frame: Optional[int], header: Dataset, groups: list[Dataset]) -> Slice:
    def numbers(sequence: str, keyword: str, count: int) -> Optional[np.ndarray]:
        if (owner := _owner(groups, header, sequence)) is None:
            return None
        try:
            value = owner.get(keyword)
            if value is None or value == "":
                return None
            found = np.atleast_1d(np.asarray(value, float))
        except (TypeError, ValueError, ArithmeticError):
            found = np.empty(0)
        if found.shape != (count,) or not np.isfinite(found).all():
            text = owner.get_item(keyword).value  # as it is in the file, where it could not be converted
            text = text.decode("latin-1") if isinstance(text, bytes) else text
            raise refuse(path, f"{keyword} {text}: must be {count} finite number{'s' * (count > 1)}; correct it")
        return found

    kind = _owner(groups, header, "CTImageFrameTypeSequence")
    if frame is not None and kind is not None and "LOCALIZER" in (kind.get("FrameType") or ()):
        raise refuse(path, f"frame {frame + 1} is a localizer, no slice of the volume: split the file")
    position = numbers("PlanePositionSequence", "ImagePositionPatient", 3)
    orientation = numbers("PlaneOrientationSequence", "ImageOrientationPatient", 6)
    if position is None or orientation is None:
        lacking = "ImagePositionPatient" if position is None else "ImageOrientationPatient"
        raise refuse(
            path, f"has no {lacking}: where its slice lies is unknown; write it in, or convert to NRRD by hand"
        )
    gram = np.reshape(orientation, (2, 3)) @ np.reshape(orientation, (2, 3)).T
    if np.abs(np.sqrt(gram.diagonal()) - 1).max() > SHEAR_MAX or abs(gram[0, 1]) > SHEAR_MAX:
        raise refuse(
            path,
            f"ImageOrientationPatient {shown(orientation)}: must be two directions of length 1 at right angles; "
            "correct it",
        )
    spacing = numbers("PixelMeasuresSequence", "PixelSpacing", 2)
    thickness = [numbers("PixelMeasuresSequence", keyword, 1) for keyword in ("SliceThickness", "SpacingBetweenSlices")]
    rescale = [numbers(_VALUES, f"Rescale{which}", 1) for which in ("Slope", "Intercept")]
    return Slice(
        path,
        frame,
        (int(header.Rows), int(header.Columns)),
        position,
        orientation.reshape(2, 3),
        np.full(2, np.nan) if spacing is None else np.where(spacing > 0, spacing, np.nan),
        next((float(number[0]) for number in thickness if number is not None and number[0] > 0), np.nan),
        _factors(path, header, *rescale),
        "HU" if (units := str((_owner(groups, header, _VALUES) or header).get("RescaleType") or "")) in _HU else units,
        header.get("Modality") or ("CT" if sop_class(header).endswith("CT Image Storage") else "unknown"),
        str(header.get("FrameOfReferenceUID") or ""),
    )


def _owner(groups: list[Dataset], header: Dataset, sequence: str) -> Optional[Dataset]:
    """What says it: the frame's own functional group, else the shared one; these are not mixed."""
    if groups[0] is header:
        return header
    items = next((group.get(sequence) for group in groups if group.get(sequence)), None)
    return items[0] if items else header if sequence == _VALUES else None


def _factors(
    path: Path, header: Dataset, slope: Optional[np.ndarray], intercept: Optional[np.ndarray]
) -> Optional[tuple[float, float]]:
    if slope is None and intercept is None:
        if header.get("Modality") == "CT" and header.get("PixelRepresentation") == 0:
            raise refuse(
                path,
                "has no RescaleSlope and RescaleIntercept, and unsigned pixels: its HU are unknown; "
                "write them in (usually 1 and -1024)",
            )
        return None
    if slope is None or intercept is None or slope[0] == 0:
        have = [None if number is None else float(number[0]) for number in (slope, intercept)]
        raise refuse(path, f"RescaleSlope {have[0]}, RescaleIntercept {have[1]}: must be there both, slope not 0")
    return float(slope[0]), float(intercept[0])


def _check_pixels(path: Path, header: Dataset) -> None:
    """One grey value per pixel, of a type that can be scaled to HU."""
    if is_localizer(header):
        raise refuse(path, "is a localizer, no slice of the volume: move it out of the folder")
    for keyword in _WHOLE_INTEGERS if "PixelData" in header else _WHOLE:
        if not isinstance(header.get(keyword), int):
            raise refuse(path, f"{keyword} {header.get(keyword)}: must be one whole number; copy it again")
    samples, meaning = header.SamplesPerPixel, header.get("PhotometricInterpretation")
    if samples != 1 or meaning not in ("MONOCHROME1", "MONOCHROME2"):
        raise refuse(path, f"{samples} x {meaning} per pixel: must be one grey value, of a CT; leave the file out")
    if header.get("ModalityLUTSequence"):
        raise refuse(path, "its values go through a modality LUT, which no CT has: convert it to HU first")
    allocated = header.get("BitsAllocated")
    stored = header.get("BitsStored", allocated)
    if (
        allocated not in (8, 16, 32, 64)
        or header.get("HighBit", stored - 1) != stored - 1
        or not 1 <= stored <= allocated
    ):
        raise refuse(
            path,
            f"BitsAllocated {allocated}, BitsStored {stored}, HighBit {header.get('HighBit')}: must be whole bytes "
            "that begin with the lowest; convert it",
        )


def notes_on_values(header: Dataset, first: Slice) -> list[str]:
    """Why the values may be no HU."""
    if first.modality != "CT":
        mosaic = ["is a mosaic of slices side by side, taken as one"] * ("MOSAIC" in (header.get("ImageType") or ()))
        return [f"its modality is {first.modality}: its values are no HU", *mosaic]
    if first.rescale is None:
        return ["has no RescaleSlope and RescaleIntercept: its values are taken as HU"]
    return [] if first.units == "HU" else [f"RescaleType {first.units}: its values are no HU"]
