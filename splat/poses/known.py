"""Poses given by the dataset, used unchanged; sparse points are triangulated with them where it gives none."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from splat.core.capture import Capture, View
from splat.core.errors import SplatError
from splat.core.machine import available_cores
from splat.core.slots import PoseResult, Reporter, SparseMatcher
from splat.poses import features as feature_files
from splat.poses import mapping
from splat.poses.added_matches import MAX_PHOTOS, NEIGHBOURS, with_added_matches
from splat.poses.evidence import sampson_error
from splat.poses.features import FeatureSettings, PhotoFeatures, quiet
from splat.poses.matching import MatchSettings, match_pair, one_thread_each
from splat.poses.model import observations, reliable, to_capture
from splat.poses.normalize import optical_axes
from splat.poses.pose_check import Verdict, check_poses
from splat.poses.upright import estimate_up, parse_up, snapped


@dataclass(frozen=True)
class Known:
    """Uses the poses of the dataset."""

    up: str = "auto"
    """Which way is up in the dataset's frame: "auto" (from the cameras), "z", "-y", "0,0,1", ..."""
    triangulate: bool = True
    """Triangulate sparse points with the given poses, where the dataset has none."""
    max_features_size: int = 1000
    """Long side of the photos in which features are detected, px."""
    max_features: int = 2048
    """Features per photo."""
    neighbours: int = 12
    """Each photo is matched with this many others, nearest in position and viewing direction."""
    matches: Literal["auto", "sift", "disk"] = "auto"
    """What points are triangulated from: sift; disk: SIFT, and DISK + LightGlue, whose weights pip brings (see `splat
    doctor`); auto: these too where they are found and at most 12 photos are trained on."""
    check: bool = True
    """Compare the poses with matches between the photos and warn where they contradict each other."""
    seed: int = 0

    def may_add_matches(self, capture: Capture) -> bool:
        """Whether a call would use a matcher beside SIFT."""
        if self.matches == "sift" or not self.triangulate or capture.points is not None:
            return False
        posed = sum(v.world_from_cam is not None for v in capture.train_views)
        return posed >= 2 and (self.matches == "disk" or posed <= MAX_PHOTOS)

    @property
    def needs_matcher(self) -> bool:
        """Whether a matcher beside SIFT was asked for by name."""
        return self.matches == "disk"

    def __call__(
        self, capture: Capture, workdir: Path, report: Reporter, matcher: SparseMatcher | None = None
    ) -> PoseResult:
        """`matcher`: used beside SIFT where `may_add_matches`. Raises SplatError when no view has a pose."""
        keep = [v.world_from_cam is not None for v in capture.views]
        if not any(keep):
            raise SplatError("the dataset has no camera poses: find them with `Sfm`.")
        unregistered = {v.name: "the dataset gives no pose for it" for v, k in zip(capture.views, keep) if not k}
        posed = capture if all(keep) else capture.select(keep)
        details: dict[str, Any] = {"points_from": "dataset" if posed.points is not None else "none"}
        verdict = Verdict()
        if posed.points is None and self.triangulate and len(posed.train_views) >= 2:
            with_points, verdict = self._triangulated(
                posed, workdir, report, matcher if self.may_add_matches(posed) else None
            )
            if with_points is not None:
                posed, details["points_from"] = with_points, "triangulation"
        elif self.check:
            verdict = self._checked_in_part(posed, workdir, report)
        if self.check:
            details["check"] = verdict.details
        up = parse_up(self.up)
        details["up"] = (snapped(estimate_up(posed)) if up is None else up).tolist()
        return PoseResult(posed, unregistered, verdict.warnings, len(capture.views), details)

    def _checked_in_part(self, capture: Capture, workdir: Path, report: Reporter) -> Verdict:
        """What matches between some of the training views say, of a dataset that brings points: six views and their
        nearest two. Nothing depends on it: photos that cannot be read are reported by who needs them."""
        train = capture.training()
        if len(train.views) < 3:
            return Verdict()
        near = _neighbour_pairs(train, 2)
        anchors = np.linspace(0, len(train.views) - 1, min(6, len(train.views))).round().astype(int).tolist()
        ids = sorted({k for pair in near if not set(pair).isdisjoint(anchors) for k in pair} | set(anchors))
        few = train.select([i in set(ids[:18]) for i in range(len(train.views))])
        settings = FeatureSettings(max_size=min(800, self.max_features_size), max_count=min(1024, self.max_features))
        threads = available_cores()
        features = feature_files.extract(few.views, settings, workdir / "features", report, threads)
        quiet()
        match, pairs = MatchSettings(), _neighbour_pairs(few, 3)

        def work(pair: tuple[int, int]) -> np.ndarray:
            return match_pair(features[pair[0]], features[pair[1]], match)

        raw = dict(zip(pairs, one_thread_each(work, pairs, threads)))
        return check_poses(few, features, _cameras(few, features)[0], raw, threads, self.seed)

    def _triangulated(
        self, capture: Capture, workdir: Path, report: Reporter, matcher: SparseMatcher | None
    ) -> tuple[Capture | None, Verdict]:
        """The capture with points observed by its training views, None where there are none; and what their matches say
        about the poses."""
        ids = [i for i, v in enumerate(capture.views) if v.role == "train"]
        train = capture.training()
        settings = FeatureSettings(max_size=self.max_features_size, max_count=self.max_features)
        threads = available_cores()
        features = feature_files.extract(train.views, settings, workdir / "features", report, threads)
        raw: dict[tuple[int, int], np.ndarray] = {}
        more: dict[tuple[int, int], np.ndarray] = {}
        joined = features
        if matcher is not None:
            near = _neighbour_pairs(train, min(self.neighbours, NEIGHBOURS))
            folder = workdir / "features"
            joined, more = with_added_matches(train.views, features, near, matcher, folder, report, threads)
        result = triangulate(train, joined, self.neighbours, workdir, report, threads, self.seed, raw, more)
        verdict = Verdict()
        if self.check:
            verdict = check_poses(train, features, _cameras(train, features)[0], raw, threads, self.seed)
        if result is None or result.points is None or not len(result.points):
            report.info("no points were found with the given poses")
            return None, verdict
        kind = "SIFT" if matcher is None else f"SIFT and {matcher.name}"
        report.info(f"{len(result.points)} points triangulated with the given poses, from matches of {kind}")
        assert result.tracks is not None
        tracks = replace(result.tracks, view_ids=torch.tensor(ids)[result.tracks.view_ids])
        return replace(capture, points=result.points, tracks=tracks), verdict


def _cameras(capture: Capture, features: list[PhotoFeatures]) -> tuple[list[Any], list[View]]:
    """A pycolmap.Camera of its own for each view, with the given intrinsics; and the views that say so."""
    views = [replace(v, focal_from="file", camera_group=f"{i}") for i, v in enumerate(capture.views)]
    return mapping.make_cameras(views, features), views


def triangulate(
    capture: Capture, features: list[PhotoFeatures], neighbours: int, workdir: Path, report: Reporter, threads: int,
    seed: int, raw: dict[tuple[int, int], np.ndarray] | None = None,
    more: dict[tuple[int, int], np.ndarray] | None = None,
) -> Capture | None:  # fmt: skip
    """The fully posed capture with triangulated points and tracks, otherwise unchanged; None without matches. `raw`
    receives the matches of each pair by SIFT before the poses have a say; `more` has others, of features that follow
    those with a descriptor."""
    import pycolmap

    quiet()
    cameras, views = _cameras(capture, features)
    cam_from_world = [v.world_from_cam.inverse() for v in views if v.world_from_cam is not None]
    match = MatchSettings()
    pairs = _neighbour_pairs(capture, neighbours)

    def work(pair: tuple[int, int]) -> np.ndarray:
        i, j = pair
        rows = match_pair(features[i], features[j], match)
        if raw is not None:
            raw[pair] = rows
        if more and pair in more:
            rows = np.concatenate([rows, more[pair]])
        if not len(rows):
            return rows
        j_from_i = cam_from_world[j] @ cam_from_world[i].inverse()
        a = cameras[i].cam_from_img(features[i].xy[rows[:, 0]].astype(np.float64))
        b = cameras[j].cam_from_img(features[j].xy[rows[:, 1]].astype(np.float64))
        error = sampson_error(np.asarray(a), np.asarray(b), j_from_i.rotation.numpy(), j_from_i.translation.numpy())
        return rows[error * cameras[j].mean_focal_length() < match.max_error]

    geometries = {}
    for done, (pair, rows) in enumerate(zip(pairs, one_thread_each(work, pairs, threads)), 1):
        if len(rows) >= 8:
            geometry = pycolmap.TwoViewGeometry()
            geometry.config = int(pycolmap.TwoViewGeometryConfiguration.CALIBRATED)
            geometry.inlier_matches = rows
            geometries[pair] = geometry
        if done % 20 == 0 or done == len(pairs):
            report.progress(done, len(pairs), step="points")
    if not geometries:
        return None
    folder = Path(tempfile.mkdtemp(prefix=".points-", dir=workdir))
    try:
        database = folder / "database.db"
        mapping.write_database(database, [v.name for v in views], features, cameras, geometries)
        model = pycolmap.Reconstruction()
        for i, (view, camera, pose) in enumerate(zip(views, cameras, cam_from_world), 1):
            model.add_camera_with_trivial_rig(camera)
            image = pycolmap.Image(name=mapping.in_utf8(view.name), camera_id=camera.camera_id, image_id=i)
            matrix = np.concatenate([pose.rotation.numpy(), pose.translation.numpy()[:, None]], 1)
            model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(matrix))
        options = pycolmap.IncrementalPipelineOptions()
        options.num_threads = threads
        options.random_seed = options.triangulation.random_seed = seed
        options.extract_colors = False
        options.triangulation.ignore_two_view_tracks = len(views) > 8
        model = pycolmap.triangulate_points(model, database, folder, folder, True, options)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    points = observations(model)
    points = points.select(reliable(points))
    if not len(points.xyz):
        return None
    found = to_capture(capture, model, features, points, keep_cameras=True)
    return replace(capture, points=found.points, tracks=found.tracks)


def _neighbour_pairs(capture: Capture, count: int) -> list[tuple[int, int]]:
    """Each view with its `count` nearest in position and viewing direction: pairs (i < j), sorted."""
    centres = capture.camera_centres().double()
    axes = optical_axes([v.world_from_cam for v in capture.views if v.world_from_cam is not None])
    far = torch.cdist(centres, centres)
    angle = torch.arccos((axes @ axes.T).clamp(-1, 1))
    # The median counts each view's distance to itself: of two views it is 0.
    width = float(far.median()) or float(far.max())
    # A radian between the axes costs as much as twice the median distance; beyond 75 degrees there is no overlap.
    cost = far / max(width, 1e-12) + 2 * angle + torch.where(angle > 1.3, 1e3, 0.0)
    cost.fill_diagonal_(1e6)
    pairs = set()
    for i, row in enumerate(torch.argsort(cost, dim=1, stable=True)[:, :count].tolist()):
        pairs |= {(min(i, j), max(i, j)) for j in row if float(cost[i, j]) < 1e3}
    return sorted(pairs)
