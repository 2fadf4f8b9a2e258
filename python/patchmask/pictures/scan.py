"""The scan that is drawn: a CT with its result and, where there is one, the truth, turned to patient space."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np
import SimpleITK as sitk

from .. import images
from ..metrics import dice, without

WINDOW = (-160, 240)  # HU shown from black to white
BODY_HU, BONE_HU = -300, 190
TRUTH_COLOUR, RESULT_COLOUR = "#35c9f0", "#ff8a1f"
TRUTH_OVER_RESULT = "#b9f3ff"  # brighter: a dashed line on the result's colour
BODY_COLOUR, BONE_COLOUR = "#d8b9a3", "#f3ead8"


@dataclass
class Scan:
    """CT and masks as arrays [slice][row][column], axes towards superior, posterior, left, and their grid."""

    ct: np.ndarray  # HU
    truth: Optional[np.ndarray]  # bool
    result: np.ndarray  # bool
    spacing: tuple[float, ...]  # mm along column, row, slice
    index_to_world: np.ndarray  # 4 x 4, (column, row, slice, 1) -> mm in left-posterior-superior space
    notes: list[str]  # what is doubtful about the files

    @property
    def lesions(self) -> np.ndarray:
        """Voxels of a lesion in the result or in the truth."""
        return self.result if self.truth is None else self.truth | self.result

    @property
    def finding(self) -> str:
        return "Lesions" if self.result.any() else "No lesion in this mask"

    @property
    def title(self) -> str:
        return self.finding if self.truth is None else f"{self.finding}, Dice {dice(self.truth, self.result):.3f}"


def read_scan(
    ct_path: Path,
    mask_path: Path,
    truth_path: Optional[Path] = None,
    lesion_class: int = 1,
    series: Optional[str] = None,
    spacing: Optional[images.Spacing] = None,
) -> Scan:
    """Reads the volumes; raises ImageError if their grids differ."""
    ct = images.read(ct_path, series, spacing)

    def array(path: Path) -> Any:
        image = images.on_grid(images.read_mask(path, spacing), path, ct, ct_path)
        return sitk.GetArrayFromImage(images.turn(image))

    classes = array(mask_path)
    mask = classes == lesion_class
    notes = images.notes_of(ct) + [f"{mask_path} {note}" for note in without(classes, lesion_class)]
    truth = None if truth_path is None else array(truth_path) > 0
    turned = images.turn(ct)
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(turned.GetDirection(), (3, 3)) * turned.GetSpacing()
    matrix[:3, 3] = turned.GetOrigin()
    return Scan(sitk.GetArrayFromImage(turned), truth, mask, turned.GetSpacing(), matrix, notes)
