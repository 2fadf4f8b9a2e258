"""The library's own call on a whole scan, at the model's pixel size and threshold.

The library does not know `patchmask.pixel_mm` and `patchmask.threshold` yet: until it does, slices are resampled here,
and the threshold is applied here.
"""

from safetensors import safe_open
from safetensors.numpy import save

import resampling
from volume_io import patchmask


class Library:
    """A session with an exported model. `threshold` is the file's, or 0.5."""

    def __init__(self, path, **options):
        with safe_open(path, "numpy") as file:
            metadata, tensors = dict(file.metadata()), {name: file.get_tensor(name) for name in file.keys()}
        self.pixel_mm = float(metadata.pop("patchmask.pixel_mm", 0))
        self.threshold = float(metadata.pop("patchmask.threshold", 0.5))
        self.session = patchmask.Session(save(tensors, metadata), **options)

    def probability(self, volume, roi=None):
        """Of lesion, float32 on the voxels of `volume`; roi: boolean, on the same voxels."""
        hu, shape = volume.voxels, volume.voxels.shape[1:]
        if self.pixel_mm:
            there = [resampling.length_at(n, s, self.pixel_mm) for n, s in zip(shape, volume.spacing[1:])]
            hu = resampling.resized(hu, *there)
            roi = None if roi is None else resampling.resized(roi, *there) > 0
        found = self.session.segment(hu, roi, mask=False, probability=True).probability
        back = resampling.nearest if self.session.options["fill"] == "nearest" else resampling.resized
        return back(found, *shape)
