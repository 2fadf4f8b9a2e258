"""What `lesions` reads right and what it refuses, kind by kind. Run by lesions_cli.py.

A scan that is read right has lesions at BOXES: a wrong HU, a slice in another place or a wrong axis moves or removes them."""

import gzip
import os
import shutil

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless

import scan_files
from lesions_cli import LesionsCase, make_scan
from scan_files import AFFINE, MIRRORED, ORIGIN, QFORM, SPACING, rescaled, write_series

SCAN = make_scan(direction=(1, 0, 0, 0, 1, 0, 0, 0, 1))
VOXELS = sitk.GetArrayFromImage(SCAN)  # [slice][row][column], HU
LAST = len(VOXELS) - 1


class ReadingCase(LesionsCase):
    axes = ()

    def read(self, name, *options, scan=SCAN, places=4, told=()):
        labels, rows = self.find(name, *options)
        self.assert_same_grid(labels, scan, places)
        self.assert_lesions(labels, rows, scan)
        self.assertEqual(len(self.told), len(told), self.told)
        for line, text in zip(self.told, told):
            self.assertIn(text, line)

    def nearly(self, name):
        """Axes 0.1 % off a right angle: the same voxels, and a volume that is off by less."""
        labels, rows = self.find(name)
        self.assertEqual([row["voxels"] for row in rows], [2048, 1024])
        self.assertAlmostEqual(rows[0]["volume_mm3"] / (2048 * np.prod(SPACING)), 1, places=5)
        self.assertAlmostEqual(np.reshape(labels.GetDirection(), (3, 3))[1, 2], 0.001, places=6)

    def bad(self, name, *says, options=()):
        paths = (name, "labels.nrrd", "lesions.csv")
        for text in says:
            self.refuse(1, "--model", "model.safetensors", "--device", "cpu", *options, *paths, says=text)

    def series(self, name="series", voxels=VOXELS, **keywords):
        shutil.rmtree(self.path(name), ignore_errors=True)
        write_series(self.path(name), voxels, **keywords)
        return name

    def edited(self, edit):
        return self.series(edit=lambda data, index, hu: edit(data, index))

    def at(self, index, **facts):
        """A series whose slice `index` (None: all) has other facts; a fact of None is left out."""

        def edit(data, number):
            for name, value in facts.items() if index in (None, number) else ():
                delattr(data, name) if value is None else setattr(data, name, value)

        return self.edited(edit)

    def write(self, name, content):
        with open(self.path(name), "wb") as file:
            file.write(content)
        return name


class Series(ReadingCase):
    """Facts that differ by slice count for that slice."""

    def test_pixels_by_the_numbers_of_each_slice(self):
        kinds = (
            dict(intercept=0, stored="u2"),
            dict(intercept=-1024, stored="i2"),
            dict(slope=0.5, intercept=-1000.5, stored="u2"),
            dict(slope=-2, intercept=1000, stored="i4"),
            dict(slope=1, intercept=-100, stored="u1"),
        )
        for turn in range(len(kinds)):
            with self.subTest(first=kinds[turn]):
                self.read(self.series(edit=lambda data, i, hu: rescaled(data, hu, **kinds[(i + turn) % len(kinds)])))

    def test_unused_bits_are_not_pixels(self):
        """An old overlay in the upper bits of some slices, signed and unsigned."""

        def edit(data, index, hu):
            signed = index % 2
            rescaled(data, hu, intercept=0 if signed else -1024, stored="i2" if signed else "u2")
            data.BitsStored, data.HighBit = 12, 11
            words = np.frombuffer(data.PixelData, "<u2") & 0xFFF
            data.PixelData = (words | np.arange(words.size).astype("<u2") << 12).astype("<u2").tobytes()

        self.read(self.series(edit=edit))

    def test_monochrome_1_is_about_display(self):
        self.read(self.at(2, PhotometricInterpretation="MONOCHROME1"))
        self.read(self.at(None, PhotometricInterpretation="MONOCHROME1"))

    def test_slices_lie_by_position(self):
        names = iter(("b", "10", "2", "a.dcm", "zz"))
        self.series(edit=lambda data, index, hu: setattr(data, "InstanceNumber", 7 - index))
        for name in sorted(os.listdir(self.path("series"))):
            os.rename(self.path("series", name), self.path("series", next(names)))
        self.read("series")
        write_series(self.path("down"), VOXELS[::-1], step=(0, 0, -SPACING[2]), origin=(*ORIGIN[:2], ORIGIN[2] + 10))
        self.read("down")
        jitter = lambda data, i: setattr(data, "ImagePositionPatient", [-120.5, 33.25 + i % 2 * 0.02, 810 + 2.5 * i])  # noqa: E731
        self.read(self.edited(jitter))

    def test_transfer_syntaxes(self):
        for syntax in (ImplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless):
            with self.subTest(syntax.name):
                self.recoded(syntax)
                self.read("series")

    def recoded(self, syntax):
        self.series()
        for name in os.listdir(self.path("series")):
            data = scan_files.read(self.path("series", name))
            if syntax.is_encapsulated:
                data.compress(syntax)
                scan_files.save(data, self.path("series", name))
            else:
                options = scan_files.in_syntax(data, syntax)
                pydicom.dcmwrite(self.path("series", name), data, enforce_file_format=False, **options)

    def compressed(self, compressor, voxels=VOXELS):
        """The series by SimpleITK: signed HU, JPEG lossless or JPEG 2000."""
        self.series(voxels=voxels, edit=lambda data, index, hu: rescaled(data, hu, intercept=0, stored="i2"))
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.UseCompressionOn()
        writer.SetCompressor(compressor)
        for name in os.listdir(self.path("series")):
            image = sitk.ReadImage(self.path("series", name))
            writer.SetFileName(self.path("series", name))
            writer.Execute(image)
        return "series"

    def test_jpeg(self):
        for compressor in ("JPEG", "JPEG2000"):
            with self.subTest(compressor):
                self.read(self.compressed(compressor))

    def test_what_else_lies_in_the_folder(self):
        self.series()
        plan = scan_files.other_object(scan_files.STRUCTURED_REPORT, "SR", series="1")
        scan_files.save(plan, self.path("series", "report.dcm"))
        dose = dict(Rows=2, Columns=2, BitsAllocated=16, PixelData=b"\0" * 8, DoseUnits="GY")
        scan_files.save(scan_files.other_object(scan_files.RT_DOSE, "RTDOSE", **dose), self.path("series", "dose.dcm"))
        write_series(self.path("series"), VOXELS[:1], series="7", names="scout{}.dcm",
                     edit=lambda data, *_: setattr(data, "ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"]))  # fmt: skip
        self.write("series/README", b"from the clinic\n")
        self.write("series/Thumbs.db", b"\xd0\xcf\x11\xe0" * 100)
        self.write("series/.DS_Store", b"\0\0\0\1Bud1")
        os.mkdir(self.path("series", "folder"))
        self.read("series")
        self.write("series/IM0001.tmp", b"\xff" * 200)
        self.read("series", told=["no DICOM files, passed over: IM0001.tmp"])

    def test_names_that_are_not_utf8(self):
        self.series()
        folder = os.fsencode(self.path("series"))
        os.rename(folder + b"/IM0001.dcm", folder + b"/M\xfcller.dcm")
        self.read("series")

    def test_pixel_data_that_are_padded(self):
        self.read(self.edited(lambda data, i: setattr(data, "PixelData", data.PixelData + b"\0" * (500 * i))))

    def test_one_slice(self):
        write_series(self.path("one"), VOXELS[1:2])
        labels, rows = self.find("one")
        self.assertEqual(labels.GetSpacing(), SPACING)
        self.assertAlmostEqual(rows[0]["volume_mm3"], 32 * 32 * np.prod(SPACING), places=3)
        write_series(self.path("thin"), VOXELS[1:2], edit=lambda data, *_: delattr(data, "SliceThickness"))
        for facts in (dict(SliceThickness=-3), dict(SliceThickness=0, SpacingBetweenSlices=-3)):
            edit = lambda data, *_: [setattr(data, name, value) for name, value in facts.items()] and None  # noqa: E731,B023
            write_series(self.path("back"), VOXELS[1:2], edit=edit)
            self.bad("back", "the spacing of axis 3 is unknown")
        self.bad("thin", "the spacing of axis 3 is unknown: give --spacing X,Y,Z in mm")
        self.assertEqual(self.find("thin", "--spacing", "0.75,0.8,3")[0].GetSpacing(), (0.75, 0.8, 3))
        self.bad("thin", "leave the option out", options=("--spacing", "1,1,3"))

    def test_a_single_file(self):
        self.series()
        labels, _ = self.find("series/IM0001.dcm")
        self.assertEqual(labels.GetSize(), (120, 80, 1))


class SeriesRefused(ReadingCase):
    def test_gaps_and_doubled_slices(self):
        self.series()
        os.remove(self.path("series", "IM0002.dcm"))
        self.bad("series", "IM0001.dcm and IM0003.dcm are 5 mm apart, others 2.5: a slice is missing")
        self.series()
        shutil.copy(self.path("series", "IM0000.dcm"), self.path("series", "copy.dcm"))
        self.bad("series", "lie at the same place", "copy.dcm", "IM0000.dcm")
        place = lambda data, i: setattr(data, "ImagePositionPatient", [*ORIGIN[:2], 810 + (0, 2.5, 5, 8.5, 11)[i]])  # noqa: E731
        self.bad(self.edited(place), "IM0002.dcm and IM0003.dcm are 3.5 mm apart")

    def test_tilt(self):
        for aside in (1.0, 0.2, 0.03):
            self.bad(self.series(step=(0, aside, 2.5)), "axes 2 and 3", "right angle", "gantry tilt", "resample")
        aside = lambda data, i: setattr(data, "ImagePositionPatient", [-120.5 + (i == 2), 33.25, 810 + 2.5 * i])  # noqa: E731
        self.bad(self.edited(aside), "IM0002.dcm lies 1 mm beside the line of the others")

    def test_facts_that_make_no_single_volume(self):
        for says, facts in (
            ("pixel spacing", dict(PixelSpacing=[0.8, 0.7])),
            ("orientation", dict(ImageOrientationPatient=[0, 1, 0, 1, 0, 0])),
            ("orientation", dict(ImageOrientationPatient=None)),
            ("position", dict(ImagePositionPatient=None)),
            ("frame of reference", dict(FrameOfReferenceUID="1.2.3")),
            ("size", dict(Rows=40, Columns=240)),
            ("rescale", dict(RescaleSlope=None, RescaleIntercept=None)),
        ):
            with self.subTest(says, facts=facts):
                self.bad(self.at(3, **facts), f"IM0003.dcm: has another {says}", "than IM0000.dcm")
        self.bad(self.at(0, RescaleSlope=None, RescaleIntercept=None), "IM0000.dcm", "HU are unknown")

    def test_values_that_are_not_hu(self):
        missing = dict(RescaleSlope=None, RescaleIntercept=None)
        self.bad(self.at(None, **missing), "RescaleSlope and RescaleIntercept are missing: HU are unknown")
        self.bad(self.at(None, **missing, ModalityLUTSequence=scan_files.modality_lut()), "modality LUT")
        self.bad(self.at(2, RescaleSlope=0), "IM0002.dcm", "RescaleSlope is 0")
        self.bad(self.at(2, RescaleIntercept=None), "IM0002.dcm", "without RescaleIntercept")
        self.bad(self.at(None, RescaleType="Z_EFF"), "Z_EFF", "not HU")
        self.bad(self.at(3, RescaleType="OD"), "IM0003.dcm: its values are OD")
        self.bad(self.at(3, Modality="MR"), "IM0003.dcm: its modality is MR, not CT")
        self.read(self.at(2, Modality=None))
        self.read(self.at(None, ModalityLUTSequence=[]))
        self.read(self.at(None, RescaleType="HU"))
        signed = dict(intercept=0, stored="i2")
        self.series(edit=lambda data, index, hu: rescaled(data, hu, **signed))
        for name in os.listdir(self.path("series")):
            data = scan_files.read(self.path("series", name))
            del data.RescaleSlope, data.RescaleIntercept
            scan_files.save(data, self.path("series", name))
        self.read("series", told=["signed pixels are taken as HU"])

        def colours(data, index):
            data.SamplesPerPixel, data.PhotometricInterpretation, data.PlanarConfiguration = 3, "RGB", 0
            data.PixelData *= 3

        self.bad(self.edited(colours), "colours (RGB)")
        self.bad(self.at(1, BitsStored=12), "IM0001.dcm", "12 bits up to bit 15 of 16")

    def test_unknown_places(self):
        nowhere = self.at(None, ImagePositionPatient=None, ImageOrientationPatient=None)
        self.bad(nowhere, "ImagePositionPatient", "unknown, export")
        self.bad(self.at(None, PixelSpacing=None), "axis 1 is unknown", "give --spacing X,Y,Z in mm")
        self.read("series", "--spacing", ",".join(map(str, SPACING)))
        self.bad(self.at(None, PixelSpacing=[0, 0]), "axis 1 is unknown")
        self.bad(self.at(None, PixelSpacing=[0.8, -0.75]), "axis 1 is unknown")
        self.bad(self.at(None, ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), "not at a right angle")
        self.bad(self.at(None, ImageOrientationPatient=[1, 0, 0, 0.1, 0.995, 0]), "not at a right angle")
        self.bad(self.at(None, ImageOrientationPatient=[0, 0, 0, 0, 0, 0]), "must have the length 1")

    def test_numbers_that_are_none(self):
        """A decimal comma, as broken exporters write it."""
        self.series()
        path = self.path("series", "IM0001.dcm")
        with open(path, "rb") as file:
            content = file.read()
        self.write("series/IM0001.dcm", content.replace(b"0.8\\0.75", b"0,8\\0,75"))
        self.bad("series", "IM0001.dcm: PixelSpacing '0,8\\0,75' is no list of numbers")

    def test_localizers_and_frames(self):
        local = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        self.bad(self.at(4, ImageType=local), "IM0004.dcm: is a localizer: take it out")
        os.mkdir(self.path("enhanced"))
        scan_files.save(scan_files.enhanced(VOXELS), self.path("enhanced", "all.dcm"))
        self.bad("enhanced", "all.dcm: holds many frames in one file", "patchmask segment")
        self.bad(self.at(1, NumberOfFrames=2), "IM0001.dcm: holds many frames")

    def test_several_series(self):
        self.series()
        write_series(self.path("series"), VOXELS * 0, series="2", names="other{}.dcm")
        self.bad("series", "has 2 series, choose one with --series")
        self.read("series", "--series", f"{scan_files.ROOT}.9.1")
        os.mkdir(self.path("none"))
        scan_files.save(scan_files.other_object(scan_files.RT_DOSE, "RTDOSE"), self.path("none", "dose.dcm"))
        self.bad("none", "no DICOM series of CT images")

    def test_files_that_are_cut_off_anywhere(self):
        for index in (0, 2, LAST):
            for cut in (0, 100, 132, 200, 600, -19204, -19201, -10000, -1):
                self.series()
                name = f"IM000{index}.dcm"
                with open(self.path("series", name), "rb") as file:
                    content = file.read()
                with self.subTest(index=index, cut=cut):
                    self.write(f"series/{name}", content[:cut])
                    self.bad("series", f"series/{name}")

    def test_slices_that_are_no_dicom_files_any_more(self):
        """Known by their names: the volume would be whole without the first or the last one."""
        for names in ("IM{:04}.dcm", "IM{:04}", "1.2.840.{}"):
            for index in (0, LAST):
                name = f"series/{names.format(index)}"
                for start in (np.random.default_rng(2).bytes(400), b"\xff" * 4096, b"<html>404</html>" * 99, b"oid sha256:4d"):
                    with self.subTest(name, start=start[:4]):
                        self.series(names=names)
                        self.write(name, start)
                        self.bad("series", f"{name}: is no DICOM file, but called as slices are")
                os.remove(self.path(name))
                os.symlink("gone", self.path(name))
                self.bad("series", f"{name}: is no DICOM file, but called")
                os.remove(self.path(name))
                os.mkfifo(self.path(name))
                self.bad("series", f"{name}: is no DICOM file, but called")
        os.mkfifo(self.path("scan.nii.gz"))
        self.bad("scan.nii.gz", "scan.nii.gz: is no regular file")
        os.symlink("loop", self.path("loop"))
        self.bad("loop", "loop: no such file")

    def test_headers_that_are_damaged(self):
        self.series()
        with open(self.path("series", "IM0001.dcm"), "rb") as file:
            content = bytearray(file.read())
        content[300:340] = b"\xff" * 40
        self.write("series/IM0001.dcm", content)
        self.bad("series", "IM0001.dcm", "copy it again")

    def test_pixel_data_of_another_length(self):
        def lengthened(data, index):
            data.PixelData += b"\7" * 300 * (index == 2)

        def shortened(data, index):
            data.PixelData = data.PixelData[: len(data.PixelData) - 2 * (index == 2)]

        self.bad(self.edited(lengthened), "IM0002.dcm: has 19500 bytes of pixels, its rows and columns need 19200")
        self.bad(self.edited(shortened), "IM0002.dcm: has 19198 bytes of pixels, 19200 are needed")

    def test_compressed_pixels_that_are_damaged(self):
        def damaged(change, codec):
            codec()
            with open(self.path("series", "IM0003.dcm"), "rb") as file:
                content = file.read()
            start = (
                content.index(b"\xfe\xff\x00\xe0", content.index(b"\xe0\x7f\x10\x00")) + 8
            )  # behind the offset table
            self.write("series/IM0003.dcm", change(content, start))
            self.bad("series", "IM0003.dcm", "copy it again")

        def in_the_middle(content, start):
            middle = (start + len(content)) // 2
            return content[:middle] + b"\0" * 40 + content[middle + 40 :]

        def last_bytes_gone(content, start):
            """The file's structure stays whole."""
            size = int.from_bytes(content[start + 4 : start + 8], "little") - 20
            head = content[: start + 4] + size.to_bytes(4, "little")
            return head + content[start + 8 : start + 8 + size] + content[-8:]

        for codec in (lambda: self.compressed("JPEG"), lambda: self.compressed("JPEG2000"),
                      lambda: Series.recoded(self, RLELossless)):  # fmt: skip
            damaged(lambda content, start: content[: (start + len(content)) // 2], codec)
            damaged(lambda content, start: content[:-8], codec)
            damaged(last_bytes_gone, codec)
        noisy = VOXELS + np.random.default_rng(1).integers(-9, 9, VOXELS.shape).astype("i2")
        damaged(in_the_middle, lambda: self.compressed("JPEG", noisy))

    def test_transfer_syntaxes_that_are_not_read(self):
        deflate = lambda data, i: setattr(data.file_meta, "TransferSyntaxUID", DeflatedExplicitVRLittleEndian)  # noqa: E731
        self.bad(self.edited(deflate), "transfer syntax 1.2.840.10008.1.2.1.99 is not read", "patchmask segment")

    compressed = Series.compressed


class Axes(ReadingCase):
    """The network sees axial slices, however a file has them; lesions lie where they are in the patient."""

    def test_orientations(self):
        axial = self.find_in(SCAN, "scan.nrrd")
        for code in ("RAS", "LAI", "LIP", "PIL", "ASR", "SPL"):
            for name in ("scan.nrrd", "scan.nii.gz"):
                with self.subTest(code, name=name):
                    turned = sitk.DICOMOrient(SCAN, code)
                    found = self.find_in(turned, name)
                    self.assertEqual(found.GetSize(), turned.GetSize())
                    back = sitk.GetArrayFromImage(sitk.DICOMOrient(found, "LPS"))
                    np.testing.assert_array_equal(back, sitk.GetArrayFromImage(axial))

    def find_in(self, scan, name):
        sitk.WriteImage(scan, self.path(name))
        labels, rows = self.find(name)
        self.assertEqual([row["voxels"] for row in rows], [2048, 1024])
        return labels

    def test_dicom_orientations(self):
        tilted = (1, 0, 0, 0, np.cos(0.3), np.sin(0.3))
        for directions, code in ((tilted, "LPS"), ((1, 0, 0, 0, 0, -1), "LIP"), ((0, 1, 0, 0, 0, -1), "PIL")):
            direction = np.stack([directions[:3], directions[3:], np.cross(directions[:3], directions[3:])]).T
            scan = sitk.DICOMOrient(SCAN, code) if code != "LPS" else sitk.Image(SCAN)
            voxels = sitk.GetArrayFromImage(scan)
            flipped = np.linalg.det(np.reshape(scan.GetDirection(), (3, 3))) < 0
            shutil.rmtree(self.path("series"), ignore_errors=True)
            origin = scan.TransformIndexToPhysicalPoint((0, 0, scan.GetDepth() - 1 if flipped else 0))
            write_series(self.path("series"), voxels[::-1] if flipped else voxels, directions=directions,
                         spacing=scan.GetSpacing(), origin=origin)  # fmt: skip
            with self.subTest(code):
                labels, rows = self.find("series")
                self.assertEqual([row["voxels"] for row in rows], [2048, 1024])
                np.testing.assert_allclose(np.reshape(labels.GetDirection(), (3, 3)), direction, atol=1e-6)

    def test_unknown_orientation(self):
        self.write("old.nrrd", scan_files.nrrd(VOXELS, space=None, space_directions=None, space_origin=None,
                                               spacings="0.75 0.8 2.5"))  # fmt: skip
        self.write("none.nii", scan_files.nifti(VOXELS, sform=None))
        for name, axes in (("old.nrrd", "left, posterior, superior"), ("none.nii", "left, anterior, superior")):
            labels, rows = self.find(name)
            self.assertIn(f"taken as {axes}", self.told[0])
            self.assertEqual(len(rows), 2)
            np.testing.assert_allclose(labels.GetSpacing(), SPACING, rtol=1e-6)
            self.assertEqual(labels.GetDirection()[4], -1 if name == "none.nii" else 1)


class Nifti(ReadingCase):
    def saved(self, *arguments, name="scan.nii", **fields):
        content = scan_files.nifti(*arguments, **fields)
        return self.write(name, gzip.compress(content) if name.endswith("gz") else content)

    def test_types_and_byte_orders(self):
        for kind in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "f4", "f8"):
            for order in "<>":
                with self.subTest(kind, order=order):
                    self.read(self.saved(VOXELS.astype(kind), order=order))

    def test_forms(self):
        self.read(self.saved(VOXELS, qform=QFORM))
        self.read(self.saved(VOXELS, sform=None, qform=QFORM))
        self.read(self.saved(VOXELS, pixdim=(1, 1, 1)), told=["pixdim"])
        self.read(self.saved(VOXELS, pixdim=(0.75, 0, np.nan)), told=["pixdim"])
        self.read(self.saved(VOXELS, qform=MIRRORED), told=["sform and qform differ by up to 126.4"])
        self.read(self.saved(VOXELS, qform=QFORM, pixdim=(1, 1, 1)), told=["the sform counts"])
        metres = AFFINE / 1000
        self.read(self.saved(VOXELS, sform=metres, units=1, pixdim=np.array(SPACING) / 1000), places=3)
        mild = AFFINE.copy()
        mild[1, 2] = -0.0025
        self.nearly(self.saved(VOXELS, sform=mild))

    def test_forms_that_are_no_grid(self):
        for row, column, value, says in ((1, 2, 0.8, "right angle"), (1, 2, 0.03, "right angle"), (2, 2, 0, "axis 3 is unknown"),
                                         (0, 0, np.nan, "axis 1 is unknown"), (0, 3, np.inf, "origin")):  # fmt: skip
            affine = AFFINE.copy()
            affine[row, column] = value
            self.bad(self.saved(VOXELS, sform=affine), says)
        for pixdim in ((0.75, 0.8, 0), (0.75, 0.8, -2.5), (np.nan, 0.8, 2.5)):
            self.bad(self.saved(VOXELS, sform=None, qform=QFORM, pixdim=pixdim), "give --spacing X,Y,Z in mm")
        self.read("scan.nii", "--spacing", ",".join(map(str, SPACING)))
        self.bad(self.saved(VOXELS, sform=None, pixdim=(-0.75, 0.8, 2.5)), "axis 1 is unknown")
        self.read(self.saved(VOXELS, sform=None, qform=(*QFORM[:2], 0)))
        self.read(self.saved(VOXELS, units=66))
        self.read(self.saved(VOXELS, units=5), told=["unit of length has the code 5"])
        self.bad(self.saved(VOXELS, sform=None, qform=((1, 1, 1), (0, 0, 0), 1)), "axis 1 is unknown")
        self.bad(self.saved(VOXELS, units=1), "spacing of axis 3 is 2500 mm", "another unit")

    def test_scaling(self):
        self.read(self.saved((VOXELS + 1024).astype("u2"), intercept=-1024))
        self.read(self.saved(VOXELS, slope=0, intercept=-1024))
        self.read(self.saved(VOXELS, slope=np.nan, intercept=-1024))
        self.read(self.saved((2 * VOXELS).astype("f4"), slope=0.5, name="scan.nii.gz"))
        self.bad(self.saved(VOXELS, intercept=np.nan), "scl_inter")

    def test_voxels_that_are_not_finite(self):
        """The same count and the same lesions from NIfTI and NRRD."""
        voxels = VOXELS.astype("f4")
        voxels[:, 60:, :20], voxels[0, 0, 0] = np.nan, -np.inf
        count = 5 * 20 * 20 + 1
        told = [f"{count} voxels were not finite and counted as black"]
        self.read(self.saved(voxels, name="scan.nii.gz"), told=told)
        self.read(self.write("scan.nrrd", scan_files.nrrd(voxels)), told=told)

    def test_files_that_are_not_whole(self):
        content = scan_files.nifti(VOXELS)
        for cut in (0, 100, 347, 352, len(content) // 2, -1):
            self.bad(self.write("scan.nii", content[:cut]), "scan.nii: is cut off")
        self.bad(self.write("scan.nii", content + b"\0" * 40), "longer than its header says")
        packed = gzip.compress(content)
        for cut in (10, 200, len(packed) // 2, -9, -8, -4, -1):
            self.bad(self.write("scan.nii.gz", packed[:cut]), "scan.nii.gz: is cut off")
        half = len(content) // 2
        self.read(self.write("scan.nii.gz", gzip.compress(content[:half]) + gzip.compress(content[half:]) + b"\0" * 512))
        self.bad(self.write("scan.nii.gz", packed + b"garbage"), "scan.nii.gz: is damaged")
        for place in (len(packed) // 2, len(packed) - 6):
            wrong = bytearray(packed)
            wrong[place] ^= 8
            self.bad(self.write("scan.nii.gz", bytes(wrong)), "scan.nii.gz: is")

    def test_what_is_no_volume_of_numbers(self):
        self.bad(self.saved(VOXELS, dim=(4, 120, 80, 1, 5, 1, 1, 1)), "one volume of 3 axes")
        self.bad(self.saved(VOXELS, dim=(2, 120, 400, 1, 1, 1, 1, 1)), "one volume of 3 axes")
        self.bad(self.saved(VOXELS, dim=(3, 120, 80, -5, 1, 1, 1, 1)), "one volume of 3 axes")
        self.read(self.saved(VOXELS, dim=(4, 120, 80, 5, 1, 1, 1, 1)))
        for datatype in (128, 32, 1, 1536):  # RGB, complex, bits, long double
            self.bad(self.saved(VOXELS, datatype=datatype), f"NIfTI type {datatype}")
        self.bad(self.saved(VOXELS, sizeof_hdr=540), "NIfTI-2")
        self.bad(self.saved(VOXELS, vox_offset=100), "vox_offset")


class Nrrd(ReadingCase):
    def saved(self, **fields):
        return self.write("scan.nrrd", scan_files.nrrd(VOXELS, **fields))

    def test_read(self):
        self.read(self.saved())
        self.read(self.saved(encoding="gzip"))
        self.read(self.saved(space="RAS", space_directions="(-0.75,0,0) (0,-0.8,0) (0,0,2.5)",
                             space_origin="(120.5,-33.25,810)"))  # fmt: skip
        self.nearly(self.saved(space_directions="(0.75,0,0) (0,0.8,0) (0,0.0025,2.5)"))
        nowhere = dict(space_directions=None, spacings="0.75 nan 2.5", space=None, space_origin=None)
        self.assertEqual(self.find(self.saved(**nowhere), "--spacing", "0.75,0.8,2.5")[0].GetSpacing(), SPACING)

    def test_grids_that_are_unknown_or_wrong(self):
        self.bad(self.saved(space_directions="(1.5,0,0) (0,1.5,0) (0,0.8,3)"), "right angle")
        self.bad(self.saved(space="middle-earth"), "space 'middle-earth'", "NRRD knows")
        self.read(self.saved(space_units='"millimeters" "Millimetre" "mm"'))
        self.bad(self.saved(space_directions="(1.5,0,0) (0,1.5,0) none"), "axis 3 has no space direction")
        self.bad(self.saved(space_directions="(1.5,0,0) (0,1.5,0) (0,0,0)"), "must not be 0")
        nowhere = dict(space=None, space_directions=None, space_origin=None)
        self.bad(self.saved(**nowhere), "give --spacing X,Y,Z in mm")
        self.bad(self.saved(**nowhere, spacings="1 1 nan"), "axis 3 is unknown")
        self.bad(self.saved(spacings="1 1 1"), "contradict")

    def test_files_that_are_not_whole(self):
        whole = scan_files.nrrd(VOXELS)
        self.bad(self.write("scan.nrrd", whole[:-1]), "longer or shorter than its header says")
        self.bad(self.write("scan.nrrd", whole + b"\0"), "longer or shorter than its header says")
        self.bad(self.write("scan.nrrd", whole[:60]), "ends inside the NRRD header")
        packed = gzip.compress(VOXELS.tobytes())
        for cut in (0, 5, len(packed) // 2, -9, -8, -1):
            self.bad(self.saved(encoding="gzip", data=packed[:cut]), "is cut off")
        for data in (packed + b"garbage", VOXELS.tobytes()):
            self.bad(self.saved(encoding="gzip", data=data), "is damaged")
        wrong = bytearray(packed)
        wrong[-6] ^= 1
        self.bad(self.saved(encoding="gzip", data=bytes(wrong)), "is damaged")
        longer = gzip.compress(VOXELS.tobytes() + b"\0" * 100)
        self.bad(self.saved(encoding="gzip", data=longer), "longer than its header says")

    def test_encodings_and_layouts(self):
        for encoding in ("ascii", "bzip2", "hex"):
            self.bad(self.saved(encoding=encoding), f"encoding '{encoding}'", "raw or gzip")
        self.bad(self.saved(data_file="scan.raw"), "detached")
        self.bad(self.saved(kinds="RGB-color domain domain"), "axis 1")
        self.bad(self.saved(type="int64"), "int64")
