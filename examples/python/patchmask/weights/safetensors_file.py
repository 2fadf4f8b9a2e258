"""Writes safetensors: 8 bytes of header length, a JSON header, the tensors one after another.

No package is needed for that, and the same model gives the same bytes. The file appears under its name complete, or
not at all: it is written beside it under a temporary name and renamed.
"""

import json
import os
import tempfile

TYPES = {"float16": "F16", "float32": "F32", "float64": "F64"}


def write(path, tensors, metadata):
    """tensors: name -> contiguous array of floats. metadata: key -> string."""
    header, offset = {"__metadata__": dict(sorted(metadata.items()))}, 0
    for name, value in sorted(tensors.items()):
        end = offset + value.nbytes
        header[name] = {"dtype": TYPES[value.dtype.name], "shape": list(value.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the tensors begin at a multiple of 8
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for _, value in sorted(tensors.items()):
                file.write(memoryview(value.astype(value.dtype.newbyteorder("<"), copy=False)).cast("B"))
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp's files are for their owner only
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
