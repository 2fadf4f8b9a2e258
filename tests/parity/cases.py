"""The cases of the parity run, and how to write the files of a case and what the reference expects."""

import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "cli"))
import reference  # noqa: E402
import synthetic  # noqa: E402
import vgg  # noqa: E402
import volume_files  # noqa: E402
from reference import Setting  # noqa: E402

TOLERANCE = 1e-4  # of the largest logit: the promise, and below which classes may differ
GRID = (
    "space: left-posterior-superior",
    "space directions: (0.75,0,0) (0,0.8,0) (0,0,2.5)",
    "kinds: domain domain domain",
    "space origin: (-12.5,30.0,-101.25)",
)
IMAGENET = dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


@dataclass
class Case:
    """One comparison. `model`: arguments of vgg.random_vgg."""

    name: str
    setting: Setting
    model: dict
    size: tuple = (60, 47, 2)  # width, height, slices
    seed: int = 1  # of the voxels
    roi: bool = False
    voxel: str = "int16"
    endian: str = "little"
    in_metadata: bool = False  # patch size, stride, window and equalisation come from the model file
    memory: int = 0  # MiB: also compare bits under this budget and other thread counts
    quick: bool = False
    extra: tuple = ()  # further options, before the others: the last one wins
    texts: dict = field(default_factory=dict)  # further metadata

    def metadata(self):
        """The model file's `__metadata__`: what no option can say, and more if `in_metadata`."""
        setting = self.setting
        names = ["mean", "std"] if (setting.mean, setting.std) != ((0.0,), (1.0,)) else []
        names += ["lesion_class"] if setting.lesion_class != 1 else []
        names += ["patch_size", "stride", "window", "equalize"] if self.in_metadata else []
        text = lambda value: ",".join(f"{v:g}" for v in value) if isinstance(value, tuple) else str(value).lower()
        return self.texts | {f"patchmask.{name}": text(getattr(setting, name)) for name in names}

    def options(self):
        """Command-line options of `segment`."""
        setting, options = self.setting, list(self.extra)
        if not self.in_metadata:
            options += ["--patch-size", setting.patch_size, "--stride", setting.stride]
            options += ["--window", "{},{}".format(*setting.window)] if setting.window != (-160.0, 240.0) else []
            options += ["--equalize"] if setting.equalize else []
        others = {"--crop": setting.crop and ",".join(map(str, setting.crop))}
        others["--padding"] = setting.padding if setting.padding != "patch" else None
        others["--fill"] = setting.fill if setting.fill != "nearest" else None
        others["--roi"] = "roi.nrrd" if self.roi else None
        return [str(word) for word in options + sum(([name, value] for name, value in others.items() if value), [])]

    def write(self, folder):
        """Writes model.safetensors, ct.nrrd and roi.nrrd; (logits, (mask, probability, close), limit of errors)."""
        setting = self.setting
        model = vgg.random_vgg(patch_size=setting.patch_size, mean=setting.mean, std=setting.std, **self.model)
        volume = self.convert(synthetic.ct(*self.size, seed=self.seed))
        roi = roi_of(volume.shape, self.seed) if self.roi else None
        logits = vgg.balance(model, reference.volume_logits(model, volume, setting, roi))
        limit = TOLERANCE * np.abs(logits[np.isfinite(logits)]).max(initial=1e-3)
        vgg.save_safetensors(model, folder / "model.safetensors", self.metadata() or None)
        volume_files.save(folder / "ct.nrrd", volume, self.endian, GRID)
        if self.roi:
            volume_files.save(folder / "roi.nrrd", roi, extra=GRID)
        return logits, reference.voxels(logits, volume.shape[1:], setting, limit, roi), limit

    def convert(self, hu):
        """HU (int16) as the case's voxel type; floating-point volumes get NaN and infinite voxels too."""
        if self.voxel.startswith("float"):
            volume = hu.astype(self.voxel) + 0.25
            volume[0, 3, 5], volume[0, 9, 9], volume[-1, 20, 11] = np.nan, np.inf, -np.inf
            return volume
        if self.voxel in ("uint8", "int8"):  # eight bits: squeezed, the window goes with it
            offset = 0 if self.voxel == "uint8" else -128
            return (np.clip((hu + 160) / 400 * 255, 0, 255) + offset).astype(self.voxel)
        return (hu + (1024 if self.voxel == "uint16" else 0)).astype(self.voxel)


def roi_of(shape, seed):
    """uint8 [z][y][x]: an ellipse in the first slice, nothing in the others, single voxels in the last."""
    depth, height, width = shape
    y, x = np.mgrid[:height, :width]
    roi = np.zeros(shape, np.uint8)
    roi[0] = ((x - 0.4 * width) / (0.3 * width)) ** 2 + ((y - 0.6 * height) / (0.25 * height)) ** 2 < 1
    if depth > 1:
        roi[-1].ravel()[np.random.default_rng(seed).integers(0, height * width, 5)] = 255
    return roi


narrow, eight = partial(dict, widths=vgg.NARROW), partial(dict, widths=vgg.EIGHT)
# fmt: off
CASES = [
    Case("p32_s1", Setting(32, 1), eight(hidden=()), (23, 19, 2), memory=8, quick=True),
    Case("p33_s32", Setting(33, 32), narrow(hidden=(9, 7)), (97, 65, 2), quick=True),
    Case("p48_s48", Setting(48, 48), eight(hidden=(5, 6, 7)), (100, 97, 2)),
    Case("p64_s8", Setting(64, 8), narrow(), (72, 60, 3), memory=8, quick=True),
    Case("p65_s7", Setting(65, 7), narrow(), (61, 53, 3), seed=2, memory=8, quick=True),
    Case("p65_s7_uneven", Setting(65, 7), dict(widths=vgg.UNEVEN, hidden=(13, 9), classes=5), (61, 40, 2), quick=True),
    Case("p97_s11_adaptive", Setting(97, 11), narrow(dtype="F32", adaptive=True), (80, 57, 2), seed=3),
    Case("p224_s31_adaptive_7x7", Setting(224, 31), eight(adaptive=True), (70, 64, 1), seed=4),
    Case("p129_s8", Setting(129, 8), narrow(), (64, 50, 2), seed=5),
    Case("p257_s7", Setting(257, 7), eight(), (50, 44, 1), seed=6),
    Case("p257_s8_meta", Setting(257, 8, equalize=True), narrow(), (64, 40, 1), seed=7, in_metadata=True, memory=32),
    Case("one_pixel", Setting(64, 7), eight(), (1, 1, 1), seed=8),
    Case("one_column", Setting(65, 8), narrow(), (1, 90, 2), seed=8),
    Case("one_row_image", Setting(64, 8, padding="image"), eight(), (83, 1, 2), seed=8),
    Case("crop_equalize", Setting(64, 7, equalize=True, crop=(11, 5, 50, 38)),
         narrow(), (66, 45, 2), seed=9, quick=True),
    Case("crop_p129_window", Setting(129, 5, window=(-100.5, 199.25), crop=(30, 2, 57, 47)),
         eight(dtype="BF16"), seed=10),
    Case("three_channels", Setting(65, 8, **IMAGENET), narrow(channels=3), (61, 53, 2), seed=11, memory=8, quick=True),
    Case("three_channels_equalize", Setting(48, 5, equalize=True, mean=(0.5,), std=(0.25,)),
         eight(channels=3, dtype="F64"), seed=12),
    Case("grey_mean_std", Setting(49, 6, mean=(0.3,), std=(0.5,)), narrow(), seed=13),
    Case("batch_norm", Setting(65, 9), narrow(dtype="F32", batch_norm=True), seed=14, quick=True),
    Case("roi", Setting(65, 4), narrow(), (60, 47, 3), seed=15, roi=True, memory=8, quick=True),
    Case("roi_crop_linear", Setting(64, 5, crop=(7, 9, 52, 41), fill="linear"),
         eight(classes=3), (60, 47, 3), seed=16, roi=True),
    Case("linear", Setting(65, 6, fill="linear", lesion_class=2), narrow(classes=4), seed=17, quick=True),
    Case("image_p64_s8", Setting(64, 8, padding="image"), narrow(), (72, 60, 2), seed=18, memory=8, quick=True),
    Case("image_p65_s7", Setting(65, 7, padding="image"), eight(), (61, 53, 2), seed=19, quick=True),
    Case("image_p97_s90", Setting(97, 90, padding="image"), narrow(), (120, 117, 1), seed=20),
    Case("image_crop_mean_equalize", Setting(80, 9, padding="image", crop=(4, 8, 49, 44), equalize=True, **IMAGENET),
         narrow(channels=3), seed=21),
    Case("image_roi", Setting(49, 5, padding="image"), eight(), seed=22, roi=True),
    Case("image_p257_s8", Setting(257, 8, padding="image"), eight(), (40, 37, 1), seed=23),
    Case("float_nan", Setting(64, 9, equalize=True), narrow(), seed=24, voxel="float32", quick=True),
    Case("double_big_endian", Setting(64, 9), narrow(), seed=25, voxel="float64", endian="big"),
    Case("uint8", Setting(64, 9, window=(0.0, 255.0)), narrow(), seed=26, voxel="uint8"),
    Case("int8", Setting(64, 9, window=(-128.0, 127.0), equalize=True), narrow(), seed=27, voxel="int8"),
    Case("uint16_big_endian", Setting(64, 9, window=(864.0, 1264.0)), narrow(), seed=28, voxel="uint16", endian="big"),
    Case("int32", Setting(64, 9), narrow(), seed=29, voxel="int32", extra=("--stride", 3, "--no-equalize")),
    Case("full_p65_s8", Setting(65, 8), dict(widths=vgg.FULL, hidden=(256, 256)), (48, 40, 1), seed=30, memory=480),
    Case("full_p257_s16", Setting(257, 16), dict(widths=vgg.FULL, hidden=(256,), channels=3), (33, 33, 1), seed=31),
]
# fmt: on


def random_case(seed):
    """A case drawn from everything that may be combined, small enough for a second or two."""
    rng = np.random.default_rng(seed)
    maybe = lambda probability: rng.random() < probability
    size = int(rng.choice([rng.integers(32, 70), rng.integers(32, 140)]))
    width, height = (int(value) for value in np.maximum(*rng.integers(1, 90, (2, 2))))
    fewest = max(1, int(np.ceil(np.sqrt(width * height / 120))))  # at most about 120 patches a slice
    stride = int(min(size, rng.integers(fewest, fewest + 8)))
    crop = None
    if maybe(0.4):
        x0, y0 = int(rng.integers(0, 1 + width // 2)), int(rng.integers(0, 1 + height // 2))
        crop = (x0, y0, int(rng.integers(x0 + 1, width + 1)), int(rng.integers(y0 + 1, height + 1)))
    channels, classes = int(rng.choice([1, 3])), int(rng.integers(2, 6))
    setting = Setting(
        size,
        stride,
        window=(float(rng.integers(-300, 0)), float(rng.integers(50, 400))),
        equalize=maybe(0.4),
        crop=crop,
        padding=str(rng.choice(["patch", "image"])),
        fill=str(rng.choice(["nearest", "linear"])),
        mean=tuple(rng.uniform(-0.2, 0.8, rng.choice([1, channels])).round(3)) if maybe(0.5) else (0.0,),
        std=tuple(rng.uniform(0.2, 2, rng.choice([1, channels])).round(3)) if maybe(0.5) else (1.0,),
        lesion_class=int(rng.integers(0, classes)),
    )
    model = dict(
        widths=tuple(int(w) for w in rng.integers(1, 20, 13) + 4),
        hidden=tuple(int(w) for w in rng.integers(4, 16, rng.integers(0, 4))),
        channels=channels,
        classes=classes,
        seed=seed,
        dtype=str(rng.choice(["F16", "BF16", "F32", "F64"])),
        batch_norm=maybe(0.25),
        adaptive=maybe(0.25),
    )
    return Case(
        f"random_{seed}_p{size}_s{stride}",
        setting,
        model,
        (width, height, int(rng.integers(1, 4))),
        seed=seed,
        roi=maybe(0.3),
        in_metadata=maybe(0.3),
        memory=32 if maybe(0.3) else 0,
    )
