"""Real scans through `segment`: NIfTI with a ROI, and a DICOM series.

    PATCHMASK_TEST_DATA=folder .venv/bin/python tests/real/run.py      SEGMENT=path, else build/segment

The folder holds `ct_torso.nii.gz`, `ct_torso_organs.nii.gz` (5: liver) and `ct_head_dicom/`. SimpleITK converts them to
NRRD, the demo model segments them, and the mask must lie on the same grid (size, spacing, origin, directions), be empty
outside the ROI, and turn with the scan when its axes are flipped. There is no truth for these scans: this shows that
real files run through, not how accurate a model is.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk

ROOT = Path(__file__).resolve().parents[2]
SEGMENT = os.environ.get("SEGMENT", ROOT / "build/segment")
LIVER = 5


def segment(name, image, *options, roi=None):
    """Mask and report of `image`; checks that the mask lies on the same grid."""
    with tempfile.TemporaryDirectory() as folder:
        path = lambda file: os.path.join(folder, file)
        sitk.WriteImage(image, path("ct.nrrd"))
        command = [SEGMENT, "--quiet", "--model", ROOT / "examples/demo/model.safetensors", *options]
        if roi is not None:
            sitk.WriteImage(roi, path("roi.nrrd"))
            command += ["--roi", path("roi.nrrd")]
        command += ["--report", path("report.json"), path("ct.nrrd"), path("mask.nrrd")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0 or done.stderr:
            sys.exit(f"FAILED {name}: exit {done.returncode}: {done.stderr}")
        mask, report = sitk.ReadImage(path("mask.nrrd")), json.loads(Path(path("report.json")).read_text())
    for what in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        have, want = getattr(mask, what)(), getattr(image, what)()
        if not np.allclose(have, want, rtol=0, atol=1e-6):
            sys.exit(f"FAILED {name}: mask {what} {have}, scan {want}")
    mask = sitk.GetArrayFromImage(mask)
    less, ml = report["macs_unshared"] / report["macs"], (mask != 0).sum() * np.prod(image.GetSpacing()) / 1000
    work = f"{report['patches']} patches, {less:.1f} times less work than patch by patch"
    print(f"ok {name}: {image.GetSize()} voxels, {work}, {report['timings_s']['segment']:.1f} s, lesion {ml:.1f} ml")
    return mask


def torso(data):
    image = sitk.ReadImage(data / "ct_torso.nii.gz")
    liver = sitk.Cast(sitk.ReadImage(data / "ct_torso_organs.nii.gz") == LIVER, sitk.sitkUInt8)
    mask = segment("torso (NIfTI, liver as ROI)", image, roi=liver)
    if mask[sitk.GetArrayFromImage(liver) == 0].any():
        sys.exit("FAILED torso: lesion outside the ROI")

    # The network is not symmetric, so the mask of the swapped scan differs, but its grid must be that scan's.
    middle = image[:, :, image.GetSize()[2] // 2 :][:, :, :2]
    segment("swapped axes", sitk.PermuteAxes(middle, [1, 0, 2]), "--stride", "16")
    # Flipping only the direction of an axis, voxels untouched, must not change a voxel of the mask.
    turned = sitk.Image(middle)
    turned.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    masks = [segment(name, scan, "--stride", "8") for name, scan in (("middle", middle), ("turned axes", turned))]
    if not np.array_equal(*masks):
        sys.exit("FAILED turned: the mask follows the directions, it must follow the voxels")


if __name__ == "__main__":
    folder_of_scans = Path(os.environ["PATCHMASK_TEST_DATA"])
    torso(folder_of_scans)
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder_of_scans / "ct_head_dicom"))
    # A coarse stride: what a liver model says about a head is of no interest.
    segment(f"head (DICOM series of {len(names)} files)", sitk.ReadImage(names), "--stride", "8")
