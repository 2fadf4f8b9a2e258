"""One scan from file to files: what `patchmask segment` and `patchmask batch` share."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Union

import numpy as np
import SimpleITK as sitk

from . import __version__, images, lesions, library_version
from .errors import InvalidArgument
from .lesions import Refinement
from .model import Model
from .pending import Pending
from .session import Progress, Segmentation, Session

if TYPE_CHECKING:
    from .writing_dicom import SegmentedSeries

Report = dict[str, Any]


@dataclass(frozen=True)
class Scan:
    """A scan to read: a file, or a folder with a DICOM series."""

    path: Path
    series: Optional[str] = None  #: UID, where the folder has several
    roi: Optional[Path] = None
    axes: str = "LPS"  #: how slices lie before the network sees them, or "file"
    spacing: Optional[images.Spacing] = None  #: mm along columns, rows, slices, where the file does not say it

    def state(self) -> dict[str, int]:
        """Number, bytes and sum of the times of the scan's files: differs once one of them has changed."""
        found = [file.stat() for path in (self.path, self.roi) if path is not None for file in images.files_of(path)]
        return {
            "files": len(found),
            "bytes": sum(file.st_size for file in found),
            "modified_ns": sum(file.st_mtime_ns for file in found),
        }


@dataclass(frozen=True)
class Places:
    """The paths of the results; None: not wanted."""

    mask: Path
    probability: Optional[Path] = None
    dicom_seg: Optional[Path] = None  #: the mask again, as a DICOM segmentation of a DICOM series
    report: Optional[Path] = None
    lesions: Optional[Path] = None  #: a table of them, as CSV

    @property
    def results(self) -> list[Path]:
        """Those that are wanted, but for the report."""
        return [path for path in (self.mask, self.probability, self.dicom_seg, self.lesions) if path is not None]

    def check(self) -> None:
        """Raises InvalidArgument where a file would have a suffix that is not that of its format."""
        if self.dicom_seg is not None and images.suffix_of(self.dicom_seg, (".dcm",)) is None:
            raise InvalidArgument(f"{self.dicom_seg}: must end in .dcm")
        for path in (self.mask, self.probability):
            if path is not None and images.suffix_of(path, images.WRITE_SUFFIXES) is None:
                raise InvalidArgument(f"{path}: must end in one of {', '.join(images.WRITE_SUFFIXES)}")


def segment_file(
    session: Session,
    model: Model,
    scan: Scan,
    places: Places,
    *,
    progress: Union[None, bool, Progress] = None,
    refinement: Refinement = Refinement(),
    extra: Optional[Report] = None,
) -> Report:
    """Reads, segments, refines and writes a scan; returns the report, which `extra` is added to.

    Masks lie on the grid of the scan's file. The files appear when all are complete, the report last.
    """
    places.check()
    with Pending() as pending:
        for path in places.results:
            pending.place(path)  # a folder that cannot be written is known before the work
        began = time.perf_counter()
        image = images.read(scan.path, scan.series, *([scan.spacing] if scan.spacing else []))
        target = None if places.dicom_seg is None else _series_of(scan, image, model, session)
        turned = images.turn(image, scan.axes)
        region = None if scan.roi is None else _read_roi(scan, image)
        read = time.perf_counter()
        done = session.segment(
            sitk.GetArrayViewFromImage(turned),
            None if region is None else sitk.GetArrayViewFromImage(region),
            spacing=turned.GetSpacing()[:2],
            probability=places.probability is not None or refinement.smooth_mm > 0,
            coverage=refinement.smooth_mm > 0,
            progress=progress,
        )
        segmented = time.perf_counter()
        assert done.mask is not None
        voxel_mm3, lesion_class = images.voxel_mm3(image), session.options["lesion_class"]
        mask, probability = lesions.refine(
            done.mask,
            done.probability,
            done.coverage,
            turned,
            voxel_mm3,
            refinement,
            lesion_class,
            session.options["threshold"],
        )
        found = []
        if places.lesions is not None:
            found = lesions.table(lesions.label(mask == lesion_class, turned, voxel_mm3), voxel_mm3)
            pending.text(lesions.as_csv(found), places.lesions)
        refined = time.perf_counter()
        on_file = images.turn_back(images.like(mask, turned), image)
        images.write(on_file, places.mask, pending)
        if target is not None and places.dicom_seg is not None:
            target.write(sitk.GetArrayViewFromImage(on_file), pending.place(places.dicom_seg))
        if places.probability is not None:
            assert probability is not None
            images.write(images.turn_back(images.like(probability, turned), image), places.probability, pending)
        seconds = {
            "load": read - began,
            "refine": refined - segmented,
            "write": time.perf_counter() - refined,
        }
        report = {
            **_report(session, model, scan, places, image, done, seconds),
            **asdict(refinement),
            "lesion_mm3": round(float(np.count_nonzero(mask == lesion_class)) * voxel_mm3, 3),
            "lesions": [asdict(lesion) for lesion in found] if places.lesions else None,
            **(extra or {}),
        }
        if places.report is not None:
            pending.text(json.dumps(report, indent=1) + "\n", places.report)
        pending.commit()
    return report


def _series_of(scan: Scan, image: sitk.Image, model: Model, session: Session) -> SegmentedSeries:
    from .writing_dicom import SegmentedSeries  # highdicom, which takes a second to import

    return SegmentedSeries(scan.path, scan.series, image.GetSpacing(), model, session)


def _read_roi(scan: Scan, image: sitk.Image) -> sitk.Image:
    assert scan.roi is not None
    region = images.read_roi(scan.roi, None, scan.spacing)
    return images.turn(images.on_grid(region, scan.roi, image, scan.path), scan.axes)


def _report(
    session: Session,
    model: Model,
    scan: Scan,
    places: Places,
    image: sitk.Image,
    done: Segmentation,
    seconds: dict[str, float],
) -> Report:
    """As the report of the program `segment`, with geometry and the volume of the lesions."""
    counts = asdict(done.result)
    stages = {name.removesuffix("_seconds"): counts.pop(name) for name in list(counts) if name.endswith("_seconds")}
    return {
        "version": library_version(),
        "package": __version__,
        "input": str(scan.path),
        "series": scan.series,
        "mask": str(places.mask),
        "dicom_seg": None if places.dicom_seg is None else str(places.dicom_seg),
        "options": {**session.options, "axes": scan.axes, "roi": None if scan.roi is None else str(scan.roi)},
        "model_sha256": model.info.sha256,
        **counts,
        "engine": session.engine,
        "size": list(image.GetSize()),
        "spacing_mm": list(image.GetSpacing()),
        "axes": images.axes_of(image),
        "notes": images.notes_of(image),
        "timings_s": {"load": seconds["load"], **stages, "refine": seconds["refine"], "write": seconds["write"]},
    }
