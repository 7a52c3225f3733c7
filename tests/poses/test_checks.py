"""Warnings about models that look complete, and reasons for photos that were not registered."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from splat.core.camera import Camera
from splat.core.capture import Capture, PointCloud, Tracks, View
from splat.core.geometry import Rigid, rotation_from_axis_angle
from splat.poses.checks import (
    consistency_warnings,
    implausible_field_of_view,
    points_behind_cameras,
    trajectory_jumps,
)
from splat.poses.doubts import duplicated_surfaces, inconsistent_rotations
from splat.poses.evidence import PairEvidence, rotation_angles
from splat.poses.features import PhotoFeatures
from splat.poses.unregistered import unregistered_reasons


def walk(n: int = 30) -> Capture:
    """A video that walks along x and turns slowly."""
    views = []
    for i in range(n):
        turn = rotation_from_axis_angle(torch.tensor([0.0, 0.02 * i, 0.0], dtype=torch.float64))
        pose = Rigid(turn, torch.tensor([0.1 * i + 0.01 * (i % 3), 0.0, 0.0], dtype=torch.float64))
        views.append(View(f"{i:03d}", Path("x"), (40, 30), Camera(30.0, 30.0, 20.0, 15.0, 40, 30), pose))
    return Capture(tuple(views), kind="video")


def shifted(capture: Capture, start: int, by: Rigid) -> Capture:
    views = [v if i < start else replace(v, world_from_cam=by @ v.world_from_cam) for i, v in enumerate(capture.views)]
    return capture.with_views(tuple(views))


def test_a_steady_walk_has_no_trajectory_jumps() -> None:
    assert trajectory_jumps(walk()) is None


def test_a_leap_between_neighbouring_frames_is_named() -> None:
    eye = torch.eye(3, dtype=torch.float64)
    leap = shifted(walk(), 12, Rigid(eye, torch.tensor([0.0, 3.0, 0.0], dtype=torch.float64)))
    sentence = trajectory_jumps(leap)
    assert sentence is not None and "011 to 012" in sentence
    turn = rotation_from_axis_angle(torch.tensor([0.0, 0.0, 1.2], dtype=torch.float64))
    turned = shifted(walk(), 20, Rigid(turn, torch.zeros(3, dtype=torch.float64)))
    assert "019 to 020" in (trajectory_jumps(turned) or "")


def test_jumps_are_only_looked_for_in_videos() -> None:
    eye = torch.eye(3, dtype=torch.float64)
    leap = shifted(walk(), 12, Rigid(eye, torch.tensor([0.0, 3.0, 0.0], dtype=torch.float64)))
    assert consistency_warnings(leap) and not consistency_warnings(replace(leap, kind="photos"))


def test_standing_still_does_not_make_the_next_step_a_jump() -> None:
    views = walk().views
    poses = [views[i].world_from_cam for i in [*range(10), *[10] * 10, *range(11, 21)]]
    assert (
        trajectory_jumps(walk().with_views(tuple(replace(v, world_from_cam=p) for v, p in zip(views, poses)))) is None
    )


def pairs(errors: list[float | None], shared: int = 40) -> list[PairEvidence]:
    return [PairEvidence(f"a{i}", f"b{i}", 100 + i, shared, e) for i, e in enumerate(errors)]


def test_pairs_that_contradict_the_model_are_reported_with_the_strongest() -> None:
    assert inconsistent_rotations(pairs([1.0] * 20)) is None
    assert inconsistent_rotations(pairs([1.0] * 19 + [40.0])) is None  # one pair may be wrong itself
    sentence = inconsistent_rotations(pairs([1.0] * 12 + [40.0, 90.0, 120.0]))
    assert sentence is not None and "3 of 15" in sentence and "a14" in sentence
    assert inconsistent_rotations(pairs([None] * 20)) is None


def test_strong_pairs_without_common_points_are_a_surface_that_stands_twice() -> None:
    assert duplicated_surfaces(pairs([None] * 10)) is None
    twice = pairs([None] * 6) + pairs([None] * 4, shared=1)
    assert "twice" in (duplicated_surfaces(twice) or "")


def test_points_behind_cameras_are_counted() -> None:
    capture = walk(4)
    points = torch.tensor([[0.0, 0.0, 5.0], [0.0, 0.0, -5.0]])
    ids = torch.tensor([0, 0, 1, 2])
    seen = Tracks(ids, torch.tensor([0, 0, 0, 0]), torch.zeros(4, 2))
    ahead = replace(capture, points=PointCloud(points, torch.zeros(2, 3)), tracks=seen)
    assert points_behind_cameras(ahead) is None
    behind = replace(ahead, tracks=replace(seen, point_ids=torch.tensor([0, 1, 1, 0])))
    assert "50 %" in (points_behind_cameras(behind) or "")


def test_a_lens_nobody_makes_is_doubted() -> None:
    capture = walk(3)
    assert implausible_field_of_view(capture) is None
    tele = [replace(v, camera=replace(v.camera, fx=2000.0)) for v in capture.views]
    assert "degrees" in (implausible_field_of_view(capture.with_views(tuple(tele))) or "")


def test_rotation_angles_are_those_of_the_axis_angle() -> None:
    r = rotation_from_axis_angle(torch.tensor([[0.3, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, -2.0, 0.0]]).double())
    assert rotation_angles(r.numpy()) == pytest.approx(np.degrees([0.3, 0.0, 2.0]), abs=1e-5)


# ------------------------------------------------------------------------------------------------- unregistered photos


def photo(count: int = 1000, sharpness: float = 500.0) -> PhotoFeatures:
    n = np.zeros
    return PhotoFeatures(n((count, 2)), n(count), n((count, 128)), n((count, 3)), (40, 30), sharpness)


def matches(*pairs: tuple[int, int, int]) -> dict[tuple[int, int], SimpleNamespace]:
    return {(i, j): SimpleNamespace(inlier_matches=np.zeros((n, 2), np.uint32)) for i, j, n in pairs}


def test_reasons_follow_from_what_was_measured() -> None:
    views = walk(9).views
    features = [photo() for _ in range(9)]
    features[3] = photo(count=40)
    features[4] = photo(sharpness=20.0)
    found = matches((0, 1, 300), (1, 2, 200), (0, 5, 14), (6, 7, 80), (7, 8, 60))
    why = unregistered_reasons(views, features, found, {0, 1, 2})
    assert set(why) == {f"{i:03d}" for i in range(3, 9)}
    assert why["003"].startswith("little texture: 40 features")
    assert why["004"].startswith("blurred")
    assert "at most 14, with 000" in why["005"]
    for name in ("006", "007", "008"):
        assert "separate group of 3 photos" in why[name]


def test_a_photo_that_nobody_matches_has_no_overlap() -> None:
    why = unregistered_reasons(walk(3).views, [photo() for _ in range(3)], matches((0, 1, 90)), {0, 1})
    assert why == {"002": "no overlap found: it shows no points that another photo shows"}


def test_photos_of_a_smaller_model_are_its_group() -> None:
    found = matches((0, 1, 90), (1, 2, 20), (2, 3, 90))
    why = unregistered_reasons(walk(4).views, [photo() for _ in range(4)], found, {0, 1}, [[2, 3]])
    assert "at most 20, with 001" in why["002"]
    assert "separate group of 2 photos, with 002" in why["003"]
