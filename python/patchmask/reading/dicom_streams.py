"""What a JPEG, JPEG-LS or JPEG 2000 stream says of itself, checked before a decoder sees it.

The decoders trust their input: GDCM ends the process at a table or a size that cannot be, CharLS takes minutes over a
stream without an end.

    start of image, (marker, length, content)..., start of scan, pixels, end of image      ITU T.81, annex B
"""

from __future__ import annotations

import struct

class Damaged(Exception):
    """Why pixels cannot be whole."""


Announced = tuple[int, int, int, int]  # bits, rows, columns, values per pixel

_FRAMES = (0xC0, 0xC1, 0xC3, 0xF7)  # baseline, extended, lossless, JPEG-LS
_TABLES, _SCAN, _PRESETS = 0xC4, 0xDA, 0xF8
_OTHERS = {*range(0xE0, 0xF0), 0xDB, 0xDD, 0xFE, _PRESETS}  # application data, quantization, restarts, comments


def announced(stream: bytes) -> Announced:
    """Raises Damaged for a stream that is none, or that no decoder should see."""
    at = stream.find(b"\xff\x4f\xff\x51")  # JPEG 2000, perhaps in the boxes of its own file format
    if at >= 0:
        right, bottom, left, top = struct.unpack_from(">4I", stream, at + 8)
        components, bits = struct.unpack_from(">HB", stream, at + 40)
        return (bits & 0x7F) + 1, bottom - top, right - left, components
    if stream[:2] != b"\xff\xd8" or not stream.rstrip(b"\0").endswith(b"\xff\xd9"):
        raise Damaged("a compressed frame without start or end")
    return _walk(stream)


def _walk(stream: bytes) -> Announced:
    """The segments up to the pixels."""
    at, found, lossless = 2, None, False
    while at + 4 <= len(stream):
        start, marker, length = struct.unpack_from(">BBH", stream, at)
        content = stream[at + 4 : at + 2 + length]
        if start != 0xFF or length < 2 or len(content) != length - 2:
            break
        if marker in _FRAMES and found is None and length >= 11:
            found, lossless = struct.unpack_from(">BHHB", content), marker == 0xC3
            if not 2 <= found[0] <= 16 or length != 8 + 3 * found[3]:
                break
        elif marker == _TABLES:
            if not _tables(content):
                break
        elif marker == _SCAN and found is not None and length == 6 + 2 * content[0]:
            first, last, shift = content[-3:]
            if content[0] != found[3] or lossless and not (1 <= first <= 7 and last == 0 and shift < found[0]):
                break
            return found
        elif marker not in _OTHERS or content[:5] == b"JFIF\0" and content[5:6] != b"\1":
            break
        at += 2 + length
    raise Damaged("a compressed frame whose header cannot be")


def _tables(content: bytes) -> bool:
    """Huffman tables: 16 counts of codes by their length, no more than fit, then the values of the codes."""
    while content:
        counts, values = content[1:17], content[17 : 17 + sum(content[1:17])]
        room = sum(count << (16 - length) for length, count in enumerate(counts, 1))
        if content[0] & 0xEC or len(counts) < 16 or len(values) != sum(counts) or room > 1 << 16:
            return False
        if content[0] < 0x10 and max(values, default=0) > 16:
            return False
        content = content[17 + len(values) :]
    return True
