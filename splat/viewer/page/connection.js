// The socket: messages of the server as events, messages of the page as calls. Formats: protocol.py.

const SPLATS = 1, PICTURE = 2, MASK = 3;

export class Connection extends EventTarget {
  constructor() {
    super();
    this.token = new URLSearchParams(location.search).get("token") ?? "";
    this.closed = false;
    this.parts = [];
    this.pictures = 0;
  }

  open() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/socket?token=${encodeURIComponent(this.token)}`);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => this.tell("open");
    socket.onmessage = (event) => (typeof event.data === "string" ? this.text(event.data) : this.binary(event.data));
    socket.onclose = (event) => {
      this.tell("lost", { reason: event.reason });
      setTimeout(() => this.open(), 2000);
    };
    this.socket = socket;
  }

  url(path) {
    return `${path}?token=${encodeURIComponent(this.token)}`;
  }

  send(message) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  // Ask for a picture; returns the number that it comes back with.
  look(mode, view, photo = -1) {
    const id = ++this.pictures;
    this.send({ kind: "look", id, mode, view, photo });
    return id;
  }

  // Where the surface at a pixel is: a promise of [x, y, z] or null.
  pick(view, x, y) {
    const id = ++this.pictures;
    return new Promise((resolve) => {
      const heard = ({ detail }) => {
        if (detail.id !== id) return;
        this.removeEventListener("picked", heard);
        resolve(detail.point);
      };
      this.addEventListener("picked", heard);
      this.send({ kind: "pick", id, view, x, y });
    });
  }

  tell(type, detail = {}) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  text(data) {
    const message = JSON.parse(data);
    this.tell(message.type, message);
  }

  binary(buffer) {
    const view = new DataView(buffer);
    const kind = view.getUint32(0, true);
    if (kind === PICTURE) {
      this.tell("picture", { id: view.getUint32(4, true), image: new Blob([new Uint8Array(buffer, 8)], { type: "image/png" }) });
    } else if (kind === MASK) {
      this.tell("mask", { count: view.getUint32(4, true), bits: new Uint8Array(buffer, 8) });
    } else if (kind === SPLATS) {
      const [step, count, degree, part, parts] = [4, 8, 12, 16, 20].map((at) => view.getUint32(at, true));
      if (part === 0) this.parts = [];
      this.parts.push(new Uint8Array(buffer, 24));
      if (part === parts - 1) {
        const planes = new Uint8Array(this.parts.reduce((sum, p) => sum + p.length, 0));
        let at = 0;
        for (const p of this.parts) {
          planes.set(p, at);
          at += p.length;
        }
        this.parts = [];
        this.tell("splats", { step, count, degree, planes: planes.buffer });
      }
    }
  }
}
