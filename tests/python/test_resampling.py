"""Volumes of another spacing than the model's pixels: as resampled by OpenCV first, then segmented pixel by pixel."""

import cv2
import numpy as np
import pytest

import patchmask

PIXEL_MM = 1.5
#: (x, y) in mm: larger, smaller, and one of each.
SPACINGS = {"fine": (0.75, 0.8), "coarse": (2.4, 2.1), "mixed": (0.7, 2.3), "same": (1.51, 1.48)}


def resampled(voxels, spacing):
    """Each slice by OpenCV: area averages where pixels grow, linear where they shrink; one axis after the other."""
    for axis, mm in ((2, spacing[0]), (1, spacing[1])):
        factor = mm / PIXEL_MM
        if abs(factor - 1) <= 0.02:
            continue
        size = list(voxels.shape)
        size[axis] = round(size[axis] * factor)
        how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
        voxels = np.stack([cv2.resize(plane, (size[2], size[1]), interpolation=how) for plane in voxels])
    return voxels


@pytest.mark.parametrize("kind", SPACINGS)
def test_as_resampled_by_opencv(model, part, kind):
    import SimpleITK as sitk

    voxels = sitk.GetArrayFromImage(part).astype(np.float64)
    spacing = SPACINGS[kind]
    given = {"stride": 8, "device": "cpu", "fill": "linear"}
    with patchmask.Session(model, pixel_mm=PIXEL_MM, **given) as session:
        have = session.segment(voxels, spacing=spacing, probability=True, logits=True)
        grid = session.estimate(voxels, spacing=spacing)
    pixels = resampled(voxels, spacing)
    with patchmask.Session(model, pixel_mm=0, **given) as session:
        want = session.segment(pixels, probability=True, logits=True)
    assert have.mask.shape == voxels.shape and have.logits.shape == want.logits.shape
    # OpenCV's weights of INTER_LINEAR are in single precision.
    assert np.abs(have.logits - want.logits).max() < 1e-3 * np.abs(want.logits).max()
    assert grid.pixel_width == pytest.approx(spacing[0] * voxels.shape[2] / pixels.shape[2])
    assert grid.grid_spacing_y == pytest.approx(8 * spacing[1] * voxels.shape[1] / pixels.shape[1])
    assert grid.grid_origin_x == pytest.approx((grid.pixel_width - spacing[0]) / 2)


def test_spacing_that_is_not_known(model, part):
    import SimpleITK as sitk

    voxels = sitk.GetArrayFromImage(part)
    told = []
    given = {"stride": 16, "device": "cpu", "log": lambda level, text: told.append((level, text))}
    with patchmask.Session(model, pixel_mm=PIXEL_MM, **given) as session:
        unknown = session.segment(voxels)
    assert [text for level, text in told if level == "warning" and "1.5 mm" in text], told
    with patchmask.Session(model, pixel_mm=PIXEL_MM, resample=False, **given) as session:
        never = session.segment(voxels, spacing=(0.75, 0.75))
    assert np.array_equal(unknown.mask, never.mask)


def test_threshold(model, part):
    import SimpleITK as sitk

    voxels = sitk.GetArrayFromImage(part)
    for threshold in (0.01, 0.9):
        done = patchmask.segment(voxels, model, threshold=threshold, stride=8, device="cpu", probability=True)
        assert np.array_equal(done.mask == 1, done.probability >= np.float32(threshold))


@pytest.mark.parametrize(
    "given, call, text",
    [
        ({"pixel_mm": -1}, {}, "pixel_mm -1"),
        ({"threshold": 1.5}, {}, "threshold 1.5"),
        ({"pixel_mm": 1.5}, {"spacing": (0, 1)}, "spacing 0, 1"),
        ({"pixel_mm": 1.5}, {"spacing": (0.1, 1)}, "from 1/8 to 8"),
        ({"pixel_mm": 1.5}, {"spacing": (1, 2, 3)}, "(x, y) in mm"),
    ],
)
def test_refusals(model, given, call, text):
    with pytest.raises(patchmask.InvalidArgument, match=text.replace("(", r"\(").replace(")", r"\)")):
        patchmask.segment(np.zeros((1, 40, 40), np.int16), model, device="cpu", **given, **call)
