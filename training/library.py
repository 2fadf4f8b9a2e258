"""The library's own call on a whole scan."""

from volume_io import patchmask


class Library:
    """A session with an exported model. `threshold` is the file's, or 0.5."""

    def __init__(self, path, **options):
        self.session = patchmask.Session(path, **options)
        self.threshold = self.session.options["threshold"] or 0.5

    def probability(self, volume, roi=None):
        """Of lesion, float32 on the voxels of `volume`; roi: boolean, on the same voxels."""
        _, down, across = volume.spacing
        return self.session.segment(volume.voxels, roi, spacing=(across, down), mask=False, probability=True).probability
