"""Segment phantoms with an exported model in PyTorch, patch by patch: an independent check of a model.

    python predict.py run/model.safetensors data/test --out masks
    patchmask metrics masks data/test

Weights are the file's, rounded to fp16, as the library reads them. The library gives the same masks, except where two
logits are equal within rounding, in a small part of the time. A scan's organ is its ROI where it is labelled, unless
--everywhere is given.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

import resampling
from export import load
from patch_grid import segment_slice
from scans import find
from volume_io import Volume, write_nrrd


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("model", type=Path, help="safetensors file from train.py")
    parser.add_argument("scans", type=Path, help="folder of scans with truth, as for train.py")
    parser.add_argument("--out", type=Path, default=Path("masks"), help="folder for *_mask.nrrd (default masks)")
    parser.add_argument("--stride", type=int, help="pixels (default: the model's)")
    parser.add_argument("--everywhere", action="store_true", help="evaluate what is outside the organ too")
    parser.add_argument("--bfloat16", action="store_true", help="faster and a little less exact")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda")
    args = parser.parse_args()

    known = load(args.model)
    model = known.model.to(args.device, memory_format=torch.channels_last)
    args.out.mkdir(parents=True, exist_ok=True)
    options = dict(device=args.device, low_precision=torch.bfloat16 if args.bfloat16 else None)
    for source in find(args.scans):
        started = time.time()
        volume, _, organ = source.read()
        hu, shape = volume.voxels, volume.voxels.shape[1:]
        roi = np.ones(hu.shape, bool) if args.everywhere or organ is None else organ
        if known.pixel_mm:
            there = [resampling.length_at(n, s, known.pixel_mm) for n, s in zip(shape, volume.spacing[1:])]
            hu, roi = resampling.resized(hu, *there), resampling.resized(roi, *there) > 0
        images = known.intensity.windowed(hu)
        mask = np.zeros(hu.shape, np.uint8)
        for k in tqdm(range(len(hu)), desc=source.name, unit="slice", leave=False):
            mask[k] = segment_slice(
                model, images[k], known.intensity, args.stride or known.stride, roi[k], **options
            )
        mask = resampling.nearest(mask, *shape)
        write_nrrd(args.out / f"{source.name}_mask.nrrd", Volume(mask, volume.spacing, volume.origin))
        lesion = np.count_nonzero(mask == len(known.classes) - 1)
        print(f"{source.name}: {lesion} lesion voxels, {time.time() - started:.0f} s", flush=True)


if __name__ == "__main__":
    try:
        main()
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(str(error)) from error
