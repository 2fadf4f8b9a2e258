"""Scans as files, each fact as a test wants it: DICOM series by pydicom, NIfTI and NRRD byte by byte."""

import gzip
import os
import struct

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

CT, ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1"
RT_DOSE, STRUCTURED_REPORT = "1.2.840.10008.5.1.4.1.1.481.2", "1.2.840.10008.5.1.4.1.1.88.11"
ROOT = "1.2.826.0.1.3680043.2.1125"
AXIAL = (1, 0, 0, 0, 1, 0)
SPACING = (0.75, 0.8, 2.5)  # mm, x, y, z
ORIGIN = (-120.5, 33.25, 810.0)  # mm


def rescaled(data, hu, slope=1, intercept=-1024, stored="u2"):
    """Gives a slice the pixels that mean `hu`."""
    data.RescaleSlope, data.RescaleIntercept = slope, intercept
    data.PixelRepresentation = int(stored.startswith("i"))
    data.BitsAllocated = data.BitsStored = 8 * int(stored[1])
    data.HighBit = data.BitsStored - 1
    data.PixelData = np.round((hu - intercept) / slope).astype(f"<{stored}").tobytes()
    data["PixelData"].VR = "OW"


def make_slice(hu, number, position, directions=AXIAL, spacing=SPACING, series="1"):
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = CT
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = f"{ROOT}.{series}.{number}"
    data.StudyInstanceUID, data.SeriesInstanceUID = f"{ROOT}.9", f"{ROOT}.9.{series}"
    data.FrameOfReferenceUID = f"{ROOT}.8"
    data.PatientName, data.PatientID, data.Modality, data.InstanceNumber = "Test^Scan", "1", "CT", number
    data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    data.ImagePositionPatient = [f"{value:.9g}" for value in position]
    data.ImageOrientationPatient = [f"{value:.9g}" for value in directions]
    data.PixelSpacing, data.SliceThickness = [spacing[1], spacing[0]], spacing[2]
    data.Rows, data.Columns = hu.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    rescaled(data, hu)
    return data


def write_series(folder, voxels, edit=None, step=None, origin=ORIGIN, directions=AXIAL, spacing=SPACING, series="1",
                 names="IM{:04}.dcm"):  # fmt: skip
    """A CT series of `voxels` [slice][row][column] in HU. `edit(data, index, hu)` changes a slice, False leaves it out;
    `step`: mm from slice to slice, where it is not the normal's."""
    os.makedirs(folder, exist_ok=True)
    normal = np.cross(directions[:3], directions[3:]) * spacing[2] if step is None else np.asarray(step)
    for index, hu in enumerate(voxels):
        data = make_slice(hu, index + 1, np.asarray(origin) + index * normal, directions, spacing, series)
        if edit is None or edit(data, index, hu) is not False:
            save(data, os.path.join(folder, names.format(index)))


def save(data, path):
    data.save_as(path, enforce_file_format=True)


def in_syntax(data, syntax):
    """A slice, uncompressed, in another transfer syntax."""
    if syntax == ExplicitVRBigEndian:
        words = np.frombuffer(data.PixelData, f"<u{data.BitsAllocated // 8}")
        data.PixelData = words.astype(words.dtype.newbyteorder(">")).tobytes()
    data.file_meta.TransferSyntaxUID = syntax
    return dict(implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=syntax != ExplicitVRBigEndian)


def other_object(kind, modality, series="5", **facts):
    """An object that is no CT image."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = kind
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = f"{ROOT}.{series}.1"
    data.StudyInstanceUID, data.SeriesInstanceUID, data.Modality = f"{ROOT}.9", f"{ROOT}.9.{series}", modality
    for name, value in facts.items():
        setattr(data, name, value)
    return data


def enhanced(voxels):
    """A multi-frame CT with the same facts in every frame."""
    data = make_slice(voxels[0], 1, ORIGIN)
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = ENHANCED_CT
    data.NumberOfFrames = len(voxels)
    data.PixelData = (voxels + 1024).astype("<u2").tobytes()
    data.SharedFunctionalGroupsSequence = Sequence([Dataset()])
    return data


def modality_lut():
    table = Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [4096, 0, 16], "HU"
    table.LUTData = np.arange(4096).astype("<u2").tobytes()
    table["LUTData"].VR = "OW"
    return Sequence([table])


def read(path):
    return pydicom.dcmread(path)


# ------------------------------------------------------------------------------------------------------------- NIfTI

AFFINE = np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1.0])  # right-anterior-superior
AFFINE[:3, 3] = [-ORIGIN[0], -ORIGIN[1], ORIGIN[2]]
NIFTI_TYPES = {"u1": 2, "i2": 4, "i4": 8, "f4": 16, "f8": 64, "i1": 256, "u2": 512, "u4": 768, "i8": 1024}


def nifti(voxels, sform=AFFINE, qform=None, pixdim=SPACING, slope=1.0, intercept=0.0, order="<", **fields):
    """The bytes of a NIfTI-1 file. sform: an affine or None; qform: quaternion b, c, d, offset and qfac, or None."""
    kind = voxels.dtype.str[1:]
    header = bytearray(352)
    put = lambda place, code, *values: struct.pack_into(order + code, header, place, *values)  # noqa: E731
    put(0, "i", fields.get("sizeof_hdr", 348))
    put(40, "8h", *fields.get("dim", (3, *voxels.shape[::-1], 1, 1, 1, 1)))
    put(70, "2h", fields.get("datatype", NIFTI_TYPES[kind]), 8 * voxels.itemsize)
    put(76, "8f", 1 if qform is None else qform[2], *pixdim, 0, 0, 0, 0)
    put(108, "3f", fields.get("vox_offset", 352), slope, intercept)
    header[123] = fields.get("units", 2)
    put(252, "2h", int(qform is not None), int(sform is not None))
    if qform is not None:
        put(256, "6f", *qform[0], *qform[1])
    if sform is not None:
        put(280, "12f", *np.asarray(sform)[:3].ravel())
    header[344:348] = b"n+1\0"
    return bytes(header) + voxels.astype(voxels.dtype.newbyteorder(order)).tobytes()


QFORM = ((0.0, 0.0, 1.0), (-ORIGIN[0], -ORIGIN[1], ORIGIN[2]), 1)  # half a turn about z: the same place as AFFINE
MIRRORED = ((0.0, 1.0, 0.0), (-ORIGIN[0], -ORIGIN[1], ORIGIN[2]), -1)  # x runs the same way, y the other one


# -------------------------------------------------------------------------------------------------------------- NRRD


def nrrd(voxels, encoding="raw", data=None, **fields):
    """The bytes of an NRRD file; a field of None is left out."""
    header = {
        "type": {"i2": "short", "f4": "float"}[voxels.dtype.str[1:]],
        "dimension": "3",
        "space": "left-posterior-superior",
        "sizes": " ".join(map(str, voxels.shape[::-1])),
        "space_directions": "({},0,0) (0,{},0) (0,0,{})".format(*SPACING),
        "endian": "little",
        "encoding": encoding,
        "space_origin": "({},{},{})".format(*ORIGIN),
        **fields,
    }
    lines = ["NRRD0004", *(f"{key.replace('_', ' ')}: {value}" for key, value in header.items() if value is not None)]
    raw = voxels.tobytes()
    data = data if data is not None else gzip.compress(raw) if encoding == "gzip" else raw
    return ("\n".join(lines) + "\n\n").encode() + data
