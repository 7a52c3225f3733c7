"""Procedural materials: sRGB pictures [h w 3], float32 in [0, 1], row 0 at the top."""

from __future__ import annotations

import numpy as np

from splat.scenes.noise import Canvas, Number, colour, fractal, grain, mix, noise, smoothstep


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
    return np.clip(
        mix(picture, colour("#e9eef0"), smoothstep(0.40, 0.43, np.abs(tilt - 0.5) * np.ones_like(turn))), 0, 1
    )
