"""Folders of scans with labels -> what training needs of each: intensities, truth, and the voxels of each stratum.

    phantoms    NAME_ct.nrrd, NAME_truth.nrrd (above 0 is lesion), NAME_liver.nrrd
    LiTS        volume-N.nii[.gz], segmentation-N.nii[.gz]: 1 liver, 2 lesion; the challenge's folders as they are
    others      any two patterns with one * for the scan's name, of NRRD or NIfTI files

A CT collection at full size does not fit in memory (LiTS: 30 GB as fp16). With a cache folder everything is computed once,
kept there as .npy files, and read through memory maps.
"""

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage
from tqdm import tqdm

from volume_io import read_volume

SHELL = 3  # pixels
LOOKALIKE_HU = (-10, 100)
KEPT = 1 << 22  # voxels listed per stratum and scan; of larger ones a random part, and their count
LAYOUTS = (  # image, label, organ, lesion label, organ label; None: every label above 0
    ("*_ct.nrrd", "*_truth.nrrd", "*_liver.nrrd", None, None),
    ("volume-*.nii", "segmentation-*.nii", None, 2, 1),
    ("volume-*.nii.gz", "segmentation-*.nii.gz", None, 2, 1),
)


@dataclass(frozen=True)
class Source:
    """Where one scan and its labels are."""

    name: str
    image: Path
    label: Path
    organ: Path | None  # a file of its own, or a label of `label`:
    lesion_label: int | None
    organ_label: int | None


def find(folder, patterns=None, lesion_label=None, organ_label=None):
    """The Sources of a folder, in the order of their file names. patterns: (image, label), each with one `*`."""
    folder = Path(folder)
    layouts = LAYOUTS if patterns is None else ((*patterns, None, None, None),)
    for image, label, organ, lesions, organs in layouts:
        sources = []
        for path in folder.glob(image):
            before, after = image.split("*")
            name = path.name[len(before) : len(path.name) - len(after)]
            beside = lambda pattern: path.with_name(pattern.replace("*", name))  # noqa: B023, E731
            if not beside(label).exists():
                raise SystemExit(f"{beside(label)}: missing, the labels of {path.name}")
            mine = beside(organ) if organ and beside(organ).exists() else None
            sources.append(Source(name, path, beside(label), mine, lesion_label or lesions, organ_label or organs))
        if sources:
            return sorted(sources, key=lambda source: source.image)
    tried = ", ".join(layout[0] for layout in layouts)
    raise SystemExit(f"{folder}: no scans ({tried}); make phantoms with phantom.py, or name yours with --pattern")


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
            self.lesions = np.split(parts["lesion_voxels"], parts["lesion_ends"][:-1]) if len(parts["lesion_ends"]) else []

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
    hu = read_volume(source.image).voxels
    label = read_volume(source.label).voxels
    if label.shape != hu.shape:
        raise SystemExit(f"{source.label}: shape {label.shape}, but {source.image.name} has {hu.shape}")
    truth = label > 0 if source.lesion_label is None else label == source.lesion_label
    # Training keeps many scans in memory: fp16, 1/2000 of the window, is enough.
    parts = dict(image=intensity.windowed(hu).astype(np.float16 if strata else np.float32), truth=truth)
    parts["body"] = ndimage.uniform_filter(hu.astype(np.float32), (1, 9, 9)) > -700
    if strata:
        if source.organ is not None:
            organ = read_volume(source.organ).voxels > 0
        else:
            organ = truth if source.organ_label is None else truth | (label == source.organ_label)
        parts |= _strata(source, hu, truth, organ)
    return parts


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
    return parts | {"counts": np.array(counts), "lesion_voxels": voxels, "lesion_ends": np.cumsum(np.bincount(owners)[1:])}


def _cached(cache, source, intensity, strata):
    """_computed, from the cache where it is there; a change of files, labels or intensity makes a new entry."""
    files = [path for path in (source.image, source.label, source.organ) if path]
    facts = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    facts = [facts, source.lesion_label, source.organ_label, list(intensity.window), intensity.equalize, strata, KEPT]
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
    bar = tqdm(sources, desc=f"reading {sources[0].image.parent}", unit="scan", disable=True if quiet else None)
    return [Scan(source, intensity, strata, cache) for source in bar]
