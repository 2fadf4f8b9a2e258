// Shows what is in #data, and ties the controls to niivue. niivue's millimetres are RAS, the page's LPS.
"use strict";
const { Niivue, NVImage, NVMesh, SLICE_TYPE, DRAG_MODE, SHOW_RENDER } = niivue;
const element = (id) => document.getElementById(id);
const data = JSON.parse(element("data").textContent);

const common = {
  logLevel: "error",
  dragAndDropEnabled: false,
  crosshairWidth: 0.8,
  crosshairWidthUnit: "mm",
  crosshairColor: [1, 1, 0.3, 0.8],
  fontMinPx: 18,
};
const slices = new Niivue({
  ...common,
  isRadiologicalConvention: true,
  sagittalNoseLeft: true,
  multiplanarShowRender: SHOW_RENDER.NEVER,
  dragMode: DRAG_MODE.windowing,
  onLocationChange: ({ mm, values }) => {
    const [x, y, z] = [-mm[0], -mm[1], mm[2]].map((value) => value.toFixed(1));
    surface.scene.crosshairPos = surface.mm2frac(mm);
    surface.drawScene();
    element("where").textContent = `${x}, ${y}, ${z} mm (LPS): ${Math.round(values[0].value)} HU`;
  },
});
const surface = new Niivue({ ...common, backColor: [0.09, 0.1, 0.13, 1], show3Dcrosshair: true });
slices.onIntensityChange = showWindow;

function showWindow() {
  const { cal_min, cal_max } = slices.volumes[0];
  element("centre").value = Math.round((cal_min + cal_max) / 2);
  element("width").value = Math.round(cal_max - cal_min);
}

function setWindow() {
  const centre = element("centre").valueAsNumber, width = element("width").valueAsNumber;
  if (Number.isFinite(centre) && width > 0) {
    Object.assign(slices.volumes[0], { cal_min: centre - width / 2, cal_max: centre + width / 2 });
    slices.updateGLVolume();
  }
}

const make = (tag, properties) => Object.assign(document.createElement(tag), properties);

// A box to tick for what has this name, in slices and surface; for masks a slider, too: their opacity in the slices.
function addControls({ name, label, colour }) {
  const volume = slices.volumes.findIndex((one) => one.name === `${name}.nii.gz`);
  const mesh = surface.meshes.find((one) => one.name === `${name}.gii`);
  const box = make("input", { type: "checkbox", checked: true, id: `show-${name}` });
  const slider = make("input", { type: "range", max: 1, step: 0.05, id: `opacity-${name}`, ariaLabel: `opacity of ${label}` });
  if (volume > 0) slider.value = slices.volumes[volume].opacity;
  const words = make("label", {});
  words.style.color = colour;
  words.append(box, label);
  element("layers").append(words, ...(volume > 0 ? [slider] : []), " ");
  box.oninput = slider.oninput = () => {
    if (volume > 0) slices.setOpacity(volume, box.checked ? slider.valueAsNumber : 0);
    if (mesh) surface.setMeshProperty(mesh.id, "visible", box.checked);
  };
}

async function show() {
  element("name").textContent = document.title = data.name;
  element("report").textContent = data.report;
  element("notes").append(...data.notes.map((note) => make("li", { textContent: note })));
  element("licences").textContent = data.licences;
  await slices.attachToCanvas(element("slices"));
  await surface.attachToCanvas(element("surface"));
  const addVolume = async (name, base64, look) =>
    slices.addVolume(await NVImage.loadFromBase64({ base64, name: `${name}.nii.gz`, ...look }));
  await addVolume("ct", data.ct, { colormap: "gray", cal_min: data.window[0], cal_max: data.window[1] });
  for (const { name, base64, rgb, opacity } of data.masks) {
    const [R, G, B] = rgb.map((value) => [value, value]);
    slices.addColormap(name, { R, G, B, A: [0, 255], I: [0, 255] });
    await addVolume(name, base64, { colormap: name, opacity, cal_min: 0, cal_max: 1 });
  }
  for (const { name, gifti, rgb, opacity } of data.meshes) {
    const bytes = new TextEncoder().encode(gifti).buffer;
    surface.addMesh(await NVMesh.readMesh(bytes, `${name}.gii`, surface.gl, opacity, [...rgb, 255]));
  }
  element("surface").parentElement.hidden = data.meshes.length === 0;
  data.layers.forEach(addControls);
  const [x, y, z] = data.start;
  slices.scene.crosshairPos = slices.mm2frac([-x, -y, z], 0, true); // true: of tilted grids, too
  surface.setRenderAzimuthElevation(160, 20); // from the front, the patient's right, above
  showWindow();
  slices.createOnLocationChange();
  slices.drawScene();
}

element("controls").onsubmit = (event) => event.preventDefault();
element("plane").oninput = ({ target }) => slices.setSliceType(SLICE_TYPE[target.value]);
element("centre").oninput = element("width").oninput = setWindow;
show().then(
  () => document.body.classList.add("shown"),
  (failure) => (element("report").textContent = `This browser cannot show the page, which needs WebGL 2: ${failure}`),
);
