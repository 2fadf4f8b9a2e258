"""The plugin of examples/orthanc in a real Orthanc, on loopback, with folders of its own.

    build/venv-python/bin/python tests/orthanc/run.py

A series arrives, is segmented once it is stable, and its SEG is found in its study, with the voxels that the package
finds. A series that cannot be segmented fails with the reason; a job is cancelled; Orthanc is stopped in the middle of
one and exits with 0. All by one session: the model's file is gone by then. The series is the head CT of the folder
PATCHMASK_TEST_DATA, where there is one, with the frame of reference that it lacks.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk

import patchmask
from patchmask import images

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/python"), str(ROOT / "tests/cli")]
import dicom_files  # noqa: E402
import maximum_model  # noqa: E402

PLUGIN = "/usr/share/orthanc/plugins/libOrthancPython.so"
OPTIONS = {"stride": 2, "window": [1500, 2500], "device": "cpu"}
PATIENCE_S = 120  # for what takes seconds on an idle machine


def head_or_made_up(folder):
    """A series of about a hundred slices that takes a few seconds."""
    data = os.environ.get("PATCHMASK_TEST_DATA")
    if data is None:
        hu = np.full((93, 64, 64), -900, np.int16)
        hu[30:60, 10:20, 40:50] = 2400
        return dicom_files.write_series(folder, hu)
    folder.mkdir()
    for path in Path(data, "ct_head_dicom").iterdir():
        ds = pydicom.dcmread(path)
        ds.FrameOfReferenceUID = "1.2.8"
        ds.save_as(folder / path.name)
    return list(folder.iterdir())


def without_frame_of_reference(ds, _):
    del ds.FrameOfReferenceUID


def main():
    version = f"libpython{sys.version_info.major}.{sys.version_info.minor}.so"
    linked = subprocess.run(["ldd", PLUGIN], capture_output=True, encoding="utf-8").stdout
    if version not in linked:
        print(f"SKIPPED Orthanc: it has {re.search(r'libpython[0-9.]+so', linked)[0]}, the packages are for {version}")
        return
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder))


def run(folder):
    paths = head_or_made_up(folder / "series")
    bare = dicom_files.write_series(folder / "bare", dicom_files.volume(3), without_frame_of_reference, series="1.2.10")
    model = folder / "model.safetensors"
    model.write_bytes(maximum_model.build(width=32))
    (folder / "tmp").mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    configuration = {
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "HttpPort": port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomServerEnabled": False,
        "StableAge": 1,
        "Plugins": [PLUGIN],
        "PythonScript": str(ROOT / "examples/orthanc/patchmask_orthanc.py"),
        "Patchmask": {"Model": str(model), "Options": OPTIONS},
    }
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    settings = {**os.environ, "PYTHONPATH": sysconfig.get_paths()["purelib"], "TMPDIR": str(folder / "tmp")}
    with open(folder / "orthanc.log", "w") as log:
        server = subprocess.Popen(["/usr/sbin/Orthanc", folder / "orthanc.json"], env=settings, stdout=log, stderr=log)
    try:
        talk(Client(port), server, model, paths, bare, folder)
    except BaseException:
        print((folder / "orthanc.log").read_text())
        raise
    finally:
        server.kill()
        server.wait()


class Client:
    def __init__(self, port):
        self.root = f"http://127.0.0.1:{port}"

    def bytes(self, path, method="GET", body=None):
        request = urllib.request.Request(self.root + path, body, method=method)
        return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60).read()

    def json(self, *words):
        return json.loads(self.bytes(*words))

    def upload(self, paths):
        """Returns the ID of the series."""
        return [self.json("/instances", "POST", path.read_bytes()) for path in paths][0]["ParentSeries"]

    def segmentations(self):
        tools = {"Level": "Instance", "Query": {"Modality": "SEG"}}
        return self.json("/tools/find", "POST", json.dumps(tools).encode())


def until(what, ask, *errors):
    """The first answer that is true."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        try:
            if found := ask():
                return found
        except errors:
            pass
        time.sleep(0.05)
    sys.exit(f"FAILED Orthanc: waited {PATIENCE_S} s for {what}")


def talk(client, server, model, paths, bare, folder):
    until("its start", lambda: client.json("/patchmask/jobs") == [], OSError)
    model.unlink()  # the session has it

    # What cannot be segmented fails with the reason, and the next one is segmented.
    bare_id = client.upload(bare)
    failed = until("the first job", lambda: [j for j in client.json("/patchmask/jobs") if j["State"] == "Failure"])[0]
    assert failed["Series"] == bare_id and "has no FrameOfReferenceUID" in failed["Message"], failed
    series = client.upload(paths)
    seen = []

    def ended(number):
        seen.append(client.json(f"/patchmask/jobs/{number}"))
        return seen[-1]["State"] not in ("Pending", "Running") and seen[-1]

    until("the second job", lambda: len(client.json("/patchmask/jobs")) == 2)
    job = until("the segmentation", lambda: ended(1))
    assert job["State"] == "Success" and job["Series"] == series, job
    progress = [one["Progress"] for one in seen]
    assert progress == sorted(progress) and any(0 < one < 1 for one in progress), progress
    assert client.segmentations() == [job["Segmentation"]]
    check(client, job["Segmentation"], series, folder)

    # Cancelled: nothing is stored.
    def running():
        number = client.json("/patchmask/jobs", "POST", series.encode())["Number"]
        until("progress", lambda: 0 < client.json(f"/patchmask/jobs/{number}")["Progress"] < 1)
        return number

    number, began = running(), time.monotonic()
    client.json(f"/patchmask/jobs/{number}", "DELETE")
    job = until("the cancel", lambda: ended(number))
    assert job["State"] == "Cancelled" and len(client.segmentations()) == 1, job
    cancelled = time.monotonic() - began

    # Stopped in the middle of a job: nothing is stored, nothing left.
    before = files_in(folder / "storage")
    running()
    began = time.monotonic()
    server.send_signal(signal.SIGTERM)
    assert server.wait(PATIENCE_S) == 0, f"exit status {server.returncode}"
    assert not files_in(folder / "tmp") and files_in(folder / "storage") == before
    print(
        f"ok Orthanc: {len(paths)} slices segmented, a job cancelled in {cancelled:.2f} s, Orthanc stopped in "
        f"the middle of another in {time.monotonic() - began:.1f} s"
    )


def files_in(folder):
    return {path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("index")}


def check(client, instance, series, folder):
    """In the study of the series, valid, and with the voxels that the package finds."""
    parent = client.json(f"/instances/{instance}/series")
    assert parent["ParentStudy"] == client.json(f"/series/{series}")["ParentStudy"] and parent["ID"] != series
    seg = folder / "seg.dcm"
    seg.write_bytes(client.bytes(f"/instances/{instance}/file"))
    if shutil.which("dciodvfy"):
        told = subprocess.run(["dciodvfy", seg], capture_output=True, encoding="utf-8").stderr
        assert "Error" not in told, told
    scan = images.read(folder / "series")
    stored = images.on_grid(images.read_mask(seg), seg, scan, folder / "series")
    want = patchmask.segment(sitk.GetArrayViewFromImage(scan), maximum_model.build(width=32), **OPTIONS).mask
    assert 0 < np.count_nonzero(want) < want.size
    assert np.array_equal(sitk.GetArrayViewFromImage(stored), want)


if __name__ == "__main__":
    main()
