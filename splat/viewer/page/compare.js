// At a photo: the photo, our picture, both with a slider between them, or their difference.

export class Compare {
  constructor(stage, connection, box) {
    this.stage = stage;
    this.connection = connection;
    this.box = box;
    this.photo = box.querySelector(".photo");
    this.difference = box.querySelector(".difference");
    this.handle = box.querySelector(".handle");
    this.view = "render";
    this.share = 0.5;
    this.id = -1;
    this.handle.addEventListener("pointerdown", (e) => {
      e.stopPropagation();
      this.handle.setPointerCapture(e.pointerId);
    });
    this.handle.addEventListener("pointermove", (e) => {
      if (!this.handle.hasPointerCapture(e.pointerId)) return;
      const { left, width } = box.getBoundingClientRect();
      this.slide((e.clientX - left) / width);
    });
    this.handle.addEventListener("keydown", (e) => {
      const by = { ArrowLeft: -0.05, ArrowRight: 0.05 }[e.key];
      if (by) e.stopPropagation(), this.slide(this.share + by);
    });
    connection.addEventListener("picture", ({ detail }) => {
      if (detail.id !== this.asked) return;
      if (this.difference.src.startsWith("blob:")) URL.revokeObjectURL(this.difference.src);
      this.difference.src = URL.createObjectURL(detail.image);
    });
  }

  open(camera) {
    this.camera = camera;
    this.photo.src = this.connection.url(`photo/${camera.id}`);
    this.difference.removeAttribute("src");
    this.place();
    this.show(this.view);
  }

  close() {
    this.camera = null;
    this.box.hidden = true;
  }

  show(view) {
    this.view = view;
    if (!this.camera) return;
    this.box.hidden = view === "render";
    this.box.dataset.view = view;
    if (view === "difference") this.askDifference();
    this.slide(this.share);
  }

  askDifference() {
    const [fx, fy, cx, cy] = this.camera.intrinsics;
    const { width, height, world_from_cam } = this.camera;
    this.asked = this.connection.look("difference", { width, height, fx, fy, cx, cy, world_from_cam }, this.camera.id);
  }

  slide(share) {
    this.share = Math.max(0, Math.min(1, share));
    const cut = this.view === "split" ? 100 * (1 - this.share) : 0;
    this.photo.style.clipPath = `inset(0 ${cut}% 0 0)`;
    this.handle.style.left = `${100 * this.share}%`;
    this.handle.setAttribute("aria-valuenow", Math.round(100 * this.share));
  }

  place() {
    if (!this.stage.photo) return;
    const { x, y, w, h } = this.stage.frame();
    Object.assign(this.box.style, { left: `${x}px`, top: `${y}px`, width: `${w}px`, height: `${h}px` });
  }
}
