"""Verified matches of SIFT together with those of another matcher, for photos that SIFT alone leaves out.

Networks match photos of one upright direction; a photo that matches none of the others is tried in all four turns. All
of that is tried in small copies first (`promise`): at full size only what they show is matched.
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
from splat.poses.matching import MatchSettings, accepted, match_pair, one_thread_each
from splat.poses.promise import promise, turned_matches

MAX_PHOTOS = 20
"""With more, a network on the CPU takes too long for all pairs."""
_ENOUGH = 200
"""Verified matches of SIFT with which a pair needs no others."""
_MAX_TURNED = 12
"""Other photos that a turned photo is matched with."""


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
    lost: Collection[int],
) -> tuple[list[PhotoFeatures], dict[Pair, Any]] | None:
    """The features of each photo followed by those of `matcher`, and the two-view geometries (pycolmap.TwoViewGeometry)
    of the pairs that their matches together verify, in the order of the pairs. None where small copies of the photos
    show that none of the `lost` ones, those without a pose, would be connected.

    known: verified pairs of `features`; those with plenty of matches are kept as they are.
    """
    quiet()
    photos, masks = read_photos(views)
    rest = [p for p in pairs if p not in known or len(known[p].inlier_matches) < _ENOUGH]
    shows = promise(photos, features, cameras, rest, lost, matcher, settings, folder, report, seed, threads)
    if not shows.reached:
        return None
    without = set(lost) - (shows.reached - shows.turns.keys())  # what matches turned does not match as it is
    rest = [p for p in rest if without.isdisjoint(p)]
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
            return accepted(cameras[i], joined[i], cameras[j], joined[j], rows, settings, seed)

        return {p: g for p, g in zip(some, one_thread_each(work, some, threads)) if g is not None}

    geometries = {p: known[p] for p in pairs if p in known and p not in added} | verified(sorted(added))
    upright = (set(range(len(views))) - set(lost)) | (shows.reached - shows.turns.keys())
    for i, quarters in sorted(shows.turns.items()):
        others = sorted(upright, key=lambda j: abs(j - i))[:_MAX_TURNED]
        (xy, *_), rows_with = turned_matches(i, quarters, others, photos, matcher, folder, report, threads)
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
