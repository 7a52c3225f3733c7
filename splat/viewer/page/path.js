// Keyframes of a camera path: preview in the page, video from the server. The spline is the server's.

export class Path extends EventTarget {
  constructor(stage, controls, connection) {
    super();
    Object.assign(this, { stage, controls, connection });
    this.keyframes = [];
    this.playing = null;
    connection.addEventListener("path", ({ detail }) => this.play(detail));
  }

  add() {
    const rows = this.stage.pinhole().world_from_cam;
    this.keyframes.push(rows);
    this.tell();
  }

  remove(index) {
    this.keyframes.splice(index, 1);
    this.tell();
  }

  tell() {
    this.dispatchEvent(new Event("change"));
  }

  // Keyframes with the lens of now at a picture size, by default that of the screen.
  message(action, seconds, size) {
    const view = this.stage.pinhole();
    if (size) {
      const [width, height] = size, f = view.fx * (Math.max(width, height) / Math.max(view.width, view.height));
      Object.assign(view, { width, height, fx: f, fy: f, cx: width / 2, cy: height / 2 });
    }
    const keyframes = this.keyframes.map((world_from_cam) => ({ ...view, world_from_cam }));
    return { kind: "path", action, keyframes, seconds, fps: 30 };
  }

  preview(seconds) {
    if (this.playing) return this.stop();
    if (this.keyframes.length > 1) this.connection.send(this.message("preview", seconds));
  }

  render(seconds, size) {
    if (this.keyframes.length > 1) this.connection.send(this.message("render", seconds, size));
  }

  play({ poses, fps }) {
    this.stage.leavePhoto();
    this.playing = { poses, fps, start: performance.now() };
    this.tell();
  }

  stop() {
    this.playing = null;
    this.tell();
  }

  update(now) {
    if (!this.playing) return;
    const { poses, fps, start } = this.playing;
    const index = Math.floor(((now - start) / 1000) * fps);
    const p = poses[Math.min(index, poses.length - 1)];
    const { position, quaternion } = this.stage.pose([p.slice(0, 4), p.slice(4, 8), p.slice(8, 12)]);
    this.stage.camera.position.copy(position);
    this.stage.camera.quaternion.copy(quaternion);
    this.controls.changed();
    if (index >= poses.length) this.stop();
  }
}
