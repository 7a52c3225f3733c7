"""Pictures as the tracer reads them: linear light, halved again and again, looked up at the right size."""

from __future__ import annotations

import numpy as np


def linear_from_srgb(value: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1."""
    return np.where(value <= 0.04045, value / 12.92, ((np.maximum(value, 0) + 0.055) / 1.055) ** 2.4)


def srgb_from_linear(value: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1, clipped to [0, 1]."""
    value = np.clip(value, 0, 1)
    return np.where(value <= 0.0031308, 12.92 * value, 1.055 * np.maximum(value, 1e-9) ** (1 / 2.4) - 0.055)


_LINEAR = linear_from_srgb(np.arange(4096) / 4095).astype(np.float32)


class Texture:
    """A picture and its halvings down to a few texels; one texel is four 16-bit linear values in one 64-bit word."""

    def __init__(self, picture: np.ndarray) -> None:
        """`picture`: sRGB [h w 3] in [0, 1], row 0 at the top."""
        code = np.clip(picture * 4095 + 0.5, 0, 4095).astype(np.uint16)
        level: np.ndarray = _LINEAR[code]
        words, sizes, starts, start = [], [], [], 0
        while True:
            h, w, _ = level.shape
            packed = np.zeros((h, w, 4), np.uint16)
            packed[..., :3] = level * 65535 + np.float32(0.5)
            words.append(packed.view(np.uint64).reshape(-1))
            sizes.append((h, w))
            starts.append(start)
            start += h * w
            if min(h, w) < 4:
                break
            level = level[: h // 2 * 2, : w // 2 * 2]
            level = level[::2] + level[1::2]
            level = (level[:, ::2] + level[:, 1::2]) / 4
        self.texels = np.concatenate(words)
        self.heights, self.widths = np.array(sizes, np.int32).T.copy()
        self.starts = np.array(starts, np.int32)
        self.mean: np.ndarray = level.mean((0, 1))
        """Average linear colour [3]."""

    def look_up(self, u: np.ndarray, v: np.ndarray, level: np.ndarray, wrap: bool) -> np.ndarray:
        """Linear colour [n 3] at u (right) and v (down) in [0, 1], bilinear in the nearest level (0 = finest)."""
        level = np.clip(level + 0.5, 0, len(self.starts) - 1).astype(np.int32)
        if level.size and level.min() == level.max():
            h, w, start = self.heights[level[0]], self.widths[level[0]], self.starts[level[0]]
        else:
            h, w, start = self.heights[level], self.widths[level], self.starts[level]
        x, y = u * w.astype(np.float32) - np.float32(0.5), v * h.astype(np.float32) - np.float32(0.5)
        left, top = np.floor(x), np.floor(y)
        x -= left
        y -= top
        left, top = left.astype(np.int32), top.astype(np.int32)
        right = left + 1
        if wrap:
            left, right = np.where(left < 0, left + w, left), np.where(right >= w, right - w, right)
        else:
            left, right = np.maximum(left, 0), np.minimum(right, w - 1)
        upper = start + np.clip(top, 0, h - 1) * w
        lower = start + np.clip(top + 1, 0, h - 1) * w
        colour = self._across(upper + left, upper + right, x[:, None])
        colour += (self._across(lower + left, lower + right, x[:, None]) - colour) * y[:, None]
        return colour[:, :3] * np.float32(1 / 65535)

    def _across(self, left: np.ndarray, right: np.ndarray, share: np.ndarray) -> np.ndarray:
        a, b = (self.texels.take(i).view(np.uint16).reshape(-1, 4).astype(np.float32) for i in (left, right))
        b -= a
        b *= share
        a += b
        return a
