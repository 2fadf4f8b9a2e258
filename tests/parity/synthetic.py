"""CT-like volumes without patients: a body of soft tissue, ribs, air, a liver with darker lesions, scanner noise."""

import numpy as np


def ct(width, height, depth, seed=0):
    """HU, int16, [depth][height][width]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    slices = []
    for z in range(depth):
        hu = np.full((height, width), -1000.0)
        ellipse = lambda cx, cy, rx, ry: ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1
        shift = 0.04 * z
        hu[ellipse(0, 0, 0.95, 0.85)] = -90  # fat
        hu[ellipse(0, 0, 0.88, 0.76)] = 45  # muscle
        hu[ellipse(-0.3 + shift, -0.1, 0.5, 0.5)] = 105  # liver
        hu[ellipse(0.5, -0.25, 0.25, 0.3)] = rng.uniform(-700, 20)  # stomach
        hu[ellipse(0.05, 0.45, 0.15, 0.15)] = 420  # spine
        for _ in range(6):
            cx, cy = rng.uniform(-0.6, 0.1), rng.uniform(-0.4, 0.25)
            radius = rng.uniform(0.04, 0.14)
            hu[ellipse(cx, cy, radius, radius * rng.uniform(0.8, 1.3))] = rng.uniform(20, 75)
        slices.append(hu + rng.normal(0, 14, hu.shape))
    return np.clip(np.rint(np.stack(slices)), -1024, 3071).astype(np.int16)


def ct_part(width, height, depth, seed=0):
    """The middle of a volume of at least 48 x 48 pixels: slices of one pixel or column have something in them too."""
    volume = ct(max(width, 48), max(height, 48), depth, seed)
    top, left = (volume.shape[1] - height) // 2, (volume.shape[2] - width) // 2
    return np.ascontiguousarray(volume[:, top : top + height, left : left + width])
