"""The montage of slices: input, truth (where there is one) and result, with outlines (matplotlib)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ..metrics import dice
from .scan import BODY_HU, RESULT_COLOUR, TRUTH_COLOUR, TRUTH_OVER_RESULT, WINDOW, Scan


def choose_slices(scan: Scan, count: int) -> list[int]:
    """Slices spread over the extent of the lesions: in each of `count` equal parts the one with most lesion."""
    area = 1e-3 * scan.result.sum((1, 2))
    if scan.truth is not None:
        area += scan.truth.sum((1, 2))
    with_lesion = np.flatnonzero(area) if area.any() else np.arange(len(area))
    parts = np.array_split(np.arange(with_lesion[0], with_lesion[-1] + 1), count)
    middle_first = [area[part] * (0.2 + np.hanning(len(part) + 2)[1:-1]) for part in parts]  # neighbours look alike
    return [int(part[np.argmax(weight)]) for part, weight in zip(parts, middle_first) if len(part)]


def lesion_box(scan: Scan, margin_mm: float = 35, min_mm: float = 160) -> tuple[slice, ...]:
    """Rows and columns around all lesions with a margin, inside the body: (slice of rows, slice of columns)."""
    lesions: np.ndarray = np.any(scan.lesions, axis=0)
    body: np.ndarray = np.any(scan.ct > BODY_HU, axis=0)
    box = []
    for axis, step in ((1, scan.spacing[1]), (0, scan.spacing[0])):
        inside = np.flatnonzero(body.any(axis)) if body.any() else np.arange(body.shape[1 - axis])
        wanted = np.flatnonzero(lesions.any(axis)) if lesions.any() else inside
        room = max(margin_mm / step, (min_mm / step - np.ptp(wanted)) / 2)
        first, last = max(inside[0] - 4, wanted[0] - room), min(inside[-1] + 4, wanted[-1] + room)
        box.append(slice(max(0, int(first)), int(last) + 1))
    return tuple(box)


def outline(axes: Any, mask: np.ndarray, colour: str, **style: Any) -> None:
    """Fills and outlines a mask."""
    if mask.any():
        axes.contourf(mask, levels=[0.5, 1.5], colors=[colour], alpha=0.22)
        axes.contour(mask, levels=[0.5], colors=[colour], **{"linewidths": 1.3, **style})


def overlay(scan: Scan, count: int, path: Path) -> None:
    """The montage: a row per slice; input, truth, result (with the truth's outline dashed)."""
    chosen = choose_slices(scan, count)
    box = lesion_box(scan)
    rows, columns = scan.ct[0][box].shape
    aspect = scan.spacing[1] / scan.spacing[0]  # a pixel's height over its width
    width = 4.0
    height = width * rows * aspect / columns
    panels = 2 if scan.truth is None else 3
    figure = Figure(figsize=(panels * width + 0.5, len(chosen) * (height + 0.36) + 1.0), facecolor="black")
    grid = figure.subplots(len(chosen), panels, squeeze=False)
    for z, line in zip(chosen, grid):
        result = scan.result[z][box]
        millimetres = scan.index_to_world[2] @ (0, 0, z, 1)
        for axes in line:
            axes.imshow(scan.ct[z][box], cmap="gray", vmin=WINDOW[0], vmax=WINDOW[1], aspect=aspect)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        outline(line[-1], result, RESULT_COLOUR)
        titles = [(f"slice {z}, {millimetres:.0f} mm", "white"), ("result", RESULT_COLOUR)]
        if scan.truth is not None:
            truth = scan.truth[z][box]
            outline(line[1], truth, TRUTH_COLOUR)
            if truth.any():
                dashed = dict(colors=[TRUTH_OVER_RESULT], linewidths=1.8, linestyles=[(0, (2, 1.2))])
                line[2].contour(truth, levels=[0.5], **dashed)
            titles[1:] = [("truth", TRUTH_COLOUR), (f"result, Dice {dice(truth, result):.2f}", RESULT_COLOUR)]
        for axes, (title, colour) in zip(line, titles):
            axes.set_title(title, color=colour, fontsize=14, pad=5)
    for text, x, y in (("R", 0.02, 0.5), ("L", 0.95, 0.5), ("A", 0.485, 0.94)):
        grid[0][0].text(x, y, text, color="white", fontsize=12, transform=grid[0][0].transAxes, va="center")
    whole = scan.title.replace("Dice", "Dice of the volume")
    note = "" if scan.truth is None else "; dashed: truth"
    title = f"{whole}   (window {WINDOW[0]} to {WINDOW[1]} HU{note})"
    figure.suptitle(title, color="white", fontsize=16 if panels == 3 else 13)
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.15 / figure.get_figheight()), w_pad=0.4, h_pad=0.5)
    figure.savefig(path, dpi=110, facecolor="black")
