"""view.html in a headless Chromium, from the file system: no network, and what is seen is what is in the files."""

import base64
import gzip
import io
import shutil

import matplotlib.colors
import matplotlib.image
import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from conftest import DEMO, ROOT

from patchmask import pictures
from patchmask.commands import main
from patchmask.pictures import page as view_page
from patchmask.pictures import surfaces

SOFTWARE = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
NAME = "</script><img src=x onerror=alert(1)>&{{data}}.nrrd"
MIB = 2**20

if not (ROOT / "build/niivue/niivue.js").is_file():  # else the wheel has it
    pytest.skip("niivue could not be fetched: build/niivue/log says why", allow_module_level=True)


@pytest.fixture(scope="module")
def browser():
    if not shutil.which("chromium"):
        pytest.skip("Chromium could not be installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=shutil.which("chromium"), args=SOFTWARE)


class Page:
    """A page that is shown; `said` is what it wrote to the console, and every address that it asked for."""

    def __init__(self, browser, path):
        self.said = []
        self.tab = browser.new_page(viewport={"width": 1200, "height": 800})
        self.tab.on("console", lambda message: self.said.append(message.text))
        self.tab.on("pageerror", lambda failure: self.said.append(str(failure)))
        self.tab.on("request", lambda request: self.said.append(request.url))
        self.tab.goto(path.as_uri())
        self.tab.wait_for_selector("body.shown", timeout=60_000)
        self.run("slices.setCrosshairWidth(0)")

    def run(self, script):
        return self.tab.evaluate(script)

    def put(self, control, value):
        """What a user does to a control."""
        self.run(f"element('{control}').value = '{value}'; element('{control}').dispatchEvent(new Event('input'))")

    def look(self, canvas="slices"):
        """Its pixels, 0 to 1, when all is drawn."""
        self.run("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
        return matplotlib.image.imread(io.BytesIO(self.tab.locator(f"#{canvas}").screenshot()))[..., :3]


def near(pixels, colour, tolerance=0.08):
    return np.abs(pixels - np.array(matplotlib.colors.to_rgb(colour))).max(-1) < tolerance


@pytest.fixture(scope="module")
def demo(browser, tmp_path_factory):
    """The demo with a result that is its truth moved by three pixels."""
    folder = tmp_path_factory.mktemp("page")
    truth = sitk.ReadImage(str(DEMO / "truth.nrrd"))
    moved = sitk.GetImageFromArray(np.roll(sitk.GetArrayFromImage(truth), 3, 2))
    moved.CopyInformation(truth)
    sitk.WriteImage(moved, str(folder / "mask.nrrd"))
    scan = pictures.read_scan(DEMO / "ct.nrrd", folder / "mask.nrrd", DEMO / "truth.nrrd")
    view_page.write_page(scan, surfaces.surfaces(scan), NAME, folder / "view.html")
    assert (folder / "view.html").stat().st_size < 10 * MIB
    return folder / "view.html", Page(browser, folder / "view.html")


def test_one_file_without_network(demo):
    path, page = demo
    assert page.said == [path.as_uri()]
    assert page.tab.title() == NAME and page.tab.locator("h1").inner_text() == NAME
    report = page.tab.locator("#report").inner_text()
    assert report.startswith("Dice 0.") and "truth: 11, found: " in report and "no medical device" in report
    assert "niivue" in page.run("element('licences').textContent")
    assert page.run("fetch('data:,x').then(() => 'open', () => 'closed')") == "closed"
    page.said.clear()  # of the refusal


def test_masks_are_seen_and_hidden(demo):
    _, page = demo
    for name in ("result", "truth"):
        page.put(f"opacity-{name}", 1)
    both = page.look()
    assert near(both, pictures.scan.TRUTH_COLOUR).sum() > 500 and near(both, pictures.scan.RESULT_COLOUR).sum() > 500
    page.put("opacity-result", 0)
    alone = page.look()
    assert near(alone, pictures.scan.TRUTH_COLOUR).sum() > 500 and not near(alone, pictures.scan.RESULT_COLOUR).any()
    page.tab.uncheck("#show-truth")
    grey = page.look()
    assert np.ptp(grey, axis=-1)[40:, 40:].max() < 0.02 and grey.std() > 0.1
    page.tab.check("#show-truth")
    page.put("opacity-result", 0.5)


def test_scrolling_window_and_planes(demo):
    _, page = demo
    page.tab.select_option("#plane", "AXIAL")
    first = page.look()
    page.tab.mouse.move(300, 400)
    page.tab.mouse.wheel(0, 100)
    scrolled = page.look()
    assert np.abs(scrolled - first).max(-1).mean() > 0.005
    page.put("width", 4000)
    assert page.look().mean() > 0 and np.abs(page.look() - scrolled).mean() > 0.02
    page.put("width", 400)
    assert np.abs(page.look() - scrolled).max() < 0.02
    page.tab.select_option("#plane", "CORONAL")
    assert np.abs(page.look() - scrolled).mean() > 0.02
    page.tab.select_option("#plane", "MULTIPLANAR")


def test_the_surface(demo):
    _, page = demo
    shown = page.look("surface")

    def orange(pixels):
        return ((pixels[..., 0] > 1.5 * pixels[..., 1]) & (pixels[..., 0] > 0.3)).sum()

    assert orange(shown) > 1000
    page.tab.mouse.move(950, 400)
    page.tab.mouse.down()
    page.tab.mouse.move(1050, 400, steps=3)
    page.tab.mouse.up()
    assert np.abs(page.look("surface") - shown).mean() > 0.01
    page.tab.uncheck("#show-result")
    assert orange(page.look("surface")) == 0
    page.tab.check("#show-result")


def tilted(folder, lesion_hu):
    """A tilted grid with steps of 1, 1.5 and 4 mm, a lesion like an L, which no flip leaves as it is, and HU: those of
    the lesion and 0 around it, or, for None, the number of the voxel."""
    z, y, x = np.indices((12, 30, 40))
    lesion = ((x > 8) & (x < 30) & (y > 5) & (y < 12) | (x > 8) & (x < 14) & (y > 5) & (y < 25)) & (z > 2) & (z < 9)
    ct = (x + 40 * (y + 30 * z)) if lesion_hu is None else np.where(lesion, lesion_hu, 0)
    turned = sitk.Euler3DTransform((0, 0, 0), 0.3, -0.2, 0.25).GetMatrix()
    for name, array in (("ct", ct.astype(np.int16)), ("mask", lesion.astype(np.uint8))):
        image = sitk.GetImageFromArray(array)
        image.SetSpacing((1, 1.5, 4))
        image.SetOrigin((-70.5, 31.2, 12))
        image.SetDirection(turned)
        sitk.WriteImage(image, str(folder / f"{name}.nii.gz"))
    return pictures.read_scan(folder / "ct.nii.gz", folder / "mask.nii.gz"), image


def test_the_overlay_lies_on_the_image_of_a_tilted_grid(browser, tmp_path):
    tilted(tmp_path, 1000)
    files = ["--ct", tmp_path / "ct.nii.gz", "--mask", tmp_path / "mask.nii.gz", "--out", tmp_path]
    assert main(["view", "--html", "--no-surface", "--slices", "1", *map(str, files)]) == 0
    page = Page(browser, tmp_path / "view.html")
    assert page.tab.locator("#surface").is_hidden()
    page.run("slices.setInterpolation(true)")  # voxels as they are
    page.put("centre", 500)
    page.put("width", 2)
    for plane in ("AXIAL", "CORONAL", "SAGITTAL"):
        page.tab.select_option("#plane", plane)
        page.put("opacity-result", 0)
        bright = page.look().min(-1) > 0.9
        page.put("opacity-result", 1)
        coloured = near(page.look(), pictures.scan.RESULT_COLOUR, 0.2)
        assert bright.sum() > 5000 and (bright & coloured).sum() / (bright | coloured).sum() > 0.99, plane
    assert len(page.said) == 1, page.said


def test_millimetres_of_a_tilted_grid(browser, tmp_path):
    """Where the page says a HU is, and where its surface lies, is where ITK has them."""
    scan, image = tilted(tmp_path, None)
    view_page.write_page(scan, surfaces.surfaces(scan), "tilted", tmp_path / "view.html")
    page = Page(browser, tmp_path / "view.html")
    x, y, z = view_page.start(scan)
    assert page.tab.locator("#where").inner_text().startswith(f"{x:.1f}, {y:.1f}, {z:.1f} mm")
    crosshair = page.run("Array.from(surface.frac2mm(surface.scene.crosshairPos))")
    assert np.allclose(crosshair[:3], (-x, -y, z), atol=0.01)
    for index in ((0, 0, 0), (39, 0, 5), (3, 29, 11), (17, 11, 4)):
        x, y, z = image.TransformIndexToPhysicalPoint(index)
        page.run(f"slices.scene.crosshairPos = slices.mm2frac([{-x}, {-y}, {z}], 0, true)")
        page.run("slices.createOnLocationChange()")
        hu = index[0] + 40 * (index[1] + 30 * index[2])
        assert page.tab.locator("#where").inner_text() == f"{x:.1f}, {y:.1f}, {z:.1f} mm (LPS): {hu} HU"
    points = page.run("Array.from(surface.meshes.find((one) => one.name === 'result.gii').pts)")
    points = np.reshape(points, (-1, 3)) * (-1, -1, 1)
    voxels = np.argwhere(sitk.GetArrayViewFromImage(image))
    inside = [image.TransformIndexToPhysicalPoint(one[::-1].tolist()) for one in voxels]
    for corner in (np.min, np.max):
        assert np.abs(corner(points, 0) - corner(inside, 0)).max() < 2.5


def test_too_many_voxels(monkeypatch, tmp_path):
    """Blocks of voxels become one: its mean, lesion where one is, in the middle of the block."""
    scan, image = tilted(tmp_path, None)
    monkeypatch.setattr(view_page, "MAX_VOXELS", 2000)
    assert view_page.shrinking(scan) == [4, 2, 1]
    (note,) = view_page.too_large(scan)
    assert note.startswith("40x30x12 voxels are too many") and "mean of 4x2x1" in note
    data = view_page.contents(scan, {}, "tilted")
    assert data["notes"] == [note]

    def volume(text):
        return nibabel.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(text)))

    ct, mask = volume(data["ct"]), volume(data["masks"][0]["base64"])
    x, y, z = image.TransformContinuousIndexToPhysicalPoint((1.5 + 4 * 3, 0.5 + 2 * 5, 7))
    assert np.allclose(ct.affine @ (3, 5, 7, 1), (-x, -y, z, 1), atol=1e-4)
    assert abs(ct.dataobj[3, 5, 7] - (13.5 + 40 * (10.5 + 30 * 7))) <= 0.5
    assert np.array_equal(np.asarray(mask.dataobj).T, scan.result.reshape(12, 15, 2, 10, 4).any((2, 4)))


def test_nothing_found(tmp_path):
    scan, image = tilted(tmp_path, 1000)
    scan.result[:] = False
    data = view_page.contents(scan, {}, "nothing")
    assert data["report"].startswith("Lesions in the result: 0.") and data["meshes"] == []
    x, y, _ = image.TransformPhysicalPointToIndex(data["start"])
    assert (x, y) == (20, 15)


def test_without_niivue(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(view_page, "NIIVUE", (tmp_path,))
    assert main(["view", "--html", "--ct", "none", "--mask", "none"]) == 1
    assert "make wheel" in capsys.readouterr().err
