"""Antialiased resampling of uint8 images."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np


def resize_area(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """Antialiased resampling of uint8 [h w] or [h w c]; area averages going down, cubic going up."""
    if pixels.shape[1] == width and pixels.shape[0] == height:
        return pixels
    shrinking = width <= pixels.shape[1] and height <= pixels.shape[0]
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_CUBIC)


def resampled(
    rgb: np.ndarray, alpha: np.ndarray | None, resample: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Resample straight colour [h w 3] and alpha [h w], uint8. `resample` is linear in the pixels and is applied to
    the premultiplied colour, so transparent pixels do not leak into their neighbours."""
    if alpha is None:
        return resample(np.ascontiguousarray(rgb)), None
    cover = alpha.astype(np.float32) / 255
    premultiplied, cover = resample(rgb * cover[..., None]), resample(cover)
    straight = np.clip(premultiplied / np.maximum(cover, 1e-6)[..., None] + 0.5, 0, 255).astype(np.uint8)
    return straight, np.clip(cover * 255 + 0.5, 0, 255).astype(np.uint8)
