"""Files: every format, every orientation, and files that cannot be used. The mask lies on the file's grid."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import SimpleITK as sitk
from conftest import MODEL

import patchmask
import patchmask.commands
from patchmask import images
from patchmask.pending import remove_leftovers

OPTIONS = ("--model", MODEL, "--stride", 8, "--device", "cpu", "--quiet")
GEOMETRY = ("GetSize", "GetSpacing", "GetOrigin", "GetDirection")


@pytest.fixture(scope="module")
def expected(model, voxels):
    """The mask of `part`, from the array."""
    with patchmask.Session(model, stride=8, device="cpu") as session:
        return session.segment(voxels, probability=True)


def on_grid(image, mask):
    for what in GEOMETRY:
        assert np.allclose(getattr(mask, what)(), getattr(image, what)(), rtol=0, atol=1e-5), what


def write_series(image, folder, uid="1.2.3", skip=(), shift=0.0):
    """A DICOM series as scanners write it: slope and intercept (which the writer inverts), files in no order."""
    folder.mkdir(parents=True, exist_ok=True)
    direction = np.reshape(image.GetDirection(), (3, 3))
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for z in range(image.GetSize()[2]):
        if z in skip:
            continue
        one = image[:, :, z]
        position = np.array(image.TransformIndexToPhysicalPoint((0, 0, z))) + (0, shift * z, 0)
        tags = {
            "0008|0060": "CT",
            "0008|0018": f"{uid}.{z + 1}",
            "0020|000d": "1.2",
            "0020|000e": uid,
            "0020|0013": str(z),
            "0020|0032": "\\".join(f"{c:.6f}" for c in position),
            "0020|0037": "\\".join(f"{c:.9f}" for c in [*direction[:, 0], *direction[:, 1]]),
            "0018|0050": f"{image.GetSpacing()[2]:g}",
            "0028|1052": "-1024",
            "0028|1053": "1",
        }
        for tag, value in tags.items():
            one.SetMetaData(tag, value)
        one.SetSpacing(image.GetSpacing()[:2])
        writer.SetFileName(str(folder / f"{uid}-{(z * 7) % 101}.dcm"))
        writer.Execute(one)


@pytest.mark.parametrize("suffix", ["nii.gz", "nii", "nrrd", "nhdr", "mha", "mhd", "NII.GZ"])
def test_formats(command, tmp_path, part, expected, suffix):
    scan, mask = tmp_path / f"ct.{suffix.lower()}", tmp_path / "mask.nii.gz"
    sitk.WriteImage(part, str(scan))
    if suffix.isupper():
        scan = scan.rename(tmp_path / f"ct.{suffix}")
    command("segment", scan, mask, *OPTIONS)
    result = sitk.ReadImage(str(mask))
    on_grid(sitk.ReadImage(str(scan)), result)
    # A NIfTI file has the same voxels in RAS; SimpleITK turns it back to LPS.
    assert np.array_equal(sitk.GetArrayFromImage(result), expected.mask)


@pytest.mark.parametrize("suffix", ["nii.gz", "nii", "nrrd", "mha"])
def test_outputs(command, tmp_path, part, expected, suffix):
    scan = tmp_path / "ct.nrrd"
    sitk.WriteImage(part, str(scan))
    outputs = {name: tmp_path / f"{name}.{suffix}" for name in ("mask", "probability")}
    report = tmp_path / "report.json"
    words = ("--probability", outputs["probability"], "--report", report)
    command("segment", scan, outputs["mask"], *words, *OPTIONS)
    for name, path in outputs.items():
        image = sitk.ReadImage(str(path))
        on_grid(part, image)
        assert np.array_equal(sitk.GetArrayFromImage(image), getattr(expected, name))
    told = json.loads(report.read_text())
    assert told["patches"] == 600 and told["options"]["stride"] == 8 and told["axes"] == "LPS"
    volume = (expected.mask == 1).sum() * np.prod(part.GetSpacing())
    assert told["lesion_mm3"] == pytest.approx(volume)
    assert not list(tmp_path.rglob(".partial*"))


@pytest.mark.parametrize("axes", ["RAS", "LAI", "PSR", "SLA", "ILP"])
def test_orientations(command, tmp_path, part, expected, axes):
    """The same patient in other axes: the same lesions at the same places."""
    turned = sitk.DICOMOrient(part, axes)
    scan, mask = tmp_path / "ct.mha", tmp_path / "mask.mha"
    sitk.WriteImage(turned, str(scan))
    command("segment", scan, mask, *OPTIONS)
    result = sitk.ReadImage(str(mask))
    on_grid(turned, result)
    assert np.array_equal(sitk.GetArrayFromImage(sitk.DICOMOrient(result, "LPS")), expected.mask)


def test_axes_of_the_file(command, tmp_path, part, expected, model):
    """--axes file hands the voxels over as they lie."""
    turned = sitk.DICOMOrient(part, "RPS")
    sitk.WriteImage(turned, str(tmp_path / "ct.mha"))
    command("segment", tmp_path / "ct.mha", tmp_path / "mask.mha", "--axes", "file", *OPTIONS)
    result = sitk.ReadImage(str(tmp_path / "mask.mha"))
    on_grid(turned, result)
    have = sitk.GetArrayFromImage(result)
    want = patchmask.segment(sitk.GetArrayFromImage(turned), model, stride=8, device="cpu").mask
    assert np.array_equal(have, want) and not np.array_equal(have[:, :, ::-1], expected.mask)


def test_oblique(command, tmp_path, part, expected):
    angle = np.deg2rad(20)
    c, s = np.cos(angle), np.sin(angle)
    tilted = sitk.Image(part)
    tilted.SetDirection((1, 0, 0, 0, c, -s, 0, s, c))
    for axes in ("LPS", "RAS"):
        image = sitk.DICOMOrient(tilted, axes)
        sitk.WriteImage(image, str(tmp_path / "ct.nrrd"))
        command("segment", tmp_path / "ct.nrrd", tmp_path / "mask.nrrd", *OPTIONS)
        result = sitk.ReadImage(str(tmp_path / "mask.nrrd"))
        on_grid(image, result)
        assert np.array_equal(sitk.GetArrayFromImage(sitk.DICOMOrient(result, "LPS")), expected.mask)


def test_dicom(command, tmp_path, part, expected):
    write_series(part, tmp_path / "series")
    command("segment", tmp_path / "series", tmp_path / "mask.nii.gz", *OPTIONS)
    result = sitk.ReadImage(str(tmp_path / "mask.nii.gz"))
    on_grid(part, result)
    assert np.array_equal(sitk.GetArrayFromImage(result), expected.mask)


def test_several_series(command, tmp_path, part):
    write_series(part, tmp_path / "study", "1.2.3")
    write_series(part[:, :, :3], tmp_path / "study", "1.2.4")
    words = (tmp_path / "study", tmp_path / "mask.nrrd", *OPTIONS)
    assert "name one with --series: 1.2.3" in command("segment", *words, status=1).stderr
    assert "has no DICOM series 9" in command("segment", *words, "--series", "9", status=2).stderr
    uid = next(uid for uid in images.series_of(tmp_path / "study") if uid.startswith("1.2.4"))
    command("segment", *words, "--series", uid)
    assert sitk.ReadImage(str(tmp_path / "mask.nrrd")).GetSize()[2] == 3


def test_series_with_a_gap_or_a_tilt(tmp_path, part):
    write_series(part, tmp_path / "gap", skip=(2,))
    with pytest.raises(images.ImageError, match="a slice is missing"):
        images.read(tmp_path / "gap")
    write_series(part, tmp_path / "tilt", shift=1.5)
    with pytest.raises(images.ImageError, match="gantry tilt"):
        images.read(tmp_path / "tilt")


def test_roi(command, tmp_path, part, expected):
    roi = np.zeros((5, 80, 96), np.uint8)
    roi[:, 30:50, 40:60] = 1
    sitk.WriteImage(part, str(tmp_path / "ct.nrrd"))
    sitk.WriteImage(images.like(roi, part), str(tmp_path / "roi.nii.gz"))
    words = (tmp_path / "ct.nrrd", tmp_path / "mask.nrrd", *OPTIONS, "--roi")
    command("segment", *words, tmp_path / "roi.nii.gz")
    have = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "mask.nrrd")))
    assert np.array_equal(have[roi > 0], expected.mask[roi > 0])
    other = images.like(roi, part)
    other.SetSpacing((1, 1, 1))
    sitk.WriteImage(other, str(tmp_path / "other.nrrd"))
    assert "other.nrrd: spacing (1, 1, 1), but" in command("segment", *words, tmp_path / "other.nrrd", status=1).stderr


def test_other_pixel_types(tmp_path, part, expected, model):
    for kind in (sitk.sitkInt64, sitk.sitkFloat64, sitk.sitkInt32):
        sitk.WriteImage(sitk.Cast(part, kind), str(tmp_path / "ct.nrrd"))
        array = sitk.GetArrayFromImage(images.read(tmp_path / "ct.nrrd"))
        assert np.array_equal(patchmask.segment(array, model, stride=8, device="cpu").mask, expected.mask)


def test_wrong_inputs(command, tmp_path, part):
    scan, mask = tmp_path / "ct.nrrd", tmp_path / "mask.nrrd"
    sitk.WriteImage(part, str(scan))
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no scan")
    (tmp_path / "broken.nii.gz").write_bytes(b"\x1f\x8b broken")
    (tmp_path / "short.nrrd").write_bytes(scan.read_bytes()[:5000])
    sitk.WriteImage(sitk.JoinSeries([part, part]), str(tmp_path / "four.nrrd"))
    sitk.WriteImage(sitk.Compose(part, part), str(tmp_path / "colour.nrrd"))

    def refused(text, *words, status=1):
        told = command("segment", *words, status=status).stderr
        assert text in told and ".partial" not in told, told
        assert told.count("\n") == 1 or told.startswith("usage:") and status == 2, told
        assert not mask.exists() and not list(tmp_path.rglob(".partial*"))

    refused("no such file or folder", tmp_path / "none.nrrd", mask, *OPTIONS)
    refused("subfolders are searched by `patchmask batch` only", tmp_path / "empty", mask, *OPTIONS)
    os.mkfifo(tmp_path / "pipe.nii.gz")
    refused("pipe.nii.gz: is no regular file", tmp_path / "pipe.nii.gz", mask, *OPTIONS)
    refused("zero: is no regular file", "/dev/zero", mask, *OPTIONS)
    refused("notes.txt: not a DICOM folder", tmp_path / "notes.txt", mask, *OPTIONS)
    refused("broken.nii.gz", tmp_path / "broken.nii.gz", mask, *OPTIONS)
    refused("short.nrrd", tmp_path / "short.nrrd", mask, *OPTIONS)
    refused("has 4 axes: needs 3, one value per voxel (take one time point", tmp_path / "four.nrrd", mask, *OPTIONS)
    refused("has 2 values per voxel: needs one", tmp_path / "colour.nrrd", mask, *OPTIONS)
    refused("must end in one of", scan, tmp_path / "mask.mhd", *OPTIONS, status=2)
    refused("must end in one of", scan, mask, *OPTIONS, "--probability", tmp_path / "p.png", status=2)
    refused("new/m.nrrd: cannot be written: there is no folder new", scan, "new/m.nrrd", *OPTIONS)
    refused("new/r.json: cannot be written: there is no folder new", scan, mask, *OPTIONS, "--report", "new/r.json")
    refused("named twice", scan, scan, *OPTIONS, status=2)
    refused("none.safetensors", scan, mask, "--model", tmp_path / "none.safetensors")
    refused("stride 0", scan, mask, "--model", MODEL, "--stride", 0, status=2)
    refused("stride -3", scan, mask, "--model", MODEL, "--stride", -3, status=2)
    refused("threads -1", scan, mask, *OPTIONS, "--threads", -1, status=2)
    refused("memory_budget -1", scan, mask, *OPTIONS, "--memory", -1, status=2)
    refused("is a file; a series", scan, mask, *OPTIONS, "--series", 9, status=2)
    refused("LO below HI", scan, mask, *OPTIONS, "--window=5,1", status=2)
    refused("X0 < X1", scan, mask, *OPTIONS, "--crop=1,2,3", status=2)
    refused("crop", scan, mask, *OPTIONS, "--crop=0,0,500,500", status=2)
    refused("three letters", scan, mask, *OPTIONS, "--axes=LLS", status=2)
    refused("device tpu", scan, mask, "--model", MODEL, "--device", "tpu", status=2)
    refused("--model", scan, mask, status=2)
    refused("required: scan, mask", status=2)


def test_a_folder_that_cannot_be_written(monkeypatch, tmp_path):
    """The message names the user's file; root may write everywhere, so the refusal is the system's own, played."""
    from pathlib import Path

    from patchmask.pending import Pending

    def denied(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "touch", denied)
    with pytest.raises(OSError) as caught:
        Pending().place(tmp_path / "mask.nrrd")
    assert str(caught.value) == f"{tmp_path / 'mask.nrrd'}: cannot be written: Permission denied"


def test_a_window_that_begins_with_a_minus(command, tmp_path, part):
    """Both spellings; argparse alone takes -160,240 for an option."""
    sitk.WriteImage(part, str(tmp_path / "ct.nrrd"))
    for number, words in enumerate((("--window=-100,200",), ("--window", "-100,200"), ("--win", "-100.0,200"))):
        report = tmp_path / f"{number}.json"
        command("segment", tmp_path / "ct.nrrd", tmp_path / "mask.nrrd", *OPTIONS, *words, "--report", report)
        assert json.loads(report.read_text())["options"]["window"] == [-100, 200]
    joined = patchmask.commands.joined(["convert", "--mean", "-.5", "--quiet", "-h", "--", "-1", "-a", "-2"])
    assert joined == ["convert", "--mean=-.5", "--quiet", "-h", "--", "-1", "-a", "-2"]


def test_interrupted(tmp_path, phantom):
    """Ctrl-C: status 130, one line, no files."""
    sitk.WriteImage(phantom, str(tmp_path / "ct.nrrd"))
    program = "import sys; from patchmask.commands import main; sys.exit(main(sys.argv[1:]))"
    words = ["segment", tmp_path / "ct.nrrd", tmp_path / "mask.nrrd", "--model", MODEL, "--stride", "1", "--quiet"]
    running = subprocess.Popen([sys.executable, "-c", program, *words], stderr=subprocess.PIPE, encoding="utf-8")
    until = time.monotonic() + 60
    while not list(tmp_path.glob(".partial*")) and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(0.5)
    running.send_signal(signal.SIGINT)
    assert running.wait(20) == 130
    assert running.stderr.read() == "patchmask: interrupted\n"
    assert [path.name for path in tmp_path.iterdir()] == ["ct.nrrd"]


def test_slicer_progress(command, tmp_path, part):
    """A tag a line on stdout, from which 3D Slicer moves its bar."""
    sitk.WriteImage(part, str(tmp_path / "ct.nrrd"))
    told = command("segment", tmp_path / "ct.nrrd", tmp_path / "mask.nrrd", *OPTIONS, "--slicer-progress")
    tag = re.compile(r"<filter-progress>([01]\.\d{4})</filter-progress>")
    tags = [tag.fullmatch(line) for line in told.stdout.splitlines()]
    assert tags and all(tags) and told.stderr == ""
    fractions = [float(found[1]) for found in tags]
    assert fractions == sorted(fractions) and fractions[-1] == 1


def test_leftovers(tmp_path):
    """Files that a killed process has left go; those that a living one writes stay."""
    import os
    import socket

    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    host = socket.gethostname()
    for name in (
        f".partial-{host}-{dead.pid}-m.nrrd",
        f".partial-{host}-{os.getpid()}-m.nrrd",
        ".partial-far-1-m.nrrd",
    ):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path / "m.nrrd")
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        ".partial-far-1-m.nrrd",
        f".partial-{host}-{os.getpid()}-m.nrrd",
    ]
    remove_leftovers(tmp_path / "m.nrrd", old_seconds=-1)
    assert not list(tmp_path.iterdir())


def test_real_scans(command, tmp_path, real_scans):
    torso, organs = real_scans / "ct_torso.nii.gz", sitk.ReadImage(str(real_scans / "ct_torso_organs.nii.gz"))
    sitk.WriteImage(sitk.Cast(organs == 5, sitk.sitkUInt8), str(tmp_path / "liver.nii.gz"))
    command("segment", torso, tmp_path / "torso.nii.gz", *OPTIONS, "--roi", tmp_path / "liver.nii.gz")
    mask = sitk.ReadImage(str(tmp_path / "torso.nii.gz"))
    on_grid(sitk.ReadImage(str(torso)), mask)
    assert not sitk.GetArrayFromImage(mask)[sitk.GetArrayFromImage(organs) != 5].any()
    command("segment", real_scans / "ct_head_dicom", tmp_path / "head.nii.gz", *OPTIONS)
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(real_scans / "ct_head_dicom"))
    on_grid(sitk.ReadImage(names), sitk.ReadImage(str(tmp_path / "head.nii.gz")))
    words = (
        "--ct",
        real_scans / "ct_head_dicom",
        "--mask",
        tmp_path / "head.nii.gz",
        "--out",
        tmp_path,
        "--no-surface",
    )
    command("view", *words)
