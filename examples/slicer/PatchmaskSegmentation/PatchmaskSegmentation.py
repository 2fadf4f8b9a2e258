"""3D Slicer module: the lesions of a CT volume as a segmentation, by the Python package `patchmask`.

    volume node --NRRD--> python -m patchmask segment (a process of its own) --NRRD--> mask --> segmentation node
                                   progress, cancel                                             closed surface, table

What does not need Slicer is in PatchmaskSegmentationLib."""

import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Annotated, Callable, NamedTuple, Optional

import numpy as np
import qt
import slicer
import vtk
from slicer import (
    vtkMRMLLabelMapVolumeNode,
    vtkMRMLNRRDStorageNode,
    vtkMRMLScalarVolumeNode,
    vtkMRMLSegmentationNode,
)
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

from PatchmaskSegmentationLib.job import Job, read_lesion_class, segment_command
from PatchmaskSegmentationLib.masks import Lesion, binary_labelmap, check_same_grid, find_lesions, vtk_matrix


class PatchmaskSegmentation(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("Patchmask Lesion Segmentation (background)")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = ["Segmentations"]
        self.parent.contributors = ["The patchmask authors"]
        self.parent.helpText = _(
            "Classifies every patch of every slice of a CT volume in HU with a VGG16 and makes a segmentation of the "
            "lesions. It is no medical device."
        )
        self.parent.acknowledgementText = _("MIT or Apache-2.0.")


@parameterNodeWrapper
class PatchmaskSegmentationParameterNode:
    """
    inputVolume - CT volume in HU.
    roi - evaluate only where this label map is not zero; none: everywhere.
    outputSegmentation - gets the lesions.
    modelPath - weights (.safetensors).
    stride - pixels between patch centres; 0: the model's.
    pixelMm - side of the pixels that patch size and stride count, in mm; 0: the model's.
    resample - slices of other pixels are resampled to these; else the volume's pixels are kept.
    threshold - probability from which a voxel is lesion; 0: the model's.
    fill - how patch classes become voxels.
    device - where the network runs.
    """

    inputVolume: vtkMRMLScalarVolumeNode
    roi: vtkMRMLLabelMapVolumeNode
    outputSegmentation: vtkMRMLSegmentationNode
    modelPath: Path
    stride: Annotated[int, WithinRange(0, 1024)] = 0
    pixelMm: Annotated[float, WithinRange(0, 100)] = 0
    resample: bool = True
    threshold: Annotated[float, WithinRange(0, 1)] = 0
    fill: Annotated[str, Choice(["nearest", "linear"])] = "nearest"
    device: Annotated[str, Choice(["auto", "cpu", "cuda"])] = "auto"


class PatchmaskSegmentationWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    POLL_MS = 100

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic: Optional[PatchmaskSegmentationLogic] = None
        self._parameterNode = None
        self._parameterNodeGuiTag = None

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/PatchmaskSegmentation.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)

        self.logic = PatchmaskSegmentationLogic()
        self.timer = qt.QTimer()
        self.timer.setInterval(self.POLL_MS)
        self.timer.connect("timeout()", self.onTimer)

        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.ui.applyButton.connect("clicked(bool)", self.onApplyButton)
        self.ui.cancelButton.connect("clicked(bool)", self.onCancelButton)
        self.initializeParameterNode()

    def cleanup(self):
        self.timer.stop()
        self.logic.cancel()
        self.removeObservers()

    def enter(self):
        self.initializeParameterNode()

    def exit(self):
        if self._parameterNode:
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
            self._parameterNodeGuiTag = None
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self.updateButtons)

    def onSceneStartClose(self, caller, event):
        self.logic.cancel()
        self.setParameterNode(None)

    def onSceneEndClose(self, caller, event):
        if self.parent.isEntered:
            self.initializeParameterNode()

    def initializeParameterNode(self):
        self.setParameterNode(self.logic.getParameterNode())
        if not self._parameterNode.inputVolume:
            first = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")
            if first:
                self._parameterNode.inputVolume = first

    def setParameterNode(self, parameterNode):
        if self._parameterNode:
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self.updateButtons)
        self._parameterNode = parameterNode
        if self._parameterNode:
            # Each widget's dynamic property SlicerParameterName says which parameter it shows.
            self._parameterNodeGuiTag = self._parameterNode.connectGui(self.ui)
            self.addObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self.updateButtons)
            self.updateButtons()

    def updateButtons(self, caller=None, event=None):
        given = self._parameterNode
        ready = bool(given and given.inputVolume and given.modelPath and Path(given.modelPath).is_file())
        self.ui.applyButton.enabled = ready and not self.logic.running
        self.ui.applyButton.toolTip = _("Find the lesions") if ready else _("Choose a volume and a model file")
        self.ui.cancelButton.enabled = self.logic.running

    def onApplyButton(self):
        given = self._parameterNode
        with slicer.util.tryWithErrorDisplay(_("The segmentation could not be started."), waitCursor=True):
            self.logic.start(
                given.inputVolume,
                Path(given.modelPath),
                roi=given.roi,
                stride=given.stride,
                pixelMm=given.pixelMm,
                resample=given.resample,
                threshold=given.threshold,
                fill=given.fill,
                device=given.device,
            )
            self.ui.lesionTable.setRowCount(0)
            self.ui.statusLabel.text = _("Running")
            self.timer.start()
        self.updateButtons()

    def onCancelButton(self):
        self.logic.cancel()

    def onTimer(self):
        if self.logic.running:
            # A bar from 0 to 0 moves without saying how far: the package is still loading.
            fraction = self.logic.fraction
            self.ui.progressBar.maximum = 0 if fraction is None else 1000
            self.ui.progressBar.value = 0 if fraction is None else round(1000 * fraction)
            return
        self.timer.stop()
        self.ui.progressBar.maximum = 1000
        self.ui.progressBar.value = 0
        self.ui.statusLabel.text = ""
        with slicer.util.tryWithErrorDisplay(_("The segmentation failed."), waitCursor=True):
            found = self.logic.finish()
            if found is None:
                self.ui.statusLabel.text = _("Cancelled")
            else:
                self.showFound(found)
        self.updateButtons()

    def showFound(self, found):
        given = self._parameterNode
        if not given.outputSegmentation:
            given.outputSegmentation = slicer.mrmlScene.AddNewNodeByClass(
                "vtkMRMLSegmentationNode", f"{found.volume.GetName()} lesions"
            )
        lesions = self.logic.fillSegmentation(given.outputSegmentation, *found)
        self.ui.progressBar.value = 1000
        self.ui.statusLabel.text = _("Lesions: {count}").format(count=len(lesions))
        self.ui.lesionTable.setRowCount(len(lesions))
        for row, lesion in enumerate(lesions):
            texts = [f"{lesion.volume_mm3:.1f}", ", ".join(f"{v:.1f}" for v in lesion.centroid_ras)]
            for column, text in enumerate(texts):
                self.ui.lesionTable.setItem(row, column, qt.QTableWidgetItem(text))


class Found(NamedTuple):
    """The findings of a run, in the order of fillSegmentation's arguments."""

    volume: vtkMRMLScalarVolumeNode
    mask: np.ndarray  # [slice][row][column], class numbers
    ijkToRas: np.ndarray  # 4 x 4, of the mask
    lesionClass: int


class PatchmaskSegmentationLogic(ScriptedLoadableModuleLogic):
    """start() -> poll `running` and `fraction` -> finish() -> fillSegmentation(). run() does it all, and keeps Slicer
    responsive."""

    SEGMENT_NAME = "lesion"
    SEGMENT_COLOUR = (1.0, 0.54, 0.12)

    def __init__(self):
        ScriptedLoadableModuleLogic.__init__(self)
        self._job: Optional[Job] = None
        self._folder: Optional[tempfile.TemporaryDirectory] = None
        self._volume: Optional[vtkMRMLScalarVolumeNode] = None

    def getParameterNode(self):
        return PatchmaskSegmentationParameterNode(super().getParameterNode())

    @property
    def running(self) -> bool:
        return self._job is not None and self._job.state == "running"

    @property
    def fraction(self) -> Optional[float]:
        return self._job.fraction if self._job is not None else None

    def cancel(self) -> None:
        if self._job is not None:
            self._job.cancel()

    def start(
        self, inputVolume, modelPath, roi=None, stride=0, pixelMm=0, resample=True, threshold=0, fill="nearest", device="auto"
    ):
        """Writes the volume to a temporary folder and starts the package there. The options are those of the panel."""
        if self.running:
            raise RuntimeError("a segmentation is running: wait for it or cancel it")
        if not inputVolume or not inputVolume.GetImageData():
            raise ValueError("the input volume has no voxels")
        if not Path(modelPath).is_file():
            raise ValueError(f"{modelPath}: no such model file")
        python = shutil.which("PythonSlicer")
        if python is None:
            raise RuntimeError("PythonSlicer is not on PATH")
        self._folder = tempfile.TemporaryDirectory(prefix="patchmask-", dir=slicer.app.temporaryPath)
        try:
            scan = self._export(inputVolume, "scan.nrrd")
            roiPath = self._export(roi, "roi.nrrd") if roi else None
            paths = (scan, *self._results(), Path(modelPath))
            self._job = Job(segment_command(python, *paths, stride, fill, device, roiPath, pixelMm, resample, threshold))
        except Exception:
            self._forget()
            raise
        self._volume = inputVolume

    def finish(self) -> Optional[Found]:
        """Waits for the process and reads the mask; None where it was cancelled or the volume has left the scene."""
        try:
            state = self._job.wait()
            if state == "cancelled" or not self._volume.GetScene():
                return None
            if state == "failed":
                raise RuntimeError(self._job.error)
            return self._load(*self._results())
        finally:
            self._forget()

    def run(
        self,
        inputVolume,
        outputSegmentation,
        modelPath,
        onProgress: Optional[Callable[[Optional[float]], None]] = None,
        **options,
    ) -> Optional[list[Lesion]]:
        """The whole way with the options of start(); None where it was cancelled."""
        self.start(inputVolume, modelPath, **options)
        while self.running:
            slicer.app.processEvents()
            time.sleep(0.05)
            if onProgress:
                onProgress(self.fraction)
        found = self.finish()
        return None if found is None else self.fillSegmentation(outputSegmentation, *found)

    def fillSegmentation(self, segmentation, volume, mask, ijkToRas, lesionClass=1) -> list[Lesion]:
        """Makes the mask the lesion segment of `segmentation`, on the grid of `volume`, with a closed surface."""
        check_same_grid(slicer.util.arrayFromVolume(volume).shape, self.ijkToRas(volume), mask.shape, ijkToRas)
        image = slicer.vtkOrientedImageData()
        image.DeepCopy(binary_labelmap(mask, lesionClass))
        image.SetGeometryFromImageToWorldMatrix(vtk_matrix(ijkToRas))
        segmentation.CreateDefaultDisplayNodes()
        # The transform first: the grid of `volume`, on which Slicer saves the segments, is taken relative to it.
        segmentation.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
        segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        before = segmentation.GetSegmentation().GetSegmentIdBySegmentName(self.SEGMENT_NAME)
        if before:
            segmentation.GetSegmentation().RemoveSegment(before)
        segmentation.AddSegmentFromBinaryLabelmapRepresentation(image, self.SEGMENT_NAME, self.SEGMENT_COLOUR)
        segmentation.CreateClosedSurfaceRepresentation()
        return find_lesions(mask, ijkToRas, lesionClass)

    @staticmethod
    def ijkToRas(volume):
        matrix = vtk.vtkMatrix4x4()
        volume.GetIJKToRASMatrix(matrix)
        return slicer.util.arrayFromVTKMatrix(matrix)

    def _export(self, node, name):
        path = Path(self._folder.name, name)
        if not slicer.util.exportNode(node, str(path), {"useCompression": 0}):
            raise RuntimeError(f"{node.GetName()}: could not be written to {path}")
        return path

    def _results(self):
        """The paths to which the process writes the mask and the report."""
        return [Path(self._folder.name, name) for name in ("mask.nrrd", "report.json")]

    def _load(self, path, report) -> Found:
        mask = vtkMRMLScalarVolumeNode()  # not in the scene: nothing to show, nothing to remove
        storage = vtkMRMLNRRDStorageNode()  # which keeps left-handed grids; Slicer's other readers turn them over
        storage.SetFileName(str(path))
        if not storage.ReadData(mask):
            raise RuntimeError(f"{path}: could not be read")
        array = np.array(slicer.util.arrayFromVolume(mask))
        return Found(self._volume, array, self.ijkToRas(mask), read_lesion_class(report))

    def _forget(self):
        if self._folder is not None:
            self._folder.cleanup()
        self._job = self._folder = self._volume = None


class PatchmaskSegmentationTest(ScriptedLoadableModuleTest):
    """In Slicer: Developer tools > Reload and Test. PATCHMASK_MODEL names a model file for the whole way."""

    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self):
        self.setUp()
        self.test_segmentationLiesOnTheVolume()
        self.setUp()
        self.test_wholeWay()

    def makeVolume(self):
        array = np.zeros((8, 40, 48), np.int16)
        array[3:5, 10:20, 12:30] = 120
        volume = slicer.util.addVolumeFromArray(array)
        matrix = np.array([[0, 0, -2.5, 30], [-0.7, 0, 0, 20], [0, 0.8, 0, -10], [0, 0, 0, 1]])
        volume.SetIJKToRASMatrix(vtk_matrix(matrix))
        return volume, array

    def test_segmentationLiesOnTheVolume(self):
        volume, array = self.makeVolume()
        segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
        logic = PatchmaskSegmentationLogic()
        mask = (array > 0).astype(np.uint8)
        lesions = logic.fillSegmentation(segmentation, volume, mask, logic.ijkToRas(volume))
        self.assertEqual([lesion.voxels for lesion in lesions], [2 * 10 * 18])
        segmentId = segmentation.GetSegmentation().GetNthSegmentID(0)
        back = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, segmentId, volume)
        np.testing.assert_array_equal(back, mask)
        surface = vtk.vtkPolyData()
        self.assertTrue(segmentation.GetClosedSurfaceRepresentation(segmentId, surface))
        edges = vtk.vtkFeatureEdges()
        edges.SetInputData(surface)
        edges.FeatureEdgesOff()
        edges.NonManifoldEdgesOff()
        edges.Update()
        self.assertEqual(edges.GetOutput().GetNumberOfCells(), 0)
        self.assertRaises(ValueError, logic.fillSegmentation, segmentation, volume, mask[1:], logic.ijkToRas(volume))

    def test_wholeWay(self):
        model = os.environ.get("PATCHMASK_MODEL")
        if not model:
            self.delayDisplay("Skipped: PATCHMASK_MODEL names no model")
            return
        volume, _array = self.makeVolume()
        segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
        lesions = PatchmaskSegmentationLogic().run(volume, segmentation, model)
        self.assertIsNotNone(lesions)
        self.assertEqual(segmentation.GetSegmentation().GetNumberOfSegments(), 1)
