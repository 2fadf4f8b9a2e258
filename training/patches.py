"""Class-balanced training patches: where they are taken, how they are varied, and what that does to the prior.

A patch is labelled by the class of its centre pixel, start + P // 2 on both axes. Half of every batch is
lesion. The other half is background from four strata, because a classifier that runs over whole
slices meets everything:

    shell      background within SHELL pixels of a lesion, in the slice: decides where borders end up
    liver      liver farther from lesions: vessels, texture, the organ's edge from inside
    lookalike  not liver, but locally as dense as a lesion: muscle, stomach content, bile, borders of organs to fat
    anywhere   every voxel of the scan: air, table, bone, lung, fat

After every epoch `mine` adds what the network got wrong among fresh candidates to two pools, `mistaken` (background
taken for lesion) and `missed` (lesion taken for background), from which up to MINED_SHARE of either half is drawn:
gallbladder, vena cava, stomach and lesions that fill a thin part of the liver are learnt faster that way.

Balancing changes the prior from about 1 : 300 to 1 : 1, and a network trained like that paints too much. So every
sample carries an offset, the logarithm of how much its stratum is under-represented against lesions, and
the loss adds it to the lesion logit (logit adjustment: Menon et al., "Long-tail learning via logit
adjustment", 2021, section 4). The bare logits are then right for whole slices, and plain argmax is what to use.
"""

import math

import numpy as np
import torch
from torch.nn import functional

BACKGROUND_SHARES = {"shell": 0.34, "liver": 0.24, "lookalike": 0.28, "anywhere": 0.14}
MINED_SHARE = 0.2  # of the background and of the lesions, once MINED_ENOUGH are there
MINED_ENOUGH = 600
MINED_KEPT = 6000  # the newest
MISTAKEN_ABOVE = -1.5  # lesion minus background logit of background that is kept
MISSED_BELOW = -1.0  # and of lesions: clear misses, since on a lesion's border 0 is right
LARGEST_OFFSET = 4.0  # nats; beyond this, rare strata would only add variance
MARGIN = 12  # pixels around a patch that rotation and scaling can bring in


class BalancedSampler:
    """Draws batches from a list of scans. All randomness comes from `rng` and torch's generator."""

    def __init__(self, scans, patch_size, rng):
        self.scans, self.patch_size, self.rng = scans, patch_size, rng
        self.with_lesions = [scan for scan in scans if scan.lesions]
        totals = {name: sum(scan.counts[name] for scan in scans) for name in scans[0].strata}
        if totals["lesion"] == 0:
            raise ValueError("no lesion in any training scan: are the labels those of --lesion-label?")
        # Labels without an organ leave a stratum empty: the others take its share.
        present = {name: share for name, share in BACKGROUND_SHARES.items() if totals[name]}
        whole = sum(present.values()) if len(present) < len(BACKGROUND_SHARES) else 1.0
        self.shares = {name: share / whole for name, share in present.items()}
        # Natural frequency over sampled share, relative to the same of lesions (whose share is one half).
        lesion = totals["lesion"] / 0.5
        self.offsets = {
            name: float(np.clip(np.log(totals[name] / (0.5 * share) / lesion), 0, LARGEST_OFFSET))
            for name, share in self.shares.items()
        }
        self.offsets["lesion"] = self.offsets["shell"]  # what a lesion's voxels compete with first
        self.offsets["missed"] = self.offsets["lesion"]
        self.offsets["mistaken"] = LARGEST_OFFSET
        self.mined = {"missed": [], "mistaken": []}  # (scan, voxel) each

    def batch(self, size):
        """(intensity 0..1 [size][1][P+2m][P+2m], labels [size], offsets [size]), m = MARGIN."""
        half = size // 2
        names = list(self.shares)
        drawn = self.rng.choice(len(names), size - half, p=list(self.shares.values()))
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
        wanted = {"lesion": 0.25, "liver": 0.3, "lookalike": 0.45}
        names = [name for name in wanted if name == "lesion" or name in self.shares]
        shares = [wanted[name] for name in names]
        if len(names) < len(wanted):
            shares = [share / sum(shares) for share in shares]
        for first in range(0, count, 500):
            strata = [names[k] for k in self.rng.choice(len(names), min(500, count - first), p=shares)]
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
            corner = self.patch_size // 2 + MARGIN  # above and left of the centre
            patch[0] = scan.window(k, row - corner, column - corner, side)
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
    count, side, device = len(patches), patches.shape[-1], patches.device

    def uniform(low, high, *ones):
        return torch.empty(count, *ones, device=device).uniform_(low, high)

    bent = (torch.rand(count, device=device) < 0.5).float()
    angle = bent * uniform(-0.26, 0.26)  # radians
    scale = torch.exp(bent * uniform(-0.12, 0.12))
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    step = torch.arange(patch_size, dtype=torch.float32, device=device) - patch_size // 2
    dy, dx = torch.meshgrid(step, step, indexing="ij")
    centre = patch_size // 2 + MARGIN
    y = centre + sin[:, None, None] * dx + cos[:, None, None] * dy
    x = centre + cos[:, None, None] * dx - sin[:, None, None] * dy
    grid = torch.stack([x, y], -1) * (2 / (side - 1)) - 1
    patches = functional.grid_sample(patches, grid, padding_mode="zeros", align_corners=True)

    visible = patches > 1e-4  # black stays black: it is clamped, or outside the slice
    gain = uniform(0.94, 1.06, 1, 1, 1)
    offset = uniform(-0.03, 0.03, 1, 1, 1)
    noise = torch.randn_like(patches) * uniform(0, 0.012, 1, 1, 1)
    return torch.where(visible, (gain * patches + offset + noise).clamp(0, 1), patches)
