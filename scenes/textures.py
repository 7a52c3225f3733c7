"""Procedural pictures for surfaces: sRGB arrays [h w 3], float32 in [0, 1], row 0 at the top.

Every pattern is a function of physical coordinates (metres on the surface) and a seed, so the same surface made with
fewer texels is the same surface seen more coarsely: noise octaves finer than two texels are left out, the others keep
their values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Number = float | int

GLYPHS = {
    "A": "0E11111F111111", "B": "1E11111E11111E", "C": "0E11101010110E", "D": "1E11111111111E",
    "E": "1F10101E10101F", "F": "1F10101E101010", "G": "0E11101713110F", "H": "1111111F111111",
    "I": "0E04040404040E", "J": "0702020202120C", "K": "11121418141211", "L": "1010101010101F",
    "M": "111B1515111111", "N": "11191915131311", "O": "0E11111111110E", "P": "1E11111E101010",
    "Q": "0E11111115120D", "R": "1E11111E141211", "S": "0F10100E01011E", "T": "1F040404040404",
    "U": "1111111111110E", "V": "11111111110A04", "W": "1111111515150A", "X": "11110A040A1111",
    "Y": "1111110A040404", "Z": "1F01020408101F", "0": "0E11131519110E", "1": "040C040404040E",
    "2": "0E11010204081F", "3": "1F02040201110E", "4": "02060A121F0202", "5": "1F101E0101110E",
    "6": "0608101E11110E", "7": "1F010204080808", "8": "0E11110E11110E", "9": "0E11110F01020C",
    " ": "00000000000000", "-": "0000001F000000", ".": "00000000000C0C",
}  # fmt: skip
"""A 5 x 7 dot letter as seven hexadecimal rows, the leftmost dot is bit 4."""

WORDS = (
    "LIGHT DEPTH PARALLAX HARBOUR NORTH ATLAS MEADOW GRAVITY ORCHARD WINTER SIGNAL COPPER RIVER LANTERN MARBLE "
    "FIELD NOTES VOYAGE STONE GARDEN ECHO PRISM CANVAS TIMBER ISLAND ALMANAC METHOD FORM COLOUR SHADOW"
).split()


@dataclass(frozen=True)
class Canvas:
    """A rectangle of `width` x `height` metres made of square texels."""

    width: Number
    height: Number
    texels_per_metre: Number

    @property
    def shape(self) -> tuple[int, int]:
        rows, columns = self.height * self.texels_per_metre, self.width * self.texels_per_metre
        return max(4, round(rows)), max(4, round(columns))

    def xy(self) -> tuple[np.ndarray, np.ndarray]:
        """Metres from the left [1 w] and from the top [h 1] of every texel's centre."""
        h, w = self.shape
        x = (np.arange(w, dtype=np.float32) + 0.5) * np.float32(self.width / w)
        y = (np.arange(h, dtype=np.float32) + 0.5) * np.float32(self.height / h)
        return x[None, :], y[:, None]

    def texel(self) -> float:
        """Size of a texel in metres."""
        return self.width / self.shape[1]


def colour(code: str) -> np.ndarray:
    """"#rrggbb" as float32 [3]."""
    return np.array([int(code[i : i + 2], 16) for i in (1, 3, 5)], np.float32) / 255


def mix(a: np.ndarray, b: np.ndarray, amount: np.ndarray | Number) -> np.ndarray:
    """`a` where amount is 0, `b` where it is 1; `amount` [h w] or a number."""
    amount = np.asarray(amount, np.float32)
    return a + (b - a) * (amount[..., None] if amount.ndim == 2 else amount)


def smoothstep(low: Number, high: Number, value: np.ndarray) -> np.ndarray:
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _taps(positions: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """First lattice index and the four uniform cubic B-spline weights at positions measured in lattice cells."""
    cell = np.floor(positions).astype(np.int64)
    t = (positions - cell).astype(np.float32)
    weights = [(1 - t) ** 3 / 6, (3 * t**3 - 6 * t**2 + 4) / 6, (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6, t**3 / 6]
    return cell, [w.astype(np.float32) for w in weights]


def noise(canvas: Canvas, wavelength: Number | tuple[Number, Number], seed: int, wrap: bool = False) -> np.ndarray:
    """Smooth noise [h w], about zero mean and unit variance: a lattice of random values one wavelength (x, y) apart
    under a cubic B-spline. `wrap` makes the left and the right edge meet."""
    across, down = (wavelength, wavelength) if isinstance(wavelength, float | int) else wavelength
    cells_x = max(1, round(canvas.width / across)) if wrap else canvas.width / across
    columns, rows = int(np.ceil(cells_x)) + 4, int(np.ceil(canvas.height / down)) + 4
    lattice = np.random.default_rng([seed, 17]).standard_normal((rows, columns), dtype=np.float32) * np.float32(2.1)
    x, y = canvas.xy()
    ix, wx = _taps(x[0] / canvas.width * cells_x)
    iy, wy = _taps(y[:, 0] / down)
    if wrap:
        lattice = lattice[:, np.arange(columns) % int(cells_x)]
    tall = sum(lattice[iy + k] * wy[k][:, None] for k in range(4))
    return sum(tall[:, ix + k] * wx[k] for k in range(4))


def fractal(
    canvas: Canvas,
    longest: Number,
    shortest: Number,
    seed: int,
    gain: Number = 0.6,
    stretch: tuple[Number, Number] = (1.0, 1.0),
    wrap: bool = False,
) -> np.ndarray:
    """Octaves of noise from the longest to the shortest wavelength (metres), each `gain` times the one before."""
    total = np.zeros(canvas.shape, np.float32)
    amplitude, wavelength, octave, power = 1.0, longest, 0, 0.0
    while wavelength >= shortest:
        if wavelength * min(stretch) >= 1.5 * canvas.texel():
            total += np.float32(amplitude) * noise(
                canvas, (wavelength * stretch[0], wavelength * stretch[1]), seed * 64 + octave, wrap
            )
        power += amplitude**2
        amplitude, wavelength, octave = amplitude * gain, wavelength / 2, octave + 1
    return total / np.float32(np.sqrt(power))


def grain(canvas: Canvas, picture: np.ndarray, amount: Number, seed: int, finest: Number = 0.002) -> np.ndarray:
    """Multiply a picture by fine mottles, as paper, paint and cloth have them."""
    return picture * (1 + np.float32(amount) * fractal(canvas, 0.03, finest, seed, gain=0.75))[..., None]


# ----------------------------------------------------------------------------------------------------------- materials


def wood(canvas: Canvas, seed: int, base: str = "#a9764a", dark: str = "#5e3a1e", along_x: bool = True) -> np.ndarray:
    """Planed wood: rings bent by slow noise, long fibres, pores."""
    x, y = canvas.xy()
    across = y if along_x else x
    stretch = (9.0, 1.0) if along_x else (1.0, 9.0)
    bend = fractal(canvas, 0.12, 0.02, seed, stretch=stretch)
    rings = 0.5 + 0.5 * np.sin(2 * np.pi * (across / 0.045 + 1.1 * bend))
    fibres = fractal(canvas, 0.012, 0.0015, seed + 1, gain=0.85, stretch=stretch)
    tone = 0.18 + 0.34 * rings**2 + 0.13 * fibres + 0.10 * fractal(canvas, 0.4, 0.1, seed + 2)
    return np.clip(mix(colour(base), colour(dark), np.clip(tone, 0, 1)), 0, 1)


def boards(canvas: Canvas, seed: int, board: Number = 0.14, length: Number = 1.3) -> np.ndarray:
    """A floor of long boards along y, each of its own tone, with dark joints and staggered ends."""
    x, y = canvas.xy()
    rng = np.random.default_rng([seed, 3])
    column = np.floor(x / board).astype(int)
    offsets = rng.random(int(canvas.width / board) + 3)
    row = np.floor(y / length + offsets[column]).astype(int)
    tones = rng.random((offsets.size, int(canvas.height / length) + 4))
    picture = wood(canvas, seed + 5, "#b98a58", "#6d4524", along_x=False)
    tone = tones[np.broadcast_to(column, canvas.shape), row]
    picture = picture * (0.72 + 0.45 * tone.astype(np.float32))[..., None]
    gap_x = np.abs((x / board) % 1 - 0.5) * board
    gap_y = np.abs((y / length + offsets[column]) % 1 - 0.5) * length
    joint = np.maximum(
        smoothstep(board / 2 - 0.004, board / 2 - 0.0015, gap_x) * np.ones(canvas.shape, np.float32),
        smoothstep(length / 2 - 0.004, length / 2 - 0.0015, gap_y),
    )
    scuffs = smoothstep(1.1, 2.4, fractal(canvas, 0.5, 0.01, seed + 9, gain=0.8))
    picture = mix(picture, colour("#d8c3a0"), 0.35 * scuffs)
    return np.clip(mix(picture, colour("#24170d"), 0.85 * joint), 0, 1)


def plaster(canvas: Canvas, seed: int, base: str = "#d9cfbd") -> np.ndarray:
    """A painted wall: brush strokes, trowel marks, stains, small specks and a few hairline cracks."""
    slow = fractal(canvas, 0.9, 0.12, seed)
    trowel = fractal(canvas, 0.10, 0.012, seed + 1, gain=0.8, stretch=(1.8, 0.8))
    fine = fractal(canvas, 0.012, 0.003, seed + 2, gain=0.9)
    picture = colour(base) * (1 + 0.07 * slow + 0.055 * trowel + 0.03 * fine)[..., None]
    stains = smoothstep(0.9, 2.2, fractal(canvas, 0.5, 0.02, seed + 3, gain=0.7))
    picture = mix(picture, colour("#a58f6c"), 0.30 * stains)
    specks = smoothstep(2.1, 2.7, fractal(canvas, 0.035, 0.009, seed + 4, gain=0.8))
    picture = mix(picture, colour("#7f6d55"), 0.5 * specks)
    ridge = np.abs(fractal(canvas, 0.7, 0.02, seed + 5, gain=0.55))
    place = smoothstep(0.3, 1.2, fractal(canvas, 0.8, 0.2, seed + 6))
    return np.clip(mix(picture, colour("#5d5040"), 0.6 * place * (1 - smoothstep(0.004, 0.016, ridge))), 0, 1)


def bricks(canvas: Canvas, seed: int, length: Number = 0.22, height: Number = 0.072) -> np.ndarray:
    """A brick wall in running bond, limewashed in patches."""
    x, y = canvas.xy()
    rng = np.random.default_rng([seed, 5])
    row = np.floor(y / height).astype(int)
    along = x / length + 0.5 * (row % 2)
    column = np.floor(along).astype(int)
    shape = (int(canvas.height / height) + 3, int(canvas.width / length) + 4)
    tone, hue = rng.random(shape, dtype=np.float32)[row, column], rng.random(shape, dtype=np.float32)[row, column]
    wobble = 0.0022 * fractal(canvas, 0.06, 0.01, seed + 1)
    edge_x = (0.5 - np.abs(along % 1 - 0.5)) * length
    edge_y = (0.5 - np.abs((y / height) % 1 - 0.5)) * height
    mortar = 1 - smoothstep(0.0035, 0.0075, np.minimum(edge_x, edge_y) + wobble)
    face = mix(mix(colour("#8e4a33"), colour("#c07a52"), tone), colour("#6b4b45"), 0.6 * hue**3)
    face = face * (1 + 0.13 * fractal(canvas, 0.08, 0.0025, seed + 2, gain=0.8))[..., None]
    pits = smoothstep(1.5, 2.2, fractal(canvas, 0.02, 0.004, seed + 3, gain=0.9))
    face = mix(face, colour("#3d241c"), 0.6 * pits)
    joint = colour("#b5a892") * (1 + 0.09 * fractal(canvas, 0.03, 0.003, seed + 4, gain=0.8))[..., None]
    wash = smoothstep(0.2, 1.6, fractal(canvas, 0.9, 0.015, seed + 6, gain=0.7))
    return np.clip(mix(mix(face, joint, mortar), colour("#d6cbb8"), 0.55 * wash), 0, 1)


def wallpaper(canvas: Canvas, seed: int, base: str = "#5c7480", ink: str = "#c9c3a5") -> np.ndarray:
    """Printed leaves and dots on a slightly uneven lattice, so that no two repeats are the same."""
    x, y = canvas.xy()
    wander_x, wander_y = fractal(canvas, 0.8, 0.05, seed), fractal(canvas, 0.8, 0.05, seed + 1)
    cell = 0.19
    u, v = x / cell + 0.16 * wander_x, y / cell + 0.16 * wander_y
    u, v = np.broadcast_arrays(u + 0.5 * (np.floor(v) % 2), v)
    rng = np.random.default_rng([seed, 7])
    turn = rng.random(4096, dtype=np.float32)[(np.floor(u).astype(int) * 131 + np.floor(v).astype(int) * 17) % 4096]
    a, b = u % 1 - 0.5, v % 1 - 0.5
    angle, radius = np.arctan2(b, a) + 6.3 * turn, np.hypot(a, b)
    petals = 0.30 * np.abs(np.cos((2 + np.floor(turn * 3)) / 2 * angle)) ** 0.7 + 0.05
    soft = canvas.texel() / cell
    leaf = 1 - smoothstep(-soft - 0.01, soft + 0.01, radius - petals)
    vein = smoothstep(0.75, 0.95, np.cos(2 * (2 + np.floor(turn * 3)) * angle)) * leaf
    dots = 1 - smoothstep(0.03 - soft, 0.03 + soft, np.hypot(np.abs(a) - 0.5, np.abs(b) - 0.5))
    picture = mix(colour(base), colour(ink), np.clip(0.75 * leaf + dots, 0, 1))
    picture = mix(picture, colour(base) * 0.7, 0.6 * vein)
    return np.clip(grain(canvas, picture * (1 + 0.05 * wander_x)[..., None], 0.05, seed + 2), 0, 1)


def cloth(canvas: Canvas, seed: int, colours: tuple[str, ...]) -> np.ndarray:
    """A woven rug: a border, medallions and zigzags in few colours, with fibres."""
    x, y = canvas.xy()
    x = x + 0.006 * fractal(canvas, 0.3, 0.02, seed)
    y = y + 0.006 * fractal(canvas, 0.3, 0.02, seed + 1)
    inks = [colour(c) for c in colours]
    edge = np.minimum(np.minimum(x, canvas.width - x), np.minimum(y, canvas.height - y))
    zigzag = np.floor((y + 0.05 * np.abs((x / 0.1) % 2 - 1)) / 0.045).astype(int) % len(inks)
    picture = np.stack(inks)[zigzag]
    cell = 0.42
    diamond = np.abs((x / cell) % 1 - 0.5) + np.abs((y / cell) % 1 - 0.5)
    ring = np.floor(diamond * 9 + 0.35 * noise(canvas, 0.25, seed + 2)).astype(int)
    picture = np.where((diamond < 0.36)[..., None], np.stack(inks)[(ring + 1) % len(inks)], picture)
    border = (edge > 0.05) & (edge < 0.16)
    beads = (np.floor((x + y) / 0.05) + np.floor((x - y) / 0.05)).astype(int) % 2
    picture = np.where(border[..., None], np.stack([inks[0] * 0.8, inks[-1]])[beads], picture)
    fibres = fractal(canvas, 0.008, 0.003, seed + 3, gain=0.9)
    wear = fractal(canvas, 0.5, 0.03, seed + 4, gain=0.7)
    return np.clip(picture * (0.9 + 0.10 * fibres + 0.10 * wear)[..., None], 0, 1)


def glaze(canvas: Canvas, seed: int, colours: tuple[str, ...], bands: int = 7) -> np.ndarray:
    """Painted pottery: bands of zigzags, dots and lines around an axis; the left and right edges meet."""
    x, y = canvas.xy()
    turn, height = x / canvas.width, y / canvas.height * bands
    inks = [colour(c) for c in colours]
    band = np.broadcast_to(np.floor(height).astype(int), canvas.shape)
    v = height % 1
    teeth = 12 + 4 * (band % 3)
    zig = np.abs((turn * teeth) % 1 - 0.5) * 2
    shapes = np.where(band % 3 == 0, v > zig, np.where(band % 3 == 1, np.hypot(zig, v * 2 - 1) < 0.7, v < 0.35))
    picture = np.where(shapes[..., None], np.stack(inks)[band % len(inks)], np.stack(inks)[(band + 1) % len(inks)])
    picture = np.where(((v < 0.07) | (v > 0.93))[..., None], inks[-1] * 0.6, picture)
    mottle = fractal(canvas, 0.10, 0.003, seed, gain=0.7, wrap=True)
    return np.clip(picture * (0.92 + 0.10 * mottle)[..., None], 0, 1)


def globe(canvas: Canvas, seed: int) -> np.ndarray:
    """A school globe: seas, land by height, meridians and parallels. Left and right meet; the poles are plain ice."""
    x, y = canvas.xy()
    height = fractal(canvas, canvas.width / 6, canvas.width / 400, seed, gain=0.58, wrap=True) - 0.25
    soft = 0.02
    land = smoothstep(-soft, soft, height)
    sea = mix(colour("#2f6690"), colour("#8ec2d6"), np.clip(1 + height, 0, 1) ** 4)
    ground = mix(mix(colour("#7a9a4b"), colour("#d8b26a"), smoothstep(0.1, 0.6, height)), colour("#8a5a3c"),
                 smoothstep(0.6, 1.3, height))  # fmt: skip
    picture = mix(sea, ground, land)
    picture = mix(picture, colour("#3b3a33"), 0.7 * (1 - smoothstep(0.03, 0.07, np.abs(height))))
    turn, tilt = x / canvas.width, y / canvas.height
    lines = np.minimum(np.abs((turn * 24 + 0.5) % 1 - 0.5) / 24 * canvas.width, np.abs((tilt * 12 + 0.5) % 1 - 0.5) / 12
                       * canvas.height)  # fmt: skip
    picture = mix(picture, colour("#efe9d4"), 0.5 * (1 - smoothstep(0.0008, 0.0022, lines)))
    return np.clip(mix(picture, colour("#e9eef0"), smoothstep(0.40, 0.43, np.abs(tilt - 0.5) * np.ones_like(turn))), 0, 1)


# ---------------------------------------------------------------------------------------------------- printed surfaces


def stamp(canvas: Canvas, text: str, left: Number, top: Number, size: Number) -> np.ndarray:
    """Coverage [h w] of one line of capital letters, `size` metres tall, its top left corner at (left, top)."""
    dots = np.zeros((9, 6 * len(text) + 2), np.float32)
    for i, letter in enumerate(text.upper()):
        code = GLYPHS.get(letter, GLYPHS["-"])
        for row in range(7):
            bits = int(code[2 * row : 2 * row + 2], 16)
            dots[row + 1, 6 * i + 1 : 6 * i + 6] = [(bits >> (4 - k)) & 1 for k in range(5)]
    x, y = canvas.xy()
    u, v = (x[0] - left) / size * 7 + 0.5, (y[:, 0] - top) / size * 7 + 0.5
    columns, rows = np.flatnonzero((u > 0) & (u < dots.shape[1] - 1)), np.flatnonzero((v > 0) & (v < 8))
    out = np.zeros(canvas.shape, np.float32)
    if columns.size and rows.size:
        iu, iv = u[columns].astype(int), v[rows].astype(int)
        fu, fv = u[columns] - iu, (v[rows] - iv)[:, None]
        # Linear in between, then sharpened: letters with round corners whatever the number of texels.
        a = dots[iv][:, iu] * (1 - fu) + dots[iv][:, iu + 1] * fu
        b = dots[iv + 1][:, iu] * (1 - fu) + dots[iv + 1][:, iu + 1] * fu
        out[rows[:, None], columns] = smoothstep(0.35, 0.65, a * (1 - fv) + b * fv)
    return out


def page(canvas: Canvas, seed: int, columns: int = 2, paper: str = "#e9e4d4", ink: str = "#2a2724") -> np.ndarray:
    """A printed page: a headline, columns of words, a small picture."""
    rng = np.random.default_rng([seed, 11])
    h, w = canvas.height, canvas.width
    title = " ".join(rng.choice(WORDS, 2))
    size = min(0.09 * h, 0.9 * w / (6 * len(title)) * 7)
    cover = stamp(canvas, title, 0.05 * w, 0.05 * h, size)
    line, column = 0.026 * h, 0.9 * w / columns
    for c in range(columns):
        y = 0.20 * h
        limit = 0.62 * h if c == columns - 1 else 0.95 * h
        while y < limit:
            letters = int(column * 0.92 / (line * 0.62 / 7 * 6))
            text = " ".join(rng.choice(WORDS, letters // 4))[:letters]
            cover = np.maximum(cover, stamp(canvas, text, 0.05 * w + c * column, y, 0.62 * line))
            y += line
    picture = mix(colour(paper) * np.ones((*canvas.shape, 1), np.float32), colour(ink), 0.9 * cover)
    x, y = canvas.xy()
    inset = (x > 0.05 * w + (columns - 1) * column) & (x < 0.93 * w) & (y > 0.66 * h) & (y < 0.94 * h)
    tone = fractal(canvas, 0.2 * w, 0.01 * w, seed + 1)
    picture = np.where(inset[..., None], colour(ink) + 0.45 + 0.2 * tone[..., None], picture)
    return np.clip(grain(canvas, picture, 0.03, seed + 2), 0, 1)


def landscape(canvas: Canvas, seed: int, colours: tuple[str, ...]) -> np.ndarray:
    """A painting: a sky with clouds and a sun, and ranges of hills, each with its own brushwork."""
    x, y = canvas.xy()
    h, w = canvas.height, canvas.width
    rng = np.random.default_rng([seed, 13])
    inks = [colour(c) for c in colours]
    clouds = fractal(canvas, 0.5 * w, 0.01 * w, seed, gain=0.65, stretch=(2.0, 0.7))
    picture = mix(mix(inks[0], inks[1], np.clip(y / h * 1.6, 0, 1) * np.ones(canvas.shape)), colour("#f4efe2"),
                  0.6 * smoothstep(0.2, 1.4, clouds))  # fmt: skip
    sun = np.hypot(x - rng.uniform(0.2, 0.8) * w, y - 0.24 * h) / h
    picture = mix(picture, colour("#f6d98a"), 1 - smoothstep(0.075, 0.085, sun))
    ranges = len(inks) - 2
    for i in range(ranges):
        level = (0.42 + 0.5 * i / ranges) * h
        strip = Canvas(w, canvas.texel() * 4, canvas.texels_per_metre)
        skyline = fractal(strip, 0.4 * w, 0.01 * w, seed * 8 + i)[:1]
        below = smoothstep(-0.003 * h, 0.003 * h, y - level - 0.06 * h * skyline)
        brush = fractal(canvas, 0.12 * w, 0.006 * w, seed * 8 + 40 + i, gain=0.75, stretch=(1.6, 0.8))
        picture = mix(picture, inks[2 + i] * (1 + 0.17 * brush)[..., None], below)
    return np.clip(grain(canvas, picture, 0.04, seed + 5), 0, 1)


def composition(canvas: Canvas, seed: int, colours: tuple[str, ...], depth: int = 6) -> np.ndarray:
    """An abstract print: a rectangle split again and again, some fields hatched, dotted or ringed."""
    rng = np.random.default_rng([seed, 19])
    x, y = canvas.xy()
    inks = [colour(c) for c in colours]
    picture = np.ones((*canvas.shape, 3), np.float32) * colour("#e8e2d2")
    line = 0.008 * canvas.width

    def split(x0: Number, y0: Number, x1: Number, y1: Number, left: int) -> None:
        nonlocal picture
        wide, tall = x1 - x0, y1 - y0
        if left and min(wide, tall) > 0.09 * canvas.width and (left > 3 or rng.random() < 0.8):
            cut = rng.uniform(0.3, 0.7)
            if wide * rng.uniform(0.6, 1.6) > tall:
                split(x0, y0, x0 + cut * wide, y1, left - 1)
                split(x0 + cut * wide, y0, x1, y1, left - 1)
            else:
                split(x0, y0, x1, y0 + cut * tall, left - 1)
                split(x0, y0 + cut * tall, x1, y1, left - 1)
            return
        rows = (y[:, 0] > y0 + line) & (y[:, 0] < y1 - line)
        cols = (x[0] > x0 + line) & (x[0] < x1 - line)
        first, second = rng.choice(len(inks), 2, replace=False)
        kind, pitch, angle = rng.integers(6), rng.uniform(0.02, 0.05) * canvas.width, rng.uniform(0, np.pi)
        xs, ys = x[:, cols], y[rows]
        if kind == 0:
            shape = np.sin(2 * np.pi * (xs * np.cos(angle) + ys * np.sin(angle)) / pitch)
        elif kind == 1:
            shape = np.sin(2 * np.pi * np.hypot(xs - (x0 + x1) / 2, ys - (y0 + y1) / 2) / pitch)
        elif kind == 2:
            shape = np.cos(2 * np.pi * xs / pitch) + np.cos(2 * np.pi * ys / pitch) - 0.6
        elif kind == 3:
            shape = 0.42 * min(wide, tall) - np.hypot(xs - (x0 + x1) / 2, ys - (y0 + y1) / 2)
            shape = shape / pitch * 8
        else:
            shape = -np.ones((ys.shape[0], xs.shape[1]), np.float32)
        picture[np.ix_(rows, cols)] = mix(inks[first], inks[second], smoothstep(-0.25, 0.25, shape).astype(np.float32))

    split(0.03 * canvas.width, 0.03 * canvas.width, 0.97 * canvas.width, canvas.height - 0.03 * canvas.width, depth)
    return np.clip(grain(canvas, picture, 0.06, seed + 1), 0, 1)


def chart(canvas: Canvas, seed: int, paper: str = "#e6dcc0") -> np.ndarray:
    """A hiking map: tinted heights, contour lines, a river, a grid and names."""
    w = canvas.width
    x, y = canvas.xy()
    height = fractal(canvas, 0.55 * w, 0.02 * w, seed, gain=0.5)
    picture = mix(mix(colour("#a9c18a"), colour(paper), smoothstep(-1.2, 0.3, height)), colour("#c69a68"),
                  smoothstep(0.4, 2.0, height))  # fmt: skip
    line = np.abs((height * 6) % 1 - 0.5)
    slope = np.hypot(*np.gradient(height * 6)) + 1e-6
    picture = mix(picture, colour("#8a5f3a"), 0.75 * np.clip(1.6 - (0.5 - line) / slope / (0.0012 / canvas.texel()), 0, 1))
    picture = mix(picture, colour("#4c86ad"), 1 - smoothstep(0.03, 0.06, np.abs(height + 0.9)))
    grid = np.minimum(np.abs((x / (w / 6)) % 1 - 0.5), np.abs((y / (w / 6)) % 1 - 0.5) + 0 * x) * w / 6
    picture = mix(picture, colour("#6d7482"), 0.5 * (1 - smoothstep(0.0008, 0.0020, np.abs(grid))))
    rng = np.random.default_rng([seed, 23])
    for word in rng.choice(WORDS, 14, replace=False):
        size = rng.uniform(0.016, 0.034) * w
        label = stamp(canvas, word, rng.uniform(0.05, 0.7) * w, rng.uniform(0.05, 0.92) * canvas.height, size)
        picture = mix(picture, colour("#33302c"), label)
    return np.clip(grain(canvas, picture, 0.035, seed + 1), 0, 1)


def spine(canvas: Canvas, seed: int, cover: str, ink: str) -> np.ndarray:
    """The back of a book standing upright: bands and a title that reads from top to bottom."""
    rng = np.random.default_rng([seed, 29])
    lying = Canvas(canvas.height, canvas.width, canvas.texels_per_metre)
    x, y = lying.xy()
    picture = colour(cover) * (1 + 0.08 * fractal(lying, 0.06, 0.003, seed, gain=0.75))[..., None]
    for at in rng.uniform(0.02, 0.12, 2).tolist() + rng.uniform(0.86, 0.98, 2).tolist():
        band = (np.abs(x / lying.width - at) < 0.008 + 0.01 * rng.random()) & (y > 0)
        picture = np.where(band[..., None], colour(ink), picture)
    title = str(" ".join(rng.choice(WORDS, 1 + int(rng.random() < 0.5))))
    size = min(0.5 * lying.height, 0.66 * lying.width / (6 * len(title)) * 7)
    picture = mix(picture, colour(ink), stamp(lying, title, 0.17 * lying.width, (lying.height - size) / 2, size))
    return np.clip(np.rot90(picture, -1), 0, 1).copy()


def framed(canvas: Canvas, picture: np.ndarray, frame: np.ndarray, border: Number, mat: Number = 0.0) -> np.ndarray:
    """A picture inside its frame; `border` and `mat` are widths in metres of frame and passe-partout."""
    x, y = canvas.xy()
    edge = np.minimum(np.minimum(x, canvas.width - x), np.minimum(y, canvas.height - y))
    out = np.where((edge < border + mat)[..., None], colour("#ece7da") * np.float32(0.97), picture)
    return np.where((edge < border)[..., None], frame, out).astype(np.float32)


def crate(canvas: Canvas, seed: int, label: str) -> np.ndarray:
    """One side of a wooden crate: slats, a frame of battens with nails, a stencilled word."""
    x, y = canvas.xy()
    rng = np.random.default_rng([seed, 31])
    slat = canvas.height / 5
    tone = rng.random(6, dtype=np.float32)[np.floor(y / slat).astype(int)]
    picture = wood(canvas, seed, "#c49a63", "#7b5530") * (0.8 + 0.3 * tone[..., None])
    gap = np.abs((y / slat) % 1 - 0.5) * slat * np.ones_like(x)
    picture = mix(picture, colour("#1d130b"), 0.9 * smoothstep(slat / 2 - 0.006, slat / 2 - 0.002, gap))
    size = min(0.17 * canvas.height, 0.6 * canvas.width / (6 * len(label)) * 7)
    left = (canvas.width - 6 * len(label) * size / 7) / 2
    worn = 0.85 * smoothstep(-1.2, 0.2, fractal(canvas, 0.05, 0.004, seed + 1))
    picture = mix(picture, colour("#2b3440"), worn * stamp(canvas, label, left, 0.41 * canvas.height, size))
    edge = np.minimum(np.minimum(x, canvas.width - x), np.minimum(y, canvas.height - y))
    batten = 0.12 * canvas.height
    frame = wood(canvas, seed + 7, "#b3864f", "#6a4726", along_x=False)
    picture = np.where((edge < batten)[..., None], frame, picture)
    picture = mix(picture, colour("#1d130b"), 0.8 * (1 - smoothstep(0.001, 0.004, np.abs(edge - batten))))
    pitch = canvas.width / 6
    nail = np.hypot((x / pitch) % 1 * pitch - pitch / 2, edge - batten / 2)
    return np.clip(mix(picture, colour("#3a3a3c"), 1 - smoothstep(0.005, 0.008, nail)), 0, 1)
