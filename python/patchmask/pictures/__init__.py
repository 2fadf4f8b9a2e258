"""Pictures of a segmentation: slices with outlines, the lesions in 3-D, and a page to turn them on.

Whatever the axes of the files, everything is shown in patient space: in slices the patient's left is on the right
and the front is up.
"""

from __future__ import annotations

import sys
from pathlib import Path

from .scan import Scan, read_scan

NO_VTK = (
    "vtk cannot draw here, so surface.png is matplotlib's. On Debian or Ubuntu: "
    "apt-get install libegl1 libgl1-mesa-dri libxrender1"
)


def draw(scan: Scan, folder: Path, slices: int = 4, surfaces: bool = True) -> list[Path]:
    """Writes overlay.png and, with `surfaces`, surface.png and surface.html; returns their paths."""
    from .slices import overlay

    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / "overlay.png"]
    overlay(scan, slices, written[0])
    if surfaces:
        written += draw_surfaces(scan, folder)
    return written


def draw_surfaces(scan: Scan, folder: Path) -> list[Path]:
    """Writes surface.png and surface.html; says on stderr where vtk cannot draw."""
    from . import surfaces

    meshes = surfaces.surfaces(scan)
    picture, page = folder / "surface.png", folder / "surface.html"
    if meshes and surfaces.vtk_draws():
        surfaces.render_vtk(meshes, scan.title, picture)
    else:
        if meshes:
            print(NO_VTK, file=sys.stderr)
        surfaces.render_matplotlib(meshes, scan.title, picture)
    surfaces.write_page(meshes, scan.title, page)
    return [picture, page]


__all__ = ["Scan", "draw", "draw_surfaces", "read_scan"]
