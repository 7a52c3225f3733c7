"""The sequence of structure-from-motion settings that are tried until enough photos are registered."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from splat.poses.features import FeatureSettings
from splat.poses.mapping import MapperSettings
from splat.poses.matching import MatchSettings


@dataclass(frozen=True)
class AttemptSettings:
    """Settings of one attempt."""

    name: str
    why: str
    """What this attempt changes, for the report."""
    features: FeatureSettings = field(default_factory=FeatureSettings)
    matching: MatchSettings = field(default_factory=MatchSettings)
    mapping: MapperSettings = field(default_factory=MapperSettings)
    added: bool = False
    """Matches of the matcher beside SIFT too."""
    affine: FeatureSettings | None = None
    """Features of this second kind beside `features`, and their matches too."""


def attempt_sequence(
    num_views: int, max_size: int | None = None, max_count: int | None = None
) -> tuple[AttemptSettings, ...]:
    """The attempts for `num_views` photos, cheapest first; those with new matches before the global mapper.

    max_size, max_count: image size (px) and features per photo of the first attempt. By default both are smaller for
    more photos: matching all pairs costs the square of their number, and many photos usually overlap strongly.
    """
    size = max_size or (1600 if num_views <= 30 else 1280 if num_views <= 100 else 1000)
    count = max_count or (4096 if num_views <= 30 else 2560 if num_views <= 60 else 2048)
    default = FeatureSettings(max_size=size, max_count=count)
    more = replace(default, max_count=2 * count, peak_threshold=0.004, own_size=True)
    # Domain-size pooling costs about ten times as much per pixel.
    robust = replace(
        more,
        robust=True,
        own_size=False,
        max_size=size if num_views <= 20 else min(size, 1000 if num_views <= 60 else 800),
    )
    # The largest of them, in smaller photos: a third of the time, and enough to show which photos they may connect.
    quick = replace(default, robust=True, max_size=min(robust.max_size, 1000), max_count=count // 2)
    match = MatchSettings(preview=num_views > 60)
    loose_match = replace(match, max_ratio=0.85, max_distance=0.9, min_inliers=12)
    sure_match = replace(loose_match, more_than_chance=True)  # wrong pairs cost the mapper minutes
    loose = MapperSettings(
        init_min_inliers=50, init_min_angle=8.0, pose_min_inliers=15, pose_min_ratio=0.15, min_matches=12
    )
    global_mapper = replace(loose, method="global")
    return (
        AttemptSettings("default", "SIFT at the default thresholds", default, match),
        AttemptSettings(
            "loose thresholds", "accepts weaker matches and photos with fewer points", default, loose_match, loose
        ),
        AttemptSettings("more features", "twice as many features, at lower contrast", more, sure_match, loose),
        AttemptSettings(
            "affine features", "the largest features of affine shape too", more, sure_match, loose, affine=quick
        ),
        AttemptSettings(
            "robust features", "affine shape and domain-size pooling for wide baselines", robust, sure_match, loose
        ),
        AttemptSettings(
            "global mapper", "solves all rotations at once, without an initial pair", more, sure_match, global_mapper
        ),
    )


def with_matcher(sequence: tuple[AttemptSettings, ...], name: str) -> tuple[AttemptSettings, ...]:
    """The attempts with one that adds the matches of the matcher called `name`, seconds a photo, right after those with
    the features of the first, which take no more of them. A sequence of one attempt stays as it is."""
    if len(sequence) < 2:
        return sequence
    mapper = MapperSettings(init_min_inliers=50, init_min_angle=8.0, pose_min_inliers=15, pose_min_ratio=0.15)
    first = sequence[0]
    added = replace(
        first, name=f"SIFT and {name}", why="a network matches what SIFT does not", mapping=mapper, added=True
    )
    known = sum(s.features == first.features and s.affine is None for s in sequence)
    return (*sequence[:known], added, *sequence[known:])


def doubt_attempt(settings: AttemptSettings) -> AttemptSettings:
    """The attempt after one whose model was complete and contradicted all over: the same features and matches, but all
    rotations are solved at once, so that no wrong pair decides where the later photos go."""
    mapper = replace(settings.mapping, method="incremental" if settings.mapping.method == "global" else "global")
    return replace(settings, name=f"{settings.name}, {mapper.method} mapper", why="the same matches", mapping=mapper)
