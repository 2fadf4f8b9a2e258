"""Pictures of a segmentation: slices with outlines, the lesions in 3-D, and a page to turn them on.

    python render.py --ct ct.nrrd --truth truth.nrrd --mask mask.nrrd --out pictures/

writes overlay.png (per slice: input, truth, result), surface.png (truth translucent, result solid, the body faint)
and surface.html (the same, interactive, in one file that needs no network). The volumes share one grid; whatever
its axes, everything is shown in patient space: in slices the patient's left is on the right and the front is up.

    CT, truth, mask --> axes towards left, posterior, superior --+--> outlines (matplotlib)
                                                                  +--> surfaces in mm (vtk) --> png, html (plotly)
"""

import argparse
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
import SimpleITK as sitk  # noqa: E402

WINDOW = (-160, 240)  # HU shown from black to white
BODY_HU, BONE_HU = -300, 190
TRUTH_COLOUR, RESULT_COLOUR = "#35c9f0", "#ff8a1f"
BODY_COLOUR, BONE_COLOUR = "#d8b9a3", "#f3ead8"
TRIANGLES = {"truth": 40_000, "result": 40_000, "bone": 50_000, "body": 20_000}  # at most, in the page


@dataclass
class Scan:
    """CT and masks as arrays [slice][row][column], axes towards superior, posterior, left, and their grid."""

    ct: np.ndarray  # HU
    truth: np.ndarray  # bool
    result: np.ndarray  # bool
    spacing: tuple  # mm along column, row, slice
    index_to_world: np.ndarray  # 4 x 4, (column, row, slice, 1) -> mm in left-posterior-superior space


def read_scan(ct_path, truth_path, mask_path, lesion_class):
    """Reads the three volumes; stops if their grids differ."""
    images = [sitk.ReadImage(str(path)) for path in (ct_path, truth_path, mask_path)]
    for image, path in zip(images[1:], (truth_path, mask_path)):
        same = image.GetSize() == images[0].GetSize() and all(
            np.allclose(getter(image), getter(images[0]), atol=1e-3)
            for getter in (sitk.Image.GetOrigin, sitk.Image.GetSpacing, sitk.Image.GetDirection)
        )
        if not same:
            sys.exit(f"{path}: not on the grid of {ct_path}")
    ct, truth, mask = (sitk.DICOMOrient(image, "LPS") for image in images)
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(ct.GetDirection(), (3, 3)) * ct.GetSpacing()
    matrix[:3, 3] = ct.GetOrigin()
    array = sitk.GetArrayFromImage
    return Scan(array(ct), array(truth) > 0, array(mask) == lesion_class, ct.GetSpacing(), matrix)


def dice(truth, result):
    """2 |A and B| / (|A| + |B|); 1 where both are empty."""
    both = int(truth.sum()) + int(result.sum())
    return 2 * int((truth & result).sum()) / both if both else 1.0


# ---- slices


def choose_slices(scan, count):
    """Slices spread over the extent of the lesions: in each of `count` equal parts the one with most lesion."""
    area = scan.truth.sum((1, 2)) + 1e-3 * scan.result.sum((1, 2))
    with_lesion = np.flatnonzero(area) if area.any() else np.arange(len(area))
    parts = np.array_split(np.arange(with_lesion[0], with_lesion[-1] + 1), count)
    middle_first = lambda part: area[part] * (0.2 + np.hanning(len(part) + 2)[1:-1])  # neighbours look alike
    return [int(part[np.argmax(middle_first(part))]) for part in parts if len(part)]


def lesion_box(scan, margin_mm=35, least_mm=160):
    """Rows and columns around all lesions with a margin, inside the body: (slice of rows, slice of columns)."""
    lesions = (scan.truth | scan.result).any(0)
    body = (scan.ct > BODY_HU).any(0)
    box = []
    for axis, step in ((1, scan.spacing[1]), (0, scan.spacing[0])):
        inside = np.flatnonzero(body.any(axis)) if body.any() else np.arange(body.shape[1 - axis])
        wanted = np.flatnonzero(lesions.any(axis)) if lesions.any() else inside
        room = max(margin_mm / step, (least_mm / step - np.ptp(wanted)) / 2)
        first, last = max(inside[0] - 4, wanted[0] - room), min(inside[-1] + 4, wanted[-1] + room)
        box.append(slice(max(0, int(first)), int(last) + 1))
    return tuple(box)


def outline(axes, mask, colour, **style):
    """Fills and outlines a mask."""
    if mask.any():
        axes.contourf(mask, levels=[0.5, 1.5], colors=[colour], alpha=0.22)
        axes.contour(mask, levels=[0.5], colors=[colour], **{"linewidths": 1.3, **style})


def overlay(scan, count, path):
    """The montage: a row per slice; input, truth, result (with the truth's outline dashed)."""
    chosen = choose_slices(scan, count)
    box = lesion_box(scan)
    rows, columns = scan.ct[0][box].shape
    aspect = scan.spacing[1] / scan.spacing[0]  # a pixel's height over its width
    width = 4.0
    height = width * rows * aspect / columns
    figure, grid = plt.subplots(
        len(chosen), 3, figsize=(3 * width + 0.5, len(chosen) * (height + 0.36) + 1.0), facecolor="black", squeeze=False
    )
    for z, line in zip(chosen, grid):
        truth, result = scan.truth[z][box], scan.result[z][box]
        millimetres = scan.index_to_world[2] @ (0, 0, z, 1)
        for axes in line:
            axes.imshow(scan.ct[z][box], cmap="gray", vmin=WINDOW[0], vmax=WINDOW[1], aspect=aspect)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        outline(line[1], truth, TRUTH_COLOUR)
        outline(line[2], result, RESULT_COLOUR)
        if truth.any():
            line[2].contour(truth, levels=[0.5], colors=[TRUTH_COLOUR], linewidths=1.0, linestyles="dashed")
        titles = (f"slice {z}, {millimetres:.0f} mm", "truth", f"result, Dice {dice(truth, result):.2f}")
        for axes, title, colour in zip(line, titles, ("white", TRUTH_COLOUR, RESULT_COLOUR)):
            axes.set_title(title, color=colour, fontsize=14, pad=5)
    for text, x, y in (("R", 0.02, 0.5), ("L", 0.95, 0.5), ("A", 0.485, 0.94)):
        grid[0][0].text(x, y, text, color="white", fontsize=12, transform=grid[0][0].transAxes, va="center")
    figure.suptitle(
        f"Lesions, Dice of the volume {dice(scan.truth, scan.result):.3f}   (window {WINDOW[0]} to {WINDOW[1]} HU; "
        "dashed: truth)",
        color="white",
        fontsize=16,
    )
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.15 / figure.get_figheight()), w_pad=0.4, h_pad=0.5)
    figure.savefig(path, dpi=110, facecolor="black")
    plt.close(figure)


# ---- surfaces


def surface(volume, level, scan, smooth_mm, close_ends):
    """vtkPolyData in mm of where `volume` exceeds `level`, smoothed; None where nothing does."""
    import vtk
    from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

    values = volume.astype(np.float32)
    blurred = sitk.GetImageFromArray(values)
    blurred.SetSpacing([float(step) for step in scan.spacing])
    values = sitk.GetArrayFromImage(sitk.DiscreteGaussian(blurred, smooth_mm**2))
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


def outer_body(ct):
    """The patient without the surroundings, slice by slice without holes: one skin and no lungs."""
    body = sitk.GetImageFromArray((ct > BODY_HU).astype(np.uint8))
    body = sitk.BinaryMorphologicalOpening(body, [2, 2, 0])
    body = sitk.RelabelComponent(sitk.ConnectedComponent(body)) == 1
    return np.stack([sitk.GetArrayFromImage(sitk.BinaryFillhole(body[:, :, z])) for z in range(len(ct))])


def surfaces(scan):
    """Name -> mesh of everything there is to show."""
    fine = min(scan.spacing)
    mask_mm = 0.4 * np.cbrt(np.prod(scan.spacing))
    meshes = {
        "truth": surface(scan.truth, 0.5, scan, mask_mm, True),
        "result": surface(scan.result, 0.5, scan, mask_mm, True),
        "bone": surface(np.where(scan.ct > BODY_HU, scan.ct, BODY_HU), BONE_HU, scan, 1.2 * fine, False),
        "body": surface(outer_body(scan.ct), 0.5, scan, 2.5 * fine, False),
    }
    return {name: mesh for name, mesh in meshes.items() if mesh is not None}


def triangles(mesh, most):
    """(points [n][3], faces [m][3]) of a mesh, decimated to about `most` triangles."""
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    count = mesh.GetNumberOfPolys()
    if count > most:
        decimate = vtk.vtkQuadricDecimation()
        decimate.SetInputData(mesh)
        decimate.SetTargetReduction(1 - most / count)
        decimate.Update()
        mesh = decimate.GetOutput()
    faces = vtk_to_numpy(mesh.GetPolys().GetConnectivityArray()).reshape(-1, 3)
    return vtk_to_numpy(mesh.GetPoints().GetData()), faces


STYLE = {  # colour, opacity, name for people
    "truth": (TRUTH_COLOUR, 0.35, "truth"),
    "result": (RESULT_COLOUR, 1.0, "result"),
    "bone": (BONE_COLOUR, 0.16, "bone"),
    "body": (BODY_COLOUR, 0.10, "body"),
}


def vtk_draws():
    """Whether vtk can draw without a screen here; tried in another process, for it may crash."""
    probe = (
        "import vtk; w = vtk.vtkRenderWindow(); w.SetOffScreenRendering(1); w.AddRenderer(vtk.vtkRenderer()); "
        "w.Render(); print('drawn' if w.SupportsOpenGL() else 'no')"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    return done.returncode == 0 and done.stdout.strip().endswith("drawn")


def fit(renderer, meshes, aspect, fill=0.92, room_for_text=0.12):
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


def render_vtk(meshes, title, path, size=(1600, 640)):
    """Two views: the whole from the front and a little above, and the lesions alone, closer."""
    import vtk

    window = vtk.vtkRenderWindow()
    window.SetOffScreenRendering(1)
    window.SetSize(*size)
    window.SetMultiSamples(0)
    window.SetAlphaBitPlanes(1)
    lesions = [name for name in ("truth", "result") if name in meshes]
    for view, names in enumerate((list(meshes), lesions)):
        renderer = vtk.vtkRenderer()
        renderer.SetViewport(view / 2, 0, (view + 1) / 2, 1)
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
        fit(renderer, [meshes[name] for name in names], size[0] / 2 / size[1])
        texts = [(title if view == 0 else "the lesions alone", (1, 1, 1), 0.94, 24)]
        for line, name in enumerate(lesions if view == 0 else ()):
            texts.append((STYLE[name][2], matplotlib.colors.to_rgb(STYLE[name][0]), 0.885 - 0.05 * line, 22))
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


def render_matplotlib(meshes, title, path):
    """A plainer picture where vtk cannot draw: lesions only."""
    figure = plt.figure(figsize=(9, 8))
    axes = figure.add_subplot(projection="3d")
    extent = []
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
    plt.close(figure)


def write_page(meshes, title, path):
    """surface.html: plotly with its JavaScript inside."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for name in ("result", "truth", "bone", "body"):
        if name not in meshes:
            continue
        points, faces = triangles(meshes[name], TRIANGLES[name])
        mesh = dict(zip("xyzijk", (*points.astype(np.float32).round(2).T, *faces.astype(np.int32).T)))
        colour, opacity, label = STYLE[name]
        light = dict(ambient=0.45, diffuse=0.8, specular=0.2)
        trace = go.Mesh3d(**mesh, color=colour, opacity=opacity, name=label, hoverinfo="name", lighting=light)
        figure.add_trace(trace.update(showlegend=True))
    hidden = dict(visible=False)
    figure.update_layout(
        title=dict(text=f"{title}. Drag to turn, scroll to zoom, click a name to hide it.", x=0.02, font_size=16),
        template="plotly_dark",
        scene=dict(
            aspectmode="data",
            xaxis=hidden,
            yaxis=hidden,
            zaxis=hidden,
            camera=dict(eye=dict(x=-0.65, y=-1.45, z=0.6), up=dict(x=0, y=0, z=1)),
        ),
        legend=dict(itemsizing="constant", font_size=16),
        margin=dict(l=0, r=0, t=50, b=0),
    )
    config = dict(displaylogo=False, responsive=True)
    page = figure.to_html(include_plotlyjs=True, default_height="100vh", config=config)
    path.write_text(page.replace("<body>", '<body style="margin: 0; background: #111">', 1), encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ct", type=Path, required=True)
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--mask", type=Path, required=True, help="what segment wrote")
    parser.add_argument("--out", type=Path, default=Path("."), help="folder for the pictures")
    parser.add_argument("--slices", type=int, default=4, help="rows of overlay.png")
    parser.add_argument("--lesion-class", type=int, default=1, help="class of lesions in the mask")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    scan = read_scan(given.ct, given.truth, given.mask, given.lesion_class)
    title = f"Lesions, Dice {dice(scan.truth, scan.result):.3f}"
    overlay(scan, given.slices, given.out / "overlay.png")
    meshes = surfaces(scan)
    if vtk_draws():
        render_vtk(meshes, title, given.out / "surface.png")
    else:
        print(
            "vtk cannot draw here, so surface.png is matplotlib's. On Debian or Ubuntu: "
            "apt-get install libegl1 libgl1-mesa-dri libxrender1",
            file=sys.stderr,
        )
        render_matplotlib(meshes, title, given.out / "surface.png")
    write_page(meshes, title, given.out / "surface.html")
    print(f"{title}; wrote overlay.png, surface.png and surface.html in {given.out}")


if __name__ == "__main__":
    main()
