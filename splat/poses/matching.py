"""Feature matching: mutual nearest descriptors with a ratio test, then geometric verification of each pair."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from splat.poses.chance import by_chance
from splat.poses.features import PhotoFeatures, quiet
from splat.poses.parallax import Stayed, stayed_matches

_CHUNK = 512  # rows of the similarity matrix at a time: they stay in the second-level cache
_PREVIEW = 768  # features, the largest, matched first to reject pairs (preemptive matching, Wu 2013)


@dataclass(frozen=True)
class MatchSettings:
    """Thresholds of feature matching and verification."""

    max_ratio: float = 0.8
    """The best match must be nearer than this times the second best (angles between descriptors)."""
    max_distance: float = 0.7
    """Largest angle between matching descriptors, radians."""
    max_error: float = 4.0
    """Largest distance from the epipolar line, px at the feature size."""
    min_inliers: int = 15
    """A pair with fewer inliers is rejected."""
    more_than_chance: bool = False
    """Reject pairs whose inliers random matches would give too: with loose thresholds nearly every pair has some."""
    preview: bool = False
    """Skip pairs whose largest features hardly match (preemptive matching): faster for many photos."""


def match_descriptors(a: np.ndarray, b: np.ndarray, settings: MatchSettings) -> np.ndarray:
    """Index pairs (i, j), uint32 [m 2], of mutual nearest neighbours that pass the ratio test.

    a, b: SIFT descriptors, uint8 [n 128] and [k 128], with norm 512.
    """
    if len(a) < 2 or len(b) < 2:
        return np.zeros((0, 2), np.uint32)
    left = torch.from_numpy(a).float() / 512
    right = (torch.from_numpy(b).float() / 512).T.contiguous()
    column_best = torch.full((len(b),), -1.0)
    best, second, index = [], [], []
    for start in range(0, len(a), _CHUNK):
        similarity = left[start : start + _CHUNK] @ right
        value, where = similarity.max(1)
        torch.maximum(column_best, similarity.amax(0), out=column_best)
        similarity.scatter_(1, where[:, None], -1.0)
        best.append(value)
        second.append(similarity.amax(1))
        index.append(where)
    value, where = torch.cat(best), torch.cat(index)
    nearest = torch.arccos(value.clamp(-1, 1))
    next_nearest = torch.arccos(torch.cat(second).clamp(-1, 1))
    ok = (nearest < settings.max_ratio * next_nearest) & (nearest < settings.max_distance)
    ok &= value >= column_best[where]
    rows = torch.nonzero(ok)[:, 0]
    return torch.stack([rows, where[rows]], 1).numpy().astype(np.uint32)


def match_pair(a: PhotoFeatures, b: PhotoFeatures, settings: MatchSettings) -> np.ndarray:
    """Matches (i, j), uint32 [m 2], of two photos before geometric verification."""
    if settings.preview and min(len(a), len(b)) > 2 * _PREVIEW:
        quick = match_descriptors(a.descriptors[:_PREVIEW], b.descriptors[:_PREVIEW], settings)
        if len(quick) < 6:
            return np.zeros((0, 2), np.uint32)
    return match_descriptors(a.descriptors, b.descriptors, settings)


def verify_pair(
    camera_a: Any, a: PhotoFeatures, camera_b: Any, b: PhotoFeatures, matches: np.ndarray,
    settings: MatchSettings, seed: int,
) -> Any:  # fmt: skip
    """COLMAP's two-view geometry (pycolmap.TwoViewGeometry) of a pair with its inlier matches; RANSAC is seeded."""
    import pycolmap

    options = pycolmap.TwoViewGeometryOptions()
    options.min_num_inliers = settings.min_inliers
    options.ransac.max_error = settings.max_error
    options.ransac.random_seed = seed
    # Weak pairs have many outliers: COLMAP's default of a quarter stops too early.
    options.ransac.min_inlier_ratio = 0.1
    return pycolmap.estimate_two_view_geometry(
        camera_a, a.xy.astype(np.float64), camera_b, b.xy.astype(np.float64), matches, options
    )


def accepted(
    camera_a: Any, a: PhotoFeatures, camera_b: Any, b: PhotoFeatures, matches: np.ndarray,
    settings: MatchSettings, seed: int,
) -> Any | None:  # fmt: skip
    """The geometry of `verify_pair`; None where `settings` reject the pair."""
    if len(matches) < settings.min_inliers:
        return None
    geometry = verify_pair(camera_a, a, camera_b, b, matches, settings, seed)
    count = len(geometry.inlier_matches)
    if count < settings.min_inliers:
        return None
    if settings.more_than_chance and by_chance(len(matches), count, b.size, settings.max_error):
        return None
    return geometry


def match_all(
    features: Sequence[PhotoFeatures],
    cameras: Sequence[Any],
    pairs: Sequence[tuple[int, int]],
    settings: MatchSettings,
    seed: int,
    threads: int,
    progress: Any,
    stayed: dict[tuple[int, int], Stayed] | None = None,
    raw: dict[tuple[int, int], np.ndarray] | None = None,
) -> dict[tuple[int, int], Any]:
    """Two-view geometries of the verified pairs, in the order of `pairs`. Calls `progress(done, total)`; adds to
    `stayed` what did not move of each pair's matches before verification, and to `raw` these matches."""
    quiet()

    def work(pair: tuple[int, int]) -> Any:
        i, j = pair
        matches = match_pair(features[i], features[j], settings)
        if stayed is not None:
            stayed[pair] = stayed_matches(features[i], features[j], matches)[0]
        if raw is not None:
            raw[pair] = matches
        return accepted(cameras[i], features[i], cameras[j], features[j], matches, settings, seed)

    found: dict[tuple[int, int], Any] = {}
    for done, (pair, geometry) in enumerate(zip(pairs, one_thread_each(work, pairs, threads)), 1):
        if geometry is not None:
            found[pair] = geometry
        if done % 20 == 0 or done == len(pairs):
            progress(done, len(pairs))
    return found


def one_thread_each(work: Callable[[Any], Any], items: Iterable[Any], threads: int) -> Iterator[Any]:
    """`map` over a thread pool, in order, with torch limited to one thread per worker to avoid oversubscription."""
    torch_threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(max(1, threads), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield from pool.map(work, items)
    finally:
        torch.set_num_threads(torch_threads)
