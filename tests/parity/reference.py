"""The reference: what the library must compute, patch by patch, written from the design and nothing else.

    intensity   window to 0..1, histogram equalisation over the whole slice, black outside the crop
    patches     centres origin + k * stride while inside the crop, origin the crop's corner; start = centre - P // 2
    logits      PATCH scope: onnxruntime on each patch, zeros at its own border
                IMAGE scope: convolutions over the rectangle that all patches cover, pools anchored at each patch
    voxels      nearest centre (ties: the lower index) or bilinear class probabilities

Axes: slices [z], rows [y], columns [x]; logits [z][lattice y][lattice x][class], NaN where not evaluated.
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


def session(onnx_model, threads=2):
    """An onnxruntime session on the CPU in f32."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(onnx_model, options, providers=["CPUExecutionProvider"])


# ---- intensity


def intensity(hu, setting):
    """One slice of HU -> network intensities before normalisation, float64, 0 = black."""
    low, high = setting.window
    hu = hu.astype(np.float64)
    finite = np.isfinite(hu)
    x = np.where(finite, np.clip((np.where(finite, hu, low) - low) / (high - low), 0, 1), 0)
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


# ---- lattice


def axis(first, end, setting):
    """Centres and starts of the patches on one axis of the slice."""
    centres = np.arange(first, end, setting.stride)
    return centres, centres - setting.patch_size // 2


def lattice(shape, setting):
    """(crop, centres_y, starts_y, centres_x, starts_x) of slices of `shape` (rows, columns)."""
    x0, y0, x1, y1 = setting.crop or (0, 0, shape[1], shape[0])
    return (x0, y0, x1, y1), *axis(y0, y1, setting), *axis(x0, x1, setting)


def canvas(image, setting):
    """All that any patch sees: (pixels [rows][columns], first row, first column), black outside the crop."""
    (x0, y0, x1, y1), _, starts_y, _, starts_x = lattice(image.shape, setting)
    size = setting.patch_size
    top, left = starts_y[0], starts_x[0]
    pixels = np.zeros((starts_y[-1] + size - top, starts_x[-1] + size - left))
    rows, columns = slice(y0, min(y1, top + len(pixels))), slice(x0, min(x1, left + pixels.shape[1]))
    inside = image[rows, columns]
    pixels[y0 - top : y0 - top + inside.shape[0], x0 - left : x0 - left + inside.shape[1]] = inside
    return pixels, top, left


def normalise(pixels, channels, setting):
    """[...][h][w] -> [...][channels][h][w], float32, with mean and deviation of each channel."""
    mean = np.broadcast_to(np.asarray(setting.mean, np.float64), channels)[:, None, None]
    std = np.broadcast_to(np.asarray(setting.std, np.float64), channels)[:, None, None]
    return ((pixels[..., None, :, :] - mean) / std).astype(np.float32)


def roi_points(roi, setting):
    """[lattice y][lattice x]: centres with a voxel of the ROI in their cell (linear fill: around such a voxel)."""
    (x0, y0, x1, y1), centres_y, _, centres_x, _ = lattice(roi.shape, setting)
    wanted = np.zeros((len(centres_y), len(centres_x)), bool)
    for y, x in np.argwhere(roi[y0:y1, x0:x1] != 0):
        if setting.fill == "linear":
            rows, columns = around(y, centres_y - y0)[:2], around(x, centres_x - x0)[:2]
        else:
            rows, columns = [nearest(y, centres_y - y0)], [nearest(x, centres_x - x0)]
        wanted[np.ix_(rows, columns)] = True
    return wanted


# ---- logits


class Network:
    """A model ready to run in onnxruntime."""

    def __init__(self, model, threads=2):
        self.model, self.threads = model, threads
        self.whole, self.blocks = None, None

    def patch_logits(self, patches):
        """[n][channels][P][P] -> [n][classes], in batches of about 8 MB of input."""
        self.whole = self.whole or session(vgg.onnx_bytes(self.model), self.threads)
        batch = max(1, min(32, 200_000 // self.model.patch_size**2))
        parts = [patches[i : i + batch] for i in range(0, len(patches), batch)]
        return np.concatenate([self.whole.run(None, {"input": part})[0] for part in parts])

    def slice_logits(self, image, setting, wanted=None):
        """Logits [lattice y][lattice x][class] of one slice of intensities; NaN where not `wanted`."""
        pixels, top, left = canvas(image, setting)
        _, _, starts_y, _, starts_x = lattice(image.shape, setting)
        starts_y, starts_x = starts_y - top, starts_x - left
        if wanted is None:
            wanted = np.ones((len(starts_y), len(starts_x)), bool)
        logits = np.full((*wanted.shape, self.model.classes), np.nan, np.float32)
        if not wanted.any():
            return logits
        if setting.padding == "image":
            everywhere = self._image_scope(normalise(pixels, self.model.channels, setting), starts_y, starts_x)
            logits[wanted] = everywhere[wanted]
            return logits
        size = setting.patch_size
        corners = [(starts_y[i], starts_x[j]) for i, j in np.argwhere(wanted)]
        patches = np.stack([pixels[y : y + size, x : x + size] for y, x in corners])
        logits[wanted] = self.patch_logits(normalise(patches, self.model.channels, setting))
        return logits

    def _image_scope(self, image, starts_y, starts_x):
        """IMAGE scope on `image` [channels][h][w], which begins at the first patch and ends with the last.

        All patches whose starts agree modulo 2^d share their first d poolings. So walk down a tree: at each
        level convolve the whole image, then for both parities of the starts on both axes drop the pixels before
        the first pooling cell, pool (cells that stick out at the end are dropped too) and go on.
        """
        if self.blocks is None:
            self.blocks = [session(vgg.onnx_block(self.model, block), self.threads) for block in range(5)]
        logits = np.zeros((len(starts_y), len(starts_x), self.model.classes), np.float32)
        everything = (np.arange(len(starts_y)), np.arange(len(starts_x)))
        self._descend(0, image, (starts_y, starts_x), everything, logits)
        return logits

    def _descend(self, level, image, starts, members, logits):
        """`starts`: first positions at this level of the patches `members` (indices into the lattice), by axis."""
        if level == 5:
            side = self.model.side
            for y, i in zip(starts[0], members[0]):
                for x, j in zip(starts[1], members[1]):
                    logits[i, j] = self._head(image[:, y : y + side, x : x + side])
            return
        image = self.blocks[level].run(None, {"input": image[None]})[0][0]
        for odd_y in range(2):
            for odd_x in range(2):
                chosen = [starts[0] % 2 == odd_y, starts[1] % 2 == odd_x]
                if not (chosen[0].any() and chosen[1].any()):
                    continue
                self._descend(
                    level + 1,
                    max_pool(image[:, odd_y:, odd_x:]),
                    [starts[a][chosen[a]] // 2 for a in range(2)],
                    [members[a][chosen[a]] for a in range(2)],
                    logits,
                )

    def _head(self, features):
        """Dense layers on [channels][side][side], in float64."""
        x = features.astype(np.float64).ravel()
        for index, (weight, bias) in enumerate(self.model.dense):
            x = weight.astype(np.float64) @ x + bias
            if index < len(self.model.dense) - 1:
                x = np.maximum(x, 0)
        return x


def max_pool(image):
    """2 x 2 maximum over [channels][h][w]; an incomplete last row or column is dropped."""
    height, width = image.shape[1] // 2 * 2, image.shape[2] // 2 * 2
    cells = image[:, :height, :width].reshape(len(image), height // 2, 2, width // 2, 2)
    return cells.max((2, 4))


def volume_logits(network, volume, setting, roi=None):
    """Logits [z][lattice y][lattice x][class] of a volume of HU [z][y][x]."""
    return np.stack(
        [
            network.slice_logits(intensity(hu, setting), setting, None if roi is None else roi_points(roi[z], setting))
            for z, hu in enumerate(volume)
        ]
    )


# ---- voxels


def nearest(position, centres):
    """Index of the nearest centre; of two equally near the lower."""
    return int(np.argmin(np.abs(centres - position)))


def around(position, centres):
    """(lower index, upper index, weight of the upper), clamped at the last centre. A voxel on a centre has it alone."""
    low = int(np.flatnonzero(centres <= position)[-1])
    if low == len(centres) - 1 or centres[low] == position:
        return low, low, 0.0
    return low, low + 1, (position - centres[low]) / (centres[low + 1] - centres[low])


def softmax(logits):
    """Class probabilities in float64 over the last axis."""
    exponentials = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def voxels(logits, shape, setting, tolerance, roi=None):
    """(mask, probability, close), each [z][y][x], from logits of slices of `shape`.

    `close`: voxels whose two best classes differ by less than `tolerance` (logits; probabilities for linear
    fill), where a correct implementation may choose the other one.
    """
    (x0, y0, x1, y1), centres_y, _, centres_x, _ = lattice(shape, setting)
    depth, classes = len(logits), logits.shape[-1]
    probabilities = softmax(logits)
    if setting.fill == "linear":
        scores = np.zeros((depth, y1 - y0, x1 - x0, classes))
        for y in range(y0, y1):
            for x in range(x0, x1):
                low_y, high_y, down = around(y, centres_y)
                low_x, high_x, right = around(x, centres_x)
                for i, weight_y in ((low_y, 1 - down), (high_y, down)):
                    for j, weight_x in ((low_x, 1 - right), (high_x, right)):
                        if weight_y * weight_x > 0:
                            scores[:, y - y0, x - x0] += weight_y * weight_x * probabilities[:, i, j]
        inner = scores
    else:
        rows = [nearest(y, centres_y) for y in range(y0, y1)]
        columns = [nearest(x, centres_x) for x in range(x0, x1)]
        scores = logits[:, rows][:, :, columns]
        inner = probabilities[:, rows][:, :, columns]
    best = np.sort(scores, -1)
    mask, close = np.zeros((depth, *shape), np.uint8), np.zeros((depth, *shape), bool)
    probability = np.zeros((depth, *shape))
    mask[:, y0:y1, x0:x1] = scores.argmax(-1)
    close[:, y0:y1, x0:x1] = best[..., -1] - best[..., -2] < tolerance
    probability[:, y0:y1, x0:x1] = inner[..., setting.lesion_class]
    if roi is not None:
        outside = roi == 0
        mask[outside], close[outside], probability[outside] = 0, False, 0
    return mask, probability, close
