"""The stored pixels of one DICOM file, complete or refused.

Each transfer syntax has one decoder: where there are several, the one that fails loudly on damaged data. GDCM's JPEG
only complains on stderr and goes on with pixels of its own: what is said there is heard and is a failure.
"""

from __future__ import annotations

import os
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

import numpy as np
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels.utils import pixel_array

from .dicom_folder import transfer_syntax
from .dicom_streams import Damaged, announced
from .problem import refuse

_JPEG = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1)
_JPEG_LS = (uid.JPEGLSLossless, uid.JPEGLSNearLossless)
_JPEG_2000 = (uid.JPEG2000Lossless, uid.JPEG2000, uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K)
_STREAMS = (*_JPEG, *_JPEG_LS, *_JPEG_2000)
_DECODERS = {
    **dict.fromkeys(_JPEG, "gdcm"),
    **dict.fromkeys(_JPEG_LS, "pyjpegls"),
    **dict.fromkeys(_JPEG_2000, "pylibjpeg"),
    uid.RLELossless: "pydicom",
}
_hearing = threading.Lock()


def pixels_of(header: Dataset) -> np.ndarray:
    """[row][column], or [frame][row][column]. Warnings of pydicom must be errors meanwhile: it warns of wrong sizes."""
    path, syntax = Path(header.filename), transfer_syntax(header)
    header.file_meta.TransferSyntaxUID, name = syntax, syntax.name
    try:
        if syntax.is_encapsulated:
            _check_streams(header, syntax)
        else:
            _check_length(header)
        with _heard(syntax in _JPEG) as said:
            pixels = pixel_array(header, decoding_plugin=_DECODERS.get(syntax, ""), view_only=True)
        if said:
            raise Damaged(said[0])
        return pixels
    except MemoryError:
        raise
    except Damaged as failed:
        raise refuse(path, f"its pixels ({name}) are not whole: {failed}; copy it again") from None
    except Exception:  # of pydicom or a decoder; what it says is for its programmers
        raise refuse(
            path,
            f"its pixels ({name}) are damaged or of a kind that has no decoder here: copy it again, or convert it to "
            "uncompressed pixels",
        ) from None


def _check_length(header: Dataset) -> None:
    """As many bytes as the header says; zeros behind them, as some writers fill blocks, are taken off."""
    keyword = next((name for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData") if name in header), None)
    if keyword is None:
        raise Damaged("there are none")
    frames, content = int(header.get("NumberOfFrames") or 1), header[keyword].value
    wanted = frames * header.Rows * header.Columns * header.BitsAllocated // 8
    if len(content) < wanted or any(content[wanted + wanted % 2 :]):
        raise Damaged(f"{len(content)} bytes, but its rows, columns and frames need {wanted}")
    header[keyword].value = content[: wanted + wanted % 2]


def _check_streams(header: Dataset, syntax: uid.UID) -> None:
    """A stream for each frame; what it says of itself must be what the header says: decoders trust it, or end the
    process."""
    allocated, frames = header.BitsAllocated, int(header.get("NumberOfFrames") or 1)
    if "PixelData" not in header:
        raise Damaged("there are none")
    count = 0
    for count, stream in enumerate(generate_frames(header.PixelData, number_of_frames=frames), 1):
        if syntax not in _STREAMS:
            continue
        bits, *shape = announced(stream)
        fits = allocated == (8 if bits <= 8 else 16) if syntax in _JPEG else bits <= allocated
        if shape != [header.Rows, header.Columns, 1] or not fits:
            raise Damaged(
                f"rows, columns, values per pixel and bits {(*shape, bits)}, but the header says "
                f"{(header.Rows, header.Columns, 1, allocated)}"
            )
    if count != frames:
        raise Damaged(f"{count} of {frames} frames")


@contextmanager
def _heard(listen: bool) -> Iterator[list[str]]:
    """What the JPEG library says on stderr meanwhile. The words of others go on to there, unless decoding fails."""
    said: list[str] = []
    if not listen:
        yield said
        return
    with _hearing, tempfile.TemporaryFile() as file:
        stderr = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield said
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
        file.seek(0)
        for line in file:
            if b"JPEG" in line:
                said.append(line.decode(errors="replace").strip())
            else:
                os.write(2, line)
