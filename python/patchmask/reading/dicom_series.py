"""A DICOM series as one volume: slices in the order of their positions, each with its own pixels made HU.

headers --> slices --> alike? --> in order along the normal, evenly, none missing or twice --> pixels, in threads
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from .dicom_folder import pydicom_warnings
from .dicom_pixels import pixels_of
from .dicom_slices import Slice, notes_on_values, slices_of
from .grid import SAME_SPACING, SLICE_TOLERANCE, Volume, numbers, rescaled
from .problem import ImageError, refuse

SAME_DIRECTION = 1e-3  # of a unit vector
_SPLIT = "no single volume; leave only the slices of one in the folder"


def read(path: Path, headers: list[Dataset]) -> Volume:
    """The volume of the slices in these files; `path` is the folder, or the one file."""
    slices, step, notes = slices_in_order(path, headers)
    first = slices[0]
    distance = float(np.linalg.norm(step)) if len(slices) > 1 else first.thickness
    directions = np.column_stack([*first.orientation, step / np.linalg.norm(step)])
    spacing = np.array([*first.pixel_spacing[::-1], distance])
    planes = _planes(headers, slices)
    voxels = rescaled(planes, [one.rescale or (1.0, 0.0) for one in slices])
    return Volume(path, voxels, directions, spacing, first.position, notes)


def slices_in_order(path: Path, headers: list[Dataset]) -> tuple[list[Slice], np.ndarray, list[str]]:
    """The slices along their normal, the step from one to the next in mm, and what is doubtful about their values."""
    with pydicom_warnings("ignore"):
        slices = [one for header in headers for one in _slices_of(header)]
        notes = notes_on_values(headers[0], slices[0])
    _check_alike(path, slices)
    return *_in_order(path, slices), notes


def _slices_of(header: Dataset) -> list[Slice]:
    try:
        return slices_of(header)
    except (ImageError, MemoryError):
        raise
    except Exception:
        raise refuse(header.filename, "its header is damaged: copy it again, or correct it") from None


def _check_alike(path: Path, slices: list[Slice]) -> None:
    """One grid needs slices of one size, spacing, orientation and frame of reference, and HU for all or for none."""
    first = slices[0]
    for one in slices[1:]:
        for what, same, have, want in (
            ("size", one.shape == first.shape, one.shape, first.shape),
            (
                "PixelSpacing",
                np.allclose(one.pixel_spacing, first.pixel_spacing, rtol=SAME_SPACING, atol=0, equal_nan=True),
                one.pixel_spacing,
                first.pixel_spacing,
            ),
            (
                "ImageOrientationPatient",
                np.allclose(one.orientation, first.orientation, rtol=0, atol=SAME_DIRECTION),
                one.orientation.ravel(),
                first.orientation.ravel(),
            ),
        ):
            if not same:
                raise refuse(path, f"{one.name} has {what} {numbers(have)}, {first.name} {numbers(want)}: {_SPLIT}")
        for what, has, wants in (
            ("Modality", one.modality, first.modality),
            ("RescaleType", one.units, first.units),
        ):
            if has != wants:
                raise refuse(path, f"{one.name} has {what} {has}, {first.name} {wants}: {_SPLIT}")
        if one.frame_of_reference != first.frame_of_reference:
            raise refuse(path, f"{one.name} and {first.name} have other frames of reference: {_SPLIT}")
        if (one.rescale is None) != (first.rescale is None):
            without, with_ = (one, first) if one.rescale is None else (first, one)
            raise refuse(
                path, f"{without.name} has no RescaleSlope and RescaleIntercept, {with_.name} has: write them in"
            )


def _in_order(path: Path, slices: list[Slice]) -> tuple[list[Slice], np.ndarray]:
    """The slices along their normal, and the step from one to the next in mm."""
    normal = np.cross(*slices[0].orientation)
    if len(slices) == 1:
        return slices, normal
    slices = sorted(slices, key=lambda one: float(one.position @ normal))
    positions = np.array([one.position for one in slices])
    along = np.diff(positions @ normal)
    typical = float(np.median(along))
    off = np.abs(along - typical) > SLICE_TOLERANCE * typical
    if typical == 0 or off.any():
        at = int(np.argmin(along)) if typical == 0 or along.min() < SLICE_TOLERANCE * typical else int(np.argmax(off))
        raise refuse(
            path,
            f"slices are {typical:g} mm apart, but {slices[at].name} and {slices[at + 1].name} {along[at]:g} mm: "
            "a slice is missing or there twice; complete the series, or leave one of each",
        )
    step = (positions[-1] - positions[0]) / (len(slices) - 1)
    astray = np.linalg.norm(positions - (positions[0] + np.outer(np.arange(len(slices)), step)), axis=1)
    if astray.max() > SLICE_TOLERANCE * typical:
        raise refuse(
            path,
            f"{slices[int(np.argmax(astray))].name} lies {astray.max():.3g} mm beside the line of the others: {_SPLIT}",
        )
    return slices, step


def _planes(headers: list[Dataset], slices: list[Slice]) -> list[np.ndarray]:
    """The stored pixels of each slice."""
    with pydicom_warnings("error"), ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        frames = {Path(header.filename): pixels for header, pixels in zip(headers, pool.map(pixels_of, headers))}
    planes = []
    for one in slices:
        pixels = frames[one.path] if one.frame is None or frames[one.path].ndim == 2 else frames[one.path][one.frame]
        if pixels.shape != one.shape:
            raise refuse(one.path, f"has pixels of {pixels.shape}, its header says {one.shape}: damaged; copy it again")
        planes.append(pixels)
    return planes
