"""Canvases in metres, colours, and band-limited noise: what procedural pictures are made of.

Every pattern is a function of physical coordinates (metres on the surface) and a seed, so the same surface made with
fewer texels is the same surface seen more coarsely: noise octaves finer than two texels are left out, the others keep
their values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Number = float | int


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
    """ "#rrggbb" as float32 [3]."""
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
