"""`segment` as a command-line module, in 3D Slicer's own hands: its parser reads the description, its logic writes the volumes,
builds the command line, follows the progress, cancels, and reads the results back into the scene."""

import os
import re
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

import numpy as np
import scene_case
import slicer
import slicer_host
from scene_case import DEMO, LPS_TO_RAS, SceneCase, ijk_to_ras, maximum_model, wait_until
from segment_case import SEGMENT

NODE = slicer.vtkMRMLCommandLineModuleNode


def setUpModule():
    global register
    folder = tempfile.TemporaryDirectory()
    unittest.addModuleCleanup(folder.cleanup)
    register = slicer_host.description_register(folder.name)
    slicer_host.logic.CreateProcessingThread()
    unittest.addModuleCleanup(slicer_host.logic.TerminateProcessingThread)


def description():
    return subprocess.run([SEGMENT, "--xml"], capture_output=True, check=True).stdout


def module_node():
    title = register(description(), SEGMENT.encode())
    assert title, "Slicer refuses the description"
    node = NODE()
    node.SetModuleDescription(title.decode())
    return node


def children():
    """The processes that this one has started and that have not ended."""
    lists = Path("/proc/self/task").glob("*/children")
    return [int(pid) for of_thread in lists for pid in of_thread.read_text(encoding="ascii").split()]


def parameters():
    node = module_node()
    for group in range(node.GetNumberOfParameterGroups()):
        for parameter in range(node.GetNumberOfParametersInGroup(group)):
            names = "Name", "Tag", "LongFlag", "Label", "Description", "Channel", "Index", "Type"
            yield {name: getattr(node, f"GetParameter{name}")(group, parameter) for name in names}


class Description(unittest.TestCase):
    def test_slicers_parser_reads_all_of_it(self):
        self.assertTrue(module_node().GetModuleVersion())
        read = list(parameters())
        self.assertEqual(len({p["Name"] for p in read}), len(read))
        self.assertEqual(len(read), description().count(b"<name>"))
        for parameter in read:
            self.assertTrue(parameter["Label"] and parameter["Description"], parameter)
            self.assertEqual(parameter["LongFlag"] == "", parameter["Index"] != "", parameter)
        self.assertEqual(module_node().GetModuleDescriptionAsString().count("Reference: inputVolume\n"), 2)
        volumes = [p for p in read if p["Tag"] == "image" and p["Index"]]
        self.assertEqual([(p["Name"], p["Channel"], p["Index"], p["Type"]) for p in volumes],
                         [("inputVolume", "input", "0", "scalar"), ("outputMask", "output", "1", "label")])

    def test_slicers_parser_refuses_hyphens_inside_flags(self):
        with tempfile.TemporaryFile() as said:
            stderr = os.dup(2)
            os.dup2(said.fileno(), 2)
            try:
                title = register(description().replace(b"--patch_size", b"--patch-size"), SEGMENT.encode())
            finally:
                os.dup2(stderr, 2)
                os.close(stderr)
            said.seek(0)
            self.assertIn(b'The offending name is "patch-size"', said.read())
        self.assertIsNone(title)


class Runs(SceneCase):
    def setUp(self):
        super().setUp()
        self.ct = self.volume(self.array)
        self.mask = self.node("vtkMRMLLabelMapVolumeNode")
        self.fractions = []

    def start(self, **values):
        module = slicer_host.module_logic(slicer.vtkSlicerCLIModuleLogic)
        node = module_node()
        slicer.mrmlScene.AddNode(node)
        for name, value in {"inputVolume": self.ct, "outputMask": self.mask, "model": self.model, "device": "cpu", **values}.items():
            if isinstance(value, str):
                node.SetParameterAsString(name, value)
            else:
                node.SetParameterAsNode(name, value)
        module.Apply(node, False)
        self.addCleanup(lambda: module)  # outlives its thread's work
        return node

    def ended(self, node):
        self.fractions.append(node.GetProgress())
        return not node.IsBusy()

    def finish(self, node):
        wait_until(lambda: self.ended(node), seconds=120)
        self.assertEqual(children(), [])
        return node.GetStatusString()

    def run_module(self, **values):
        node = self.start(**values)
        self.assertEqual((self.finish(node), node.GetErrorText()), ("Completed", ""))
        self.assertNotIn("ERROR", self.logged())
        return node

    def assert_on_the_grid(self, node):
        self.assertIsNotNone(node.GetImageData())
        self.assertEqual(slicer.util.arrayFromVolume(node).shape, slicer.util.arrayFromVolume(self.ct).shape)
        np.testing.assert_allclose(ijk_to_ras(node), ijk_to_ras(self.ct), atol=1e-9)

    def flags(self):
        """Those of the command line that Slicer has built."""
        command = re.search(rf"^{re.escape(SEGMENT)} .*$", self.logged(), re.MULTILINE)[0].split()
        return [word for word in command if word.startswith("--")]

    def test_defaults(self):
        """On an oblique grid: the mask of the volume's slices as they lie, on exactly this grid, beside the volume."""
        tree = slicer.mrmlScene.GetSubjectHierarchyNode()
        folder = tree.CreateFolderItem(tree.GetSceneItemID(), "patient")
        tree.CreateItem(folder, self.ct)  # as Slicer's plugins do when a node is added
        mask_item = tree.CreateItem(tree.GetSceneItemID(), self.mask)
        node = self.run_module()
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(self.mask), self.expected)
        self.assert_on_the_grid(self.mask)
        self.assertEqual(tree.GetItemParent(mask_item), folder)
        self.assertNotIn("<", node.GetOutputText())
        self.assertIn("patches of 32 px every 8 px, on cpu", node.GetOutputText())
        self.assertEqual(self.flags(), "--model --fill --padding --device --threads --memory --slicer_progress".split())

    def test_every_parameter(self):
        Path(self.model).write_bytes(maximum_model.build(metadata={"patchmask.pixel_mm": "1.4"}))
        region = np.zeros(self.array.shape, np.uint8)
        region[:, :, :20] = 1
        roi, probability = self.volume(region, kind="vtkMRMLLabelMapVolumeNode"), self.node("vtkMRMLScalarVolumeNode")
        options = {"patchSize": "32", "stride": "8", "pixelMm": "5", "noResample": "true", "window": "-160,240", "fill": "linear",
                   "threshold": "0.6", "body": "true", "padding": "image", "threads": "1", "memory": "256"}
        self.run_module(roi=roi, probability=probability, **options)
        self.assertEqual(sorted(self.flags()), sorted("--" + p["LongFlag"] for p in parameters() if p["LongFlag"]))
        for volume in (self.mask, probability):
            self.assert_on_the_grid(volume)
        self.assertEqual(slicer.util.arrayFromVolume(probability).dtype, np.float32)
        mask = slicer.util.arrayFromVolume(self.mask)
        self.assertFalse(mask[:, :, 20:].any())
        np.testing.assert_array_equal(mask[:, :, :20], slicer.util.arrayFromVolume(probability)[:, :, :20] >= 0.6)

    def test_pixels_of_another_size_than_the_models(self):
        """A part of the demo scan and the same with four times as many pixels: area averages give the model the same slices, and at an odd
        stride no voxel is as near to one patch as to another."""
        masks = []
        for times in (1, 2):
            self.ct = scene_case.demo_volume(times)
            self.run_module(model=str(DEMO / "model.safetensors"), stride="15")
            self.assert_on_the_grid(self.mask)
            masks.append(np.array(slicer.util.arrayFromVolume(self.mask)))
        self.assertTrue(masks[0].any())
        np.testing.assert_array_equal(scene_case.enlarge(masks[0], 2), masks[1])

    def test_results_of_a_transformed_volume_lie_in_its_own_coordinates(self):
        """As of every command-line module of Slicer."""
        self.ct.SetAndObserveTransformNodeID(scene_case.transform().GetID())
        self.run_module()
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(self.mask), self.expected)
        self.assert_on_the_grid(self.mask)
        self.assertIsNone(self.mask.GetTransformNodeID())

    def test_results_of_a_left_handed_volume(self):
        """Slicer reads every grid as a right-handed one: slices the other way round, at the same places."""
        left_handed = LPS_TO_RAS @ np.diag([1, -1, 1, 1])
        self.ct = self.volume(self.array, left_handed)
        self.run_module()
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(self.mask)[::-1], self.expected)
        turned = np.diag([1.0, 1, -1, 1])
        turned[2, 3] = len(self.array) - 1
        np.testing.assert_allclose(ijk_to_ras(self.mask), left_handed @ turned, atol=1e-9)

    def test_progress_and_cancel(self):
        Path(self.model).write_bytes(maximum_model.build(width=32, patch_size=64, stride=3))
        self.ct = self.volume(np.zeros((40, 256, 256), np.int16))
        node = self.start()
        wait_until(lambda: self.ended(node) or node.GetProgress() > 1)
        self.assertEqual(node.GetStatusString(), "Running")
        self.assertEqual(len(children()), 1)
        node.Cancel()
        began = time.monotonic()
        self.assertEqual(self.finish(node), "Cancelled")
        self.assertLess(time.monotonic() - began, 3)
        self.assertEqual(self.fractions[:-1], sorted(self.fractions[:-1]))
        self.assertIsNone(self.mask.GetImageData())

    def test_what_is_wrong_is_one_line(self):
        for values, error in (
            ({"stride": "33"}, r"segment: stride 33: [^\n]+\n"),
            ({"model": self.path("none.safetensors")}, r"segment: [^\n]*none.safetensors[^\n]*\n"),
            ({"model": ""}, r"segment: --model FILE: is required\n"),
        ):
            with self.subTest(values):
                node = self.start(**values)
                self.assertEqual(self.finish(node), "Completed with errors")
                self.assertRegex(node.GetErrorText(), rf"\A{error}\Z")
                self.assertIsNone(self.mask.GetImageData())


if __name__ == "__main__":
    unittest.main()
