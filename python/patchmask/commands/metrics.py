"""patchmask metrics: masks against the truth."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path
from typing import Any

from . import UsageError, warn
from .session_options import add_spacing, between


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "metrics",
        help="Dice, lesions found, false positives, volumes",
        description="Compares a mask with the truth, or a folder of masks with a folder of truths of the same names "
        "(endings _mask and _truth are left out of the comparison of names). Lesions are connected components, "
        "corners included.",
    )
    parser.add_argument("mask", type=Path, help="a file, or a folder of files")
    parser.add_argument("truth", type=Path, help="above 0 is lesion")
    parser.add_argument(
        "--lesion-class", type=between(0, 255), default=1, metavar="N", help="its number in the masks (default 1)"
    )
    parser.add_argument(
        "--overlap",
        type=float,
        default=0.2,
        metavar="SHARE",
        help="of a lesion's voxels that count as found (default 0.2)",
    )
    add_spacing(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything, each lesion's mm3 too")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write a line per scan")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> None:
    import SimpleITK as sitk

    from .. import images, metrics
    from ..pending import Pending

    if not 0 < given.overlap <= 1:
        raise UsageError(f"--overlap {given.overlap}: must be above 0 and at most 1")
    rows: dict[str, dict[str, Any]] = {}
    notes: list[str] = []
    for name, mask_path, truth_path in _pairs(given.mask, given.truth):
        mask, truth = images.read_mask(mask_path, given.spacing), images.read_mask(truth_path, given.spacing)
        warn(mask_path, images.notes_of(mask))
        warn(truth_path, images.notes_of(truth))
        if images.is_part(truth):
            truth = images.on_grid(truth, truth_path, mask, mask_path)
        mask = images.on_grid(mask, mask_path, truth, truth_path)
        view = sitk.GetArrayViewFromImage
        notes += [f"{name}: {note}" for note in metrics.without(view(mask), given.lesion_class)]
        voxel = images.voxel_mm3(mask)
        found = metrics.compare(view(mask) == given.lesion_class, view(truth) > 0, (voxel,), given.overlap)
        rows[name] = found.as_dict()
    total = _total(list(rows.values()))
    _print(rows, total)
    print("".join(f"{note}\n" for note in notes), end="")
    with Pending() as pending:
        if given.json:
            pending.text(json.dumps({"total": total, "scans": rows}, indent=1) + "\n", given.json)
        if given.csv:
            with open(pending.place(given.csv), "w", newline="", encoding="utf-8") as file:
                columns = [
                    "scan",
                    *(name for name, value in next(iter(rows.values())).items() if not isinstance(value, tuple)),
                ]
                writer = csv.DictWriter(file, columns, extrasaction="ignore")
                writer.writeheader()
                writer.writerows({"scan": name, **row} for name, row in rows.items())
        pending.commit()


def _pairs(mask: Path, truth: Path) -> list[tuple[str, Path, Path]]:
    from .. import images

    if mask.is_dir() != truth.is_dir():
        raise UsageError(f"{mask}, {truth}: must be two files or two folders")
    if not mask.is_dir():
        return [(mask.name, mask, truth)]
    masks, truths = _by_name(mask, "_mask"), _by_name(truth, "_truth")
    missing = sorted(set(truths) - set(masks))
    if missing:
        raise images.ImageError(f"{mask}: has no mask for {', '.join(missing[:5])} ({len(missing)} in all)")
    if not truths:
        raise images.ImageError(f"{truth}: no volumes in this folder")
    return [(name, masks[name], truths[name]) for name in sorted(truths)]


def _by_name(folder: Path, ending: str) -> dict[str, Path]:
    from .. import images

    found: dict[str, Path] = {}
    files = sorted(path for path in folder.rglob("*") if not path.name.startswith(".") and path.is_file())
    paths = [path for path in files if images.suffix_of(path)]
    marked = [path for path in paths if _stem(path).endswith(ending)]
    for path in marked or paths:  # beside masks there may be probabilities
        name = (path.parent.relative_to(folder) / _stem(path).removesuffix(ending)).as_posix()
        if name in found:
            raise images.ImageError(f"{found[name]} and {path}: both are of scan {name}")
        found[name] = path
    return found


def _stem(path: Path) -> str:
    from .. import images

    return path.name[: -len(images.suffix_of(path) or "")]


def _total(rows: list[dict[str, Any]]) -> dict[str, Any]:
    lesions, found = sum(row["lesions"] for row in rows), sum(row["lesions_found"] for row in rows)
    return {
        "scans": len(rows),
        "mean_dice": sum(row["dice"] for row in rows) / len(rows),
        "lesions": lesions,
        "lesions_found": found,
        "lesion_sensitivity": found / lesions if lesions else None,
        "false_positives_per_scan": sum(row["false_positives"] for row in rows) / len(rows),
    }


def _print(rows: dict[str, dict[str, Any]], total: dict[str, Any]) -> None:
    width = max(8, *map(len, rows))
    out = sys.stdout.write
    out(f"{'scan':{width}} {'Dice':>6} {'found':>8} {'false pos.':>10} {'truth mm3':>11} {'mask mm3':>11}\n")
    for name, row in rows.items():
        found = f"{row['lesions_found']}/{row['lesions']}"
        out(f"{name:{width}} {row['dice']:6.3f} {found:>8} {row['false_positives']:10d} ")
        out(f"{row['truth_mm3']:11.1f} {row['mask_mm3']:11.1f}\n")
    if len(rows) > 1:
        found = f"{total['lesions_found']}/{total['lesions']}"
        out(f"{'all':{width}} {total['mean_dice']:6.3f} {found:>8} {total['false_positives_per_scan']:10.2f}")
        out("   mean Dice, lesions found, false positives per scan\n")
