"""Matches between photos by their depth maps."""

from __future__ import annotations

import planes
import pytest
import torch

from splat.core.camera import Camera
from splat.geometry.depth_flow import MAX_ERROR, consistent, match_pairs, pixels_in
from splat.geometry.reproject import PosedDepth

CAMERA = Camera(110.0, 110.0, 60.0, 45.0, 120, 90)
SCENE, POSES = planes.PlaneScene.make(20.0), planes.walk(3)


def centres(h: int = 40, w: int = 60) -> torch.Tensor:
    return Camera(1.0, 1.0, 0.0, 0.0, w, h).pixel_centres()


def test_identical_photos_match_everywhere() -> None:
    assert bool(consistent(centres(), centres()).all())


def test_an_error_up_to_the_published_limit_passes_and_a_larger_one_does_not() -> None:
    assert pytest.approx(1.386, abs=1e-3) == MAX_ERROR
    for error, passes in ((1.3, True), (1.45, False)):
        backward = centres() + torch.tensor([error / 2, -error / 2])  # |dx| + |dy|
        found = consistent(centres(), backward)
        assert bool(found.all()) if passes else not bool(found.any())


def test_what_is_invalid_grows_by_two_pixels() -> None:
    forward = centres()
    forward[20, 30] = torch.nan
    found = consistent(forward, centres())
    expected = torch.ones(40, 60, dtype=torch.bool)
    expected[18:23, 28:33] = False
    assert torch.equal(found, expected)


def test_sizes_may_differ() -> None:
    forward, backward = centres() / 2, 2 * centres(20, 30)
    assert bool(consistent(forward, backward).all())


def test_matches_of_true_depth_are_where_the_other_photo_shows_the_point() -> None:
    depths = [PosedDepth(CAMERA, p, SCENE.depth(CAMERA, p).float()) for p in POSES]
    pairs = match_pairs(depths)
    assert {(p.view_a, p.view_b) for p in pairs} == {(i, j) for i in range(3) for j in range(3) if i != j}
    for p in pairs:
        assert len(p.pixel_ids) > 4000
        d = depths[p.view_a].depth.reshape(-1)[p.pixel_ids]
        points = POSES[p.view_a].apply(CAMERA.unproject(p.pixels_a, d).double())
        there = CAMERA.project(POSES[p.view_b].inverse().apply(points))
        assert float((there - p.pixels_b).abs().max()) < 1e-3
        assert float(((points - SCENE.origin) @ SCENE.normal).abs().max()) < 1e-4


def test_what_is_occluded_or_unknown_has_no_match() -> None:
    near = SCENE.depth(CAMERA, POSES[1]).float()
    near[30:60, 40:80] = 1.5  # something in front of one camera alone
    near[:10] = 0
    depths = [PosedDepth(CAMERA, POSES[0], SCENE.depth(CAMERA, POSES[0]).float()), PosedDepth(CAMERA, POSES[1], near)]
    assert bool(pixels_in(depths[1], depths[0])[:10].isnan().all())
    for p in match_pairs(depths):
        if p.view_a == 1:
            row, column = p.pixel_ids // 120, p.pixel_ids % 120
            assert not bool(((row < 12) | ((row >= 30) & (row < 60) & (column >= 40) & (column < 80))).any())


def test_photos_that_share_nothing_have_no_pairs() -> None:
    away = planes.Rigid.look_at(torch.tensor([0.0, 0, 0]), torch.tensor([0.0, 0, -4.0]), torch.tensor([0.0, -1.0, 0]))
    flat = torch.full((90, 120), 4.0)
    assert match_pairs([PosedDepth(CAMERA, POSES[0], flat), PosedDepth(CAMERA, away, flat)]) == []
