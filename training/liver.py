"""The phantom's liver: its shape, texture, vessels, gallbladder and hypodense lesions.

Lesions are measured in mm and labelled by occupancy: each voxel is split into SUBDIVISIONS^3 points, and a
voxel is lesion where at least half of them lie in the lesion (and the voxel is liver).
"""

import numpy as np

from anatomy import ellipsoid, occupancy, smooth_union

SUBDIVISIONS = 4
SMALLEST_MM, LARGEST_MM = 5.0, 40.0


def paint_liver(scene, hu, cavity, dome, top):
    right = scene.bent_ellipsoid((-78, -2, top - 78), (80, 92, 88), jitter_mm=5, rough_mm=2)
    left = scene.bent_ellipsoid((2, -52, top - 62), (72, 36, 46), jitter_mm=6, rough_mm=2)
    liver = smooth_union(right, left, 18)
    liver = np.maximum(liver, np.maximum(cavity + 2, scene.z - dome + 2))
    part = occupancy(liver)
    texture = scene.noise(2.5, 2.5)
    scene.paint(part, hu["liver"] + texture)
    scene.liver = part.copy()
    # The fissure between the lobes: a thin fatty sheet from the front, in the lower part.
    plane = np.abs(scene.bent_x + 28 + 0.2 * scene.bent_y) - scene.vary(1.0, 3.0)
    sheet = np.maximum(np.maximum(plane, scene.y + scene.vary(20, 45)), scene.z - top + scene.vary(70, 100))
    scene.paint(occupancy(sheet) * part, scene.vary(-80, -20))
    # Gallbladder: bile under the right lobe.
    bile = scene.bent_ellipsoid((-52, -42, top - scene.vary(112, 130)), (13, 17, 27), jitter_mm=6, rough_mm=0.8)
    scene.paint(occupancy(np.maximum(bile, cavity + 4) - 2), hu["muscle"])
    scene.paint(occupancy(np.maximum(bile, cavity + 4)), scene.vary(0, 14))


def paint_vessels(scene, hu, top):
    """Two branching trees, portal and hepatic veins, painted only where there is liver."""
    segments = []
    for _ in range(2):
        _grow(scene.rng, segments, np.array([-25, 8, top - 95]), scene.rng.normal([-1, 0, 0.2], 0.25), 5.5, 34, 6)
    _grow(scene.rng, segments, np.array([-28, 5, top - 88]), scene.rng.normal([0.7, -1, 0.2], 0.25), 4.5, 28, 5)
    for direction in ([-1, -0.2, -0.6], [-0.5, -1, -0.5], [0.4, -1, -0.3]):
        _grow(scene.rng, segments, np.array([-20, 24, top - 35]), scene.rng.normal(direction, 0.2), 5.0, 34, 5)
    tree = np.zeros(scene.shape, np.float32)
    for start, end, radius in segments:
        box = _box(scene, np.minimum(start, end) - radius - 4, np.maximum(start, end) + radius + 4)
        if box is None:
            continue
        x, y, z = scene.bent_x[box], scene.bent_y[box], scene.bent_z[box]
        along = end - start
        t = ((x - start[0]) * along[0] + (y - start[1]) * along[1] + (z - start[2]) * along[2]) / (along @ along)
        t = np.clip(t, 0, 1)
        distance = np.sqrt(
            (x - start[0] - t * along[0]) ** 2 + (y - start[1] - t * along[1]) ** 2 + (z - start[2] - t * along[2]) ** 2
        )
        tree[box] = np.maximum(tree[box], occupancy(distance - radius))
    scene.hu += tree * scene.liver * (hu["liver"] + hu["vessel"] - scene.hu)


def _grow(rng, segments, start, direction, radius, length, depth):
    direction = direction / np.linalg.norm(direction)
    end = start + direction * length * rng.uniform(0.7, 1.3)
    segments.append((start.astype(np.float32), end.astype(np.float32), np.float32(radius)))
    if depth > 1 and radius > 0.9:
        for _ in range(2):
            turned = direction + rng.normal(0, 0.45, 3)
            _grow(rng, segments, end, turned, radius * rng.uniform(0.65, 0.85), length * 0.8, depth - 1)


def _box(scene, low, high):
    """Slices of the grid that cover low..high (x, y, z in mm), at least 2 voxels a side, or None outside."""
    box = []
    for n, step, a, b in zip(scene.shape, scene.spacing, low[::-1], high[::-1]):
        first = max(0, int(np.floor(a / step + (n - 1) / 2)))
        last = min(n, int(np.ceil(b / step + (n - 1) / 2)) + 1)
        if last - first < 2:
            return None
        box.append(slice(first, last))
    return tuple(box)


def paint_lesions(scene, hu, count):
    """Paint `count` lesions. Returns (occupancy of all of them, a list of what was placed)."""
    rng = scene.rng
    total = np.zeros(scene.shape, np.float32)
    placed = []
    candidates = np.argwhere(scene.liver > 0.9)
    if len(candidates) == 0:
        return total, placed
    for _ in range(count * 20):
        if len(placed) == count:
            break
        diameter = rng.uniform(SMALLEST_MM, LARGEST_MM)
        stretch = rng.uniform(0.85, 1.18, 3)
        radii = 0.5 * diameter * stretch / np.cbrt(stretch.prod())
        k, j, i = candidates[rng.integers(len(candidates))]
        centre = np.array([scene.x[k, j, i], scene.y[k, j, i], scene.z[k, j, i]])
        centre = centre + rng.uniform(-0.5, 0.5, 3) * scene.spacing[::-1]
        box = _box(scene, centre - 1.3 * radii.max() - 3, centre + 1.3 * radii.max() + 3)
        if box is None or total[box].max() > 0:
            continue
        part = _lesion_occupancy(rng, scene, box, centre, radii)
        # Mostly inside the liver and the stack, so that the drawn diameter is the visible one.
        if (part * scene.liver[box]).sum() < 0.7 * 4 / 3 * np.pi * radii.prod() / np.prod(scene.spacing):
            continue
        contrast = rng.uniform(28, 44) if hu["liver"] < 70 else rng.uniform(34, 75)
        value = max(8.0, hu["liver"] - contrast)
        inside = ellipsoid(scene.bent_x[box], scene.bent_y[box], scene.bent_z[box], centre, 0.55 * radii)
        if diameter > 16 and rng.random() < 0.35:  # a darker, necrotic core
            value = value - rng.uniform(8, 22) * np.clip(0.5 - inside / 4, 0, 1)
        fill = part * scene.liver[box]
        scene.hu[box] += fill * (value + 0.6 * scene.noise(2, 3)[box] - scene.hu[box])
        total[box] = np.maximum(total[box], fill)
        placed.append(dict(diameter_mm=round(float(diameter), 1), contrast_hu=round(float(contrast), 1)))
    return total, placed


def _lesion_occupancy(rng, scene, box, centre, radii):
    """Fraction of each voxel of `box` inside a lumpy ellipsoid, by counting sub-voxel points."""
    axes = []
    for n, step, span in zip(scene.shape, scene.spacing, box):
        offset = (np.arange(SUBDIVISIONS) + 0.5) / SUBDIVISIONS - 0.5
        points = (np.arange(span.start, span.stop)[:, None] + offset - (n - 1) / 2) * step
        axes.append(points.reshape(-1).astype(np.float32))
    z, y, x = np.meshgrid(*axes, indexing="ij")
    u = [(a - c) / r for a, c, r in zip((x, y, z), centre, radii)]
    radius = np.sqrt(u[0] ** 2 + u[1] ** 2 + u[2] ** 2) + 1e-6
    surface = np.ones_like(radius)
    for _ in range(5):  # lumps: low harmonics in random directions
        direction = rng.normal(size=3)
        direction /= np.linalg.norm(direction)
        cosine = sum(d * a for d, a in zip(direction, u)) / radius
        surface += rng.uniform(-0.09, 0.09) * np.cos(rng.integers(2, 5) * np.arccos(np.clip(cosine, -1, 1)))
    inside = (radius < surface).astype(np.float32)
    shape = [n for s in box for n in (s.stop - s.start, SUBDIVISIONS)]
    return inside.reshape(shape).mean(axis=(1, 3, 5))
