"""Chooses a model's threshold over folds, and writes it into the model.

    python threshold.py fold-1/scores.json fold-2/scores.json --write run/model.safetensors

The threshold has the highest sum of mean and global Dice, averaged over the files: each is what one training, or
evaluate.py, says of scans that its model was not trained on.
"""

import argparse
import json
from pathlib import Path

import matplotlib
import numpy as np

import validation
from export import with_threshold

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("scores", type=Path, nargs="+", help="scores.json of each fold")
    parser.add_argument("--write", type=Path, metavar="MODEL", help="write it into this model's metadata")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw Dice over thresholds, and over patients' lesions")
    args = parser.parse_args()
    folds = [[validation.Score(**one) for one in json.loads(path.read_text())] for path in args.scores]
    threshold = validation.best_threshold(folds)
    for path, fold in zip(args.scores, folds):
        here = validation.summary(fold, threshold)
        print(f"{path}: mean Dice {here['held_out_dice']:.3f}, global {here['held_out_global']:.3f} "
              f"(at this fold's own {here['best_threshold']:g}: {here['dice_there']:.3f}, {here['global_there']:.3f})")  # fmt: skip
    print(f"threshold {threshold:g}")
    if args.write:
        with_threshold(args.write, threshold)
    if args.plot:
        draw(args.plot, dict(zip(args.scores, folds)), threshold)


def draw(path, folds, threshold):
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.4))
    at = np.arange(validation.STEPS + 1) / validation.STEPS
    for number, (name, scores) in enumerate(folds.items()):
        colour = f"C{number}"
        each, pooled = validation.dice(scores)
        left.plot(at, each.mean(0), colour, label=f"{name.stem}: mean")
        left.plot(at, pooled, colour, linestyle=":", label="all voxels")
        ill = [score for score in scores if sum(score.lesion)]
        right.scatter([sum(score.lesion) for score in ill], each[:, round(threshold * validation.STEPS)], c=colour)
        for score, dice in zip(ill, each[:, round(threshold * validation.STEPS)]):
            right.annotate(score.name, (sum(score.lesion), dice), (3, 3), textcoords="offset points", fontsize=7)
    left.axvline(threshold, color="grey", linewidth=0.8)
    left.set(xlabel="threshold", ylabel="Dice", ylim=(0, 1))
    left.legend(fontsize=7)
    right.set(xlabel="lesion voxels of the scan", xscale="log", ylabel=f"Dice at {threshold:g}", ylim=(0, 1))
    for axis in (left, right):
        axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    try:
        main()
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(str(error)) from error
