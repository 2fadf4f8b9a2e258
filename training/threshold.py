"""Chooses a model's threshold over folds, and writes it into the model.

    python threshold.py fold-1/scores.json fold-2/scores.json --write run/model.safetensors

The threshold has the highest sum of mean and global Dice, averaged over the files: each is what one training, or
evaluate.py, says of scans that its model was not trained on.
"""

import argparse
import json
from pathlib import Path

import validation
from export import with_threshold


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("scores", type=Path, nargs="+", help="scores.json of each fold")
    parser.add_argument("--write", type=Path, metavar="MODEL", help="write it into this model's metadata")
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


if __name__ == "__main__":
    try:
        main()
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(str(error)) from error
