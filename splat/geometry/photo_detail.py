"""Fine detail of photos for renders that are blurred: band by band, and only where photo and render agree.

A photo is warped into the view by the rendered depth, brought to the render's brightness by local gains, and split into
bands (differences of Gaussians, as in Burt & Adelson 1983). A band of the render is moved towards the photo's where the
photo has more in it; colours and brightness, which are below the lowest band, stay the render's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float

from splat.core.slots import ReferencePhoto, RenderedView
from splat.geometry.pixel_warp import MaskedBlur, Transfer, grey, inside, nearest, pixel_grid, smooth
from splat.geometry.temporal_filter import solid_depth

_SIGMAS = (1.0, 2.0, 4.0)
"""Px: where one band ends and the next begins."""
_GAIN_SIGMA, _MAX_GAIN = 8.0, 2.0
"""Px over which the photo's brightness is compared with the render's, and the largest ratio."""
_DEPTH_SCALE = 0.01
"""Relative difference of depths at which a photo counts 1 / e."""
_LIKENESS = (0.6, 0.9)
"""Correlation of photo and render, in the bands that a blurred render still has, from which on the photo counts, and
at which it counts fully."""
_COLOUR_SCALE = 0.08
_SHARP, _BLURRED = 0.95, 0.75
"""A band's energy in the render over that in the photo from which on nothing is added, and up to which the band becomes
the photo's."""
_NOISE = 1 / 255
_REACH = 0.5
"""Distance of a photo's camera, over the median depth of the view, at which it counts 1 / e."""


@dataclass(frozen=True, eq=False)
class NamedPhoto:
    """A photo that detail may come from."""

    name: str
    photo: ReferencePhoto
    usable: Float[np.ndarray, "h w"] | None = None
    """0 where a mask or alpha leaves pixels out, else 1; None: all are used."""


def camera_weights(view: RenderedView, distances: Sequence[float], next_distance: float | None) -> list[float]:
    """How much photos count by the distance of their cameras (world units) from the view: falling with the distance,
    and to 0 at that of the next photo, which is not used, so that nothing jumps where a flight changes photos (Buehler
    et al. 2001). None: there is no other photo."""
    depth = solid_depth(view)
    middle = float(np.median(depth[depth > 0])) if (depth > 0).any() else 1.0
    out = []
    for d in distances:
        fade = 1.0 if next_distance is None else max(0.0, 1 - d / max(next_distance, 1e-12))
        out.append(float(np.exp(-((d / (_REACH * middle)) ** 2))) * min(1.0, 3 * fade))
    return out


@dataclass(frozen=True, eq=False)
class Detailed:
    """A view with the detail of photos."""

    rgb: Float[np.ndarray, "h w 3"]
    """In [0, 1]."""
    used: tuple[str, ...]
    """Names of the photos that changed anything, in alphabetical order."""


def with_photo_detail(view: RenderedView, photos: Sequence[NamedPhoto], next_distance: float | None = None) -> Detailed:
    """The view with detail of the photos, whose order does not matter; unchanged where none of them agrees with it in
    depth and structure. `next_distance` as in `camera_weights`."""
    rgb = view.rgb.numpy()

    def distance(p: NamedPhoto) -> float:
        return float((p.photo.world_from_cam.translation - view.world_from_cam.translation).norm())

    ordered = sorted(photos, key=lambda p: (distance(p), p.name))
    weights = camera_weights(view, [distance(p) for p in ordered], next_distance)
    found = [(p.name, *_detail_of(view, p, w)) for p, w in zip(ordered, weights) if w > 0.01]
    found = [(n, d, w) for n, d, w in found if w.any()]
    if not found:
        return Detailed(rgb, ())
    total = np.sum([w for _, _, w in found], axis=0)
    over = 1 / np.maximum(total, 1e-6)[..., None]
    mean = np.sum([w[..., None] * d for _, d, w in found], axis=0) * over
    spread = np.sum([w[..., None] * np.square(d - mean) for _, d, w in found], axis=0) * over
    # Wiener's gain: what photos say in common over all that they say
    signal, noise = (cv2.GaussianBlur(t.sum(-1).astype(np.float32), (0, 0), 2.0) for t in (mean**2, spread))
    share = np.minimum(total, 1) * signal / np.maximum(signal + noise, 1e-12)
    out = np.clip(rgb + share[..., None] * mean, 0, 1).astype(np.float32)
    changed = np.abs(out - rgb).max(-1) > 0.5 / 255
    used = sorted(n for n, d, w in found if bool((changed & (w > 0.05)).any()))
    return Detailed(out, tuple(used))


def _detail_of(view: RenderedView, named: NamedPhoto, weight: float) -> tuple[np.ndarray, np.ndarray]:
    """What a photo would add [h w 3], and how much it counts [h w]."""
    rgb, photo = view.rgb.numpy(), named.photo
    depth = solid_depth(view)
    x, y, z = Transfer.between(view.camera, view.world_from_cam, photo.camera, photo.world_from_cam)(
        *pixel_grid(view.camera), depth
    )
    own = nearest(photo.depth.numpy(), x, y)
    known = (depth > 0) & (z > 0) & inside(photo.camera, x, y) & (own > 0)
    agreement = np.where(known, np.exp(-np.abs(own / np.maximum(z, 1e-9) - 1) / _DEPTH_SCALE), 0).astype(np.float32)
    if named.usable is not None:
        agreement *= nearest(named.usable, x, y) > 0.99
    mask = (agreement > 0.3).astype(np.float32)
    if not mask.any():
        return np.zeros_like(rgb), mask
    warped = np.clip(smooth(photo.rgb.numpy(), x, y), 0, 1)
    blur = MaskedBlur(mask)
    gain = (blur(rgb, _GAIN_SIGMA) + _NOISE) / (blur(warped, _GAIN_SIGMA) + _NOISE)
    warped = warped * np.clip(gain, 1 / _MAX_GAIN, _MAX_GAIN)
    inner = cv2.erode(mask, np.ones((3, 3), np.uint8))
    ours, theirs = ([image, *(blur(image, s) for s in _SIGMAS)] for image in (rgb, warped))
    likeness = _correlation(_structure(ours), _structure(theirs), blur)
    colour = np.exp(-np.square(ours[-1] - theirs[-1]).sum(-1) / (2 * _COLOUR_SCALE**2))
    counts = weight * agreement * inner * _ramp(likeness, *_LIKENESS) * colour
    detail = np.zeros_like(rgb)
    for i in range(len(_SIGMAS)):
        mine, its = ours[i] - ours[i + 1], theirs[i] - theirs[i + 1]
        e_mine, e_its = (np.sqrt(blur(grey(np.square(b)), 2 * _SIGMAS[i])) for b in (mine, its))
        amount = 1 - _ramp(e_mine / np.maximum(e_its, 1e-6), _BLURRED, _SHARP)
        amount *= np.clip((e_its - e_mine) / _NOISE, 0, 1)
        detail += amount[..., None] * (its - mine)
    return detail, counts.astype(np.float32)


def _structure(levels: list[np.ndarray]) -> np.ndarray:
    """Brightness in the bands that a blurred render still has."""
    return grey(levels[1] - levels[3])


def _correlation(a: np.ndarray, b: np.ndarray, blur: MaskedBlur) -> np.ndarray:
    """Of two images around each pixel, in [-1, 1]; near 0 where there is nothing but noise."""
    ab, aa, bb = (blur(t, 2 * _SIGMAS[-1]) for t in (a * b, a * a, b * b))
    return ab / (np.sqrt(aa * bb) + _NOISE**2)


def _ramp(values: np.ndarray, low: float, high: float) -> np.ndarray:
    t = np.clip((values - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)
