"""view.html: slices and surfaces to scroll, window and turn, drawn by niivue, in one file that needs no network.

CT, masks --> shrunk where too large --> NIfTI --+
meshes    --> decimated              --> GIFTI --+--> JSON, with page.css, page.js and niivue.js, in page.html

Everything is in patient space: NIfTI and GIFTI in right-anterior-superior mm, JSON in left-posterior-superior mm. The
page's content security policy allows its own two scripts and nothing from outside.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import matplotlib.colors
import nibabel
from nibabel.gifti.gifti import GiftiDataArray, GiftiImage
import numpy as np
import SimpleITK as sitk

from ..metrics import compare, components
from .scan import WINDOW, Scan
from .slices import choose_slices
from .surfaces import STYLE, TRIANGLES, Mesh, triangles

HERE = Path(__file__).resolve().parent
NIIVUE = (HERE, HERE.parents[2] / "build/niivue")  # in the wheel; of the sources
MAX_VOXELS = 2**25  # 512 x 512 x 128
AIR_HU = -1024
OPACITY = {"result": 0.5, "truth": 0.35}  # in the slices, at first
TO_RAS = np.diag([-1.0, -1, 1, 1])
NO_DEVICE = "For research: patchmask is no medical device."


def niivue() -> tuple[str, str]:
    """niivue's script and licences; FileNotFoundError where they are not there."""
    for folder in NIIVUE:
        if (folder / "niivue.js").is_file():
            script, licences = ((folder / name).read_text("utf-8") for name in ("niivue.js", "niivue.LICENSES.txt"))
            return script, licences
    raise FileNotFoundError(
        "--html: niivue, which draws the page, is not here: install a wheel that `make wheel` made, or run tools/niivue.sh "
        "in a checkout"
    )


def shrinking(scan: Scan) -> list[int]:
    """Voxels along column, row and slice that become one, so that at most MAX_VOXELS are left."""
    factors = [1, 1, 1]
    while np.prod([size // factor for size, factor in zip(scan.ct.shape[::-1], factors)]) > MAX_VOXELS:
        factors[int(np.argmin(np.multiply(scan.spacing, factors)))] *= 2
    return factors


def too_large(scan: Scan) -> list[str]:
    """A note where voxels become one."""
    factors = shrinking(scan)
    if factors == [1, 1, 1]:
        return []
    size, block = ("x".join(map(str, sizes)) for sizes in (scan.ct.shape[::-1], factors))
    return [
        f"{size} voxels are too many for a page: each voxel of view.html is the mean of {block}, and lesion "
        "where one of them is; surfaces and numbers are those of all voxels"
    ]


def nifti(voxels: np.ndarray, index_to_world: np.ndarray) -> str:
    image = nibabel.Nifti1Image(voxels.transpose(), TO_RAS @ index_to_world)
    return base64.b64encode(gzip.compress(image.to_bytes(), mtime=0)).decode()


def gifti(mesh: Mesh, maximum: int) -> str:
    points, faces = triangles(mesh, maximum)
    arrays = [
        GiftiDataArray((points * np.diag(TO_RAS)[:3]).round(2).astype(np.float32), "NIFTI_INTENT_POINTSET"),
        GiftiDataArray(faces.astype(np.int32), "NIFTI_INTENT_TRIANGLE"),
    ]
    text: str = GiftiImage(darrays=arrays).to_xml().decode()
    return text


def rgb(colour: str) -> list[int]:
    return [round(255 * part) for part in matplotlib.colors.to_rgb(colour)]


def report(scan: Scan) -> str:
    """Numbers of lesions and, with the truth, Dice."""
    _, count = components(scan.result)
    if scan.truth is None:
        return f"Lesions in the result: {count}. {NO_DEVICE}"
    found = compare(scan.result, scan.truth, scan.spacing)
    return (
        f"Dice {found.dice:.3f}. Lesions in the truth: {found.lesions}, found: {found.lesions_found}; "
        f"in the result: {count}, false: {found.false_positives}. {NO_DEVICE}"
    )


def start(scan: Scan) -> list[float]:
    """mm of a lesion's voxel, in the slice with most of them; of the middle where there is no lesion."""
    z = choose_slices(scan, 1)[0]
    found = np.argwhere(scan.lesions[z])
    y, x = found[len(found) // 2] if len(found) else np.array(scan.ct.shape[1:]) // 2
    millimetres: list[float] = (scan.index_to_world @ (x, y, z, 1))[:3].tolist()
    return millimetres


def contents(scan: Scan, meshes: dict[str, Mesh], title: str) -> dict[str, Any]:
    """What page.js shows."""
    factors = shrinking(scan)
    offset = np.eye(4)
    offset[:3, 3] = (np.array(factors) - 1) / 2  # the centre of the first voxels that become one
    grid = scan.index_to_world @ offset @ np.diag([*factors, 1.0])

    def shrunk(voxels: np.ndarray) -> np.ndarray:
        image = sitk.GetImageFromArray(voxels.astype(np.float32))
        array: np.ndarray = sitk.GetArrayFromImage(sitk.BinShrink(image, factors))
        return array

    ct = shrunk(np.nan_to_num(scan.ct, nan=AIR_HU)).round().clip(-32768, 32767).astype(np.int16)
    masks = {"result": scan.result} if scan.truth is None else {"result": scan.result, "truth": scan.truth}
    drawn = [name for name in ("result", "truth", "bone", "body") if name in meshes]  # translucent ones from the inner out
    return dict(
        name=title,
        report=report(scan),
        notes=scan.notes + too_large(scan),
        window=WINDOW,
        start=start(scan),
        ct=nifti(ct, grid),
        masks=[
            dict(
                name=name,
                base64=nifti((shrunk(mask) > 0).astype(np.uint8), grid),
                rgb=rgb(STYLE[name][0]),
                opacity=OPACITY[name],
            )
            for name, mask in masks.items()
        ],
        meshes=[
            dict(name=name, gifti=gifti(meshes[name], TRIANGLES[name]), rgb=rgb(STYLE[name][0]), opacity=STYLE[name][1])
            for name in drawn
        ],
        layers=[
            dict(name=name, label=label, colour=colour)
            for name, (colour, _, label) in STYLE.items()
            if name in drawn or name in masks
        ],
    )


def write_page(scan: Scan, meshes: dict[str, Mesh], name: str, path: Path) -> None:
    """Writes the page of a scan that is called `name`."""
    script, licences = niivue()
    data = {**contents(scan, meshes, name), "licences": licences}
    own, style, page = ((HERE / f"page.{suffix}").read_text("utf-8") for suffix in ("js", "css", "html"))

    def allowed(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    parts = dict(
        policy=f"default-src 'none'; script-src {allowed(script)} {allowed(own)}; style-src {allowed(style)}; img-src data:",
        data=json.dumps(data).replace("<", r"\u003c"),  # no name ends the script
        niivue=script,
        script=own,
        style=style,
    )
    path.write_text(re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], page), encoding="utf-8")
