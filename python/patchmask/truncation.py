"""Detects NIfTI and MetaImage files that lack voxels which their header announces.

SimpleITK fills what a truncated NIfTI file lacks with zeros, without a word, and says of a truncated MetaImage that
there is no such file. NRRD and DICOM need no help: there it refuses by itself, with a reason.

    header --> bytes that must be there     against     bytes that are there, unzipped to the end, CRC included
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, Optional, Union

_CHUNK = 1 << 20
_NIFTI_BYTES = {2: 1, 4: 2, 8: 4, 16: 4, 64: 8, 256: 1, 512: 2, 768: 4, 1024: 8, 1280: 8}  # of a voxel, by datatype
_META_BYTES = {"CHAR": 1, "SHORT": 2, "INT": 4, "LONG": 4, "FLOAT": 4, "LONG_LONG": 8, "DOUBLE": 8}


def missing(path: Path) -> Optional[str]:
    """Why a file is not whole; None where it is, and for headers that are not understood, which SimpleITK judges."""
    name = path.name.lower()
    try:
        if name.endswith((".nii", ".nii.gz")):
            return _nifti(path)
        return _meta_image(path) if name.endswith((".mha", ".mhd")) else None
    except (ValueError, OverflowError):  # numbers that are none
        return None


def _nifti(path: Path) -> Optional[str]:
    try:
        with _unzipped(path) as file:
            header = file.read(348)
            there = len(header) + sum(map(len, iter(lambda: file.read(_CHUNK), b"")))
    except (EOFError, gzip.BadGzipFile, zlib.error) as failed:
        return f"truncated or damaged: {failed}"
    return _shortage(there, _nifti_length(header))


def _unzipped(path: Path) -> Union[BinaryIO, gzip.GzipFile]:
    """By content, as the NIfTI library does: a file called .nii.gz may be plain."""
    with open(path, "rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if zipped else open(path, "rb")


def _nifti_length(header: bytes) -> int:
    """Bytes from the start of the file to the end of its voxels; 0 for what is no NIfTI-1 in one file."""
    if header[344:] != b"n+1\0":
        return 0
    order = "<" if header[:4] == struct.pack("<i", 348) else ">"
    axes, *lengths = struct.unpack_from(f"{order}8h", header, 40)
    (kind,) = struct.unpack_from(f"{order}h", header, 70)
    (offset,) = struct.unpack_from(f"{order}f", header, 108)
    voxels = math.prod(max(1, int(length)) for length in lengths[:axes])
    return int(offset) + voxels * _NIFTI_BYTES.get(kind, 0)


def _meta_image(path: Path) -> Optional[str]:
    fields: dict[str, str] = {}
    with open(path, "rb") as file:
        while "ElementDataFile" not in fields and (line := file.readline(_CHUNK)):
            key, _, value = line.decode("latin-1").partition("=")
            fields[key.strip()] = value.strip()
        start = file.tell()
    source = fields.get("ElementDataFile", "LIST")
    data, start = (path, start) if source == "LOCAL" else (path.parent / source, 0)
    if not data.is_file():
        return None  # not there, or slices in many files
    if fields.get("CompressedData", "").lower() == "true":
        wanted = int(fields.get("CompressedDataSize", 0))
    else:
        kind = fields.get("ElementType", "").removeprefix("MET_").removeprefix("U")
        channels = int(fields.get("ElementNumberOfChannels", 1))
        wanted = math.prod(map(int, fields.get("DimSize", "0").split())) * channels * _META_BYTES.get(kind, 0)
    return _shortage(data.stat().st_size - start, wanted)


def _shortage(there: int, wanted: int) -> Optional[str]:
    return f"truncated: {there} bytes, but the header announces {wanted}" if there < wanted else None
