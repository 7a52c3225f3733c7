"""Near and far where nothing but photos and poses is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import planes
import pytest
import torch

from splat.core.camera import Camera
from splat.core.geometry import Similarity
from splat.core.slots import Silent
from splat.priors.depth_range import with_bounds
from splat.priors.neighbours import overlap

CAMERA = Camera(220.0, 220.0, 120.0, 90.0, 240, 180)


@pytest.mark.parametrize(("photos", "tilt"), [(2, 0.0), (3, 40.0), (5, 20.0)])
def test_a_sweep_finds_how_near_and_far_photos_look(tmp_path: Path, photos: int, tilt: float) -> None:
    scene, poses = planes.PlaneScene.make(tilt), planes.walk(photos)
    capture = replace(planes.capture_of(scene, CAMERA, poses, tmp_path), points=None)
    for view in with_bounds(capture, Silent()).views:
        assert view.bounds is not None
        near, far = view.bounds
        truth = scene.depth(CAMERA, view.pose)
        low, high = float(truth.quantile(0.02)), float(truth.quantile(0.98))
        assert 0.5 * low < near < low and high < far < 2.2 * high


def test_bounds_follow_the_scale_of_the_world(tmp_path: Path) -> None:
    scene = planes.PlaneScene.make(20.0)
    capture = replace(planes.capture_of(scene, CAMERA, planes.walk(3), tmp_path), points=None)
    moved = Similarity(7.0, torch.eye(3, dtype=torch.float64), torch.tensor([3.0, 1.0, -5.0], dtype=torch.float64))
    once, again = with_bounds(capture, Silent()).transformed(moved), with_bounds(capture.transformed(moved), Silent())
    for a, b in zip(once.views, again.views):
        assert a.bounds is not None and a.bounds == pytest.approx(b.bounds, rel=0.02)


def test_photos_of_nothing_in_common_get_no_bounds(tmp_path: Path) -> None:
    capture = planes.capture_of(planes.PlaneScene.make(0.0), CAMERA, planes.walk(1), tmp_path / "a")
    other = planes.capture_of(planes.PlaneScene.make(0.0, seed=5), CAMERA, planes.walk(2)[1:], tmp_path / "b")
    both = replace(capture, views=(*capture.views, replace(other.views[0], name="b/1.png")), points=None)
    assert [v.bounds for v in with_bounds(both, Silent()).views] == [None, None]


def test_given_bounds_are_kept_and_bound_the_search(tmp_path: Path) -> None:
    capture = planes.capture_of(planes.PlaneScene.make(0.0), CAMERA, planes.walk(3), tmp_path)
    bare = replace(capture, points=None, views=tuple(replace(v, bounds=(3.0, 6.0)) for v in capture.views))
    assert all(v.bounds == (3.0, 6.0) for v in with_bounds(bare, Silent()).views)
    assert torch.allclose(overlap(bare).depths, torch.tensor([2.7, 7.2], dtype=torch.float64))


def test_points_overrule_bounds_that_they_contradict(tmp_path: Path) -> None:
    capture = planes.capture_of(planes.PlaneScene.make(0.0), CAMERA, planes.walk(3), tmp_path)
    wrong = capture.with_views(tuple(replace(v, bounds=(30.0, 60.0)) for v in capture.views))
    assert torch.equal(overlap(wrong).depths, overlap(capture).depths)
