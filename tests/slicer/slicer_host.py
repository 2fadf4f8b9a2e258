"""3D Slicer for its modules, from its own libraries (the package slicer-core): the scene, nodes, storage, segmentations, command-line
modules and slicer.util are Slicer's. What Qt brings to Slicer is supplied here; widgets and the panel's parameters are not.

Importing it makes `import slicer` and `import qt` find this Slicer."""

import ctypes
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from types import ModuleType, SimpleNamespace

import slicer
import slicer.util
import slicer_core
import vtk

log = vtk.vtkStringOutputWindow()  # what Slicer shows in its error log
vtk.vtkOutputWindow.SetInstance(log)
vtk.vtkLogger.SetStderrVerbosity(vtk.vtkLogger.VERBOSITY_OFF)

scene = slicer.mrmlScene = slicer.vtkMRMLScene()
logic = slicer.vtkSlicerApplicationLogic()
logic.SetHomeDirectory(tempfile.gettempdir())  # has no files of colours
cache = slicer.vtkCacheManager()  # reading results back asks it
scene.SetCacheManager(cache)
logic.SetMRMLScene(scene)


def module_logic(kind):
    """A logic as Slicer's module of it would have made it."""
    made = kind()
    made.SetMRMLApplicationLogic(logic)
    made.SetMRMLScene(scene)
    return made


colors, volumes, segmentations = map(
    module_logic, (slicer.vtkSlicerColorLogic, slicer.vtkSlicerVolumesLogic, slicer.vtkSlicerSegmentationsModuleLogic)
)
logic.SetColorLogic(colors)
for name, made in (("Colors", colors), ("Volumes", volumes), ("Segmentations", segmentations)):
    logic.SetModuleLogic(name, made)


class CoreIOManager:
    """qSlicerCoreIOManager, as far as slicer.util.exportNode asks it: volumes to NRRD by their storage node."""

    def extractKnownExtension(self, path, node):
        return ".nrrd"

    def fileWriterExtensions(self, node):
        return ["NRRD (.nrrd)"]

    def exportNodes(self, ids, paths, properties, harden_transform, messages):
        node = scene.GetNodeByID(ids[0])
        storage = node.CreateDefaultStorageNode()
        storage.SetUseCompression(properties["useCompression"])
        storage.SetFileName(paths[0])
        return storage.WriteData(node) == 1


def process_events():
    """What threads have asked the main loop to do."""
    logic.ProcessModified()
    logic.ProcessReadData()


def set_temporary_path(path):
    slicer.app.temporaryPath = str(path)
    logic.SetTemporaryPath(str(path))


def description_register(folder):
    """register_module of describe.cxx, built in `folder` against Slicer's libraries."""
    libraries = Path(slicer_core.__file__).parent
    parsers = libraries / "third_party.libs"
    built = Path(folder, "describe.so")
    command = [os.environ.get("CXX", "c++"), "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    command += ["-D_GLIBCXX_USE_CXX11_ABI=0", f"-Wl,-rpath,{libraries}:{parsers}", "-o", built]  # the wheel's ABI
    command += [Path(__file__).with_name("describe.cxx"), libraries / "libMRMLCLI.so", parsers / "libModuleDescriptionParser.so"]
    subprocess.run(command, check=True)
    register = ctypes.CDLL(built).register_module
    register.restype = ctypes.c_char_p
    return register


class ScriptedLoadableModuleTest(unittest.TestCase):
    def delayDisplay(self, message):
        print(message)


def _module(name, **members):
    made = sys.modules[name] = ModuleType(name)
    made.__dict__.update(members)
    return made


slicer.app = SimpleNamespace(processEvents=process_events, coreIOManager=CoreIOManager, applicationLogic=lambda: logic)
set_temporary_path(tempfile.gettempdir())
slicer.modules = SimpleNamespace(segmentations=SimpleNamespace(logic=lambda: segmentations))
_module("qt")
_module("slicer.i18n", tr=str, translate=lambda context, text: text)
_module(
    "slicer.ScriptedLoadableModule",
    ScriptedLoadableModuleTest=ScriptedLoadableModuleTest,
    **{f"ScriptedLoadableModule{kind}": type(f"ScriptedLoadableModule{kind}", (), {}) for kind in ("", "Widget", "Logic")},
)
_module(
    "slicer.parameterNodeWrapper",
    Choice=lambda choices: SimpleNamespace(choices=choices),
    WithinRange=lambda low, high: SimpleNamespace(low=low, high=high),
    parameterNodeWrapper=lambda wrapped: wrapped,
)
