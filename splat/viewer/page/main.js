// The page: what the server says is shown, what a person does is passed on.

import * as THREE from "three";
import { Cameras } from "./cameras.js";
import { Compare } from "./compare.js";
import { Connection } from "./connection.js";
import { Controls, looking } from "./controls.js";
import { embedded } from "./embedded.js";
import { $, download, notice, number, press } from "./dom.js";
import { Exact } from "./exact.js";
import { editPanel, panels, pathPanel } from "./panels.js";
import { Path } from "./path.js";
import { Stage } from "./stage.js";
import { Tools } from "./tools.js";

const connection = embedded() ?? new Connection();
const served = connection instanceof Connection;
const stage = new Stage($("splats"), $("marks"));
const controls = new Controls(stage, $("touch"));
const cameras = new Cameras(stage);
const exact = new Exact(stage, connection, $("exact"));
const compare = new Compare(stage, connection, $("compare"));
const tools = new Tools(stage, controls, connection, $("ink"));
const path = new Path(stage, controls, connection);
const scene = { hello: null, units: 1, opened: false };
const showPanel = panels(["edit", "path", "keys"]);
editPanel({ tools, connection, scene });
const seconds = pathPanel({ path, connection });

// ----------------------------------------------------------------------------------------------------------- the server

connection.addEventListener("hello", ({ detail }) => {
  const before = scene.hello;
  scene.hello = detail;
  scene.units = detail.units_per_scene ?? 1;
  $("name").textContent = detail.name;
  document.title = detail.name ? `${detail.name} – splat` : "splat";
  if (!detail.cameras.length && !detail.extent) return;
  stage.describe(detail);
  tools.describe(detail);
  cameras.set(detail.cameras);
  controls.speed = 0.5 * Math.max(0.2, Math.min(2, detail.extent?.radius ?? 1));
  $("edit-tools").disabled = !detail.editable;
  $("edit-hint").hidden = detail.editable;
  if (detail.editable) $("training").hidden = true;
  path.savable = detail.editable;
  path.tell();
  $("toggle-cameras").hidden = !detail.cameras.length;
  const support = document.querySelector('#mode option[value="support"]');
  support.hidden = support.disabled = !served || !detail.cameras.length;
  $("floaters-row").hidden = !detail.floaters;
  const first = !scene.opened || (before && !before.extent && !before.cameras.length);
  if (first && (detail.extent || detail.cameras.length)) {
    scene.opened = true;
    start(0);
  }
});

connection.addEventListener("splats", async ({ detail }) => {
  await stage.setSplats(detail);
  connection.send({ kind: "shown", step: detail.step });
  $("waiting").hidden = true;
  $("count").textContent = `${number(detail.count)} Gaussians`;
  exact.touch();
  if (compare.view === "difference" && compare.camera) compare.askDifference();
});

connection.addEventListener("mask", async ({ detail }) => {
  await stage.setMask(detail);
  exact.touch();
});

connection.addEventListener("edited", async ({ detail }) => {
  scene.edited = detail;
  if (detail.kept === detail.total && stage.masked) await stage.setMask(null);
  stage.masked = detail.kept !== detail.total;
  if (detail.total) $("count").textContent = detail.kept === detail.total ? `${number(detail.total)} Gaussians` : `${number(detail.kept)} of ${number(detail.total)} Gaussians`;
  exact.touch();
});

connection.addEventListener("progress", ({ detail }) => {
  const training = detail.stage === "train" && detail.total;
  const busy = Boolean(detail.stage) && !scene.hello?.editable;
  $("training").hidden = !busy || !$("waiting").hidden;
  $("waiting-title").textContent = { ingest: "Reading the photos", poses: "Finding where the photos were taken", init: "Making the first Gaussians", train: "Training" }[detail.stage] ?? "Waiting for the scene";
  $("waiting-text").textContent = detail.total ? `${number(detail.done)} of ${number(detail.total)}` : "";
  $("stage-name").textContent = training ? (detail.paused ? "Paused" : "Training") : (detail.stage ?? "");
  $("step").textContent = detail.total ? `step ${number(detail.done)} of ${number(detail.total)}` : "";
  $("loss").textContent = detail.loss != null ? `loss ${Number(detail.loss).toPrecision(3)}` : "";
  $("psnr").textContent = detail.psnr != null ? `${Number(detail.psnr).toFixed(1)} dB` : "";
  $("minutes").textContent = detail.minutes != null ? (detail.minutes < 1 ? "under a minute left" : `${Math.ceil(detail.minutes)} min left`) : "";
  $("progress").value = detail.total ? detail.done / detail.total : 0;
  $("steer").hidden = !training;
  scene.paused = detail.paused;
  $("pause").textContent = detail.paused ? "Resume" : "Pause";
});

connection.addEventListener("notice", ({ detail }) => notice(detail.text));
connection.addEventListener("lost", ({ detail }) => {
  scene.lost ??= notice(detail.reason || "The connection to splat is lost.", [], 1e6);
});
connection.addEventListener("open", () => {
  scene.lost?.remove();
  scene.lost = null;
});
$("pause").onclick = () => connection.send({ kind: "steer", action: scene.paused ? "resume" : "pause" });
$("stop").onclick = () => connection.send({ kind: "steer", action: "stop" });

// ------------------------------------------------------------------------------------------------------------ the camera

function lens(camera) {
  const scale = Math.min(stage.width / camera.width, stage.height / camera.height);
  return (360 / Math.PI) * Math.atan((0.5 * Math.max(stage.width, stage.height)) / (camera.intrinsics[0] * scale));
}

function visit(index, milliseconds = 700) {
  const camera = cameras.list[index];
  if (!camera) return;
  leave();
  const pose = stage.pose(camera.world_from_cam);
  controls.flyTo({ ...pose, fov: lens(camera) }, { milliseconds, arrive: () => arrive(index) });
}

function arrive(index) {
  const camera = cameras.list[index];
  stage.photo = { width: camera.width, height: camera.height, intrinsics: camera.intrinsics };
  cameras.setCurrent(index);
  const distance = scene.hello.extent ? Math.max(0.2, controls.camera.position.distanceTo(stage.toThree(scene.hello.extent.centre))) : 1;
  controls.target.copy(controls.ahead(distance));
  $("photo-bar").hidden = false;
  $("photo-name").textContent = camera.name;
  $("photo-name").title = camera.name;
  const figures = [camera.role === "test" ? "held out" : "training photo"];
  if (camera.psnr !== null) figures.push(`${camera.psnr.toFixed(1)} dB`);
  $("photo-figures").textContent = figures.join(" · ");
  compare.open(camera);
  exact.touch();
  stage.wake();
}

function leave() {
  if (cameras.current < 0) return;
  scene.last = cameras.current;
  cameras.setCurrent(-1);
  $("photo-bar").hidden = true;
  compare.close();
  stage.leavePhoto();
}

function step(by) {
  const n = cameras.list.length, from = cameras.current >= 0 ? cameras.current : (scene.last ?? -by);
  if (n) visit((from + by + n) % n);
}

// Where the scene opens: at the first training photo, or else in front of all of it.
function start(milliseconds = 700) {
  const train = cameras.list.findIndex((c) => c.role === "train");
  if (cameras.list.length) return visit(Math.max(0, train), milliseconds || 1);
  leave();
  stage.fov = 60;
  frameAll(new THREE.Vector3(0.35, 0.3, 1));
}

function frameAll(direction) {
  const { centre, radius } = scene.hello?.extent ?? { centre: [0, 0, 0], radius: 1 };
  const middle = stage.toThree(centre);
  leave();
  controls.frame(middle, radius, direction ?? controls.camera.position.clone().sub(middle));
}

controls.addEventListener("change", () => {
  if (cameras.current >= 0 && !stage.photo) leave();
  exact.touch();
  tools.draw();
});
controls.addEventListener("mode", () => {
  const buttons = [...document.querySelectorAll("[data-motion]")];
  press(buttons, buttons.find((b) => b.dataset.motion === controls.mode));
  $("stick").hidden = !(controls.mode === "fly" && matchMedia("(pointer: coarse)").matches);
});
controls.addEventListener("click", ({ detail }) => {
  if (tools.tool || detail.button !== 0) return;
  const index = cameras.at(detail.x, detail.y);
  if (index >= 0) visit(index);
});
controls.addEventListener("double", async ({ detail }) => {
  if (tools.tool) return;
  const point = await connection.pick(stage.pinhole(), detail.x, detail.y);
  if (point) controls.focus(stage.toThree(point));
});
$("touch").addEventListener("pointermove", (e) => {
  if (e.pointerType !== "mouse" || e.buttons || tools.tool) return tip(-1);
  tip(cameras.at(e.offsetX, e.offsetY), e);
});
$("touch").addEventListener("pointerleave", () => tip(-1));

function tip(index, e) {
  cameras.hover(index);
  $("touch").classList.toggle("over", index >= 0);
  $("tip").hidden = index < 0;
  if (index < 0) return;
  const c = cameras.list[index];
  $("tip").textContent = [c.name, c.role === "test" ? "held out" : "training photo", c.psnr === null ? null : `${c.psnr.toFixed(1)} dB`].filter(Boolean).join(" · ");
  $("tip").style.left = `${Math.min(e.clientX + 14, stage.width - 270)}px`;
  $("tip").style.top = `${Math.min(e.clientY + 14, stage.height - 40)}px`;
}

for (const button of document.querySelectorAll("[data-motion]")) button.onclick = () => controls.setMode(button.dataset.motion);
for (const button of document.querySelectorAll("[data-view]")) button.onclick = () => setView(button.dataset.view);
$("previous").onclick = () => step(-1);
$("next").onclick = () => step(1);

function setView(view) {
  const buttons = [...document.querySelectorAll("[data-view]")];
  press(buttons, buttons.find((b) => b.dataset.view === view));
  compare.show(view);
}

const stick = $("stick");
stick.addEventListener("pointerdown", (e) => stick.setPointerCapture(e.pointerId));
stick.addEventListener("pointermove", (e) => {
  if (!stick.hasPointerCapture(e.pointerId)) return;
  const { left, top, width } = stick.getBoundingClientRect();
  let x = (2 * (e.clientX - left)) / width - 1, y = (2 * (e.clientY - top)) / width - 1;
  const r = Math.max(1, Math.hypot(x, y));
  controls.stick = { x: x / r, y: y / r };
  stick.firstElementChild.style.transform = `translate(${(34 * x) / r}px, ${(34 * y) / r}px)`;
});
for (const type of ["pointerup", "pointercancel"]) {
  stick.addEventListener(type, () => {
    controls.stick = { x: 0, y: 0 };
    stick.firstElementChild.style.transform = "";
  });
}

// ------------------------------------------------------------------------------------------------------------- the page

const LEGENDS = { depth: "red near, blue far", normal: "red right, green up, blue towards you", support: "photos that show it: dark none, yellow 12 or more", ellipsoids: "one standard deviation", alpha: "white opaque" };

function setMode(mode) {
  stage.ellipsoids(mode === "ellipsoids");
  exact.setMode(mode);
  $("mode").value = mode;
  $("legend").textContent = LEGENDS[mode] ?? "";
}

$("mode").onchange = () => {
  setMode($("mode").value);
  $("mode").blur();
};
$("toggle-cameras").onclick = toggleCameras;
function toggleCameras() {
  cameras.show(!cameras.visible);
  $("toggle-cameras").setAttribute("aria-pressed", String(cameras.visible));
}
$("screenshot").onclick = picture;
async function picture() {
  const name = `${(scene.hello?.name || "splat").replace(/[^\w.-]+/g, "_")}.png`;
  const served = exact.shown && $("exact").src;
  download(served ? await (await fetch(served)).blob() : await stage.screenshot(), name);
}
$("fullscreen").onclick = () => (document.fullscreenElement ? document.exitFullscreen() : document.documentElement.requestFullscreen?.());

function escape() {
  if (tools.tool) return tools.choose(null);
  if (document.body.classList.contains("bare")) return document.body.classList.remove("bare");
  if (path.playing) return path.stop();
  if (["edit", "path", "keys"].some((name) => !$(name).hidden)) return showPanel(null);
  leave();
  exact.touch();
}

const KEYS = {
  Digit1: () => controls.setMode("orbit"),
  Digit2: () => controls.setMode("fly"),
  KeyF: () => frameAll(),
  KeyR: () => start(),
  KeyH: () => document.body.classList.toggle("bare"),
  KeyC: toggleCameras,
  KeyP: picture,
  KeyK: () => path.add(),
  BracketLeft: () => step(-1),
  BracketRight: () => step(1),
  Space: () => path.preview(seconds()),
  Escape: escape,
};
window.addEventListener("keydown", (e) => {
  const typing = e.target instanceof HTMLElement && e.target.closest('input:not([type="range"]), select, textarea');
  if ((e.ctrlKey || e.metaKey) && e.code === "KeyZ" && !typing) {
    e.preventDefault();
    return connection.send({ kind: "undo" });
  }
  if (e.ctrlKey || e.metaKey || e.altKey || (typing && e.code !== "Escape") || e.repeat) return;
  if (e.key === "?") return showPanel("keys");
  if (e.code === "Space" && e.target instanceof HTMLButtonElement) return;
  const act = KEYS[e.code] ?? { "[": KEYS.BracketLeft, "]": KEYS.BracketRight }[e.key];
  if (act) {
    e.preventDefault();
    act();
  }
});

new ResizeObserver(() => {
  stage.resize();
  compare.place();
  tools.draw();
  exact.touch();
}).observe($("stage"));

// A page with its scene inside: what only a server can do is not offered.
if (!served) {
  connection.stage = stage;
  exact.enabled = false;
  for (const id of ["open-edit", "render", "video-size"]) $(id).hidden = true;
  for (const option of document.querySelectorAll("#mode option")) option.hidden = option.disabled = !["colour", "ellipsoids"].includes(option.value);
  $("views").hidden = !connection.photos;
  document.querySelector("[data-view=difference]").hidden = true;
}

stage.onFrame = (now) => {
  controls.update(now);
  path.update(now);
  exact.update(now);
  cameras.update();
};
stage.start();
connection.open();

// For tests and for the curious: everything in one place.
window.viewer = { connection, stage, controls, cameras, exact, compare, tools, path, scene, visit, setMode, setView, looking };
