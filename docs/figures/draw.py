"""Draws the figures of docs/how-it-works.md and computes its tables. Standard library only.

    python3 docs/figures/draw.py            # writes the figures, prints the tables
    python3 docs/figures/draw.py --check    # fails where a figure or a table is not what this script makes
"""

import random
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parents[1] / "benches"))
from exact_plan import BLOCKS, numbered, ranges, table  # noqa: E402

PAGE = FOLDER.parent / "how-it-works.md"
PATCHES = "ABC"
SIZE, STRIDE, ODD_STRIDE = 16, 4, 3
LAYERS = {"conv 1": 3, "pool 1": 2, "conv 2": 3, "pool 2": 2}  # taps


# ------------------------------------------------------------------------------------------ value numbering


def value_numbers(stride):
    """Layer -> (numbers as [patch][position], its distinct keys in the order of their numbers)."""
    pixels = [[patch * stride + j for j in range(SIZE)] for patch in range(len(PATCHES))]
    steps = list(LAYERS.values())
    found = numbered([dict(enumerate(patch)) for patch in pixels], [ranges(0, SIZE, SIZE, steps)] * len(PATCHES), steps)
    layers = {name: ([list(patch.values()) for patch in patches], keys) for name, (patches, keys) in zip(LAYERS, found)}
    return {"pixels": (pixels, sorted(set(sum(pixels, []))))} | layers


def verify(stride):
    """Equal numbers are equal activations: evaluates a network with random weights patch by patch."""
    draw = random.Random(1)
    pixels = [draw.random() for _ in range(SIZE + stride * len(PATCHES))]
    activations = [pixels[patch * stride :][:SIZE] for patch in range(len(PATCHES))]
    layers = value_numbers(stride)
    for name, taps in LAYERS.items():
        a, b, c = (draw.uniform(-1, 1) for _ in range(3))
        known = {}
        for patch, x in enumerate(activations):
            if taps == 3:
                y = [a * left + b * here + c * right for left, here, right in zip([0.0, *x], x, [*x[1:], 0.0])]
            else:
                y = [max(pair) for pair in zip(x[::2], x[1::2])]
            for value, activation in zip(layers[name][0][patch], y, strict=True):
                assert known.setdefault(value, activation) == activation, (name, patch, value)
            activations[patch] = y


def border_reach(size):
    """(layer, positions, those at either end that zeros reach) at the end of each block of VGG16."""
    reached, blocks = 0, []
    for block, convolutions in enumerate(BLOCKS, 1):
        blocks.append((f"conv{block}_{convolutions}", size, reached + convolutions))
        size, reached = size // 2, (reached + convolutions + 1) // 2
    return [*blocks, ("pool5", size, reached)]


# ---------------------------------------------------------------------------------------------------- tables


def rows(name, values, stride):
    """The numbers of each patch, below the pixels that they are computed from."""
    width = 3 * SIZE // len(values[0])
    for patch, numbers in zip(PATCHES, values, strict=True):
        indent = " " * (3 * stride * PATCHES.index(patch))
        yield f"{name} {patch} {indent}" + "".join(f"{number:>{width}}" for number in numbers)


def key_list(keys):
    """Number: key, as many to a line as fit."""
    entries = [f"{number:>2}: {' '.join(map(str, key))}" for number, key in enumerate(keys)]
    width = max(map(len, entries)) + 4
    each = 84 // width
    for at in range(0, len(entries), each):
        yield "".join(f"{entry:<{width}}" for entry in entries[at : at + each]).rstrip()


def tables():
    """The blocks of the page that are computed."""
    layers = value_numbers(STRIDE)
    blocks = [[*rows("pixels", layers["pixels"][0], STRIDE)]]
    blocks += [[*rows(name, layers[name][0], STRIDE), "", *key_list(layers[name][1])] for name in LAYERS]
    odd = value_numbers(ODD_STRIDE)
    blocks.append([line for name in ("conv 1", "pool 1") for line in rows(name, odd[name][0], ODD_STRIDE)])
    texts = ["\n".join(["```text", *block, "```"]) for block in blocks]
    counts = ["| layer | 3 patches, one axis | distinct | 9 patches, both axes | distinct |", "|---|---|---|---|---|"]
    for name in LAYERS:
        values, keys = layers[name]
        in_all, distinct = len(sum(values, [])), len(keys)
        counts.append(f"| {name} | {in_all} | {distinct} | {in_all**2} | {distinct**2} |")
    return [*texts, "\n".join(counts), table()]


# --------------------------------------------------------------------------------------------------- figures

INK, EDGE = "#1f2328", "#57606a"
SHARED, BORDER, SINGLE = "#b6d7ff", "#ffcf9e", "#eceff2"
AT_BORDER = "depends on where the patch ends"


class Drawing:
    """An SVG on paper of its own: legible on light and on dark pages."""

    def __init__(self, width, height, title):
        self.lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            f'font-family="Helvetica, Arial, sans-serif" font-size="14" fill="{INK}">',
            f"<title>{title}</title>",
            f'<rect width="{width}" height="{height}" rx="8" fill="#ffffff"/>',
        ]

    def box(self, x, y, width, height, fill, label="", line=1):
        shape = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"'
        self.lines.append(f'<rect {shape} fill="{fill}" stroke="{EDGE}" stroke-width="{line}"/>')
        if label != "":
            self.text(x + width / 2, y + height / 2 + 5, label, 'text-anchor="middle"')

    def text(self, x, y, text, style=""):
        self.lines.append(f'<text x="{x:g}" y="{y:g}" {style}>{text}</text>')

    def heading(self, x, y, text):
        self.text(x, y, text, 'font-weight="bold"')

    def legend(self, x, y, texts):
        for colour, text in texts.items():
            self.box(x, y, 18, 18, colour)
            self.text(x + 26, y + 14, text)
            x += 60 + 8 * len(text)

    def svg(self):
        return "\n".join([*self.lines, "</svg>", ""])


def border_figure():
    """One pixel in two patches, and how far the zeros reach."""
    drawing = Drawing(940, 480, "Near a patch border, activations differ from patch to patch")
    drawing.heading(20, 32, "One pixel, e, in two patches")
    drawing.box(20, 50, 270, 190, "#f6f8fa")
    drawing.text(30, 230, "slice")
    for name, x, y in (("A", 50, 62), ("B", 130, 94)):
        drawing.box(x, y, 130, 130, "none", line=2)
        drawing.heading(x + (8 if name == "A" else 62), y + 20, f"patch {name}")
    drawing.box(130, 150, 12, 12, "#ffffff", "")
    drawing.text(136, 160, "e", 'text-anchor="middle" font-size="12"')
    for x, name, pixels in ((350, "A", "abcdefghi"), (650, "B", "0bc0ef0hi")):
        drawing.heading(x, 32, f"In {name}, a convolution at e reads")
        for place, pixel in enumerate(pixels):
            row, column = divmod(place, 3)
            drawing.box(x + 46 * column, 50 + 46 * row, 46, 46, BORDER if pixel == "0" else SHARED, pixel)
        drawing.box(x + 46, 96, 46, 46, "none", line=3)
    drawing.text(350, 212, "nine pixels of the slice")
    drawing.text(650, 212, "six pixels, and zeros in place of a, d, g,")
    drawing.text(650, 230, "which lie outside the patch")
    drawing.heading(20, 284, "How far the zeros reach on one axis of a 257-pixel patch, layer by layer through VGG16")
    for place, (name, positions, reached) in enumerate(border_reach(257)):
        y, unit = 302 + 22 * place, 560 / positions
        drawing.text(20, y + 14, name)
        drawing.box(90, y, 560, 18, BORDER)
        drawing.box(round(90 + unit * reached, 1), y, round(560 - 2 * unit * reached, 1), 18, SHARED)
        drawing.text(664, y + 14, f"{positions} positions: {reached} + {positions - 2 * reached} + {reached}")
    drawing.legend(90, 446, {BORDER: AT_BORDER, SHARED: "depends on the pixels only"})
    return drawing.svg()


def numbering_figure():
    """The numbers of one axis, below the pixels that they are computed from."""
    captions = {
        "pixels": "Pixels of the slice",
        "conv 1": "Convolution 1: one number for each distinct triple of the numbers above",
        "pool 1": "Pool 1: one number for each distinct pair",
        "conv 2": "Convolution 2: one number for each distinct triple",
    }
    pixel, left, height, layers = 34, 96, 26, value_numbers(STRIDE)
    drawing = Drawing(left + pixel * len(layers["pixels"][1]) + 20, 566, "One axis, numbered")
    y, reached = 32, 0
    for name, caption in captions.items():
        values, keys = layers[name]
        in_all, positions = len(sum(values, [])), len(values[0])
        reached = reached + 1 if name.startswith("conv") else (reached + 1) // 2
        drawing.heading(20, y, f"{caption}. {len(keys)} distinct of {in_all}")
        for patch, numbers in enumerate(values):
            top, width = y + 10 + height * patch, pixel * SIZE // positions
            drawing.text(20, top + 18, f"patch {PATCHES[patch]}")
            for position, number in enumerate(numbers):
                at_border = min(position, positions - 1 - position) < reached
                shared = sum(number in other for other in values) > 1
                fill = BORDER if at_border else SHARED if shared else SINGLE
                drawing.box(left + pixel * STRIDE * patch + width * position, top, width, height, fill, number)
        y += 3 * height + 48
    texts = {SHARED: "in several patches: computed once", SINGLE: "in one patch", BORDER: AT_BORDER}
    drawing.legend(left, y - 6, texts)
    return drawing.svg()


def main():
    for stride in (STRIDE, ODD_STRIDE):
        verify(stride)
    figures = {FOLDER / "border.svg": border_figure(), FOLDER / "numbering.svg": numbering_figure()}
    if sys.argv[1:] == ["--check"]:
        stale = [str(path) for path, svg in figures.items() if path.read_text(encoding="utf-8") != svg]
        page = PAGE.read_text(encoding="utf-8")
        stale += [f"{PAGE}, which lacks\n{table}" for table in tables() if table not in page]
        sys.exit("not what docs/figures/draw.py makes: " + "\n".join(stale) if stale else print("ok figures"))
    for path, svg in figures.items():
        path.write_text(svg, encoding="utf-8")
    print("\n\n".join(tables()))


if __name__ == "__main__":
    main()
