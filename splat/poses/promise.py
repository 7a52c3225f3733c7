"""Which photos without a pose another matcher may connect, by small copies of the photos: a twentieth of the time."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from splat.core.resampling import resize_area
from splat.core.slots import Reporter, SparseMatcher
from splat.poses.chance import by_chance
from splat.poses.features import PhotoFeatures
from splat.poses.matching import MatchSettings, verify_pair

SIDE = 384
"""Long side of the small copies, px."""
_LOG_ALARMS = -4.0
"""log10 of the false alarms allowed: wrong matches of a network lie close together, so that more of them agree than of
independent ones."""
_TURNED_WITH = 4
"""Posed photos that the turns of a photo are tried with."""

Pair = tuple[int, int]


@dataclass(frozen=True)
class Promise:
    """What small copies of the photos show."""

    turns: dict[int, int] = field(default_factory=dict)
    """Photos that match only turned, and the quarter turns (`np.rot90`) with which they match best."""
    reached: frozenset[int] = frozenset()
    """Photos without a pose that matches connect to the posed ones, or to each other where none is posed."""


def promise(
    photos: Sequence[np.ndarray],
    features: Sequence[PhotoFeatures],
    cameras: Sequence[Any],
    pairs: Sequence[Pair],
    lost: Collection[int],
    matcher: SparseMatcher,
    settings: MatchSettings,
    folder: Path,
    report: Reporter,
    seed: int,
    threads: int,
) -> Promise:
    """Match those of `pairs` that have a photo without a pose (`lost`) in it, in small copies of `photos` (RGB); then
    the photos that are not reached, turned. Pixels of features and `cameras` (pycolmap.Camera) agree."""
    small = [_small(p) for p in photos]
    sizes = [f.size for f in features]
    found = matcher(small, [p for p in pairs if not set(lost).isdisjoint(p)], folder, report, threads)

    def believed(pair: Pair, xy: tuple[np.ndarray, np.ndarray], rows: np.ndarray) -> int:
        """Matches of a pair that agree on a geometry; 0 where chance explains them. xy: in pixels of the features."""
        if len(rows) < settings.min_inliers:
            return 0
        a, b = (_at(features[k], x) for k, x in zip(pair, xy))
        geometry = verify_pair(cameras[pair[0]], a, cameras[pair[1]], b, rows.astype(np.uint32), settings, seed)
        count = len(geometry.inlier_matches)
        return 0 if by_chance(len(rows), count, b.size, settings.max_error, _LOG_ALARMS) else count

    xy = [_scaled(x, s, size) for x, s, size in zip(found.xy, small, sizes)]
    good = {p for p, rows in found.rows.items() if believed(p, (xy[p[0]], xy[p[1]]), rows)}
    reached = _reached(len(photos), good, lost)
    turns: dict[int, int] = {}
    for i in sorted(set(lost) - reached):
        others = sorted((set(range(len(photos))) - set(lost)) | reached, key=lambda j: abs(j - i))[:_TURNED_WITH]
        counts = {}
        for quarters in (1, 2, 3) if others else ():
            (own, *theirs), rows = turned_matches(i, quarters, others, small, matcher, folder, report, threads)
            mine = _scaled(own, small[i], sizes[i])
            counts[quarters] = max(
                believed((i, j), (mine, _scaled(x, small[j], sizes[j])), rows[j])
                for j, x in zip(others, theirs, strict=True)
            )
        if counts and max(counts.values()):
            turns[i] = max(counts, key=lambda q: counts[q])
    return Promise(turns, frozenset(reached | turns.keys()))


def _small(photo: np.ndarray) -> np.ndarray:
    height, width = photo.shape[:2]
    shrink = min(1.0, SIDE / max(height, width))
    return photo if shrink == 1 else resize_area(photo, max(1, round(width * shrink)), max(1, round(height * shrink)))


def _scaled(xy: np.ndarray, photo: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pixels [n 2] of `photo` -> of a photo of `size` (width, height), float32."""
    return (xy * (np.array(size) / np.array(photo.shape[1::-1]))).astype(np.float32)


def _at(f: PhotoFeatures, xy: np.ndarray) -> PhotoFeatures:
    none = np.zeros((len(xy), 0), np.uint8)
    return PhotoFeatures(xy, np.ones(len(xy), np.float32), none, none, f.size, f.sharpness)


def _reached(count: int, pairs: Collection[Pair], lost: Collection[int]) -> set[int]:
    """The lost photos in one group with the posed ones; those of the largest group where none is posed."""
    posed = sorted(set(range(count)) - set(lost))
    together = connected(count, [*pairs, *pairwise(posed)], posed[0] if posed else None)
    return together & set(lost) if len(together) > 1 else set()


def connected(count: int, pairs: Iterable[Pair], photo: int | None = None) -> set[int]:
    """The photos that `pairs` connect to `photo`; without one the largest group that they connect."""
    group = list(range(count))
    for i, j in pairs:
        old, new = max(group[i], group[j]), min(group[i], group[j])
        group = [new if g == old else g for g in group]
    main = max(set(group), key=lambda g: (group.count(g), -g)) if photo is None else group[photo]
    return {i for i, g in enumerate(group) if g == main}


def turned_matches(
    i: int, quarters: int, others: Sequence[int], photos: Sequence[np.ndarray], matcher: SparseMatcher, folder: Path,
    report: Reporter, threads: int,
) -> tuple[list[np.ndarray], dict[int, np.ndarray]]:  # fmt: skip
    """Of photo i in quarter turns (`np.rot90`), then of each of the others: features, float32 [n 2] in pixels of the
    photos as they are; and by other photo the rows [m 2] (feature of i, feature of the other) that match."""
    height, width = photos[i].shape[:2]
    images = [np.ascontiguousarray(np.rot90(photos[i], quarters)), *(photos[j] for j in others)]
    found = matcher(images, [(0, k + 1) for k in range(len(others))], folder, report, threads)
    xy = [unturned(found.xy[0], quarters, width, height), *found.xy[1:]]
    return xy, {j: found.rows[0, k] for k, j in enumerate(others, 1)}


def unturned(xy: np.ndarray, quarters: int, width: int, height: int) -> np.ndarray:
    """Pixels [n 2] of `np.rot90(photo, quarters)` -> pixels of the photo, which is `width` x `height` (centres at
    .5)."""
    x, y = xy[:, 0], xy[:, 1]
    columns = {0: (x, y), 1: (width - y, x), 2: (width - x, height - y), 3: (y, height - x)}[quarters % 4]
    return np.stack(columns, 1).astype(np.float32)
