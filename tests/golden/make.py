"""Makes the golden files: small models, volumes and what the reference makes of them; and OpenCV's equalisation.

    python tests/golden/make.py            (onnxruntime, onnx, numpy, safetensors, ml_dtypes, opencv)

Run it only when the set itself is to change: the committed files are what `check.py` and the Rust tests compare
with, and those need none of these packages. Each folder NAME/ has

    model.safetensors   ct.nrrd   [roi.nrrd]         what goes in
    logits.nrrd         float32: class, lattice x, lattice y, slice
    mask.nrrd           uint8 on the grid of ct.nrrd
    case.json           the options of `segment`, what the case is for, and the versions that made it
"""

import argparse
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import safetensors

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "parity")]
import raw_nrrd  # noqa: E402
import reference  # noqa: E402
import synthetic  # noqa: E402
import vgg  # noqa: E402

TOLERANCE = 1e-4  # of the largest logit: DESIGN's promise, and below which classes may differ


@dataclass
class Case:
    """One folder. `segment`: command-line options; `metadata`: what the model file says instead."""

    name: str
    purpose: str
    setting: reference.Setting
    segment: list
    model: dict  # arguments of vgg.random_vgg
    metadata: dict = field(default_factory=dict)
    size: tuple = (40, 33, 2)  # width, height, slices
    roi: bool = False


CASES = [
    Case(
        "odd_patch",
        "odd patch, stride coprime with the poolings",
        reference.Setting(65, 7),
        ["--patch-size", "65", "--stride", "7"],
        dict(widths=vgg.NARROW, hidden=(12,), patch_size=65, seed=11),
        size=(52, 45, 2),
    ),
    Case(
        "even_patch_crop_equalize",
        "even patch, crop, equalisation, metadata for everything else, three classes, no hidden layer",
        reference.Setting(48, 5, window=(-200.0, 300.0), equalize=True, crop=(6, 3, 41, 30)),
        ["--crop", "6,3,41,30"],
        dict(widths=vgg.EIGHT, hidden=(), classes=3, patch_size=48, seed=12),
        {
            "patchmask.patch_size": "48",
            "patchmask.stride": "5",
            "patchmask.window": "-200,300",
            "patchmask.equalize": "true",
            "patchmask.classes": "background,lesion,vessel",
            "patchmask.lesion_class": "1",
        },
        size=(47, 36, 2),
    ),
    Case(
        "three_channels",
        "three channels with a mean and deviation each: black is not zero, zero padding is; f32 file",
        reference.Setting(64, 9, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        ["--patch-size", "64", "--stride", "9"],
        dict(widths=vgg.UNEVEN, hidden=(10, 6), channels=3, patch_size=64, seed=13, dtype="F32"),
        {"patchmask.mean": "0.485,0.456,0.406", "patchmask.std": "0.229,0.224,0.225"},
    ),
    Case(
        "image_scope",
        "IMAGE scope at odd starts: true neighbours outside the patch, zeros outside what the patches cover",
        reference.Setting(49, 6, padding="image", mean=(0.4,), std=(0.3,)),
        ["--patch-size", "49", "--stride", "6", "--padding", "image"],
        dict(widths=vgg.NARROW, hidden=(8,), patch_size=49, seed=14),
        {"patchmask.mean": "0.4", "patchmask.std": "0.3"},
        size=(50, 37, 2),
    ),
    Case(
        "batch_norm_roi",
        "vgg16_bn names folded into the convolutions, and a ROI",
        reference.Setting(33, 4),
        ["--patch-size", "33", "--stride", "4", "--roi", "roi.nrrd"],
        dict(widths=vgg.EIGHT, hidden=(9,), patch_size=33, seed=15, dtype="F32", batch_norm=True),
        roi=True,
    ),
    Case(
        "adaptive_pooling_linear",
        "first dense layer for 7x7 cells folded onto a 3x3 map; linear fill",
        reference.Setting(97, 10, fill="linear"),
        ["--patch-size", "97", "--stride", "10", "--fill", "linear"],
        dict(widths=vgg.EIGHT, hidden=(8, 7, 6), patch_size=97, seed=16, dtype="F32", adaptive=True),
        size=(61, 43, 2),
    ),
]


def roi_of(volume):
    """An awkward region: an ellipse off centre, one slice with a single voxel."""
    y, x = np.mgrid[: volume.shape[1], : volume.shape[2]]
    ellipse = ((x - 13) / 11) ** 2 + ((y - 18) / 9) ** 2 < 1
    roi = np.repeat(ellipse[None], len(volume), 0).astype(np.uint8)
    roi[-1] = 0
    roi[-1, 5, 30] = 255
    return roi


def make_case(case, out):
    """Writes one folder; returns a line about it."""
    folder = out / case.name
    folder.mkdir(parents=True, exist_ok=True)
    width, height, depth = case.size
    model = vgg.random_vgg(**case.model, mean=case.setting.mean, std=case.setting.std)
    volume = synthetic.ct(width, height, depth, seed=case.model["seed"])
    roi = roi_of(volume) if case.roi else None
    logits = vgg.balance(model, reference.volume_logits(reference.Network(model), volume, case.setting, roi))
    limit = TOLERANCE * np.nanmax(np.abs(logits))
    mask, _, close = reference.voxels(logits, volume.shape[1:], case.setting, limit, roi)

    vgg.save_safetensors(model, folder / "model.safetensors", case.metadata or None)
    grid = raw_nrrd.ct_fields()
    raw_nrrd.write(folder / "ct.nrrd", "int16", case.size, volume.astype("<i2").tobytes(), "little", grid)
    raw_nrrd.write(folder / "mask.nrrd", "uint8", case.size, mask.tobytes(), "little", grid)
    if case.roi:
        raw_nrrd.write(folder / "roi.nrrd", "uint8", case.size, roi.tobytes(), "little", grid)
    raw_nrrd.write(folder / "logits.nrrd", "float", logits.shape[::-1], logits.astype("<f4").tobytes(), "little")
    facts = dict(
        purpose=case.purpose,
        segment=case.segment,
        patches=int(np.isfinite(logits[..., 0]).sum()),
        fill=case.setting.fill,
        stride=case.setting.stride,
        origin=(case.setting.crop or (0, 0))[:2],
        made_with=dict(
            onnxruntime=onnxruntime.__version__,
            onnx=onnx.__version__,
            numpy=np.__version__,
            safetensors=safetensors.__version__,
        ),
    )
    (folder / "case.json").write_text(json.dumps(facts, indent=2) + "\n")
    flat = logits.reshape(-1, logits.shape[-1])
    shares = np.bincount(mask.ravel(), minlength=logits.shape[-1]) / mask.size
    return (
        f"{case.name}: lattice {logits.shape[:3]}, largest logit {np.nanmax(np.abs(flat)):.2f}, "
        f"deviation {np.nanstd(flat, 0).round(2)}, classes {shares.round(2)}, too close to call {close.sum()}"
    )


def equalisation_levels():
    """(name, levels uint8 [height][width]) for equalize.txt."""
    rng = np.random.default_rng(7)
    ct = synthetic.ct(32, 24, 1, seed=3)[0]
    windowed = np.floor(255 * np.clip((ct + 160.0) / 400, 0, 1) + 0.5)
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


def make_equalize(out):
    """Input and output levels of cv2.equalizeHist; stops if the reference's formula disagrees."""
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
    (out / "equalize.txt").write_text("\n".join(lines) + "\n")
    return f"equalize.txt: {len(lines) // 3} cases"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    print(make_equalize(out))
    for case in CASES:
        print(make_case(case, out))
    print(f"{sum(path.stat().st_size for path in out.rglob('*') if path.is_file())} bytes in all")


if __name__ == "__main__":
    main()
