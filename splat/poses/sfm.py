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
from splat.poses.attempts import AttemptSettings, attempt_sequence
from splat.poses.checks import (
    PairEvidence,
    consistency_warnings,
    duplicated_surfaces,
    inconsistent_rotations,
    pair_evidence,
)
from splat.poses.features import FeatureSettings, PhotoFeatures, cores, make_folder
from splat.poses.matching import MatchSettings
from splat.poses.metric import Frame, framed
from splat.poses.model import Observations, observations, registered_ids, reliable, to_capture
from splat.poses.refine import richer_lens
from splat.poses.unregistered import unregistered_reasons


@dataclass(frozen=True)
class Sfm:
    """Finds the poses by structure from motion.

    Reproducible: random choices are seeded and results are stored in a fixed order. The same photos on the same machine
    give the same poses bit for bit while a bundle adjustment has fewer than 50,000 residuals. Above that COLMAP sums
    them in several threads; `--sfm.threads 1` makes those runs reproducible too.
    """

    max_features_size: int | None = None
    """Long side of the photos in which features are detected, px (default: 1600; less for more than 30 photos)."""
    max_features: int | None = None
    """Features per photo in the first attempt (default: 4096; fewer for more than 30 photos)."""
    pairs: pairs.PairSettings = field(default_factory=pairs.PairSettings)
    frame: Frame = field(default_factory=Frame)
    attempts: int = 5
    """Maximum number of attempts, each with other settings."""
    enough: float = 0.95
    """Stop retrying when this share of the photos is registered (all of them when they are 20 or fewer)."""
    rich_lens: bool = True
    """Also fit tangential and second-order radial distortion where 20 or more photos share a camera and it helps."""
    seed: int = 0
    threads: int = 0
    """0: all cores."""

    def __call__(self, capture: Capture, workdir: Path, report: Reporter) -> PoseResult:
        """Raises SplatError when no two photos can be registered to each other."""
        total = len(capture.views)
        if total < 2:
            raise SplatError(f"{total} photo is not enough to find poses: give at least 2 that overlap.")
        make_folder(workdir)
        runner = AttemptRunner(self, capture, workdir, report)
        tried: list[Attempt] = []
        sequence = attempt_sequence(total, self.max_features_size, self.max_features)
        for settings in sequence[: max(1, self.attempts)]:
            attempt = runner.run(settings)
            tried.append(attempt)
            note = "" if attempt.trusted else ", but the model contradicts its photos"
            report.info(
                f"poses ({settings.name}): {len(attempt.registered)} of {total} photos registered in "
                f"{attempt.seconds:.0f} s{note}"
            )
            if attempt.trusted and len(attempt.registered) >= self._target(runner):
                break
        best = max(tried, key=lambda a: a.score)
        if best.model is None:
            raise SplatError(
                f"none of the {total} photos could be registered to another: they may show different places; "
                "take more photos, each overlapping the last by two thirds."
            )
        return self._result(capture, tried, best, report)

    def _target(self, runner: AttemptRunner) -> int:
        """Number of registered photos that ends the attempts; photos without texture are not counted."""
        textureless = sum(len(f) < 50 for f in runner.first_features)
        total = len(runner.capture.views)
        return max(2, (total if total <= 20 else int(self.enough * total + 0.999)) - textureless)

    def _result(self, capture: Capture, tried: list[Attempt], best: Attempt, report: Reporter) -> PoseResult:
        assert best.model is not None and best.points is not None
        points = best.points
        posed, frame = framed(to_capture(capture, best.model, best.features, points), self.frame, report, self.seed)
        others = [registered_ids(m) for m in best.models[1:]]
        details = {
            "attempts": [a.summary() for a in tried],
            "chosen": best.settings.name,
            "pairs": f"{best.pairing}: {len(best.geometries)} of {best.pairs_tried} verified",
            "reprojection_error": round(best.model.compute_mean_reprojection_error(), 3),
            "points": len(points.xyz),
            "observations_per_point": round(float(points.lengths().mean()), 2) if len(points.xyz) else 0.0,
            **frame,
        }
        return PoseResult(
            capture=posed,
            unregistered=unregistered_reasons(
                capture.views, best.features, best.geometries, set(best.registered), others
            ),
            warnings=tuple(consistency_warnings(posed, best.evidence)),
            total=len(capture.views),
            details=details,
        )


@dataclass(frozen=True, eq=False)
class Attempt:
    """The result of one attempt."""

    settings: AttemptSettings
    features: list[PhotoFeatures]
    geometries: dict[tuple[int, int], Any]
    models: list[Any]
    """pycolmap.Reconstruction, largest first."""
    points: Observations | None
    """The reliable points of the largest model."""
    evidence: list[PairEvidence]
    pairs_tried: int
    pairing: str
    """How the pairs were chosen."""
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
        return inconsistent_rotations(self.evidence) is None and duplicated_surfaces(self.evidence) is None

    @property
    def score(self) -> tuple[float, int]:
        """Registered photos (times 0.7 where pairs contradict the model), then points: larger is better."""
        count = len(self.registered) * (1.0 if self.trusted else 0.7)
        return count, len(self.points.xyz) if self.points is not None else 0

    def summary(self) -> dict[str, Any]:
        error = None if self.model is None else round(self.model.compute_mean_reprojection_error(), 3)
        return {
            "name": self.settings.name,
            "why": self.settings.why,
            "registered": len(self.registered),
            "trusted": self.trusted,
            "models": [m.num_reg_images() for m in self.models],
            "pairs_verified": len(self.geometries),
            "pairs_tried": self.pairs_tried,
            "reprojection_error": error,
            "seconds": round(self.seconds, 1),
            "settings": {k: asdict(getattr(self.settings, k)) for k in ("features", "matching", "mapping")},
        }


class AttemptRunner:
    """Runs attempts on one capture. Features and matches are computed once for attempts with the same settings."""

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
        self, settings: AttemptSettings, features: Sequence[PhotoFeatures], cameras: Sequence[Any]
    ) -> tuple[dict[tuple[int, int], Any], int, str]:
        key = (settings.features, settings.matching)
        if key not in self._matches:
            chosen, pairing = pairs.choose_pairs(self.capture, features, self.sfm.pairs, self.sfm.seed)
            found = matching.match_all(
                features, cameras, chosen, settings.matching, self.sfm.seed, self.threads,
                lambda done, total: self.report.progress(done, total, step="matches"),
            )  # fmt: skip
            self._matches[key] = (found, len(chosen), pairing)
        return self._matches[key]

    def run(self, settings: AttemptSettings) -> Attempt:
        start, seed, views = time.monotonic(), self.sfm.seed, self.capture.views
        features = self.features(settings.features)
        cameras = mapping.make_cameras(views, features)
        found, tried, pairing = self.matches(settings, features, cameras)
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

        models = mapping.map_photos(database, settings.mapping, len(views), known, seed, self.threads, registered)
        points, evidence = None, []
        if models:
            if self.sfm.rich_lens:
                models[0] = richer_lens(models[0], known, self.threads)
            points = observations(models[0])
            points = points.select(reliable(points))
            evidence = pair_evidence(self.capture, models[0], features, found, points, seed)
        seconds = time.monotonic() - start
        return Attempt(settings, features, found, models, points, evidence, tried, pairing, seconds)
