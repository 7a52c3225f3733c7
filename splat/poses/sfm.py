"""Poses from photos alone: structure from motion with COLMAP's mappers (Schoenberger & Frahm 2016) on seeded SIFT."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from splat.core.capture import Capture
from splat.core.errors import SplatError
from splat.core.foreign import shown
from splat.core.machine import available_cores
from splat.core.slots import DepthPrior, PoseResult, Reporter, SparseMatcher
from splat.poses import features as feature_files
from splat.poses import mapping, matching, pairs
from splat.poses.affine_matches import with_affine_matches
from splat.poses.attempts import AttemptSettings, attempt_sequence, doubt_attempt, with_matcher
from splat.poses.checks import consistency_warnings
from splat.poses.dense_placement import Placement, place_by_depth
from splat.poses.diagnosis import background_stays, nothing_registered, one_place, too_little_texture
from splat.poses.features import FeatureSettings, PhotoFeatures, make_folder
from splat.poses.joint_matches import MAX_PHOTOS, joint_matches
from splat.poses.matching import MatchSettings
from splat.poses.metric import Frame, framed
from splat.poses.mirrored import mirrored_reasons
from splat.poses.model import registered_ids, to_capture
from splat.poses.parallax import PairMotion, Stayed, motions
from splat.poses.promise import SIDE, connected
from splat.poses.refine import richer_lens
from splat.poses.reregistration import Settled, settle
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
    attempts: int = 6
    """Maximum number of attempts, each with other settings; that with DISK + LightGlue is not counted."""
    enough: float = 0.95
    """Stop retrying when this share of the photos is registered (all of them when they are 20 or fewer)."""
    rich_lens: bool = True
    """Also fit tangential and second-order radial distortion where 20 or more photos share a camera and it helps."""
    matches: Literal["auto", "sift", "disk"] = "auto"
    """What is matched where SIFT leaves photos out: sift: SIFT with other settings; disk: DISK + LightGlue too, whose
    weights pip brings (see `splat doctor`); auto: that where they are found and there are at most 20 photos. A photo
    still without a pose is then placed by the dense depth of those that it matches."""
    seed: int = 0
    threads: int = 0
    """0: all cores."""

    def may_add_matches(self, capture: Capture) -> bool:
        """Whether a call would use a matcher beside SIFT."""
        return self.matches == "disk" or (self.matches == "auto" and len(capture.views) <= MAX_PHOTOS)

    @property
    def needs_matcher(self) -> bool:
        """Whether a matcher beside SIFT was asked for by name."""
        return self.matches == "disk"

    def __call__(
        self, capture: Capture, workdir: Path, report: Reporter, matcher: SparseMatcher | None = None,
        depth: DepthPrior | None = None,
    ) -> PoseResult:  # fmt: skip
        """`matcher`: used beside SIFT where `may_add_matches` and SIFT leaves photos out; `depth`: of posed photos, for
        placing what is missing then. Without a matcher neither is used.

        Raises SplatError when no two photos can be registered to each other, and where their matches show that
        before: photos without parallax or texture, or a background that stays while an object turns."""
        total = len(capture.views)
        if total < 2:
            raise SplatError(f"{total} photo is not enough to find poses: give at least 2 that overlap.")
        make_folder(workdir)
        matcher = matcher if self.may_add_matches(capture) else None
        runner = AttemptRunner(self, capture, workdir, report, matcher)
        tried: list[Attempt] = []
        sequence = attempt_sequence(total, self.max_features_size, self.max_features)[: max(1, self.attempts)]
        sequence, doubted = runner.with_texture(sequence), False
        if matcher is not None:
            sequence = with_matcher(sequence, matcher.name)
        while sequence:
            attempt, sequence = runner.run(sequence[0], tried), sequence[1:]
            tried.append(attempt)
            report.info(f"poses ({attempt.settings.name}): {attempt.outcome}")
            if attempt.skipped:
                continue
            if len(attempt.registered) + len(attempt.left_out) >= self._target(runner):
                # Contradictions all over a complete model: solved once more in another way, which is compared.
                again = not attempt.trusted and not doubted and len(tried) < self.attempts
                sequence, doubted = (doubt_attempt(attempt.settings),) if again else (), True
            elif not attempt.geometries:  # what finds most finds some, or nothing will
                sequence = tuple(s for s in sequence if s.features.robust or s.added)
        best = max(tried, key=lambda a: a.score)
        if best.model is None:
            raise SplatError(nothing_registered(capture.views, best.features, best.geometries, runner.motions))
        placements: tuple[Placement, ...] = ()
        if matcher is not None and depth is not None and len(best.registered) < total:
            best, placements = runner.with_placed(best, matcher, depth)
        return self._result(capture, tried, best, placements, workdir, report)

    def _target(self, runner: AttemptRunner) -> int:
        """Number of registered photos that ends the attempts; photos without texture are not counted."""
        textureless = sum(len(f) < 50 for f in runner.first_features)
        total = len(runner.capture.views)
        return max(2, (total if total <= 20 else int(self.enough * total + 0.999)) - textureless)

    def _result(
        self, capture: Capture, tried: list[Attempt], best: Attempt, placements: Sequence[Placement], workdir: Path,
        report: Reporter,
    ) -> PoseResult:  # fmt: skip
        settled = best.settled
        assert settled is not None and best.model is not None
        points = settled.points
        posed, frame = framed(to_capture(capture, best.model, best.features, points), self.frame, report, self.seed)
        others = [registered_ids(m) for m in best.models[1:]]
        details = {
            "attempts": [a.summary() for a in tried],
            "chosen": best.settings.name,
            "pairs": f"{best.pairing}: {len(best.geometries)} of {best.pairs_tried} verified",
            "reprojection_error": round(settled.model.compute_mean_reprojection_error(), 3),
            "points": len(points.xyz),
            "observations_per_point": round(float(points.lengths().mean()), 2) if len(points.xyz) else 0.0,
            "doubtful": {**settled.moved, **settled.left_out},
            **frame,
        }
        if placements:
            details["placed_by_depth"] = {p.name: p.summary() for p in placements}
        reasons = unregistered_reasons(capture.views, best.features, best.geometries, set(best.registered), others)
        mirrored = mirrored_reasons(
            capture.views, best.features, mapping.make_cameras(capture.views, best.features), best.geometries,
            best.registered, (best.settings.features, best.settings.matching), workdir, self.seed,
        )  # fmt: skip
        moved = [f"{shown(n)} was placed a second time: {why}; look at it." for n, why in settled.moved.items()]
        return PoseResult(
            capture=posed,
            unregistered=reasons | settled.left_out | mirrored,
            warnings=(*moved, *(p.sentence for p in placements), *consistency_warnings(posed, settled.doubt)),
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
    settled: Settled | None
    """The largest model after single photos in doubt were placed again or left out."""
    pairs_tried: int
    pairing: str
    """How the pairs were chosen."""
    seconds: float
    skipped: str = ""
    """Why it was not run to its end: it could not have placed another photo."""

    @property
    def outcome(self) -> str:
        """For the report."""
        if self.skipped:
            return f"left out after {self.seconds:.0f} s: {self.skipped}"
        note = "" if self.trusted else ", but the model contradicts its photos"
        return f"{len(self.registered)} of {len(self.features)} photos registered in {self.seconds:.0f} s{note}"

    @property
    def model(self) -> Any | None:
        return self.settled.model if self.settled else None

    @property
    def registered(self) -> list[int]:
        """Indices of the views in the largest model."""
        return registered_ids(self.model) if self.settled else []

    @property
    def left_out(self) -> dict[str, str]:
        """Photos that SfM registered against the evidence, with the reason."""
        return self.settled.left_out if self.settled else {}

    @property
    def trusted(self) -> bool:
        """False when pairs all over the model contradict it."""
        return self.settled is None or not self.settled.doubt.whole

    @property
    def score(self) -> tuple[float, int]:
        """Registered photos (times 0.7 where pairs contradict the model), then points: larger is better."""
        count = len(self.registered) * (1.0 if self.trusted else 0.7)
        return count, len(self.settled.points.xyz) if self.settled else 0

    def summary(self) -> dict[str, Any]:
        error = None if self.model is None else round(self.model.compute_mean_reprojection_error(), 3)
        return {
            "name": self.settings.name,
            "why": self.settings.why,
            "registered": len(self.registered),
            "trusted": self.trusted,
            "doubtful": sorted({**self.settled.moved, **self.left_out}) if self.settled else [],
            "models": [m.num_reg_images() for m in self.models],
            "pairs_verified": len(self.geometries),
            "pairs_tried": self.pairs_tried,
            "reprojection_error": error,
            "seconds": round(self.seconds, 1),
            "settings": {k: asdict(getattr(self.settings, k)) for k in ("features", "matching", "mapping")},
            **({"affine": asdict(self.settings.affine)} if self.settings.affine else {}),
            **({"added_matches": True} if self.settings.added else {}),
            **({"skipped": self.skipped} if self.skipped else {}),
        }


def _lost(capture: Capture, best: Attempt | None) -> set[int]:
    """Indices of the views that the best attempt leaves open."""
    views = range(len(capture.views))
    if best is None:
        return set(views)
    placed, out = set(best.registered), best.left_out
    return {i for i in views if i not in placed and capture.views[i].name not in out}


class AttemptRunner:
    """Runs attempts on one capture. Features and matches are computed once for attempts with the same settings."""

    def __init__(
        self, sfm: Sfm, capture: Capture, workdir: Path, report: Reporter, matcher: SparseMatcher | None = None
    ) -> None:
        self.matcher = matcher
        self.sfm, self.capture, self.workdir, self.report = sfm, capture, workdir, report
        self.threads = sfm.threads or available_cores()
        self.first_features: list[PhotoFeatures] = []
        self.motions: list[PairMotion] = []
        """How the verified matches of the first attempt moved."""
        self._features: dict[FeatureSettings, list[PhotoFeatures]] = {}
        self._matches: dict[tuple[FeatureSettings, MatchSettings], tuple[dict, int, str]] = {}
        self._stayed: dict[tuple[int, int], Stayed] = {}
        """What did not move of the first attempt's matches."""
        self._affine_pairs: set[tuple[int, int]] | None = None
        """Pairs that features of affine shape verified alone; None before they were tried."""
        self._raw: dict[tuple[FeatureSettings, MatchSettings], dict[tuple[int, int], np.ndarray]] = {}
        """Matches before verification, of all attempts: a second kind of features may be added to them."""

    def features(self, settings: FeatureSettings) -> list[PhotoFeatures]:
        if settings not in self._features:
            self._features[settings] = feature_files.extract(
                self.capture.views, settings, self.workdir / "features", self.report, self.threads
            )
        self.first_features = self.first_features or self._features[settings]
        return self._features[settings]

    def with_texture(self, sequence: tuple[AttemptSettings, ...]) -> tuple[AttemptSettings, ...]:
        """The attempts from the first on whose features are enough to match; raises SplatError where there is none."""
        reason, seen = None, set()
        for k, settings in enumerate(sequence):
            if settings.features.robust or settings.features in seen:
                continue
            seen.add(settings.features)
            reason = too_little_texture(self.capture.views, self.features(settings.features))
            if reason is None:
                return sequence[k:]
        raise SplatError(str(reason))

    def matches(
        self, settings: AttemptSettings, features: Sequence[PhotoFeatures], cameras: Sequence[Any]
    ) -> tuple[dict[tuple[int, int], Any], int, str]:
        key = (settings.features, settings.matching)
        if key not in self._matches:
            chosen, pairing = pairs.choose_pairs(self.capture, features, self.sfm.pairs, self.sfm.seed)
            found = matching.match_all(
                features, cameras, chosen, settings.matching, self.sfm.seed, self.threads,
                lambda done, total: self.report.progress(done, total, step="matches"),
                None if self._matches else self._stayed, self._raw.setdefault(key, {}),
            )  # fmt: skip
            self._matches[key] = (found, len(chosen), pairing)
        return self._matches[key]

    def with_affine(
        self, settings: AttemptSettings, features: Sequence[PhotoFeatures], cameras: Sequence[Any]
    ) -> tuple[list[PhotoFeatures], dict[tuple[int, int], Any], int, str]:
        """Features and matches of SIFT and of those of affine shape together."""
        assert settings.affine is not None
        _, tried, pairing = self.matches(settings, features, cameras)
        raw = self._raw[settings.features, settings.matching]
        joined, found, self._affine_pairs = with_affine_matches(
            features, self.features(settings.affine), cameras, list(raw), raw, settings.matching, self.sfm.seed,
            self.threads,
        )  # fmt: skip
        return joined, found, tried, pairing

    def with_added(
        self, settings: AttemptSettings, features: Sequence[PhotoFeatures], cameras: Sequence[Any],
        lost: Collection[int],
    ) -> tuple[list[PhotoFeatures], dict[tuple[int, int], Any], int, str] | None:  # fmt: skip
        """Features and matches of SIFT and of the matcher together; None where these connect none of the photos
        `lost`."""
        assert self.matcher is not None
        known = self.matches(settings, features, cameras)[0]
        chosen, pairing = pairs.choose_pairs(self.capture, features, self.sfm.pairs, self.sfm.seed)
        both = joint_matches(
            self.capture.views, features, cameras, chosen, known, self.matcher, settings.matching,
            self.workdir / "features", self.report, self.sfm.seed, self.threads, lost,
        )  # fmt: skip
        return None if both is None else (*both, len(chosen), pairing)

    def cannot_help(self, settings: AttemptSettings, tried: Sequence[Attempt]) -> str:
        """Why an attempt cannot place more photos than those before it, by what is known before it starts; empty where
        it may, and where no model is there yet or pairs contradict it."""
        best = max(tried, key=lambda a: a.score, default=None)
        if best is None or best.model is None or not best.trusted:
            return ""
        lost = _lost(self.capture, best)
        sampled = self._affine_pairs
        links = sampled is None or any(len(lost.intersection(p)) == 1 for p in sampled)
        if settings.features.robust and not links:
            return "the largest such features match none of the photos that are left"
        known = self._matches.get((settings.features, settings.matching))
        if known is None or settings.affine is not None or settings.added:
            return ""
        most = len(connected(len(self.capture.views), known[0]))
        return "its matches are known and connect no more photos" if most <= len(best.registered) else ""

    def run(self, settings: AttemptSettings, tried: Sequence[Attempt] = ()) -> Attempt:
        """tried: the attempts before it; one that cannot place more photos than these is skipped."""
        start, seed, views = time.monotonic(), self.sfm.seed, self.capture.views

        def skipped(reason: str) -> Attempt:
            seconds = time.monotonic() - start
            return Attempt(settings, self.first_features, {}, [], None, 0, "", seconds, reason)

        if reason := self.cannot_help(settings, tried):
            return skipped(reason)
        features = self.features(settings.features)
        first = not self._matches
        cameras = mapping.make_cameras(views, features)
        if settings.added:
            best = max(tried, key=lambda a: a.score, default=None)
            joint = self.with_added(settings, features, cameras, _lost(self.capture, best))
            if joint is None:
                return skipped(f"in photos of {SIDE} px it connects none of those that are left")
            features, found, count, pairing = joint
        elif settings.affine is not None:
            features, found, count, pairing = self.with_affine(settings, features, cameras)
        else:
            found, count, pairing = self.matches(settings, features, cameras)
        if first:
            self._refuse_hopeless(settings, features, cameras, found)
        database = self.workdir / "database.db"
        mapping.write_database(database, [v.name for v in views], features, cameras, found)
        known = self._known_cameras(cameras)
        placed = 1

        def registered() -> None:
            nonlocal placed
            placed += 1
            self.report.progress(min(placed, len(views)), len(views), step="mapping")

        models = mapping.map_photos(database, settings.mapping, len(views), known, seed, self.threads, registered)
        settled = None
        if models:
            if self.sfm.rich_lens:
                models[0] = richer_lens(models[0], known, self.threads)
            settled = self.settled(settings, models[0], features, cameras, found)
        seconds = time.monotonic() - start
        return Attempt(settings, features, found, models, settled, count, pairing, seconds)

    def _known_cameras(self, cameras: Sequence[Any]) -> set[int]:
        """Ids of the cameras whose intrinsics the dataset gives."""
        return {c.camera_id for c, v in zip(cameras, self.capture.views) if v.focal_from == "file"}

    def settled(
        self, settings: AttemptSettings, model: Any, features: Sequence[PhotoFeatures], cameras: Sequence[Any],
        found: dict,
    ) -> Settled:  # fmt: skip
        """`settle` of a model of these features and matches."""

        def mirror_images(ids: Sequence[int]) -> dict[str, str]:
            by = settings.features, settings.matching
            return mirrored_reasons(
                self.capture.views, features, cameras, found, ids, by, self.workdir, self.sfm.seed
            )  # fmt: skip

        return settle(
            self.capture, model, features, found, self._known_cameras(cameras), self.sfm.seed, self.threads,
            self.report, mirror_images,
        )  # fmt: skip

    def with_placed(
        self, best: Attempt, matcher: SparseMatcher, depth: DepthPrior
    ) -> tuple[Attempt, tuple[Placement, ...]]:
        """The attempt with photos that it misses placed by the depth of others, and which."""
        assert best.settled is not None
        settings, views, seed = best.settings, self.capture.views, self.sfm.seed
        cameras = mapping.make_cameras(views, best.features)
        names = {*best.settled.left_out} | mirrored_reasons(
            views, best.features, cameras, best.geometries, best.registered, (settings.features, settings.matching),
            self.workdir, seed,
        ).keys()  # fmt: skip
        missing = [i for i, v in enumerate(views) if i not in best.registered and v.name not in names]
        features, found = best.features, best.geometries
        if missing and not settings.added:
            wanted = sorted((min(i, j), max(i, j)) for i in missing for j in best.registered)
            both = joint_matches(
                views, features, cameras, wanted, found, matcher, settings.matching, self.workdir / "features",
                self.report, seed, self.threads, missing,
            )  # fmt: skip
            if both is not None:
                features, more = both
                found = {p: g for p, g in found.items() if p not in set(wanted)} | more
        model, placements = place_by_depth(
            self.capture, best.model, features, cameras, found, missing, depth, self._known_cameras(cameras),
            self.report, seed, self.threads,
        )  # fmt: skip
        if placements:
            settled = self.settled(settings, model, features, cameras, found)
            # What was placed must not cost what stood before.
            if {*best.registered} <= {*registered_ids(settled.model)}:
                kept = {views[i].name for i in registered_ids(settled.model)}
                best = replace(best, features=features, geometries=found, settled=settled)
                return best, tuple(p for p in placements if p.name in kept)
        return best, ()

    def _refuse_hopeless(
        self, settings: AttemptSettings, features: Sequence[PhotoFeatures], cameras: Sequence[Any], found: dict
    ) -> None:
        """Raises SplatError where the matches of the first attempt show that no later one can succeed."""
        self.motions = motions(self.capture.views, features, found)
        reason = background_stays(features, cameras, self._stayed, settings.matching, self.sfm.seed)
        if reason := reason or one_place(self.motions):
            raise SplatError(reason)
