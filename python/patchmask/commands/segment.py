"""patchmask segment: one scan to a mask on the same grid."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Union

from . import UsageError, session_options, warn

if TYPE_CHECKING:
    from ..session import Progress


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "segment",
        help="a scan (DICOM folder, NIfTI, NRRD, MetaImage) to a lesion mask",
        description="Classifies every patch of every slice of a CT scan in HU and writes the mask, on the scan's grid.",
    )
    parser.add_argument("scan", type=Path, help="DICOM folder, or .nii.gz .nii .nrrd .nhdr .mha .mhd")
    parser.add_argument("mask", type=Path, help="where to write class numbers: .nii.gz .nii .nrrd .mha")
    parser.add_argument("--series", metavar="UID", help="which DICOM series, where the folder has several")
    parser.add_argument("--roi", type=Path, metavar="FILE", help="evaluate only where this is not zero")
    parser.add_argument(
        "--probability", type=Path, metavar="FILE", help="also write the probability of the lesion class"
    )
    parser.add_argument(
        "--dicom-seg", type=Path, metavar="FILE", help="also write the mask as a DICOM segmentation of a DICOM series (.dcm)"
    )
    session_options.add_spacing(parser)
    session_options.add_refinement(parser)
    parser.add_argument(
        "--lesions", type=Path, metavar="FILE", help="also write volume, centroid and diameter of each lesion, as CSV"
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="also write what was done, as JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress bar, no summary")
    parser.add_argument("--slicer-progress", action="store_true", help="progress tags for 3D Slicer on stdout")
    session_options.add(parser)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> None:
    from .. import Model, Session
    from ..lesions import Refinement
    from ..scans import Places, Scan, segment_file

    inputs = [path for path in (given.scan, given.roi, given.model) if path is not None]
    places = Places(given.mask, given.probability, given.dicom_seg, given.report, given.lesions)
    outputs = [*places.results, *([given.report] if given.report is not None else [])]
    resolved = [path.resolve() for path in inputs + outputs]
    for path in outputs:
        if resolved.count(path.resolve()) > 1:
            raise UsageError(f"{path}: is named twice; an output needs a file of its own")
    places.check()
    model = Model(given.model)
    with Session(model, **session_options.of(given)) as session:
        scan = Scan(given.scan, given.series, given.roi, given.axes, given.spacing)
        refinement = Refinement(given.smooth, given.min_volume)
        report = segment_file(session, model, scan, places, progress=_progress(given), refinement=refinement)
    warn(given.scan, report["notes"])
    if not given.quiet:
        print(
            f"{given.mask}: {report['patches']} patches of {report['options']['patch_size']} px every "
            f"{report['options']['stride']} px, on {report['engine']}, {report['timings_s']['segment']:.1f} s; "
            f"lesion {report['lesion_mm3']:.0f} mm3"
        )
        if report["options"]["body"]:
            print(f"body: {100 * report['body_share']:.4g} % of the voxels")
        if report["nonfinite_voxels"]:
            print(f"{report['nonfinite_voxels']} voxels were not finite and counted as black")


def _progress(given: argparse.Namespace) -> Union[None, bool, Progress]:
    if given.slicer_progress:
        return _print_slicer_progress
    return True if not given.quiet and sys.stderr.isatty() else None


def _print_slicer_progress(fraction: float, stage: str) -> None:
    print(f"<filter-progress>{fraction:.4f}</filter-progress>", flush=True)
