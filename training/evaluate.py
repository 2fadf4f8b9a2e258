"""Scores a model on scans with labels, through the library, as `segment --roi` runs it.

    python evaluate.py ../examples/demo/model.safetensors LITS --json scores.json
    python evaluate.py hu LITS            the baseline: smoothed HU below the organ's median, no model

Prints Dice, lesions found and false positives of at least 10 voxels of every scan, and over all. Scans without lesions
count in all but the mean Dice. Numbers are of voxels: each scan's own.
"""

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
from scipy import ndimage

import scans
import validation
from library import Library


class BelowMedian:
    """HU smoothed within the organ, below its median, as a probability: 1 is SCALE HU below, 0 outside the organ."""

    SCALE, SIGMA = 100, (0, 3, 3)  # HU; voxels
    threshold = 0.2

    def probability(self, volume, roi):
        def smooth(values):
            return ndimage.gaussian_filter(values.astype(np.float32), self.SIGMA)

        inside = smooth(volume.voxels * roi) / np.maximum(smooth(roi), 1e-3)
        median = np.median(volume.voxels[roi]) if roi.any() else 0
        return np.clip((median - inside) / self.SCALE, 0, 1) * roi


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("model", type=Path, help="safetensors file from train.py, or hu")
    parser.add_argument("scans", type=Path, help="folder of scans with labels, as for train.py")
    parser.add_argument("--only", type=lambda text: text.split(","), metavar="NAME,...", help="these scans")
    parser.add_argument("--leave-out", type=lambda text: text.split(","), default=[], metavar="NAME,...", help="all others")
    parser.add_argument("--pattern", nargs=2, metavar=("IMAGE", "LABEL"), help="file names, as for train.py")
    parser.add_argument("--lesion-label", type=int, metavar="N", help="of lesions, as for train.py")
    parser.add_argument("--organ-label", type=int, metavar="N", help="of the organ, which is the ROI")
    parser.add_argument("--no-roi", action="store_true", help="the whole slices, although the organ is labelled")
    parser.add_argument("--threshold", type=float, metavar="P", help="of lesion (default: the model's, else 0.5)")
    parser.add_argument("--stride", type=int, help="pixels of the model (default: the model's)")
    parser.add_argument("--pixel-mm", type=float, metavar="MM", help="of a model that does not say")
    parser.add_argument("--fill", choices=("nearest", "linear"), default="nearest", help="as of segment (default nearest)")
    parser.add_argument("--padding", choices=("patch", "image"), default="patch", help="as of segment (default patch)")
    parser.add_argument("--device", default="auto", help="as of segment (default auto)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything, for threshold.py too")
    args = parser.parse_args()

    labels = None if args.lesion_label is None else scans.Labels(args.lesion_label, args.organ_label)
    sources = scans.choose(scans.find(args.scans, args.pattern, labels), args.only, args.leave_out)
    if str(args.model) == "hu":
        model = BelowMedian()
    else:
        model = Library(
            args.model, stride=args.stride, fill=args.fill, padding=args.padding, device=args.device, pixel_mm=args.pixel_mm
        )
    if args.threshold is not None:
        model.threshold = args.threshold
    print(f"{'scan':>12} {'Dice':>6} {'found':>9} {'false pos.':>10} {'seconds':>8}")
    scores = []
    for source in sources:
        began = time.monotonic()
        one = validation.score(model, source, not args.no_roi)
        scores.append(one)
        each, _ = validation.dice([one])
        dice = f"{each[0, round(model.threshold * validation.STEPS)]:.3f}" if len(each) else "-"
        found = f"{one.found}/{one.lesions}"
        print(f"{one.name:>12} {dice:>6} {found:>9} {one.false_positives:10d} {time.monotonic() - began:8.1f}", flush=True)
    for name, value in validation.summary(scores, model.threshold).items():
        print(f"{name} {value:.3f}")
    if args.json:
        args.json.write_text(json.dumps([asdict(one) for one in scores]) + "\n")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(str(error)) from error
