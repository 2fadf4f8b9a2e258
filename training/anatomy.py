"""Everything of the abdominal phantom except the liver's contents, as implicit functions.

An implicit function f gives about the distance in mm to a surface, negative inside. `occupancy` turns it
into the fraction of each voxel that lies inside, which is where partial volume comes from. Organs are
painted over one another in order; coordinates are bent by smooth noise first, so that no two phantoms
have the same shapes.

    x to the patient's left, y to the back, z to the head; mm; arrays [slices][rows][columns], float32
"""

import numpy as np
from scipy import ndimage

# Mean HU by contrast phase. `vessel` is relative to the liver.
PHASES = {
    "native": dict(liver=58, vessel=-9, spleen=49, blood=42, kidney=34, muscle=50, heart=42),
    "arterial": dict(liver=74, vessel=28, spleen=115, blood=260, kidney=140, muscle=58, heart=180),
    "portal": dict(liver=108, vessel=48, spleen=120, blood=155, kidney=180, muscle=62, heart=130),
    "delayed": dict(liver=92, vessel=17, spleen=96, blood=112, kidney=150, muscle=60, heart=105),
}


def smooth_noise(rng, shape, spacing, scale_mm):
    """Periodic noise, mean 0, deviation 1, whose features measure about `scale_mm`."""
    coarse = [max(4, int(round(n * s / scale_mm))) for n, s in zip(shape, spacing)]
    field = ndimage.zoom(
        rng.standard_normal(coarse).astype(np.float32),
        [n / c for n, c in zip(shape, coarse)],
        order=3, mode="grid-wrap", grid_mode=True,
    )  # fmt: skip
    return (field - field.mean()) / field.std()


def occupancy(f):
    """Fraction of each voxel where f < 0, f taken as linear across the voxel."""
    slope = np.sqrt(sum(np.square(g) for g in np.gradient(f)))
    return np.clip(0.5 - f / (slope + 1e-6), 0, 1)


def ellipsoid(x, y, z, centre, semi_axes):
    """About the distance in mm: the relative distance times the mean semi-axis."""
    q = sum(((u - c) / a) ** 2 for u, c, a in zip((x, y, z), centre, semi_axes))
    return (np.sqrt(q) - 1) * np.float32(np.mean(semi_axes))


def superellipse(x, y, half_width, half_height, power):
    """Distance in mm along the ray from the axis to a rounded rectangle, any z."""
    q = (np.abs(x / half_width) ** power + np.abs(y / half_height) ** power) ** (1 / power) + 1e-3
    return np.hypot(x, y) * (1 - 1 / q)


def smooth_union(f, g, blend_mm):
    h = np.clip(0.5 + 0.5 * (g - f) / blend_mm, 0, 1)
    return g + (f - g) * h - blend_mm * h * (1 - h)


class Scene:
    """The grid, its bent coordinates, the HU painted so far and the part of each voxel that is liver."""

    def __init__(self, rng, shape, spacing):
        self.rng, self.shape, self.spacing = rng, shape, spacing
        self.z, self.y, self.x = np.meshgrid(
            *[(np.arange(n, dtype=np.float32) - (n - 1) / 2) * s for n, s in zip(shape, spacing)], indexing="ij"
        )
        self.fine = smooth_noise(rng, shape, spacing, 11)
        self.coarse = smooth_noise(rng, shape, spacing, 32)
        self.bent_x = self.x + self.noise(4.0)
        self.bent_y = self.y + self.noise(4.0)
        self.bent_z = self.z + self.noise(4.0)
        self.hu = np.full(shape, -1000, np.float32)
        self.liver = np.zeros(shape, np.float32)

    def noise(self, coarse_mm, fine_mm=0.0):
        """A fresh-looking smooth field: the two stored ones, shifted around their period."""
        field = np.roll(self.coarse, [self.rng.integers(n) for n in self.shape], (0, 1, 2)) * np.float32(coarse_mm)
        if fine_mm:
            field += np.roll(self.fine, [self.rng.integers(n) for n in self.shape], (0, 1, 2)) * np.float32(fine_mm)
        return field

    def paint(self, part, value):
        """Mix `value` (HU, number or array) in by the fraction `part`; what is painted over is no longer liver."""
        self.hu += part * (value - self.hu)
        self.liver *= 1 - part

    def vary(self, low, high):
        return np.float32(self.rng.uniform(low, high))

    def bent_ellipsoid(self, centre, semi_axes, jitter_mm=4.0, rough_mm=1.2):
        centre = [c + self.rng.normal() * jitter_mm for c in centre]
        semi_axes = [a * self.rng.uniform(0.88, 1.12) for a in semi_axes]
        f = ellipsoid(self.bent_x, self.bent_y, self.bent_z, centre, semi_axes)
        return f + self.noise(rough_mm, 0.6 * rough_mm)


def paint_wall(scene, hu):
    """Air, table, skin, fat and muscle. Returns the cavity's implicit function."""
    half_width, half_height = scene.vary(145, 172), scene.vary(102, 126)
    body = superellipse(
        scene.x + 0.4 * (scene.bent_x - scene.x), scene.y + 0.4 * (scene.bent_y - scene.y),
        half_width, half_height, scene.vary(2.1, 2.6),
    )  # fmt: skip
    table_top = half_height + 4 + 0.0006 * scene.x**2 * -1
    table = np.abs(scene.y - table_top - 8) - 5
    scene.paint(occupancy(np.maximum(table, np.abs(scene.x) - 170)), scene.vary(-250, -80))
    scene.paint(occupancy(body), scene.vary(0, 40))
    scene.paint(occupancy(body + 2), scene.vary(-115, -95) + scene.noise(3, 5))
    fat = scene.vary(7, 24) + scene.noise(2.0)
    muscle = scene.vary(8, 14)
    scene.paint(occupancy(body + fat), hu["muscle"] + scene.noise(3, 6))
    cavity = body + fat + muscle
    scene.paint(occupancy(cavity), scene.vary(-112, -92) + scene.noise(4, 9))
    return body, body + fat + 0.5 * muscle, cavity


def diaphragm(scene, cavity, top):
    """Height in mm of the dome above every (row, column); lung lies above it."""
    depth = np.clip(-cavity / scene.vary(55, 75), 0, 1)  # 0 at the wall, 1 in the middle
    fall = scene.vary(60, 85)
    right_higher = np.where(scene.x < 0, 0, scene.vary(5, 14) * np.clip(scene.x / 30, 0, 1))
    return top - fall * (1 - depth) ** 2 - right_higher + scene.noise(2)


def paint_chest(scene, hu, cavity, dome):
    lung = np.maximum(dome - scene.z, cavity + 1)
    scene.paint(occupancy(lung), scene.vary(-880, -800) + scene.noise(10, 25))
    heart = np.maximum(scene.bent_ellipsoid((25, -35, 85), (55, 45, 45)), dome - scene.z - 4)
    scene.paint(occupancy(np.maximum(heart, cavity + 2)), hu["heart"] + scene.noise(3, 4))


def paint_left_organs(scene, hu, cavity, dome, top):
    """Spleen, and a stomach with a wall, content and often an air bubble in front."""
    inside = np.maximum(cavity + 2, scene.z - dome + 3)
    spleen = np.maximum(scene.bent_ellipsoid((100, 34, top - 60), (30, 52, 48)), inside)
    scene.paint(occupancy(spleen), hu["spleen"] + scene.vary(-8, 8) + scene.noise(2, 2.5))

    stomach = np.maximum(scene.bent_ellipsoid((68, -38, top - 68), (44, 36, 55), jitter_mm=7, rough_mm=2), inside)
    stomach = np.maximum(stomach, -spleen + 3)
    scene.paint(occupancy(stomach), hu["muscle"] + scene.vary(-5, 25))
    content = stomach + scene.vary(3, 6)
    filled = 220 if scene.rng.random() < 0.15 else scene.vary(0, 50)
    scene.paint(occupancy(content), filled + scene.noise(4, 9))
    if scene.rng.random() < 0.75:
        level = scene.y + 38 - scene.vary(-22, 12)
        scene.paint(occupancy(np.maximum(content, level)), -960)


def paint_lower_organs(scene, hu, cavity, top):
    """Kidneys with their collecting system, and bowel loops; they appear in the lower slices."""
    for side in (-1, 1):
        centre = (side * 62, 48, top - 138 + (8 if side > 0 else -4))
        kidney = np.maximum(scene.bent_ellipsoid(centre, (27, 25, 52)), cavity + 3)
        scene.paint(occupancy(kidney - scene.vary(3, 7)), -100 + scene.noise(3, 5))
        scene.paint(occupancy(kidney), hu["kidney"] + scene.noise(4, 8))
        scene.paint(occupancy(kidney + 12), scene.vary(-40, 20) + scene.noise(6, 12))
    for _ in range(scene.rng.integers(4, 9)):
        centre = (scene.vary(-10, 95), scene.vary(-70, 5), top - scene.vary(125, 175))
        loop = np.maximum(scene.bent_ellipsoid(centre, scene.rng.uniform(12, 26, 3), rough_mm=2), cavity + 3)
        scene.paint(occupancy(loop), hu["muscle"] + 15)
        scene.paint(occupancy(loop + 2.5), scene.vary(0, 50) if scene.rng.random() < 0.7 else -900)


def paint_midline(scene, hu, half_height):
    """Aorta, vena cava, and a spine of vertebrae and discs with its canal and processes."""
    spine_y = half_height - scene.vary(62, 70)
    for centre_x, centre_y, radius in ((14, spine_y - 32, scene.vary(9, 12)), (-22, spine_y - 32, scene.vary(10, 14))):
        tube = np.hypot(scene.bent_x - centre_x, (scene.bent_y - centre_y) * scene.vary(1.0, 1.2)) - radius
        scene.paint(occupancy(tube - 1.5), -60 if centre_x > 0 else hu["muscle"])
        scene.paint(occupancy(tube), hu["blood"] * (1.0 if centre_x > 0 else 0.85) + scene.noise(1, 3))
    for side in (-1, 1):  # muscles along the spine
        bulk = superellipse(scene.x - side * 36, scene.y - spine_y - 36, 27, 19, 2.3) + scene.noise(1.5)
        scene.paint(occupancy(bulk), hu["muscle"] + scene.noise(3, 7))
    height = (scene.z + scene.vary(0, 32)) % 32
    disc = np.clip(np.abs(height - 16) - 12.5, 0, 1)
    vertebra = superellipse(scene.x, (scene.y - spine_y) * 1.25, 21, 21, 2.2) + scene.noise(0.6)
    arch = superellipse(scene.x, scene.y - spine_y - 27, 17, 13, 2)
    process = np.maximum(np.abs(scene.x) - 3.5, np.abs(scene.y - spine_y - 46) - 16)
    across = np.maximum(np.abs(scene.y - spine_y - 26) - 4, np.abs(scene.x) - 36)
    posterior = np.maximum(np.minimum(arch, np.minimum(process, across)), np.abs(height - 14) - 9)
    cortex, marrow = scene.vary(320, 520), scene.vary(120, 230)
    scene.paint(occupancy(posterior), cortex)
    scene.paint(occupancy(vertebra), cortex * (1 - disc) + 85 * disc)
    scene.paint(occupancy(vertebra + 2.5), (marrow + scene.noise(8, 18)) * (1 - disc) + 85 * disc)
    scene.paint(occupancy(superellipse(scene.x, scene.y - spine_y - 25, 9, 8, 2)), 25)


def paint_ribs(scene, wall):
    """Rings in the middle of the wall that drop towards the front."""
    spacing = scene.vary(24, 30)
    drop = scene.vary(0.35, 0.6) * (scene.y - 60)
    height = (scene.z - drop + scene.vary(0, 30)) % spacing - spacing / 2
    rib = np.hypot(wall, height * 0.8) - scene.vary(4.0, 5.5)
    rib = np.maximum(rib, -60 - scene.y)  # cartilage in front is left out
    scene.paint(occupancy(rib), scene.vary(350, 600))
    scene.paint(occupancy(rib + 2.2), scene.vary(120, 220))
