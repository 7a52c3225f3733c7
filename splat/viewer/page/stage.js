// What is drawn: splats by Spark on one canvas, marks (cameras, crops) by three.js on a transparent one above it, and one
// camera for both. The server's axes (x right, y down, z ahead) become three's only here.

import * as THREE from "three";
import { ExtSplats, SparkRenderer, SplatMesh } from "@sparkjsdev/spark";
import { compacted, encode, within } from "./packing.js";

const NEAR = 0.01, FAR = 1000;
const FLIP = new THREE.Matrix4().makeScale(1, -1, -1); // camera axes of OpenCV <-> of three

export class Stage {
  constructor(canvas, marks) {
    this.canvas = canvas;
    this.renderer = new THREE.WebGLRenderer({ canvas, antialias: false, preserveDrawingBuffer: false });
    this.marksRenderer = new THREE.WebGLRenderer({ canvas: marks, alpha: true, antialias: true });
    this.scene = new THREE.Scene();
    this.marks = new THREE.Scene();
    this.root = new THREE.Group(); // three from scene: up becomes +y
    this.marksRoot = new THREE.Group();
    this.scene.add(this.root);
    this.marks.add(this.marksRoot);
    this.camera = new THREE.PerspectiveCamera();
    this.camera.near = NEAR;
    this.camera.far = FAR;
    this.camera.updateProjectionMatrix = () => {}; // ours comes from intrinsics in px
    this.fov = 60; // of the longer side, degrees, where no photo says
    this.photo = null; // { width, height, intrinsics }: the camera has its lens
    this.spark = new SparkRenderer({
      renderer: this.renderer,
      sortRadial: false,
      maxStdDev: 3,
      preBlurAmount: 0.3,
      blurAmount: 0,
      minAlpha: 1 / 255,
      clipXY: 2,
      accumExtSplats: true,
      enableLod: false,
      onDirty: () => this.wake(),
    });
    this.scene.add(this.spark);
    this.full = null; // every splat of the snapshot
    this.left = null; // those that edits have left
    this.ball = null; // what surrounds the scene lies around it, and is not shown from outside
    this.outside = false;
    this.mesh = null;
    this.step = -1;
    this.count = 0;
    this.awake = 0;
    this.covered = false; // pictures of the server hide the splats: they need not be drawn
    this.frames = 0;
    this.onFrame = () => {};
    this.resize();
  }

  // ------------------------------------------------------------------------------------------------------------- scene

  describe(hello) {
    const up = new THREE.Vector3(...hello.up).normalize();
    const turn = new THREE.Quaternion().setFromUnitVectors(up, new THREE.Vector3(0, 1, 0));
    if (up.y < -0.999) turn.set(1, 0, 0, 0); // the usual -y: half a turn about x
    for (const group of [this.root, this.marksRoot]) {
      group.quaternion.copy(turn);
      group.updateMatrixWorld(true);
    }
    const [r, g, b] = hello.background;
    this.renderer.setClearColor(new THREE.Color().setRGB(r, g, b, THREE.SRGBColorSpace), 1);
    this.antialiased = hello.antialiased;
    this.ball = hello.surroundings ?? null;
    this.ellipsoids(false);
    this.wake();
  }

  // Flat discs of one standard deviation in place of Gaussians.
  ellipsoids(on) {
    this.spark.falloff = on ? 0 : 1;
    this.spark.maxStdDev = on ? 1.2 : 3;
    this.spark.preBlurAmount = this.antialiased ? 0 : 0.3;
    this.spark.blurAmount = this.antialiased ? 0.3 : 0;
    if (this.mesh) this.mesh.updateVersion?.();
    this.wake();
  }

  async setSplats(message) {
    this.full = this.left = encode(message);
    await this.refresh();
    this.step = message.step;
    this.count = message.count;
  }

  async setMask(mask) {
    if (!this.full) return;
    if (mask && mask.count !== this.full.count) return;
    this.left = mask ? compacted(this.full, mask.bits) : this.full;
    await this.refresh();
  }

  async refresh() {
    this.outside = this.isOutside();
    await this.show(this.outside ? within(this.left, this.ball) : this.left);
  }

  isOutside() {
    if (!this.ball) return false;
    const [x, y, z] = this.toScene(this.camera.position), [cx, cy, cz] = this.ball.centre;
    return Math.hypot(x - cx, y - cy, z - cz) > this.ball.radius;
  }

  async show({ count, a, b, extra }) {
    const splats = new ExtSplats({ extArrays: [a, b], numSplats: count, extra: { ...extra } });
    const mesh = new SplatMesh({ extSplats: splats, lod: false });
    await mesh.initialized;
    this.root.add(mesh);
    if (this.mesh) {
      const old = this.mesh;
      this.root.remove(old);
      setTimeout(() => old.dispose(), 500);
    }
    this.mesh = mesh;
    this.wake();
  }

  // ------------------------------------------------------------------------------------------------------------ camera

  // Intrinsics in CSS px of the canvas: those of the photo that is visited, fitted into it, or of the field of view.
  intrinsics() {
    const W = this.width, H = this.height;
    if (this.photo) {
      const { x, y, scale } = this.frame();
      const [fx, fy, cx, cy] = this.photo.intrinsics;
      return { fx: fx * scale, fy: fy * scale, cx: cx * scale + x, cy: cy * scale + y };
    }
    const f = (0.5 * Math.max(W, H)) / Math.tan((this.fov * Math.PI) / 360);
    return { fx: f, fy: f, cx: W / 2, cy: H / 2 };
  }

  // Where the visited photo lies on the canvas, CSS px.
  frame() {
    const { width, height } = this.photo;
    const scale = Math.min(this.width / width, this.height / height);
    return { scale, x: (this.width - width * scale) / 2, y: (this.height - height * scale) / 2, w: width * scale, h: height * scale };
  }

  // Leave the lens of a photo for a field of view that shows as much.
  leavePhoto() {
    if (!this.photo) return;
    const { fx } = this.intrinsics();
    this.photo = null;
    this.fov = (360 / Math.PI) * Math.atan((0.5 * Math.max(this.width, this.height)) / fx);
    this.wake();
  }

  project() {
    const { fx, fy, cx, cy } = this.intrinsics(), W = this.width, H = this.height;
    this.camera.aspect = W / H;
    this.camera.fov = (360 / Math.PI) * Math.atan(H / 2 / fy);
    this.camera.projectionMatrix.set(
      (2 * fx) / W, 0, 1 - (2 * cx) / W, 0,
      0, (2 * fy) / H, (2 * cy) / H - 1, 0,
      0, 0, -(FAR + NEAR) / (FAR - NEAR), (-2 * FAR * NEAR) / (FAR - NEAR),
      0, 0, -1, 0,
    );
    this.camera.projectionMatrixInverse.copy(this.camera.projectionMatrix).invert();
    this.camera.updateMatrixWorld(true);
  }

  // The camera as messages have it; `factor`: picture px per CSS px.
  pinhole(factor = 1) {
    this.project();
    const { fx, fy, cx, cy } = this.intrinsics();
    const width = Math.max(1, Math.round(this.width * factor)), height = Math.max(1, Math.round(this.height * factor));
    const sx = width / this.width, sy = height / this.height;
    const m = this.root.matrixWorld.clone().invert().multiply(this.camera.matrixWorld).multiply(FLIP).elements;
    const rows = [0, 1, 2].map((r) => [m[r], m[4 + r], m[8 + r], m[12 + r]]);
    return { width, height, fx: fx * sx, fy: fy * sy, cx: cx * sx, cy: cy * sy, world_from_cam: rows };
  }

  // Pose of three's camera from rows of world_from_cam.
  pose(rows) {
    const m = new THREE.Matrix4().set(...rows[0], ...rows[1], ...rows[2], 0, 0, 0, 1);
    const matrix = this.root.matrixWorld.clone().multiply(m).multiply(FLIP);
    const position = new THREE.Vector3(), quaternion = new THREE.Quaternion();
    matrix.decompose(position, quaternion, new THREE.Vector3());
    return { position, quaternion };
  }

  toThree(point) {
    return this.root.localToWorld(new THREE.Vector3(...point));
  }

  toScene(vector) {
    return this.root.worldToLocal(vector.clone()).toArray();
  }

  // CSS px of a point in three's frame; z < 0: behind.
  screen(vector) {
    const p = vector.clone().applyMatrix4(this.camera.matrixWorldInverse);
    const { fx, fy, cx, cy } = this.intrinsics();
    return { x: (fx * p.x) / -p.z + cx, y: (fy * -p.y) / -p.z + cy, z: -p.z };
  }

  // ----------------------------------------------------------------------------------------------------------- drawing

  resize() {
    this.width = Math.max(1, this.canvas.clientWidth);
    this.height = Math.max(1, this.canvas.clientHeight);
    this.ratio = Math.min(window.devicePixelRatio || 1, 2);
    for (const renderer of [this.renderer, this.marksRenderer]) {
      renderer.setPixelRatio(this.ratio);
      renderer.setSize(this.width, this.height, false);
    }
    this.wake();
  }

  // Draw for a moment: the order of splats follows the camera by a frame or two.
  wake(milliseconds = 400) {
    this.awake = Math.max(this.awake, performance.now() + milliseconds);
  }

  draw() {
    this.project();
    if (this.left && this.isOutside() !== this.outside) this.refresh();
    if (!this.covered) this.renderer.render(this.scene, this.camera);
    this.marksRenderer.render(this.marks, this.camera);
    this.frames++;
  }

  start() {
    const tick = (now) => {
      this.onFrame(now);
      if (now < this.awake) this.draw();
      requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
  }

  screenshot() {
    this.project();
    this.renderer.render(this.scene, this.camera);
    return new Promise((resolve) => this.canvas.toBlob(resolve, "image/png"));
  }
}
