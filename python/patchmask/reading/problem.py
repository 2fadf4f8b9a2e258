"""What every reader says when a file cannot be used."""

from __future__ import annotations

from pathlib import Path
from typing import Union


class ImageError(Exception):
    """A file that cannot be used; the text names it, says why and what to do."""


def refuse(path: Union[Path, str], why: str) -> ImageError:
    return ImageError(f"{path}: {why}")
