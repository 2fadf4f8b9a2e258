"""What is made of a mask: smoothed, without small lesions, a table."""

import csv
import json
import math

import numpy as np
import pytest
import SimpleITK as sitk
from conftest import MODEL

from patchmask import images, lesions

COS, SIN = math.cos(math.radians(30)), math.sin(math.radians(30))


@pytest.fixture
def grid():
    image = sitk.Image((40, 36, 20), sitk.sitkUInt8)
    image.SetSpacing((0.8, 1.0, 2.5))
    image.SetOrigin((-120.5, 33.25, 810.0))
    image.SetDirection((COS, 0, SIN, -SIN, 0, COS, 0, -1, 0))
    return image


def array_of(grid):
    return np.zeros(grid.GetSize()[::-1], np.uint8)


def refined(mask, grid, **how):
    return lesions.refine(mask, None, None, grid, images.voxel_mm3(grid), lesions.Refinement(**how))[0]


def test_the_gaussian_is_in_millimetres(grid):
    point = array_of(grid).astype(np.float32)
    point[10, 18, 20] = 1
    spread = lesions.smooth(point, np.ones(point.shape, bool), grid, 3.0)
    assert spread.sum() == pytest.approx(1, abs=1e-3)
    for axis, mm in enumerate(grid.GetSpacing()[::-1]):
        along = spread.sum(tuple({0, 1, 2} - {axis}))
        places = (np.arange(len(along)) - (10, 18, 20)[axis]) * mm
        assert (along * places**2).sum() == pytest.approx(9, rel=0.03)


def test_what_was_not_evaluated_has_no_say(grid):
    rng = np.random.default_rng(3)
    evaluated = rng.random(array_of(grid).shape) < 0.3
    probability = np.where(evaluated, 0.7, 99).astype(np.float32)
    spread = lesions.smooth(probability, evaluated, grid, 2.0)
    assert np.allclose(spread[evaluated], 0.7, atol=1e-5) and not spread[~evaluated].any()


def test_one_slice_is_smoothed_within_itself(grid):
    flat = grid[:, :, 4:5]
    point = np.zeros((1, 36, 40), np.float32)
    point[0, 18, 20] = 1
    assert lesions.smooth(point, np.ones(point.shape, bool), flat, 2.0).sum() == pytest.approx(1, abs=1e-3)


def test_small_lesions_become_what_is_around_them(grid):
    mask = array_of(grid)
    mask[:, 5:30, 5:20] = 2  # an organ
    mask[5, 10:12, 8:10] = mask[12, 33, 33] = 1  # 4 voxels inside, one outside
    mask[8:10, 15:20, 7:12] = 1  # 50 voxels
    mask[3, 8, 8] = mask[4, 9, 9] = 1  # touch by a corner: two lesions
    at_least_4 = mask.copy()
    at_least_4[12, 33, 33], at_least_4[3, 8, 8], at_least_4[4, 9, 9] = 0, 2, 2
    assert np.array_equal(refined(mask, grid, min_mm3=4 * 2.0), at_least_4)
    at_least_5 = at_least_4.copy()
    at_least_5[5, 10:12, 8:10] = 2
    assert np.array_equal(refined(mask, grid, min_mm3=4 * 2.0 + 0.1), at_least_5)
    assert np.array_equal(refined(mask, grid), mask)
    assert not refined((mask == 1).astype(np.uint8), grid, min_mm3=1e6).any()
    assert not refined(np.ones_like(mask), grid, min_mm3=1e6).any()


def test_measures(grid):
    mask = array_of(grid)
    mask[4:6, 10:20, 5:9] = 1
    mask[15, 30, 30] = 1
    volume = images.voxel_mm3(grid)
    labels = lesions.label(mask == 1, grid, volume)
    large, small = lesions.table(labels, volume)
    assert (large.label, large.voxels, small.label, small.voxels) == (1, 80, 2, 1)
    assert large.volume_mm3 == pytest.approx(80 * 0.8 * 1.0 * 2.5)
    assert large.diameter_mm == pytest.approx(math.hypot(3 * 0.8, 9 * 1.0, 1 * 2.5))
    middle = grid.TransformContinuousIndexToPhysicalPoint((6.5, 14.5, 4.5))
    assert (large.centroid_x_mm, large.centroid_y_mm, large.centroid_z_mm) == pytest.approx(middle)
    assert lesions.table(lesions.label(mask == 7, grid, volume), volume) == []


@pytest.mark.parametrize("roi", [False, True])
def test_the_command(command, tmp_path, part, roi):
    sitk.WriteImage(part, str(tmp_path / "ct.nrrd"))
    inside = sitk.Image(part.GetSize(), sitk.sitkUInt8)
    inside.CopyInformation(part)
    inside[10:70, 10:60, 1:5] = 1
    sitk.WriteImage(inside, str(tmp_path / "roi.nrrd"))
    p, report, table = tmp_path / "p.nrrd", tmp_path / "r.json", tmp_path / "lesions.csv"
    words = ["--model", MODEL, "--stride", 4, *(["--roi", tmp_path / "roi.nrrd"] if roi else [])]
    told = command(
        "segment", tmp_path / "ct.nrrd", tmp_path / "mask.nrrd", *words, "--smooth", 2, "--min-volume", 300,
        "--probability", p, "--report", report, "--lesions", table,
    )  # fmt: skip
    assert "lesion" in told.stdout
    mask, smoothed = (sitk.ReadImage(str(tmp_path / name)) for name in ("mask.nrrd", "p.nrrd"))
    lesion = sitk.GetArrayFromImage(smoothed) >= 0.5
    kept = sitk.RelabelComponent(sitk.ConnectedComponent(sitk.GetImageFromArray(lesion.astype(np.uint8))), 1)
    sizes = np.bincount(sitk.GetArrayFromImage(kept).ravel())[1:] * images.voxel_mm3(part)
    large = (sitk.GetArrayFromImage(kept) > 0) & (sitk.GetArrayFromImage(kept) <= (sizes >= 300).sum())
    assert large.any() and np.array_equal(sitk.GetArrayFromImage(mask) == 1, large)
    done = json.loads(report.read_text())
    assert (done["smooth_mm"], done["min_mm3"]) == (2, 300)
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["volume_mm3"]) for row in rows] == pytest.approx([size for size in sizes if size >= 300])
    assert len(done["lesions"]) == len(rows) and sum(
        lesion["volume_mm3"] for lesion in done["lesions"]
    ) == pytest.approx(done["lesion_mm3"])
    if roi:
        assert not large[sitk.GetArrayFromImage(inside) == 0].any()


def test_refused(command, tmp_path, part):
    sitk.WriteImage(part, str(tmp_path / "ct.nrrd"))
    words = ["segment", tmp_path / "ct.nrrd", tmp_path / "mask.nrrd", "--model", MODEL]
    for option in ("--smooth", "--min-volume"):
        for value in (-1, "nan", "inf"):
            assert f"{value}: must be 0 or above" in command(*words, option, value, status=2).stderr


def test_a_batch(command, tmp_path, part):
    (tmp_path / "in").mkdir()
    sitk.WriteImage(part, str(tmp_path / "in/ct.nrrd"))
    words = ["batch", tmp_path / "in", "--out", tmp_path / "out", "--model", MODEL, "--stride", 8, "--smooth", 2]
    command(*words, "--lesions")
    assert (tmp_path / "out/ct_lesions.csv").read_text().startswith("label,voxels,volume_mm3")
    assert json.loads((tmp_path / "out/ct.json").read_text())["smooth_mm"] == 2
    (tmp_path / "out/ct_lesions.csv").unlink()
    assert "1/1 ct done" in command(*words, "--lesions").stdout
    refused = command(*words[:-1], 3, "--lesions", status=1).stderr
    assert "smooth_mm" in refused
