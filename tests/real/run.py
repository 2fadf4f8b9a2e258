"""Real scans through `segment`: NIfTI with a ROI, and a DICOM series.

    PATCHMASK_TEST_DATA=folder .venv/bin/python tests/real/run.py      SEGMENT=path, else build/segment

The folder holds `ct_torso.nii.gz`, `ct_torso_organs.nii.gz` (5: liver) and `ct_head_dicom/`. Files are
converted to NRRD with SimpleITK, segmented with the demo model, and read back: the mask must lie on the
same grid (size, spacing, origin, directions), be empty outside the ROI, and turn with the scan when its
axes are flipped. There is no truth for these scans: this shows that real files run through, not how
accurate a model is.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk

ROOT = Path(__file__).resolve().parent.parent.parent
SEGMENT = os.environ.get("SEGMENT", str(ROOT / "build/segment"))
MODEL = ROOT / "examples/demo/model.safetensors"
LIVER = 5


def fail(text):
    sys.exit(f"FAILED {text}")


def segment(folder, name, image, roi=None, options=()):
    """Mask and report of `image`; checks that the mask lies on the same grid."""
    scan, mask, report = (str(folder / f"{name}{end}") for end in ("_ct.nrrd", "_mask.nrrd", ".json"))
    sitk.WriteImage(image, scan)
    command = [SEGMENT, "--quiet", "--model", str(MODEL), "--report", report, *options]
    if roi is not None:
        sitk.WriteImage(roi, str(folder / f"{name}_roi.nrrd"))
        command += ["--roi", str(folder / f"{name}_roi.nrrd")]
    done = subprocess.run([*command, scan, mask], capture_output=True, text=True)
    if done.returncode != 0 or done.stderr:
        fail(f"{name}: exit {done.returncode}: {done.stderr}")
    result = sitk.ReadImage(mask)
    for what in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        have, want = getattr(result, what)(), getattr(image, what)()
        if not np.allclose(have, want, rtol=0, atol=1e-6):
            fail(f"{name}: mask {what} {have}, scan {want}")
    return sitk.GetArrayFromImage(result), json.loads(Path(report).read_text())


def tell(name, image, mask, report):
    millilitres = mask.astype(bool).sum() * np.prod(image.GetSpacing()) / 1000
    saved = report["macs_unshared"] / report["macs"]
    print(
        f"ok {name}: {image.GetSize()} voxels of {tuple(round(s, 2) for s in image.GetSpacing())} mm, "
        f"{report['patches']} patches, {saved:.1f} times less work than patch by patch, "
        f"{report['timings_s']['segment']:.1f} s, lesion {millilitres:.1f} ml"
    )


def torso(folder, data):
    image = sitk.ReadImage(str(data / "ct_torso.nii.gz"))
    organs = sitk.ReadImage(str(data / "ct_torso_organs.nii.gz"))
    liver = sitk.Cast(organs == LIVER, sitk.sitkUInt8)
    mask, report = segment(folder, "torso", image, liver)
    inside = sitk.GetArrayFromImage(liver).astype(bool)
    if mask[~inside].any():
        fail("torso: lesion outside the ROI")
    tell("torso (NIfTI, liver as ROI)", image, mask, report)

    # The middle slices with x and y swapped: the network is not symmetric, so the mask of the swapped
    # scan differs, but its geometry must be that of the swapped scan, checked in `segment`.
    size = image.GetSize()
    middle = image[:, :, size[2] // 2 : size[2] // 2 + 2]
    swapped = sitk.PermuteAxes(middle, [1, 0, 2])
    segment(folder, "swapped", swapped, options=["--stride", "16"])
    # Flipping only the direction of an axis, voxels untouched, must not change a voxel of the mask.
    plain, _ = segment(folder, "middle", middle, options=["--stride", "8"])
    turned = sitk.Image(middle)
    turned.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    same, _ = segment(folder, "turned", turned, options=["--stride", "8"])
    if not np.array_equal(plain, same):
        fail("turned: the mask follows the directions, it must follow the voxels")
    print("ok torso with swapped and turned axes")


def head(folder, data):
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(data / "ct_head_dicom"))
    image = sitk.ReadImage(names)
    # A coarse stride: what a liver model says about a head is of no interest.
    mask, report = segment(folder, "head", image, options=["--stride", "8"])
    tell(f"head (DICOM series of {len(names)} files)", image, mask, report)


def main():
    data = Path(os.environ["PATCHMASK_TEST_DATA"])
    with tempfile.TemporaryDirectory() as folder:
        torso(Path(folder), data)
        head(Path(folder), data)


if __name__ == "__main__":
    main()
