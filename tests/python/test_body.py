"""The body in slices: as SciPy finds it, as a ROI of it would have it, and with an estimate that is enough."""

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

import patchmask

STRIDE = 8
GIVEN = {"stride": STRIDE, "device": "cpu"}


def bodies(voxels):
    """Of each slice, by SciPy: the largest component above -500 HU, the first of equals, filled."""
    found = np.zeros(voxels.shape, bool)
    for z, hu in enumerate(voxels):
        labels, count = ndimage.label(hu > -500)
        if count:
            sizes = np.bincount(labels.ravel())[1:]
            found[z] = ndimage.binary_fill_holes(labels == 1 + sizes.argmax())
    return found


def noise(density, seed):
    """Components of every size, with holes in which there are others."""
    random = np.random.default_rng(seed)
    return np.where(random.random((3, 70, 90)) < density, 40, -1000).astype(np.int16)


def phantom():
    """A chest: two lungs with vessels, a trachea, an arm beside and the couch below; one slice touches the border, one is air."""
    y, x = np.mgrid[:90, :120]

    def oval(at, radii):
        return ((x - at[0]) / radii[0]) ** 2 + ((y - at[1]) / radii[1]) ** 2 < 1

    hu = np.full((3, 90, 120), -1000.0, np.float32)
    hu[0][oval((60, 40), (40, 28))] = 30
    hu[0][oval((42, 40), (12, 18)) | oval((78, 40), (12, 18))] = -850
    hu[0][oval((42, 40), (2, 3)) | oval((60, 22), (3, 3))] = [20] * np.count_nonzero(oval((42, 40), (2, 3)) | oval((60, 22), (3, 3)))
    hu[0][oval((60, 22), (2, 2))] = -990
    hu[0][oval((10, 40), (6, 9))] = 50
    hu[0, 78:80] = -200
    hu[1][oval((60, 95), (50, 60))] = 40
    hu[1][oval((60, 89), (9, 9))] = -900  # open at the border: not a hole
    hu[2, 5, 5] = np.nan
    return hu


SLICES = {"phantom": phantom()} | {f"noise {density}": noise(density, seed) for seed, density in enumerate((0.35, 0.55, 0.6, 0.65, 0.8))}


@pytest.mark.parametrize("kind", SLICES)
@pytest.mark.parametrize("fill", ("nearest", "linear"))
def test_as_found_by_scipy(model, kind, fill):
    voxels = SLICES[kind]
    inside = bodies(voxels)
    with patchmask.Session(model, fill=fill, body=True, **GIVEN) as session:
        done = session.segment(voxels, probability=True, coverage=True, logits=True)
        estimate = session.estimate(voxels)
    assert np.array_equal(done.coverage == 1, inside)
    assert done.result.body_share == inside.mean()
    # Patches whose centre lies in the body dilated by what a patch decides; from the last centre on that is all.
    whole = np.pad(inside, ((0, 0), (0, -inside.shape[1] % STRIDE), (0, -inside.shape[2] % STRIDE)))
    reach = STRIDE // 2 if fill == "nearest" else STRIDE - 1
    side = np.ones((1, 2 * reach + 1, 2 * reach + 1), bool)
    if fill == "nearest":  # voxels half-way between two centres are the first one's
        side[:, 0], side[:, :, 0] = False, False
    dilated = ndimage.binary_dilation(whole, side[:, ::-1, ::-1])[:, ::STRIDE, ::STRIDE]
    evaluated = ~np.isnan(done.logits[..., 0])
    assert np.array_equal(evaluated[:, :-1, :-1], dilated[:, :-1, :-1])
    assert done.result.patches == np.count_nonzero(evaluated) <= estimate.patches
    assert done.result.macs <= estimate.macs and done.result.peak_bytes <= estimate.peak_bytes

    with patchmask.Session(model, fill=fill, **GIVEN) as session:
        all_of_it = session.segment(voxels, probability=True, logits=True)
        by_hand = session.segment(voxels, inside, probability=True, coverage=True, logits=True)
    for name in ("mask", "probability", "coverage", "logits"):
        assert np.array_equal(getattr(done, name), getattr(by_hand, name), equal_nan=True), name
    assert np.array_equal(done.logits[evaluated], all_of_it.logits[evaluated])
    assert np.array_equal(done.mask, np.where(inside, all_of_it.mask, 0))
    assert by_hand.result.body_share == 1


def test_body_and_roi_and_crop_and_rescaling(model):
    voxels = SLICES["phantom"]
    roi = np.zeros(voxels.shape, np.uint8)
    roi[:, 20:60, 30:119] = 1
    stored = np.where(np.isfinite(voxels), (voxels + 1024) / 2, 0).astype(np.uint16)
    given = GIVEN | {"body": True, "crop": (35, 0, 100, 90)}
    with patchmask.Session(model, pixel_mm=1.5, **given) as session:
        done = session.segment(stored, roi, slope=2, intercept=-1024, spacing=(0.9, 1.9), coverage=True)
        estimate = session.estimate(stored, roi, spacing=(0.9, 1.9))
    inside = bodies(stored * 2.0 - 1024)
    assert done.result.body_share == inside.mean()
    inside &= roi == 1
    inside[:, :, :35], inside[:, :, 100:] = False, False
    assert np.array_equal(done.coverage == 1, inside)
    assert 0 < done.result.patches < estimate.patches


def test_values_that_are_not_hu(model):
    told = []
    voxels = np.full((1, 40, 50), 7, np.uint8)
    with patchmask.Session(model, body=True, log=lambda level, text: told.append((level, text)), **GIVEN) as session:
        assert session.segment(voxels).result.body_share == 1
        assert not [text for level, text in told if level == "warning" and "body" in text]
        nothing = session.segment(voxels, intercept=-2000)
    assert nothing.result.body_share == 0 == nothing.result.patches and not nothing.mask.any()
    assert [text for level, text in told if level == "warning" and "-500 HU" in text], told


def test_command(command, tmp_path):
    import json

    from conftest import MODEL

    image = sitk.GetImageFromArray(SLICES["phantom"])
    image.SetSpacing((1.5, 1.5, 5.0))
    sitk.WriteImage(image, str(tmp_path / "ct.nii.gz"))
    words = ("--model", MODEL, "--device", "cpu", "--axes", "file", "--stride", 16, "--quiet", "--report", tmp_path / "r.json")
    command("segment", tmp_path / "ct.nii.gz", tmp_path / "mask.nrrd", *words, "--body")
    report = json.loads((tmp_path / "r.json").read_text())
    inside = bodies(SLICES["phantom"])
    assert report["options"]["body"] is True and report["body_share"] == inside.mean()
    assert not sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "mask.nrrd")))[~inside].any()
