// A scene inside the page's own file (export/html.py) in place of a server: the same events, no socket.

import * as THREE from "three";
import { halves } from "./packing.js";

const $ = (id) => document.getElementById(id);

// The connection of a page that has its scene inside, or null.
export function embedded() {
  const scene = $("embedded-scene");
  return scene ? new Embedded(JSON.parse(scene.textContent)) : null;
}

export class Embedded extends EventTarget {
  constructor(scene) {
    super();
    this.scene = scene;
    this.stage = null; // set by the page: what is drawn
  }

  async open() {
    const { count, sh_degree: degree, ...hello } = this.scene;
    this.tell("hello", hello);
    const holder = $("embedded-splats");
    const text = holder.textContent;
    holder.remove();
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const shuffled = new Uint8Array(await new Response(stream).arrayBuffer());
    this.tell("splats", { step: 0, count, degree, planes: unshuffled(shuffled, count, degree) });
  }

  url(path) {
    const [kind, id] = path.split("/");
    return kind === "photo" ? (this.scene.cameras[Number(id)].photo ?? "") : "";
  }

  get photos() {
    return this.scene.cameras.some((c) => c.photo);
  }

  look() {
    return 0; // there is nobody who would draw it
  }

  send(message) {
    if (message.kind === "path" && message.action === "preview") this.tell("path", { fps: message.fps, poses: spline(message) });
  }

  // Where the surface near a pixel is: the depth at which the Gaussians around it have stopped half of the light.
  async pick(view, x, y) {
    const { a, count } = this.stage.full;
    const floats = new Float32Array(a.buffer);
    const [[m0, m1, m2, tx], [m3, m4, m5, ty], [m6, m7, m8, tz]] = view.world_from_cam;
    const hits = [];
    for (let i = 0, o = 0; i < count; i++, o += 4) {
      const px = floats[o] - tx, py = floats[o + 1] - ty, pz = floats[o + 2] - tz;
      const z = m2 * px + m5 * py + m8 * pz;
      if (z < 0.02) continue;
      const dx = (view.fx * (m0 * px + m3 * py + m6 * pz)) / z + view.cx - x, dy = (view.fy * (m1 * px + m4 * py + m7 * pz)) / z + view.cy - y;
      const d2 = dx * dx + dy * dy;
      if (d2 < 144) hits.push([z, halves[a[o + 3] & 0xffff] * Math.exp(-d2 / 50)]);
    }
    hits.sort((p, q) => p[0] - q[0]);
    let light = 1;
    for (const [z, alpha] of hits) {
      light *= 1 - alpha;
      if (light > 0.5) continue;
      const p = [((x - view.cx) / view.fx) * z, ((y - view.cy) / view.fy) * z, z];
      return view.world_from_cam.map((row) => row[0] * p[0] + row[1] * p[1] + row[2] * p[2] + row[3]);
    }
    return null;
  }

  tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

// Bytes of each plane, column by column, back to rows.
function unshuffled(from, count, degree) {
  const out = new Uint8Array(from.length);
  let at = 0;
  for (const width of [12, 2, 6, 6, 8, 6 * ((degree + 1) ** 2 - 1)]) {
    for (let byte = 0; byte < width; byte++) {
      for (let i = 0, o = at + byte, s = at + byte * count; i < count; i++, o += width) out[o] = from[s + i];
    }
    at += width * count;
  }
  return out.buffer;
}

// Catmull and Rom's spline through positions and quaternions, as viewer/keyframes.py has it.
function spline({ keyframes, seconds, fps }) {
  const frames = Math.max(2, Math.round(seconds * fps));
  const keys = keyframes.map(({ world_from_cam: rows }) => {
    const q = new THREE.Quaternion().setFromRotationMatrix(new THREE.Matrix4().set(...rows[0], ...rows[1], ...rows[2], 0, 0, 0, 1));
    return [...rows.map((row) => row[3]), ...q.toArray()];
  });
  for (let i = 1; i < keys.length; i++) {
    if (keys[i].slice(3).reduce((sum, v, j) => sum + v * keys[i - 1][3 + j], 0) < 0) for (let j = 3; j < 7; j++) keys[i][j] *= -1;
  }
  const last = keys.length - 1;
  const tangent = (i, j) => (i === 0 ? keys[1][j] - keys[0][j] : i === last ? keys[last][j] - keys[last - 1][j] : (keys[i + 1][j] - keys[i - 1][j]) / 2);
  return Array.from({ length: frames }, (_, frame) => {
    const time = (frame / (frames - 1)) * last, k = Math.min(Math.floor(time), last - 1), t = time - k;
    const t2 = t * t, t3 = t2 * t;
    const v = keys[0].map((_, j) => (2 * t3 - 3 * t2 + 1) * keys[k][j] + (t3 - 2 * t2 + t) * tangent(k, j) + (3 * t2 - 2 * t3) * keys[k + 1][j] + (t3 - t2) * tangent(k + 1, j));
    const m = new THREE.Matrix4().makeRotationFromQuaternion(new THREE.Quaternion(...v.slice(3)).normalize()).elements;
    return [0, 1, 2].flatMap((r) => [m[r], m[4 + r], m[8 + r], v[r]]);
  });
}
