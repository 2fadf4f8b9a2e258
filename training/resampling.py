"""Slices on other pixels: the area average where they shrink, linear interpolation where they grow.

Along an axis of n pixels that become m, with f = n / m:

    f >= 1    new pixel j is the average of [j f, (j + 1) f), pixels that are cut counted by their share
    f < 1     new pixel j is interpolated at (j + 1/2) f - 1/2, clamped to the first and the last pixel's centre

The same as OpenCV's INTER_AREA and INTER_LINEAR, and what the library does.
"""

import numpy as np

TOLERANCE = 0.02  # sizes that differ by less are taken as equal


def length_at(length, spacing, pixel_mm):
    """Pixels of `pixel_mm` that `length` pixels of `spacing` mm become."""
    factor = spacing / pixel_mm
    return length if abs(factor - 1) <= TOLERANCE else max(1, round(length * factor))


def weights(length, target):
    """float32 [target][length]: each row adds up to 1."""
    factor = length / target
    if factor >= 1:
        edges, pixel = np.arange(target + 1) * factor, np.arange(length)
        overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
        return (np.clip(overlap, 0, None) / factor).astype(np.float32)
    place = np.clip((np.arange(target) + 0.5) * factor - 0.5, 0, length - 1)
    return np.clip(1 - np.abs(place[:, None] - np.arange(length)), 0, None).astype(np.float32)


def resized(volume, rows, columns):
    """float32 [slices][rows][columns] of a volume [slices][rows'][columns']."""
    if volume.shape[1:] == (rows, columns):
        return volume.astype(np.float32)
    down, across = weights(volume.shape[1], rows), weights(volume.shape[2], columns).T
    return np.stack([down @ slice_.astype(np.float32) @ across for slice_ in volume])


def nearest(volume, rows, columns):
    """The same with each new pixel the old one around its centre."""
    down, across = (
        np.minimum(((np.arange(new) + 0.5) * old / new).astype(int), old - 1)
        for old, new in zip(volume.shape[1:], (rows, columns))
    )
    return volume[:, down[:, None], across]
