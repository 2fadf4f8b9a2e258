"""DICOM files for the tests, written with pydicom: a series of single slices, and a multi-frame file."""

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian

SPACING, ORIGIN = (1.5, 1.25, 3.0), (-30.0, -20.5, 100.25)
AXIAL = (1, 0, 0, 0, 1, 0)
LEAVE_OUT = "leave out"  # what an edit returns for a slice that shall be missing


def volume(slices=6):
    """HU from -1024 to 1500, different in every voxel's neighbourhood."""
    return np.random.default_rng(7).integers(-1024, 1500, (slices, 40, 48)).astype(np.int16)


def dataset(sop_class, instance, series="1.2.9"):
    """What every image has."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = sop_class
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = instance
    ds.Modality, ds.PatientID, ds.PatientName = "CT", "1", "A^B"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = "1.2", series, "1.2.8"
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    return ds


def put_pixels(ds, hu, slope=1, intercept=-1024, kind="<u2"):
    """Stores HU by these factors; `kind` is the type of the pixels."""
    kind = np.dtype(kind)
    ds.RescaleSlope, ds.RescaleIntercept = slope, intercept
    ds.BitsAllocated = ds.BitsStored = kind.itemsize * 8
    ds.HighBit, ds.PixelRepresentation = ds.BitsStored - 1, int(kind.kind == "i")
    ds.Rows, ds.Columns = hu.shape[-2:]
    ds.PixelData = np.round((hu.astype(float) - intercept) / slope).astype(kind).tobytes()
    ds["PixelData"].VR = "OW"


def write_series(folder, hu, edit=None, iop=AXIAL, step=None, series="1.2.9", name="IM{:04d}.dcm", first=0):
    """One file a slice; `edit(ds, i)` changes it before it is written, or leaves it out. Returns the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    normal = np.cross(iop[:3], iop[3:])
    paths = []
    for i, plane in enumerate(hu):
        ds = dataset(CTImageStorage, f"{series}.{first + i + 1}", series)
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.InstanceNumber = first + i + 1
        move = normal * SPACING[2] if step is None else np.array(step, float)
        ds.ImagePositionPatient = [float(f"{x:.9g}") for x in np.array(ORIGIN) + move * (first + i)]
        ds.ImageOrientationPatient = [float(f"{x:.9g}") for x in iop]
        ds.PixelSpacing, ds.SliceThickness = [SPACING[1], SPACING[0]], SPACING[2]
        put_pixels(ds, plane)
        if edit is not None and edit(ds, i) == LEAVE_OUT:
            continue
        paths.append(folder / name.format(first + i))
        ds.save_as(paths[-1], enforce_file_format=True)
    return paths


def item(**values):
    """A sequence of one item."""
    one = Dataset()
    for keyword, value in values.items():
        setattr(one, keyword, value)
    return Sequence([one])


def write_enhanced(path, hu, order=None, factors=None, edit=None, positions=None, instance="1.2.7.1"):
    """A multi-frame file: frames in any `order`, each with its own (slope, intercept) where `factors` are given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ds = dataset(EnhancedCTImageStorage, instance)
    order = list(range(len(hu))) if order is None else order
    shared = Dataset()
    shared.PixelMeasuresSequence = item(PixelSpacing=[SPACING[1], SPACING[0]], SliceThickness=SPACING[2])
    shared.PlaneOrientationSequence = item(ImageOrientationPatient=list(map(float, AXIAL)))
    if factors is None:
        shared.PixelValueTransformationSequence = item(RescaleSlope=1, RescaleIntercept=-1024, RescaleType="HU")
    frames, pixels = [], []
    for k in order:
        frame = Dataset()
        z = ORIGIN[2] + SPACING[2] * k
        place = [ORIGIN[0], ORIGIN[1], z] if positions is None else positions(k)
        frame.PlanePositionSequence = item(ImagePositionPatient=[float(x) for x in place])
        slope, intercept = (1, -1024) if factors is None else factors[k]
        if factors is not None:
            frame.PixelValueTransformationSequence = item(
                RescaleSlope=slope, RescaleIntercept=intercept, RescaleType="HU"
            )
        frames.append(frame)
        pixels.append(np.round((hu[k].astype(float) - intercept) / slope))
    ds.SharedFunctionalGroupsSequence, ds.PerFrameFunctionalGroupsSequence = Sequence([shared]), Sequence(frames)
    ds.NumberOfFrames = len(order)
    put_pixels(ds, np.array(pixels), 1, 0)
    del ds.RescaleSlope, ds.RescaleIntercept
    if edit is not None:
        edit(ds)
    ds.save_as(path, enforce_file_format=True)
    return path


def jpeg_lossless(path):
    """Compresses a file in place, with GDCM: pydicom has no encoder for it."""
    import gdcm

    reader, writer, change = gdcm.ImageReader(), gdcm.ImageWriter(), gdcm.ImageChangeTransferSyntax()
    reader.SetFileName(str(path))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()


def recode(path, syntax):
    """The same file in another transfer syntax."""
    from pydicom import uid
    from pydicom.filewriter import dcmwrite

    if syntax == uid.JPEGLosslessSV1:
        return jpeg_lossless(path)
    ds = pydicom.dcmread(path)
    if syntax in (uid.JPEG2000Lossless, uid.JPEGLSLossless, uid.RLELossless):
        ds.compress(syntax, generate_instance_uid=False)
    elif syntax == uid.ExplicitVRBigEndian:
        ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
    ds.file_meta.TransferSyntaxUID = syntax
    form = {"implicit_vr": syntax == uid.ImplicitVRLittleEndian, "little_endian": syntax != uid.ExplicitVRBigEndian}
    return dcmwrite(path, ds, enforce_file_format=True, overwrite=True, **form)
