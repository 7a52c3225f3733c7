"""Holes of renders: what no photo showed. They stay empty; for presentation alone they can be closed."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from splat.geometry.depth_completion import pull_push

HOLE_ALPHA = 0.5
"""A pixel at which less than this much of the ray is stopped is a hole."""
_RIM, _BAND = 3, 8
"""Pixels around a hole that are mixed with what is behind them, and beyond these the ones that colours come from."""
_OPAQUE = 0.9
_TWO_SIDES = 1.2
"""Ratio of depths around a hole beyond which it lies behind something: it is closed from the farther side."""
_MAX_PARTS, _MIN_PART = 200, 50
"""Of holes whose sides are looked at one by one: the largest ones, of at least so many pixels."""
_SMOOTHINGS = 10


def hole_mask(alpha: np.ndarray) -> np.ndarray:
    """uint8 [h w], 255 = hole."""
    return np.where(alpha < HOLE_ALPHA, np.uint8(255), np.uint8(0))


def with_holes_filled(
    rgb: np.ndarray, alpha: np.ndarray, depth: np.ndarray, background: tuple[float, float, float]
) -> np.ndarray:
    """The picture uint8 [h w 3], over `background`, with its holes closed by a smooth continuation of the colours
    around them (pull-push, Gortler et al. 1996), of the farther side where depth (z, 0: unknown) differs around a
    hole. It shows what nobody has seen: for presentation, never to be measured.

    Only holes and a rim of 3 px are changed. A picture without holes, or with nothing else, is returned as it is.
    """
    holes = hole_mask(alpha)
    area = cv2.dilate(holes, _disc(_RIM))
    band = (cv2.dilate(area, _disc(_BAND)) > 0) & (holes == 0)
    sources = band & (alpha >= _OPAQUE)
    sources = sources if sources.any() else band
    if not holes.any() or not sources.any():
        return rgb
    sources = _farther(holes, sources, depth)
    drawn = rgb.astype(np.float32) / 255 - (1 - alpha[..., None]) * np.array(background, np.float32)
    colours = np.clip(drawn / np.maximum(alpha, HOLE_ALPHA)[..., None], 0, 1)
    known = torch.from_numpy(sources)
    filled = pull_push(torch.from_numpy(colours).permute(2, 0, 1).contiguous(), known)
    for _ in range(_SMOOTHINGS):  # towards a membrane held by its border
        blurred = torch.nn.functional.avg_pool2d(filled[None], 3, 1, 1, count_include_pad=False)[0]
        filled = torch.where(known, filled, blurred)
    behind = filled.permute(1, 2, 0).numpy()
    closed = np.clip(drawn.clip(0) + (1 - alpha[..., None]) * behind, 0, 1)
    return np.where(area[..., None] > 0, (closed * 255).round().astype(np.uint8), rgb)


def _farther(holes: np.ndarray, sources: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """The sources without those on the nearer side of a hole."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(holes)
    sizes = stats[:, cv2.CC_STAT_AREA]
    largest = 1 + np.argsort(-sizes[1:])[:_MAX_PARTS]
    out = sources.copy()
    reach = _RIM + _BAND
    for part in largest[sizes[largest] >= _MIN_PART] if count > 1 else ():
        x, y, w, h = stats[part, :4]
        box = slice(max(0, y - reach), y + h + reach), slice(max(0, x - reach), x + w + reach)
        around = cv2.dilate((labels[box] == part).astype(np.uint8), _disc(reach)) > 0
        around &= sources[box]
        z = depth[box][around]
        if not len(z):
            continue
        near, far = np.percentile(z, (10, 90))
        if far > _TWO_SIDES * near > 0:
            out[box] &= ~(around & (depth[box] < np.sqrt(near * far)))
    return out if out.any() else sources


def _disc(radius: int) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
