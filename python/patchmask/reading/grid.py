"""The one check for all formats: a volume in HU on a rectangular grid whose spacing and axes are known.

    voxels [slice][row][column]     directions of the columns, rows and slices, spacing in mm, origin
      --> spacing known: positive, finite, not invented; or given by the caller
      --> axes at right angles, but for what rounding or 0.1 % of shear in public collections makes of them
      --> a SimpleITK image; what was doubtful goes along as notes

Space is LPS, as in DICOM: x to the patient's left, y to the back, z to the head, in mm.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

import numpy as np
import SimpleITK as sitk

from ..errors import InvalidArgument
from .problem import refuse

Spacing = tuple[float, float, float]

SHEAR_MAX = 0.01  # cosine between two axes: 0.6 degrees
SPACING_MIN, SPACING_MAX = 1e-3, 1e3  # mm; others are of another unit
SAME_SPACING = 1e-3  # relative; files round
SLICE_TOLERANCE = 0.1  # of the distance of slices: positions differ by rounding, a missing slice by 1
_NOTHING = 1e-12  # of a unit vector; ITK's linear algebra stumbles over smaller ones
NOTES, IS_PART = "patchmask.notes", "patchmask.is_part"  # keys of the image's metadata
_AXES = ("columns", "rows", "slices")
_UNITS = {"": 1.0, "mm": 1.0, "millimeter": 1.0, "cm": 10.0, "m": 1000.0, "um": 1e-3, "µm": 1e-3, "micron": 1e-3}

# The types that the library reads without a copy.
VOXELS = (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64)


@dataclass
class Volume:
    """A file as its reader found it; `image` decides whether it can be used."""

    path: Path
    voxels: np.ndarray  # [slice][row][column]
    directions: np.ndarray  # 3 x 3: the unit vectors of columns, rows and slices, each a column; NaN: unknown
    spacing: np.ndarray  # mm along them; NaN: unknown
    origin: np.ndarray  # centre of the first voxel
    notes: list[str] = field(default_factory=list)  # doubtful, but usable
    is_part: bool = False  # of a larger grid, on which it is 0

    @classmethod
    def of_affine(cls, path: Path, voxels: np.ndarray, affine: np.ndarray, notes: list[str]) -> Volume:
        """`affine`: 4 x 4, (column, row, slice, 1) to mm."""
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            directions = affine[:3, :3] / spacing
        return cls(path, voxels, directions, np.where(spacing > 0, spacing, np.nan), affine[:3, 3], notes)

    def image(self, given: Optional[Spacing] = None) -> sitk.Image:
        """The checked image; `given` is the spacing in mm where the file does not say it."""
        if self.voxels.size == 0:
            raise refuse(self.path, f"size {self.voxels.shape[::-1]}: must be at least 1 on each axis")
        spacing, directions = self._spacing(given), self._directions()
        if not np.isfinite(self.origin).all():
            raise refuse(self.path, f"origin {numbers(self.origin)}: must be finite numbers")
        image = sitk.GetImageFromArray(supported(self.voxels))
        image.SetSpacing(spacing.tolist())
        image.SetOrigin(self.origin.tolist())
        image.SetDirection(directions.ravel().tolist())
        image.SetMetaData(NOTES, "\n".join(self.notes))
        if self.is_part:
            image.SetMetaData(IS_PART, "")
        return image

    def _spacing(self, given: Optional[Spacing]) -> np.ndarray:
        known = np.isfinite(self.spacing) & (self.spacing > 0)
        if given is not None:
            if np.any(np.abs(self.spacing / given - 1)[known] > SAME_SPACING):
                raise InvalidArgument(
                    f"{self.path}: spacing {numbers(given)}: the file says {numbers(self.spacing)} mm; leave it out"
                )
            return np.where(known, self.spacing, given)
        if not known.all():
            unknown = " and ".join(name for name, there in zip(_AXES, known) if not there)
            raise refuse(
                self.path,
                f"the spacing of its {unknown} is unknown ({numbers(self.spacing)} mm): give it with --spacing X,Y,Z",
            )
        for spacing in self.spacing:
            if not SPACING_MIN <= spacing <= SPACING_MAX:
                raise refuse(
                    self.path,
                    f"spacing {numbers(self.spacing)} mm: must be {SPACING_MIN:g}..={SPACING_MAX:g}; "
                    "correct its header, which may count in another unit",
                )
        return self.spacing

    def _directions(self) -> np.ndarray:
        directions = self.directions.copy()
        unknown = ~np.isfinite(directions).all(axis=0)
        if unknown.sum() == 1:  # at right angles to the others
            at = int(np.argmax(unknown))
            directions[:, at] = np.cross(directions[:, at - 2], directions[:, at - 1])
        elif unknown.any():
            raise refuse(self.path, "the directions of its axes are unknown: write them into its header")
        lengths = np.linalg.norm(directions, axis=0)
        if not np.abs(lengths - 1).max() <= SHEAR_MAX:
            raise refuse(self.path, f"its directions have the lengths {numbers(lengths)}: must be 1; correct its header")
        off = np.abs(directions.T @ directions - np.eye(3)).max()
        if not off <= SHEAR_MAX:
            degrees = np.degrees(np.arcsin(min(off, 1)))
            raise refuse(
                self.path,
                f"its axes are {degrees:.1f} degrees off right angles (gantry tilt or shear): "
                "resample it to a rectangular grid first",
            )
        return np.where(np.abs(directions) < _NOTHING, 0, directions)


def supported(voxels: np.ndarray) -> np.ndarray:
    """The same numbers in a type that the library reads, in this machine's byte order."""
    kind = voxels.dtype
    if kind.type in VOXELS:
        return np.ascontiguousarray(voxels, kind.newbyteorder("="))
    if kind == np.bool_:
        return np.ascontiguousarray(voxels, np.uint8)
    whole = kind.kind in "iu" and -(2**31) <= int(voxels.min()) and int(voxels.max()) < 2**31
    return np.ascontiguousarray(voxels, np.int32 if whole else np.float64)


def rescaled(planes: list[np.ndarray], factors: list[tuple[float, float]]) -> np.ndarray:
    """slope * plane + intercept, each plane by its own: whole numbers where they are, else floating point."""
    whole = all(plane.dtype.kind in "iu" for plane in planes)
    whole &= all(slope.is_integer() and intercept.is_integer() for slope, intercept in factors)
    if all(factor == (1, 0) for factor in factors):
        return np.stack(planes)
    kind: type = np.float64
    if whole:
        ends = [
            int(slope) * int(end) + int(intercept)
            for plane, (slope, intercept) in zip(planes, factors)
            for end in (plane.min(), plane.max())
        ]
        kind = next((k for k in (np.int16, np.int32) if abs(max(ends, key=abs)) <= np.iinfo(k).max), np.float64)
    elif all(plane.dtype.kind in "iu" and plane.dtype.itemsize <= 2 for plane in planes):
        kind = np.float32  # holds every product of 16 bits to 1e-7
    result = np.empty((len(planes), *planes[0].shape), kind)
    for out, plane, (slope, intercept) in zip(result, planes, factors):
        if kind in (np.int16, np.int32):  # what overflows on the way comes back: the result fits
            slope_, intercept_ = np.array([int(slope), int(intercept)]).astype(kind)
            np.multiply(plane, slope_, out=out, dtype=kind, casting="unsafe")
            out += intercept_
        else:
            out[...] = plane.astype(np.float64) * slope + intercept
    return result


def millimetres(unit: str) -> float:
    """By the spellings that NRRD and MetaImage have for units; NaN: unknown."""
    return _UNITS.get(re.sub(r"(meter|micron)s$", r"\1", unit.lower().replace("metre", "meter")), math.nan)


def notes_of(image: sitk.Image) -> list[str]:
    """What was doubtful when the image was read, a sentence each."""
    return image.GetMetaData(NOTES).splitlines() if image.HasMetaDataKey(NOTES) else []


def numbers(values: object) -> str:
    return "(" + ", ".join(f"{value:g}" for value in np.asarray(values).tolist()) + ")"
