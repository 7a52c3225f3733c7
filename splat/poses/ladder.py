"""What is tried, in order, until every photo has a pose."""

from __future__ import annotations

from dataclasses import dataclass, field

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


def ladder(num_views: int, max_size: int, max_count: int | None) -> tuple[Rung, ...]:
    """Rungs for that many photos, cheapest first."""
    count = max_count or (4096 if num_views <= 30 else 3072 if num_views <= 60 else 2048)
    first = FeatureSettings(max_size=max_size, max_count=count)
    more = FeatureSettings(max_size=max_size, max_count=2 * count, robust=True, peak_threshold=0.004)
    preview = num_views > 60
    loose_match = MatchSettings(max_ratio=0.85, max_distance=0.9, min_inliers=12, preview=False)
    loose_map = MapSettings(
        init_min_inliers=50, init_min_angle=8.0, pose_min_inliers=15, pose_min_ratio=0.15, min_matches=12
    )
    return (
        Rung("default", "SIFT at the usual thresholds", first, MatchSettings(preview=preview)),
        Rung("robust features", "affine shape and domain-size pooling survive wider baselines", more, MatchSettings()),
        Rung("loose thresholds", "fewer matches are believed, a smaller first angle", more, loose_match, loose_map),
        Rung("global mapper", "all rotations at once: no first pair to get wrong", more, loose_match,
             MapSettings("global", min_matches=12)),
    )  # fmt: skip
