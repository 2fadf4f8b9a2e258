"""The program examples/cpp/itk/lesions: what it reads, measures and refuses.

    LESIONS=build/itk/lesions .venv/bin/python tests/itk/lesions_cli.py [-v] [TestClass[.test]]

SimpleITK writes the scans and reads the label maps, so that ITK's geometry is checked by another build of it."""

import csv
import math
import os
import subprocess
import sys
import tempfile
import unittest

import numpy as np
import SimpleITK as sitk

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "cli"))
import maximum_model  # noqa: E402

LESIONS = os.path.abspath(os.environ.get("LESIONS", os.path.join(ROOT, "build", "itk", "lesions")))

COS, SIN = math.cos(math.radians(30)), math.sin(math.radians(30))
DIRECTION = (COS, 0, SIN, -SIN, 0, COS, 0, -1, 0)  # sagittal-like and oblique: no axis is its own
SPACING = (0.75, 0.8, 2.5)  # mm
ORIGIN = (-120.5, 33.25, 810.0)  # mm
SIZES = (120, 80, 5)  # x, y, z

# The model's patches are 32 px every 8: one bright voxel makes a square of 32 x 32 voxels of each slice that it is in.
BRIGHT = ((24, 16, 1), (24, 16, 2), (88, 48, 4))  # x, y, z
BOXES = (  # (first x, y, z), (voxels along x, y, z); the larger lesion first
    ((13, 5, 1), (32, 32, 2)),
    ((77, 37, 4), (32, 32, 1)),
)


def make_scan(dtype=np.int16, direction=DIRECTION, sizes=SIZES):
    voxels = np.zeros(sizes[::-1], dtype)
    for x, y, z in BRIGHT:
        voxels[z, y, x] = 120
    scan = sitk.GetImageFromArray(voxels)
    scan.SetDirection(direction)
    scan.SetSpacing(SPACING)
    scan.SetOrigin(ORIGIN)
    return scan


def write_dicom(scan, folder, uid="1.2.826.0.1.3680043.2.1125.1", reverse=True):
    """A CT series, its files in reverse order."""
    os.makedirs(folder, exist_ok=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    depth = scan.GetDepth()
    direction = scan.GetDirection()
    along_rows = [direction[i] for i in (0, 3, 6)] + [direction[i] for i in (1, 4, 7)]
    for z in range(depth):
        part = scan[:, :, z]
        tags = {
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0008|0060": "CT",
            "0008|0018": f"{uid}.{z + 1}",
            "0010|0020": "phantom",
            "0020|000d": "1.2.826.0.1.3680043.2.1125.9",
            "0020|000e": uid,
            "0020|0013": str(z + 1),
            "0020|0032": "\\".join(f"{v:.9g}" for v in scan.TransformIndexToPhysicalPoint((0, 0, z))),
            "0020|0037": "\\".join(f"{v:.9g}" for v in along_rows),
            "0018|0050": f"{SPACING[2]:g}",
            "0028|1052": "-1024",
            "0028|1053": "1",
        }
        for tag, value in tags.items():
            part.SetMetaData(tag, value)
        writer.SetFileName(os.path.join(folder, f"{depth - z if reverse else z:03}.dcm"))
        writer.Execute(part)


class LesionsCase(unittest.TestCase):
    axes = ("--axes", "file")  # these scans are sliced along their own last axis

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        with open(self.path("model.safetensors"), "wb") as file:
            file.write(maximum_model.build())

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def call(self, *words):
        return subprocess.run([LESIONS, *words], cwd=self.folder, capture_output=True, text=True, timeout=300)

    def find(self, name, *options):
        """Runs the program; the label map and the rows of the table."""
        words = ("--device", "cpu", "--model", "model.safetensors", *self.axes, *options)
        done = self.call(*words, name, "labels.nrrd", "lesions.csv")
        self.assertEqual((done.returncode, done.stderr), (0, ""), done)
        self.told = done.stdout.splitlines()[:-1]  # without the number of lesions
        with open(self.path("lesions.csv"), encoding="ascii", newline="") as file:
            rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
        return sitk.ReadImage(self.path("labels.nrrd")), rows

    def refuse(self, exit_code, *words, says):
        before = sorted(os.listdir(self.folder))
        done = self.call(*words)
        self.assertEqual(done.returncode, exit_code, done)
        self.assertRegex(done.stderr, r"\Alesions: [^\n]+\n\Z")
        self.assertIn(says, done.stderr)
        self.assertEqual(sorted(os.listdir(self.folder)), before, "files were left")

    def assert_same_grid(self, image, scan, places=5):
        self.assertEqual(image.GetSize(), scan.GetSize())
        for get in (sitk.Image.GetOrigin, sitk.Image.GetSpacing, sitk.Image.GetDirection):
            for value, expected in zip(get(image), get(scan)):
                self.assertAlmostEqual(value, expected, places)

    def assert_lesions(self, labels, rows, scan, boxes=BOXES):
        """The label map has these boxes, and the table has their measures by plain arithmetic."""
        array = sitk.GetArrayFromImage(labels)
        expected = np.zeros_like(array)
        self.assertEqual(len(rows), len(boxes))
        for label, ((first, extent), row) in enumerate(zip(boxes, rows), 1):
            last = [f + e for f, e in zip(first, extent)]
            expected[first[2] : last[2], first[1] : last[1], first[0] : last[0]] = label
            voxels = math.prod(extent)
            self.assertEqual((row["label"], row["voxels"]), (label, voxels))
            self.assertAlmostEqual(row["volume_mm3"], voxels * math.prod(SPACING), places=3)
            middle = [f + (e - 1) / 2 for f, e in zip(first, extent)]
            centroid = scan.TransformContinuousIndexToPhysicalPoint(middle)
            for axis, value in zip("xyz", centroid):
                self.assertAlmostEqual(row[f"centroid_{axis}_mm"], value, places=3)
            diagonal = math.hypot(*((e - 1) * s for e, s in zip(extent, SPACING)))
            self.assertAlmostEqual(row["diameter_mm"], diagonal, places=3)
        different = np.argwhere(array != expected)
        self.assertEqual(len(different), 0, f"first (slice, row, column): {different[:1]}")


class Formats(LesionsCase):
    def test_nrrd_and_nifti_of_several_types(self):
        for name, dtype in (
            ("scan.nrrd", np.int16),
            ("scan.nii", np.int16),
            ("other.nii.gz", np.float32),  # the NIfTI reader would take the header of a scan.nii
            ("scan.nrrd", np.uint16),
            ("scan.nrrd", np.float64),
            ("scan.nii", np.uint8),
        ):
            with self.subTest(name=name, dtype=dtype):
                scan = make_scan(dtype)
                sitk.WriteImage(scan, self.path(name))
                labels, rows = self.find(name)
                self.assert_same_grid(labels, scan, places=4)
                self.assert_lesions(labels, rows, scan)

    def test_dicom_series(self):
        # DICOM's third axis is the product of the other two
        direction = np.reshape(DIRECTION, (3, 3)).copy()
        direction[:, 2] = np.cross(direction[:, 0], direction[:, 1])
        scan = make_scan(direction=direction.ravel().tolist())
        write_dicom(scan, self.path("series"))
        labels, rows = self.find("series")
        self.assert_same_grid(labels, scan, places=4)
        self.assert_lesions(labels, rows, scan)

    def test_one_series_of_several(self):
        one, other = "1.2.826.0.1.3680043.2.1125.1", "1.2.826.0.1.3680043.2.1125.2"
        scan = make_scan(direction=(1, 0, 0, 0, 1, 0, 0, 0, 1))
        write_dicom(scan, self.path("series", "a"), one)
        for file in os.listdir(self.path("series", "a")):
            os.rename(self.path("series", "a", file), self.path("series", "a" + file))
        os.rmdir(self.path("series", "a"))
        write_dicom(make_scan(direction=(1, 0, 0, 0, 1, 0, 0, 0, 1)) * 0, self.path("series"), other)
        words = ("--model", "model.safetensors", "series", "labels.nrrd", "lesions.csv")
        self.refuse(1, *words, says="has 2 series, choose one with --series")
        self.refuse(1, "--series", "1.2.3", *words, says="no series 1.2.3")
        names = subprocess.run([LESIONS, *words], cwd=self.folder, capture_output=True, text=True).stderr.split()
        uid = next(word for word in names if word.startswith(one))
        labels, rows = self.find("series", "--series", uid)
        self.assert_lesions(labels, rows, scan)


class Options(LesionsCase):
    def setUp(self):
        super().setUp()
        self.scan = make_scan()
        sitk.WriteImage(self.scan, self.path("scan.nrrd"))

    def test_small_lesions_are_left_out(self):
        one_slice = 32 * 32 * math.prod(SPACING)
        labels, rows = self.find("scan.nrrd", "--min-volume", str(one_slice))
        self.assert_lesions(labels, rows, self.scan)
        labels, rows = self.find("scan.nrrd", "--min-volume", str(one_slice + 1))
        self.assert_lesions(labels, rows, self.scan, BOXES[:1])

    def test_smoothed_probabilities(self):
        probability = np.full(SIZES[::-1], 1 / (1 + math.exp(0.1)), np.float32)  # of 0 HU
        for first, extent in BOXES:
            inside = tuple(slice(f, f + e) for f, e in zip(first[::-1], extent[::-1]))
            probability[inside] = 1 / (1 + math.exp(-0.2))  # of 120 HU
        image = sitk.GetImageFromArray(probability)
        image.SetSpacing(SPACING)
        smoothed = sitk.GetArrayFromImage(sitk.DiscreteGaussian(image, [2.0**2] * 3, 400, 1e-3, True))
        labels, rows = self.find("scan.nrrd", "--smooth", "2")
        clear = np.abs(smoothed - 0.5) > 1e-5
        self.assertTrue(np.array_equal(sitk.GetArrayFromImage(labels)[clear] > 0, smoothed[clear] > 0.5))
        self.assertNotEqual([row["voxels"] for row in rows], [math.prod(extent) for _, extent in BOXES])
        self.assertEqual(rows, self.find("scan.nrrd", "--smooth", "2", "--mask", "mask.nrrd")[1])

    def test_mask_stride_fill_and_progress(self):
        labels, _ = self.find("scan.nrrd", "--mask", "mask.nrrd", "--stride", "16", "--fill", "linear", "--progress")
        mask = sitk.ReadImage(self.path("mask.nrrd"))
        self.assert_same_grid(mask, self.scan)
        self.assertEqual(mask.GetPixelID(), sitk.sitkUInt8)
        same = (sitk.GetArrayFromImage(mask) == 1) == (sitk.GetArrayFromImage(labels) > 0)
        self.assertTrue(same.all())
        words = (*self.axes, "--progress", "--model", "model.safetensors", "scan.nrrd", "labels.nrrd", "lesions.csv")
        lines = self.call(*words).stdout.splitlines()
        self.assertEqual(lines[-2:], ["100 %", "labels.nrrd: 2 lesions"])

    def test_no_lesion(self):
        sitk.WriteImage(self.scan * 0, self.path("scan.nrrd"))
        labels, rows = self.find("scan.nrrd")
        self.assert_lesions(labels, rows, self.scan, ())

    def test_only_the_outputs_appear(self):
        before = set(os.listdir(self.folder))
        self.find("scan.nrrd")
        self.assertEqual(set(os.listdir(self.folder)) - before, {"labels.nrrd", "lesions.csv"})


class Refusals(LesionsCase):
    def setUp(self):
        super().setUp()
        sitk.WriteImage(make_scan(), self.path("scan.nrrd"))

    def test_usage(self):
        paths = ("scan.nrrd", "labels.nrrd", "lesions.csv")
        model = ("--model", "model.safetensors")
        self.refuse(2, says="usage")
        self.refuse(2, *paths, says="--model")
        self.refuse(2, *model, *paths[:2], says="usage")
        self.refuse(2, *model, *paths, "more", says="usage")
        self.refuse(2, *model, *paths, "--stride", says="needs a value")
        self.refuse(2, *model, "--stride", "0", *paths, says="--stride 0")
        self.refuse(2, *model, "--stride", "1.5", *paths, says="whole number")
        self.refuse(2, *model, "--fill", "cubic", *paths, says="nearest, linear")
        self.refuse(2, *model, "--min-volume", "-1", *paths, says="--min-volume -1")
        self.refuse(2, *model, "--smooth", "nan", *paths, says="--smooth nan")
        self.refuse(2, *model, "--colour", *paths, says="unknown option")
        self.refuse(2, *model, "--series", "1.2", *paths, says="no DICOM folder")
        self.refuse(2, *model, "--axes", "RAS", *paths, says="LPS, file")
        for spacing in ("1,1", "1,1,0", "1,1,-1", "1,1,nan", "1;1;1", "1,1,1,1"):
            self.refuse(2, *model, "--spacing", spacing, *paths, says="X,Y,Z in mm")
        self.assertIn("LESIONS.csv", self.call("--help").stdout)

    def test_inputs(self):
        outputs = ("labels.nrrd", "lesions.csv")
        model = ("--model", "model.safetensors")
        os.mkdir(self.path("empty"))
        with open(self.path("text.txt"), "w", encoding="ascii") as file:
            file.write("no scan")
        sitk.WriteImage(sitk.JoinSeries([make_scan(), make_scan()]), self.path("four.nrrd"))
        sitk.WriteImage(sitk.Compose([make_scan(), make_scan()]), self.path("vector.nrrd"))
        with open(self.path("scan.nrrd"), "rb") as file:
            cut = file.read()[:-100]
        with open(self.path("cut.nrrd"), "wb") as file:
            file.write(cut)
        self.refuse(1, *model, "nothing.nrrd", *outputs, says="no such file")
        self.refuse(1, *model, "empty", *outputs, says="no DICOM series")
        self.refuse(1, *model, "text.txt", *outputs, says="neither")
        self.refuse(1, *model, "four.nrrd", *outputs, says="dimension 4")
        self.refuse(1, *model, "vector.nrrd", *outputs, says="dimension 4")
        self.refuse(1, *model, "cut.nrrd", *outputs, says="cut.nrrd")

    def test_models(self):
        paths = (*self.axes, "scan.nrrd", "labels.nrrd", "lesions.csv")
        self.refuse(1, "--model", "nothing.safetensors", *paths, says="nothing.safetensors")
        self.refuse(1, "--model", "scan.nrrd", *paths, says="scan.nrrd")
        self.refuse(1, "--model", "model.safetensors", "--stride", "33", *paths, says="stride 33")

    def test_outputs(self):
        words = ("--model", "model.safetensors", *self.axes, "scan.nrrd")
        self.refuse(1, *words, "no/labels.nrrd", "lesions.csv", says="no/.labels.part.nrrd")
        self.refuse(1, *words, "labels.nrrd", "no/lesions.csv", says="no/.lesions.part.csv")
        self.refuse(1, *words, "labels.unknown", "lesions.csv", says="labels.unknown: unknown format: end the name")
        self.refuse(1, "--mask", "mask.png7", *words, "labels.nrrd", "lesions.csv", says="mask.png7")


def load_tests(loader, tests, _pattern):
    import lesions_reading

    tests.addTests(loader.loadTestsFromModule(lesions_reading))
    return tests


if __name__ == "__main__":
    unittest.main()
