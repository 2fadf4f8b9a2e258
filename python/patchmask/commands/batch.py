"""patchmask batch: every scan of a folder, here, in parts of an array job, or on Dask."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any, Iterator

from . import UsageError, session_options, warn

HERE = "here"  # --dask without an address


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "batch",
        help="every scan of a folder; array jobs, Dask",
        description="Segments every scan under a folder (files, and folders with DICOM series). Finished scans are "
        "skipped, failed ones listed and tried again by the next run. Exit status 0: every scan of this run's share "
        "is finished; 3: some failed or are missing.",
    )
    parser.add_argument("folder", type=Path, help="where the scans are, at any depth")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="where masks, records and the table go"
    )
    parser.add_argument(
        "--format", choices=("nii.gz", "nii", "nrrd", "mha"), default="nii.gz", help="of masks (default nii.gz)"
    )
    parser.add_argument(
        "--roi",
        type=Path,
        metavar="FOLDER",
        help="evaluate only where a scan's ROI, the volume of its name in this folder, is not zero",
    )
    parser.add_argument("--probability", action="store_true", help="also write the probability of the lesion class")
    parser.add_argument(
        "--dicom-seg", action="store_true", help="also write masks as DICOM segmentations; every scan must be a DICOM series"
    )
    parser.add_argument(
        "--lesions", action="store_true", help="also write volume, centroid and diameter of each lesion, as CSV"
    )
    session_options.add_refinement(parser)
    parser.add_argument(
        "--num-parts", type=int, metavar="N", help="share the scans between N jobs; with --part-id"
    )
    parser.add_argument("--part-id", type=int, metavar="K", help="which of them this is, 0 to N-1")
    parser.add_argument("--table", action="store_true", help="only write the table of what has been done")
    parser.add_argument("--quiet", action="store_true", help="no line per scan")
    dask = parser.add_argument_group("on Dask")
    dask.add_argument(
        "--dask",
        nargs="?",
        const=HERE,
        metavar="ADDRESS",
        help="scheduler (tcp://host:8786); without address a cluster on this machine",
    )
    dask.add_argument("--workers", type=int, default=0, metavar="N", help="processes of the local cluster (default 1)")
    dask.add_argument(
        "--resource", metavar="NAME=N", help="what a scan occupies of a worker (default GPU=1 with --device cuda)"
    )
    session_options.add(parser)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    from .. import Model, Session, batch
    from ..lesions import Refinement

    _check(given)
    tasks = batch.tasks_of(
        given.folder,
        given.out,
        given.axes,
        given.roi,
        suffix=f".{given.format}",
        probability=given.probability,
        dicom_seg=given.dicom_seg,
        lesions=given.lesions,
        refinement=Refinement(given.smooth, given.min_volume),
    )
    if not tasks:
        raise UsageError(f"{given.folder}: no scans in this folder")
    num_parts, part_id = given.num_parts or 1, given.part_id or 0
    mine = batch.share(tasks, num_parts, part_id)
    left = [task for task in mine if not batch.is_finished(task)]
    failed = {}
    try:
        if not given.table:
            setup = batch.Setup(given.model.resolve(), session_options.of(given))
            # Known before the work: the model, the options, and that OUT's results are of the same. On the CPU, for
            # the machine that hands out the work may have no GPU.
            model = Model(setup.model)
            device = setup.options["device"] if given.dask is None else "cpu"
            with Session(model, **{**setup.options, "device": device}) as session:
                batch.check_settings(session, model, tasks[0])
            for count, record in enumerate(_records(given, setup, left), len(mine) - len(left) + 1):
                if record["status"] == "failed":
                    failed[record["scan"]] = record
                if not given.quiet:
                    nonfinite = record.get("nonfinite_voxels")
                    note = f", {nonfinite} voxels were not finite and counted as black" if nonfinite else ""
                    note += "".join(f"; {told}" for told in record.get("notes", []))
                    name = " ".join(record["scan"].split())  # a line each
                    print(f"{count}/{len(mine)} {name} {record['status']}{note}", flush=True)
    finally:
        if given.out.is_dir():
            name = f"results-part-{part_id}-of-{num_parts}" if num_parts > 1 else "results"
            rows = batch.write_table(mine, given.out, name, failed)
    return _summary(rows, len(mine) - len(left), given.out / f"{name}.csv")


def _check(given: argparse.Namespace) -> None:
    if (given.num_parts is None) != (given.part_id is None):
        raise UsageError("--num-parts and --part-id: give both, or neither to do every scan")
    if given.num_parts is not None and not 0 <= given.part_id < given.num_parts:
        raise UsageError(
            f"--num-parts {given.num_parts} --part-id {given.part_id}: K must be from 0 to N-1, N at least 1"
        )
    for folder in (given.folder, given.roi):
        if folder is not None and not folder.is_dir():
            raise UsageError(f"{folder}: no such folder")
    for option, folder in (("--out", given.out), ("--roi", given.roi)):
        if folder is not None and folder.resolve() == given.folder.resolve():
            raise UsageError(f"{option} {folder}: must be another folder than that of the scans")
    if given.dask is None and (given.workers or given.resource):
        raise UsageError("--workers and --resource: need --dask")
    if given.workers < 0 or (given.workers and given.dask != HERE):
        raise UsageError(f"--workers {given.workers}: is for the local cluster (--dask without ADDRESS), at least 1")
    if given.table and not given.out.is_dir():
        raise UsageError(f"{given.out}: no such folder")


def _records(given: argparse.Namespace, setup: Any, left: list[Any]) -> Iterator[dict[str, Any]]:
    from .. import batch, cluster

    if given.dask is None:
        worker = batch.Worker(setup)
        yield from map(worker.run, left)
        return
    workers = given.workers or 1
    if given.dask == HERE and setup.options["threads"] == 0:
        setup.options["threads"] = max(1, (os.cpu_count() or 1) // workers)
    address = None if given.dask == HERE else given.dask
    yield from cluster.run(setup, left, address, workers, _resources(given))


def _resources(given: argparse.Namespace) -> dict[str, float] | None:
    text = given.resource or ("GPU=1" if given.device.startswith("cuda") else "")
    if not text:
        return None
    name, _, amount = text.partition("=")
    try:
        number = float(amount)
    except ValueError:
        number = 0
    if not name or not number > 0:
        raise UsageError(f"--resource {text}: must be NAME=N, N above 0")
    return {name: number}


def _summary(rows: list[dict[str, Any]], before: int, table: Path) -> int:
    count = {status: sum(row["status"] == status for row in rows) for status in ("done", "failed", "missing")}
    print(
        f"{table}: {count['done']} of {len(rows)} scans done ({before} before), "
        f"{count['failed']} failed, {count['missing']} missing"
    )
    for row in rows:
        if row["status"] == "failed":
            warn(row["scan"], [row["reason"].removeprefix(row["input"] + ": ")])
    return 0 if count["done"] == len(rows) else 3
