// The photos of the scene: frusta on the marks canvas, found under the pointer, coloured by PSNR.

import * as THREE from "three";

const TRAIN = new THREE.Color("#7f8da3"), CURRENT = new THREE.Color("#ffffff");
const LOW = new THREE.Color("#e5484d"), MIDDLE = new THREE.Color("#f5b83d"), HIGH = new THREE.Color("#3dd68c");

export class Cameras {
  constructor(stage) {
    this.stage = stage;
    this.list = [];
    this.visible = true;
    this.current = -1;
    this.hovered = -1;
    this.near = "";
    this.hidden = new Set(); // what the eye is inside of or right before would hide the scene
    this.group = new THREE.Group();
    stage.marksRoot.add(this.group);
  }

  set(list) {
    this.list = list;
    const known = list.map((c) => c.psnr).filter((v) => v !== null);
    this.range = known.length ? [Math.min(...known), Math.max(...known)] : [20, 35];
    const centres = list.map((c) => new THREE.Vector3(...c.world_from_cam.map((row) => row[3])));
    const gaps = centres.map((a, i) => Math.min(...centres.map((b, j) => (i === j ? Infinity : a.distanceTo(b)))));
    const gap = gaps.filter(Number.isFinite).sort((a, b) => a - b)[Math.floor(gaps.length / 2)];
    this.size = Math.max(0.02, Math.min(0.12, 0.4 * (gap ?? 0.2)));
    this.shapes = list.map((c) => this.corners(c));
    this.hidden = new Set();
    this.build();
  }

  // Apex and the corners of the image plane, in the frame of the scene.
  corners(c) {
    const [fx, fy, cx, cy] = c.intrinsics;
    const depth = this.size * Math.min(1.5, fx / c.width) * 1.2;
    const at = (x, y) => {
      const p = [((x - cx) / fx) * depth, ((y - cy) / fy) * depth, depth];
      return c.world_from_cam.map((row) => row[0] * p[0] + row[1] * p[1] + row[2] * p[2] + row[3]);
    };
    return [c.world_from_cam.map((row) => row[3]), at(0, 0), at(c.width, 0), at(c.width, c.height), at(0, c.height)];
  }

  // Red to green over the range of this scene; grey where nothing was measured.
  colour(c) {
    if (c.psnr === null) return TRAIN;
    const [low, high] = this.range;
    const t = high > low ? (c.psnr - low) / (high - low) : 1;
    return t < 0.5 ? LOW.clone().lerp(MIDDLE, 2 * t) : MIDDLE.clone().lerp(HIGH, 2 * t - 1);
  }

  build() {
    for (const child of [...this.group.children]) {
      this.group.remove(child);
      child.geometry.dispose();
      child.material.dispose();
    }
    if (!this.list.length) return;
    const lines = { points: [], colours: [] }, faces = { points: [], colours: [] };
    this.list.forEach((c, i) => {
      if (i === this.current || this.hidden.has(i)) return;
      const held = c.role === "test";
      const colour = i === this.hovered ? CURRENT : held ? this.colour(c) : TRAIN;
      const [apex, a, b, d, e] = this.shapes[i];
      const edges = [[apex, a], [apex, b], [apex, d], [apex, e], [a, b], [b, d], [d, e], [e, a]];
      for (const [p, q] of edges) lines.points.push(...p, ...q), lines.colours.push(...colour.toArray(), ...colour.toArray());
      if (held || i === this.hovered) {
        for (const p of [a, b, d, a, d, e]) faces.points.push(...p), faces.colours.push(...colour.toArray());
      }
    });
    const geometry = ({ points, colours }) => {
      const g = new THREE.BufferGeometry();
      g.setAttribute("position", new THREE.Float32BufferAttribute(points, 3));
      g.setAttribute("color", new THREE.Float32BufferAttribute(colours, 3));
      return g;
    };
    const material = { vertexColors: true, transparent: true, depthTest: false };
    this.group.add(new THREE.LineSegments(geometry(lines), new THREE.LineBasicMaterial({ ...material, opacity: 0.9 })));
    this.group.add(new THREE.Mesh(geometry(faces), new THREE.MeshBasicMaterial({ ...material, opacity: 0.35, side: THREE.DoubleSide })));
    this.stage.wake();
  }

  // Called every frame.
  update() {
    const eye = this.stage.toScene(this.stage.camera.position);
    const near = this.list.map((_, i) => i).filter((i) => Math.hypot(...this.shapes[i][0].map((v, k) => v - eye[k])) < 3.5 * this.size);
    if (near.join() === this.near) return;
    this.near = near.join();
    this.hidden = new Set(near);
    this.build();
  }

  show(visible) {
    this.visible = visible;
    this.group.visible = visible;
    this.stage.wake();
  }

  setCurrent(index) {
    if (this.current === index) return;
    this.current = index;
    this.build();
  }

  hover(index) {
    if (this.hovered === index) return;
    this.hovered = index;
    this.build();
  }

  // The camera at a place on the canvas (CSS px), or -1.
  at(x, y) {
    if (!this.visible) return -1;
    let best = -1, nearest = Infinity;
    this.list.forEach((_, i) => {
      if (i === this.current || this.hidden.has(i)) return;
      const points = this.shapes[i].map((p) => this.stage.screen(this.stage.marksRoot.localToWorld(new THREE.Vector3(...p))));
      if (points.some((p) => p.z < 0.02)) return;
      const triangles = [[1, 2, 3], [1, 3, 4], [0, 1, 2], [0, 2, 3], [0, 3, 4], [0, 4, 1]];
      const inside = triangles.some(([a, b, c]) => within(x, y, points[a], points[b], points[c]));
      const close = points.some((p) => Math.hypot(p.x - x, p.y - y) < 9);
      if ((inside || close) && points[0].z < nearest) [best, nearest] = [i, points[0].z];
    });
    return best;
  }
}

function within(x, y, a, b, c) {
  const side = (p, q) => (q.x - p.x) * (y - p.y) - (q.y - p.y) * (x - p.x);
  const s = [side(a, b), side(b, c), side(c, a)];
  return s.every((v) => v >= 0) || s.every((v) => v <= 0);
}
