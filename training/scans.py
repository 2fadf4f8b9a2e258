"""Folders of scans with labels -> what training needs of each: intensities, classes, and the voxels of each stratum.

    phantoms    NAME_ct.nrrd, NAME_truth.nrrd (above 0 is lesion), NAME_liver.nrrd
    LiTS        volume-N.nii[.gz], segmentation-N.nii[.gz]: 0 background, 1 liver, 2 lesion; also as NRRD
    stacks      volume-N/KKK.jpg, volume-N/KKK_labels.png: see stack.py
    others      any two patterns with one * for the scan's name, of NRRD or NIfTI files

Folders are searched with all that is in them; labels lie beside their images. Slices are resampled to `pixel_mm` where
it is given; a voxel is then lesion, or organ, where at least half of it is.

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

import resampling
import stack
from painted import painted
from progress import Progress
from volume_io import Volume, read_volume

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

    def read(self):
        """(Volume of HU, boolean arrays of lesion and organ on its grid or None where no organ is labelled)."""
        if self.image.is_dir():
            image, label = Volume(stack.read_hu(self.image), stack.SPACING), stack.read_labels(self.image)
        else:
            image = read_volume(self.image)
            label = _on_grid(image, self.label)
        only, lesion, organ = self.labels.only, self.labels.lesion, self.labels.organ
        unknown = [] if only is None else label[np.isin(label, only, invert=True)]
        if len(unknown):
            raise ValueError(f"{self.label}: label {unknown[0]}, but only {', '.join(map(str, only))} are known "
                             "here: --lesion-label and --organ-label say which count")  # fmt: skip
        truth = label > 0 if lesion is None else label == lesion
        if self.organ is not None:
            return image, truth, _on_grid(image, self.organ) > 0
        return image, truth, None if organ is None else truth | (label == organ)


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
    if patterns is None and (folders := sorted(path for path in folder.rglob("volume-*") if stack.slices(path))):
        return [Source(path.name.removeprefix("volume-"), path, path, None, labels or LITS) for path in folders]
    tried = ", ".join(layout[0] for layout in layouts)
    raise ValueError(f"{folder}: no scans ({tried}); make phantoms with phantom.py, or name yours with --pattern")


def choose(sources, only=None, leave_out=()):
    """Those of these names but not of those. A name that no scan has is refused: it may be a scan that was to be set aside."""
    names = [source.name for source in sources]
    if unknown := [name for name in (*(only or ()), *leave_out) if name not in names]:
        raise ValueError(f"{', '.join(unknown)}: no scan of this name; there are {', '.join(names)}")
    chosen = [source for source in sources if source.name not in leave_out and (only is None or source.name in only)]
    if not chosen:
        raise ValueError("no scans are left by --only and --leave-out")
    return chosen


class Scan:
    """One scan: windowed intensities, classes, and the voxels of each stratum.

    image [slices][rows][columns] is 0..1, black outside: `window` cuts where a patch reaches over the border.
    classes: 0 background, 1 organ, 2 lesion. counts: voxels of each stratum; strata: (part of) their flat indices;
    lesions: those of each connected lesion. copy: 0 is the scan itself, the others have lesions painted into the organ.
    """

    def __init__(self, source, intensity, pixel_mm=None, cache=None, copy=0):
        self.name = f"{source.name}-{copy}" if copy else source.name
        if cache is None:
            parts = _computed(source, intensity, pixel_mm, copy)
        else:
            parts = _cached(Path(cache), source, intensity, pixel_mm, copy)
        self.image, self.classes = parts["image"], parts["classes"]
        self.shape = self.image.shape
        self.strata = {key.removeprefix("stratum_"): parts[key] for key in parts if key.startswith("stratum_")}
        self.counts = dict(zip(self.strata, parts["counts"].tolist()))
        ends = parts["lesion_ends"]
        self.lesions = np.split(parts["lesion_voxels"], ends[:-1]) if len(ends) else []

    def frequency(self, stratum):
        """Share of all voxels."""
        return self.counts[stratum] / self.image.size

    @staticmethod
    def window(part, k, top, left, side):
        """[side][side] of slice k of image or classes from (top, left) on, 0 outside."""
        inside = part[k, max(0, top) : max(0, top + side), max(0, left) : max(0, left + side)]
        if inside.shape == (side, side):
            return inside
        cut = np.zeros((side, side), part.dtype)
        y, x = max(0, -top), max(0, -left)
        cut[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
        return cut


def _computed(source, intensity, pixel_mm, copy):
    """Everything about one scan, as arrays by name."""
    image, truth, organ = source.read()
    if copy and organ is None:
        raise ValueError(f"{source.label}: no organ is labelled that lesions could be painted into")
    organ = truth if organ is None else organ | truth
    hu = image.voxels
    if pixel_mm:
        rows, columns = (resampling.length_at(n, s, pixel_mm) for n, s in zip(hu.shape[1:], image.spacing[1:]))
        hu = resampling.resized(hu, rows, columns)
        truth, organ = (resampling.resized(mask, rows, columns) >= 0.5 for mask in (truth, organ))
    rng = np.random.default_rng([copy, int.from_bytes(hashlib.sha256(source.name.encode()).digest()[:8], "little")])
    if copy:
        hu, truth = painted(hu, organ, truth, pixel_mm or float(np.mean(image.spacing[1:])), rng)
    # Training keeps many scans in memory: fp16, 1/2000 of the window, is enough.
    parts = dict(image=intensity.windowed(hu).astype(np.float16), classes=organ.astype(np.uint8) + truth)
    return parts | _strata(hu, truth, organ | truth, rng)


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


def _strata(hu, truth, organ, rng):
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


def _cached(cache, source, intensity, pixel_mm, copy):
    """_computed, from the cache where it is there; a change of files, labels or intensity makes a new entry."""
    files = [path for path in (source.image, source.label, source.organ) if path]
    facts = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    facts = [facts, asdict(source.labels), list(intensity.window), intensity.equalize, pixel_mm, KEPT, copy]
    folder = cache / f"{source.name}-{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]}"
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=".building-", dir=cache))
        try:
            for name, array in _computed(source, intensity, pixel_mm, copy).items():
                np.save(building / f"{name}.npy", array)
            os.rename(building, folder)
        except BaseException as failed:
            shutil.rmtree(building, ignore_errors=True)
            if not (isinstance(failed, OSError) and folder.exists()):  # another process was faster
                raise
    order = ["image", "classes"]
    order += [f"stratum_{name}" for name in ("lesion", "shell", "liver", "lookalike", "anywhere")]
    order += ["counts", "lesion_voxels", "lesion_ends"]
    return {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in order}


def load(sources, intensity, pixel_mm=None, cache=None, quiet=False, copies=()):
    """Scans of Sources, with a progress bar; or their copies of these numbers."""
    wanted = [(source, copy) for source in sources for copy in copies or (0,)]
    return [Scan(source, intensity, pixel_mm, cache, copy) for source, copy in Progress(wanted, "reading", "scans", quiet)]
