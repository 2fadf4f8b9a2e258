"""NIfTI, NRRD and MetaImage: read as nibabel and SimpleITK read them where those are right; or refused."""

import bz2
import gzip
import itertools
import os
import struct
import subprocess
import sys
import zlib

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from conftest import MODEL

from patchmask import images

SPACING, ORIGIN = (1.5, 1.25, 3.0), (-30.0, -20.5, 100.25)
HU = np.random.default_rng(3).integers(-1024, 1500, (4, 5, 6)).astype(np.int16)
LPS = np.diag([-1.0, -1, 1, 1])


def affine(directions=np.eye(3)):
    """Column, row, slice to mm, as NIfTI has it (RAS)."""
    lps = np.eye(4)
    lps[:3, :3], lps[:3, 3] = np.array(directions) * SPACING, ORIGIN
    return LPS @ lps


def right(path, hu=HU, notes=(), grid=None, given=None):
    image = images.read(path, spacing=given)
    assert np.array_equal(sitk.GetArrayFromImage(image), hu, equal_nan=True)
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    matrix[:3, 3] = image.GetOrigin()
    assert np.allclose(matrix, LPS @ (affine() if grid is None else grid), atol=1e-4)
    told = images.notes_of(image)
    assert len(told) == len(notes) and all(want in note for want, note in zip(notes, told)), told


def refused(path, *texts, given=None):
    with pytest.raises(images.ImageError) as caught:
        images.read(path, spacing=given)
    told = str(caught.value)
    assert told.startswith(f"{path}: ") and "\n" not in told and all(text in told for text in texts), told


# ------------------------------------------------------------------------------------------------- NIfTI


def nifti(path, voxels=HU, sform=None, qform=None, kind=nibabel.Nifti1Image, edit=None, **fields):
    """Written by nibabel; then `fields` as (format, offset, values) over the bytes of the header."""
    image = kind(voxels.T, None, dtype=voxels.dtype)
    image.set_sform(
        affine() if sform is None and qform is None else sform, None if sform is None and qform is not None else 1
    )
    image.set_qform(qform, 1 if qform is not None else 0)
    sizes = affine() if sform is None else sform
    image.header["pixdim"][1:4] = np.linalg.norm(sizes[:3, :3], axis=0)
    nibabel.save(image, path)
    content = bytearray(path.read_bytes())
    for form, offset, *values in fields.values():
        struct.pack_into(f"<{form}", content, offset, *values)
    path.write_bytes(content)
    return path


def test_nifti_as_nibabel(tmp_path):
    """Every type with every kind of scaling; axes in any order and direction."""
    signs = ((1, 1, 1), (-1, 1, 1), (1, -1, -1), (-1, -1, -1))
    grids = [np.eye(3)[:, list(order)] * sign for order, sign in zip(itertools.permutations(range(3)), signs * 2)]
    kinds = ("u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")
    factors = ((0.0, -1024.0), (1.0, 0.0), (1.0, -1024.0), (0.5, 3.0), (2.0, -7.5), (float("nan"), 1.0))
    for n, (kind, scaling) in enumerate(itertools.product(kinds, factors)):
        for order in "<>":
            grid = affine(grids[n % len(grids)])
            voxels = HU.astype(kind).astype(order + kind)
            path = tmp_path / f"{n}.nii"
            image = nibabel.Nifti1Image(voxels.T, grid, nibabel.Nifti1Header(endianness=order), dtype=voxels.dtype)
            image.set_qform(grid, 1)
            nibabel.save(image, path)
            content = bytearray(path.read_bytes())
            struct.pack_into(f"{order}2f", content, 112, *scaling)
            path.write_bytes(content)
            same = nibabel.load(path)
            have = images.read(path)
            want = same.get_fdata().T
            assert np.allclose(sitk.GetArrayFromImage(have), want, rtol=1e-6, atol=0), (kind, scaling)
            right(path, sitk.GetArrayFromImage(have), grid=same.affine)


def test_nifti_values(tmp_path):
    """NaN and infinity stay; an offset that is none is refused, and so are other than real numbers."""
    floats = HU.astype(np.float32)
    floats[0], floats[1, 1] = np.nan, np.inf
    right(nifti(tmp_path / "a.nii", floats), floats)
    refused(nifti(tmp_path / "b.nii", scale=("2f", 112, 1.0, float("inf"))), "invalid intercept inf")
    refused(nifti(tmp_path / "c.nii", HU.astype(np.complex64)), "must be one real number each")
    colours = HU.astype(np.uint8).repeat(3).view([("R", "u1"), ("G", "u1"), ("B", "u1")]).reshape(HU.shape)
    refused(nifti(tmp_path / "d.nii", colours), "must be one real number each")
    refused(nifti(tmp_path / "e.nii", kind_=("h", 70, 1)), "e.nii")


def test_nifti_geometry(tmp_path):
    """The sform counts, then the qform, then the pixdims; what disagrees is said, what is unknown refused."""
    mirrored, sheared, slightly = affine(np.diag([-1.0, 1, 1])), affine(), affine()
    sheared[1, 2], slightly[1, 2] = 0.8, 0.003
    right(nifti(tmp_path / "q.nii", qform=affine()))
    right(nifti(tmp_path / "both.nii", sform=affine(), qform=affine()))
    right(nifti(tmp_path / "a.nii", sform=affine(), qform=mirrored), notes=["sform and qform differ by up to"])
    right(nifti(tmp_path / "b.nii", pixdim=("3f", 80, 1, 1, 1)), notes=["its pixdim (1, 1, 1): the sform counts"])
    right(nifti(tmp_path / "c.nii", pixdim=("f", 88, float("nan"))), notes=["the sform counts"])
    right(nifti(tmp_path / "d.nii", sform=slightly), grid=slightly)
    refused(nifti(tmp_path / "e.nii", sform=sheared), "14.9 degrees off right angles")
    refused(nifti(tmp_path / "f.nii", qform=affine(), pixdim=("f", 88, 0)), "slices is unknown", "--spacing")
    right(tmp_path / "f.nii", given=SPACING)
    refused(nifti(tmp_path / "g.nii", row=("4f", 312, 0, 0, 0, 0)), "g.nii")
    right(nifti(tmp_path / "f.nii", qform=affine(), qfac=("f", 76, 0.0)))
    right(nifti(tmp_path / "f.nii", qform=affine(), qfac=("f", 76, 0.0), sform=affine()))
    right(nifti(tmp_path / "f.nii", qform=affine(), quatern=("3f", 256, 0, 0, 1.0000002)))
    flipped = affine(np.diag([1.0, 1, -1]))  # left-handed: pixdim[0] is -1, also where the spacing has to be given
    right(nifti(tmp_path / "f.nii", qform=flipped, pixdim=("f", 88, 0)), grid=flipped, given=SPACING)
    for place, which in ((80, "columns"), (88, "slices")):
        for codes in (("2h", 252, 0, 0), ("2h", 252, 1, 0)):
            nifti(tmp_path / "f.nii", qform=affine(), pixdim=("f", place, -1.5), codes=codes)
            refused(tmp_path / "f.nii", which, "is unknown")
    refused(nifti(tmp_path / "h.nii", qform=affine(), quatern=("3f", 256, 1, 1, 1)), "no rotation")
    refused(nifti(tmp_path / "i.nii", row=("f", 280, float("nan"))), "columns is unknown")
    nifti(tmp_path / "j.nii", codes=("2h", 252, 0, 0))
    right(tmp_path / "j.nii", notes=["neither sform nor qform"], grid=nibabel.load(tmp_path / "j.nii").affine)
    metres = np.diag([1e-3, 1e-3, 1e-3, 1]) @ affine()
    right(nifti(tmp_path / "k.nii", sform=metres, units=("b", 123, 1)))
    refused(nifti(tmp_path / "l.nii", units=("b", 123, 1)), "another unit")
    right(nifti(tmp_path / "l.nii", units=("b", 123, 66)))  # mm, and a unit of time that is none
    right(nifti(tmp_path / "l.nii", units=("b", 123, 5)), notes=["unit of length has the code 5"])


def test_nifti_axes_and_lengths(tmp_path):
    """NIfTI-2; axes of one; several time points; bytes that no header announces."""
    right(nifti(tmp_path / "two.nii.gz", kind=nibabel.Nifti2Image))
    right(nifti(tmp_path / "one.nii", HU[None, None]))
    refused(nifti(tmp_path / "times.nii", np.stack([HU, HU])), "has 4 axes: needs 3", "take one time point")
    refused(nifti(tmp_path / "flat.nii", HU[0]), "has 2 axes: needs 3")
    for dim in (0, -4):
        refused(nifti(tmp_path / "none.nii", dim=("h", 46, dim)), f"size (6, 5, {dim}): must be at least 1")
    refused(nifti(tmp_path / "none.nii", kind=nibabel.Nifti2Image, dim=("q", 40, -4)), "(6, 5, -4)")
    for offset in (0, 348, -352, float("nan"), float("inf")):
        refused(nifti(tmp_path / "none.nii", offset=("f", 108, offset)), f"vox_offset {offset:g}: must be")
    more = nifti(tmp_path / "more.nii")
    more.write_bytes(more.read_bytes() + b"12345")
    right(more, notes=["5 bytes more than its header announces"])
    packed = nifti(tmp_path / "p.nii.gz")
    packed.write_bytes(packed.read_bytes() + b"rest")
    refused(packed, "truncated or damaged", "copy it again")
    (tmp_path / "pair.nii").write_bytes(more.read_bytes()[:344] + b"ni1\0")
    refused(tmp_path / "pair.nii", "convert the pair to one")
    (tmp_path / "text.nii").write_text("a text")
    refused(tmp_path / "text.nii", "not a NIfTI file")


# -------------------------------------------------------------------------------------------------- NRRD


HEADER = {
    "type": "short",
    "dimension": "3",
    "space": "left-posterior-superior",
    "sizes": "6 5 4",
    "space directions": "(1.5,0,0) (0,1.25,0) (0,0,3)",
    "kinds": "domain domain domain",
    "endian": "little",
    "encoding": "raw",
    "space origin": "(-30,-20.5,100.25)",
}
PLAIN = {"space": None, "space directions": None, "space origin": None}
TEXT = " ".join(map(str, HU.ravel())).encode()
UNTIED = ["not tied to the patient"]


def nrrd(path, data=None, **fields):
    header = {name: value for name, value in {**HEADER, **fields}.items() if value is not None}
    lines = "".join(f"{name}: {value}\n" for name, value in header.items())
    path.write_bytes(
        f"NRRD0005\n# a comment\nspacings:=9 9 9\n{lines}\n".encode() + (HU.tobytes() if data is None else data)
    )
    return path


@pytest.mark.parametrize("data, fields", [
    (None, {}),
    (HU.astype(">i2").tobytes(), {"endian": "big"}),
    (gzip.compress(HU.tobytes()), {"encoding": "gzip"}),
    (bz2.compress(HU.tobytes()), {"encoding": "bz2"}),
    (TEXT, {"encoding": "ascii", "endian": None}),
    (HU.tobytes().hex().encode(), {"encoding": "hex"}),
    (b"skip\nthis\n" + HU.tobytes(), {"line skip": "2"}),
    (b"1234" + HU.tobytes(), {"byte skip": "4"}),
    (b"of any length" + HU.tobytes(), {"byteskip": "-1"}),
    (b"a line\n" + gzip.compress(b"12" + HU.tobytes()), {"encoding": "gz", "lineskip": "1", "byteskip": "2"}),
    (None, {"space": "right-anterior-superior",
            "space directions": "(-1.5,0,0) (0,-1.25,0) (0,0,3)", "space origin": "(30,20.5,100.25)"}),
    (None, {"space directions": "(.15,0,0) (0,.125,0) (0,0,.3)",
            "space origin": "(-3,-2.05,10.025)", "space units": '"cm" "cm" "cm"'}),
    (None, {"dimension": "4", "sizes": "1 6 5 4", "kinds": "list domain domain domain",
            "space directions": "none (1.5,0,0) (0,1.25,0) (0,0,3)"}),
    (None, {"dimension": "4", "sizes": "6 5 4 1", "kinds": None, "space": "left-posterior-superior-time",
            "space directions": "(1.5,0,0,0) (0,1.25,0,0) (0,0,3,0) (0,0,0,1)",
            "space origin": "(-30,-20.5,100.25,0)"}),
    (None, {"spacings": "1.5 1.25 3"}),
    (None, {"space units": '"millimeters" "Millimetre" "mm"'}),
])  # fmt: skip
def test_nrrd(tmp_path, data, fields):
    right(nrrd(tmp_path / "a.nrrd", data, **fields))


def test_nrrd_in_several_files(tmp_path):
    """Beside the header: one file, a list, a pattern."""
    for z, plane in enumerate(HU):
        (tmp_path / f"s{z}.raw").write_bytes(plane.tobytes())
    (tmp_path / "all.raw").write_bytes(HU.tobytes())
    right(nrrd(tmp_path / "a.nhdr", b"", **{"data file": "all.raw"}))
    right(nrrd(tmp_path / "b.nhdr", b"", **{"data file": "s%d.raw 0 3 1"}))
    lists = nrrd(tmp_path / "c.nhdr", b"s0.raw\ns1.raw\ns2.raw\ns3.raw\n", **{"data file": "LIST"})
    lists.write_bytes(lists.read_bytes().replace(b"\n\ns0", b"\ns0"))
    # The field comes last: its lines are the files.
    text = lists.read_text().replace("data file: LIST\n", "")
    lists.write_text(text.replace("s0.raw", "data file: LIST\ns0.raw", 1))
    right(lists)
    pattern = {"data file": "s%d.raw 0 3 0"}
    refused(nrrd(tmp_path / "d.nhdr", b"", **pattern), "the step must not be 0")
    listed = lists.read_text()
    for names, reason in (("s0 s1 s2 s3 s3", "5 data files, 4 of them different"), ("s0 s1 s2", "bytes, but the header"),
                          ("s0 s1 s2 s3 t0 t1 t2 t3", "s0.raw is 30 bytes too long")):  # fmt: skip
        lists.write_text(listed.split("LIST")[0] + "LIST\n" + "".join(f"{name}.raw\n" for name in names.split()))
        refused(lists, reason)
    lists.write_text(listed)
    (tmp_path / "s2.raw").write_bytes(HU[2].tobytes()[:-1])
    refused(lists, "truncated: 59 bytes, but the header announces 60")
    (tmp_path / "s2.raw").unlink()
    refused(lists, "data file s2.raw is not there: copy it too")


@pytest.mark.parametrize("text, data, fields", [
    ("14.9 degrees off right angles", None, {"space directions": "(1.5,0,0) (0,1.25,0) (0,0.8,3)"}),
    ("spacing of its slices is unknown", None, {"space directions": "(1.5,0,0) (0,1.25,0) none"}),
    ("spacing of its slices is unknown", None, {"space directions": "(1.5,0,0) (0,1.25,0) (0,0,0)"}),
    ("spacing of its rows is unknown", None, {**PLAIN, "spacings": "1.5 nan 3"}),
    ("columns and rows and slices is unknown", None, PLAIN),
    ("unknown", None, {**PLAIN, "axis mins": "0 0 0", "axis maxs": "6 5 4"}),
    ("unknown", None, {**PLAIN, "spacings": "1.5 -1 3"}),
    ("contradict its space directions", None, {"spacings": "1 1 1"}),
    ("has 2 values per voxel: needs one", HU.tobytes() * 2, {"dimension": "4", "sizes": "2 6 5 4",
        "kinds": "vector domain domain domain", "space directions": "none (1.5,0,0) (0,1.25,0) (0,0,3)"}),
    ("has 4 axes: needs 3", HU.tobytes() * 2, {"dimension": "4", "sizes": "6 5 4 2", "kinds": None,
        "space directions": None}),
    ("has 2 axes: needs 3", None, {"dimension": "2", "sizes": "6 20", "kinds": None, **PLAIN, "spacings": "1 1"}),
    ("sizes 6 5: must be 3 numbers", None, {"sizes": "6 5"}),
    ("type block", None, {"type": "block"}),
    ("endian none", None, {"endian": None}),
    ("encoding lzma", None, {"encoding": "lzma"}),
    ("restore them first", None, {"old min": "-1024", "old max": "3071"}),
    ("truncated: 239 bytes, but the header announces 240", HU.tobytes()[:-1], {}),
    ("truncated or damaged", gzip.compress(HU.tobytes())[:-1], {"encoding": "gzip"}),
    ("truncated or damaged", bz2.compress(HU.tobytes())[:-4], {"encoding": "bzip2"}),
    ("119 numbers, but the header announces 120", TEXT.rsplit(b" ", 1)[0], {"encoding": "text"}),
    ("its header has no sizes", None, {"sizes": None}),
    ("the value 40000: does not fit its type int16", b"40000" + TEXT[TEXT.index(b" ") :], {"encoding": "text"}),
    ("does not fit its type uint16", b"-1 " * 120, {"encoding": "text", "type": "ushort"}),
    ("does not fit its type float32", b"1e40 " * 120, {"encoding": "text", "type": "float"}),
    ("are not 120 numbers of type int16", b"1.5 " * 120, {"encoding": "text"}),
    ("are not 120 numbers of type uint64", b"-1 " * 120, {"encoding": "text", "type": "uint64"}),
    ("byte skip -2: must be at least 0", None, {"byte skip": "-2"}),
    ("must be one field with a value", None, {"sizes": "6 5 4\nsizes: 5 6 4"}),
    ("spacings 1.5 1.25: must be 3 numbers", None, {**PLAIN, "spacings": "1.5 1.25"}),
    ("'1,5' is no number", None, {**PLAIN, "spacings": "1,5 1,25 3"}),
])  # fmt: skip
def test_nrrd_refusals(tmp_path, text, data, fields):
    refused(nrrd(tmp_path / "a.nrrd", data, **fields), text)


def test_nrrd_notes(tmp_path):
    right(nrrd(tmp_path / "a.nrrd", **{"space": "scanner-xyz"}), notes=["(space scanner-xyz): taken as left"])
    unplaced = LPS @ np.diag([*SPACING, 1])
    right(nrrd(tmp_path / "b.nrrd", **PLAIN, spacings="1.5 1.25 3"), notes=UNTIED, grid=unplaced)
    right(nrrd(tmp_path / "c.nrrd", **PLAIN), notes=UNTIED, grid=unplaced, given=SPACING)


# --------------------------------------------------------------------------------------------- MetaImage


META = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "BinaryDataByteOrderMSB": "False",
    "TransformMatrix": "1 0 0 0 1 0 0 0 1",
    "Offset": "-30 -20.5 100.25",
    "ElementSpacing": "1.5 1.25 3",
    "DimSize": "6 5 4",
    "ElementType": "MET_SHORT",
}


def meta(path, data=None, source="LOCAL", **fields):
    header = {**META, **fields, "ElementDataFile": source}
    text = "".join(f"{name} = {value}\n" for name, value in header.items() if value is not None)
    path.write_bytes(text.encode() + (HU.tobytes() if data is None else data))
    return path


@pytest.mark.parametrize("data, fields", [
    (None, {}),
    (HU.astype(">i2").tobytes(), {"BinaryDataByteOrderMSB": "True"}),
    (zlib.compress(HU.tobytes()), {"CompressedData": "True"}),
    (TEXT, {"BinaryData": "False"}),
    (b"head" + HU.tobytes(), {"HeaderSize": "4"}),
    (b"any" + HU.tobytes(), {"HeaderSize": "-1"}),
    (None, {"ElementSpacing": None, "ElementSize": "1.5 1.25 3"}),
    (None, {"NDims": "4", "DimSize": "6 5 4 1", "Offset": "-30 -20.5 100.25 0", "ElementSpacing": "1.5 1.25 3 1",
            "TransformMatrix": "1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1"}),
])  # fmt: skip
def test_meta_image(tmp_path, data, fields):
    right(meta(tmp_path / "a.mha", data, **fields))


def test_meta_image_in_several_files(tmp_path):
    for z, plane in enumerate(HU):
        (tmp_path / f"s{z}.raw").write_bytes(plane.tobytes())
    right(meta(tmp_path / "a.mhd", b"s0.raw\ns1.raw\ns2.raw\ns3.raw\n", "LIST"))
    right(meta(tmp_path / "b.mhd", b"", "s%d.raw 0 3 1"))
    (tmp_path / "s3.raw").unlink()
    refused(tmp_path / "b.mhd", "data file s3.raw is not there")


def test_meta_image_axes(tmp_path):
    """The matrix of the header has an axis a row, as SimpleITK reads it."""
    path = meta(tmp_path / "a.mha", TransformMatrix="0 1 0 0 0 1 1 0 0")
    right(path, grid=affine(np.reshape(sitk.ReadImage(str(path)).GetDirection(), (3, 3))))
    right(meta(path, TransformMatrix=None), notes=["does not say where its axes point"])


@pytest.mark.parametrize("text, data, fields", [
    ("unknown", None, {"ElementSpacing": None}),
    ("unknown", None, {"ElementSpacing": "1.5 0 3"}),
    ("right angles", None, {"TransformMatrix": "1 0 0 0 1 0 0 .28 .96"}),
    ("has 3 values per voxel", HU.tobytes() * 3, {"ElementNumberOfChannels": "3"}),
    ("has 2 axes", None, {"NDims": "2", "DimSize": "6 20", "ElementSpacing": "1 1", "Offset": "0 0",
        "TransformMatrix": "1 0 0 1"}),
    ("ElementType MET_STRING", None, {"ElementType": "MET_STRING"}),
    ("apply it first", None, {"ElementToIntensityFunctionSlope": "2"}),
    ("truncated or damaged", zlib.compress(HU.tobytes())[:-1], {"CompressedData": "True"}),
    ("truncated or damaged", zlib.compress(HU.tobytes())[:-1] + b"x", {"CompressedData": "True"}),
    ("truncated: 239 bytes", HU.tobytes()[1:], {}),
    ("no DimSize", None, {"DimSize": None}),
    ("must be 3 numbers", None, {"Offset": "1 2"}),
    ("TransformMatrix (nan, 0, 0, 0, 1, 0, 0, 0, 1): must be", None, {"TransformMatrix": "nan 0 0 0 1 0 0 0 1"}),
    ("directions have the lengths (2, 2, 2): must be 1", None, {"TransformMatrix": "2 0 0 0 2 0 0 0 2"}),
    ("have the lengths (0, 0, 0): must be 1", None, {"TransformMatrix": "0 0 0 0 0 0 0 0 0"}),
    ("DimSize is twice in its header", None, {"DimSize": "6 5 4\nDimSize = 5 6 4"}),
    ("Offset and Origin contradict", None, {"Origin": "0 0 0"}),
    ("the value 70000: does not fit", b"70000" + TEXT[TEXT.index(b" ") :], {"BinaryData": "False"}),
    ("truncated or damaged", zlib.compress(HU.tobytes()) + b"garbage", {"CompressedData": "True"}),
])  # fmt: skip
def test_meta_image_refusals(tmp_path, text, data, fields):
    refused(meta(tmp_path / "a.mha", data, **fields), text)


# ------------------------------------------------------------------------------------- names, locale, masks


def test_masks_keep_the_grid(tmp_path, command):
    """Also of a slightly sheared NIfTI, to the last bit of its numbers; and DICOM's SEG would be read as a ROI."""
    slightly = affine()
    slightly[1, 2] = 0.003
    scan = nifti(tmp_path / "a.nii", np.zeros((2, 40, 40), np.int16), sform=slightly)
    for suffix in ("nii", "nii.gz", "nrrd", "mha"):
        mask = tmp_path / f"m.{suffix}"
        told = command("segment", scan, mask, "--model", MODEL, "--stride", 32, "--device", "cpu", "--quiet")
        assert told.stderr == ""
        have, want = images.read_mask(mask), images.read(scan)
        assert np.allclose(have.GetDirection(), want.GetDirection(), atol=1e-6) and images.notes_of(have) == []
    assert np.allclose(nibabel.load(tmp_path / "m.nii").affine, nibabel.load(scan).affine, atol=1e-5)


def test_spacing_on_the_command_line(tmp_path, command):
    nrrd(tmp_path / "a.nrrd", np.zeros((2, 40, 40), np.int16).tobytes(), **PLAIN, sizes="40 40 2")
    words = ("segment", tmp_path / "a.nrrd", tmp_path / "m.nrrd", "--model", MODEL, "--stride", 32, "--device", "cpu")
    assert "give it with --spacing X,Y,Z" in command(*words, status=1).stderr
    told = command(*words, "--spacing", "1.5,1.25,3").stderr
    assert (
        told
        == f"patchmask: {tmp_path}/a.nrrd: its axes are not tied to the patient: taken as left, posterior, superior\n"
    )
    assert images.read(tmp_path / "m.nrrd").GetSpacing() == SPACING
    known = (words[0], nrrd(tmp_path / "b.nrrd"), *words[2:])
    assert "leave it out" in command(*known, "--spacing", "1,1,1", status=2).stderr
    assert "each above 0" in command(*words, "--spacing", "0,1,1", status=2).stderr


def test_names_that_are_not_utf8(tmp_path, command):
    folder = os.fsencode(tmp_path) + b"/M\xfcller"
    os.mkdir(folder)
    scan = nrrd(tmp_path / "a.nrrd", np.zeros((2, 40, 40), np.int16).tobytes(), sizes="40 40 2")
    os.rename(scan, folder + b"/\xe9.nrrd")
    for suffix in (b"nii.gz", b"nrrd", b"mha"):
        words = (os.fsdecode(folder + b"/\xe9.nrrd"), os.fsdecode(folder + b"/m." + suffix))
        command("segment", *words, "--model", MODEL, "--stride", 32, "--device", "cpu")
        assert images.read_mask(os.fsdecode(folder + b"/m." + suffix)).GetSize() == (40, 40, 2)


COMMA = """
import locale, sys
from pathlib import Path
try:
    locale.setlocale(locale.LC_ALL, sys.argv[1])
except locale.Error:
    sys.exit(77)
assert locale.localeconv()["decimal_point"] == ","
from patchmask import images
from patchmask.pending import Pending
for source in sys.argv[2:]:
    image = images.read(Path(source))
    assert image.GetSpacing() == (1.5, 1.25, 3.0) and image.GetOrigin() == (-30.0, -20.5, 100.25), source
    for suffix in images.WRITE_SUFFIXES:
        copy = Path(source + suffix)
        with Pending() as pending:
            images.write(image, copy, pending)
            pending.commit()
        again = images.read(copy)
        assert again.GetSpacing() == image.GetSpacing() and again.GetOrigin() == image.GetOrigin(), copy
"""


def test_a_decimal_comma(tmp_path):
    """A host that has set such a locale reads and writes the same numbers."""
    name = "de_DE.UTF-8"
    subprocess.run(["localedef", "-i", "de_DE", "-f", "UTF-8", str(tmp_path / name)], capture_output=True, check=False)
    text = b" ".join(b"%.1f" % value for value in HU.ravel())
    files = [nrrd(tmp_path / "a.nrrd"), nifti(tmp_path / "a.nii"), meta(tmp_path / "a.mha")]
    files.append(nrrd(tmp_path / "b.nrrd", text, encoding="text", type="float"))
    done = subprocess.run([sys.executable, "-c", COMMA, name, *map(str, files)], capture_output=True, text=True,
                          env={**os.environ, "LOCPATH": str(tmp_path)}, check=False)  # fmt: skip
    if done.returncode == 77:
        pytest.skip("no locale with a decimal comma can be made here (package locales)")
    assert done.returncode == 0, done.stderr
