"""The program of examples/cpp/vtk: its mask is that of build/segment, on the same grid; its picture shows the lesions.

    SEGMENT_VTK=build/vtk/segment_vtk SEGMENT=build/segment xvfb-run -a .venv/bin/python tests/vtk/check.py [-v]"""

import base64
import os
import re
import subprocess
import tempfile
import unittest
import zlib
from pathlib import Path

import numpy as np
import SimpleITK as sitk

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "examples/demo/model.safetensors"
CT = ROOT / "examples/demo/ct.nrrd"
PROGRAM = os.path.abspath(os.environ.get("SEGMENT_VTK", ROOT / "build/vtk/segment_vtk"))
SEGMENT = os.path.abspath(os.environ.get("SEGMENT", ROOT / "build/segment"))


def run(*words):
    return subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)


def numbers(text, name):
    return [float(word) for word in re.search(rf'{name}="([^"]*)"', text)[1].split()]


def voxels(text):
    """The bytes of a .vti file's one array: a head of 32-bit numbers (blocks, bytes of each, of the last, compressed bytes of
    every block) and the blocks by zlib, each of the two in base64."""
    coded = re.search(r"<AppendedData[^>]*>\s*_(\S+)", text)[1]
    blocks = np.frombuffer(base64.b64decode(coded[:8])[:4], "<u4")[0]
    head_length = -(-4 * (3 + int(blocks)) // 3) * 4
    sizes = np.frombuffer(base64.b64decode(coded[:head_length]), "<u4")[3:]
    data, ends = base64.b64decode(coded[head_length:]), np.cumsum(sizes)
    return b"".join(zlib.decompress(data[end - size : end]) for size, end in zip(sizes, ends, strict=True))


class SegmentVtk(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.mask, self.picture = self.folder / "mask.vti", self.folder / "lesions.png"

    def check_like_segment(self, ct, stride):
        expected = self.folder / "expected.nrrd"
        for words in ((PROGRAM, MODEL, ct, self.mask, self.picture, stride),
                      (SEGMENT, "--quiet", "--model", MODEL, "--stride", stride, ct, expected)):  # fmt: skip
            done = run(*words)
            self.assertEqual(done.returncode, 0, done.stderr)
        image, text = sitk.ReadImage(expected), self.mask.read_text(encoding="ascii")
        mask = sitk.GetArrayFromImage(image)
        self.assertTrue(mask.any())
        self.assertEqual(voxels(text), mask.tobytes())
        self.assertEqual(numbers(text, "WholeExtent")[1::2], [size - 1 for size in image.GetSize()])
        np.testing.assert_allclose(numbers(text, "Spacing"), image.GetSpacing(), rtol=1e-6)
        np.testing.assert_allclose(numbers(text, "Origin"), image.GetOrigin(), rtol=1e-6)
        return mask

    def test_demo(self):
        self.check_like_segment(CT, 8)
        picture = sitk.GetArrayFromImage(sitk.ReadImage(self.picture))  # [y][x][colour]
        self.assertEqual(picture.shape, (600, 800, 3))
        drawn = np.argwhere(picture.any(axis=2))
        self.assertGreater(len(drawn), 1000)
        self.assertGreater(drawn.min(), 0, "the camera sees all lesions")
        self.assertTrue((drawn.max(axis=0) < (599, 799)).all(), "the camera sees all lesions")
        self.assertGreater(len(np.unique(picture)), 20, "surfaces are shaded")

    def test_spacing_and_voxel_types(self):
        """Pixels that the model resamples, so that a mask without the spacing is another one; each type of voxels."""
        part = sitk.ReadImage(CT)[80:150, 25:90, 14:16]
        part.SetSpacing((0.9, 0.9, 2.5))
        masks = []
        for kind in (sitk.sitkInt16, sitk.sitkInt32, sitk.sitkFloat32, sitk.sitkFloat64):
            sitk.WriteImage(sitk.Cast(part, kind), self.folder / "part.nrrd")
            masks.append(self.check_like_segment(self.folder / "part.nrrd", 8).tobytes())
        self.assertEqual(len(set(masks)), 1)
        part.SetSpacing((1.5, 1.5, 2.5))
        sitk.WriteImage(part, self.folder / "part.nrrd")
        self.assertNotEqual(self.check_like_segment(self.folder / "part.nrrd", 8).tobytes(), masks[0])

    def test_what_is_refused(self):
        cut, bytes_ = self.folder / "cut.nrrd", self.folder / "bytes.nrrd"
        cut.write_bytes(CT.read_bytes()[:100_000])
        sitk.WriteImage(sitk.Image((8, 8, 2), sitk.sitkUInt8), bytes_)
        missing = self.folder / "missing"
        for words, why in (
            ((MODEL, missing, self.mask, self.picture), "missing is not a nrrd file"),
            ((MODEL, MODEL, self.mask, self.picture), "safetensors is not a nrrd file"),
            ((MODEL, cut, self.mask, self.picture), "File operation failed"),
            ((MODEL, bytes_, self.mask, self.picture), "unsigned char a voxel: must be one short"),
            ((missing, CT, self.mask, self.picture), "missing: No such file"),
            ((MODEL, CT, self.mask, self.picture, 65), r"stride 65: must be 1..=patch_size \(64\)"),
            ((MODEL, CT, self.mask), "usage: segment_vtk MODEL"),
        ):
            with self.subTest(why):
                done = run(PROGRAM, *words)
                self.assertEqual(done.returncode, 1)
                self.assertRegex(done.stderr, why)
                self.assertFalse(self.mask.exists() or self.picture.exists())


if __name__ == "__main__":
    unittest.main()
