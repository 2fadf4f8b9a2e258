"""Class-balanced training patches: where they are taken, how they are varied, and what that does to the prior.

A patch is labelled by the class of its centre pixel, start + P // 2 on both axes. Half of every batch is
lesion. The other half is background from four strata, because a classifier that runs over whole
slices meets everything:

    shell      background within SHELL pixels of a lesion, in the slice: decides where borders end up
    liver      liver farther from lesions: vessels, texture, the organ's edge from inside
    lookalike  not liver, but locally as dense as a lesion: muscle, stomach content, bile, borders of organs to fat
    anywhere   every voxel of the scan: air, table, bone, lung, fat

After every epoch `mine` adds what the network got wrong among fresh candidates to two pools, `mistaken` (background taken
for lesion) and `missed` (lesion taken for background), from which up to MINED_SHARE of either half is drawn: gallbladder, vena
cava, stomach and lesions that fill a thin part of the liver are learnt faster that way.

Balancing changes the prior from about 1 : 300 to 1 : 1, and a network trained like that paints too much. So every
sample carries an offset, the logarithm of how much its stratum is under-represented against lesions, and
the loss adds it to the lesion logit (logit adjustment: Menon et al., "Long-tail learning via logit
adjustment", 2021, section 4). The bare logits are then right for whole slices, and plain argmax is what to use.
"""

import math
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional

from volume_io import read_nrrd

SHELL = 3  # pixels
BACKGROUND_SHARES = {"shell": 0.34, "liver": 0.24, "lookalike": 0.28, "anywhere": 0.14}
MINED_SHARE = 0.2  # of the background and of the lesions, once MINED_ENOUGH are there
MINED_ENOUGH = 600
MINED_KEPT = 6000  # the newest
MISTAKEN_ABOVE = -1.5  # lesion minus background logit of background that is kept
MISSED_BELOW = -1.0  # and of lesions: clear misses, since on a lesion's border 0 is right
LARGEST_OFFSET = 4.0  # nats; beyond this, rare strata would only add variance
LOOKALIKE_HU = (-10, 100)
MARGIN = 12  # pixels around a patch that rotation and scaling can bring in


class Scan:
    """One phantom on disk: windowed intensities padded by black, labels, and the voxels of each stratum."""

    def __init__(self, path, intensity, patch_size, strata=True):
        path = Path(path)
        self.name = path.name.removesuffix("_ct.nrrd")
        hu = read_nrrd(path).voxels
        self.truth = read_nrrd(path.with_name(f"{self.name}_truth.nrrd")).voxels > 0
        self.shape = hu.shape
        self.pad = patch_size // 2 + 1 + MARGIN
        padding = ((0, 0), (self.pad, self.pad), (self.pad, self.pad))
        # Black is 0 before the normalisation. Training keeps many scans in memory: 1/2000 of the window is enough.
        self.image = np.pad(intensity.windowed(hu), padding).astype(np.float16 if strata else np.float32)
        self.body = ndimage.uniform_filter(hu.astype(np.float32), (1, 9, 9)) > -700
        if strata:
            liver = read_nrrd(path.with_name(f"{self.name}_liver.nrrd")).voxels > 0
            self.strata = self._strata(hu, liver)
            labels, count = ndimage.label(self.truth)
            self.lesions = [flat(labels == k) for k in range(1, count + 1)]

    def _strata(self, hu, liver):
        near = ndimage.binary_dilation(self.truth, np.ones((1, 3, 3)), iterations=SHELL)
        local = ndimage.gaussian_filter(hu.astype(np.float32), (0, 1.2, 1.2))
        lookalike = (local > LOOKALIKE_HU[0]) & (local < LOOKALIKE_HU[1]) & ~liver
        background = ~self.truth
        return {
            "lesion": flat(self.truth),
            "shell": flat(near & background),
            "liver": flat(liver & background & ~near),
            "lookalike": flat(lookalike & background & ~near),
            "anywhere": flat(background),
        }


def flat(mask):
    return np.flatnonzero(mask).astype(np.int32)


class BalancedSampler:
    """Draws batches from a list of scans. All randomness comes from `rng` and torch's generator."""

    def __init__(self, scans, patch_size, rng):
        self.scans, self.patch_size, self.rng = scans, patch_size, rng
        self.with_lesions = [scan for scan in scans if scan.lesions]
        totals = {name: sum(len(scan.strata[name]) for scan in scans) for name in scans[0].strata}
        # Natural frequency over sampled share, relative to the same of lesions (whose share is one half).
        lesion = totals["lesion"] / 0.5
        self.offsets = {
            name: float(np.clip(np.log(totals[name] / (0.5 * share) / lesion), 0, LARGEST_OFFSET))
            for name, share in BACKGROUND_SHARES.items()
        }
        self.offsets["lesion"] = self.offsets["shell"]  # what a lesion's voxels compete with first
        self.offsets["missed"] = self.offsets["lesion"]
        self.offsets["mistaken"] = LARGEST_OFFSET
        self.mined = {"missed": [], "mistaken": []}  # (scan, voxel) each

    def batch(self, size):
        """(intensity 0..1 [size][1][P+2m][P+2m], labels [size], offsets [size]), m = MARGIN."""
        half = size // 2
        names = list(BACKGROUND_SHARES)
        drawn = self.rng.choice(len(names), size - half, p=list(BACKGROUND_SHARES.values()))
        strata = ["lesion"] * half + [names[k] for k in drawn]
        for pool, first, length in (("missed", 0, half), ("mistaken", half, size - half)):
            share = MINED_SHARE * min(1, len(self.mined[pool]) / MINED_ENOUGH)  # few are not to be learnt by heart
            count = math.ceil(share * length)
            strata[first : first + count] = [pool] * count
        patches = self._cut([self._draw(name) for name in strata])
        labels = (torch.arange(size) < half).long()
        return patches, labels, torch.tensor([self.offsets[name] for name in strata])

    def mine(self, margins_of, count):
        """Score `count` candidates, a quarter of them lesions, and keep what the network gets wrong.

        margins_of: [n][1][P][P] of intensity 0..1 -> lesion minus background logit [n].
        """
        names, shares = ["lesion", "liver", "lookalike"], [0.25, 0.3, 0.45]
        for _ in range(count // 500):
            strata = [names[k] for k in self.rng.choice(len(names), 500, p=shares)]
            places = [self._draw(name) for name in strata]
            margins = margins_of(self._cut(places)[:, :, MARGIN:-MARGIN, MARGIN:-MARGIN])
            for name, place, margin in zip(strata, places, margins):
                if name == "lesion" and margin < MISSED_BELOW:
                    self.mined["missed"].append(place)
                elif name != "lesion" and margin > MISTAKEN_ABOVE:
                    self.mined["mistaken"].append(place)
        self.mined = {pool: places[-MINED_KEPT:] for pool, places in self.mined.items()}

    def _cut(self, places):
        """Windows around (scan, voxel) pairs with MARGIN pixels to spare: [n][1][P+2m][P+2m]."""
        side = self.patch_size + 2 * MARGIN
        patches = np.empty((len(places), 1, side, side), np.float32)
        for patch, (scan, voxel) in zip(patches, places):
            k, row, column = np.unravel_index(voxel, scan.shape)
            # Padded coordinates of the window's corner: centre - P // 2 - MARGIN.
            top = row + scan.pad - self.patch_size // 2 - MARGIN
            left = column + scan.pad - self.patch_size // 2 - MARGIN
            patch[0] = scan.image[k, top : top + side, left : left + side]
        return torch.from_numpy(patches)

    def _draw(self, name):
        """A scan and a voxel of it. Lesions: half by voxel, half by lesion, so that small ones count."""
        rng = self.rng
        if name in self.mined:
            return self.mined[name][rng.integers(len(self.mined[name]))]
        while True:
            scans = self.with_lesions if name in ("lesion", "shell") else self.scans
            scan = scans[rng.integers(len(scans))]
            voxels = scan.strata[name]
            if name == "lesion" and rng.random() < 0.5:
                voxels = scan.lesions[rng.integers(len(scan.lesions))]
            if len(voxels):
                return scan, voxels[rng.integers(len(voxels))]


def augmented(patches, patch_size):
    """Rotate, scale, brighten and add noise to half-random degrees; crop to P x P with the centre pixel kept.

    patches: [n][1][P+2m][P+2m], 0..1. The centre pixel is row and column P // 2 + m before, P // 2 after.
    """
    count, side = len(patches), patches.shape[-1]
    bent = (torch.rand(count) < 0.5).float()
    angle = bent * torch.empty(count).uniform_(-0.26, 0.26)  # radians
    scale = torch.exp(bent * torch.empty(count).uniform_(-0.12, 0.12))
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    step = torch.arange(patch_size, dtype=torch.float32) - patch_size // 2
    dy, dx = torch.meshgrid(step, step, indexing="ij")
    centre = patch_size // 2 + MARGIN
    y = centre + sin[:, None, None] * dx + cos[:, None, None] * dy
    x = centre + cos[:, None, None] * dx - sin[:, None, None] * dy
    grid = torch.stack([x, y], -1) * (2 / (side - 1)) - 1
    patches = functional.grid_sample(patches, grid, padding_mode="zeros", align_corners=True)

    visible = patches > 1e-4  # black stays black: it is clamped, or outside the slice
    gain = torch.empty(count, 1, 1, 1).uniform_(0.94, 1.06)
    offset = torch.empty(count, 1, 1, 1).uniform_(-0.03, 0.03)
    noise = torch.randn_like(patches) * torch.empty(count, 1, 1, 1).uniform_(0, 0.012)
    return torch.where(visible, (gain * patches + offset + noise).clamp(0, 1), patches)
