"""Pictures of a segmentation: slices with outlines, the lesions in 3-D, and a page to scroll and turn them on.

Whatever the axes of the files, everything is shown in patient space: in slices the patient's left is on the right
and the front is up.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from .scan import Scan, read_scan

NO_VTK = (
    "vtk cannot draw here, so surface.png is matplotlib's. On Debian or Ubuntu: "
    "apt-get install libegl1 libgl1-mesa-dri libxrender1"
)


def draw(scan: Scan, folder: Path, slices: int = 4, surfaces: bool = True, page: str = "") -> list[Path]:
    """Writes overlay.png, with `surfaces` surface.png, and view.html where the `page` has a name; returns their paths."""
    from .slices import overlay

    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / "overlay.png"]
    overlay(scan, slices, written[0])
    meshes = {}
    if surfaces:
        from .surfaces import surfaces as surfaces_of

        meshes = surfaces_of(scan)
        written.append(folder / "surface.png")
        draw_surfaces(meshes, scan.title, written[-1])
    if page:
        from .page import write_page

        written.append(folder / "view.html")
        write_page(scan, meshes, page, written[-1])
    return written


def draw_surfaces(meshes: dict[str, Any], title: str, path: Path) -> None:
    """Writes surface.png; says on stderr where vtk cannot draw."""
    from . import surfaces

    if meshes and surfaces.vtk_draws():
        surfaces.render_vtk(meshes, title, path)
    else:
        if meshes:
            print(NO_VTK, file=sys.stderr)
        surfaces.render_matplotlib(meshes, title, path)


__all__ = ["Scan", "draw", "read_scan"]
