"""What is tried, in order, until every photo has a pose."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from splat.poses.features import FeatureSettings
from splat.poses.mapping import MapSettings
from splat.poses.matching import MatchSettings


@dataclass(frozen=True)
class Rung:
    """One attempt."""

    name: str
    why: str
    features: FeatureSettings = field(default_factory=FeatureSettings)
    matching: MatchSettings = field(default_factory=MatchSettings)
    mapping: MapSettings = field(default_factory=MapSettings)


def ladder(num_views: int, max_size: int | None = None, max_count: int | None = None) -> tuple[Rung, ...]:
    """Rungs for that many photos, cheapest first.

    Size and number of features fall with the number of photos: matching all pairs costs their square, and many photos
    mean small steps between them, which need neither.
    """
    size = max_size or (1600 if num_views <= 30 else 1280 if num_views <= 100 else 1000)
    count = max_count or (4096 if num_views <= 30 else 2560 if num_views <= 60 else 2048)
    first = FeatureSettings(max_size=size, max_count=count)
    more = replace(first, max_count=2 * count, peak_threshold=0.004)
    # Pooling over domain sizes costs about ten times as much per pixel.
    robust = replace(
        more, robust=True, max_size=size if num_views <= 20 else min(size, 1000 if num_views <= 60 else 800)
    )
    strict_match = MatchSettings(preview=num_views > 60)
    loose_match = replace(strict_match, max_ratio=0.85, max_distance=0.9, min_inliers=12)
    loose = MapSettings(
        init_min_inliers=50, init_min_angle=8.0, pose_min_inliers=15, pose_min_ratio=0.15, min_matches=12
    )
    all_at_once = replace(loose, method="global")
    return (
        Rung("default", "SIFT at the usual thresholds", first, strict_match),
        Rung("loose thresholds", "weaker matches and photos with fewer points are believed", first, loose_match, loose),
        Rung("more features", "twice as many, fainter ones too", more, loose_match, loose),
        Rung("robust features", "affine shapes and pooled scales survive wide baselines", robust, loose_match, loose),
        Rung("global mapper", "all rotations at once: no first pair to get wrong", more, loose_match, all_at_once),
    )
