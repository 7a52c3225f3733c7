"""Whether the camera moved between the photos: judged from matches, before any model is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from splat.core.capture import View
from splat.poses.features import PhotoFeatures

MIN_MATCHES = 30
"""Pairs with fewer verified matches say nothing about motion."""
_MAX_PAIRS, _MAX_MATCHES = 80, 400
_STAYED, _EXPLAINED = 0.003, 0.0015
"""Largest displacement of a match that stayed, and largest error of one that a motion explains, as shares of the
photo's long side; at least 2 px."""
_FOCALS = tuple(2.0 ** np.linspace(-1.25, 1.25, 11))
"""Focal lengths that are tried where none is known, by the long side: 100 to 24 degrees of view."""
_DISTORTIONS = (0.0, -0.12, 0.06)
"""First radial coefficients that are tried."""


@dataclass(frozen=True)
class PairMotion:
    """How the matches of a pair of photos moved."""

    stayed: float
    """Share of the matches that are at the same place in both photos."""
    turned: float
    """Share that a camera turning on the spot explains."""
    turned_error: float
    """Median error of that turn, as a share of the long side."""
    slid_error: float
    """Median error of a similarity of the picture: what a plane does that is parallel to the picture."""

    @property
    def same_place(self) -> bool:
        """No parallax: the camera stood still or turned on the spot."""
        return self.stayed >= 0.8 or self.turned >= 0.8

    @property
    def certain(self) -> bool:
        """Of a pair with `same_place`: it is not a plane that the camera slid past, which looks alike for small angles
        and long focal lengths."""
        return self.stayed >= 0.8 or self.turned_error < 0.75 * self.slid_error


def pair_motion(
    xy_a: np.ndarray, xy_b: np.ndarray, size_a: tuple[int, int], size_b: tuple[int, int], focal: float | None = None
) -> PairMotion:
    """From m >= 3 matches, pixels [m 2] of photos with (width, height) `size_a` and `size_b`. `focal`: the camera's,
    by the long side; None: a range of focal lengths is tried."""
    long_a, long_b = max(size_a), max(size_b)
    a = (np.asarray(xy_a, np.float64) - np.array(size_a) / 2) / long_a
    b = (np.asarray(xy_b, np.float64) - np.array(size_b) / 2) / long_b
    pixel = 2 / min(long_a, long_b)
    alike = abs(size_a[0] / size_a[1] - size_b[0] / size_b[1]) < 0.02
    stayed = float((np.linalg.norm(a - b, axis=1) < max(_STAYED, pixel)).mean()) if alike else 0.0
    tolerance = max(_EXPLAINED, pixel)
    slid_error = float(np.median(_similarity_error(a, b)))
    turned, turned_error, best = 0.0, np.inf, (1.0, 0.0)

    def attempt(f: float, k: float) -> None:
        nonlocal turned, turned_error, best
        error = f * _rotation_error(_bearings(a, f, k), _bearings(b, f, k))
        turned = max(turned, float((error < tolerance).mean()))
        if (middle := float(np.median(error))) < turned_error:
            turned_error, best = middle, (f, k)

    for f in _FOCALS if focal is None else (0.9 * focal, focal, 1.1 * focal):
        for k in _DISTORTIONS:
            attempt(f, k)
    f, k = best
    if focal is None and turned > 0.5:  # between the steps
        for step in (0.92, 0.96, 1.04, 1.08):
            attempt(step * f, k)
    return PairMotion(stayed, turned, turned_error, slid_error)


def _bearings(xy: np.ndarray, focal: float, k: float) -> np.ndarray:
    """Unit vectors [m 3] of centred points [m 2] in units of the long side."""
    p = xy / focal
    p = p * (1 - k * (p**2).sum(1, keepdims=True))
    v = np.concatenate([p, np.ones((len(p), 1))], 1)
    return v / np.linalg.norm(v, axis=1, keepdims=True)


_WIDTHS = (0.3, 0.1, 0.03, 0.01, 0.004, 0.002, 0.002)
"""Scales of Geman-McClure weights of the reweighted fits: from all matches to those that agree."""


def _rotation_error(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Distances [m] between bearings b and bearings a turned by the rotation that fits most of them (Procrustes)."""
    weight, error = np.ones(len(a)), np.zeros(len(a))
    for width in _WIDTHS:
        u, _, vt = np.linalg.svd((b * weight[:, None]).T @ a)
        turn = u @ np.diag([1, 1, np.sign(np.linalg.det(u @ vt))]) @ vt
        error = np.linalg.norm(b - a @ turn.T, axis=1)
        weight = 1 / (1 + (error / width) ** 2) ** 2
    return error


def _similarity_error(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Distances [m] between points b and the points a moved by the similarity that fits most of them, as complex
    numbers."""
    x, y = a @ [1, 1j], b @ [1, 1j]
    weight, error = np.ones(len(a)), np.zeros(len(a))
    for width in _WIDTHS:
        w = weight / weight.sum()
        dx, dy = x - (w * x).sum(), y - (w * y).sum()
        scale = (w * dx.conj() * dy).sum() / max(float((w * abs(dx) ** 2).sum()), 1e-12)
        error = abs(dy - scale * dx)
        weight = 1 / (1 + (error / width) ** 2) ** 2
    return error


def motions(
    views: Sequence[View], features: Sequence[PhotoFeatures], geometries: Mapping[tuple[int, int], Any]
) -> list[PairMotion]:
    """Of up to 80 verified pairs (i, j) of views, evenly chosen, each by up to 400 of its `inlier_matches`."""
    pairs = [p for p, g in sorted(geometries.items()) if len(g.inlier_matches) >= MIN_MATCHES]
    if len(pairs) > _MAX_PAIRS:
        pairs = [pairs[i] for i in np.linspace(0, len(pairs) - 1, _MAX_PAIRS).round().astype(int)]
    out = []
    for i, j in pairs:
        rows = geometries[i, j].inlier_matches
        rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), _MAX_MATCHES)).astype(int)]
        known = [v.camera.fx / max(v.camera.width, v.camera.height) for v in (views[i], views[j])
                 if v.focal_from != "guess"]  # fmt: skip
        focal = known[0] if len(known) == 2 and abs(known[0] / known[1] - 1) < 0.02 else None
        a, b = features[i], features[j]
        out.append(pair_motion(a.xy[rows[:, 0]], b.xy[rows[:, 1]], a.size, b.size, focal))
    return out


@dataclass(frozen=True)
class Stayed:
    """Matches of a pair, before verification, that are at the same place in both photos."""

    count: int
    of: int
    spread: float
    """Standard deviation of their positions along the wider axis, as a share of the long side."""


def stayed_matches(a: PhotoFeatures, b: PhotoFeatures, matches: np.ndarray) -> tuple[Stayed, np.ndarray]:
    """What stayed among matches (i, j) [m 2], and bool [m]: which did."""
    if a.size != b.size or not len(matches):
        return Stayed(0, len(matches), 0.0), np.zeros(len(matches), bool)
    long_side = max(a.size)
    p, q = a.xy[matches[:, 0]], b.xy[matches[:, 1]]
    still = np.linalg.norm(p - q, axis=1) < max(_STAYED * long_side, 2.0)
    spread = float(p[still].std(0).max()) / long_side if still.any() else 0.0
    return Stayed(int(still.sum()), len(matches), spread), still
