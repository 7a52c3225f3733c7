"""Pictures of the report: shrunk, compared, and put inside the page as JPEG."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import cv2
import numpy as np

from splat.core.errors import SplatError
from splat.core.image import read_pixels
from splat.report.data import Picture, ViewScore

_SIDE = 440
"""Long side of thumbnails in px: three of them make about 60 kB."""
_FULL_DIFFERENCE = 0.25
"""Absolute difference (of 1) that is drawn in the brightest colour."""


@dataclass(frozen=True)
class Figure:
    """A picture with its caption, ready for the page."""

    caption: str
    uri: str
    """data:image/jpeg;base64,..."""
    width: int
    """px."""
    height: int
    """px."""


def figure(picture: Picture, caption: str, max_side: int = _SIDE) -> Figure | None:
    """None where the picture cannot be read (the page does without it) or encoded."""
    try:
        pixels = thumbnail(picture, max_side)
    except SplatError:
        return None
    ok, encoded = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 80])
    if not ok:
        return None
    uri = f"data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode()}"
    return Figure(caption, uri, pixels.shape[1], pixels.shape[0])


def comparison(view: ViewScore) -> tuple[Figure, ...]:
    """Photo, render and their difference at one size; empty where one of the two is missing or cannot be read."""
    if view.photo is None or view.render is None:
        return ()
    try:
        photo, render = thumbnail(view.photo, _SIDE), thumbnail(view.render, _SIDE)
    except SplatError:
        return ()
    if photo.shape != render.shape:
        render = cv2.resize(render, (photo.shape[1], photo.shape[0]), interpolation=cv2.INTER_AREA)
    trio = ((photo, "photo"), (render, "render"), (difference(photo, render), "difference"))
    return tuple(f for f in (figure(p, caption) for p, caption in trio) if f is not None)


def difference(photo: np.ndarray, render: np.ndarray) -> np.ndarray:
    """uint8 [h w 3] RGB: the mean absolute difference of the channels, black (none) to yellow (a quarter of full
    scale), of two uint8 [h w 3] images."""
    error = np.abs(photo.astype(np.float32) - render.astype(np.float32)).mean(2) / 255
    level = (np.clip(error / _FULL_DIFFERENCE, 0, 1) * 255).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(level, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)


def thumbnail(picture: Picture, max_side: int) -> np.ndarray:
    """uint8 [h w 3] RGB, at most `max_side` px on the long side. Raises SplatError where a file cannot be read."""
    pixels = picture if isinstance(picture, np.ndarray) else read_pixels(picture)[..., :3]
    factor = max_side / max(pixels.shape[:2])
    if factor >= 1:
        return np.ascontiguousarray(pixels)
    size = (max(1, round(pixels.shape[1] * factor)), max(1, round(pixels.shape[0] * factor)))
    return cv2.resize(np.ascontiguousarray(pixels), size, interpolation=cv2.INTER_AREA)
