"""Makes the golden files: small models, volumes and what the reference makes of them; and OpenCV's equalisation.

    python tests/golden/make.py            tests/parity/requirements.txt

Run it only when the set itself is to change: the committed files are what `check.py` and the Rust tests compare
with, and those need none of these packages. Each folder NAME/ has

    model.safetensors   ct.nrrd   [roi.nrrd]         what goes in
    logits.nrrd         float32: class, column and row of the patch grid, slice
    mask.nrrd           uint8 on the grid of ct.nrrd
    case.json           the options of `segment`, what the case is for, voxels too close to call, versions that made it
"""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import safetensors

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "parity"))
import vgg  # noqa: E402
from cases import GRID, IMAGENET, Case, Setting, reference, synthetic, volume_files  # noqa: E402

# Purpose -> case.
# fmt: off
CASES = {
    "odd patch, stride coprime with the pools":
        Case("odd_patch", Setting(65, 7), dict(widths=vgg.NARROW, hidden=(12,), seed=11), (52, 45, 2), seed=11),
    "even patch, crop, equalisation, metadata for everything else, three classes, no hidden layer":
        Case("even_patch_crop_equalize", Setting(48, 5, window=(-200.0, 300.0), equalize=True, crop=(6, 3, 41, 30)),
             dict(widths=vgg.EIGHT, hidden=(), classes=3, seed=12), (47, 36, 2), seed=12, in_metadata=True,
             texts={"patchmask.classes": "background,lesion,vessel", "patchmask.lesion_class": "1"}),
    "three channels with a mean and deviation each: black is not zero, zero padding is; f32 file":
        Case("three_channels", Setting(64, 9, **IMAGENET),
             dict(widths=vgg.UNEVEN, hidden=(10, 6), channels=3, seed=13, dtype="F32"), (40, 33, 2), seed=13),
    "IMAGE padding at odd starts: true neighbours outside the patch, zeros outside what the patches cover":
        Case("image_scope", Setting(49, 6, padding="image", mean=(0.4,), std=(0.3,)),
             dict(widths=vgg.NARROW, hidden=(8,), seed=14), (50, 37, 2), seed=14),
    "vgg16_bn names folded into the convolutions, and a ROI":
        Case("batch_norm_roi", Setting(33, 4),
             dict(widths=vgg.EIGHT, hidden=(9,), seed=15, dtype="F32", batch_norm=True),
             (40, 33, 2), seed=15, roi=True),
    "first dense layer for 7x7 cells folded onto a 3x3 map; linear fill":
        Case("adaptive_pooling_linear", Setting(97, 10, fill="linear"),
             dict(widths=vgg.EIGHT, hidden=(8, 7, 6), seed=16, dtype="F32", adaptive=True), (61, 43, 2), seed=16),
}
# fmt: on


def make_case(case, purpose):
    """Writes one folder; returns a line about it."""
    folder = HERE / case.name
    folder.mkdir(exist_ok=True)
    logits, (mask, _, close), _ = case.write(folder)
    volume_files.save(folder / "mask.nrrd", mask, extra=GRID)
    volume_files.save(folder / "logits.nrrd", logits, extra=())
    facts = dict(
        purpose=purpose,
        segment=case.options(),
        patches=int(np.isfinite(logits[..., 0]).sum()),
        close=np.flatnonzero(close).tolist(),
        made_with={module.__name__: module.__version__ for module in (onnxruntime, onnx, np, safetensors)},
    )
    (folder / "case.json").write_text(json.dumps(facts, indent=2) + "\n")
    classes = np.bincount(mask.ravel()) / mask.size
    return f"{case.name}: patch grids {logits.shape[:3]}, classes {classes.round(2)}, too close to call {close.sum()}"


def equalisation_levels():
    """(name, levels uint8 [height][width]) for equalize.txt."""
    rng = np.random.default_rng(7)
    windowed = np.floor(255 * np.clip((synthetic.ct(32, 24, 1, seed=3)[0] + 160.0) / 400, 0, 1) + 0.5)
    outlier = np.full((24, 32), 90)
    outlier[11, 17] = 200
    return [
        ("random", rng.integers(0, 256, (24, 32))),
        ("ct", windowed),
        ("ct_soft_tissue", np.clip(np.floor(rng.normal(120, 15, (23, 31))), 0, 255)),
        ("two_levels", rng.integers(0, 2, (24, 32)) * 60 + 100),
        ("constant", np.full((24, 32), 77)),
        ("constant_black", np.zeros((5, 7))),
        ("single_outlier", outlier),
        ("outlier_below", 255 - outlier),
        ("full_ramp", np.arange(256).reshape(16, 16)),
        ("few_levels", rng.choice([0, 3, 4, 128, 254, 255], (13, 17), p=[0.4, 0.3, 0.05, 0.1, 0.1, 0.05])),
        ("one_pixel", np.full((1, 1), 9)),
        ("two_pixels", np.array([[250, 3]])),
    ]


def make_equalize():
    """Writes levels before and after cv2.equalizeHist; stops if the reference's formula disagrees."""
    lines = [
        f"# Levels before and after cv2.equalizeHist of OpenCV {cv2.__version__}; made by tests/golden/make.py.",
        "# Per case three lines: name width height; input levels; output levels (row by row).",
    ]
    for name, levels in equalisation_levels():
        levels = levels.astype(np.uint8)
        equalised = cv2.equalizeHist(levels)
        if not np.array_equal(equalised, reference.equalize(levels)):
            raise SystemExit(f"{name}: OpenCV and reference.equalize differ")
        lines.append(f"{name} {levels.shape[1]} {levels.shape[0]}")
        lines += [" ".join(map(str, image.ravel())) for image in (levels, equalised)]
    (HERE / "equalize.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    make_equalize()
    for text, made in CASES.items():
        print(make_case(made, text))
