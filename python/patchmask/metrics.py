"""How well a mask agrees with the truth: voxels (Dice), lesions found, false positives, volumes.

dice              2 |A and B| / (|A| + |B|), voxels; 1 where both are empty
lesions           connected components of the truth, corners included (26 neighbours)
found             lesions of which at least `overlap` (0.2) of the voxels are in the mask
false positives   components of the mask that touch no voxel of any lesion
volumes           mm3 in patient space: voxels times the product of the spacing
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Optional, Sequence

import numpy as np
import SimpleITK as sitk


@dataclass(frozen=True)
class Metrics:
    """Numbers for one scan; None where a ratio has nothing to divide by."""

    dice: float
    sensitivity: Optional[float]  #: share of the lesions' voxels that are in the mask
    precision: Optional[float]  #: share of the mask's voxels that are lesion
    lesions: int
    lesions_found: int
    lesion_sensitivity: Optional[float]  #: lesions_found / lesions
    false_positives: int
    truth_mm3: float
    mask_mm3: float
    lesion_mm3: tuple[float, ...]  #: each true lesion, largest first
    missed_mm3: tuple[float, ...]  #: lesions not found, largest first
    false_positive_mm3: tuple[float, ...]  #: largest first

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def dice(truth: np.ndarray, mask: np.ndarray) -> float:
    """2 |truth and mask| / (|truth| + |mask|) of boolean arrays; 1 where both are empty."""
    total = int(truth.sum()) + int(mask.sum())
    return 2 * int((truth & mask).sum()) / total if total else 1.0


def components(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Connected components, corners included: array of numbers from 1, 0 elsewhere, and how many there are."""
    labels = sitk.ConnectedComponent(sitk.GetImageFromArray(mask.astype(np.uint8)), True)
    array = sitk.GetArrayFromImage(labels)
    return array, int(array.max(initial=0))


def without(mask: np.ndarray, number: int) -> list[str]:
    """A note where a mask has voxels of other classes only, such as one of 0 and 255."""
    classes = np.unique(mask[mask != 0])
    if not classes.size or number in classes or number == 0:
        return []
    named = ", ".join(f"{found:g}" for found in classes[:5])
    return [f"has no voxel of class {number}, only of {named}: name the lesions' with --lesion-class"]


def compare(mask: np.ndarray, truth: np.ndarray, spacing: Sequence[float], overlap: float = 0.2) -> Metrics:
    """`mask` and `truth` are boolean arrays [slice][row][column] on one grid; spacing in mm, in any order."""
    mask, truth = np.asarray(mask, bool), np.asarray(truth, bool)
    if mask.shape != truth.shape or mask.ndim != 3:
        raise ValueError(f"mask {mask.shape}, truth {truth.shape}: must be two volumes of one shape")
    if not 0 < overlap <= 1:
        raise ValueError(f"overlap {overlap}: must be above 0 and at most 1")
    voxel = math.prod(float(step) for step in spacing)
    lesions, count = components(truth)
    sizes = np.bincount(lesions.ravel(), minlength=count + 1)[1:]
    covered = np.bincount(lesions[mask], minlength=count + 1)[1:]
    found = covered >= overlap * sizes
    parts, part_count = components(mask)
    part_sizes = np.bincount(parts.ravel(), minlength=part_count + 1)[1:]
    false = np.bincount(parts[truth], minlength=part_count + 1)[1:] == 0
    both, in_mask, in_truth = int((mask & truth).sum()), int(mask.sum()), int(truth.sum())

    def volumes(voxels: np.ndarray) -> tuple[float, ...]:
        return tuple(round(float(n) * voxel, 3) for n in sorted(voxels, reverse=True))

    return Metrics(
        dice=dice(truth, mask),
        sensitivity=both / in_truth if in_truth else None,
        precision=both / in_mask if in_mask else None,
        lesions=count,
        lesions_found=int(found.sum()),
        lesion_sensitivity=float(found.mean()) if count else None,
        false_positives=int(false.sum()),
        truth_mm3=round(in_truth * voxel, 3),
        mask_mm3=round(in_mask * voxel, 3),
        lesion_mm3=volumes(sizes),
        missed_mm3=volumes(sizes[~found]),
        false_positive_mm3=volumes(part_sizes[false]),
    )
