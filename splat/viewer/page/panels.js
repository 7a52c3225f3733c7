// The panels at the side: edits, camera path, keys.

import { $, length, notice, number, press } from "./dom.js";

export function panels(names) {
  const buttons = { edit: $("open-edit"), path: $("open-path"), keys: $("help") };
  const show = (name) => {
    for (const other of names) {
      const open = other === name && $(other).hidden;
      $(other).hidden = !open;
      buttons[other].setAttribute("aria-expanded", String(open));
    }
  };
  for (const name of names) buttons[name].onclick = () => show(name);
  for (const close of document.querySelectorAll("[data-close]")) close.onclick = () => show(null);
  return show;
}

export function editPanel({ tools, connection, scene }) {
  const toolButtons = [...document.querySelectorAll("[data-tool]")].filter((b) => b.tagName === "BUTTON");
  for (const button of toolButtons) button.onclick = () => tools.choose(button.dataset.tool);
  tools.addEventListener("tool", () => {
    press(toolButtons, toolButtons.find((b) => b.dataset.tool === tools.tool));
    for (const sub of document.querySelectorAll("[data-for]")) sub.hidden = !sub.dataset.for.split(" ").includes(tools.tool);
    measured();
  });
  const handles = [...document.querySelectorAll("[data-handle]")];
  for (const button of handles) {
    button.onclick = () => {
      tools.setHandle(button.dataset.handle);
      press(handles, button);
    };
  }
  $("keep-inside").onclick = () => tools.apply("inside");
  $("keep-outside").onclick = () => tools.apply("outside");

  const slider = (id, edit, shown) => {
    let timer = 0;
    $(id).oninput = () => {
      const value = Number($(id).value);
      $(`${id}-value`).textContent = shown(value);
      clearTimeout(timer);
      timer = setTimeout(() => edit(value), 120);
    };
  };
  slider("opacity", (v) => tools.edit({ kind: "opacity", min_opacity: v }, true), (v) => v.toFixed(2));
  const size = (v) => 0.002 * (tools.extent?.radius ?? 1) * 1000 ** v;
  slider("size", (v) => tools.edit({ kind: "size", max_size: v >= 1 ? 1e9 : size(v) }, true), (v) =>
    v >= 1 ? "any" : length(size(v) * scene.units));
  const past = (v) => 0.05 * 12 ** (1 - v);
  slider("floaters", (v) => {
    if (!scene.cutFloaters) notice("Matching photos to see what is empty: the first time takes up to a minute.");
    scene.cutFloaters = true;
    tools.edit({ kind: "floaters", min_seen_past: v > 0 ? past(v) : 1 }, true);
  }, (v) => (v > 0 ? `${(100 * past(v)).toFixed(0)} %` : "off"));
  $("radius").oninput = () => {
    tools.radius = Number($("radius").value);
    $("radius-value").textContent = `${tools.radius} px`;
    tools.draw();
  };

  const measured = () => {
    const l = tools.length();
    $("length").textContent = l === null ? (tools.points.length ? "Click the second point." : "Click two points.") : `${length(l * scene.units)} units now`;
    $("set-scale").hidden = l === null;
    $("apply-ground").disabled = tools.points.length < 3;
    $("ground-hint").textContent = ["Click three points of the ground.", "Two more.", "One more.", "Set it, or click again."][tools.points.length];
  };
  tools.addEventListener("points", measured);
  tools.addEventListener("miss", () => notice("There is no surface there."));
  $("apply-scale").onclick = () => {
    const metres = Number($("metres").value);
    if (!(metres > 0)) return notice("Give the true length in metres.");
    tools.setScale(metres);
    tools.choose(null);
    notice("Scale set: what is saved is in metres.");
  };
  $("apply-ground").onclick = () => {
    tools.setGround();
    tools.choose(null);
    notice("Ground set: what is saved is level, with the ground at 0.");
  };

  $("undo").onclick = () => connection.send({ kind: "undo" });
  $("clear").onclick = () => connection.send({ kind: "undo", all: true });
  $("save").onclick = () => connection.send({ kind: "save" });
  connection.addEventListener("edited", ({ detail }) => {
    const { operations, kept, total } = detail;
    const gone = total - kept;
    $("edited").textContent = operations.length
      ? `${operations.length} edit${operations.length > 1 ? "s" : ""}, ${number(gone)} of ${number(total)} Gaussians removed`
      : "Nothing edited yet.";
    $("undo").disabled = $("clear").disabled = !operations.length;
    if (!operations.includes("opacity")) $("opacity").value = 0, ($("opacity-value").textContent = "0");
    if (!operations.includes("floaters")) $("floaters").value = 0, ($("floaters-value").textContent = "off");
    if (!operations.includes("size")) $("size").value = 1, ($("size-value").textContent = "any");
  });
  connection.addEventListener("saved", ({ detail }) => {
    const links = detail.files.map((f) => ({ text: `Download ${f.name}`, href: connection.url(`saved/${f.id}`) }));
    notice(`Saved ${detail.files[0].path}`, links, 8);
  });
}

export function pathPanel({ path, connection }) {
  const list = $("keyframes");
  const seconds = () => Number($("seconds").value);
  path.addEventListener("change", () => {
    list.replaceChildren(...path.keyframes.map((_, i) => {
      const li = document.createElement("li"), go = document.createElement("button"), drop = document.createElement("button");
      go.textContent = i + 1;
      go.title = "Go there";
      go.onclick = () => path.controls.flyTo(path.stage.pose(path.keyframes[i]));
      drop.textContent = "×";
      drop.setAttribute("aria-label", `Remove keyframe ${i + 1}`);
      drop.onclick = () => path.remove(i);
      li.append(go, drop);
      return li;
    }));
    const ready = path.keyframes.length > 1;
    $("preview").disabled = !ready;
    $("render").disabled = !ready || !path.savable;
    $("preview").textContent = path.playing ? "Stop (Space)" : "Preview (Space)";
    $("path-hint").hidden = ready;
  });
  $("add-keyframe").onclick = () => path.add();
  $("seconds").oninput = () => ($("seconds-value").textContent = seconds());
  $("preview").onclick = () => path.preview(seconds());
  $("render").onclick = () => {
    path.render(seconds(), $("video-size").value.split("x").map(Number));
    $("rendered").hidden = false;
    $("rendered").value = 0;
  };
  connection.addEventListener("rendered", ({ detail }) => ($("rendered").value = detail.done / detail.total));
  for (const type of ["saved", "notice"]) connection.addEventListener(type, () => ($("rendered").hidden = true));
  return seconds;
}
