"""What every reader says when a file cannot be used."""

from __future__ import annotations

from pathlib import Path
from typing import Union

NOT_ONE = "not a {} file: copy it again, or give it the suffix of its format"
AXES = "has {} axes: needs 3, one value per voxel (take one time point out of a series)"
VALUES = "has {} values per voxel: needs one (take one channel out)"


class ImageError(Exception):
    """A file that cannot be used; the text names it, says why and what to do."""


def refuse(path: Union[Path, str], why: str) -> ImageError:
    return ImageError(f"{path}: {why}")
