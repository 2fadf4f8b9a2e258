"""Files that are not whole are refused, whole ones of every kind are not."""

import gzip
import struct

import numpy as np
import pytest
import SimpleITK as sitk
from conftest import DEMO, MODEL

from patchmask import images

SUFFIXES = ("nii", "nii.gz", "mha", "mhd")


def written(part, path, compressed=False):
    """Writes a volume; returns the file that holds the voxels."""
    sitk.WriteImage(part, str(path), useCompression=compressed)
    return path.with_suffix(".zraw" if compressed else ".raw") if path.suffix == ".mhd" else path


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("compressed", [False, True])
def test_truncated(part, tmp_path, suffix, compressed):
    path = tmp_path / f"ct.{suffix}"
    voxels = written(part, path, compressed)
    whole = voxels.read_bytes()
    assert images.read(path).GetSize() == part.GetSize()
    for length in (len(whole) - 1, len(whole) // 2):
        voxels.write_bytes(whole[:length])
        with pytest.raises(images.ImageError, match=rf"ct\.{suffix}: truncated"):
            images.read(path)


@pytest.mark.parametrize("kind", [sitk.sitkUInt8, sitk.sitkInt32, sitk.sitkUInt32, sitk.sitkFloat32, sitk.sitkFloat64])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_whole_files_of_other_types(part, tmp_path, kind, suffix):
    image = sitk.Cast(part, kind)
    written(image, tmp_path / f"ct.{suffix}")
    assert images.read(tmp_path / f"ct.{suffix}").GetSize() == part.GetSize()
    voxels = tmp_path / ("ct.raw" if suffix == "mhd" else f"ct.{suffix}")
    if suffix != "nii.gz":
        voxels.write_bytes(voxels.read_bytes()[:-1])
        with pytest.raises(images.ImageError, match="truncated"):
            images.read(tmp_path / f"ct.{suffix}")


def test_damaged(part, tmp_path):
    """The CRC at the end of the stream counts."""
    path = written(part, tmp_path / "ct.nii.gz")
    whole = bytearray(path.read_bytes())
    whole[-8] ^= 1
    path.write_bytes(whole)
    with pytest.raises(images.ImageError, match="damaged: no whole gzip data"):
        images.read(path)


def swapped(voxels):
    """A NIfTI-1 file of the other byte order, of int16 [slice][row][column]."""
    header = bytearray(352)
    struct.pack_into(">i", header, 0, 348)
    struct.pack_into(">8h", header, 40, 3, *voxels.shape[::-1], 1, 1, 1, 1)
    struct.pack_into(">2h", header, 70, 4, 16)
    struct.pack_into(">8f", header, 76, 1, 1, 1, 1, 1, 1, 1, 1)
    struct.pack_into(">f", header, 108, 352)
    header[344:348] = b"n+1\0"
    return bytes(header) + voxels.astype(">i2").tobytes()


def test_the_other_byte_order(voxels, tmp_path):
    path, content = tmp_path / "ct.nii", swapped(voxels)
    path.write_bytes(content)
    assert np.array_equal(sitk.GetArrayFromImage(images.read(path)), voxels)
    path.write_bytes(content[:-2])
    with pytest.raises(images.ImageError, match="truncated"):
        images.read(path)


def test_a_plain_file_with_the_name_of_a_zipped_one(part, tmp_path):
    plain = written(part, tmp_path / "ct.nii").read_bytes()
    path = tmp_path / "ct.nii.gz"
    path.write_bytes(plain)
    assert images.read(path).GetSize() == part.GetSize()
    path.write_bytes(gzip.compress(plain[:-1]))
    with pytest.raises(images.ImageError, match="truncated: 77151 bytes, but the header announces 77152"):
        images.read(path)


def test_every_input_of_the_commands(command, part, tmp_path):
    """Scan, ROI, mask and truth; one line each, and a row of the table in a batch."""
    good, bad = DEMO / "truth.nrrd", tmp_path / "scans/bad.nii.gz"
    bad.parent.mkdir()
    sitk.WriteImage(sitk.ReadImage(str(good)), str(bad))
    bad.write_bytes(bad.read_bytes()[:2000])
    options = ("--model", MODEL, "--stride", 32, "--device", "cpu")

    def refused(*words, status=1):
        told = command(*words, status=status).stderr
        assert "bad" in told and "truncated" in told and told.count("\n") == 1, told

    refused("segment", bad, tmp_path / "mask.nrrd", *options)
    refused("segment", DEMO / "ct.nrrd", tmp_path / "mask.nrrd", "--roi", bad, *options)
    refused("metrics", bad, good)
    refused("metrics", good, bad)
    refused("view", "--ct", bad, "--mask", good, "--out", tmp_path)
    refused("batch", bad.parent, "--out", tmp_path / "out", *options, status=3)
