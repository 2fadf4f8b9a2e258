"""Stacks of slices as pictures: a folder volume-N with KKK.jpg and KKK_labels.png (0 background, 1 liver, 2 lesion).

A public copy of LiTS has this layout: HU of -40 to 160 as grey levels, no spacing. Slices may be missing between others.
"""

import numpy as np
import SimpleITK as sitk

HU = (-40.0, 160.0)  # of grey 0 and 255
SPACING = (1.0, 0.75, 0.75)  # taken; the files do not say


def slices(folder):
    """The pictures of a stack in the order of their numbers."""
    return sorted(path for path in folder.glob("*.jpg"))


def read_hu(folder):
    """float32 [slices][rows][columns]."""
    grey = _read(slices(folder))
    return grey.astype(np.float32) * ((HU[1] - HU[0]) / 255) + HU[0]


def read_labels(folder):
    """uint8 [slices][rows][columns]."""
    return _read([path.with_name(f"{path.stem}_labels.png") for path in slices(folder)])


def _read(paths):
    try:
        pictures = [sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in paths]
        return np.stack(pictures)
    except (RuntimeError, ValueError) as error:  # missing, broken, or of different shapes
        raise ValueError(f"{paths[0].parent}: {str(error).strip().splitlines()[-1]}") from error
