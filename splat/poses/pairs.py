"""Which photos are worth comparing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from splat.core.capture import Capture
from splat.poses.features import PhotoFeatures


@dataclass(frozen=True)
class PairSettings:
    """Which photos are compared."""

    mode: Literal["auto", "exhaustive", "sequential", "retrieval"] = "auto"
    """auto: all pairs up to `exhaustive_up_to` photos; above that neighbours in time for a video or numbered frames,
    and the photos that look alike."""
    exhaustive_up_to: int = 100
    """Compare every pair up to this many photos."""
    overlap: int = 10
    """Frames compared with each next ones; and those 16, 32, ... frames ahead."""
    neighbours: int = 20
    """Photos that look most alike, for each photo, when not all pairs are compared (half as many along a video)."""
    gps_neighbours: int = 10
    """Nearest located photos compared with each located photo."""


def choose(
    capture: Capture, features: Sequence[PhotoFeatures], settings: PairSettings, seed: int
) -> tuple[list[tuple[int, int]], str]:
    """Pairs (i < j), sorted, and how they were chosen, in a few words."""
    n = len(capture.views)
    mode = settings.mode
    ordered = capture.kind == "video" or numbered([v.name for v in capture.views])
    if mode == "auto":
        mode = "exhaustive" if n <= settings.exhaustive_up_to else "sequential" if ordered else "retrieval"
    if mode == "exhaustive":
        return [(i, j) for i in range(n) for j in range(i + 1, n)], "all pairs"
    pairs: set[tuple[int, int]] = set()
    if mode == "sequential":
        steps = [*range(1, settings.overlap + 1), *(2**k for k in range(4, 16) if 2**k < n)]
        pairs |= {(i, i + s) for i in range(n) for s in steps if i + s < n}
    count = max(1, settings.neighbours // 2) if mode == "sequential" else settings.neighbours
    pairs |= {_pair(i, int(j)) for i, near in enumerate(alike(features, count, seed)) for j in near}
    located = [i for i, v in enumerate(capture.views) if v.gps_enu is not None]
    if len(located) > 1 and settings.gps_neighbours:
        where = np.array([capture.views[i].gps_enu for i in located], dtype=float)
        distance = np.linalg.norm(where[:, None] - where[None], axis=2)
        np.fill_diagonal(distance, np.inf)
        for a, row in enumerate(np.argsort(distance, axis=1, kind="stable")[:, : settings.gps_neighbours]):
            pairs |= {_pair(located[a], located[int(b)]) for b in row if located[int(b)] != located[a]}
    how = "neighbours in time and look-alikes" if mode == "sequential" else "look-alikes"
    return sorted(p for p in pairs if p[0] != p[1]), how + (" and GPS neighbours" if len(located) > 1 else "")


def numbered(names: Sequence[str]) -> bool:
    """True for frames of a sequence: one name pattern, with numbers that grow in nearly equal steps."""
    if len(names) < 3:
        return False
    parts = [re.match(r"^(.*?)(\d+)(\.[^.]*)$", name) for name in names]
    if not all(parts) or len({p.group(1) for p in parts if p}) != 1:
        return False
    steps = np.diff([int(p.group(2)) for p in parts if p])
    return bool((steps > 0).all() and steps.max() <= 4 * np.median(steps))


def alike(features: Sequence[PhotoFeatures], count: int, seed: int) -> list[np.ndarray]:
    """For each photo the ids of those that look most alike, best first: a VLAD (Jegou et al. 2010) of its features.

    The vocabulary is made from the photos' own descriptors, so nothing has to be downloaded.
    """
    rng = np.random.default_rng(seed)
    floats = [f.descriptors[:1024].astype(np.float32) / 512 for f in features]
    pool = np.concatenate([f[rng.permutation(len(f))[:200]] for f in floats]) if floats else np.zeros((0, 128))
    if len(pool) < 2:
        return [np.zeros(0, int) for _ in features]
    words = _kmeans(pool, min(64, len(pool)), rng)
    everything = np.concatenate(floats)
    nearest = np.split(_nearest(everything, words), np.cumsum([len(f) for f in floats])[:-1])
    vectors = np.stack([_vlad(f, near, words) for f, near in zip(floats, nearest)])
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -np.inf)
    return list(np.argsort(-similarity, axis=1, kind="stable")[:, : min(count, len(features) - 1)])


def _kmeans(points: np.ndarray, k: int, rng: np.random.Generator, rounds: int = 12) -> np.ndarray:
    centres = points[rng.choice(len(points), k, replace=False)].copy()
    for _ in range(rounds):
        nearest = _nearest(points, centres)
        counts = np.bincount(nearest, minlength=k)[:, None]
        centres = np.where(counts > 0, _sums(points, nearest, k) / np.maximum(counts, 1), centres)
    return centres.astype(np.float32)


def _nearest(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """int64 [n]: the centre [k d] nearest to each point [n d]."""
    return (points @ centres.T - 0.5 * (centres**2).sum(1)).argmax(1)


def _vlad(descriptors: np.ndarray, nearest: np.ndarray, words: np.ndarray) -> np.ndarray:
    """[k d] flattened: how a photo's descriptors lie about each word, of length 1."""
    out = _sums(descriptors - words[nearest], nearest, len(words))
    # Per-word normalization keeps repeated structure (bricks, leaves) from outvoting everything else.
    out /= np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-9)
    flat = out.ravel()
    return flat / max(float(np.linalg.norm(flat)), 1e-9)


def _sums(rows: np.ndarray, groups: np.ndarray, count: int) -> np.ndarray:
    """[count d]: the sum of the rows [n d] of each group."""
    order = np.argsort(groups, kind="stable")
    first = np.searchsorted(groups[order], np.arange(count))
    padded = np.concatenate([rows[order], np.zeros((1, rows.shape[1]), rows.dtype)])
    sums = np.add.reduceat(padded, first)
    # An empty group's slice is the row after it, not nothing.
    sums[np.bincount(groups, minlength=count) == 0] = 0
    return sums


def _pair(i: int, j: int) -> tuple[int, int]:
    return (i, j) if i < j else (j, i)
