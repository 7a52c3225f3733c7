"""Verified matches of SIFT together with those of another matcher, for photos that SIFT alone leaves out.

Networks match photos of one upright direction; a photo that matches none of the others is tried in all four turns.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from splat.core.capture import View
from splat.core.slots import Reporter, SparseMatcher
from splat.poses.added_matches import Pair, joined_features, read_photos
from splat.poses.features import PhotoFeatures, quiet
from splat.poses.matching import MatchSettings, match_pair, one_thread_each, verify_pair

MAX_PHOTOS = 20
"""With more, a network on the CPU takes too long for all pairs."""
_ENOUGH = 200
"""Verified matches of SIFT with which a pair needs no others."""
_FIRST_TURNED, _MAX_TURNED = 4, 12
"""Other photos that the turns of a photo are tried with, and that its best turn is then matched with."""
_MIN_TURNED = 12
"""Matches that the best turn needs with one photo."""


def joint_matches(
    views: Sequence[View],
    features: Sequence[PhotoFeatures],
    cameras: Sequence[Any],
    pairs: Sequence[Pair],
    known: Mapping[Pair, Any],
    matcher: SparseMatcher,
    settings: MatchSettings,
    folder: Path,
    report: Reporter,
    seed: int,
    threads: int,
    lost: Collection[int] | None = None,
) -> tuple[list[PhotoFeatures], dict[Pair, Any]]:
    """The features of each photo followed by those of `matcher`, and the two-view geometries (pycolmap.TwoViewGeometry)
    of the pairs that their matches together verify, in the order of the pairs.

    known: verified pairs of `features`; those with plenty of matches are kept as they are. lost: photos that are turned
    where none of their pairs verifies; by default those outside the largest group of verified pairs.
    """
    quiet()
    photos, masks = read_photos(views)
    rest = [p for p in pairs if p not in known or len(known[p].inlier_matches) < _ENOUGH]
    found = matcher(photos, rest, folder, report, threads)
    joined, offsets, visible = joined_features(features, photos, masks, found.xy)
    added: dict[Pair, np.ndarray] = {}
    for (i, j), rows in found.rows.items():
        keep = visible[i][rows[:, 0]] & visible[j][rows[:, 1]]
        added[i, j] = (rows[keep] + [offsets[i], offsets[j]]).astype(np.uint32)

    def verified(some: Sequence[Pair]) -> dict[Pair, Any]:
        def work(pair: Pair) -> Any:
            i, j = pair
            rows = np.concatenate([match_pair(features[i], features[j], settings), added[pair]])
            if len(rows) < settings.min_inliers:
                return None
            geometry = verify_pair(cameras[i], joined[i], cameras[j], joined[j], rows, settings, seed)
            return geometry if len(geometry.inlier_matches) >= settings.min_inliers else None

        return {p: g for p, g in zip(some, one_thread_each(work, some, threads)) if g is not None}

    geometries = {p: known[p] for p in pairs if p in known and p not in added} | verified(sorted(added))
    together = _main_component(len(views), geometries) if lost is None else set(range(len(views))) - set(lost)
    for i in sorted(set(range(len(views))) - together):
        if lost is not None and any(i in p for p in geometries):
            continue
        near = sorted(together, key=lambda j: abs(j - i))
        turned = _best_turn(i, near, photos, matcher, folder, report, threads)
        if turned is None:
            continue
        xy, rows_with = turned
        (joined[i],), (offset,), (seen,) = joined_features([joined[i]], [photos[i]], [masks[i]], [xy])
        again = []
        for j, rows in rows_with.items():
            keep = seen[rows[:, 0]] & visible[j][rows[:, 1]]
            both = (rows[keep] + [offset, offsets[j]]).astype(np.uint32)
            pair = (min(i, j), max(i, j))
            added[pair] = both if i < j else both[:, ::-1]
            again.append(pair)
        geometries |= verified(sorted(again))
    return joined, {p: geometries[p] for p in sorted(geometries)}


def _main_component(count: int, geometries: Mapping[Pair, Any]) -> set[int]:
    """The photos of the largest connected component of the verified pairs."""
    group = list(range(count))
    for i, j in geometries:
        old, new = max(group[i], group[j]), min(group[i], group[j])
        group = [new if g == old else g for g in group]
    main = max(set(group), key=lambda g: (group.count(g), -g))
    return {i for i, g in enumerate(group) if g == main}


def _best_turn(
    i: int, others: Sequence[int], photos: Sequence[np.ndarray], matcher: SparseMatcher, folder: Path,
    report: Reporter, threads: int,
) -> tuple[np.ndarray, dict[int, np.ndarray]] | None:  # fmt: skip
    """Of photo i turned by 90, 180 and 270 degrees, what matches the others best: its features, float32 [n 2] in pixels
    of the photo as it is, and by other photo the rows [m 2] (feature of i, feature of the other) that match. None where
    no turn matches."""
    height, width = photos[i].shape[:2]

    def matched(quarters: int, some: Sequence[int]) -> tuple[np.ndarray, dict[int, np.ndarray]]:
        turned = np.ascontiguousarray(np.rot90(photos[i], quarters))
        images = [turned, *(photos[j] for j in some)]
        found = matcher(images, [(0, k + 1) for k in range(len(some))], folder, report, threads)
        return unturned(found.xy[0], quarters, width, height), {j: found.rows[0, k + 1] for k, j in enumerate(some)}

    counts = {}
    for quarters in (1, 2, 3):
        _, rows = matched(quarters, others[:_FIRST_TURNED])
        counts[quarters] = max((len(r) for r in rows.values()), default=0)
    best = max(counts, key=lambda q: counts[q])
    return matched(best, others[:_MAX_TURNED]) if counts[best] >= _MIN_TURNED else None


def unturned(xy: np.ndarray, quarters: int, width: int, height: int) -> np.ndarray:
    """Pixels [n 2] of `np.rot90(photo, quarters)` -> pixels of the photo, which is `width` x `height` (centres at
    .5)."""
    x, y = xy[:, 0], xy[:, 1]
    columns = {0: (x, y), 1: (width - y, x), 2: (width - x, height - y), 3: (y, height - x)}[quarters % 4]
    return np.stack(columns, 1).astype(np.float32)
