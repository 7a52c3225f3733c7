"""Poses from photos alone: structure from motion with COLMAP's mappers (Schoenberger & Frahm 2016) on seeded SIFT."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from splat.core.capture import Capture
from splat.core.errors import SplatError
from splat.core.slots import PoseResult, Reporter
from splat.poses import features as feature_files
from splat.poses import mapping, matching, pairs
from splat.poses.checks import doubts, pair_evidence
from splat.poses.dropped import reasons
from splat.poses.features import FeatureSettings, PhotoFeatures
from splat.poses.ladder import Rung, ladder
from splat.poses.matching import MatchSettings
from splat.poses.metric import Frame, framed
from splat.poses.model import observations, registered_ids, reliable, to_capture


@dataclass(frozen=True, eq=False)
class Attempt:
    """What one rung of the ladder gave."""

    rung: Rung
    features: list[PhotoFeatures]
    cameras: list[Any]
    geometries: dict[tuple[int, int], Any]
    models: list[Any]
    pairs_tried: int
    how_paired: str
    seconds: float

    @property
    def registered(self) -> list[int]:
        return registered_ids(self.models[0]) if self.models else []

    @property
    def score(self) -> tuple[int, int]:
        return (len(self.registered), self.models[0].num_points3D()) if self.models else (0, 0)

    def summary(self) -> dict[str, Any]:
        return {
            "name": self.rung.name,
            "why": self.rung.why,
            "registered": len(self.registered),
            "models": [m.num_reg_images() for m in self.models],
            "pairs_verified": len(self.geometries),
            "pairs_tried": self.pairs_tried,
            "reprojection_error": round(self.models[0].compute_mean_reprojection_error(), 3) if self.models else None,
            "seconds": round(self.seconds, 1),
            "settings": {
                "features": asdict(self.rung.features),
                "matching": asdict(self.rung.matching),
                "mapping": asdict(self.rung.mapping),
            },
        }


@dataclass(frozen=True)
class Sfm:
    """Finds the poses by structure from motion."""

    max_features_size: int = 1600
    """Features are sought in photos shrunk to this long side (px)."""
    max_features: int | None = None
    """Features per photo in the first attempt (default: 4096, fewer when photos are many)."""
    pairs: pairs.PairSettings = field(default_factory=pairs.PairSettings)
    frame: Frame = field(default_factory=Frame)
    attempts: int = 5
    """Rungs of the retry ladder that may be tried."""
    enough: float = 0.95
    """Stop retrying when this share of the photos is registered (all of them when they are 20 or fewer)."""
    seed: int = 0
    threads: int = 0
    """0: all cores."""

    def __call__(self, capture: Capture, workdir: Path, report: Reporter) -> PoseResult:
        """Raises SplatError when no two photos can be posed."""
        total = len(capture.views)
        if total < 2:
            raise SplatError(f"{total} photo is not enough to find poses: give at least 2 that overlap.")
        workdir.mkdir(parents=True, exist_ok=True)
        threads = self.threads or os.cpu_count() or 1
        store = _Store(self, capture, workdir, report, threads)
        tried: list[Attempt] = []
        for rung in ladder(total, self.max_features_size, self.max_features)[: max(1, self.attempts)]:
            tried.append(store.attempt(rung))
            count = len(tried[-1].registered)
            report.info(f"poses ({rung.name}): {count} of {total} photos registered in {tried[-1].seconds:.0f} s")
            if max(len(a.registered) for a in tried) >= self._goal(total):
                break
        best = max(tried, key=lambda a: a.score)
        if not best.models:
            raise SplatError(
                f"none of the {total} photos could be placed relative to another: they may show different places; "
                "take more photos, each overlapping the last by two thirds."
            )
        return self._finished(capture, tried, best, report)

    def _finished(self, capture: Capture, tried: list[Attempt], best: Attempt, report: Reporter) -> PoseResult:
        model = best.models[0]
        points = observations(model)
        points = points.select(reliable(points))
        posed, frame = framed(to_capture(capture, model, best.features, points), self.frame, report, self.seed)
        evidence = pair_evidence(capture, model, best.features, best.geometries, points, self.seed)
        others = [registered_ids(m) for m in best.models[1:]]
        details = {
            "attempts": [a.summary() for a in tried],
            "chosen": best.rung.name,
            "pairs": f"{best.how_paired}: {len(best.geometries)} of {best.pairs_tried} verified",
            "reprojection_error": round(model.compute_mean_reprojection_error(), 3),
            "points": len(points.xyz),
            "observations_per_point": round(float(points.lengths().mean()), 2) if len(points.xyz) else 0.0,
            **frame,
        }
        return PoseResult(
            capture=posed,
            dropped=reasons(capture.views, best.features, best.geometries, set(registered_ids(model)), others),
            warnings=tuple(doubts(posed, evidence)),
            total=len(capture.views),
            details=details,
        )

    def _goal(self, total: int) -> int:
        return total if total <= 20 else int(self.enough * total + 0.999)


class _Store:
    """Features and matches of this run: rungs that share settings share them."""

    def __init__(self, sfm: Sfm, capture: Capture, workdir: Path, report: Reporter, threads: int) -> None:
        self.sfm, self.capture, self.workdir, self.report, self.threads = sfm, capture, workdir, report, threads
        self._features: dict[FeatureSettings, list[PhotoFeatures]] = {}
        self._matches: dict[tuple[FeatureSettings, MatchSettings], tuple[dict, int, str]] = {}

    def features(self, settings: FeatureSettings) -> list[PhotoFeatures]:
        if settings not in self._features:
            self._features[settings] = feature_files.extract(
                self.capture.views, settings, self.workdir / "features", self.report, self.threads
            )
        return self._features[settings]

    def matches(
        self, rung: Rung, features: Sequence[PhotoFeatures], cameras: Sequence[Any]
    ) -> tuple[dict[tuple[int, int], Any], int, str]:
        key = (rung.features, rung.matching)
        if key not in self._matches:
            chosen, how = pairs.choose(self.capture, features, self.sfm.pairs, self.sfm.seed)
            found = matching.match_all(
                features, cameras, chosen, rung.matching, self.sfm.seed, self.threads,
                lambda done, total: self.report.progress(done, total, step="matches"),
            )  # fmt: skip
            self._matches[key] = (found, len(chosen), how)
        return self._matches[key]

    def attempt(self, rung: Rung) -> Attempt:
        start = time.monotonic()
        features = self.features(rung.features)
        views = self.capture.views
        cameras = mapping.make_cameras(views, features)
        found, tried, how = self.matches(rung, features, cameras)
        database = self.workdir / "database.db"
        mapping.write_database(database, [v.name for v in views], features, cameras, found)
        known = {c.camera_id for c, v in zip(cameras, views) if v.focal_from == "file"}
        count = 1

        def registered() -> None:
            nonlocal count
            count += 1
            self.report.progress(min(count, len(views)), len(views), step="mapping")

        models = mapping.map_photos(database, rung.mapping, len(views), known, self.sfm.seed, self.threads, registered)
        seconds = time.monotonic() - start
        return Attempt(rung, features, cameras, found, models, tried, how, seconds)
