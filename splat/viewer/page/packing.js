// Planes of a snapshot (protocol.py) -> the arrays of Spark's ExtSplats: 32 bytes a splat, and 16 per harmonics texture.

const WIDTH = 2048; // of Spark's textures

export function capacity(count) {
  const height = Math.max(1, Math.min(WIDTH, Math.ceil(count / WIDTH)));
  return WIDTH * height * Math.max(1, Math.ceil(count / (WIDTH * height)));
}

export const halves = new Float32Array(65536);
for (let bits = 0; bits < 65536; bits++) {
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
  if (exponent === 0) halves[bits] = sign * fraction * 2 ** -24;
  else if (exponent === 31) halves[bits] = 0; // the server sends none
  else halves[bits] = sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

const float = new Float32Array(1);
const bitsOf = new Uint32Array(float.buffer);
const powers = Float64Array.from({ length: 32 }, (_, biased) => 255 / 2 ** (biased - 15));

// Three signed numbers as 8 bits each with a shared exponent of 5 bits. (Spark's own encoder clips the largest.)
function shared(r, g, b) {
  const ar = Math.abs(r), ag = Math.abs(g), ab = Math.abs(b);
  float[0] = Math.max(ar, ag, ab);
  const biased = Math.max(0, Math.min(31, (bitsOf[0] >>> 23) - 126 + 15));
  const scale = powers[biased];
  const signs = (r < 0 ? 1 : 0) | (g < 0 ? 2 : 0) | (b < 0 ? 4 : 0);
  return (
    (Math.min(255, Math.round(ar * scale)) |
      (Math.min(255, Math.round(ag * scale)) << 8) |
      (Math.min(255, Math.round(ab * scale)) << 16) |
      (((biased << 3) | signs) << 24)) >>>
    0
  );
}

// A unit quaternion as its axis (octahedral, 10 bits each) and angle (12 bits), as Spark decodes it.
function turn(w, x, y, z) {
  if (w < 0) [w, x, y, z] = [-w, -x, -y, -z];
  const angle = 2 * Math.acos(Math.min(1, w));
  const norm = Math.hypot(x, y, z);
  let [ax, ay, az] = norm < 1e-6 ? [1, 0, 0] : [x / norm, y / norm, z / norm];
  const sum = Math.abs(ax) + Math.abs(ay) + Math.abs(az);
  let px = ax / sum, py = ay / sum;
  if (az < 0) [px, py] = [(1 - Math.abs(py)) * (px >= 0 ? 1 : -1), (1 - Math.abs(px)) * (py >= 0 ? 1 : -1)];
  const u = Math.round((px * 0.5 + 0.5) * 1023), v = Math.round((py * 0.5 + 0.5) * 1023);
  return ((Math.round((angle * 4095) / Math.PI) << 20) | (v << 10) | u) >>> 0;
}

// Which harmonic goes where: [array, position] of coefficients 1 to 15.
const PLACES = [
  ["sh1", 0], ["sh1", 1], ["sh1", 2], ["sh1", 3], ["sh2", 0], ["sh2", 1], ["sh2", 2], ["sh2", 3],
  ["sh3a", 0], ["sh3a", 1], ["sh3a", 2], ["sh3a", 3], ["sh3b", 0], ["sh3b", 1], ["sh3b", 2],
];

export function encode({ count, degree, planes }) {
  const n = count, room = capacity(n) * 4;
  let at = 0;
  const plane = (Type, length) => {
    const view = new Type(planes, at, length);
    at += length * Type.BYTES_PER_ELEMENT;
    return view;
  };
  const means = plane(Float32Array, 3 * n), meanBits = new Uint32Array(means.buffer, 0, 3 * n);
  const opacity = plane(Uint16Array, n), rgb = plane(Uint16Array, 3 * n);
  const scales = plane(Uint16Array, 3 * n), quats = plane(Uint16Array, 4 * n);
  const harmonics = (degree + 1) ** 2 - 1;
  const sh = plane(Uint16Array, harmonics * 3 * n);
  const a = new Uint32Array(room), b = new Uint32Array(room);
  for (let i = 0, i3 = 0, i4 = 0; i < n; i++, i3 += 3, i4 += 4) {
    a[i4] = meanBits[i3];
    a[i4 + 1] = meanBits[i3 + 1];
    a[i4 + 2] = meanBits[i3 + 2];
    a[i4 + 3] = opacity[i];
    b[i4] = rgb[i3] | (rgb[i3 + 1] << 16);
    b[i4 + 1] = rgb[i3 + 2] | (scales[i3] << 16);
    b[i4 + 2] = scales[i3 + 1] | (scales[i3 + 2] << 16);
    b[i4 + 3] = turn(halves[quats[i4]], halves[quats[i4 + 1]], halves[quats[i4 + 2]], halves[quats[i4 + 3]]);
  }
  const names = [[], ["sh1"], ["sh1", "sh2"], ["sh1", "sh2", "sh3a", "sh3b"]][Math.min(3, degree)];
  const extra = Object.fromEntries(names.map((name) => [name, new Uint32Array(room)]));
  PLACES.slice(0, harmonics).forEach(([name, position], k) => {
    const out = extra[name];
    for (let i = 0, o = position, s = 3 * k; i < n; i++, o += 4, s += 3 * harmonics) {
      out[o] = shared(halves[sh[s]], halves[sh[s + 1]], halves[sh[s + 2]]);
    }
  });
  return { count: n, a, b, extra };
}

// The rows whose centre is in a ball (frame of the scene).
export function within(full, { centre, radius }) {
  const means = new Float32Array(full.a.buffer), bits = new Uint8Array(Math.ceil(full.count / 8));
  for (let i = 0; i < full.count; i++) {
    const x = means[4 * i] - centre[0], y = means[4 * i + 1] - centre[1], z = means[4 * i + 2] - centre[2];
    if (x * x + y * y + z * z <= radius * radius) bits[i >> 3] |= 1 << (i & 7);
  }
  return compacted(full, bits);
}

// The rows that a mask keeps (a bit each, least significant first).
export function compacted(full, bits) {
  const kept = [];
  for (let i = 0; i < full.count; i++) if (bits[i >> 3] & (1 << (i & 7))) kept.push(i);
  const room = capacity(kept.length) * 4;
  const take = (from) => {
    const out = new Uint32Array(room);
    kept.forEach((row, i) => {
      const r = 4 * row, o = 4 * i;
      out[o] = from[r];
      out[o + 1] = from[r + 1];
      out[o + 2] = from[r + 2];
      out[o + 3] = from[r + 3];
    });
    return out;
  };
  const extra = Object.fromEntries(Object.entries(full.extra).map(([name, array]) => [name, take(array)]));
  return { count: kept.length, a: take(full.a), b: take(full.b), extra };
}
