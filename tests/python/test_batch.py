"""Many scans: parts, resuming, failures, and a cluster whose worker is killed in the middle."""

import csv
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from conftest import MODEL
from pydicom.data import get_testdata_file
from test_images import write_series

from patchmask import batch, images

OPTIONS = ("--model", MODEL, "--stride", 16, "--device", "cpu")


@pytest.fixture
def scans(tmp_path, part):
    """Five scans: files at two depths, a DICOM series, a file in other axes; and what is no scan."""
    folder = tmp_path / "scans"
    (folder / "clinic").mkdir(parents=True)
    sitk.WriteImage(part, str(folder / "a.nii.gz"))
    sitk.WriteImage(part[:, :, :2], str(folder / "b.nrrd"))
    sitk.WriteImage(sitk.DICOMOrient(part, "RAS"), str(folder / "clinic/c.mha"))
    write_series(part[:, :, 1:], folder / "clinic/d")
    sitk.WriteImage(part[:, :, 1:3], str(folder / "e.mha"))
    (folder / "notes.txt").write_text("not a scan")
    (folder / ".hidden.nii.gz").write_text("nor this")
    return folder


NAMES = ["a", "b", "clinic/c", "clinic/d", "e"]


def table(out, name="results"):
    with open(out / f"{name}.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    names = [row["scan"] for row in json.loads((out / f"{name}.json").read_text())]
    assert [row["scan"] for row in rows] == [name.encode("utf-8", "backslashreplace").decode() for name in names]
    return {row["scan"]: row for row in rows}


def stamps(out):
    """Which file each result is: a file written anew is another one."""
    return {
        path.relative_to(out).as_posix(): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in out.rglob("*")
        if path.is_file() and not path.name.startswith("results")
    }


def results_of(out):
    """Names with a mask, each with a record, and nothing else left."""
    files = {name for name in stamps(out) if name != "settings.json"}
    masks = {name.removesuffix("_mask.nii.gz") for name in files if name.endswith("_mask.nii.gz")}
    assert files == {f"{n}_mask.nii.gz" for n in masks} | {f"{n}.json" for n in masks}
    return sorted(masks)


def test_all(command, scans, tmp_path, part):
    out = tmp_path / "out"
    shown = command("batch", scans, "--out", out, *OPTIONS).stdout
    assert results_of(out) == NAMES and "5 of 5 scans done (0 before)" in shown
    rows = table(out)
    assert all(row["status"] == "done" and float(row["seconds"]) > 0 for row in rows.values())
    mask = sitk.ReadImage(str(out / "clinic/c_mask.nii.gz"))
    turned = sitk.DICOMOrient(mask, "LPS")
    same = sitk.ReadImage(str(out / "a_mask.nii.gz"))
    assert np.array_equal(sitk.GetArrayFromImage(turned), sitk.GetArrayFromImage(same))
    assert np.allclose(mask.GetOrigin(), sitk.ReadImage(str(scans / "clinic/c.mha")).GetOrigin())
    # Again: nothing is done twice. A mask or a record that is gone is made again, and nothing else.
    before = stamps(out)
    assert "5 of 5 scans done (5 before)" in command("batch", scans, "--out", out, *OPTIONS).stdout
    assert stamps(out) == before
    (out / "b_mask.nii.gz").unlink()
    (out / "e.json").write_text("{ half a record")
    assert "(3 before)" in command("batch", scans, "--out", out, *OPTIONS).stdout
    changed = {name for name, stamp in stamps(out).items() if stamp != before[name]}
    assert changed == {"b_mask.nii.gz", "b.json", "e_mask.nii.gz", "e.json"}


def test_failures(command, scans, tmp_path):
    """A scan that fails is listed with its reason; the others go on; the next run tries it again."""
    out = tmp_path / "out"
    good = (scans / "b.nrrd").read_bytes()
    (scans / "b.nrrd").write_bytes(good[:4000])
    write_series(sitk.ReadImage(str(scans / "a.nii.gz")), scans / "gap", skip=(2,))
    done = command("batch", scans, "--out", out, *OPTIONS, status=3)
    assert "4 of 6 scans done (0 before), 2 failed, 0 missing" in done.stdout
    rows = table(out)
    assert {name for name, row in rows.items() if row["status"] == "failed"} == {"b", "gap"}
    assert "b.nrrd" in rows["b"]["reason"] and "a slice is missing" in rows["gap"]["reason"]
    assert rows["b"]["mask"] == "" and not (out / "b_mask.nii.gz").exists()
    assert "b failed\n" in done.stdout and "b.nrrd" not in done.stdout
    assert [line.split(":")[1] for line in done.stderr.splitlines()] == [" b", " gap"]  # each once, without its path
    assert "slice is missing" in done.stderr and str(scans) not in done.stderr
    shutil.rmtree(scans / "gap")
    (scans / "b.nrrd").write_bytes(good)
    (out / "gap.json").unlink()
    assert "(4 before), 0 failed" in command("batch", scans, "--out", out, *OPTIONS).stdout
    assert results_of(out) == NAMES


def test_what_is_no_file(command, scans, tmp_path):
    """Pipes, devices, links to themselves, links up, and a name of two lines: none stops the others."""
    os.mkfifo(scans / "pipe.nrrd")
    (scans / "zero.nii").symlink_to("/dev/zero")
    (scans / "loop").symlink_to("loop")
    (scans / "clinic/up").symlink_to("..")
    (scans / "new\nline.nrrd").write_text("no scan")
    write_series(sitk.ReadImage(str(scans / "a.nii.gz")), scans / "lost")
    last = sorted((scans / "lost").iterdir())[-1]
    last.unlink()
    last.symlink_to("annex/gone")
    done = command("batch", scans, "--out", tmp_path / "out", *OPTIONS, status=3)
    rows = table(tmp_path / "out")
    failed = {name: row["reason"] for name, row in rows.items() if row["status"] == "failed"}
    assert set(failed) - {f"lost/{last.name}"} == {"pipe", "zero", "loop", "new\nline", "lost"}
    assert "is no regular file" in failed["pipe"] and "is no regular file" in failed["zero"]
    assert "a link to nowhere" in failed["lost"] and set(NAMES) == set(rows) - set(failed)
    assert len(done.stderr.splitlines()) == len(failed) and "patchmask: new line: " in done.stderr
    assert "new line failed\n" in done.stdout


def test_one_bad_scan_among_many(command, tmp_path, part):
    """Names of any bytes, links, objects that are no images, files that are not whole: each has its row, none stops
    the others."""
    folder, far, out = tmp_path / "scans", tmp_path / "far", tmp_path / "out"
    for path in (folder / "dose", folder / "cut", far):
        path.mkdir(parents=True)
    plain = folder / "a.nrrd"
    sitk.WriteImage(part[:, :, :1], str(plain))
    os.link(plain, os.fsencode(folder) + b"/M\xfcller.nrrd")
    os.link(plain, folder / f"{'n' * 248}.nrrd")  # no room for the name of its mask
    shutil.copy(get_testdata_file("rtdose_1frame.dcm"), folder / "dose")
    write_series(part, folder / "cut")
    first = sorted((folder / "cut").iterdir())[0]
    first.write_bytes(first.read_bytes()[:-2000])
    write_series(part, far / "p9")
    os.link(plain, far / "b.nrrd")
    for link, to in (("linked", far), ("again", folder), ("dead", far / "none"), ("gone.nrrd", far / "none")):
        (folder / link).symlink_to(to)
    (folder / "empty.nii.gz").touch()
    done = command("batch", folder, "--out", out, *OPTIONS, status=3)
    assert "4 of 10 scans done (0 before), 6 failed, 0 missing" in done.stdout
    rows = table(out)
    good = {"a", "M\\udcfcller", "linked/b", "linked/p9"}
    assert {name for name, row in rows.items() if row["status"] == "done"} == good
    reasons = {"dose": "only RT Dose Storage", "cut": first.name, "dead": "no such file", "empty": "is empty",
               "n" * 248: "File name too long"}  # fmt: skip
    for name, reason in reasons.items():
        assert reason in rows[name]["reason"], rows[name]
    assert len(done.stderr.splitlines()) == 6 and "Traceback" not in done.stderr
    assert "(4 before), 6 failed" in command("batch", folder, "--out", out, *OPTIONS, "--quiet", status=3).stdout


def test_doubtful_scans(command, tmp_path, part):
    """What is said of a scan stands beside it, in its record and in the table."""
    (tmp_path / "scans").mkdir()
    sitk.WriteImage(part[:, :, :1], str(tmp_path / "scans/a.nii"))
    content = bytearray((tmp_path / "scans/a.nii").read_bytes())
    struct.pack_into("<3f", content, 80, 1, 1, 1)  # pixdim
    (tmp_path / "scans/a.nii").write_bytes(content)
    done = command("batch", tmp_path / "scans", "--out", tmp_path / "out", *OPTIONS)
    assert "its pixdim (1, 1, 1): the sform counts" in done.stdout
    assert "the sform counts" in table(tmp_path / "out")["a"]["notes"]


def test_changed_scans(command, scans, tmp_path, part):
    """Scans that have changed since are done again: a file, the data beside a header, a slice of a DICOM series."""
    out = tmp_path / "out"
    sitk.WriteImage(part[:, :, :1], str(scans / "f.mhd"))
    command("batch", scans, "--out", out, *OPTIONS)
    before = stamps(out)
    for path in (scans / "b.nrrd", scans / "f.raw", next((scans / "clinic/d").iterdir())):
        content = path.read_bytes()
        path.write_bytes(content[:-2] + b"\1\0")  # of the same length
    assert "0 failed, 3 missing" in command("batch", scans, "--out", out, *OPTIONS, "--table", status=3).stdout
    assert "6 of 6 scans done (3 before)" in command("batch", scans, "--out", out, *OPTIONS).stdout
    changed = {name for name, stamp in stamps(out).items() if stamp != before[name]}
    assert changed == {f"{name}{ending}" for name in ("b", "f", "clinic/d") for ending in ("_mask.nii.gz", ".json")}
    (scans / "clinic/d/1.2.3-21.dcm").unlink()  # the last slice
    assert "(5 before)" in command("batch", scans, "--out", out, *OPTIONS, status=0).stdout


def test_rois(command, scans, tmp_path, part):
    """By the scan's name, whatever the suffix; a scan without a ROI fails, a changed ROI counts as a changed scan."""
    out, rois = tmp_path / "out", scans / "rois"  # not scans, though they lie among them
    (rois / "clinic").mkdir(parents=True)
    inside = np.zeros((5, 80, 96), np.uint8)
    inside[:, 30:50, 40:60] = 1
    region = images.like(inside, part)
    sitk.WriteImage(region, str(rois / "a.nrrd"))
    sitk.WriteImage(region[:, :, :2], str(rois / "b.nii.gz"))
    sitk.WriteImage(sitk.DICOMOrient(region, "RAS"), str(rois / "clinic/c.mha"))
    write_series(sitk.Cast(region[:, :, 1:], sitk.sitkInt16), rois / "clinic/d")
    words = ("batch", scans, "--out", out, *OPTIONS, "--roi", rois)
    done = command(*words, status=3)
    assert "4 of 5 scans done" in done.stdout and f"e: {rois}/e.*: no such file" in done.stderr
    mask = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "a_mask.nii.gz")))
    command("segment", scans / "a.nii.gz", tmp_path / "mask.nrrd", "--roi", rois / "a.nrrd", *OPTIONS)
    assert np.array_equal(mask, sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "mask.nrrd"))))
    assert mask.any() and not mask[:, :20].any()
    sitk.WriteImage(region[:, :, 1:3], str(rois / "e.nrrd"))
    sitk.WriteImage(sitk.Cast(region, sitk.sitkInt16), str(rois / "a.nrrd"))
    assert "5 of 5 scans done (3 before)" in command(*words).stdout
    assert "results of roi True" in command("batch", scans, "--out", out, *OPTIONS, status=1).stderr
    told = command("batch", scans, "--out", out, *OPTIONS, "--roi", scans, status=2).stderr
    assert "must be another folder than that of the scans" in told
    assert "none: no such folder" in command(*words[:-1], tmp_path / "none", status=2).stderr


def test_voxels_that_are_no_numbers(command, tmp_path):
    """Their count is told and is in the table."""
    (tmp_path / "scans").mkdir()
    sitk.WriteImage(sitk.GetImageFromArray(np.full((1, 64, 64), np.nan, np.float32)), str(tmp_path / "scans/a.nrrd"))
    told = "4096 voxels were not finite and counted as black\n"
    assert f"a done, {told}" in command("batch", tmp_path / "scans", "--out", tmp_path / "out", *OPTIONS).stdout
    assert table(tmp_path / "out")["a"]["nonfinite_voxels"] == "4096"
    assert told in command("segment", tmp_path / "scans/a.nrrd", tmp_path / "mask.nrrd", *OPTIONS).stdout


def test_parts(command, scans, tmp_path):
    """Array jobs: every scan in exactly one part; the whole table afterwards."""
    out = tmp_path / "out"
    words = ("batch", scans, "--out", out, *OPTIONS, "--num-parts", 2, "--part-id")
    command(*words, 0)
    half = stamps(out)
    assert results_of(out) == ["a", "clinic/c", "e"]
    whole = command("batch", scans, "--out", out, *OPTIONS, "--table", status=3).stdout
    assert "3 of 5 scans done (3 before), 0 failed, 2 missing" in whole
    command(*words, 1)
    assert results_of(out) == NAMES and half.items() <= stamps(out).items()
    assert set(table(out, "results-part-0-of-2")) | set(table(out, "results-part-1-of-2")) == set(NAMES)
    command("batch", scans, "--out", out, *OPTIONS, "--table")
    assert list(table(out)) == NAMES
    tasks = batch.tasks_of(scans, out, "LPS")
    for parts in (1, 2, 3, 5, 7):
        shared = [task.name for part in range(parts) for task in batch.share(tasks, parts, part)]
        assert sorted(shared) == NAMES


def test_both_parts_at_once(scans, tmp_path):
    out = tmp_path / "out"
    program = [Path(sys.executable).with_name("patchmask"), "batch", scans, "--out", out, *OPTIONS, "--num-parts", 2]
    running = [subprocess.Popen([str(w) for w in [*program, "--part-id", k]]) for k in (0, 1)]
    assert [job.wait(120) for job in running] == [0, 0]
    assert results_of(out) == NAMES


def test_other_settings(command, scans, tmp_path):
    """Masks of different settings do not mix, also where nothing is left to do."""
    out = tmp_path / "out"
    command("batch", scans, "--out", out, *OPTIONS)
    before = stamps(out)
    for words, text in ((("--stride", 8), "stride 16, this run has 8"), (("--axes", "RAS"), "axes LPS")):
        assert text in command("batch", scans, "--out", out, *OPTIONS, *words, status=1).stderr
    command("batch", scans, "--out", out, *OPTIONS, "--threads", 1, "--memory", 512)  # changes no result
    assert stamps(out) == before


def test_wrong_inputs(command, scans, tmp_path):
    out = ("--out", tmp_path / "out")

    def refused(text, *words, status=2):
        assert text in command("batch", *words, status=status).stderr

    refused("no such folder", tmp_path / "none", *out, *OPTIONS)
    (tmp_path / "empty").mkdir()
    refused("no scans", tmp_path / "empty", *out, *OPTIONS)
    refused("K must be from 0 to N-1", scans, *out, *OPTIONS, "--num-parts", 2, "--part-id", 2)
    refused("K must be from 0 to N-1", scans, *out, *OPTIONS, "--num-parts", 0, "--part-id", 0)
    refused("give both", scans, *out, *OPTIONS, "--num-parts", 2)
    refused("give both", scans, *out, *OPTIONS, "--part-id", 0)
    refused("another folder", scans, "--out", scans, *OPTIONS)
    refused("device gpu", scans, *out, "--model", MODEL, "--device", "gpu")
    refused("need --dask", scans, *out, *OPTIONS, "--workers", 2)
    refused("NAME=N", scans, *out, *OPTIONS, "--dask", "--resource", "GPU=none")
    refused("none.safetensors", scans, *out, "--model", tmp_path / "none.safetensors", status=1)
    refused("stride 0", scans, *out, "--model", MODEL, "--stride", 0)
    refused("both would be called a", _doubled(scans, tmp_path), *out, *OPTIONS, status=1)
    if not os.path.exists("/dev/nvidia0"):
        refused("", scans, *out, "--model", MODEL, "--device", "cuda", status=1)
    assert not list((tmp_path / "out").rglob("*_mask*")) if (tmp_path / "out").exists() else True


def _doubled(scans, tmp_path):
    folder = tmp_path / "doubled"
    folder.mkdir()
    for name in ("a.nrrd", "a.mha"):
        shutil.copy(scans / "b.nrrd", folder / name)
    return folder


def test_fatal_errors_are_not_their_own_cause(scans, tmp_path):
    """Dask walks the causes of an exception, for ever where they go round in a circle."""
    tasks = batch.tasks_of(scans, tmp_path / "out", "LPS")
    for setup in (batch.Setup(tmp_path / "none.safetensors"), batch.Setup(MODEL, {"stride": 0})):
        with pytest.raises(batch.Fatal) as caught:
            batch.Worker(setup).run(tasks[0])
        cause, seen = caught.value, set()
        while cause is not None:
            assert id(cause) not in seen
            seen.add(id(cause))
            cause = cause.__cause__
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").rglob("*.json"))


def test_killed_job(scans, tmp_path, phantom):
    """SIGKILL in the middle of a scan: finished ones stay, the interrupted one is done by the next run."""
    out = tmp_path / "out"
    sitk.WriteImage(phantom, str(scans / "c.nii.gz"))
    words = [
        Path(sys.executable).with_name("patchmask"),
        "batch",
        scans,
        "--out",
        out,
        *OPTIONS[:-4],
        "--device",
        "cpu",
    ]
    words = [str(word) for word in [*words, "--stride", 16, "--quiet"]]
    running = subprocess.Popen(words)
    _wait(lambda: list(out.glob(".partial-*-c_mask.nii.gz")))
    running.kill()
    running.wait()
    before = stamps(out)
    assert "a_mask.nii.gz" in before and "c_mask.nii.gz" not in before
    assert [name for name in before if name.startswith(".partial")]
    done = subprocess.run(words, capture_output=True, encoding="utf-8", check=True)
    assert "6 of 6 scans done (2 before)" in done.stdout
    assert results_of(out) == sorted([*NAMES, "c"])
    kept = {name: stamp for name, stamp in before.items() if not name.startswith(".partial")}
    assert kept.items() <= stamps(out).items()


def _wait(condition, seconds=120):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it takes too long"
        time.sleep(0.02)


def test_dask_with_a_worker_killed(scans, tmp_path, phantom):
    """A local cluster of two; the process of the first long scan is killed when others are finished."""
    out = tmp_path / "out"
    for name in ("x", "y", "z"):
        sitk.WriteImage(phantom, str(scans / f"{name}.nii.gz"))
    (scans / "broken.nii.gz").write_text("broken")
    words = [Path(sys.executable).with_name("patchmask"), "batch", scans, "--out", out, "--model", MODEL]
    words = [str(word) for word in [*words, "--device", "cpu", "--stride", 16, "--dask", "--workers", 2]]
    running = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8")
    try:
        _wait(lambda: len(list(out.rglob("*_mask.nii.gz"))) >= 3 and list(out.glob(".partial-*-[xyz]_mask.nii.gz")))
        finished = stamps(out)
        writing = next(out.glob(".partial-*-[xyz]_mask.nii.gz")).name
        process, mask = writing.removeprefix(".partial-").rsplit("-", 2)[1:]
        name = mask.removesuffix("_mask.nii.gz")
        os.kill(int(process), signal.SIGKILL)
        shown, errors = running.communicate(timeout=300)
    finally:
        if running.poll() is None:
            running.send_signal(signal.SIGINT)
            running.wait(60)
    assert running.returncode == 3, errors  # the broken one
    names = sorted([*NAMES, "x", "y", "z"])
    records = {n: json.loads((out / f"{n}.json").read_text()) for n in [*names, "broken"]}
    assert [n for n, r in records.items() if r["status"] != "done"] == ["broken"]
    (out / "broken.json").unlink()
    assert results_of(out) == names  # each once, nothing left over
    # Scans that were finished when the worker died are untouched; the interrupted one was done by another process.
    kept = {n: s for n, s in finished.items() if not Path(n).name.startswith(".partial")}
    assert kept.items() <= {**stamps(out), "broken.json": kept.get("broken.json")}.items()
    assert f"{name}.json" not in kept and records[name]["process"] != int(process)
    assert list(table(out)) == sorted([*names, "broken"])
    # One session per worker: all scans came from few processes, and every scan was told of once.
    assert len({record["process"] for record in records.values()}) <= 4
    told = [line.split()[1] for line in shown.splitlines() if line[0].isdigit() and "/" in line.split()[0]]
    assert sorted(told) == sorted([*names, "broken"])


def test_dask_scheduler_and_resources(command, scans, tmp_path):
    """An existing scheduler whose worker offers a GPU: only that one is used."""
    distributed = pytest.importorskip("distributed")
    plain = dict(n_workers=1, threads_per_worker=2, processes=True, dashboard_address=None)
    out = tmp_path / "out"
    with distributed.LocalCluster(**plain, resources={"GPU": 1}) as cluster:
        words = ("--dask", cluster.scheduler_address, "--resource", "GPU=1")
        done = command("batch", scans, "--out", out, *OPTIONS, *words, cwd=tmp_path)
        assert "5 of 5 scans done" in done.stdout
        with distributed.Client(cluster) as client:
            pids = set(client.run(os.getpid).values())
        assert {int(row["process"]) for row in table(out).values()} == pids
        # A model that the scheduler's machine has, a device that the worker has not.
        if not os.path.exists("/dev/nvidia0"):
            words = ("--dask", cluster.scheduler_address, "--device", "cuda")
            other = tmp_path / "other"
            told = command("batch", scans, "--out", other, "--model", MODEL, *words, status=1).stderr
            assert "cuda" in told.lower()
            assert {row["status"] for row in table(other).values()} == {"missing"}
    assert "tcp://127.0.0.1:1" in _refused_address(command, scans, tmp_path)


def _refused_address(command, scans, tmp_path):
    words = ("--dask", "tcp://127.0.0.1:1")
    return command("batch", scans, "--out", tmp_path / "late", *OPTIONS, *words, status=1).stderr


def test_a_scan_that_kills_every_worker(tmp_path, part, monkeypatch):
    """KilledWorker becomes a row of the table."""
    pytest.importorskip("distributed")
    from patchmask import cluster

    folder = tmp_path / "scans"
    folder.mkdir()
    sitk.WriteImage(part[:, :, :1], str(folder / "a.nrrd"))
    tasks = batch.tasks_of(folder, tmp_path / "out", "LPS", suffix=".nrrd")
    monkeypatch.setattr(cluster, "run_here", _die)
    setup = batch.Setup(MODEL, {"device": "cpu", "stride": 16})
    records = list(cluster.run(setup, tasks, None, 1, None))
    assert [record["status"] for record in records] == ["failed"] and "killed" in records[0]["reason"]
    assert images.read(folder / "a.nrrd").GetSize()[2] == 1


def test_innocent_scans_are_not_blamed(tmp_path, part, monkeypatch):
    """Those that wait on a worker when it is killed are done by another one."""
    pytest.importorskip("distributed")
    from patchmask import cluster

    folder = tmp_path / "scans"
    folder.mkdir()
    for name in (b"a", b"b", b"M\xfcller", b"d"):
        sitk.WriteImage(part[:, :, :1], str(folder / "x.nrrd"))
        os.rename(folder / "x.nrrd", os.fsencode(folder) + b"/" + name + b".nrrd")
    tasks = batch.tasks_of(folder, tmp_path / "out", "LPS", suffix=".nrrd")
    monkeypatch.setattr(cluster, "run_here", _die_at_a)
    records = list(cluster.run(batch.Setup(MODEL, {"device": "cpu", "stride": 32}), tasks, None, 1, None))
    status = {record["scan"]: record["status"] for record in records}
    assert status == {"a": "failed", "b": "done", "M\udcfcller": "done", "d": "done"} and len(records) == 4


def _die(setup, task):
    os._exit(1)


def _die_at_a(setup, task):
    return os._exit(1) if task.name == "a" else batch.Worker(setup).run(task)
