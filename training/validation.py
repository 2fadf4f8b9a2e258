"""How good an exported model is on whole scans, through the library's own call, as `segment --roi` makes it.

A scan's organ is its ROI where it is labelled. Scans without lesions count in the global Dice, of all voxels together,
and in the false positives; the mean Dice is that of scans with lesions, since theirs is 1 or 0 by a single voxel. Of
every scan two histograms of the lesion's probability are kept, of its lesion voxels and of the others: they give the
Dice at every threshold, of one scan, of all together, and of several trainings (threshold.py).
"""

import math
from dataclasses import dataclass

import numpy as np

from volume_io import patchmask

STEPS = 100  # of the probability
FALSE_VOXELS = 10  # the smallest false positive that counts


@dataclass
class Score:
    """One scan. Lesions are connected components of voxels, corners included, found where a fifth is in the mask."""

    name: str
    lesion: list  # voxels by probability: k of [k / STEPS, (k + 1) / STEPS), the last from 1 on
    other: list
    lesions: int  # all at the model's threshold
    found: int
    false_positives: int


def score(library, source, roi=True):
    volume, truth, organ = source.read()
    probability = library.probability(volume, organ if roi else None)
    level = np.minimum(probability * STEPS + 1e-4, STEPS).astype(np.uint8)
    compared = patchmask.metrics.compare(probability >= library.threshold, truth, (1, 1, 1))
    return Score(
        source.name,
        np.bincount(level[truth], minlength=STEPS + 1).tolist(),
        np.bincount(level[~truth], minlength=STEPS + 1).tolist(),
        compared.lesions,
        compared.lesions_found,
        sum(voxels >= FALSE_VOXELS for voxels in compared.false_positive_mm3),
    )


def dice(scores):
    """[scans][STEPS + 1]: the Dice of each with lesions at the thresholds k / STEPS; [STEPS + 1]: of all voxels."""
    lesion, other = (np.array([getattr(score, name) for score in scores]) for name in ("lesion", "other"))
    both, false = (np.cumsum(voxels[:, ::-1], 1)[:, ::-1] for voxels in (lesion, other))
    total = lesion.sum(1, keepdims=True)

    def ratio(both, false, total):
        return 2 * both / np.maximum(both + false + total, 1)

    ill = total[:, 0] > 0
    return ratio(both, false, total)[ill], ratio(both.sum(0), false.sum(0), total.sum())


def best_threshold(folds):
    """The threshold with the highest sum of mean and global Dice over folds, each a list of Scores. Not at the ends."""
    curve = np.mean([each.mean(0) + pooled for each, pooled in map(dice, folds)], 0)[1:STEPS]
    smooth = np.convolve(np.pad(curve, 2, mode="edge"), np.ones(5) / 5, mode="valid")  # a plateau, not a spike
    return (1 + int(smooth.argmax())) / STEPS


def summary(scores, threshold):
    """Numbers over all scans, of which the lesion-wise ones hold at the model's own threshold."""
    each, pooled = dice(scores)
    at, best = round(threshold * STEPS), best_threshold([scores])
    lesions = sum(score.lesions for score in scores)
    return {
        "held_out_dice": float(each[:, at].mean()),
        "held_out_global": float(pooled[at]),
        "best_threshold": best,
        "dice_there": float(each[:, round(best * STEPS)].mean()),
        "global_there": float(pooled[round(best * STEPS)]),
        "found": sum(score.found for score in scores) / lesions if lesions else math.nan,
        "false_positives": sum(score.false_positives for score in scores) / len(scores),
    }
