"""Matches of another kind of features beside those of SIFT: for few photos, where SIFT finds few."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from splat.core.capture import View
from splat.core.slots import Reporter, SparseMatcher
from splat.poses.features import PhotoFeatures, read_photo

MAX_PHOTOS = 12
"""With more, SIFT finds enough points, and a network on the CPU takes seconds a pair."""
NEIGHBOURS = 4
"""Each photo is matched with this many others."""
_MAX_SIDE = 1024  # px

Pair = tuple[int, int]


def with_added_matches(
    views: Sequence[View], features: Sequence[PhotoFeatures], pairs: Sequence[Pair], matcher: SparseMatcher,
    folder: Path, report: Reporter, threads: int,
) -> tuple[list[PhotoFeatures], dict[Pair, np.ndarray]]:  # fmt: skip
    """The features of each photo followed by those of `matcher` (in the same pixels, without scale and descriptor), and
    per pair the rows, uint32 [m 2], of the latter that match. Features where a mask hides the photo have no match."""
    photos, masks = read_photos(views)
    found = matcher(photos, pairs, folder, report, threads)
    joined, offsets, visible = joined_features(features, photos, masks, found.xy)
    rows = {}
    for (i, j), pair_rows in found.rows.items():
        keep = visible[i][pair_rows[:, 0]] & visible[j][pair_rows[:, 1]]
        rows[i, j] = (pair_rows[keep] + np.array([offsets[i], offsets[j]])).astype(np.uint32)
    return joined, rows


def read_photos(views: Sequence[View]) -> tuple[list[np.ndarray], list[np.ndarray | None]]:
    """The photos, at a size that networks can take, and their masks, as `read_photo`."""
    photos, masks = zip(*(read_photo(v, _MAX_SIDE) for v in views))
    return list(photos), list(masks)


def joined_features(
    features: Sequence[PhotoFeatures],
    photos: Sequence[np.ndarray],
    masks: Sequence[np.ndarray | None],
    added: Sequence[np.ndarray],
) -> tuple[list[PhotoFeatures], list[int], list[np.ndarray]]:
    """The features of each photo followed by those at `added` (pixels [n 2] of `photos`), which have neither scale nor
    descriptor; the index of the first added one of each photo; and where no mask hides them, bool [n]."""
    joined, visible = [], []
    for f, photo, mask, xy in zip(features, photos, masks, added):
        height, width = photo.shape[:2]
        columns = np.clip(xy[:, 0].astype(int), 0, width - 1)
        lines = np.clip(xy[:, 1].astype(int), 0, height - 1)
        visible.append(np.ones(len(xy), bool) if mask is None else mask[lines, columns])
        scale = np.array([f.size[0] / width, f.size[1] / height])
        xy_here = (xy * scale).astype(np.float32)
        rgb = np.concatenate([f.rgb, photo[lines, columns]])
        joined.append(replace(f, xy=np.concatenate([f.xy, xy_here]), rgb=rgb))
    return joined, [len(f) for f in features], visible
