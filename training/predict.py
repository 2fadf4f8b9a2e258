"""Segment phantoms with an exported model in PyTorch, patch by patch: an independent check of a model.

    python predict.py run/model.safetensors data/test --out masks
    patchmask metrics masks data/test

Weights are the file's, rounded to fp16, as the library reads them. The library gives the same masks, except where two
logits are equal within rounding, in a small part of the time. Points in the air around the body are
skipped here (class 0) unless --everywhere is given.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from export import load
from patch_grid import segment_slice
from scans import Scan, find
from volume_io import Volume, read_volume, write_nrrd


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("model", type=Path, help="safetensors file from train.py")
    parser.add_argument("scans", type=Path, help="folder of scans with truth, as for train.py")
    parser.add_argument("--out", type=Path, default=Path("masks"), help="folder for *_mask.nrrd (default masks)")
    parser.add_argument("--stride", type=int, help="pixels (default: the model's)")
    parser.add_argument("--everywhere", action="store_true", help="evaluate the air around the body too")
    parser.add_argument("--bfloat16", action="store_true", help="faster and a little less exact")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda")
    args = parser.parse_args()

    model, intensity, stride = load(args.model)
    model = model.to(args.device, memory_format=torch.channels_last)
    stride = args.stride or stride
    args.out.mkdir(parents=True, exist_ok=True)
    options = dict(device=args.device, low_precision=torch.bfloat16 if args.bfloat16 else None)
    for source in find(args.scans):
        started = time.time()
        scan = Scan(source, intensity, strata=False)
        volume = read_volume(source.image)
        mask = np.zeros(scan.shape, np.uint8)
        for k in tqdm(range(scan.shape[0]), desc=scan.name, unit="slice", leave=False):
            where = None if args.everywhere else scan.body[k]
            mask[k] = segment_slice(model, scan, intensity, k, stride, where, **options)
        write_nrrd(args.out / f"{scan.name}_mask.nrrd", Volume(mask, volume.spacing, volume.origin))
        print(f"{scan.name}: {mask.sum()} lesion voxels, {time.time() - started:.0f} s", flush=True)


if __name__ == "__main__":
    try:
        main()
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(str(error)) from error
