"""Features of affine shape beside those of SIFT: matches of both kinds verify a pair together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from splat.poses.features import PhotoFeatures
from splat.poses.matching import MatchSettings, accepted, match_pair, one_thread_each

_SAME = 1.0
"""Features of the two kinds that are nearer than this are one point, px."""
_CHUNK = 512

Pair = tuple[int, int]


def with_affine_matches(
    features: Sequence[PhotoFeatures],
    affine: Sequence[PhotoFeatures],
    cameras: Sequence[Any],
    pairs: Sequence[Pair],
    raw: Mapping[Pair, np.ndarray],
    settings: MatchSettings,
    seed: int,
    threads: int,
) -> tuple[list[PhotoFeatures], dict[Pair, Any], set[Pair]]:
    """The `features` of each photo followed by the `affine` ones, in the same pixels; the two-view geometries
    (pycolmap.TwoViewGeometry) of the pairs that matches of both kinds together verify; and the pairs that those of
    affine features verify alone.

    raw: matches of `features` before verification, by pair. A match of affine features is one of `features` where these
    are at the same place, so that both kinds see the same points. Descriptors and scales stay those of `features`.
    """
    both = [_joined(f, g) for f, g in zip(features, affine, strict=True)]
    joined, index = [b[0] for b in both], [b[1] for b in both]

    def work(pair: Pair) -> tuple[Any, bool]:
        i, j = pair
        rows = match_pair(affine[i], affine[j], settings)
        more = np.stack([index[i][rows[:, 0]], index[j][rows[:, 1]]], 1)
        new = ~np.isin(more[:, 0], raw[pair][:, 0]) & ~np.isin(more[:, 1], raw[pair][:, 1])
        rows = np.concatenate([raw[pair], more[new]])

        def geometry(some: np.ndarray) -> Any | None:
            return accepted(cameras[i], joined[i], cameras[j], joined[j], some.astype(np.uint32), settings, seed)

        return geometry(rows), geometry(more) is not None

    found = dict(zip(pairs, one_thread_each(work, pairs, threads)))
    together = {p: g for p, (g, _) in found.items() if g is not None}
    return joined, together, {p for p, (_, alone) in found.items() if alone}


def _joined(f: PhotoFeatures, g: PhotoFeatures) -> tuple[PhotoFeatures, np.ndarray]:
    """The features f and after them g, in pixels of f; and the index there of each of g, int64 [n]: that of the feature
    of f at the same place, where there is one."""
    xy = (g.xy * (np.array(f.size) / np.array(g.size))).astype(np.float32)
    index = len(f) + np.arange(len(g))
    for start in range(0, len(g) if len(f) else 0, _CHUNK):
        part = slice(start, start + _CHUNK)
        distance = ((xy[part, None] - f.xy[None]) ** 2).sum(2)
        nearest = distance.argmin(1)
        same = np.take_along_axis(distance, nearest[:, None], 1)[:, 0] < _SAME**2
        index[part][same] = nearest[same]
    return replace(f, xy=np.concatenate([f.xy, xy]), rgb=np.concatenate([f.rgb, g.rgb])), index
