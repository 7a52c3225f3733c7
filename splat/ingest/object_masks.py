"""Masks of an object that moves before a camera that stands still (a turntable): what stays is background."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from splat.core.capture import Capture, View
from splat.core.errors import SplatError
from splat.core.image import write_png
from splat.core.slots import Reporter

_SIDE, _MAX_PHOTOS = 480, 40
"""Size, px, and number of the photos that all are compared with."""
_MIN_CHANGE, _NOISES = 6.0, 4.0
"""Standard deviation over the photos, of 255, from which a pixel changes; and as a multiple of what most pixels of the
border have."""
_MIN_PART = 0.02
"""Smaller parts, as a share of the largest, are noise."""
_CLOSE, _MARGIN = 0.02, 0.01
"""Gaps that are closed, and twice the size of specks, as shares of the long side."""
_SAME, _MIN_SAME = 10.0, 0.15
"""A pixel shows what stays where its colour is within so much (of 255) of that of more than this share of photos."""
_MIN_SHARE, _MAX_SHARE = 0.005, 0.85
"""Share of the photo that an object may take."""


def with_object_masks(capture: Capture, folder: Path, report: Reporter) -> Capture:
    """The capture with a mask for every view that has none, written to `folder`.

    Raises SplatError where photos have different sizes, or nearly nothing or nearly everything changes.
    """
    views = capture.views
    if len(views) < 3 or len({v.photo_size for v in views}) > 1:
        raise SplatError(
            "--object needs at least 3 photos of one size, of an object that turns before a camera that stands still: "
            "leave it out, or mask the background (masks/NAME.png, white = use)."
        )
    camera = views[0].camera
    scale = min(1.0, _SIDE / max(camera.width, camera.height))
    size = (max(1, round(scale * camera.width)), max(1, round(scale * camera.height)))

    def small(view: View) -> np.ndarray:
        return np.asarray(cv2.resize(view.load(quick=True).rgb, size, interpolation=cv2.INTER_AREA))

    stack = np.stack([small(v) for v in views[:: 1 + (len(views) - 1) // _MAX_PHOTOS]])
    region = changing(stack)
    share = float((region > 0).mean())
    if not _MIN_SHARE <= share <= _MAX_SHARE:
        raise SplatError(
            f"--object: {100 * share:.0f} % of the picture changes from photo to photo, so it is no object that turns "
            "before a camera that stands still: leave it out, or mask the background (masks/NAME.png, white = use)."
        )
    folder.mkdir(parents=True, exist_ok=True)
    masked = []
    for i, view in enumerate(views):
        if view.mask_path is not None:
            masked.append(view)
            continue
        path = folder / f"{i:05d}.png"
        write_png(
            path, cv2.resize(object_in(small(view), stack, region), view.photo_size, interpolation=cv2.INTER_NEAREST)
        )
        masked.append(replace(view, mask_path=path, invert_mask=False))
        report.progress(i + 1, len(views), step="masks")
    report.info(f"the object is what does not stay from photo to photo, in {100 * share:.0f} % of the picture")
    return capture.with_views(tuple(masked))


def changing(photos: np.ndarray) -> np.ndarray:
    """uint8 [h w] (255 = changes) of photos [n h w 3]: where the colours vary more than those of the border do, closed
    and without holes and specks."""
    varies = photos.astype(np.float32).std(0).max(2)
    h, w = varies.shape
    rim = max(2, round(0.04 * max(h, w)))
    inner = np.zeros((h, w), bool)
    inner[rim:-rim, rim:-rim] = True
    mask = (varies > max(_MIN_CHANGE, _NOISES * float(np.median(varies[~inner])))).astype(np.uint8)
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, _disc(_CLOSE, w, h))
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    largest = max((cv2.contourArea(o) for o in outlines), default=0.0)
    parts = [o for o in outlines if cv2.contourArea(o) >= max(1.0, _MIN_PART * largest)]
    return np.asarray(cv2.drawContours(np.zeros_like(mask), parts, -1, 255, cv2.FILLED))


def object_in(photo: np.ndarray, photos: np.ndarray, region: np.ndarray) -> np.ndarray:
    """uint8 [h w], 255 = object, of one photo [h w 3]. Within the region that changes over `photos`, background is what
    has the colour that several of them have there, and is joined to what never changes: flat sides of the object, which
    look alike too, are inside of it."""
    alike = np.zeros(region.shape, np.int32)
    for other in photos:
        alike += cv2.absdiff(photo, other).max(2) < _SAME
    stays = (alike > max(2.0, _MIN_SAME * len(photos))).astype(np.uint8)
    smooth = cv2.medianBlur(stays, 5)
    outside = np.where(region > 0, smooth, 1).astype(np.uint8)
    _, parts = cv2.connectedComponents(outside, connectivity=4)
    joined = np.isin(parts, np.unique(parts[region == 0]))
    mask = np.where(joined & (outside > 0), 0, 255).astype(np.uint8)
    h, w = mask.shape
    opened = cv2.morphologyEx(mask, cv2.MORPH_OPEN, _disc(0.5 * _MARGIN, w, h))
    return np.asarray(cv2.dilate(opened, np.ones((3, 3), np.uint8)))


def _disc(share: float, width: int, height: int) -> np.ndarray:
    r = max(1, round(share * max(width, height)))
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * r + 1, 2 * r + 1)))
