"""How training patches are varied. Everything is drawn anew for every patch.

    turn, zoom    of half of the patches, around the drawn pixel
    flip          left and right, front and back, each of half of the patches
    gain, shift   of the intensity, as other scanners, phases and tables of doses give it
    blur, noise   of other reconstruction kernels
"""

import math
from dataclasses import dataclass

import torch
from torch.nn import functional

from vgg import DENSE_STEP


@dataclass(frozen=True)
class Augmentation:
    turn: float = 15.0  # degrees, at most, either way
    zoom: tuple = (0.89, 1.12)  # things become so many times as large
    flip: bool = False
    gain: float = 0.06  # the intensity times 1 - gain to 1 + gain
    shift: float = 0.03  # of the intensity 0..1, at most, either way
    blur: float = 0.0  # pixels, the largest deviation of the Gaussian
    noise: float = 0.012  # of the intensity 0..1, the largest deviation

    def margin(self, side):
        """Pixels around a patch of `side` that turning and zooming can bring in."""
        turned = math.cos(angle := min(math.radians(self.turn), math.pi / 4)) + math.sin(angle)
        return math.ceil((side // 2 + 1) * (turned / min(1, self.zoom[0]) - 1)) + 1


def augmented(windows, side, how, classes=None, labels=1):
    """(patches [n][1][side][side], classes [n][labels][labels]) of windows with `how.margin(side)` pixels to spare.

    windows: [n][1][side + 2m][side + 2m], 0..1. The drawn pixel is row and column side // 2 + m before, side // 2 after.
    classes: [n][side + 2m][side + 2m], at the same places; `labels` per axis are taken, DENSE_STEP apart, around the
    drawn pixel. None: not wanted.
    """
    count, width, device = len(windows), windows.shape[-1], windows.device

    def uniform(low, high, *ones):
        return torch.empty(count, *ones, device=device).uniform_(low, high)

    bent = (torch.rand(count, device=device) < 0.5).float()
    angle = bent * uniform(-1, 1) * math.radians(how.turn)
    scale = torch.exp(-bent * uniform(*map(math.log, how.zoom)))
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    turns = torch.stack([cos, sin, -sin, cos], -1).reshape(count, 2, 2)  # (y, x) from (dy, dx)
    if how.flip:
        turns = turns * (1 - 2 * (torch.rand(count, 1, 2, device=device) < 0.5).float())
    centre = side // 2 + how.margin(side)

    def places(offsets):
        """x, y of grid_sample, -1..1 [n][k][k][2], for pixels `offsets` [k] from the centre on both axes."""
        dy, dx = torch.meshgrid(offsets, offsets, indexing="ij")
        yx = torch.einsum("nij,hwj->nhwi", turns, torch.stack([dy, dx], -1)) + centre
        return yx.flip(-1) * (2 / (width - 1)) - 1

    pixels = torch.arange(side, dtype=torch.float32, device=device) - side // 2
    patches = functional.grid_sample(windows, places(pixels), padding_mode="zeros", align_corners=True)
    if how.blur:
        patches = blurred(patches, uniform(0, how.blur))
    visible = patches > 1e-4  # black stays black: it is clamped, or outside the slice
    gain, shift = uniform(1 - how.gain, 1 + how.gain, 1, 1, 1), uniform(-how.shift, how.shift, 1, 1, 1)
    noise = torch.randn_like(patches) * uniform(0, how.noise, 1, 1, 1)
    patches = torch.where(visible, (gain * patches + shift + noise).clamp(0, 1), patches)
    if classes is None:
        return patches, None
    points = (torch.arange(labels, dtype=torch.float32, device=device) - labels // 2) * DENSE_STEP
    drawn = functional.grid_sample(classes[:, None].float(), places(points), mode="nearest", align_corners=True)
    return patches, drawn[:, 0].long()


def blurred(patches, deviations):
    """Each patch convolved with a Gaussian of its own deviation in pixels."""
    reach = max(1, math.ceil(3 * float(deviations.max())))
    place = torch.arange(-reach, reach + 1, dtype=torch.float32, device=patches.device)
    kernel = torch.exp(-0.5 * (place / deviations.clamp(min=1e-2)[:, None]) ** 2)
    kernel = kernel / kernel.sum(1, keepdim=True)
    padded, count = functional.pad(patches, [reach] * 4, mode="replicate").transpose(0, 1), len(patches)
    rows = functional.conv2d(padded, kernel[:, None, :, None], groups=count)
    return functional.conv2d(rows, kernel[:, None, None, :], groups=count).transpose(0, 1)
