"""Procedural prints: pages, paintings, maps, book spines; sRGB pictures [h w 3] in [0, 1], row 0 at the top."""

from __future__ import annotations

import numpy as np

from splat.scenes.noise import Canvas, Number, colour, fractal, grain, mix, smoothstep
from splat.scenes.textures import wood

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

WORDS = [
    "LIGHT", "DEPTH", "PARALLAX", "HARBOUR", "NORTH", "ATLAS", "MEADOW", "GRAVITY", "ORCHARD", "WINTER", "SIGNAL",
    "COPPER", "RIVER", "LANTERN", "MARBLE", "FIELD", "NOTES", "VOYAGE", "STONE", "GARDEN", "ECHO", "PRISM",
    "CANVAS", "TIMBER", "ISLAND", "ALMANAC", "METHOD", "FORM", "COLOUR", "SHADOW",
]  # fmt: skip


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
    picture = mix(
        picture, colour("#8a5f3a"), 0.75 * np.clip(1.6 - (0.5 - line) / slope / (0.0012 / canvas.texel()), 0, 1)
    )
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
