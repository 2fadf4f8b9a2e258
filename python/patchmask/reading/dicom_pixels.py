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
from .dicom_streams import announced
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
        _take_padding_off(header)
        if syntax in _STREAMS:
            _check_streams(header, syntax in _JPEG)
        with _heard(syntax in _JPEG) as said:
            pixels = pixel_array(header, decoding_plugin=_DECODERS.get(syntax, ""), view_only=True)
        if said:
            raise ValueError(said[0])
        return pixels
    except MemoryError:
        raise
    except RuntimeError:  # of the decoder; what it says is for its programmers
        raise refuse(
            path,
            f"its pixels ({name}) are damaged or of a kind that has no decoder here: copy it again, or convert it to "
            "uncompressed pixels",
        ) from None
    except Exception as failed:
        reason = " ".join((str(failed) or type(failed).__name__).split(" - ")[0].split())
        raise refuse(path, f"its pixels ({name}) are not whole: {reason}; copy it again") from None


def _take_padding_off(header: Dataset) -> None:
    """Zeros behind uncompressed pixels: some writers fill blocks. Anything else there is an error."""
    if transfer_syntax(header).is_encapsulated or "PixelData" not in header:
        return
    bits = header.get("NumberOfFrames", 1) * header.Rows * header.Columns * header.BitsAllocated
    wanted = (int(bits) // 8 + 1) // 2 * 2
    if len(header.PixelData) > wanted and not any(header.PixelData[wanted:]):
        header.PixelData = header.PixelData[:wanted]


def _check_streams(header: Dataset, is_jpeg: bool) -> None:
    """What each compressed frame says of itself must be what the header says: decoders trust it, or end the process."""
    allocated, frames = header.BitsAllocated, int(header.get("NumberOfFrames") or 1)
    for stream in generate_frames(header.PixelData, number_of_frames=frames):
        bits, *shape = announced(stream)
        fits = allocated == (8 if bits <= 8 else 16) if is_jpeg else bits <= allocated
        if shape != [header.Rows, header.Columns, 1] or not fits:
            raise ValueError(
                f"rows, columns, values per pixel and bits {(*shape, bits)}, but the header says "
                f"{(header.Rows, header.Columns, 1, allocated)}"
            )


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
