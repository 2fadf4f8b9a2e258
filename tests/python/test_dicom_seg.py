"""Masks as DICOM segmentations: on exactly the slices of the series, as the NRRD mask of the same call, for every reader."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from conftest import ROOT
from dicom_files import AXIAL, write_enhanced, write_series
from pydicom.sr.codedict import codes
from test_dicom import GONE, put

import patchmask
from patchmask import images
from patchmask.errors import InvalidArgument
from patchmask.scans import Places, Scan, segment_file

sys.path.insert(0, str(ROOT / "tests/cli"))
import maximum_model  # noqa: E402

NAMES = "background,liver,enhancing lesion,Läsion"
CORONAL, SAGITTAL, HEAD_DOWN = (1, 0, 0, 0, 0, -1), (0, 1, 0, 0, 0, -1), (-1, 0, 0, 0, 1, 0)
OBLIQUE = (0.96, 0.28, 0, -0.28 * 0.8, 0.96 * 0.8, 0.6)


def classes_by_intensity(names=NAMES):
    """A model whose class is the quarter that the largest intensity of a patch lies in."""
    tensors = {}
    for number in maximum_model.CONVOLUTIONS:
        tensors[f"features.{number}.weight"] = ([1, 1, 3, 3], [0.0] * 4 + [1.0] + [0.0] * 4)
        tensors[f"features.{number}.bias"] = ([1], [0.0])
    tensors["classifier.0.weight"] = ([4, 1], [0, 1, 2, 3])
    tensors["classifier.0.bias"] = ([4], [0, -0.25, -0.75, -1.5])
    known = {"patchmask.patch_size": "32", "patchmask.stride": "8", "patchmask.lesion_class": "3"}
    return maximum_model.safetensors(tensors, {**known, "patchmask.classes": names})


def scan_of_spots():
    """Air with a spot of each class, each on a slice of its own, none on the first and the last; in no symmetry."""
    hu = np.full((7, 72, 88), -900, np.int16)
    hu[1, 5, 70], hu[2, 40, 8], hu[3, 66, 80], hu[4, 20, 30], hu[4, 20, 84] = -20, 90, 220, 100, 230
    return hu


HU = scan_of_spots()


@pytest.fixture(scope="module")
def segment(tmp_path_factory):
    """Segments a scan to mask.nrrd, mask.dcm and report.json in a folder; returns the mask and the path of the SEG."""
    model = patchmask.Model(classes_by_intensity())
    with patchmask.Session(model, device="cpu") as session:

        def run(path, series=None, axes="file", spacing=None):
            out = tmp_path_factory.mktemp("out")
            places = Places(out / "mask.nrrd", None, out / "mask.dcm", out / "report.json")
            segment_file(session, model, Scan(path, series, None, axes, spacing), places)
            assert sorted(file.name for file in out.iterdir()) == ["mask.dcm", "mask.nrrd", "report.json"]
            return sitk.ReadImage(str(out / "mask.nrrd")), out / "mask.dcm"

        yield run


def frames_of(seg):
    """(class, position, orientation, spacing, pixels, reference to the source) of each frame, by pydicom alone."""
    ds = pydicom.dcmread(seg)
    shared = ds.SharedFunctionalGroupsSequence[0]
    pixels = np.reshape(ds.pixel_array, (ds.NumberOfFrames, ds.Rows, ds.Columns))
    orientation = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    spacing = np.array(shared.PixelMeasuresSequence[0].PixelSpacing, float)
    for groups, plane in zip(ds.PerFrameFunctionalGroupsSequence, pixels, strict=True):
        number = (groups if "SegmentIdentificationSequence" in groups else shared).SegmentIdentificationSequence[0]
        [derived] = groups.DerivationImageSequence
        [source] = derived.SourceImageSequence
        position = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        yield number.ReferencedSegmentNumber, position, orientation, spacing, plane, source


def points_of(mask):
    """(x, y, z, class) of each voxel of a mask that is not 0, in mm of the patient."""
    voxels = sitk.GetArrayViewFromImage(mask)
    where = np.argwhere(voxels)
    steps = np.reshape(mask.GetDirection(), (3, 3)) * mask.GetSpacing()
    return np.column_stack([mask.GetOrigin() + where[:, ::-1] @ steps.T, voxels[tuple(where.T)]])


def points_in(seg):
    found = [np.empty((0, 4))]
    for number, position, orientation, spacing, plane, _ in frames_of(seg):
        rows, columns = np.nonzero(plane)
        at = position + np.outer(columns * spacing[1], orientation[:3]) + np.outer(rows * spacing[0], orientation[3:])
        found.append(np.column_stack([at, np.full(len(at), number)]))
    return np.vstack(found)


def same_points(have, want, atol):
    assert have.shape == want.shape
    order = [np.lexsort(np.round(points, 1).T) for points in (have, want)]
    assert np.allclose(have[order[0]], want[order[1]], rtol=0, atol=atol)


def by_dcmqi(seg, folder):
    """The points by ITK and DCMTK: one image for each segment, with voxels of its number."""
    program, folder = Path(sys.executable).with_name("segimage2itkimage"), folder / "dcmqi"
    folder.mkdir(exist_ok=True)
    subprocess.run([program, "--inputDICOM", seg, "--outputDirectory", folder, "-t", "nrrd"], check=True, capture_output=True)
    return np.vstack([points_of(sitk.ReadImage(str(path))) for path in sorted(folder.glob("*.nrrd"))])


def check(mask, seg, sources, scan, tmp_path, atol=1e-3):
    """Every frame refers to the slice that it lies on; all voxels are those of `mask`, for every reader."""
    places = {}
    for path in sources:
        ds = pydicom.dcmread(path)
        for at, groups in enumerate(ds.get("PerFrameFunctionalGroupsSequence") or [None]):
            position = (groups.PlanePositionSequence[0] if groups else ds).ImagePositionPatient
            places[ds.SOPInstanceUID, groups and at + 1] = np.array(position, float)
    for _, position, *_, source in frames_of(seg):
        there = places[source.ReferencedSOPInstanceUID, source.get("ReferencedFrameNumber")]
        assert np.allclose(position, there, rtol=0, atol=1e-6) and source.SpatialLocationsPreserved == "YES"
    ds = pydicom.dcmread(seg)
    [series] = ds.ReferencedSeriesSequence
    assert {one.ReferencedSOPInstanceUID for one in series.ReferencedInstanceSequence} == {uid for uid, _ in places}
    assert series.SeriesInstanceUID == pydicom.dcmread(sources[0]).SeriesInstanceUID != ds.SeriesInstanceUID
    same_points(points_in(seg), points_of(mask), atol)
    if points_of(mask).size:
        same_points(by_dcmqi(seg, tmp_path), points_of(mask), atol)
    image = images.read(scan)
    placed = images.on_grid(images.read_mask(seg), seg, image, scan)
    assert np.array_equal(sitk.GetArrayFromImage(placed), sitk.GetArrayFromImage(mask))


def valid(seg):
    """What dciodvfy, of dicom3tools, has to say: no errors."""
    if not shutil.which("dciodvfy"):
        pytest.skip("dciodvfy (Debian: dicom3tools) is missing")
    told = subprocess.run(["dciodvfy", seg], capture_output=True, encoding="utf-8").stderr
    assert "Segmentation" in told.splitlines() and "Error" not in told, told


@pytest.mark.parametrize("axes", ["file", "LPS"])
@pytest.mark.parametrize("iop", [AXIAL, CORONAL, SAGITTAL, HEAD_DOWN, OBLIQUE])
@pytest.mark.parametrize("up", [1, -1])
def test_orientations(segment, tmp_path, iop, up, axes):
    """Any orientation, files from either end, and in no order."""
    step = np.cross(iop[:3], iop[3:]) * 3 * up
    write_series(tmp_path / "s", HU, iop=iop, step=step, name="{:d}")
    for old, new in zip("0123456", "3051624"):
        (tmp_path / "s" / old).rename(tmp_path / "s" / f"IM{new}")
    mask, seg = segment(tmp_path / "s", axes=axes)
    assert len(np.unique(sitk.GetArrayViewFromImage(mask))) == 4 or axes == "LPS" and iop in (CORONAL, SAGITTAL)
    check(mask, seg, sorted((tmp_path / "s").iterdir()), tmp_path / "s", tmp_path)
    valid(seg)


def one_orientation_a_frame(ds):
    """As many scanners have it: what could be shared stands in every frame."""
    shared = ds.SharedFunctionalGroupsSequence[0]
    for groups in ds.PerFrameFunctionalGroupsSequence:
        for keyword in ("PlaneOrientationSequence", "PixelMeasuresSequence"):
            setattr(groups, keyword, shared[keyword].value)
    del shared.PlaneOrientationSequence, shared.PixelMeasuresSequence


@pytest.mark.parametrize("edit", [None, one_orientation_a_frame])
def test_multi_frame_files(segment, tmp_path, edit):
    path = write_enhanced(tmp_path / "e/e.dcm", HU, [3, 0, 5, 1, 6, 4, 2], edit=edit)
    for scan in (path, path.parent):
        mask, seg = segment(scan)
        check(mask, seg, [path], scan, tmp_path)
    valid(seg)


def rounded(ds, i):
    """Slices that are off their places, the first and last with a class among them; orientations rounded otherwise."""
    ds.ImagePositionPatient[2] += 0.15 * (i in (1, 4))
    ds.ImageOrientationPatient = [1, 1e-4 * (i % 2), 0, -1e-4 * (i % 2), 1, 0]


@pytest.mark.parametrize("changes", [
    {"edit": rounded, "atol": 0.16},
    {"step": (0, 0.003, 3), "atol": 0.02},  # readers that know no shear
    {"edit": put(range(7), SliceThickness=GONE, SpacingBetweenSlices=2.0)},
    {"edit": put(range(7), PixelSpacing=GONE), "spacing": (1.5, 1.25, 3)},
    {"edit": put(range(7), PatientID=GONE, PatientName=GONE, StudyInstanceUID="1.2.3.4")},
    {"edit": put(range(7), PatientName="Strauß^Jürgen", SpecificCharacterSet="ISO_IR 100", PatientSex="M")},
    {"edit": put(range(7), SpecificCharacterSet=["", "ISO 2022 IR 87"], PatientName="Yamada^Tarou=山田^太郎")},
])  # fmt: skip
def test_headers_of_series(segment, tmp_path, changes):
    """What the reader takes, the segmentation takes; patient and study go along."""
    spacing, atol = changes.get("spacing"), changes.get("atol", 1e-3)
    paths = write_series(tmp_path / "s", HU, changes.get("edit"), step=changes.get("step"))
    mask, seg = segment(tmp_path / "s", spacing=spacing)
    ds, source = pydicom.dcmread(seg), pydicom.dcmread(paths[0])
    assert [ds.get(keyword) or "" for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "PatientSex")] == [
        source.get(keyword) or "" for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "PatientSex")
    ]
    if spacing is None:
        check(mask, seg, paths, tmp_path / "s", tmp_path, atol)
    valid(seg)


def test_one_slice(segment, tmp_path):
    [path] = write_series(tmp_path / "s", HU[3:4])
    for scan in (path, path.parent):
        mask, seg = segment(scan)
        check(mask, seg, [path], scan, tmp_path)
    valid(seg)


def test_classes(segment, tmp_path):
    """One segment each, by name and code, also one that no voxel has; the algorithm is named."""
    write_series(tmp_path / "s", HU[:4])
    mask, seg = segment(tmp_path / "s")
    ds = pydicom.dcmread(seg)
    lesion = codes.cid7150.MorphologicallyAbnormalStructure
    for segment_, name, category, kind in zip(
        ds.SegmentSequence,
        NAMES.split(",")[1:],
        (codes.cid7150.AnatomicalStructure, lesion, lesion),
        (codes.cid7192.Liver, codes.cid7159.EnhancingLesion, codes.cid7159.Lesion),
        strict=True,
    ):
        code = segment_.SegmentedPropertyCategoryCodeSequence[0], segment_.SegmentedPropertyTypeCodeSequence[0]
        assert [(one.CodeValue, one.CodingSchemeDesignator) for one in code] == [
            (one.value, one.scheme_designator) for one in (category, kind)
        ]
        [algorithm] = segment_.SegmentationAlgorithmIdentificationSequence
        assert segment_.SegmentLabel == name and segment_.SegmentAlgorithmType == "AUTOMATIC"
        assert algorithm.AlgorithmName == "patchmask" and algorithm.AlgorithmVersion == patchmask.library_version()
        assert f"model_sha256={ds.DeviceSerialNumber}" in algorithm.AlgorithmParameters
        assert ",stride=8," in algorithm.AlgorithmParameters
    assert (ds.SegmentationType, ds.file_meta.TransferSyntaxUID.name) == ("BINARY", "Explicit VR Little Endian")
    report = json.loads(seg.with_name("report.json").read_text())
    assert report["dicom_seg"] == str(seg)
    valid(seg)


def test_no_lesion(segment, tmp_path):
    """An empty frame on every slice: the scan was looked at, and nothing found."""
    paths = write_series(tmp_path / "s", HU[5:])
    mask, seg = segment(tmp_path / "s")
    assert not sitk.GetArrayViewFromImage(mask).any()
    assert len(list(frames_of(seg))) == 2 * 3
    check(mask, seg, paths, tmp_path / "s", tmp_path)
    valid(seg)


@pytest.mark.filterwarnings("ignore:Invalid value for VR CS")
@pytest.mark.parametrize("text, edit", [
    ("IM0000.dcm: has no FrameOfReferenceUID, which ties .* write the same new one into all files of the series",
     put(range(7), FrameOfReferenceUID=GONE)),
    ("no attribute 'SOPInstanceUID'", put([3], SOPInstanceUID=GONE)),
    ("correct them, or leave out --dicom-seg", put([0], PatientSex="unknown")),
    ("correct them, or leave out --dicom-seg", put([5], StudyInstanceUID="1.2.99")),
    ("correct them, or leave out --dicom-seg", put(range(7), SOPClassUID="1.2.3.4.5")),
])  # fmt: skip
def test_refusals_of_series(segment, tmp_path, text, edit):
    """Before the work, without the other results."""
    write_series(tmp_path / "s", HU, edit)
    with pytest.raises(images.ImageError, match=text):
        segment(tmp_path / "s")


def test_frames_in_several_files(segment, tmp_path):
    write_enhanced(tmp_path / "e/a.dcm", HU, [0, 1, 2, 3])
    write_enhanced(tmp_path / "e/b.dcm", HU, [4, 5, 6], instance="1.2.7.2")
    with pytest.raises(images.ImageError, match="its frames are in 2 files; a DICOM segmentation is of one: leave out"):
        segment(tmp_path / "e")


def test_no_dicom(segment, tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(HU), str(tmp_path / "ct.mha"))
    with pytest.raises(InvalidArgument, match="ct.mha: is no DICOM series, .* leave out --dicom-seg"):
        segment(tmp_path / "ct.mha")


def test_the_command(command, tmp_path):
    """As mask and ROI, beside what it came from; wrong usage; nothing is left of what fails."""
    model, scan, mask, seg = (tmp_path / name for name in ("m.safetensors", "s", "m.nrrd", "m.dcm"))
    model.write_bytes(maximum_model.build())
    write_series(scan, HU, put(range(7), PatientName="Strauß^Jürgen", SpecificCharacterSet="ISO_IR 100"))
    words = ("segment", scan, mask, "--model", model, "--device", "cpu")
    command(*words, "--dicom-seg", seg)
    ds = pydicom.dcmread(seg)
    assert ds.PatientName == "Strauß^Jürgen" and ds.SpecificCharacterSet == "ISO_IR 100"
    assert re.search(r" 1\.000 +(\d)/\1 ", command("metrics", seg, mask).stdout)
    command("segment", scan, tmp_path / "again.nrrd", "--model", model, "--device", "cpu", "--roi", seg)
    shutil.copy(seg, scan)  # beside the series, as a PACS exports them
    command(*words, "--dicom-seg", scan / "second.dcm")
    before = sorted(tmp_path.iterdir())
    assert "m.seg: must end in .dcm" in command(*words, "--dicom-seg", tmp_path / "m.seg", status=2).stderr
    assert "is named twice" in command(*words, "--report", seg, "--dicom-seg", seg, status=2).stderr
    told = command(*words, "--dicom-seg", tmp_path / "none/m.dcm", status=1).stderr
    assert "none/m.dcm: cannot be written: there is no folder" in told
    write_series(tmp_path / "bare", HU, put(range(7), FrameOfReferenceUID=GONE))
    mask.unlink()
    told = command("segment", tmp_path / "bare", *words[2:], "--dicom-seg", seg, status=1).stderr
    assert "FrameOfReferenceUID" in told and told.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == sorted({*before, tmp_path / "bare"} - {mask})


def test_batch(command, tmp_path):
    """A segmentation beside each mask; a scan that is no DICOM series fails; what is gone is made again."""
    model, scans, out = tmp_path / "m.safetensors", tmp_path / "scans", tmp_path / "out"
    model.write_bytes(classes_by_intensity())
    paths = write_series(scans / "p1", HU)
    sitk.WriteImage(sitk.GetImageFromArray(HU), str(scans / "p2.mha"))
    words = ("batch", scans, "--out", out, "--format", "nrrd", "--model", model, "--device", "cpu", "--dicom-seg")
    done = command(*words, status=3)
    assert "1 of 2 scans done" in done.stdout and "p2: is no DICOM series" in done.stderr
    names = {"p1_mask.nrrd", "p1_seg.dcm", "p1.json"}
    assert names == {path.name for path in out.glob("p1*")} and not list(out.glob("p2_*"))
    check(sitk.ReadImage(str(out / "p1_mask.nrrd")), out / "p1_seg.dcm", paths, scans / "p1", tmp_path)
    (scans / "p2.mha").unlink()
    (out / "p1_seg.dcm").unlink()
    assert "1 of 1 scans done (0 before)" in command(*words).stdout and (out / "p1_seg.dcm").exists()
    assert "1 of 1 scans done (1 before)" in command(*words).stdout
    assert "has results of dicom_seg True" in command(*words[:-1], status=1).stderr


def test_a_real_series(command, real_scans, tmp_path):
    """A head CT, which has no frame of reference: by the remedy that the refusal names."""
    model, scan = tmp_path / "m.safetensors", tmp_path / "head"
    model.write_bytes(maximum_model.build())
    shutil.copytree(real_scans / "ct_head_dicom", scan)
    words = ("segment", scan, tmp_path / "m.nrrd", "--model", model, "--device", "cpu", "--window", "1500,2500")
    words += ("--dicom-seg", tmp_path / "m.dcm")
    assert "has no FrameOfReferenceUID" in command(*words, status=1).stderr
    for path in scan.iterdir():
        ds = pydicom.dcmread(path)
        ds.FrameOfReferenceUID = "1.2.8"
        ds.save_as(path)
    assert "lesion" in command(*words).stdout
    mask = sitk.ReadImage(str(tmp_path / "m.nrrd"))
    assert 0 < np.count_nonzero(sitk.GetArrayViewFromImage(mask)) < mask.GetNumberOfPixels()
    check(mask, tmp_path / "m.dcm", list(scan.iterdir()), scan, tmp_path)
    valid(tmp_path / "m.dcm")
