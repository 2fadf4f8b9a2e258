"""Evaluates a network on the patch grid of whole slices as the library does, patch by patch.

Centres are k * stride on both axes; the patch around (r, c) starts at r - P // 2, c - P // 2, and what lies outside the
slice is black. Each voxel takes the class of the nearest centre, ties the lower one.
"""

import numpy as np
import torch


@torch.inference_mode()
def logits_at(model, image, intensity, rows, columns, batch=512, device="cpu", low_precision=None):
    """float32 [patches][classes] for the patches whose centres are (rows[i], columns[i]) of a windowed slice.

    low_precision: None, torch.bfloat16 or torch.float16.
    """
    size = model.config["patch_size"]
    pad = size // 2 + 1
    image = torch.from_numpy(np.pad(image.astype(np.float32), pad))
    image = (image - intensity.mean) / intensity.std
    windows = image.unfold(0, size, 1).unfold(1, size, 1)  # a view: [starts][starts][P][P]
    corner = pad - size // 2
    logits = []
    for first in range(0, len(rows), batch):
        r = torch.as_tensor(rows[first : first + batch]) + corner
        c = torch.as_tensor(columns[first : first + batch]) + corner
        patches = windows[r, c][:, None].to(device, memory_format=torch.channels_last)
        with torch.autocast(torch.device(device).type, low_precision, enabled=low_precision is not None):
            logits.append(model(patches).float().cpu())
    return torch.cat(logits).numpy() if logits else np.zeros((0, model.config["classes"]), np.float32)


def nearest_fill(patches, length, stride):
    """Index of the patch that each of `length` voxels of an axis with `patches` patches takes."""
    voxel = np.arange(length)
    return np.minimum((voxel + (stride - 1) // 2) // stride, patches - 1)  # ties to the lower index


def segment_slice(model, image, intensity, stride, where=None, **options):
    """Class of every voxel of one windowed slice, uint8 [rows][columns], where the footprint touches `where`."""
    height, width = image.shape
    rows, columns = np.arange(0, height, stride), np.arange(0, width, stride)
    down, across = nearest_fill(len(rows), height, stride), nearest_fill(len(columns), width, stride)
    wanted = np.ones((len(rows), len(columns)), bool)
    if where is not None:
        wanted[:] = False
        wanted[down[:, None].repeat(width, 1)[where], across[None].repeat(height, 0)[where]] = True
    i, j = np.nonzero(wanted)
    classes = np.zeros(wanted.shape, np.uint8)
    classes[i, j] = logits_at(model, image, intensity, rows[i], columns[j], **options).argmax(1)
    return classes[np.ix_(down, across)]
