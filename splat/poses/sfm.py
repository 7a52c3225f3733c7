"""Poses from photos alone: structure from motion with COLMAP's mappers (Schoenberger & Frahm 2016) on seeded SIFT."""

from __future__ import annotations

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
from splat.poses.checks import PairEvidence, doubled_surfaces, doubts, open_cycles, pair_evidence
from splat.poses.dropped import reasons
from splat.poses.features import FeatureSettings, PhotoFeatures, cores, make_folder
from splat.poses.ladder import Rung, ladder
from splat.poses.matching import MatchSettings
from splat.poses.metric import Frame, framed
from splat.poses.model import Observations, observations, registered_ids, reliable, to_capture
from splat.poses.refine import richer_lens


@dataclass(frozen=True)
class Sfm:
    """Finds the poses by structure from motion.

    Every random choice is seeded and every stage writes in a fixed order: the same photos on the same machine give the
    same poses bit for bit, as long as a bundle adjustment has fewer than 50,000 residuals (above that COLMAP adds
    them up in several threads; `--sfm.threads 1` keeps even those exact).
    """

    max_features_size: int | None = None
    """Features are sought in photos shrunk to this long side, px (default: 1600; less for more than 30 photos)."""
    max_features: int | None = None
    """Features per photo in the first attempt (default: 4096; fewer for more than 30 photos)."""
    pairs: pairs.PairSettings = field(default_factory=pairs.PairSettings)
    frame: Frame = field(default_factory=Frame)
    attempts: int = 5
    """Rungs of the retry ladder that may be tried."""
    enough: float = 0.95
    """Stop retrying when this share of the photos is registered (all of them when they are 20 or fewer)."""
    rich_lens: bool = True
    """Fit tangential and second-order distortion too, where 20 or more photos share a camera and it helps."""
    seed: int = 0
    threads: int = 0
    """0: all cores."""

    def __call__(self, capture: Capture, workdir: Path, report: Reporter) -> PoseResult:
        """Raises SplatError when no two photos can be placed relative to each other."""
        total = len(capture.views)
        if total < 2:
            raise SplatError(f"{total} photo is not enough to find poses: give at least 2 that overlap.")
        make_folder(workdir)
        attempts = Attempts(self, capture, workdir, report)
        tried: list[Attempt] = []
        for rung in ladder(total, self.max_features_size, self.max_features)[: max(1, self.attempts)]:
            attempt = attempts.attempt(rung)
            tried.append(attempt)
            doubt = "" if attempt.trusted else ", but the model contradicts its photos"
            report.info(
                f"poses ({rung.name}): {len(attempt.registered)} of {total} photos registered in "
                f"{attempt.seconds:.0f} s{doubt}"
            )
            if attempt.trusted and len(attempt.registered) >= self._goal(attempts):
                break
        best = max(tried, key=lambda a: a.score)
        if best.model is None:
            raise SplatError(
                f"none of the {total} photos could be placed relative to another: they may show different places; "
                "take more photos, each overlapping the last by two thirds."
            )
        return self._finished(capture, tried, best, report)

    def _goal(self, attempts: Attempts) -> int:
        """Registered photos that are enough; photos without texture are beyond help, and not waited for."""
        hopeless = sum(len(f) < 50 for f in attempts.first_features)
        total = len(attempts.capture.views)
        return max(2, (total if total <= 20 else int(self.enough * total + 0.999)) - hopeless)

    def _finished(self, capture: Capture, tried: list[Attempt], best: Attempt, report: Reporter) -> PoseResult:
        assert best.model is not None and best.points is not None
        points = best.points
        posed, frame = framed(to_capture(capture, best.model, best.features, points), self.frame, report, self.seed)
        others = [registered_ids(m) for m in best.models[1:]]
        details = {
            "attempts": [a.summary() for a in tried],
            "chosen": best.rung.name,
            "pairs": f"{best.how_paired}: {len(best.geometries)} of {best.pairs_tried} verified",
            "reprojection_error": round(best.model.compute_mean_reprojection_error(), 3),
            "points": len(points.xyz),
            "observations_per_point": round(float(points.lengths().mean()), 2) if len(points.xyz) else 0.0,
            **frame,
        }
        return PoseResult(
            capture=posed,
            dropped=reasons(capture.views, best.features, best.geometries, set(best.registered), others),
            warnings=tuple(doubts(posed, best.evidence)),
            total=len(capture.views),
            details=details,
        )


@dataclass(frozen=True, eq=False)
class Attempt:
    """What one rung of the ladder gave."""

    rung: Rung
    features: list[PhotoFeatures]
    geometries: dict[tuple[int, int], Any]
    models: list[Any]
    """pycolmap.Reconstruction, the largest first."""
    points: Observations | None
    """The reliable points of the largest."""
    evidence: list[PairEvidence]
    pairs_tried: int
    how_paired: str
    seconds: float

    @property
    def model(self) -> Any | None:
        return self.models[0] if self.models else None

    @property
    def registered(self) -> list[int]:
        """Indices of the views in the largest model."""
        return registered_ids(self.models[0]) if self.models else []

    @property
    def trusted(self) -> bool:
        """False when pairs of photos contradict the model."""
        return open_cycles(self.evidence) is None and doubled_surfaces(self.evidence) is None

    @property
    def score(self) -> tuple[float, int]:
        """Registered photos, a contradicted model's counted for less; then points."""
        count = len(self.registered) * (1.0 if self.trusted else 0.7)
        return count, len(self.points.xyz) if self.points is not None else 0

    def summary(self) -> dict[str, Any]:
        error = None if self.model is None else round(self.model.compute_mean_reprojection_error(), 3)
        return {
            "name": self.rung.name,
            "why": self.rung.why,
            "registered": len(self.registered),
            "trusted": self.trusted,
            "models": [m.num_reg_images() for m in self.models],
            "pairs_verified": len(self.geometries),
            "pairs_tried": self.pairs_tried,
            "reprojection_error": error,
            "seconds": round(self.seconds, 1),
            "settings": {k: asdict(getattr(self.rung, k)) for k in ("features", "matching", "mapping")},
        }


class Attempts:
    """Features and matches of this run: rungs that share settings share them."""

    def __init__(self, sfm: Sfm, capture: Capture, workdir: Path, report: Reporter) -> None:
        self.sfm, self.capture, self.workdir, self.report = sfm, capture, workdir, report
        self.threads = sfm.threads or cores()
        self.first_features: list[PhotoFeatures] = []
        self._features: dict[FeatureSettings, list[PhotoFeatures]] = {}
        self._matches: dict[tuple[FeatureSettings, MatchSettings], tuple[dict, int, str]] = {}

    def features(self, settings: FeatureSettings) -> list[PhotoFeatures]:
        if settings not in self._features:
            self._features[settings] = feature_files.extract(
                self.capture.views, settings, self.workdir / "features", self.report, self.threads
            )
        self.first_features = self.first_features or self._features[settings]
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
        start, seed, views = time.monotonic(), self.sfm.seed, self.capture.views
        features = self.features(rung.features)
        cameras = mapping.make_cameras(views, features)
        found, tried, how = self.matches(rung, features, cameras)
        database = self.workdir / "database.db"
        try:
            mapping.write_database(database, [v.name for v in views], features, cameras, found)
        except (OSError, RuntimeError) as e:  # SQLite's errors arrive as RuntimeError
            raise SplatError(
                f"{database} was not written ({str(e).splitlines()[0]}): free some disk space or choose another folder."
            ) from None
        known = {c.camera_id for c, v in zip(cameras, views) if v.focal_from == "file"}
        count = 1

        def registered() -> None:
            nonlocal count
            count += 1
            self.report.progress(min(count, len(views)), len(views), step="mapping")

        models = mapping.map_photos(database, rung.mapping, len(views), known, seed, self.threads, registered)
        points, evidence = None, []
        if models:
            if self.sfm.rich_lens:
                models[0] = richer_lens(models[0], known, self.threads)
            points = observations(models[0])
            points = points.select(reliable(points))
            evidence = pair_evidence(self.capture, models[0], features, found, points, seed)
        seconds = time.monotonic() - start
        return Attempt(rung, features, found, models, points, evidence, tried, how, seconds)
