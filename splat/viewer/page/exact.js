// Pictures of the server: the exact one of the resting camera, and the modes that the browser cannot draw.

const REST = 250; // milliseconds without movement

export class Exact {
  constructor(stage, connection, image) {
    this.stage = stage;
    this.connection = connection;
    this.image = image;
    this.mode = "colour";
    this.enabled = true;
    this.moved = performance.now();
    this.waiting = null; // { id, rest }
    this.onShown = () => {};
    connection.addEventListener("picture", ({ detail }) => this.arrived(detail));
    connection.addEventListener("notice", () => (this.waiting = null));
  }

  get served() {
    return this.mode !== "colour" && this.mode !== "ellipsoids";
  }

  setMode(mode) {
    this.mode = mode;
    this.waiting = null; // what is on its way is of the mode before
    this.stage.covered = this.served;
    this.hide();
    this.touch();
  }

  // The camera or the scene changed.
  touch() {
    this.moved = performance.now();
    this.resting = false;
    if (!this.served) this.hide();
  }

  hide() {
    this.image.classList.remove("shown");
    this.shown = false;
    this.onShown(false);
  }

  update(now) {
    if (!this.enabled || this.mode === "ellipsoids" || !this.stage.mesh || (this.waiting && now - this.waiting.time < 15000)) return;
    const rest = now - this.moved > REST;
    if (rest ? this.resting : !this.served || now - (this.asked ?? 0) < 60) return;
    const factor = rest ? this.stage.ratio : Math.min(0.5, 480 / this.stage.width);
    this.resting = rest;
    this.asked = now;
    this.waiting = { id: this.connection.look(this.mode, this.stage.pinhole(factor)), rest, moved: this.moved, time: now };
  }

  arrived({ id, image }) {
    if (!this.waiting || id !== this.waiting.id) return;
    const { rest, moved } = this.waiting;
    this.waiting = null;
    if (!this.served && moved !== this.moved) return; // of a camera that has moved on
    const url = URL.createObjectURL(image);
    const next = new Image();
    next.onload = () => {
      if (!this.served && moved !== this.moved) return URL.revokeObjectURL(url);
      const old = this.image.src;
      this.image.src = url;
      this.image.classList.add("shown");
      this.shown = true;
      this.onShown(rest);
      if (old.startsWith("blob:")) URL.revokeObjectURL(old);
    };
    next.src = url;
  }
}
