"""The lesions in 3-D: surfaces in mm (vtk), and a picture of them.

masks, CT --> blurred, contoured, smoothed meshes in patient space --+--> surface.png (vtk, else matplotlib)
                                                                    +--> view.html (`page`)
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, Optional

import matplotlib.colors
import numpy as np
import SimpleITK as sitk
from matplotlib.figure import Figure

from .scan import BODY_COLOUR, BODY_HU, BONE_COLOUR, BONE_HU, RESULT_COLOUR, TRUTH_COLOUR, Scan

Mesh = Any  # vtkPolyData
TRIANGLES = {"truth": 40_000, "result": 40_000, "bone": 50_000, "body": 20_000}  # at most, in the page


def surface(volume: np.ndarray, level: float, scan: Scan, smooth_mm: float, close_ends: bool) -> Optional[Mesh]:
    """vtkPolyData in mm of where `volume` exceeds `level`, smoothed; None where nothing does."""
    import vtk
    from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

    values = volume.astype(np.float32)
    blurred = sitk.GetImageFromArray(values)
    blurred.SetSpacing([float(step) for step in scan.spacing])
    values = sitk.GetArrayFromImage(sitk.DiscreteGaussian(blurred, [smooth_mm**2] * 3))
    if close_ends:
        values = np.pad(values, 1, constant_values=float(values.min()))
    if not (values > level).any():
        return None
    image = vtk.vtkImageData()
    image.SetDimensions(values.shape[::-1])
    image.GetPointData().SetScalars(numpy_to_vtk(values.ravel(), deep=True))
    contour = vtk.vtkFlyingEdges3D()
    contour.SetInputData(image)
    contour.SetValue(0, level)
    contour.ComputeNormalsOff()
    contour.Update()
    mesh = contour.GetOutput()
    if mesh.GetNumberOfPoints() == 0:
        return None
    # Index space -> mm here, for oblique grids too.
    index = vtk_to_numpy(mesh.GetPoints().GetData()) - (1 if close_ends else 0)
    world = index @ scan.index_to_world[:3, :3].T + scan.index_to_world[:3, 3]
    points = vtk.vtkPoints()
    points.SetData(numpy_to_vtk(np.ascontiguousarray(world), deep=True))
    mesh.SetPoints(points)
    smoother = vtk.vtkWindowedSincPolyDataFilter()
    smoother.SetInputData(mesh)
    smoother.SetNumberOfIterations(40)
    smoother.SetPassBand(0.03)
    smoother.NonManifoldSmoothingOn()
    smoother.NormalizeCoordinatesOn()
    normals = vtk.vtkPolyDataNormals()
    normals.SetInputConnection(smoother.GetOutputPort())
    normals.SplittingOff()
    normals.Update()
    return normals.GetOutput()


def outer_body(ct: np.ndarray) -> np.ndarray:
    """The patient without the surroundings, slice by slice without holes: one skin and no lungs."""
    body = sitk.GetImageFromArray((ct > BODY_HU).astype(np.uint8))
    body = sitk.BinaryMorphologicalOpening(body, [2, 2, 0])
    body = sitk.RelabelComponent(sitk.ConnectedComponent(body)) == 1
    return np.stack([sitk.GetArrayFromImage(sitk.BinaryFillhole(body[:, :, z])) for z in range(len(ct))])


def surfaces(scan: Scan) -> dict[str, Mesh]:
    """Name -> mesh of everything there is to show."""
    fine = min(scan.spacing)
    mask_mm = 0.4 * np.cbrt(np.prod(scan.spacing))
    meshes = {
        "truth": None if scan.truth is None else surface(scan.truth, 0.5, scan, mask_mm, True),
        "result": surface(scan.result, 0.5, scan, mask_mm, True),
        "bone": surface(np.where(scan.ct > BODY_HU, scan.ct, BODY_HU), BONE_HU, scan, 1.2 * fine, False),
        "body": surface(outer_body(scan.ct), 0.5, scan, 2.5 * fine, False),
    }
    return {name: mesh for name, mesh in meshes.items() if mesh is not None}


def triangles(mesh: Mesh, maximum: int) -> tuple[np.ndarray, np.ndarray]:
    """(points [n][3], faces [m][3]) of a mesh, decimated to about `maximum` triangles."""
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    count = mesh.GetNumberOfPolys()
    if count > maximum:
        decimate = vtk.vtkQuadricDecimation()
        decimate.SetInputData(mesh)
        decimate.SetTargetReduction(1 - maximum / count)
        decimate.Update()
        mesh = decimate.GetOutput()
    faces = vtk_to_numpy(mesh.GetPolys().GetConnectivityArray()).reshape(-1, 3)
    return vtk_to_numpy(mesh.GetPoints().GetData()), faces


STYLE: dict[str, tuple[str, float, str]] = {  # colour, opacity, name for people
    "truth": (TRUTH_COLOUR, 0.35, "truth"),
    "result": (RESULT_COLOUR, 1.0, "result"),
    "bone": (BONE_COLOUR, 0.16, "bone"),
    "body": (BODY_COLOUR, 0.10, "body"),
}


def legend(meshes: dict[str, Mesh]) -> list[tuple[str, tuple[float, ...]]]:
    """(text, colour) of the lesions, and of what the result looks like through the truth."""
    rgb = matplotlib.colors.to_rgb
    lesions = [name for name in ("truth", "result") if name in meshes]
    shown: list[tuple[str, tuple[float, ...]]] = [(STYLE[name][2], rgb(STYLE[name][0])) for name in lesions]
    if len(shown) == 2:
        colour, opacity, _ = STYLE["truth"]
        mixed = zip(rgb(colour), rgb(RESULT_COLOUR))
        shown.append(("both agree", tuple(opacity * truth + (1 - opacity) * result for truth, result in mixed)))
    return shown


def vtk_draws() -> bool:
    """True if vtk can draw without a screen here; tried in another process, for it may crash."""
    probe = (
        "import vtk; w = vtk.vtkRenderWindow(); w.SetOffScreenRendering(1); w.AddRenderer(vtk.vtkRenderer()); "
        "w.Render(); print('drawn' if w.SupportsOpenGL() else 'no')"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, encoding="utf-8", errors="replace")
    return done.returncode == 0 and done.stdout.strip().endswith("drawn")


def fit(renderer: Any, meshes: list[Mesh], aspect: float, fill: float = 0.92, room_for_text: float = 0.12) -> None:
    """Zooms and shifts the camera until the meshes fill the view below the text."""
    from vtk.util.numpy_support import vtk_to_numpy

    camera = renderer.GetActiveCamera()
    matrix = camera.GetCompositeProjectionTransformMatrix(aspect, -1, 1)
    matrix = np.array([[matrix.GetElement(i, j) for j in range(4)] for i in range(4)])
    points = np.concatenate([vtk_to_numpy(mesh.GetPoints().GetData()) for mesh in meshes])
    seen = np.c_[points, np.ones(len(points))] @ matrix.T
    seen = seen[:, :2] / seen[:, 3:]  # -1..1 across the view
    low, high = seen.min(0), seen.max(0)
    zoom = 2 * fill * min(1 / (high[0] - low[0]), (1 - room_for_text) / (high[1] - low[1]))
    centre = zoom * (low + high) / 2
    camera.Zoom(zoom)
    camera.SetWindowCenter(centre[0], centre[1] + room_for_text)
    renderer.ResetCameraClippingRange()


def render_vtk(meshes: dict[str, Mesh], title: str, path: Path, size: tuple[int, int] = (1600, 640)) -> None:
    """Two views: the whole from the front and a little above, and the lesions alone, closer."""
    import vtk

    vtk.vtkLogger.SetStderrVerbosity(vtk.vtkLogger.VERBOSITY_ERROR)  # it warns that there is no screen
    window = vtk.vtkRenderWindow()
    window.SetOffScreenRendering(1)
    window.SetSize(*size)
    window.SetMultiSamples(0)
    window.SetAlphaBitPlanes(1)
    lesions: list[str] = [name for name in ("truth", "result") if name in meshes]
    views: list[list[str]] = [list(meshes), lesions] if lesions else [list(meshes)]
    for view, names in enumerate(views):
        renderer = vtk.vtkRenderer()
        renderer.SetViewport(view / len(views), 0, (view + 1) / len(views), 1)
        renderer.SetBackground(0.09, 0.10, 0.13)
        renderer.SetUseDepthPeeling(1)
        renderer.SetMaximumNumberOfPeels(12)
        renderer.SetOcclusionRatio(0.0)
        for name in names:
            colour, opacity, _ = STYLE[name]
            mapper = vtk.vtkPolyDataMapper()
            mapper.SetInputData(meshes[name])
            mapper.ScalarVisibilityOff()
            actor = vtk.vtkActor()
            actor.SetMapper(mapper)
            actor.GetProperty().SetColor(*matplotlib.colors.to_rgb(colour))
            actor.GetProperty().SetOpacity(opacity)
            actor.GetProperty().SetSpecular(0.2)
            renderer.AddActor(actor)
        camera = renderer.GetActiveCamera()
        camera.SetFocalPoint(0, 0, 0)
        camera.SetPosition(-0.45, -1, 0.35)  # from the front (posterior is +y), the patient's right, above
        camera.SetViewUp(0, 0, 1)
        renderer.ResetCamera()
        fit(renderer, [meshes[name] for name in names], size[0] / len(views) / size[1])
        texts: list[Any] = [(title if view == 0 else "the lesions alone", (1, 1, 1), 0.94, 24)]
        for line, (text, rgb) in enumerate(legend(meshes) if view == 0 else ()):
            texts.append((text, rgb, 0.885 - 0.05 * line, 22))
        for text, colour, y, points in texts:
            label = vtk.vtkTextActor()
            label.SetInput(text)
            label.GetTextProperty().SetFontSize(points)
            label.GetTextProperty().SetColor(*colour)
            label.GetPositionCoordinate().SetCoordinateSystemToNormalizedViewport()
            label.SetPosition(0.03, y)
            renderer.AddViewProp(label)
        window.AddRenderer(renderer)
    window.Render()
    grab = vtk.vtkWindowToImageFilter()
    grab.SetInput(window)
    grab.ReadFrontBufferOff()
    writer = vtk.vtkPNGWriter()
    writer.SetFileName(str(path))
    writer.SetInputConnection(grab.GetOutputPort())
    writer.Write()


def render_matplotlib(meshes: dict[str, Mesh], title: str, path: Path) -> None:
    """A plainer picture where vtk cannot draw: lesions only."""
    figure = Figure(figsize=(9, 8))
    axes: Any = figure.add_subplot(projection="3d")
    extent: Any = []
    for name in ("result", "truth"):
        if name in meshes:
            points, faces = triangles(meshes[name], 15_000)
            colour, opacity, label = STYLE[name]
            axes.plot_trisurf(*points.T, triangles=faces, color=colour, alpha=opacity, label=label, linewidth=0)
            extent.append(points)
    if extent:
        extent = np.concatenate(extent)
        axes.set_box_aspect(np.ptp(extent, axis=0))
        axes.legend()
    axes.view_init(20, -115)
    axes.set(xlabel="left, mm", ylabel="posterior, mm", zlabel="superior, mm", title=title)
    figure.savefig(path, dpi=120)
