"""CT-like volumes without patients: fat, muscle, spine, stomach, a liver with darker lesions, scanner noise."""

import numpy as np

MIN_SIDE = 24


def ct(width, height, depth, seed=0):
    """HU, int16, [depth][height][width]; below 24 pixels the middle of a larger one, which is not empty."""
    rng = np.random.default_rng(seed)
    rows, columns = max(height, MIN_SIDE), max(width, MIN_SIDE)
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    ellipse = lambda cx, cy, rx, ry: ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1
    slices = []
    for z in range(depth):
        hu = np.full((rows, columns), -1000.0)
        hu[ellipse(0, 0, 0.95, 0.85)] = -90  # fat
        hu[ellipse(0, 0, 0.88, 0.76)] = 45  # muscle
        hu[ellipse(-0.3 + 0.04 * z, -0.1, 0.5, 0.5)] = 105  # liver
        hu[ellipse(0.5, -0.25, 0.25, 0.3)] = rng.uniform(-700, 20)  # stomach
        hu[ellipse(0.05, 0.45, 0.15, 0.15)] = 420  # spine
        for _ in range(6):
            cx, cy = rng.uniform(-0.6, 0.1), rng.uniform(-0.4, 0.25)
            radius = rng.uniform(0.04, 0.14)
            hu[ellipse(cx, cy, radius, radius * rng.uniform(0.8, 1.3))] = rng.uniform(20, 75)
        slices.append(hu + rng.normal(0, 14, hu.shape))
    top, left = (rows - height) // 2, (columns - width) // 2
    middle = np.stack(slices)[:, top : top + height, left : left + width]
    return np.clip(np.rint(middle), -1024, 3071).astype(np.int16)
