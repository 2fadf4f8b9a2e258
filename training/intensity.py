"""Hounsfield units -> what the network sees, the same numbers as the library computes.

    HU --window--> 0..1, clamped --[histogram equalisation per slice]--> 0..1 --> (x - mean) / std

Outside the slice is black: intensity 0 before the normalisation.
"""

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Intensity:
    window: tuple = (-160.0, 240.0)  # HU that become 0 and 1
    equalize: bool = False
    mean: float = 0.0
    std: float = 1.0

    def windowed(self, hu):
        """[slices][rows][columns] of HU -> float32 0..1, before the normalisation."""
        low, high = self.window
        x = np.clip((hu.astype(np.float32) - low) / (high - low), 0, 1)
        return np.stack([equalized(slice_) for slice_ in x]) if self.equalize else x

    def rewindowed(self, window):
        """The Intensity of another window that gives a network the same numbers for HU inside both."""
        (low, high), (new_low, new_high) = self.window, window
        scale = (new_high - new_low) / (high - low)
        return replace(self, window=window, mean=(self.mean - (new_low - low) / (high - low)) / scale, std=self.std / scale)


def equalized(x):
    """Histogram equalisation of one slice, 0..1 -> 0..1, by the formula of OpenCV's equalizeHist."""
    level = np.floor(255 * x + 0.5).astype(np.uint8)
    histogram = np.bincount(level.ravel(), minlength=256)
    first = int(np.flatnonzero(histogram)[0])
    if histogram[first] == level.size:
        return x  # a constant slice is left as it is
    below = np.cumsum(histogram) - histogram[first]
    lut = np.clip(np.rint(below / (level.size - histogram[first]) * 255), 0, 255)
    return (lut[level] / 255).astype(np.float32)
