// Editing in the picture: crop box and sphere (handles by three's TransformControls), brush, measuring, ground.

import * as THREE from "three";
import { TransformControls } from "three/addons/controls/TransformControls.js";

export class Tools extends EventTarget {
  constructor(stage, controls, connection, ink) {
    super();
    this.stage = stage;
    this.controls = controls;
    this.connection = connection;
    this.ink = ink;
    this.tool = null;
    this.points = []; // of measuring and ground: in the frame of the scene
    this.stroke = [];
    this.radius = 24;
    this.handles = new TransformControls(stage.camera, controls.element);
    this.handles.setSize(0.75);
    this.handles.addEventListener("change", () => stage.wake());
    this.helper = this.handles.getHelper();
    this.solid = new THREE.Group(); // the crop, in the frame of the scene
    const accent = new THREE.LineBasicMaterial({ color: "#6ea8fe", depthTest: false, transparent: true, opacity: 0.95 });
    this.box = new THREE.LineSegments(new THREE.EdgesGeometry(new THREE.BoxGeometry(2, 2, 2)), accent);
    this.sphere = new THREE.LineSegments(new THREE.WireframeGeometry(new THREE.SphereGeometry(1, 20, 12)), accent.clone());
    this.sphere.material.opacity = 0.35;
    this.solid.add(this.box, this.sphere);
    controls.claim = (e) => this.claim(e);
    for (const type of ["pointermove", "pointerup", "pointercancel"]) controls.element.addEventListener(type, (e) => this.pointer(e));
    controls.addEventListener("click", ({ detail }) => this.click(detail));
  }

  // Where a new crop starts.
  describe({ extent }) {
    if (extent) this.extent = extent;
  }

  choose(tool) {
    this.tool = this.tool === tool ? null : tool;
    this.points = [];
    this.stroke = [];
    const crop = this.tool === "box" || this.tool === "sphere";
    if (crop && !this.solid.parent) {
      const { centre, radius } = this.extent ?? { centre: [0, 0, 0], radius: 1 };
      this.solid.position.set(...centre);
      this.solid.scale.setScalar(radius);
      this.solid.quaternion.identity();
      this.stage.marksRoot.add(this.solid);
    }
    if (!crop) this.stage.marksRoot.remove(this.solid);
    this.box.visible = this.tool === "box";
    this.sphere.visible = this.tool === "sphere";
    if (this.tool === "sphere") {
      this.solid.scale.setScalar(Math.cbrt(this.solid.scale.x * this.solid.scale.y * this.solid.scale.z));
      if (this.handles.mode === "rotate") this.handles.setMode("translate");
    }
    if (crop) {
      this.handles.attach(this.solid);
      this.stage.marks.add(this.helper);
    } else {
      this.handles.detach();
      this.stage.marks.remove(this.helper);
    }
    this.controls.element.dataset.tool = this.tool ?? "";
    this.stage.wake();
    this.draw();
    this.dispatchEvent(new Event("tool"));
  }

  setHandle(mode) {
    this.handles.setMode(mode);
    this.stage.wake();
  }

  apply(keep) {
    const centre = this.solid.position.toArray();
    if (this.tool === "box") {
      const { w, x, y, z } = this.solid.quaternion;
      const half = this.solid.scale.toArray().map((v) => Math.max(1e-6, Math.abs(v)));
      this.edit({ kind: "box", centre, half, quat_wxyz: [w, x, y, z], keep });
    } else if (this.tool === "sphere") {
      this.edit({ kind: "sphere", centre, radius: Math.max(1e-6, Math.max(...this.solid.scale.toArray().map(Math.abs))), keep });
    }
  }

  edit(operation, replace = false) {
    this.connection.send({ kind: "edit", operation, replace });
  }

  // ---------------------------------------------------------------------------------------------------------- pointers

  claim(e) {
    if (this.tool === "box" || this.tool === "sphere") return this.handles.axis !== null || this.handles.dragging;
    if (this.tool === "brush" && e.button === 0 && e.isPrimary) {
      this.stroke = [[e.offsetX, e.offsetY]];
      this.controls.element.setPointerCapture(e.pointerId);
      this.draw();
      return true;
    }
    return false;
  }

  pointer(e) {
    if (this.tool !== "brush") return;
    this.cursor = [e.offsetX, e.offsetY];
    if (this.stroke.length && e.type === "pointermove") {
      const [x, y] = this.stroke.at(-1);
      if (Math.hypot(e.offsetX - x, e.offsetY - y) > this.radius / 4 && this.stroke.length < 2000) this.stroke.push([e.offsetX, e.offsetY]);
    } else if (this.stroke.length && e.type === "pointerup") {
      const view = this.stage.pinhole();
      this.edit({ kind: "brush", view, radius: this.radius, points: this.stroke.map(([x, y]) => [x, y, 0]) });
      this.stroke = [];
    } else if (e.type === "pointercancel") this.stroke = [];
    this.draw();
  }

  async click({ x, y, button }) {
    const wanted = { measure: 2, ground: 3 }[this.tool];
    if (!wanted || button !== 0) return;
    const tool = this.tool;
    const point = await this.connection.pick(this.stage.pinhole(), x, y);
    if (this.tool !== tool) return;
    if (!point) return this.dispatchEvent(new CustomEvent("miss"));
    if (this.points.length >= wanted) this.points = [];
    this.points.push(point);
    this.draw();
    this.dispatchEvent(new Event("points"));
  }

  length() {
    if (this.points.length < 2) return null;
    const [a, b] = this.points;
    return Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]);
  }

  setScale(metres) {
    const [a, b] = this.points;
    this.edit({ kind: "scale", a, b, metres });
  }

  setGround() {
    const [a, b, c] = this.points;
    this.edit({ kind: "ground", a, b, c });
  }

  // --------------------------------------------------------------------------------------------------------------- ink

  draw() {
    const { ink, stage } = this, ratio = stage.ratio;
    const size = [Math.round(stage.width * ratio), Math.round(stage.height * ratio)];
    if (ink.width !== size[0] || ink.height !== size[1]) [ink.width, ink.height] = size;
    const c = ink.getContext("2d");
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.clearRect(0, 0, stage.width, stage.height);
    if (this.tool === "brush") {
      if (this.stroke.length) {
        c.strokeStyle = "rgba(229,72,77,0.45)";
        c.lineWidth = 2 * this.radius;
        c.lineCap = c.lineJoin = "round";
        c.beginPath();
        this.stroke.forEach(([x, y]) => c.lineTo(x, y));
        if (this.stroke.length === 1) c.lineTo(this.stroke[0][0] + 0.1, this.stroke[0][1]);
        c.stroke();
      }
      if (this.cursor) {
        c.strokeStyle = "rgba(255,255,255,0.9)";
        c.lineWidth = 1.5;
        c.beginPath();
        c.arc(...this.cursor, this.radius, 0, 7);
        c.stroke();
      }
    }
    const places = this.points.map((p) => stage.screen(stage.toThree(p))).filter((p) => p.z > 0.01);
    if (places.length > 1) {
      c.strokeStyle = "#f5b83d";
      c.lineWidth = 2;
      c.beginPath();
      places.forEach((p) => c.lineTo(p.x, p.y));
      if (this.tool === "ground" && places.length === 3) {
        c.closePath();
        c.fillStyle = "rgba(245,184,61,0.2)";
        c.fill();
      }
      c.stroke();
    }
    for (const p of places) {
      c.fillStyle = "#f5b83d";
      c.strokeStyle = "#16181d";
      c.lineWidth = 2;
      c.beginPath();
      c.arc(p.x, p.y, 6, 0, 7);
      c.fill();
      c.stroke();
    }
  }
}
