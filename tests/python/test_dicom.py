"""DICOM series and multi-frame files: HU of every slice by its own numbers, at its own place; or refused."""

import itertools
import os
import re
import shutil

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_files import LEAVE_OUT, ORIGIN, SPACING, item, put_pixels, recode, volume, write_enhanced, write_series
from pydicom import uid
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate, generate_fragments, generate_frames

from patchmask import images

HU = volume()


def right(path, hu=HU, notes=(), spacing=SPACING, given=None):
    """Reads it: voxels, grid and notes are these. Axial slices from the lowest up."""
    image = images.read(path, spacing=given)
    have = sitk.GetArrayFromImage(image)
    assert have.shape == hu.shape and np.array_equal(have, hu), np.argwhere(have != hu)[:1]
    assert np.allclose(image.GetSpacing(), spacing) and np.allclose(image.GetOrigin(), ORIGIN)
    assert [bool(re.search(want, note)) for want, note in zip(notes, images.notes_of(image), strict=True)] == [
        True
    ] * len(notes)
    return image


def refused(path, *texts):
    """One sentence that names the path, says why, and what to do."""
    with pytest.raises(images.ImageError) as caught:
        images.read(path)
    told = str(caught.value)
    assert str(path) in told and "\n" not in told and all(text in told for text in texts), told


GONE = object()


def put(where=range(6), **values):
    """An edit of those slices: elements get these values, or go."""

    def edit(ds, i):
        for keyword, value in values.items() if i in where else ():
            delattr(ds, keyword) if value is GONE else setattr(ds, keyword, value)

    return edit


def types(ds, i):
    kind, slope, intercept = (("<u2", 1, -1024), ("<i2", 1, 0), ("<u4", 1, -2048), ("<i4", 1, 1000))[i % 4]
    put_pixels(ds, HU[i], slope, intercept, kind)


@pytest.mark.parametrize("edit", [
    None,
    types,
    lambda ds, i: put_pixels(ds, HU[i], 1, -1024 if i else -2000),
    put(range(0, 6, 2), PhotometricInterpretation="MONOCHROME1"),
    put(InstanceNumber=3),
    put(InstanceNumber=GONE),
    lambda ds, i: setattr(ds, "PixelData", ds.PixelData + b"\0" * 128),
    put(SpacingBetweenSlices=2.0),
    put(SOPClassUID=uid.SecondaryCaptureImageStorage),
])  # fmt: skip
def test_facts_that_differ_by_slice(tmp_path, edit):
    """Pixel types, rescaling, photometric interpretation and numbering say nothing about the next slice."""
    write_series(tmp_path / "s", HU, edit)
    right(tmp_path / "s")


def test_overlay_bits(tmp_path):
    """Twelve bits are the pixel; what old scanners put above them is not."""

    def edit(ds, i):
        stored = (HU[i] + 1024).astype(np.uint16)
        ds.BitsStored, ds.HighBit, ds.PixelData = 12, 11, (stored | 0x3000).tobytes()

    write_series(tmp_path / "s", HU, edit)
    right(tmp_path / "s")


def test_slopes_by_slice(tmp_path):
    """As in PET: whole pixels, fractions as values, each slice with its own slope."""
    slopes = 0.25 * (1 + np.arange(6))

    def edit(ds, i):
        put_pixels(ds, np.arange(1920).reshape(40, 48) * slopes[i], slopes[i], 0)
        ds.Modality = "PT"

    write_series(tmp_path / "s", HU, edit)
    image = images.read(tmp_path / "s")
    want = np.arange(1920).reshape(1, 40, 48) * slopes[:, None, None]
    assert np.array_equal(sitk.GetArrayFromImage(image), want)
    assert images.notes_of(image) == ["its modality is PT: its values are no HU"]


@pytest.mark.parametrize("iop", [
    (1, 0, 0, 0, 0, -1), (0, 1, 0, 0, 0, -1), (-1, 0, 0, 0, 1, 0),
    (0.96, 0.28, 0, -0.28, 0.96, 0), (1, 0, 0, 0, 0.8, 0.6),
])  # fmt: skip
def test_orientations(tmp_path, iop):
    """Coronal, sagittal, from the head down, oblique: voxels where the positions of the slices say, right-handed."""
    paths = write_series(tmp_path / "s", HU, iop=iop)
    image = images.read(tmp_path / "s")
    for i, path in enumerate(paths):
        at = image.TransformPhysicalPointToIndex(pydicom.dcmread(path).ImagePositionPatient)
        assert at == (0, 0, i) and image[0, 0, i] == HU[i, 0, 0] and image[3, 2, i] == HU[i, 2, 3]
    assert np.linalg.det(np.reshape(image.GetDirection(), (3, 3))) == pytest.approx(1)


def test_order_by_position(tmp_path):
    """Neither names nor numbers of the files."""
    write_series(tmp_path / "s", HU, lambda ds, i: setattr(ds, "InstanceNumber", 6 - i), name="{:d}")
    for old, new in zip("012345", "daebfc"):
        (tmp_path / "s" / old).rename(tmp_path / "s" / new)
    right(tmp_path / "s")


@pytest.mark.parametrize("syntax", [
    uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian, uid.DeflatedExplicitVRLittleEndian, uid.JPEG2000Lossless,
    uid.JPEGLSLossless, uid.JPEGLosslessSV1, uid.RLELossless,
])  # fmt: skip
def test_transfer_syntaxes(tmp_path, syntax, capfd):
    """Read right; cut off or with a hole at any place refused, without a word of a decoder on stderr."""
    paths = write_series(tmp_path / "s", HU)
    for path in paths:
        recode(path, syntax)
    right(tmp_path / "s")
    whole = paths[5].read_bytes()
    rng = np.random.default_rng(1)
    pixels = len(whole) - len(pydicom.dcmread(paths[5]).get("PixelData", b""))  # where they begin, about
    for cut in [140, 300, 600, *rng.integers(132, len(whole) - 60, 40)]:
        paths[5].write_bytes(whole[:cut])
        refused(tmp_path / "s")
    for at in rng.integers(max(pixels, len(whole) // 2), len(whole) - 100, 30):
        paths[5].write_bytes(whole[:at] + whole[at + 40 :])
        refused(tmp_path / "s")
    assert capfd.readouterr().err == ""


def test_missing_fragments(tmp_path, capfd):
    """Of a frame in several fragments, or a frame of several."""
    path = write_enhanced(tmp_path / "e/e.dcm", HU)
    ds = pydicom.dcmread(path)
    for syntax in (uid.JPEG2000Lossless, uid.JPEGLSLossless, uid.RLELossless):
        packed = pydicom.dcmread(path)
        packed.compress(syntax, generate_instance_uid=False)
        packed.save_as(path)
        right(path)
        fragments = list(generate_fragments(packed.PixelData))[1:]
        packed.PixelData = encapsulate(fragments[:3] + fragments[4:])
        packed.save_as(path)
        refused(path, "not whole")
        ds.save_as(path)
    single = write_series(tmp_path / "s", HU[:1])[0]
    recode(single, uid.JPEGLosslessSV1)
    packed = pydicom.dcmread(single)
    frame = b"".join(list(generate_fragments(packed.PixelData))[1:])
    parts = [frame[at : at + 200] for at in range(0, len(frame), 200)]
    for keep, fate in ((parts, right), (parts[:2] + parts[3:], refused)):
        packed.PixelData = b"\xfe\xff\x00\xe0\0\0\0\0" + encapsulate(keep, has_bot=False)
        packed.save_as(single)
        fate(single, *([HU[:1]] if fate is right else []))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("syntax", [uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.JPEG2000Lossless, uid.RLELossless])
def test_streams_that_contradict_the_header(tmp_path, syntax, capfd):
    """Other sizes and types than the header's, and impossible tables, which end GDCM's process."""
    path = write_series(tmp_path / "s", HU[:1])[0]
    recode(path, syntax)
    for change in ({"Rows": 20}, {"Columns": 24}, {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}):
        ds = pydicom.dcmread(path)
        for keyword, value in change.items():
            setattr(ds, keyword, value)
        ds.save_as(tmp_path / "changed.dcm")
        refused(tmp_path / "changed.dcm", "its pixels (")
    if syntax not in (uid.JPEGLosslessSV1, uid.JPEGLSLossless):
        return
    ds = pydicom.dcmread(path)
    frame = next(generate_frames(ds.PixelData, number_of_frames=1))
    for at, value in itertools.product(range(2, frame.index(b"\xff\xda") + 10), (0, 0x27, 0x7F, 0xD4, 0xFF)):
        ds.PixelData = encapsulate([frame[:at] + bytes([value]) + frame[at + 1 :]])
        ds.save_as(tmp_path / "changed.dcm")
        try:
            images.read(tmp_path / "changed.dcm")
        except images.ImageError:
            pass
    ds.PixelData = encapsulate([frame[:2000]])  # without an end
    ds.save_as(tmp_path / "changed.dcm")
    refused(tmp_path / "changed.dcm", "without start or end")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("text, edit", [
    ("IM0003.dcm has PixelSpacing (0.75, 0.75)", put(range(3, 6), PixelSpacing=[0.75, 0.75])),
    ("IM0003.dcm has ImageOrientationPatient", put(range(3, 6), ImageOrientationPatient=[0, 1, 0, 1, 0, 0])),
    ("IM0005.dcm has size (20, 96)", lambda ds, i: put_pixels(ds, HU[i].reshape(20, 96)) if i == 5 else None),
    ("frames of reference", put([2], FrameOfReferenceUID="1.9")),
    ("a slice is missing", lambda ds, i: LEAVE_OUT if i == 3 else None),
    ("lies 2 mm beside", put([2], ImagePositionPatient=[ORIGIN[0], ORIGIN[1] + 2, ORIGIN[2] + 6])),
    ("there twice", put([3], ImagePositionPatient=[*ORIGIN[:2], ORIGIN[2] + 6])),
    ("there twice", lambda ds, i: setattr(ds, "ImagePositionPatient", [*ORIGIN[:2], ORIGIN[2] + 3.0 * (i // 2)])),
    ("IM0000.dcm: has no ImagePositionPatient", put(ImagePositionPatient=GONE)),
    ("has no ImageOrientationPatient", put(ImageOrientationPatient=None)),
    ("columns and rows is unknown", put(PixelSpacing=GONE)),
    ("columns and rows is unknown", put(PixelSpacing=[0, 0])),
    ("IM0004.dcm: has no RescaleSlope and RescaleIntercept, and unsigned pixels: its HU are unknown",
     put([4], RescaleSlope=GONE, RescaleIntercept=GONE)),
    ("RescaleSlope None", put(RescaleSlope=GONE)),
    ("slope not 0", put(RescaleSlope=0)),
    ("modality LUT", put(ModalityLUTSequence=item(ModalityLUTType="HU"))),
    ("PALETTE COLOR", put(PhotometricInterpretation="PALETTE COLOR")),
    ("3 x RGB", put(SamplesPerPixel=3, PhotometricInterpretation="RGB")),
    ("HighBit 14", put(HighBit=14)),
    ("IM0003.dcm: ImageOrientationPatient (0, 0, 0, 0, 0, 0): must be two directions of length 1",
     put([3], ImageOrientationPatient=[0, 0, 0, 0, 0, 0])),
    ("of length 1 at right angles", put(ImageOrientationPatient=[2, 0, 0, 0, 1, 0])),
    ("of length 1 at right angles", put(ImageOrientationPatient=[1, 0, 0, 1, 0, 0])),
    ("IM0003.dcm has RescaleType OD, IM0000.dcm HU", put([3], RescaleType="OD")),
    ("IM0003.dcm has Modality MR, IM0000.dcm CT", put([3], Modality="MR")),
    ("IM0001.dcm has Modality CT, IM0000.dcm MR", put([0], Modality="MR")),
    ("IM0003.dcm: Columns None: must be one whole number", put([3], Columns=GONE)),
    ("IM0003.dcm: Rows None", put([3], Rows=None)),
    ("IM0003.dcm: BitsStored None", put([3], BitsStored=None)),
    ("IM0003.dcm: PixelRepresentation None", put([3], PixelRepresentation=GONE)),
    ("IM0003.dcm: 1 x None per pixel", put([3], PhotometricInterpretation=GONE)),
    ("IM0003.dcm: NumberOfFrames 0", put([3], NumberOfFrames=0)),
    ("3838 bytes, but its rows, columns and frames need 3840",
     lambda ds, i: setattr(ds, "PixelData", ds.PixelData[: -2 if i == 3 else None])),
    ("3936 bytes, but", lambda ds, i: setattr(ds, "PixelData", ds.PixelData + b"\1" * (96 if i == 3 else 0))),
    ("IM0003.dcm: its pixels", put([3], PixelData=GONE)),
    ("IM0003.dcm: cut off", put([3], Rows=GONE)),
    ("IM0000.dcm: is a localizer", put([0], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])),
    ("two directions of length 1 at right angles", put(ImageOrientationPatient=[1, 0, 0, 0.1, 0.995, 0])),
    ("frames without positions", put(NumberOfFrames=2)),
])  # fmt: skip
def test_refusals(tmp_path, text, edit):
    write_series(tmp_path / "s", HU, edit)
    refused(tmp_path / "s", text)


def test_rescaling_is_missing(tmp_path):
    """Signed pixels may be HU: that is said. Some slices with, some without: refused."""

    def edit(ds, i):
        put_pixels(ds, HU[i], 1, 0, "<i2")
        del ds.RescaleSlope, ds.RescaleIntercept

    write_series(tmp_path / "s", HU, edit)
    right(tmp_path / "s", notes=["has no RescaleSlope and RescaleIntercept: its values are taken as HU"])
    write_series(tmp_path / "s", HU[5:], first=5)
    refused(tmp_path / "s", "has no RescaleSlope and RescaleIntercept, IM0005.dcm has")


def test_a_tilted_gantry(tmp_path):
    write_series(tmp_path / "s", HU, step=(0, 0.2, 3))
    refused(tmp_path / "s", "3.8 degrees off right angles (gantry tilt or shear): resample")
    write_series(tmp_path / "s", HU, step=(0, 0.003, 3))  # 0.1 %: rounding of positions
    assert images.read(tmp_path / "s").GetDirection()[5] == pytest.approx(0.001)


def test_unknown_spacing_is_given(tmp_path):
    write_series(tmp_path / "s", HU, put(PixelSpacing=GONE))
    right(tmp_path / "s", given=SPACING)
    with pytest.raises(ValueError, match=r"the file says \(nan, nan, 3\) mm; leave it out"):
        images.read(tmp_path / "s", spacing=(1.5, 1.25, 4))
    write_series(tmp_path / "one", HU[:1])
    right(tmp_path / "one", HU[:1])
    write_series(tmp_path / "one", HU[:1], put(SliceThickness=GONE))
    refused(tmp_path / "one", "spacing of its slices is unknown", "--spacing")
    right(tmp_path / "one", HU[:1], given=SPACING)


def test_files_cut_off_or_empty(tmp_path):
    """Any slice at any place; other files of the folder do not count."""
    paths = write_series(tmp_path / "s", HU)
    for name in ("notes.txt", ".hidden.dcm", "Thumbs.db"):
        (tmp_path / "s" / name).write_bytes(b"")
    right(tmp_path / "s")
    for path in (paths[0], paths[3], paths[5]):
        whole = path.read_bytes()
        for length in (0, 1, 127, 130, 132, 200, 500, 545, 560, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:length])
            refused(tmp_path / "s", path.name)
        path.write_bytes(whole)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/IM0000.dcm").touch()
    refused(tmp_path / "empty", "IM0000.dcm: is empty")
    (tmp_path / "s/copy.dcm").write_bytes(whole)
    refused(tmp_path / "s", "copy.dcm", "there twice")


LOST = (
    lambda whole: np.random.default_rng(2).bytes(400) + whole[400:],
    lambda whole: b"\xff" * 4096 + whole[4096:],
    lambda whole: b"II*\0" + whole[4:90],
    lambda whole: b"<html><body>404 not found</body></html>" * 20,
    lambda whole: b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    lambda whole: b"",
)


@pytest.mark.parametrize("name", ["IM{:04d}.dcm", "IM{:04d}", "1.2.840.{}", "{:d}", "7f{}c-a{}.xyz"])
def test_slices_that_are_no_dicom_files_any_more(tmp_path, name):
    """The volume would be whole without the first or the last one; such files are known by their names."""
    name = name.replace("{}", "{0:d}")
    for at in (0, 5):
        path = write_series(tmp_path / "s", HU, name=name)[at]
        whole = path.read_bytes()
        for lost in LOST:
            path.write_bytes(lost(whole))
            refused(tmp_path / "s", path.name, "but called as slices are: copy it again")
        path.unlink()
        path.symlink_to("annex/objects/gone")
        refused(tmp_path / "s", path.name, "a link to nowhere")
        path.unlink()
        os.mkfifo(path)
        refused(tmp_path / "s", path.name, "no regular file")
        path.unlink()


@pytest.mark.parametrize("name, text", [("IM{:04d}.dcm", "notes"), ("IM{:04d}", "notes"), ("{:d}", "of 2024, text")])
def test_what_lies_beside_slices(tmp_path, name, text):
    write_series(tmp_path / "s", HU, name=name)
    for other in ("README", "License", "report.pdf", "Thumbs.db", "IM0001.jpg", "0001.txt", ".IM0007.dcm.Xy12ab"):
        (tmp_path / "s" / other).write_bytes(b"\xff\xd8\0" * 50)
    (tmp_path / "s/IM0009").mkdir()
    (tmp_path / "s/loop.txt").symlink_to("loop.txt")
    right(tmp_path / "s")
    (tmp_path / "s" / text).write_text("für den Arzt\n", encoding="latin-1")
    right(tmp_path / "s", notes=[f"no DICOM files, passed over: {text}$"])
    (tmp_path / "s/a.part").write_bytes(b"\xff" * 200)
    (tmp_path / "s/b\nc.xyz").write_bytes(b"")
    right(tmp_path / "s", notes=[f"passed over: a.part, b c.xyz, {text}$"])


def test_other_objects(tmp_path):
    """RTDOSE, RTSTRUCT, SR and localizers of their own series beside the CT; alone they are named."""
    write_series(tmp_path / "s", HU)
    others = ["rtdose_1frame.dcm", "rtdose.dcm", "rtplan.dcm", "reportsi.dcm", "test-SR.dcm", "badVR.dcm", "DICOMDIR"]
    for name in others:
        shutil.copy(get_testdata_file(name), tmp_path / "s" / name)
    scout = put(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    write_series(tmp_path / "s", HU[:1], scout, series="1.2.10", name="SCOUT{}")
    right(tmp_path / "s")
    assert images.series_of(tmp_path / "s") == ["1.2.9"]
    for path in write_series(tmp_path / "s", HU):
        path.unlink()
    refused(tmp_path / "s", "only", "RT Dose Storage", "localizer")
    refused(tmp_path / "s/rtdose.dcm", "RT Dose Storage")


def test_without_preamble(tmp_path):
    write_series(tmp_path / "s", HU)
    for path in (tmp_path / "s").iterdir():
        recode(path, uid.ImplicitVRLittleEndian)
        meta = 132 + 12 + pydicom.dcmread(path).file_meta.FileMetaInformationGroupLength
        path.write_bytes(path.read_bytes()[meta:])
    right(tmp_path / "s")


def test_two_series(tmp_path):
    """The one that is named; a damaged slice of the other does not matter, one of an unknown series does."""
    write_series(tmp_path / "s", HU)
    second = write_series(tmp_path / "s", HU[:3], series="1.2.10", name="B{}.dcm")
    refused(tmp_path / "s", "2 DICOM series, name one with --series: 1.2.10, 1.2.9")
    assert images.read(tmp_path / "s", "1.2.10").GetSize()[2] == 3
    ds = pydicom.dcmread(second[0])
    del ds.Rows
    ds.save_as(second[0])
    assert images.read(tmp_path / "s", "1.2.9").GetSize()[2] == 6
    second[0].write_bytes(second[0].read_bytes()[:300])
    with pytest.raises(images.ImageError, match="B0.dcm: cut off"):
        images.read(tmp_path / "s", "1.2.9")


def test_enhanced(tmp_path):
    """Frames in any order, each with its own rescaling; also one volume in two files."""
    path = write_enhanced(tmp_path / "a/e.dcm", HU, [3, 0, 5, 1, 4, 2])
    right(path)
    right(tmp_path / "a")
    right(write_enhanced(path, HU, [5, 4, 3, 2, 1, 0], [(1, -1024 - 10 * k) for k in range(6)]))
    write_enhanced(path, HU, [0, 2, 4])
    write_enhanced(tmp_path / "a/f.dcm", HU, [5, 3, 1], instance="1.2.7.2")
    right(tmp_path / "a")


def in_frame(at, **values):
    """An edit of the functional groups of one frame."""
    return lambda ds: put([at], **values)(ds.PerFrameFunctionalGroupsSequence[at], at)


@pytest.mark.parametrize("text, change", [
    ("a slice is missing", {"positions": lambda k: (*ORIGIN[:2], ORIGIN[2] + 3 * (k + (k > 2)))}),
    ("there twice", {"positions": lambda k: (*ORIGIN[:2], ORIGIN[2] + 3 * (k - (k > 2)))}),
    ("degrees off right angles", {"positions": lambda k: (ORIGIN[0], ORIGIN[1] + k, ORIGIN[2] + 3 * k)}),
    ("5 positions", {"edit": lambda ds: ds.PerFrameFunctionalGroupsSequence.pop()}),
    ("frame 3 of e.dcm has ImageOrientationPatient", {"edit": in_frame(
        2, PlaneOrientationSequence=item(ImageOrientationPatient=[0, 1, 0, 1, 0, 0]))}),
    ("frame 3 of e.dcm has PixelSpacing", {"edit": in_frame(2, PixelMeasuresSequence=item(PixelSpacing=[3, 3]))}),
    ("HU are unknown", {"edit": lambda ds: delattr(
        ds.SharedFunctionalGroupsSequence[0], "PixelValueTransformationSequence")}),
    ("no ImagePositionPatient", {"edit": in_frame(5, PlanePositionSequence=GONE)}),
    ("need 23040", {"edit": lambda ds: setattr(ds, "PixelData", ds.PixelData[:-3840])}),
    ("need 23040", {"edit": lambda ds: setattr(ds, "PixelData", ds.PixelData + ds.PixelData[:3840])}),
    ("frame 4 of e.dcm has RescaleType MGML, frame 1 of e.dcm HU", {"edit": in_frame(
        3, PixelValueTransformationSequence=item(RescaleSlope=1, RescaleIntercept=-1024, RescaleType="MGML"))}),
    ("RescaleSlope None, RescaleIntercept 0.0", {"edit": in_frame(
        3, PixelValueTransformationSequence=item(RescaleIntercept=0))}),
    ("frame 2 is a localizer", {"edit": in_frame(
        1, CTImageFrameTypeSequence=item(FrameType=["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"]))}),
])  # fmt: skip
def test_enhanced_refusals(tmp_path, text, change):
    refused(write_enhanced(tmp_path / "e.dcm", HU, **change), text)


def test_compressed_frames_are_counted(tmp_path):
    for syntax in (uid.RLELossless, uid.JPEG2000Lossless, uid.JPEGLSLossless):
        path = write_enhanced(tmp_path / "e.dcm", HU)
        recode(path, syntax)
        right(path)
        ds = pydicom.dcmread(path)
        frames = list(generate_frames(ds.PixelData, number_of_frames=6))
        for given in (frames[:5], frames + frames[:1]):
            ds.PixelData = encapsulate(given)
            ds.save_as(path)
            refused(path, f"not whole: {len(given)} of 6 frames; copy it again")


def test_numbers_that_are_none(tmp_path):
    """The file is named, and what it has."""
    for old, new, text in ((b"1.25\\1.5", b"1,25\\1,5", "PixelSpacing"), (b"-1024", b"-1O24", "RescaleIntercept -1O24")):
        path = write_series(tmp_path / "s", HU)[2]
        path.write_bytes(path.read_bytes().replace(old, new))
        refused(tmp_path / "s", "IM0002.dcm: ", text, "must be", "finite number", "correct it")


def test_other_rescale_types(tmp_path):
    write_series(tmp_path / "s", HU, put(RescaleType="Z_EFF"))
    right(tmp_path / "s", notes=["RescaleType Z_EFF: its values are no HU"])


PATIENT = "PatientBirthDate PatientSex StudyDate StudyTime AccessionNumber StudyID ReferringPhysicianName".split()
PATIENT.append("PositionReferenceIndicator")


def write_segmentation(path, sources, numbers, **options):
    """As highdicom writes it: slices without a segment are left out."""
    import highdicom
    from pydicom.sr.codedict import codes

    seg = highdicom.seg
    manual = seg.SegmentAlgorithmTypeValues.MANUAL
    described = [seg.SegmentDescription(k, f"s{k}", codes.SCT.Tissue, codes.SCT.Liver, manual) for k in (1, 2)]
    seg.Segmentation(
        [pydicom.dcmread(source) for source in sources], numbers, options.pop("kind", "BINARY"), described, "1.2.77", 9,
        "1.2.77.1", 1, "a", "b", "1", "1", **options,
    ).save_as(path)  # fmt: skip


@pytest.mark.parametrize("options", [{}, {"omit_empty_frames": False}, {"kind": "LABELMAP"}])
def test_segmentations_of_a_series(tmp_path, command, options):
    """On the grid of the scan, as truth, mask and ROI."""
    paths = write_series(tmp_path / "ct", HU, put(**dict.fromkeys(PATIENT, "")))
    numbers = np.zeros(HU.shape, np.uint8)
    numbers[1:4, 5:20, 10:30], numbers[2, 8:12, 12:20] = 1, 2
    path = tmp_path / "seg.dcm"
    write_segmentation(path, paths, numbers, **options)
    scan = images.read(tmp_path / "ct")
    placed = images.on_grid(images.read_mask(path), path, scan, tmp_path / "ct")
    assert np.array_equal(sitk.GetArrayFromImage(placed), numbers)
    plain = tmp_path / "plain.nrrd"
    sitk.WriteImage(images.like(numbers, scan), str(plain))
    for words in ((path, plain), (plain, path), (path, path)):
        assert "1/1" in command("metrics", *words).stdout
    shifted = images.like(numbers, scan)
    shifted.SetOrigin((-30, -20.5, 101))
    sitk.WriteImage(shifted, str(plain))
    assert "but" in command("metrics", path, plain, status=1).stderr


def test_segmentations_that_overlap(tmp_path):
    paths = write_series(tmp_path / "ct", HU, put(**dict.fromkeys(PATIENT, "")))
    write_segmentation(tmp_path / "seg.dcm", paths, np.ones((*HU.shape, 2), np.uint8))
    with pytest.raises(images.ImageError, match="no volume of separate segments"):
        images.read_mask(tmp_path / "seg.dcm")


def test_segmentations(tmp_path, command):
    """DICOM SEG is read as masks and ROIs, not as a scan."""
    path = get_testdata_file("liver_1frame.dcm")
    stored = pydicom.dcmread(path).pixel_array
    mask = sitk.GetArrayFromImage(images.read_mask(path))
    assert mask.shape == (1, 512, 512) and np.array_equal(mask[0], stored)
    assert "1.000" in command("metrics", path, path).stdout
    refused(path, "is a DICOM segmentation, no scan")
    shutil.copy(path, tmp_path)
    refused(tmp_path, "only DICOM segmentation")
    assert images.read_mask(tmp_path).GetSize() == (512, 512, 1)
