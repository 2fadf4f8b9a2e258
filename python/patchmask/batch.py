"""Many scans: what is to be done, what has been done, and the table.

    OUT/settings.json           model and options, written by the first run; a run with others is refused
    OUT/NAME_mask.nii.gz        the mask; NAME_seg.dcm: as a DICOM segmentation
    OUT/NAME.json               the record, renamed into place last: with status "done" the scan is finished
    OUT/results.csv, .json      the table, rewritten at the end of a run (results-part-K-of-N for parts)

Nothing is coordinated but by these files, so that array jobs on any machines, killed ones too, may share a folder: a
scan is finished when its record says so, files appear by renaming, and whoever runs again does what is left.
"""

from __future__ import annotations

import csv
import json
import os
import socket
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Iterable, Optional

from . import images
from .errors import DeviceFailed, NoDevice, PatchmaskError, WrongProcess
from .lesions import Refinement
from .model import Model
from .pending import Pending, remove_leftovers
from .scans import Places, Scan, segment_file
from .session import Session

COLUMNS = (
    "scan",
    "status",
    "reason",
    "notes",
    "lesion_mm3",
    "nonfinite_voxels",
    "patches",
    "seconds",
    "engine",
    "host",
    "process",
    "input",
    "series",
    "mask",
)
# These may differ between runs: they decide where the work is done, not what comes out.
_ELSEWHERE = ("device", "cuda_devices", "threads", "memory_budget")


@dataclass(frozen=True)
class Task:
    """One scan of a batch; goes to workers as it is."""

    name: str
    scan: Scan
    out: Path
    suffix: str = ".nii.gz"
    probability: bool = False
    dicom_seg: bool = False
    lesions: bool = False
    refinement: Refinement = Refinement()

    @property
    def record(self) -> Path:
        return self.out / f"{self.name}.json"

    @property
    def places(self) -> Places:
        return Places(
            self.out / f"{self.name}_mask{self.suffix}",
            self.out / f"{self.name}_probability{self.suffix}" if self.probability else None,
            self.out / f"{self.name}_seg.dcm" if self.dicom_seg else None,
            self.record,
            self.out / f"{self.name}_lesions.csv" if self.lesions else None,
        )


@dataclass(frozen=True)
class Setup:
    """How every scan of a batch is segmented: the model's path and the arguments of Session."""

    model: Path
    options: dict[str, Any] = field(default_factory=dict)


class Fatal(Exception):
    """A failure that no other scan of this process would survive either: a device that is not there, a bad model."""


def tasks_of(folder: Path, out: Path, axes: str, rois: Optional[Path] = None, **wanted: Any) -> list[Task]:
    """The scans under `folder`, by name; what lies in `out` or `rois` is not among them.

    The ROI of a scan is what has its name under `rois`. Where there is none the path is of no file: the scan fails.
    `wanted` are the other fields of Task.
    """
    folder, out, rois = folder.resolve(), out.resolve(), rois and rois.resolve()  # workers may run elsewhere
    found = [scan for scan in images.find(folder) if not {out, rois} & _above(scan[1])]
    roi_of = {name: path for name, path, _ in images.find(rois)} if rois else {}

    def task(name: str, path: Path, series: Optional[str]) -> Task:
        roi = rois and roi_of.get(name, rois / f"{name}.*")
        return Task(name, Scan(path, series, roi, axes), out, **wanted)

    return [task(*scan) for scan in found]


def _above(path: Path) -> set[Path]:
    """Where it is, links followed as far as they lead, and all folders that it is in."""
    there = Path(os.path.realpath(path))
    return {there, *there.parents}


def share(tasks: list[Task], num_parts: int, part_id: int) -> list[Task]:
    """Part `part_id` of `num_parts`: every `num_parts`-th scan, so that each is in exactly one part."""
    return tasks[part_id::num_parts]


def record_of(task: Task) -> Optional[dict[str, Any]]:
    """The record of a scan; None where it has not been tried, its record or mask is not there, or its files have
    changed since."""
    try:
        record: dict[str, Any] = json.loads(task.record.read_text(encoding="utf-8"))
        if record.get("status") == "done":
            there = all(place.exists() for place in task.places.results) and record.get("input_state") == task.scan.state()
            return record if there else None
    except (OSError, ValueError):
        return None
    return record


def is_finished(task: Task) -> bool:
    record = record_of(task)
    return record is not None and record["status"] == "done"


def check_settings(session: Session, model: Model, task_like: Task) -> None:
    """Writes OUT/settings.json, or compares with it: masks of different settings must not mix in one folder."""
    settings = {
        "model_sha256": model.info.sha256,
        **{name: value for name, value in session.options.items() if name not in _ELSEWHERE},
        "axes": task_like.scan.axes,
        "roi": task_like.scan.roi is not None,
        "suffix": task_like.suffix,
        "probability": task_like.probability,
        "dicom_seg": task_like.dicom_seg,
        "lesions": task_like.lesions,
        **asdict(task_like.refinement),
    }
    place = task_like.out / "settings.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    with Pending() as pending:
        pending.text(json.dumps(settings, indent=1) + "\n", place)
        try:
            os.link(pending.place(place), place)  # fails where it is there, also if another job was faster
            return
        except FileExistsError:
            there = json.loads(place.read_text(encoding="utf-8"))
    for name, value in json.loads(json.dumps(settings)).items():
        if there.get(name) != value:
            raise Fatal(
                f"{place.parent}: has results of {name} {there.get(name)}, this run has {value}: use another folder"
            )


class Worker:
    """One session for the scans of one process, made when the first one comes."""

    def __init__(self, setup: Setup):
        self.setup = setup
        self._lock = threading.Lock()  # a session runs one call at a time
        self._model: Optional[Model] = None
        self._session: Optional[Session] = None

    def session(self) -> tuple[Session, Model]:
        if self._session is None or self._model is None:
            try:
                self._model = self._model or Model(self.setup.model)
                self._session = Session(self._model, **self.setup.options)
            except PatchmaskError as failed:
                raise Fatal(str(failed)) from failed
        return self._session, self._model

    def run(self, task: Task) -> dict[str, Any]:
        """Does a scan, unless it is finished; returns its record. Failures of the scan are records too."""
        with self._lock:
            record = record_of(task)
            if record is not None and record["status"] == "done":
                return record
            for place in (*task.places.results, task.record):
                remove_leftovers(place)
            began = time.time()
            try:
                task.record.parent.mkdir(parents=True, exist_ok=True)
                session, model = self.session()
                state = task.scan.state()  # before reading: what changes meanwhile is done again
                extra = {"scan": task.name, "status": "done", "reason": "", "input_state": state, **_who(began)}
                return segment_file(
                    session, model, task.scan, task.places, refinement=task.refinement, extra=extra
                )
            except Fatal:
                raise
            except (NoDevice, WrongProcess) as failed:
                raise Fatal(str(failed)) from failed
            except DeviceFailed as failed:
                self._session = None  # of no further use; the next scan gets a new one
                return write_failure(task, str(failed), began)
            except Exception as failed:  # whatever it is, the others go on
                return write_failure(task, str(failed) or type(failed).__name__, began)


def _who(began: float) -> dict[str, Any]:
    """Who does a scan, since when (seconds since 1970)."""
    return {"host": socket.gethostname(), "process": os.getpid(), "began": began}


def write_failure(task: Task, reason: str, began: Optional[float] = None) -> dict[str, Any]:
    """Records why a scan failed; a later run tries it again."""
    record = {
        "scan": task.name,
        "status": "failed",
        "reason": " ".join(reason.split()),
        "input": str(task.scan.path),
        "series": task.scan.series,
        **_who(began or time.time()),
    }
    try:
        task.record.parent.mkdir(parents=True, exist_ok=True)
        with Pending() as pending:
            pending.text(json.dumps(record, indent=1) + "\n", task.record)
            pending.commit()
    except OSError:  # a name too long for a record; the table has the reason
        pass
    return record


def write_table(
    tasks: Iterable[Task], out: Path, name: str, failed: dict[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    """OUT/NAME.csv and .json with a row per scan, also those that nobody has tried ("missing"); returns the rows.

    `failed` has the records of this run, by scan, for those that could not be written.
    """
    rows = []
    for task in tasks:
        record = record_of(task) or failed.get(task.name)
        record = record or {"status": "missing", "input": str(task.scan.path), "series": task.scan.series}
        record = {**record, "scan": task.name, "seconds": record.get("timings_s", {}).get("segment")}
        record["notes"] = "; ".join(record.get("notes", []))
        rows.append({column: record.get(column) for column in COLUMNS})
    with Pending() as pending:
        place = pending.place(out / f"{name}.csv")
        with open(place, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:  # any name of a file
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
        pending.text(json.dumps(rows, indent=1) + "\n", out / f"{name}.json")
        pending.commit()
    return rows
