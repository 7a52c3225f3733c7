"""Why photos cannot be registered: one sentence by the evidence, where it can be known before a model is tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from splat.core.capture import View
from splat.core.errors import SplatError
from splat.core.foreign import shown
from splat.poses.features import PhotoFeatures
from splat.poses.matching import MatchSettings, match_pair, verify_pair
from splat.poses.parallax import MIN_MATCHES, PairMotion, Stayed, stayed_matches

ONE_PLACE = "the photos were all taken from one place: move the camera"
MIN_FEATURES = 50
"""Features of a photo below which it has no texture."""


def too_little_texture(views: Sequence[View], features: Sequence[PhotoFeatures]) -> str | None:
    """Why there is nothing to match: fewer than two photos with MIN_FEATURES features."""
    counts = [len(f) for f in features]
    if sum(n >= MIN_FEATURES for n in counts) >= 2:
        return None
    found = f"at most {max(counts, default=0)} features in a photo, where some hundreds are needed"
    masked = sum(v.mask_path is not None for v in views)
    if 2 * masked >= len(views):
        return (
            f"the masks leave almost nothing of the photos to match ({found}): check that white is what is to be used, "
            "or pass --invert-masks."
        )
    if (levels := _levels(views)) is not None and levels < 16:
        return (
            f"the photos have almost no contrast (half of them use {levels} of 256 levels; {found}): stretch their "
            "values to the full range first, as with thermal and raw images."
        )
    return (
        f"the photos show too little texture ({found}): take them sharp and well lit, of something with detail, or put "
        "textured things into the scene."
    )


def _levels(views: Sequence[View]) -> int | None:
    """The median over up to eight photos of how many grey levels lie between the 1st and 99th percentile."""
    spans = []
    for i in np.linspace(0, len(views) - 1, min(8, len(views))).astype(int):
        view = views[i]
        side = max(view.camera.width, view.camera.height)
        try:
            grey = replace(view, mask_path=None).rgb(min(1.0, 400 / side)).mean(2).numpy()
        except (SplatError, OSError):
            continue
        low, high = np.percentile(grey, [1, 99])
        spans.append(round(255 * float(high - low)))
    return int(np.median(spans)) if spans else None


def one_place(motions: Sequence[PairMotion]) -> str | None:
    """No pair of photos has parallax. Where a plane that the camera slid past would look the same nothing is said."""
    still = [m for m in motions if m.same_place]
    if not motions or len(still) < 0.95 * len(motions) or sum(m.certain for m in still) < 0.5 * len(still):
        return None
    stayed = sum(m.stayed >= 0.8 for m in motions)
    if 2 * stayed > len(motions):
        why = f"{stayed} of {len(motions)} pairs that were compared show the same picture"
    else:
        why = f"a camera that turns on the spot explains {len(still)} of {len(motions)} pairs that were compared"
    return f"{ONE_PLACE} a step to the side between photos, so that near things shift against far ones ({why})."


def background_stays(
    features: Sequence[PhotoFeatures],
    cameras: Sequence[Any],
    stayed: Mapping[tuple[int, int], Stayed],
    settings: MatchSettings,
    seed: int,
    max_pairs: int = 12,
) -> str | None:
    """An object that turns before a background that stays: in nearly every pair a good part of the matches, spread
    over the picture, stayed where it was, while others moved as a solid thing does.

    stayed: of every pair (i, j) that was matched. The moving part is verified in up to `max_pairs` pairs.
    """
    pairs = {p: s for p, s in stayed.items() if s.of >= MIN_MATCHES}
    fixed = [p for p, s in pairs.items() if s.count >= 20 and s.count >= 0.2 * s.of and s.spread > 0.12]
    if len(features) < 3 or len(fixed) < 0.8 * len(pairs) or len(fixed) < 0.5 * len(stayed):
        return None
    most = sorted(fixed, key=lambda p: pairs[p].count - pairs[p].of)[:max_pairs]
    moving = 0
    for i, j in most:
        rows = match_pair(features[i], features[j], settings)
        _, still = stayed_matches(features[i], features[j], rows)
        rows = rows[~still]
        if len(rows) < MIN_MATCHES:
            continue
        geometry = verify_pair(cameras[i], features[i], cameras[j], features[j], rows, settings, seed)
        inliers = geometry.inlier_matches
        far = np.linalg.norm(features[i].xy[inliers[:, 0]] - features[j].xy[inliers[:, 1]], axis=1)
        moving += len(inliers) >= MIN_MATCHES and float(np.median(far)) > 0.01 * max(features[i].size)
    if not most or 3 * moving < len(most):
        return None
    return (
        f"the background stays where it is in {len(fixed)} of {len(pairs)} pairs of photos while something before it "
        "moves, as on a turntable: use --object, which masks what stays, mask it yourself (masks/NAME.png, white = "
        "use), or walk round the object instead."
    )


def nothing_registered(
    views: Sequence[View],
    features: Sequence[PhotoFeatures],
    geometries: Mapping[tuple[int, int], Any],
    motions: Sequence[PairMotion],
) -> str:
    """The sentence for photos of which no attempt made a model."""
    n = len(views)
    if sentence := too_little_texture(views, features):
        return sentence
    still = sum(m.same_place for m in motions)
    if motions and still >= 0.8 * len(motions):
        return (
            f"none of the {n} photos could be registered to another: {still} of {len(motions)} pairs compared "
            "show no parallax, as if the camera had only turned or everything were flat or far away: move the camera "
            "between photos."
        )
    usual = int(np.median([len(f) for f in features]))
    if not geometries:
        return (
            f"none of the {n} photos could be registered to another: each has features (about {usual}) but no two show "
            "the same points; they may show different places; take more photos, each overlapping the last by two "
            "thirds."
        )
    (i, j), best = max(geometries.items(), key=lambda item: len(item[1].inlier_matches))
    pair = f"{shown(views[i].name)} and {shown(views[j].name)}"
    return (
        f"none of the {n} photos could be registered to another: {len(geometries)} pairs match, the best ({pair}) with "
        f"{len(best.inlier_matches)} points, too few or with too little parallax; take more photos, each overlapping "
        "the last by two thirds."
    )
