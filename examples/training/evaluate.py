"""Compare masks with the truth: Dice, lesion-wise sensitivity, false positives per scan.

    python evaluate.py masks data/test --json scores.json

For every NAME_truth.nrrd in the truth folder, NAME_mask.nrrd is read from the folder of masks. Lesions are connected
components, corners included (26 neighbours).

    Dice               2 |mask and truth| / (|mask| + |truth|), voxels of the whole scan
    found              a true lesion of which at least --overlap of the voxels (default 0.2) are in the mask
    false positives    components of the mask that contain no voxel of any true lesion
"""

import argparse
import json
from pathlib import Path

import numpy as np
from scipy import ndimage

from volume_io import read_nrrd

CORNERS_TOO = np.ones((3, 3, 3))


def scores(mask, truth, spacing, overlap):
    """Numbers for one scan. mask, truth: boolean [slices][rows][columns]; spacing in mm."""
    labels, lesions = ndimage.label(truth, CORNERS_TOO)
    sizes = np.bincount(labels.ravel(), minlength=lesions + 1)[1:]
    covered = np.bincount(labels[mask], minlength=lesions + 1)[1:]
    components, count = ndimage.label(mask, CORNERS_TOO)
    hits = np.bincount(components[truth], minlength=count + 1)[1:]
    component_sizes = np.bincount(components.ravel(), minlength=count + 1)[1:]
    false = hits == 0
    voxel_ml = float(np.prod(spacing)) / 1000
    both, total = int((mask & truth).sum()), int(mask.sum() + truth.sum())
    return {
        "dice": 2 * both / total if total else 1.0,
        "voxel_sensitivity": both / int(truth.sum()) if truth.any() else None,
        "voxel_precision": both / int(mask.sum()) if mask.any() else None,
        "lesions": lesions,
        "found": int((covered >= overlap * sizes).sum()),
        "missed_mm": [round(diameter(n * voxel_ml), 1) for n in sizes[covered < overlap * sizes]],
        "false_positives": int(false.sum()),
        "false_positive_mm": [round(diameter(n * voxel_ml), 1) for n in component_sizes[false]],
        "truth_ml": round(int(truth.sum()) * voxel_ml, 2),
        "mask_ml": round(int(mask.sum()) * voxel_ml, 2),
    }


def diameter(ml):
    """Of the sphere of that volume, mm."""
    return float(np.cbrt(6 * 1000 * ml / np.pi))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("masks", type=Path, help="folder with NAME_mask.nrrd")
    parser.add_argument("truths", type=Path, help="folder with NAME_truth.nrrd")
    parser.add_argument("--overlap", type=float, default=0.2, help="share of a lesion that counts as found (0.2)")
    parser.add_argument("--lesion-class", type=int, default=1, help="class number in the masks (default 1)")
    parser.add_argument("--json", type=Path, help="also write everything to this file")
    args = parser.parse_args()

    rows = {}
    for path in sorted(args.truths.glob("*_truth.nrrd")):
        name = path.name.removesuffix("_truth.nrrd")
        mask_path = args.masks / f"{name}_mask.nrrd"
        if not mask_path.exists():
            raise SystemExit(f"{mask_path}: missing")
        truth, mask = read_nrrd(path), read_nrrd(mask_path)
        if truth.voxels.shape != mask.voxels.shape:
            raise SystemExit(f"{mask_path}: shape {mask.voxels.shape}, but the truth has {truth.voxels.shape}")
        rows[name] = scores(mask.voxels == args.lesion_class, truth.voxels > 0, truth.spacing, args.overlap)
    if not rows:
        raise SystemExit(f"{args.truths}: no *_truth.nrrd here")

    total = {
        "scans": len(rows),
        "mean_dice": float(np.mean([row["dice"] for row in rows.values()])),
        "lowest_dice": min(row["dice"] for row in rows.values()),
        "lesions": sum(row["lesions"] for row in rows.values()),
        "found": sum(row["found"] for row in rows.values()),
        "false_positives_per_scan": float(np.mean([row["false_positives"] for row in rows.values()])),
        "overlap": args.overlap,
    }
    total["lesion_sensitivity"] = total["found"] / total["lesions"] if total["lesions"] else None

    print(f"{'scan':20} {'Dice':>6} {'found':>8} {'false pos.':>10} {'truth ml':>9} {'mask ml':>8}  missed, mm")
    for name, row in rows.items():
        found = f"{row['found']}/{row['lesions']}"
        print(f"{name:20} {row['dice']:6.3f} {found:>8} {row['false_positives']:10d} {row['truth_ml']:9.2f} "
              f"{row['mask_ml']:8.2f}  {' '.join(map(str, row['missed_mm']))}")  # fmt: skip
    print(f"{'all ' + str(len(rows)):20} {total['mean_dice']:6.3f} {total['found']:>4}/{total['lesions']} "
          f"{total['false_positives_per_scan']:9.2f}   mean Dice, lesions found, false positives per scan")  # fmt: skip
    if args.json:
        args.json.write_text(json.dumps({"total": total, "scans": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
