"""Lesions painted into the organ of a labelled scan, slice by slice: shapes, sizes and contrasts that few patients have.

After Hu et al., "Label-Free Liver Tumor Segmentation", CVPR 2023, whose lesions are ellipsoids with bent surfaces and
texture, in three dimensions; a network for slices needs no more than two.

    shape      an ellipse with lumps, from SMALLEST_MM to LARGEST_MM across, cut at the organ's border
    level      below the organ's median, small lesions by more, at most by TO_WATER of its HU; a few above
    texture    coarse noise, some with a darker core or a brighter rim; the scan's own noise stays
    border     from sharp to a few mm wide

Labelled lesions stay as they are.
"""

import math

import numpy as np
from scipy import ndimage

SMALLEST_MM, LARGEST_MM = 6.0, 120.0
LEAST_HU, SMALL_MM = 15.0, 10.0  # below the organ: at least LEAST_HU, of a lesion of SMALL_MM twice that
TO_WATER = 0.75  # of the organ's HU
BRIGHTER = 0.08  # of lesions
PER_SLICE = 1.5  # lesions, on average
ORGAN_PIXELS = 200  # slices with less of it stay as they are


def painted(hu, organ, truth, pixel_mm, rng):
    """(float32 HU, boolean lesions) of a copy of `hu` [slices][rows][columns] with more lesions than `truth`, in `organ`."""
    hu, truth = hu.astype(np.float32), truth.copy()
    for slice_, inside, lesions in zip(hu, organ, truth):
        for _ in range(rng.poisson(PER_SLICE)):
            _paint(slice_, inside, lesions, pixel_mm, rng)
    return hu, truth


def _paint(hu, organ, lesions, pixel_mm, rng):
    """One lesion into a slice and its labels, in place."""
    healthy = organ & ~lesions
    places = np.argwhere(healthy)
    if len(places) < ORGAN_PIXELS:
        return
    diameter = _log_uniform(rng, SMALLEST_MM, LARGEST_MM)
    radius = diameter / 2 / pixel_mm
    centre = places[rng.integers(len(places))]
    reach = math.ceil(2 * radius) + 4
    box = tuple(slice(max(0, c - reach), c + reach + 1) for c in centre)
    level = np.median(hu[healthy])
    part, healthy = hu[box], healthy[box]

    inwards = _inwards(part.shape, [c - b.start for c, b in zip(centre, box)], radius, rng)
    border = rng.uniform(1, max(1.5, min(6 / pixel_mm, 0.6 * radius)))
    share = np.clip(0.5 + inwards * radius / border, 0, 1) * healthy
    if (share >= 0.5).sum() < 4:
        return
    least = LEAST_HU * (1 + SMALL_MM / diameter)
    contrast = _log_uniform(rng, least, max(1.5 * least, TO_WATER * level))
    if rng.random() < BRIGHTER:
        contrast = -min(contrast, 50.0)
    depth = 1 + rng.uniform(0.05, 0.35) * _noise(part.shape, max(1.0, rng.uniform(0.1, 0.4) * radius), rng)
    if diameter > 15 and rng.random() < 0.35:  # necrosis
        depth += rng.uniform(0.15, 0.5) * np.clip((inwards - rng.uniform(0.2, 0.5)) * 4, 0, 1)
    if rng.random() < 0.2:
        depth -= rng.uniform(0.2, 0.9) * np.exp(-0.5 * ((inwards * radius * pixel_mm - 2) / 1.5) ** 2)
    weight = ndimage.gaussian_filter(healthy.astype(np.float32), 1.5)
    smooth = ndimage.gaussian_filter(part * healthy, 1.5) / np.maximum(weight, 1e-3)
    noise = np.clip(part - smooth, -25, 25)
    part += share * (level - contrast * depth + noise - part)
    lesions[box] |= share >= 0.5


def _inwards(shape, centre, radius, rng):
    """About the distance from the border as a share of the radius: 1 at the centre, 0 on the border, below 0 outside."""
    turn, stretch = rng.uniform(0, math.pi), math.sqrt(_log_uniform(rng, 1, 2.2))
    y, x = (np.arange(n, dtype=np.float32) - c for n, c in zip(shape, centre))
    y, x = y[:, None], x[None]
    along, across = x * math.cos(turn) + y * math.sin(turn), y * math.cos(turn) - x * math.sin(turn)
    distance = np.hypot(along / (radius * stretch), across * stretch / radius)
    return 1 - distance + rng.uniform(0.03, 0.25) * _noise(shape, max(1.0, 0.3 * radius), rng)


def _noise(shape, size, rng):
    """Gaussian noise of deviation 1, smooth over `size` pixels, as coarse points that are interpolated where it is large."""
    step = max(1, int(size / 2))
    points = [math.ceil(n / step) + 3 for n in shape]
    coarse = ndimage.gaussian_filter(rng.standard_normal(points).astype(np.float32), size / step)
    coarse /= coarse.std() + 1e-6
    if step == 1:
        return coarse[: shape[0], : shape[1]]
    return ndimage.zoom(coarse, step, order=1)[: shape[0], : shape[1]]


def _log_uniform(rng, low, high):
    return math.exp(rng.uniform(math.log(low), math.log(high)))
