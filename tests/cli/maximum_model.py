"""The smallest VGG16 whose answer is known: the lesion logit of a patch is its largest intensity.

Every convolution hands channel 0 on (centre tap 1), the poolings take the maximum, and the dense layer
compares it with THRESHOLD. Patches of 32 px leave one position, so that it is the maximum of the patch.
"""

import json
import struct

THRESHOLD = 0.5  # the logit of class 0
PATCH = 32
STRIDE = 8
WINDOW = (-160.0, 240.0)
CONVOLUTIONS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)  # torchvision's numbers


def safetensors(tensors, metadata):
    """`tensors`: name -> (shape, list of floats), stored as F32."""
    entries, data = {"__metadata__": metadata}, b""
    for name, (shape, values) in tensors.items():
        packed = struct.pack(f"<{len(values)}f", *values)
        offsets = [len(data), len(data) + len(packed)]
        entries[name] = {"dtype": "F32", "shape": shape, "data_offsets": offsets}
        data += packed
    head = json.dumps(entries).encode()
    head += b" " * (-len(head) % 8)
    return struct.pack("<Q", len(head)) + head + data


def build(width=1, patch_size=PATCH, stride=STRIDE, metadata=()):
    """The bytes of the model; `width` channels in every convolution make it slower, not different."""
    tensors, channels = {}, 1
    for number in CONVOLUTIONS:
        weight = [0.0] * (width * channels * 9)
        weight[4] = 1.0  # [out 0][in 0][centre]
        tensors[f"features.{number}.weight"] = ([width, channels, 3, 3], weight)
        tensors[f"features.{number}.bias"] = ([width], [0.0] * width)
        channels = width
    features = width * (patch_size // 32) ** 2
    dense = [0.0] * (2 * features)
    dense[features] = 1.0  # [class 1][channel 0, first position]
    tensors["classifier.0.weight"] = ([2, features], dense)
    tensors["classifier.0.bias"] = ([2], [THRESHOLD, 0.0])
    known = {"patchmask.patch_size": str(patch_size), "patchmask.stride": str(stride)}
    return safetensors(tensors, {**known, **dict(metadata)})


def centres(extent, first=0, stride=STRIDE):
    return range(first, extent, stride)


def nearest(position, points):
    """Index of the nearest centre; ties go to the lower index."""
    return min(range(len(points)), key=lambda i: (abs(points[i] - position), i))


def intensity(hu, window=WINDOW):
    return min(max((hu - window[0]) / (window[1] - window[0]), 0.0), 1.0)


def logits(sizes, voxels, stride=STRIDE, window=WINDOW):
    """The lesion logit at [slice][patch y][patch x]."""
    width, height, depth = sizes

    def largest(x, y, z):
        columns = range(max(x - PATCH // 2, 0), min(x + PATCH // 2, width))
        rows = range(max(y - PATCH // 2, 0), min(y + PATCH // 2, height))
        return max(intensity(voxels[(z * height + r) * width + c], window) for r in rows for c in columns)

    return [
        [[largest(x, y, z) for x in centres(width, 0, stride)] for y in centres(height, 0, stride)]
        for z in range(depth)
    ]


def mask(sizes, voxels, stride=STRIDE, window=WINDOW):
    """The mask by nearest centres, listed x fastest."""
    width, height, depth = sizes
    columns, rows = centres(width, 0, stride), centres(height, 0, stride)
    of_x = [nearest(x, columns) for x in range(width)]
    of_y = [nearest(y, rows) for y in range(height)]
    value = logits(sizes, voxels, stride, window)
    return tuple(
        int(value[z][of_y[y]][of_x[x]] > THRESHOLD)
        for z in range(depth)
        for y in range(height)
        for x in range(width)
    )
