"""Synthetic abdominal CT with hypodense liver lesions, made from nothing but a seed.

    python phantom.py OUT --count 4 --first-seed 3001

writes phantom_3001_ct.nrrd (int16, HU), phantom_3001_truth.nrrd (uint8, 1 = lesion) and
phantom_3001_liver.nrrd (uint8, 1 = liver, lesions included) for every seed, with a JSON list of the lesions.
The same seed and options give the same files.

    anatomy -> liver, vessels, lesions -> scanner: blur, correlated noise, rounding to HU

These are cartoons of a CT scan. A model trained on them says nothing about patients.
"""

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from scipy import ndimage
from tqdm import tqdm

import anatomy
import liver
from volume_io import Volume, write_nrrd


def make_phantom(seed, shape=(40, 180, 240), spacing=(3.0, 1.5, 1.5), phase=None, lesions=None):
    """One phantom: (ct, truth, liver ROI) as Volumes, and a dict that describes it.

    shape: slices, rows, columns. spacing: mm in the same order. phase: a key of anatomy.PHASES, drawn if None.
    lesions: how many; drawn from 4..12 if None.
    """
    rng = np.random.default_rng(seed)
    phase = phase or ["native", "arterial", "portal", "portal", "delayed"][rng.integers(5)]
    hu = {name: value * rng.uniform(0.92, 1.08) for name, value in anatomy.PHASES[phase].items()}

    scene = anatomy.Scene(rng, shape, spacing)
    top = scene.vary(0.25, 0.65) * shape[0] * spacing[0]  # height of the diaphragm above the middle slice
    body, wall, cavity = anatomy.paint_wall(scene, hu)
    half_height = float(np.abs(scene.y[body < 0]).max())
    dome = anatomy.diaphragm(scene, cavity, top)
    anatomy.paint_chest(scene, hu, cavity, dome)
    liver.paint_liver(scene, hu, cavity, dome, top)
    anatomy.paint_left_organs(scene, hu, cavity, dome, top)
    anatomy.paint_lower_organs(scene, hu, cavity, top)
    anatomy.paint_midline(scene, hu, half_height)
    anatomy.paint_ribs(scene, wall)
    liver.paint_vessels(scene, hu, top)
    count = int(rng.integers(4, 13)) if lesions is None else lesions
    lesion_part, placed = liver.paint_lesions(scene, hu, count)

    noise_hu = rng.uniform(6, 13)
    ct = scan(rng, scene.hu, spacing, noise_hu)
    origin = (-0.5 * (shape[2] - 1) * spacing[2], -0.5 * (shape[1] - 1) * spacing[1] - 120.0, -412.5)
    facts = dict(seed=seed, phase=phase, noise_hu=round(float(noise_hu), 1), lesions=placed)
    return (
        Volume(ct, spacing, origin),
        Volume((lesion_part >= 0.5).astype(np.uint8), spacing, origin),
        Volume((scene.liver >= 0.5).astype(np.uint8), spacing, origin),
        facts,
    )


def scan(rng, hu, spacing, noise_hu):
    """Point spread (mm), slice profile, and noise that is correlated as after a reconstruction kernel."""
    sigma_mm = rng.uniform(0.9, 1.5)
    sharp = ndimage.gaussian_filter(hu, [0.4, sigma_mm / spacing[1], sigma_mm / spacing[2]])
    white = rng.standard_normal(hu.shape).astype(np.float32)
    fine = rng.uniform(0.45, 0.75)  # voxels
    noise = ndimage.gaussian_filter(white, [0.25, fine, fine]) - ndimage.gaussian_filter(white, [0.25, 3.0, 3.0])
    return np.clip(np.rint(sharp + noise * (noise_hu / noise.std())), -1024, 3071).astype(np.int16)


def write_phantom(folder, name, seed, options):
    ct, truth, roi, facts = make_phantom(seed, **options)
    write_nrrd(folder / f"{name}_ct.nrrd", ct)
    write_nrrd(folder / f"{name}_truth.nrrd", truth)
    write_nrrd(folder / f"{name}_liver.nrrd", roi)
    facts["lesion_voxels"] = int(truth.voxels.sum())
    (folder / f"{name}.json").write_text(json.dumps(facts, indent=1) + "\n")
    return facts


def main():
    parser = argparse.ArgumentParser(description="Generate synthetic abdominal CT volumes with liver lesions.")
    parser.add_argument("out", type=Path, help="folder for the volumes; made if missing")
    parser.add_argument("--count", type=int, default=1, help="how many phantoms (default 1)")
    parser.add_argument("--first-seed", type=int, default=1, help="seed of the first; the next ones count up")
    parser.add_argument("--name", default="phantom", help="file names start with this and the seed")
    parser.add_argument("--size", type=int, nargs=3, default=(40, 180, 240), metavar=("SLICES", "ROWS", "COLUMNS"))
    parser.add_argument("--spacing", type=float, nargs=3, default=(3.0, 1.5, 1.5), metavar=("DZ", "DY", "DX"),
                        help="mm between slices, rows, columns (default 3 1.5 1.5)")  # fmt: skip
    parser.add_argument("--vary-spacing", type=float, default=0.0, metavar="FRACTION",
                        help="vary each phantom's in-plane spacing by at most this fraction (default 0)")  # fmt: skip
    parser.add_argument("--phase", choices=sorted(anatomy.PHASES), help="contrast phase (default: drawn)")
    parser.add_argument("--lesions", type=int, help="lesions per phantom (default: drawn, 4 to 12)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default 2)")
    arguments = parser.parse_args()

    arguments.out.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(arguments.jobs) as pool:
        waiting = []
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.count):
            scale = 1 + arguments.vary_spacing * np.random.default_rng([seed, 1]).uniform(-1, 1)
            dz, dy, dx = arguments.spacing
            spacing = (dz, round(dy * scale, 3), round(dx * scale, 3))
            options = dict(shape=tuple(arguments.size), spacing=spacing, phase=arguments.phase,
                           lesions=arguments.lesions)  # fmt: skip
            waiting.append(pool.submit(write_phantom, arguments.out, f"{arguments.name}_{seed}", seed, options))
        for future in tqdm(waiting, unit="phantom"):
            future.result()


if __name__ == "__main__":
    main()
