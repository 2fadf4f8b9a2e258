"""Class-balanced training patches: where they are taken, and what that does to the prior.

A patch is labelled by the class of its centre pixel, start + P // 2 on both axes. Half of every batch is
lesion. The other half is background from four strata, because a classifier that runs over whole
slices meets everything:

    shell      background within SHELL pixels of a lesion, in the slice: decides where borders end up
    liver      liver farther from lesions: vessels, texture, the organ's edge from inside
    lookalike  not liver, but locally as dense as a lesion: muscle, stomach content, bile, borders of organs to fat
    anywhere   every voxel of the scan: air, table, bone, lung, fat

`outside` is the share of the last two: small where the library is given the organ as ROI.

After every epoch `mine` adds what the network got wrong among fresh candidates to two pools, `mistaken` (background
taken for lesion) and `missed` (lesion taken for background), from which up to MINED_SHARE of either half is drawn:
gallbladder, vena cava, stomach and lesions that fill a thin part of the liver are learnt faster that way.

Balancing changes the prior from about 1 : 300 to 1 : 1, and a network trained like that paints too much. So every
sample carries an offset, the logarithm of how much its stratum is under-represented against lesions, and
the loss adds it to the lesion logit (logit adjustment: Menon et al., "Long-tail learning via logit
adjustment", 2021, section 4). The bare logits are then right for whole slices of the average patient, and plain argmax
is what to use.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

WITHIN = {"shell": 0.34, "liver": 0.24}
OUTSIDE = {"lookalike": 0.28, "anywhere": 0.14}
MINED_SHARE = 0.2  # of the background and of the lesions, once MINED_ENOUGH are there
MINED_ENOUGH = 600
MINED_KEPT = 6000  # the newest
MISTAKEN_ABOVE = -1.5  # lesion minus background logit of background that is kept
MISSED_BELOW = -1.0  # and of lesions: clear misses, since on a lesion's border 0 is right
LARGEST_OFFSET = 4.0  # nats; beyond this, rare strata would only add variance


@dataclass
class Patients:
    """Scans that patches are drawn from: for background all alike, for lesions by `chances`."""

    scans: list
    with_lesions: list
    chances: np.ndarray

    @classmethod
    def of(cls, scans, by_size=0.0):
        with_lesions = [scan for scan in scans if scan.lesions]
        if not with_lesions:
            raise ValueError("no lesion in any training scan: are the labels those of --lesion-label?")
        size = np.array([scan.counts["lesion"] for scan in with_lesions], float) ** by_size
        return cls(scans, with_lesions, size / size.sum())


class BalancedSampler:
    """Draws batches from a list of scans. All randomness comes from `rng` and torch's generator.

    side, margin: of the windows. outside: share of the background that is drawn from outside the organ. by_size: the
    exponent of a patient's lesion voxels in how often it is drawn for lesions; 0 is every patient alike. Of the patches a share
    `mixed` is from the scans `others`, such as phantoms, which do not count in the offsets.
    """

    def __init__(self, scans, side, margin, rng, outside=0.42, by_size=0.0, others=(), mixed=0.0):
        self.side, self.margin, self.rng, self.mixed = side, margin, rng, mixed
        self.patients, self.others = Patients.of(scans, by_size), Patients.of(others) if mixed else None
        within, without = sum(WITHIN.values()), sum(OUTSIDE.values())
        shares = {name: share * (1 - outside) / within for name, share in WITHIN.items()}
        shares |= {name: share * outside / without for name, share in OUTSIDE.items()}
        # Labels without an organ leave a stratum empty: the others take its share.
        present = {name: share for name, share in shares.items() if share and any(scan.counts[name] for scan in scans)}
        self.shares = {name: share / sum(present.values()) for name, share in present.items()}
        # Natural frequency over sampled share, relative to the same of lesions (whose share is one half). Frequencies
        # are those of the average scan: a patient with a huge lesion counts once.
        natural = {name: np.mean([scan.frequency(name) for scan in scans]) for name in ("lesion", *self.shares)}
        self.offsets = {
            name: float(np.clip(np.log(natural[name] / share / natural["lesion"]), 0, LARGEST_OFFSET))
            for name, share in self.shares.items()
        }
        self.offsets["lesion"] = self.offsets.get("shell", 0.0)  # what a lesion's voxels compete with first
        self.offsets["missed"] = self.offsets["lesion"]
        self.offsets["mistaken"] = LARGEST_OFFSET
        self.mined = {"missed": [], "mistaken": []}  # (scan, voxel) each

    def batch(self, size):
        """(intensity 0..1 [size][1][S+2m][S+2m], classes [size][S+2m][S+2m], offsets [size]); S, m: side, margin."""
        half = size // 2
        names = list(self.shares)
        drawn = self.rng.choice(len(names), size - half, p=list(self.shares.values()))
        strata = ["lesion"] * half + [names[k] for k in drawn]
        for pool, first, length in (("missed", 0, half), ("mistaken", half, size - half)):
            share = MINED_SHARE * min(1, len(self.mined[pool]) / MINED_ENOUGH)  # few are not to be learnt by heart
            count = math.ceil(share * length)
            strata[first : first + count] = [pool] * count
        windows, classes = self.cut([self._draw(name) for name in strata], self.side + 2 * self.margin)
        return windows, classes, torch.tensor([self.offsets[name] for name in strata])

    def mine(self, margins_of, count, patch_size):
        """Score `count` candidates, a quarter of them lesions, and keep what the network gets wrong.

        margins_of: [n][1][P][P] of intensity 0..1 -> lesion logit minus that of all other classes [n].
        """
        wanted = {"lesion": 0.25, "liver": 0.3, "lookalike": 0.45}
        names = [name for name in wanted if name == "lesion" or name in self.shares]
        shares = [wanted[name] for name in names]
        if len(names) < len(wanted):
            shares = [share / sum(shares) for share in shares]
        for first in range(0, count, 500):
            strata = [names[k] for k in self.rng.choice(len(names), min(500, count - first), p=shares)]
            places = [self._draw(name) for name in strata]
            margins = margins_of(self.cut(places, patch_size)[0])
            for name, place, margin in zip(strata, places, margins):
                if name == "lesion" and margin < MISSED_BELOW:
                    self.mined["missed"].append(place)
                elif name != "lesion" and margin > MISTAKEN_ABOVE:
                    self.mined["mistaken"].append(place)
        self.mined = {pool: places[-MINED_KEPT:] for pool, places in self.mined.items()}

    def cut(self, places, side):
        """Windows whose pixel side // 2 is at (scan, voxel): intensities [n][1][side][side], classes [n][side][side]."""
        windows = np.empty((len(places), 1, side, side), np.float32)
        classes = np.empty((len(places), side, side), np.uint8)
        for k, (scan, voxel) in enumerate(places):
            slice_, row, column = np.unravel_index(voxel, scan.shape)
            corner = slice_, row - side // 2, column - side // 2
            windows[k, 0], classes[k] = (scan.window(part, *corner, side) for part in (scan.image, scan.classes))
        return torch.from_numpy(windows), torch.from_numpy(classes)

    def _draw(self, name):
        """A scan and a voxel of it. Lesions: half by voxel, half by lesion, so that small ones count."""
        rng = self.rng
        if name in self.mined:
            return self.mined[name][rng.integers(len(self.mined[name]))]
        of = self.others if self.mixed and rng.random() < self.mixed else self.patients
        if not any(scan.counts[name] for scan in of.scans):
            of = self.patients
        while True:
            if name in ("lesion", "shell"):
                scan = of.with_lesions[rng.choice(len(of.with_lesions), p=of.chances)]
            else:
                scan = of.scans[rng.integers(len(of.scans))]
            voxels = scan.strata[name]
            if name == "lesion" and rng.random() < 0.5:
                voxels = scan.lesions[rng.integers(len(scan.lesions))]
            if len(voxels):
                return scan, voxels[rng.integers(len(voxels))]
