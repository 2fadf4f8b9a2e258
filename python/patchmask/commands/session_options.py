"""The options of the library on the command line, the same for every command that segments."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any, Callable


def add(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how to segment (defaults: the model's metadata, else the library's)")
    group.add_argument("--model", type=Path, required=True, metavar="FILE", help="weights (.safetensors)")
    group.add_argument("--patch-size", type=int, metavar="N", help="side of a patch in pixels, 32 to 1024")
    group.add_argument("--stride", type=int, metavar="N", help="pixels between patch centres, 1 to the patch size")
    group.add_argument(
        "--padding", choices=("patch", "image"), default="patch", help="zeros at each patch's border, or at the image's"
    )
    group.add_argument("--window", type=window, metavar="LO,HI", help="HU that become intensity 0 and 1")
    group.add_argument(
        "--equalize", action=argparse.BooleanOptionalAction, help="histogram equalisation of every slice"
    )
    group.add_argument(
        "--crop", type=_crop, metavar="X0,Y0,X1,Y1", help="voxels of the turned slice, half-open; outside is black"
    )
    group.add_argument(
        "--body", action="store_true", help="evaluate only the body, found in each slice: nothing in the air around it"
    )
    group.add_argument(
        "--fill", choices=("nearest", "linear"), default="nearest", help="how patch classes become voxels"
    )
    group.add_argument(
        "--pixel-mm", type=float, metavar="MM", help="side of the pixels that patch size and stride count (0: the scan's)"
    )
    group.add_argument(
        "--no-resample", dest="resample", action="store_false", help="keep the scan's pixels, whatever their size"
    )
    group.add_argument(
        "--threshold", type=float, metavar="P", help="probability from which a voxel is lesion (0: the most probable class)"
    )
    group.add_argument("--no-sharing", dest="sharing", action="store_false", help="patch by patch, for comparison")
    group.add_argument(
        "--axes",
        type=_axes,
        default="LPS",
        help="how slices lie before the network sees them: three of L R, P A, S I, or file (default LPS)",
    )
    group.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N[,N...] (default auto)")
    group.add_argument(
        "--threads", type=int, default=0, metavar="N", help="worker threads of the CPU engine (0: one per core)"
    )
    group.add_argument(
        "--memory", type=int, default=0, metavar="MIB", help="limit for the library's memory (0: automatic)"
    )


def add_spacing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--spacing",
        type=_spacing,
        metavar="X,Y,Z",
        help="mm between columns, rows and slices of the file, where it does not say them",
    )


def add_refinement(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--smooth",
        type=_millimetres,
        default=0.0,
        metavar="MM",
        help="smooth the probabilities in 3-D first, by a Gaussian of this standard deviation (default 0: no)",
    )
    parser.add_argument(
        "--min-volume", type=_millimetres, default=0.0, metavar="MM3", help="leave out smaller lesions (default 0)"
    )


def of(given: argparse.Namespace) -> dict[str, Any]:
    """Arguments for Session."""
    names = "patch_size stride padding window equalize crop body fill sharing device threads pixel_mm resample threshold".split()
    return {name: getattr(given, name) for name in names} | {
        "memory_budget": given.memory << 20 if given.memory > 0 else given.memory
    }


def between(low: int, high: int) -> Callable[[str], int]:
    """The type of an option that is a whole number of low..=high."""

    def number(text: str) -> int:
        if not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text}: must be {low}..={high}")
        return int(text)

    return number


def window(text: str) -> tuple[float, float]:
    numbers = [float(word) for word in text.split(",")]
    if len(numbers) != 2 or not all(map(math.isfinite, numbers)) or numbers[0] >= numbers[1]:
        raise argparse.ArgumentTypeError(f"{text}: must be LO,HI in HU, both finite, LO below HI")
    return numbers[0], numbers[1]


def _crop(text: str) -> tuple[int, int, int, int]:
    edges = [int(word) for word in text.split(",")]
    if len(edges) != 4 or min(edges) < 0 or edges[0] >= edges[2] or edges[1] >= edges[3]:
        raise argparse.ArgumentTypeError(f"{text}: must be X0,Y0,X1,Y1 in pixels, X0 < X1 and Y0 < Y1")
    return edges[0], edges[1], edges[2], edges[3]


def _spacing(text: str) -> tuple[float, float, float]:
    steps = [float(word) for word in text.split(",")]
    if len(steps) != 3 or not all(0 < step < math.inf for step in steps):
        raise argparse.ArgumentTypeError(f"{text}: must be X,Y,Z in mm, each above 0")
    return steps[0], steps[1], steps[2]


def _millimetres(text: str) -> float:
    if not 0 <= float(text) < math.inf:
        raise argparse.ArgumentTypeError(f"{text}: must be 0 or above")
    return float(text)


def _axes(text: str) -> str:
    pairs = ("LR", "PA", "SI")
    good = len(text) == 3 and all(sum(letter in pair for letter in text) == 1 for pair in pairs)
    if text != "file" and not good:
        raise argparse.ArgumentTypeError(f"{text}: must be three letters, one each of L R, P A, S I; or file")
    return text
