"""Dice, lesions and volumes, against numbers worked out by hand."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from conftest import DEMO

from patchmask import images, metrics


def boxes(*corners, shape=(6, 20, 20)):
    """A mask of boxes (z0, z1, y0, y1, x0, x1)."""
    mask = np.zeros(shape, bool)
    for z0, z1, y0, y1, x0, x1 in corners:
        mask[z0:z1, y0:y1, x0:x1] = True
    return mask


def test_numbers():
    truth = boxes((0, 2, 0, 5, 0, 2), (4, 5, 10, 15, 10, 12), (5, 6, 15, 17, 12, 14))  # 20; 10 + 4 through a corner
    mask = boxes((0, 1, 0, 2, 0, 2), (4, 5, 10, 11, 10, 11), (0, 1, 18, 20, 18, 20))  # 4 of 20, 1 of 14, 4 elsewhere
    m = metrics.compare(mask, truth, (0.5, 0.5, 4.0))
    assert m.lesions == 2 and m.lesions_found == 1 and m.lesion_sensitivity == 0.5
    assert m.false_positives == 1 and m.false_positive_mm3 == (4.0,)
    assert m.dice == pytest.approx(2 * 5 / (34 + 9))
    assert m.sensitivity == pytest.approx(5 / 34) and m.precision == pytest.approx(5 / 9)
    assert m.truth_mm3 == 34 and m.mask_mm3 == 9 and m.lesion_mm3 == (20, 14) and m.missed_mm3 == (14,)
    assert metrics.compare(mask, truth, (1, 1, 1), overlap=0.05).lesions_found == 2


def test_nothing_there():
    empty, some = boxes(), boxes((0, 1, 0, 1, 0, 1))
    nothing = metrics.compare(empty, empty, (1, 1, 1))
    assert nothing.dice == 1 and nothing.sensitivity is None and nothing.lesion_sensitivity is None
    assert metrics.compare(some, empty, (1, 1, 1)).false_positives == 1
    assert metrics.compare(empty, some, (1, 1, 1)).lesion_sensitivity == 0
    for bad in (lambda: metrics.compare(empty[0], empty[0], (1, 1)), lambda: metrics.compare(empty, empty, (1,), 0)):
        with pytest.raises(ValueError, match="must be"):
            bad()


def test_command(command, tmp_path):
    truth = sitk.ReadImage(str(DEMO / "truth.nrrd"))
    for folder, name in (("masks", "a_mask"), ("masks", "a_probability"), ("truths", "a"), ("truths", "b")):
        (tmp_path / folder).mkdir(exist_ok=True)
        sitk.WriteImage(truth, str(tmp_path / folder / f"{name}.nii.gz"))
    shown = command("metrics", tmp_path / "masks/a_mask.nii.gz", DEMO / "truth.nrrd").stdout
    assert "1.000" in shown and "11/11" in shown
    folders = (tmp_path / "masks", tmp_path / "truths")
    assert "no mask for b" in command("metrics", *folders, status=1).stderr
    sitk.WriteImage(truth * 0, str(tmp_path / "masks/b_mask.nii.gz"))
    command("metrics", *folders, "--json", tmp_path / "m.json", "--csv", tmp_path / "m.csv")
    told = json.loads((tmp_path / "m.json").read_text())
    assert told["total"]["mean_dice"] == 0.5 and told["total"]["lesion_sensitivity"] == 0.5
    voxel = np.prod(truth.GetSpacing())
    assert told["scans"]["a"]["truth_mm3"] == pytest.approx(voxel * (sitk.GetArrayFromImage(truth) > 0).sum())
    assert len((tmp_path / "m.csv").read_text().splitlines()) == 3
    assert "two files or two folders" in command("metrics", DEMO / "truth.nrrd", tmp_path, status=2).stderr
    assert "--overlap 0" in command("metrics", *folders, "--overlap", 0, status=2).stderr
    assert "must be 0..=255" in command("metrics", *folders, "--lesion-class", 256, status=2).stderr
    sitk.WriteImage(truth[1:], str(tmp_path / "cut.nrrd"))
    assert "size (239" in command("metrics", tmp_path / "cut.nrrd", DEMO / "truth.nrrd", status=1).stderr


def test_a_mask_without_the_class(command, tmp_path):
    """0 and 255, where 1 is asked for: the Dice of 0 is explained."""
    truth = sitk.ReadImage(str(DEMO / "truth.nrrd"))
    sitk.WriteImage(sitk.Cast(truth > 0, sitk.sitkUInt8) * 255, str(tmp_path / "m.nrrd"))
    words = ("metrics", tmp_path / "m.nrrd", DEMO / "truth.nrrd")
    assert "m.nrrd: has no voxel of class 1, only of 255: name the lesions' with" in command(*words).stdout
    assert "has no voxel" not in command(*words, "--lesion-class", 255).stdout
    assert "has no voxel" in command("view", "--ct", DEMO / "ct.nrrd", "--mask", words[1], "--out", tmp_path,
                                     "--no-surface").stderr  # fmt: skip


@pytest.mark.parametrize("number, kind", [(-1024, np.int16), (256, np.int16), (0.25, np.float32), (np.nan, np.float32)])
def test_what_is_no_mask(command, tmp_path, number, kind):
    """A scan, a probability: as mask and as truth, in numbers and in pictures. Whole numbers in floats are a mask."""
    truth, ct = DEMO / "truth.nrrd", DEMO / "ct.nrrd"
    image = sitk.ReadImage(str(truth))
    values = sitk.GetArrayFromImage(image).astype(kind)
    wrong, good = tmp_path / "wrong.nrrd", tmp_path / "good.nrrd"
    sitk.WriteImage(images.like(values, image), str(good))
    values[3, 2, 1] = number
    sitk.WriteImage(images.like(values, image), str(wrong))
    assert "1.000" in command("metrics", good, truth).stdout
    for words in (
        ("metrics", wrong, truth),
        ("metrics", truth, wrong),
        ("view", "--ct", ct, "--mask", wrong, "--out", tmp_path),
        ("view", "--ct", ct, "--mask", truth, "--truth", wrong, "--out", tmp_path),
    ):
        assert f"wrong.nrrd: has the value {number:g}: must be a mask" in command(*words, status=1).stderr
