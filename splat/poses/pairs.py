"""Which pairs of photos are matched."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from splat.core.capture import Capture
from splat.poses.features import PhotoFeatures
from splat.poses.gps import enu_positions


@dataclass(frozen=True)
class PairSettings:
    """Which pairs of photos are matched."""

    mode: Literal["auto", "exhaustive", "sequential", "retrieval"] = "auto"
    """auto: all pairs up to `exhaustive_up_to` photos; above that sequential for a video or numbered frames, else
    retrieval. sequential: neighbours in time, and look-alikes. retrieval: look-alikes."""
    exhaustive_up_to: int = 100
    """auto matches every pair up to this many photos."""
    overlap: int = 10
    """sequential: each frame is matched with this many following ones, and with those 16, 32, 64, ... frames later."""
    neighbours: int = 20
    """Each photo is matched with this many that look most alike (sequential: half as many)."""
    gps_neighbours: int = 10
    """Each photo with a GPS position is matched with this many nearest ones."""


def choose_pairs(
    capture: Capture, features: Sequence[PhotoFeatures], settings: PairSettings, seed: int
) -> tuple[list[tuple[int, int]], str]:
    """Pairs of view indices (i < j), sorted, and a short description of how they were chosen."""
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
    pairs |= {_pair(i, int(j)) for i, near in enumerate(most_similar(features, count, seed)) for j in near}
    located = [i for i, v in enumerate(capture.views) if v.gps is not None]
    if len(located) > 1 and settings.gps_neighbours:
        where = enu_positions([capture.views[i] for i in located])
        distance = np.linalg.norm(where[:, None] - where[None], axis=2)
        np.fill_diagonal(distance, np.inf)
        for a, row in enumerate(np.argsort(distance, axis=1, kind="stable")[:, : settings.gps_neighbours]):
            pairs |= {_pair(located[a], located[int(b)]) for b in row if located[int(b)] != located[a]}
    how = "neighbours in time and look-alikes" if mode == "sequential" else "look-alikes"
    return sorted(p for p in pairs if p[0] != p[1]), how + (" and GPS neighbours" if len(located) > 1 else "")


def numbered(names: Sequence[str]) -> bool:
    """True for the frames of a sequence: one name pattern, with numbers that increase in nearly equal steps."""
    if len(names) < 3:
        return False
    parts = [re.match(r"^(.*?)(\d+)(\.[^.]*)$", name) for name in names]
    if not all(parts) or len({p.group(1) for p in parts if p}) != 1:
        return False
    steps = np.diff([int(p.group(2)) for p in parts if p])
    return bool((steps > 0).all() and steps.max() <= 4 * np.median(steps))


def most_similar(features: Sequence[PhotoFeatures], count: int, seed: int) -> list[np.ndarray]:
    """For each photo the indices of the `count` most similar others, best first, by VLAD (Jegou et al. 2010).

    The visual vocabulary is k-means of the photos' own descriptors: nothing is downloaded.
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
    """int64 [n]: the row of `centres` [k d] nearest to each of `points` [n d]."""
    return (points @ centres.T - 0.5 * (centres**2).sum(1)).argmax(1)


def _vlad(descriptors: np.ndarray, nearest: np.ndarray, words: np.ndarray) -> np.ndarray:
    """The VLAD vector [k d], flattened, of unit length: sums of residuals to the nearest word."""
    out = _sums(descriptors - words[nearest], nearest, len(words))
    # Per-word normalization keeps repeated structure (bricks, leaves) from dominating.
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
