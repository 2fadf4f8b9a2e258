"""Evaluates a network on the patch grid of whole slices as the library does, patch by patch.

Centres are k * stride on both axes; the patch around (r, c) starts at r - P // 2, c - P // 2, and what lies outside the
slice is black. Each voxel takes the class of the nearest centre, ties the lower one.
"""

import numpy as np
import torch


@torch.inference_mode()
def logits_at(model, scan, intensity, slice_index, rows, columns, batch=512, device="cpu", low_precision=None):
    """float32 [patches][classes] for the patches whose centres are (rows[i], columns[i]) of one slice.

    low_precision: None, torch.bfloat16 or torch.float16.
    """
    size = model.config["patch_size"]
    pad = size // 2 + 1
    image = torch.from_numpy(np.pad(scan.image[slice_index].astype(np.float32), pad))
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


def segment_slice(model, scan, intensity, slice_index, stride, where=None, **options):
    """Class of every voxel of one slice, uint8 [rows][columns]. `where` limits which patches are evaluated."""
    _, height, width = scan.shape
    rows, columns = np.arange(0, height, stride), np.arange(0, width, stride)
    wanted = np.ones((len(rows), len(columns)), bool) if where is None else where[np.ix_(rows, columns)]
    i, j = np.nonzero(wanted)
    classes = np.zeros(wanted.shape, np.uint8)
    logits = logits_at(model, scan, intensity, slice_index, rows[i], columns[j], **options)
    classes[i, j] = logits.argmax(1)
    return classes[np.ix_(nearest_fill(len(rows), height, stride), nearest_fill(len(columns), width, stride))]


class SparseValidation:
    """Dice over part of the held-out slices: densely around lesions, coarsely elsewhere, weighted by area.

    Evaluating whole volumes after every epoch would take longer than the epochs.
    """

    def __init__(self, scans, slices_per_scan=3, near=6, fine=2, coarse=9):
        self.points = []  # (scan, slice, rows, columns, weights, labels)
        for scan in scans:
            area = scan.truth.sum((1, 2))
            occupied = np.flatnonzero(area)
            if len(occupied) == 0:
                continue
            chosen = occupied[np.linspace(0, len(occupied) - 1, slices_per_scan + 2).round().astype(int)[1:-1]]
            for k in np.unique(chosen):
                rows, columns = np.nonzero(scan.truth[k])
                close = np.zeros(scan.shape[1:], bool)
                for row, column in zip(rows, columns):
                    close[max(0, row - near) : row + near + 1, max(0, column - near) : column + near + 1] = True
                grid = np.zeros_like(close)
                grid[::fine, ::fine] = True
                sparse = np.zeros_like(close)
                sparse[::coarse, ::coarse] = True
                r, c = np.nonzero((close & grid) | (~close & sparse & scan.body[k]))
                weights = np.where(close[r, c], fine**2, coarse**2)
                self.points.append((scan, k, r, c, weights, scan.truth[k][r, c]))
        if not self.points:
            raise ValueError("no lesion in any held-out scan: nothing to validate on")
        self.count = sum(len(rows) for _, _, rows, *_ in self.points)

    def evaluate(self, model, intensity, part=(0, 1), gather=None, **options):
        """(margins = lesion minus background logit, weights, labels) over all patches.

        part: (k, n): evaluate every nth slice from the kth on; gather: brings the n processes' lists together.
        """
        model.eval()
        margins, (first, step) = [], part
        for scan, k, rows, columns, _, _ in self.points[first::step]:
            logits = logits_at(model, scan, intensity, k, rows, columns, **options)
            margins.append(logits[:, 1] - logits[:, 0])
        if gather is not None:
            parts = gather(margins)
            margins = [parts[k % step][k // step] for k in range(len(self.points))]
        weights = np.concatenate([point[4] for point in self.points])
        labels = np.concatenate([point[5] for point in self.points])
        return np.concatenate(margins), weights, labels


def weighted_dice(predicted, labels, weights):
    both = (weights * (predicted & labels)).sum()
    total = (weights * predicted).sum() + (weights * labels).sum()
    return float(2 * both / total) if total else 1.0
