// Moving the camera: orbit and fly by mouse, touch and keys. `claim` lets tools take the pointer.

import * as THREE from "three";

const UP = new THREE.Vector3(0, 1, 0);
const STEEP = Math.cos((2 * Math.PI) / 180);
const MOVES = {
  KeyW: [0, 0, -1], KeyS: [0, 0, 1], KeyA: [-1, 0, 0], KeyD: [1, 0, 0], KeyQ: [0, -1, 0], KeyE: [0, 1, 0],
  ArrowUp: [0, 0, -1], ArrowDown: [0, 0, 1], ArrowLeft: [-1, 0, 0], ArrowRight: [1, 0, 0],
};

export class Controls extends EventTarget {
  constructor(stage, element) {
    super();
    this.stage = stage;
    this.camera = stage.camera;
    this.element = element;
    this.mode = "orbit";
    this.target = new THREE.Vector3();
    this.speed = 0.5; // scene units per second
    this.keys = new Set();
    this.stick = { x: 0, y: 0 };
    this.pointers = new Map();
    this.claim = () => false; // (event) -> whether a tool takes it
    this.flight = null;
    this.last = performance.now();
    element.addEventListener("pointerdown", (e) => this.down(e));
    element.addEventListener("pointermove", (e) => this.move(e));
    for (const type of ["pointerup", "pointercancel"]) element.addEventListener(type, (e) => this.up(e));
    element.addEventListener("wheel", (e) => this.wheel(e), { passive: false });
    element.addEventListener("contextmenu", (e) => e.preventDefault());
    window.addEventListener("keydown", (e) => this.key(e, true));
    window.addEventListener("keyup", (e) => this.key(e, false));
    window.addEventListener("blur", () => this.keys.clear());
  }

  setMode(mode) {
    this.mode = mode;
    if (mode === "orbit") this.target.copy(this.ahead(this.distance()));
    this.dispatchEvent(new Event("mode"));
  }

  // ---------------------------------------------------------------------------------------------------------- pointers

  down(e) {
    if (this.claim(e)) return;
    this.element.setPointerCapture(e.pointerId);
    this.pointers.set(e.pointerId, { x: e.clientX, y: e.clientY, startX: e.clientX, startY: e.clientY, button: e.button, moved: false, time: e.timeStamp });
    this.flight = null;
  }

  move(e) {
    const p = this.pointers.get(e.pointerId);
    if (!p) return;
    const dx = e.clientX - p.x, dy = e.clientY - p.y;
    const others = [...this.pointers.values()].filter((other) => other !== p);
    if (Math.hypot(e.clientX - p.startX, e.clientY - p.startY) > 4) p.moved = true;
    if (!p.moved) return;
    if (others.length === 1) this.pinch(p, others[0], e);
    else if (others.length === 0) {
      if (p.button === 2 || p.button === 1 || e.ctrlKey || e.metaKey) this.pan(dx, dy);
      else this.rotate(dx, dy);
    }
    p.x = e.clientX;
    p.y = e.clientY;
  }

  up(e) {
    const p = this.pointers.get(e.pointerId);
    this.pointers.delete(e.pointerId);
    if (!p || p.moved || e.type !== "pointerup" || this.pointers.size) return;
    const again = this.tapped && e.timeStamp - this.tapped.time < 350 && Math.hypot(e.clientX - this.tapped.x, e.clientY - this.tapped.y) < 25;
    this.tapped = again ? null : { time: e.timeStamp, x: e.clientX, y: e.clientY };
    const detail = { x: e.offsetX, y: e.offsetY, button: p.button };
    this.dispatchEvent(new CustomEvent(again ? "double" : "click", { detail }));
  }

  wheel(e) {
    e.preventDefault();
    this.flight = null;
    const amount = Math.max(-1, Math.min(1, (e.deltaY * (e.deltaMode ? 30 : 1)) / 400));
    this.dolly(amount);
  }

  pinch(p, other, e) {
    const before = { x: p.x - other.x, y: p.y - other.y }, after = { x: e.clientX - other.x, y: e.clientY - other.y };
    const ratio = Math.hypot(after.x, after.y) / Math.max(1, Math.hypot(before.x, before.y));
    this.dolly(-Math.log(Math.max(0.5, Math.min(2, ratio))));
    this.pan((e.clientX - p.x) / 2, (e.clientY - p.y) / 2);
    let twist = Math.atan2(after.y, after.x) - Math.atan2(before.y, before.x);
    if (twist > Math.PI) twist -= 2 * Math.PI;
    if (twist < -Math.PI) twist += 2 * Math.PI;
    if (Math.abs(twist) < 0.3) this.camera.quaternion.multiply(new THREE.Quaternion().setFromAxisAngle(new THREE.Vector3(0, 0, 1), twist));
    this.changed();
  }

  // ---------------------------------------------------------------------------------------------------------- movement

  changed() {
    this.stage.leavePhoto();
    this.stage.wake();
    this.dispatchEvent(new Event("change"));
  }

  forward() {
    return new THREE.Vector3(0, 0, -1).applyQuaternion(this.camera.quaternion);
  }

  ahead(distance) {
    return this.camera.position.clone().addScaledVector(this.forward(), distance);
  }

  distance() {
    return Math.max(0.05, this.camera.position.distanceTo(this.target));
  }

  rotate(dx, dy) {
    const per = this.mode === "orbit" ? 0.006 : 0.0035;
    const sign = this.mode === "orbit" ? -1 : 1;
    const pivot = (this.mode === "orbit" ? this.target : this.camera.position).clone();
    const yaw = new THREE.Quaternion().setFromAxisAngle(UP, sign * dx * per);
    const right = new THREE.Vector3(1, 0, 0).applyQuaternion(this.camera.quaternion);
    let angle = sign * dy * per;
    const next = this.forward().applyAxisAngle(right, angle);
    if (Math.abs(next.y) > STEEP && Math.abs(next.y) > Math.abs(this.forward().y)) angle = 0;
    const turn = yaw.multiply(new THREE.Quaternion().setFromAxisAngle(right, angle));
    this.camera.position.sub(pivot).applyQuaternion(turn).add(pivot);
    this.camera.quaternion.premultiply(turn).normalize();
    this.changed();
  }

  pan(dx, dy) {
    const { fx } = this.stage.intrinsics();
    const per = this.distance() / fx;
    const offset = new THREE.Vector3(-dx * per, dy * per, 0).applyQuaternion(this.camera.quaternion);
    this.camera.position.add(offset);
    this.target.add(offset);
    this.changed();
  }

  dolly(amount) {
    if (this.mode === "fly") {
      this.camera.position.addScaledVector(this.forward(), -amount * this.speed);
    } else {
      const offset = this.camera.position.clone().sub(this.target).multiplyScalar(Math.exp(amount));
      if (offset.length() < 0.02 || offset.length() > 200) return;
      this.camera.position.copy(this.target).add(offset);
    }
    this.changed();
  }

  key(e, pressed) {
    if (e.target instanceof HTMLElement && e.target.closest("input, select, textarea")) return;
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    if (!(e.code in MOVES)) return;
    e.preventDefault();
    if (pressed) this.keys.add(e.code);
    else this.keys.delete(e.code);
    this.fast = e.shiftKey;
    this.last = pressed && this.keys.size === 1 ? performance.now() : this.last;
  }

  // Called every frame: keys, the joystick, flights.
  update(now) {
    const seconds = Math.min(0.1, (now - this.last) / 1000);
    this.last = now;
    if (this.flight) this.fly(now);
    const step = new THREE.Vector3(this.stick.x, 0, this.stick.y);
    for (const code of this.keys) step.add(new THREE.Vector3(...MOVES[code]));
    if (step.lengthSq() < 1e-6) return;
    this.flight = null;
    step.multiplyScalar(this.speed * seconds * (this.fast ? 4 : 1));
    const rise = step.y;
    step.y = 0;
    step.applyQuaternion(this.camera.quaternion).addScaledVector(UP, rise);
    this.camera.position.add(step);
    this.target.add(step);
    this.changed();
  }

  // ----------------------------------------------------------------------------------------------------------- flights

  // To a pose within `milliseconds`; `arrive` is called there. The lens (fov) goes with it.
  flyTo({ position, quaternion, fov }, { milliseconds = 700, arrive = () => {} } = {}) {
    this.stage.leavePhoto();
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) milliseconds = 1;
    const c = this.camera;
    this.flight = {
      from: { position: c.position.clone(), quaternion: c.quaternion.clone(), fov: this.stage.fov },
      to: { position: position.clone(), quaternion: quaternion.clone(), fov: fov ?? this.stage.fov },
      start: performance.now(), milliseconds, arrive,
    };
    this.stage.wake(milliseconds + 200);
    this.dispatchEvent(new Event("change"));
  }

  fly(now) {
    const { from, to, start, milliseconds, arrive } = this.flight;
    const t = Math.max(0, Math.min(1, (now - start) / milliseconds));
    const s = t * t * (3 - 2 * t);
    this.camera.position.lerpVectors(from.position, to.position, s);
    this.camera.quaternion.slerpQuaternions(from.quaternion, to.quaternion, s);
    this.stage.fov = from.fov + (to.fov - from.fov) * s;
    this.stage.wake();
    if (t === 1) {
      this.flight = null;
      arrive();
    }
    this.dispatchEvent(new Event("change"));
  }

  // Look at a point, nearer than before.
  focus(point, distance) {
    const d = distance ?? Math.max(0.15, 0.6 * this.camera.position.distanceTo(point));
    this.target.copy(point);
    const direction = this.camera.position.clone().sub(point).normalize();
    const position = point.clone().addScaledVector(direction, d);
    this.flyTo({ position, quaternion: looking(position, point) });
  }

  // See a whole sphere, from where the camera is or, without a direction, from a little above.
  frame(centre, radius, direction) {
    const { fx, fy } = this.stage.intrinsics();
    const half = Math.min(Math.atan(this.stage.width / 2 / fx), Math.atan(this.stage.height / 2 / fy));
    const position = centre.clone().addScaledVector(direction.clone().normalize(), (1.15 * radius) / Math.sin(half));
    this.target.copy(centre);
    this.flyTo({ position, quaternion: looking(position, centre) });
  }
}

export function looking(from, at) {
  return new THREE.Quaternion().setFromRotationMatrix(new THREE.Matrix4().lookAt(from, at, UP));
}
