"""The test files of pydicom, nibabel and highdicom, as their wheels have them (highdicom's has none).

Each is read as the library of its kind reads it, or refused for a reason of the table in docs/scans.md.
"""

import gzip
import re
import warnings
from pathlib import Path

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from conftest import ROOT
from pydicom.pixels import apply_rescale

from patchmask import images

FOLDERS = [Path(package.__file__).parent for package in (pydicom, nibabel, highdicom)]
# Part of the refusal --> how many files; docs/scans.md has the reasons.
REASONS = {
    "has no ImagePositionPatient": 23,
    "per pixel: must be one grey value": 31,
    "is no image of a scanner": 29,
    "cut off or damaged before its pixels": 63,
    "is a DICOM segmentation": 2,
    "is a localizer": 2,
    "are not whole": 2,
    "the spacing of its slices is unknown": 1,
    "axes: needs 3": 4,
}


def files():
    """What pydicom can open, or what has a suffix that is read."""
    for folder in FOLDERS:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and (images.suffix_of(path) or path.read_bytes()[128:132] == b"DICM"):
                yield path


def reference(path):
    """Voxels [slice][row][column] and the matrix to mm in LPS, by the library of the format."""
    if images.suffix_of(path):
        image = nibabel.load(path)
        return image.get_fdata().T, np.diag([-1.0, -1, 1, 1]) @ image.affine
    ds = pydicom.dcmread(path)
    rows, columns = np.reshape(np.array(ds.ImageOrientationPatient, float), (2, 3))
    matrix = np.eye(4)
    matrix[:3, 0], matrix[:3, 1] = rows * ds.PixelSpacing[1], columns * ds.PixelSpacing[0]
    matrix[:3, 2] = np.cross(rows, columns) * ds.SliceThickness
    matrix[:3, 3] = ds.ImagePositionPatient
    return apply_rescale(ds.pixel_array, ds)[None], matrix


def is_grid(path):
    """A CT or MR of one value per pixel that pydicom reads."""
    try:
        ds = pydicom.dcmread(path)
        return ds.Modality in ("CT", "MR") and ds.SamplesPerPixel == 1 and ds.pixel_array.size > 0
    except Exception:
        return False


def test_every_file(capfd):
    told, grids, read = dict.fromkeys(REASONS, 0), 0, 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in files():
            grid = is_grid(path)
            grids += grid
            try:
                image = images.read(path)
            except images.ImageError as refused:
                reason = [part for part in REASONS if part in str(refused)]
                assert len(reason) == 1 and str(path) in str(refused), refused
                told[reason[0]] += 1
                continue
            read += grid
            voxels, matrix = reference(path)
            assert np.allclose(sitk.GetArrayFromImage(image), voxels, rtol=1e-6, atol=0, equal_nan=True), path
            have = np.eye(4)
            have[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
            have[:3, 3] = image.GetOrigin()
            assert np.allclose(have, matrix, rtol=1e-3, atol=1e-3), path
    assert grids >= 46 and read >= 0.9 * grids, f"{read} of {grids} CT and MR grids"
    assert told == REASONS
    assert capfd.readouterr().err == ""


def unzipped(name, folder):
    path = folder / name
    path.write_bytes(gzip.decompress((FOLDERS[1] / f"nicom/tests/data/{name}.dcm.gz").read_bytes()))
    return path


def test_an_enhanced_mr(tmp_path):
    """176 sagittal frames between the ends that nibabel finds; it counts them from the other side."""
    with pytest.warns(UserWarning, match="experimental"):
        from nibabel.nicom import dicomwrappers
    path = unzipped("philips_mprage", tmp_path)
    image, want = images.read(path), dicomwrappers.wrapper_from_file(str(path))
    assert image.GetSize() == want.image_shape == (256, 256, 176)
    for ours, theirs in ((0, 175), (175, 0)):
        place = (want.affine @ [0, 0, theirs, 1])[:3]
        assert np.allclose(image.TransformIndexToPhysicalPoint((0, 0, ours)), place, atol=1e-2)


@pytest.mark.parametrize("name", ["siemens_dwi_0", "siemens_dwi_1000"])
def test_mosaics(name, tmp_path):
    notes = images.notes_of(images.read(unzipped(name, tmp_path)))
    assert "is a mosaic of slices side by side, taken as one" in notes


def test_the_page_has_the_reasons():
    page = (ROOT / "docs/scans.md").read_text(encoding="utf-8")
    for reason in REASONS:
        assert re.sub(r"\W+", " ", reason) in re.sub(r"\W+", " ", page), reason
