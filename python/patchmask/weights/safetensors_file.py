"""Writes safetensors such that the same model gives the same bytes.

The safetensors package orders tensors, but writes the metadata in a random order (up to 0.8 at least): the header is
written again with sorted metadata, which changes no length and no offset.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Mapping

from safetensors.numpy import save

from .vgg import Array


def write(path: Path, tensors: dict[str, Array], metadata: Mapping[str, str]) -> None:
    """tensors: name -> contiguous array. metadata: key -> string."""
    written = bytearray(save(tensors, dict(metadata)))
    length = int.from_bytes(written[:8], "little")
    header = json.loads(written[8 : 8 + length])
    header["__metadata__"] = dict(sorted(metadata.items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode().ljust(length)
    if len(text) != length:
        raise RuntimeError(f"{path}: sorting the header changed its length from {length} to {len(text)} bytes")
    written[8 : 8 + length] = text
    path.write_bytes(written)
