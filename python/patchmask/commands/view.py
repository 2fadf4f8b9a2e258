"""patchmask view: pictures of a mask on its scan."""

from __future__ import annotations

import argparse
from pathlib import Path

from . import UsageError, warn
from .session_options import add_spacing, between


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "view",
        help="pictures: slices, 3-D surface, interactive page",
        description="Writes overlay.png (slices), surface.png (3-D) and, with --html, view.html (both, interactive).",
    )
    parser.add_argument("--ct", type=Path, required=True, help="the scan: DICOM folder or file")
    parser.add_argument("--mask", type=Path, required=True, help="what segment wrote")
    parser.add_argument("--truth", type=Path, help="above 0 is lesion; drawn beside the result, with Dice")
    parser.add_argument("--out", type=Path, default=Path("."), help="folder for the pictures (default: here)")
    parser.add_argument("--html", action="store_true", help="also view.html: one file that needs no network")
    parser.add_argument("--slices", type=int, default=4, metavar="N", help="rows of overlay.png (default 4)")
    parser.add_argument(
        "--lesion-class", type=between(0, 255), default=1, metavar="N", help="class of lesions in the mask (default 1)"
    )
    parser.add_argument("--series", metavar="UID", help="which DICOM series, where the folder has several")
    add_spacing(parser)
    parser.add_argument("--no-surface", dest="surface", action="store_false", help="slices only")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> None:
    from ..pictures import draw, page, read_scan

    if given.slices < 1:
        raise UsageError(f"--slices {given.slices}: must be at least 1")
    if given.html:
        page.niivue()  # says what is missing before the work
    scan = read_scan(given.ct, given.mask, given.truth, given.lesion_class, given.series, given.spacing)
    warn(given.ct, scan.notes + (page.too_large(scan) if given.html else []))
    written = draw(scan, given.out, given.slices, given.surface, given.ct.resolve().name if given.html else "")
    print(f"{scan.title}; wrote {', '.join(path.name for path in written)} in {given.out}")
