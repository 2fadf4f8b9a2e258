"""The pictures are there and are not empty."""

import matplotlib.image
import numpy as np
import pytest
import SimpleITK as sitk
from conftest import DEMO

from patchmask import pictures
from patchmask.pictures import surfaces


@pytest.fixture(scope="module")
def mask(tmp_path_factory):
    path = tmp_path_factory.mktemp("view") / "mask.nii.gz"
    truth = sitk.ReadImage(str(DEMO / "truth.nrrd"))
    sitk.WriteImage(sitk.BinaryDilate(sitk.Cast(truth > 0, sitk.sitkUInt8), [2, 2, 0]), str(path))
    return path


def coloured(path, colour, near=0.2):
    """Pixels whose hue is near that colour."""
    pixels = matplotlib.image.imread(path)[..., :3]
    return int((np.abs(pixels - np.array(matplotlib.colors.to_rgb(colour))).max(-1) < near).sum())


def test_with_truth(command, tmp_path, mask):
    ct = DEMO / "ct.nrrd"
    shown = command(
        "view", "--ct", ct, "--mask", mask, "--truth", DEMO / "truth.nrrd", "--out", tmp_path / "new"
    ).stdout
    assert "Dice 0." in shown
    for name in ("overlay.png", "surface.png"):
        assert coloured(tmp_path / "new" / name, pictures.scan.RESULT_COLOUR) > 100
        assert coloured(tmp_path / "new" / name, pictures.scan.TRUTH_COLOUR) > 100
    assert coloured(tmp_path / "new/overlay.png", pictures.scan.TRUTH_OVER_RESULT, 0.1) > 100
    assert surfaces.legend({"truth": 1, "result": 1})[2][0] == "both agree"


def test_without_truth(tmp_path, mask):
    scan = pictures.read_scan(DEMO / "ct.nrrd", mask)
    pictures.draw(scan, tmp_path, slices=2, surfaces=False)
    assert coloured(tmp_path / "overlay.png", pictures.scan.RESULT_COLOUR) > 100
    assert coloured(tmp_path / "overlay.png", pictures.scan.TRUTH_COLOUR) == 0


def test_same_picture_for_other_axes(tmp_path, mask):
    """A file in other axes shows the same patient."""
    for name, source in (("ct", DEMO / "ct.nrrd"), ("mask", mask)):
        sitk.WriteImage(sitk.DICOMOrient(sitk.ReadImage(str(source)), "RAS"), str(tmp_path / f"{name}.mha"))
    turned = pictures.read_scan(tmp_path / "ct.mha", tmp_path / "mask.mha")
    plain = pictures.read_scan(DEMO / "ct.nrrd", mask)
    assert np.array_equal(turned.ct, plain.ct) and np.array_equal(turned.result, plain.result)
    assert np.allclose(turned.index_to_world, plain.index_to_world)


def test_an_empty_mask_and_without_vtk(tmp_path, monkeypatch, capsys):
    scan = pictures.read_scan(DEMO / "ct.nrrd", DEMO / "truth.nrrd")
    monkeypatch.setattr(surfaces, "vtk_draws", lambda: False)
    pictures.draw(scan, tmp_path, 1)
    assert "apt-get install" in capsys.readouterr().err
    assert scan.title == "Lesions"
    scan.result[:] = False
    assert scan.title == "No lesion in this mask"
    pictures.draw(scan, tmp_path, 3)


def test_wrong_inputs(command, tmp_path, mask):
    ct = ("view", "--ct", DEMO / "ct.nrrd", "--out", tmp_path)
    assert "no such file" in command(*ct, "--mask", tmp_path / "none.nrrd", status=1).stderr
    assert "--slices 0" in command(*ct, "--mask", mask, "--slices", 0, status=2).stderr
    sitk.WriteImage(sitk.ReadImage(str(mask))[:, :, 1:], str(tmp_path / "cut.nrrd"))
    assert "size (240, 180, 31), but" in command(*ct, "--mask", tmp_path / "cut.nrrd", status=1).stderr
