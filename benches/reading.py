"""Seconds that reading a DICOM series of 300 slices takes, compared with SimpleITK.

    build/venv-python/bin/python benches/reading.py      # after `make test-python`, or with patchmask[images] installed

The series has headers as scanners write them, 120 elements with private ones, and 512 x 512 pixels. Runs alternate; the
least of each counts. The target is at most 1.5 times SimpleITK's time.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk

TOP = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TOP / "python"), str(TOP / "tests/python")]

from dicom_files import item, write_series  # noqa: E402
from patchmask import images  # noqa: E402

SLICES, RUNS, TARGET = 300, 7, 1.5


def scanner(ds, i):
    """The elements of a CT that say nothing about its grid."""
    ds.Manufacturer, ds.StudyDescription, ds.ConvolutionKernel, ds.ProtocolName = "A", "Abdomen", "B30f", "Routine"
    for keyword in ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate"):
        setattr(ds, keyword, "20240101")
    for keyword in (
        "KVP",
        "DataCollectionDiameter",
        "TableHeight",
        "SliceLocation",
        "GantryDetectorTilt",
        "FocalSpots",
    ):
        setattr(ds, keyword, "0.5")
    ds.WindowCenter, ds.WindowWidth, ds.PatientPosition = [40, -600], [400, 1200], "HFS"
    ds.ProcedureCodeSequence = item(CodeValue="1", CodingSchemeDesignator="2", CodeMeaning="3")
    ds.SourceImageSequence = item(ReferencedSOPClassUID="1.2", ReferencedSOPInstanceUID="1.2.3")
    numbers, blocks = (ds.private_block(group, "VENDOR", create=True) for group in (0x19, 0x29))
    for k in range(70):
        numbers.add_new(k, "DS", "1.0")
    blocks.add_new(0, "OB", bytes(8000))


def seconds(run):
    began = time.perf_counter()
    image = run()
    assert image.GetSize()[2] == SLICES
    return time.perf_counter() - began


def main():
    with tempfile.TemporaryDirectory() as name:
        noise = np.random.default_rng(0).normal(0, 50, (SLICES, 512, 512)).astype(np.int16)
        write_series(Path(name), noise, scanner)
        find = sitk.ImageSeriesReader.GetGDCMSeriesFileNames
        runs = [(seconds(lambda: sitk.ReadImage(find(name))), seconds(lambda: images.read(name))) for _ in range(RUNS)]
    theirs, ours = (min(column) for column in zip(*runs))
    print(f"SimpleITK {theirs:.2f} s, patchmask {ours:.2f} s: {ours / theirs:.2f} times (target {TARGET})")
    return int(ours > TARGET * theirs)


if __name__ == "__main__":
    sys.exit(main())
