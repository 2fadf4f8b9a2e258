"""The reference: what the library must compute, patch by patch, written from the design and nothing else.

    intensity   window to 0..1, histogram equalisation over the whole slice, black outside the crop
    patches     centres origin + k * stride while inside the crop, origin the crop's corner; start = centre - P // 2
    logits      PATCH padding: onnxruntime on each patch, zeros at its own border
                IMAGE padding: convolutions over the rectangle that all patches cover, pools anchored at each patch
    voxels      nearest centre (ties: the lower index) or bilinear class probabilities

Axes: slices [z], rows [y], columns [x]; logits [z][grid row][grid column][class], NaN where not evaluated.
"""

from dataclasses import dataclass

import numpy as np
import onnxruntime

import vgg


@dataclass
class Setting:
    """Options of one evaluation, with the library's defaults."""

    patch_size: int
    stride: int
    window: tuple = (-160.0, 240.0)
    equalize: bool = False
    crop: tuple | None = None  # x0, y0, x1, y1, half-open
    padding: str = "patch"
    fill: str = "nearest"
    mean: tuple = (0.0,)  # one, or one per channel
    std: tuple = (1.0,)
    lesion_class: int = 1


# ---- intensity


def intensity(hu, setting):
    """One slice of HU -> network intensities before normalisation, float64, 0 = black."""
    low, high = setting.window
    hu = np.where(np.isfinite(hu), hu.astype(np.float64), low)
    x = np.clip((hu - low) / (high - low), 0, 1)
    return equalize(np.floor(255 * x + 0.5).astype(np.uint8)) / 255 if setting.equalize else x


def equalize(levels):
    """OpenCV's equalizeHist on uint8 levels: float32 scale, halves to even; one level only: unchanged."""
    histogram = np.bincount(levels.ravel(), minlength=256)
    lowest = np.flatnonzero(histogram)[0]
    if histogram[lowest] == levels.size:
        return levels
    scale = np.float32(255) / np.float32(levels.size - histogram[lowest])
    above = np.cumsum(histogram) - np.cumsum(histogram)[lowest]
    table = np.rint(np.maximum(above, 0).astype(np.float32) * scale)
    return np.clip(table, 0, 255).astype(np.uint8)[levels]


# ---- patch grid


def patch_grid(shape, setting):
    """(x0, y0, x1, y1 of the crop, rows of the patches' centres, columns of them) in a slice of `shape`."""
    x0, y0, x1, y1 = setting.crop or (0, 0, shape[1], shape[0])
    return (x0, y0, x1, y1), np.arange(y0, y1, setting.stride), np.arange(x0, x1, setting.stride)


def canvas(image, setting):
    """(pixels of the rectangle that all patches cover, black outside the crop; rows, columns where patches start)"""
    (x0, y0, x1, y1), *centres = patch_grid(image.shape, setting)
    size = setting.patch_size
    pixels = np.zeros(np.add(image.shape, 2 * size))  # the slice, and a patch on each side
    pixels[size + y0 : size + y1, size + x0 : size + x1] = image[y0:y1, x0:x1]
    rows, columns = (axis - size // 2 + size for axis in centres)
    pixels = pixels[rows[0] : rows[-1] + size, columns[0] : columns[-1] + size]
    return pixels, rows - rows[0], columns - columns[0]


def normalise(pixels, channels, setting):
    """[...][h][w] -> [...][channels][h][w], float32, with mean and deviation of each channel."""
    mean, std = (np.broadcast_to(values, channels)[:, None, None] for values in (setting.mean, setting.std))
    return ((pixels[..., None, :, :] - mean) / std).astype(np.float32)


def roi_patches(roi, setting):
    """[grid row][grid column]: patches that some voxel of the ROI takes its class from."""
    (x0, y0, x1, y1), rows, columns = patch_grid(roi.shape, setting)
    wanted = np.zeros((len(rows), len(columns)), bool)
    for y, x in np.argwhere(roi[y0:y1, x0:x1] != 0):
        sources = [[at for at, _ in sources_of(*axis, setting)] for axis in ((y0 + y, rows), (x0 + x, columns))]
        wanted[np.ix_(*sources)] = True
    return wanted


def sources_of(position, centres, setting):
    """[(index of a centre, weight)] that a voxel's class comes from, on one axis: the nearest centre, of two equally
    near the lower; with linear fill the centres on either side, where the voxel is on none and not behind the last."""
    if setting.fill == "nearest":
        return [(int(np.argmin(np.abs(centres - position))), 1.0)]
    low = int(np.flatnonzero(centres <= position)[-1])
    if low == len(centres) - 1 or centres[low] == position:
        return [(low, 1.0)]
    weight = (position - centres[low]) / (centres[low + 1] - centres[low])
    return [(low, 1 - weight), (low + 1, weight)]


# ---- logits


def session(model, threads=2, **scope):
    """[n][channels][h][w] -> logits, by onnxruntime on the CPU in f32."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    made = onnxruntime.InferenceSession(vgg.onnx_bytes(model, **scope), options, providers=["CPUExecutionProvider"])
    return lambda images: made.run(None, {"input": images})[0]


def volume_logits(model, volume, setting, roi=None):
    """Logits [z][grid row][grid column][class] of a volume of HU [z][y][x]; NaN where the ROI needs none."""
    run = session(model, image_scope=setting.padding == "image")
    size, batch = setting.patch_size, max(1, min(32, 200_000 // setting.patch_size**2))
    slices = []
    for z, hu in enumerate(volume):
        pixels, rows, columns = canvas(intensity(hu, setting), setting)
        wanted = np.ones((len(rows), len(columns)), bool) if roi is None else roi_patches(roi[z], setting)
        logits = np.full((*wanted.shape, len(model.dense[-1][1])), np.nan, np.float32)
        if setting.padding == "image":
            everywhere = run(normalise(pixels, model.channels, setting)[None])[0]
            logits[wanted] = everywhere[:, rows][:, :, columns].transpose(1, 2, 0)[wanted]
        else:
            patches = [pixels[rows[i] :, columns[j] :][:size, :size] for i, j in np.argwhere(wanted)]
            parts = [np.stack(patches[at : at + batch]) for at in range(0, len(patches), batch)]
            parts = [run(normalise(part, model.channels, setting)) for part in parts]
            logits[wanted] = np.concatenate(parts) if parts else 0
        slices.append(logits)
    return np.stack(slices)


# ---- voxels


def softmax(logits):
    """Class probabilities in float64 over the last axis."""
    exponentials = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def voxels(logits, shape, setting, tolerance, roi=None):
    """(mask, probability, close), each [z][y][x], from logits of slices of `shape`.

    `close`: voxels whose two best classes differ by less than `tolerance` (logits; probabilities for linear
    fill), where a correct implementation may choose the other one.
    """
    (x0, y0, x1, y1), rows, columns = patch_grid(shape, setting)
    mask, close = np.zeros((len(logits), *shape), np.uint8), np.zeros((len(logits), *shape), bool)
    probability = np.zeros(mask.shape)
    probabilities = softmax(logits)
    scores = probabilities if setting.fill == "linear" else logits
    for y in range(y0, y1):
        for x in range(x0, x1):
            down, across = sources_of(y, rows, setting), sources_of(x, columns, setting)
            mixed = lambda values: sum(a * b * values[:, i, j].astype(np.float64) for i, a in down for j, b in across)
            best = np.sort(mixed(scores), -1)
            mask[:, y, x] = mixed(scores).argmax(-1)
            close[:, y, x] = best[:, -1] - best[:, -2] < tolerance
            probability[:, y, x] = mixed(probabilities)[:, setting.lesion_class]
    if roi is not None:
        outside = roi == 0
        mask[outside], close[outside], probability[outside] = 0, False, 0
    return mask, probability, close
