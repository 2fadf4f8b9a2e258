"""Folders of scans with labels -> what training needs of each: intensities, truth, and the voxels of each stratum.

    phantoms    NAME_ct.nrrd, NAME_truth.nrrd (above 0 is lesion), NAME_liver.nrrd
    LiTS        volume-N.nii[.gz], segmentation-N.nii[.gz]: 0 background, 1 liver, 2 lesion; also as NRRD
    others      any two patterns with one * for the scan's name, of NRRD or NIfTI files

Folders are searched with all that is in them; labels lie beside their images.

A CT collection at full size does not fit in memory (LiTS: 30 GB as fp16). With a cache folder everything is computed
once, kept there as .npy files, and read through memory maps.
"""

import hashlib
import json
import os
import shutil
import tempfile
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage
from tqdm import tqdm

from volume_io import read_volume

SHELL = 3  # pixels
LOOKALIKE_HU = (-10, 100)
KEPT = 1 << 22  # voxels listed per stratum and scan; of larger ones a random part, and their count


@dataclass(frozen=True)
class Labels:
    """The meaning of the numbers in a label volume."""

    lesion: int | None = None  # None: every number above 0
    organ: int | None = None  # around the lesions
    only: tuple | None = None  # the numbers that there may be; None: any


LITS = Labels(lesion=2, organ=1, only=(0, 1, 2))
LAYOUTS = (  # image, label, organ
    ("*_ct.nrrd", "*_truth.nrrd", "*_liver.nrrd", Labels()),
    *((f"volume-*{end}", f"segmentation-*{end}", None, LITS) for end in (".nii", ".nii.gz", ".nrrd")),
)


@dataclass(frozen=True)
class Source:
    """The paths of one scan and its labels."""

    name: str
    image: Path
    label: Path
    organ: Path | None  # a file of its own
    labels: Labels


def find(folder, patterns=None, labels=None):
    """The Sources below a folder, in the order of their paths.

    patterns: (image, label), each with one `*`. labels: what the numbers mean, instead of what the layout says.
    """
    folder = Path(folder)
    layouts = LAYOUTS if patterns is None else ((*patterns, None, Labels()),)
    for image, label, organ, meaning in layouts:
        sources = []
        before, after = image.split("*")
        for path in sorted(folder.rglob(image)):
            name = path.name[len(before) : len(path.name) - len(after)]
            truth = path.with_name(label.replace("*", name))
            if not truth.exists():
                raise ValueError(f"{truth}: missing, the labels of {path.name}")
            roi = path.with_name(organ.replace("*", name)) if organ else None
            sources.append(Source(name, path, truth, roi if roi and roi.exists() else None, labels or meaning))
        if sources:
            return sources
    tried = ", ".join(layout[0] for layout in layouts)
    raise ValueError(f"{folder}: no scans ({tried}); make phantoms with phantom.py, or name yours with --pattern")


class Scan:
    """One scan: windowed intensities, labels, and the voxels of each stratum.

    image [slices][rows][columns] is 0..1, black outside: `window` cuts where a patch reaches over the border.
    counts: voxels of each stratum; strata: (part of) their flat indices; lesions: those of each connected lesion.
    """

    def __init__(self, source, intensity, strata=True, cache=None):
        self.name = source.name
        if cache is None:
            parts = _computed(source, intensity, strata)
        else:
            parts = _cached(Path(cache), source, intensity, strata)
        self.image, self.truth, self.body = parts["image"], parts["truth"], parts["body"]
        self.shape = self.image.shape
        if strata:
            self.strata = {key.removeprefix("stratum_"): parts[key] for key in parts if key.startswith("stratum_")}
            self.counts = dict(zip(self.strata, parts["counts"].tolist()))
            ends = parts["lesion_ends"]
            self.lesions = np.split(parts["lesion_voxels"], ends[:-1]) if len(ends) else []

    def window(self, k, top, left, side):
        """[side][side] of slice k from (top, left) on, black outside."""
        rows, columns = self.shape[1:]
        inside = self.image[k, max(0, top) : max(0, top + side), max(0, left) : max(0, left + side)]
        if inside.shape == (side, side):
            return inside
        cut = np.zeros((side, side), self.image.dtype)
        y, x = max(0, -top), max(0, -left)
        cut[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
        return cut


def _computed(source, intensity, strata):
    """Everything about one scan, as arrays by name."""
    image, meaning = read_volume(source.image), source.labels
    hu, label = image.voxels, _on_grid(image, source.label)
    unknown = [] if meaning.only is None else label[np.isin(label, meaning.only, invert=True)]
    if len(unknown):
        raise ValueError(f"{source.label}: label {unknown[0]}, but only {', '.join(map(str, meaning.only))} are known "
                         "here: --lesion-label and --organ-label say which count")  # fmt: skip
    truth = label > 0 if meaning.lesion is None else label == meaning.lesion
    # Training keeps many scans in memory: fp16, 1/2000 of the window, is enough.
    parts = dict(image=intensity.windowed(hu).astype(np.float16 if strata else np.float32), truth=truth)
    parts["body"] = ndimage.uniform_filter(hu.astype(np.float32), (1, 9, 9)) > -700
    if strata:
        if source.organ is not None:
            organ = _on_grid(image, source.organ) > 0
        else:
            organ = truth if meaning.organ is None else truth | (label == meaning.organ)
        parts |= _strata(source, hu, truth, organ)
    return parts


def _on_grid(image, path):
    """Voxels of the file at `path`, which has the grid of `image`, a Volume."""
    volume = read_volume(path)
    if volume.voxels.shape != image.voxels.shape:
        raise ValueError(f"{path}: shape {volume.voxels.shape}, but its image has {image.voxels.shape}")
    if not np.allclose(volume.origin, image.origin, atol=0.5 * min(image.spacing)):
        warnings.warn(
            f"{path}: origin {volume.origin}, but its image has {image.origin}: look whether labels are in place"
        )
    return volume.voxels


def _strata(source, hu, truth, organ):
    near = ndimage.binary_dilation(truth, np.ones((1, 3, 3)), iterations=SHELL)
    local = ndimage.gaussian_filter(hu.astype(np.float32), (0, 1.2, 1.2))
    lookalike = (local > LOOKALIKE_HU[0]) & (local < LOOKALIKE_HU[1]) & ~organ
    background = ~truth
    masks = {
        "lesion": truth,
        "shell": near & background,
        "liver": organ & background & ~near,
        "lookalike": lookalike & background & ~near,
        "anywhere": background,
    }
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(source.name.encode()).digest()[:8], "little"))
    parts, counts = {}, []
    for name, mask in masks.items():
        voxels = np.flatnonzero(mask).astype(np.int32 if mask.size < 1 << 31 else np.int64)
        counts.append(len(voxels))
        parts[f"stratum_{name}"] = voxels if len(voxels) <= KEPT else np.sort(rng.choice(voxels, KEPT, replace=False))
    labels, _ = ndimage.label(truth)
    voxels = np.flatnonzero(truth)
    owners = labels.ravel()[voxels]
    voxels = voxels[np.argsort(owners, kind="stable")].astype(np.int64)
    ends = np.cumsum(np.bincount(owners)[1:])
    return parts | {"counts": np.array(counts), "lesion_voxels": voxels, "lesion_ends": ends}


def _cached(cache, source, intensity, strata):
    """_computed, from the cache where it is there; a change of files, labels or intensity makes a new entry."""
    files = [path for path in (source.image, source.label, source.organ) if path]
    facts = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    facts = [facts, asdict(source.labels), list(intensity.window), intensity.equalize, strata, KEPT]
    folder = cache / f"{source.name}-{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]}"
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=".building-", dir=cache))
        try:
            for name, array in _computed(source, intensity, strata).items():
                np.save(building / f"{name}.npy", array)
            os.rename(building, folder)
        except BaseException as failed:
            shutil.rmtree(building, ignore_errors=True)
            if not (isinstance(failed, OSError) and folder.exists()):  # another process was faster
                raise
    order = ["image", "truth", "body"]
    if strata:
        order += [f"stratum_{name}" for name in ("lesion", "shell", "liver", "lookalike", "anywhere")]
        order += ["counts", "lesion_voxels", "lesion_ends"]
    return {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in order}


def load(sources, intensity, strata, cache=None, quiet=False):
    """Scans of Sources, with a progress bar."""
    bar = tqdm(sources, desc="reading scans", unit="scan", disable=True if quiet else None)
    return [Scan(source, intensity, strata, cache) for source in bar]
