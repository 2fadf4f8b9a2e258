"""Pictures of a segmentation: slices with outlines, the lesions in 3-D, and a page to turn them on.

    python render.py --ct ct.nrrd --truth truth.nrrd --mask mask.nrrd --out pictures/

is `patchmask view` of the Python package (../../python), from the sources and without the library:
overlay.png (per slice: input, truth, result), surface.png (truth translucent, result solid, the body faint) and, with
--html, view.html (both, interactive, in one file that needs no network).
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "python"))

from patchmask.commands import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(["view", *sys.argv[1:]]))
