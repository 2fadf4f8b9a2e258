"""Files in a folder of slices that are no DICOM files: slices that were lost, or what lies beside them.

    called as slices are (IM0005.dcm), or of no kind that is known and no text   a slice was damaged: refused
    of another kind (README, Thumbs.db, report.pdf)                              passed over
    others (IM0005.tmp)                                                          passed over, and said
"""

from __future__ import annotations

import re
from pathlib import Path

from .problem import ImageError, refuse

AGAIN = "copy it again, or remove it"

_SLICES = {"dcm", "dicom", "ima"}  # endings of names that slices have
_OTHERS = frozenset(
    "bmp bz2 cfg css csv db dll doc docx exe gif gz htm html inf ini jpeg jpg js json log md mha mhd nhdr nii nrrd pdf "
    "png pptx py rst rtf sh stl tif tiff tsv txt url xls xlsx xml yaml yml zip".split()
)
_OTHER_NAMES = ("dicomdir", "license", "readme")
_WRITTEN = bytes({*b"\t\n\f\r", *range(32, 127), *range(128, 256)})  # characters of texts in any encoding
_ASCII = bytes(range(128))


def sort(strangers: list[Path], slices: list[Path]) -> tuple[list[ImageError], list[str]]:
    """Why some of these `strangers` cannot stay, and the names of those that are to be told of."""
    endings = _SLICES | {_ending(path) for path in slices if not _is_other(path)}
    shapes = {_shape(path) for path in slices}
    lost, unknown = [], []
    for path in strangers:
        ending, other = _ending(path), _is_other(path)
        if _shape(path) in shapes or not other and ending in endings and (ending or not _is_text(path)):
            lost.append(refuse(path, f"is {_what(path)}, but called as slices are: {AGAIN}"))
        elif not other:
            unknown.append(path.name)
    return lost, unknown


def _ending(path: Path) -> str:
    """`dcm`; "" for numbers, as of names that are UIDs."""
    ending = path.suffix[1:].lower()
    return "" if ending.isdigit() else ending


def _shape(path: Path) -> str:
    """The name with a mark for its numbers, hexadecimal ones too: slices have it in common."""
    return re.sub(r"[0-9a-f._-]*[0-9][0-9a-f._-]*", "#", path.name.lower())


def _is_other(path: Path) -> bool:
    return _ending(path) in _OTHERS or path.name.lower().startswith(_OTHER_NAMES)


def _is_text(path: Path) -> bool:
    """No control characters, and most of it ASCII, by its first bytes."""
    start = _start(path)
    return bool(start) and not start.translate(None, _WRITTEN) and 2 * len(start.translate(None, _ASCII)) <= len(start)


def _what(path: Path) -> str:
    if not path.is_file():
        return "no regular file" if path.exists() else "a link to nowhere"
    return "no DICOM file" if _start(path).strip(b"\0") else "empty or only begun"


def _start(path: Path) -> bytes:
    if not path.is_file():
        return b""
    with open(path, "rb") as file:
        return file.read(132)
