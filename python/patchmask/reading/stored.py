"""The bytes of a file's voxels: unpacked to the end, checksums included, and as many as the header announces."""

from __future__ import annotations

import bz2
import gzip
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Callable, Optional, Union

import numpy as np

from .problem import refuse

_CHUNK = 1 << 20
_NOT_WHOLE = "truncated or damaged: no whole {} data, or something behind them; copy it again"
_DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error, ValueError, OSError)


class _Zlib:
    """A zlib stream as a file to read."""

    def __init__(self, file: BinaryIO):
        self._file, self._stream = file, zlib.decompressobj()

    def read(self, length: int) -> bytes:
        parts: list[bytes] = []
        while length > 0 and not self._stream.eof:
            packed = self._stream.unconsumed_tail or self._file.read(_CHUNK)
            if not packed:
                raise EOFError("compressed data ended before the end of the stream")
            parts.append(self._stream.decompress(packed, length))
            length -= len(parts[-1])
        if self._stream.eof and (self._stream.unused_data or self._file.read(1)):
            raise ValueError("bytes behind the end of the stream")
        return b"".join(parts)


Stream = Union[BinaryIO, gzip.GzipFile, bz2.BZ2File, _Zlib]
ENCODINGS: dict[str, Callable[[BinaryIO], Stream]] = {
    "raw": lambda file: file,
    "gzip": lambda file: gzip.GzipFile(fileobj=file),
    "bzip2": bz2.BZ2File,
    "zlib": _Zlib,
}


def unpacked(path: Path, file: BinaryIO, encoding: str, skip: int, length: int) -> tuple[memoryview, int]:
    """`length` bytes behind the first `skip`, and how many come after them; `file` stands where the data begins."""
    there = os.fstat(file.fileno()).st_size - file.tell()
    if encoding == "raw" and there < skip + length:
        raise refuse(path, _short(there, skip + length))
    stream = ENCODINGS[encoding](file)
    try:
        content = stream.read(skip + length)
        more = sum(map(len, iter(lambda: stream.read(_CHUNK), b"")))
    except _DAMAGED:
        raise refuse(path, _NOT_WHOLE.format(encoding)) from None
    if len(content) < skip + length:
        raise refuse(path, _short(len(content), skip + length))
    return memoryview(content)[skip:], more


def beginning(path: Path, encoding: str, length: int) -> bytes:
    """At most so many bytes of the start."""
    with open(path, "rb") as file:
        try:
            return ENCODINGS[encoding](file).read(length)
        except _DAMAGED:
            raise refuse(path, _NOT_WHOLE.format(encoding)) from None


def _short(there: int, wanted: int) -> str:
    return f"truncated: {there} bytes, but the header announces {wanted}; copy it again"


def excess(more: int) -> list[str]:
    """The note on bytes that no header speaks of."""
    return [f"{more} bytes more than its header announces are passed over"] if more else []


def from_text(path: Path, text: bytes, kind: np.dtype[Any], count: int) -> np.ndarray:
    """Voxels written as numbers, each of which its type must hold."""
    words = text.split()
    if len(words) != count:
        raise refuse(path, f"truncated or damaged: {len(words)} numbers, but the header announces {count}")
    try:
        wide = np.array(words, float if kind.kind == "f" else np.uint64 if kind == np.uint64 else int)
        with np.errstate(over="ignore"):
            voxels = wide.astype(kind)
    except (ValueError, OverflowError):
        raise refuse(path, f"damaged: its voxels are not {count} numbers of type {kind.name}; copy it again") from None
    wrong = wide[np.isinf(voxels) != np.isinf(wide) if kind.kind == "f" else voxels != wide]
    if wrong.size:
        raise refuse(path, f"the value {wrong[0]}: does not fit its type {kind.name}; correct the type")
    return voxels


@dataclass(frozen=True)
class Data:
    """Where a header says its voxels are: behind it, or in other files, each with an equal part."""

    kind: np.dtype[Any]
    count: int  # voxels
    encoding: str  # of ENCODINGS, or "text" or "hex"
    names: Optional[list[str]] = None  # of the files beside the header; None: behind it
    line_skip: int = 0
    byte_skip: int = 0  # -1: the data end the file

    def read(self, header: Path, file: BinaryIO) -> tuple[np.ndarray, int]:
        """All voxels in the order of the file, and the number of bytes that are left over; `file` stands behind the
        header."""
        if self.names is None:
            return self._part(header, file, self.count)
        if len(set(self.names)) < len(self.names) or self.count % len(self.names):
            files = f"{len(self.names)} data files, {len(set(self.names))} of them different"
            raise refuse(header, f"{files}, for {self.count} voxels: must be an equal part each; correct its list")
        parts = []
        for name in self.names:
            path = header.parent / name
            if not path.is_file():
                raise refuse(header, f"its data file {name} is not there: copy it too")
            with open(path, "rb") as beside:
                parts.append(self._part(header, beside, self.count // len(self.names)))
            if len(self.names) > 1 and parts[-1][1]:
                raise refuse(header, f"its data file {name} is {parts[-1][1]} bytes too long: correct its list")
        return np.concatenate([voxels for voxels, _ in parts]), sum(more for _, more in parts)

    def _part(self, path: Path, file: BinaryIO, count: int) -> tuple[np.ndarray, int]:
        for _ in range(self.line_skip):
            file.readline()
        if self.encoding in ("text", "hex"):
            file.seek(max(0, self.byte_skip), os.SEEK_CUR)
            text = file.read()
            if self.encoding == "text":
                return from_text(path, text, self.kind, count), 0
            unhexed = bytes.fromhex(text.decode("ascii"))
            if len(unhexed) != count * self.kind.itemsize:
                raise refuse(path, _short(len(unhexed), count * self.kind.itemsize))
            return np.frombuffer(unhexed, self.kind), 0
        if self.byte_skip < 0:
            file.seek(max(file.tell(), os.fstat(file.fileno()).st_size - count * self.kind.itemsize))
        content, more = unpacked(path, file, self.encoding, max(0, self.byte_skip), count * self.kind.itemsize)
        return np.frombuffer(content, self.kind), more


def pattern(words: list[str]) -> list[str]:
    """The files that `slice%03d.raw FIRST LAST STEP` names."""
    first, last, step = (int(word) for word in words[1:4])
    if step == 0:
        raise ValueError(f"{' '.join(words)}: the step must not be 0")
    return [words[0] % number for number in range(first, last + (1 if step > 0 else -1), step)]
