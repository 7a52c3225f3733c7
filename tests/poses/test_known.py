"""Given poses stay as they are; points and held-out photos are found with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from splat.core.capture import Capture
from splat.core.errors import SplatError
from splat.core.geometry import Rigid, Similarity
from splat.core.slots import PoseResult, Silent
from splat.poses import Known
from splat.poses.evidence import sampson_error
from splat.poses.known import _neighbour_pairs
from splat.poses.normalize import normalize
from splat.poses.registration import LocalizeSettings, localize


@pytest.fixture(scope="module")
def given(world) -> Capture:
    """The seven photos of the boards with their true cameras; the fourth is held out."""
    views = [
        replace(v, world_from_cam=t, camera=world.camera, focal_from="file", role="test" if i == 3 else "train")
        for i, (v, t) in enumerate(zip(world.capture.views[:7], world.truth))
    ]
    return Capture(tuple(views))


@pytest.fixture(scope="module")
def with_points(given, sfm_folder) -> PoseResult:
    return Known(max_features_size=1600, max_features=1500)(given, sfm_folder, Silent())


QUICK = LocalizeSettings(max_size=1600, max_count=1500)  # features that `sfm_folder` has already


def test_given_poses_and_cameras_are_used_to_the_last_bit(given, with_points) -> None:
    for a, b in zip(with_points.capture.views, given.views):
        assert torch.equal(a.world_from_cam.matrix(), b.world_from_cam.matrix()) and a.camera == b.camera
    assert with_points.unregistered == {} and with_points.total == 7


def test_triangulated_points_lie_on_the_boards(world, with_points) -> None:
    points = with_points.capture.points.positions.double().numpy()
    assert len(points) > 200
    assert with_points.details["points_from"] == "triangulation"
    distances = []
    for corner, right, down in world.boards:
        normal = np.cross(right, down)
        distances.append(np.abs((points - corner) @ (normal / np.linalg.norm(normal))))
    assert float(np.percentile(np.min(distances, 0), 90)) < 0.02  # of scenes 4 deep


@pytest.mark.parametrize("count", [2, 3])
def test_the_fewest_views_are_matched_with_each_other(given, count: int) -> None:
    pairs = _neighbour_pairs(given.select([i < count for i in range(7)]), 12)
    assert pairs == [(i, j) for i in range(count) for j in range(i + 1, count)]


def test_held_out_views_lend_no_points(with_points) -> None:
    tracks = with_points.capture.tracks
    assert not bool((tracks.view_ids == 3).any())
    assert set(tracks.view_ids.unique().tolist()) == {0, 1, 2, 4, 5, 6}


def test_views_without_a_pose_are_left_out_with_the_reason(given, tmp_path: Path) -> None:
    views = list(given.views)
    views[2] = replace(views[2], world_from_cam=None)
    result = Known(triangulate=False)(Capture(tuple(views)), tmp_path, Silent())
    assert result.unregistered == {views[2].name: "the dataset gives no pose for it"}
    assert len(result.capture.views) == 6 and result.total == 7
    with pytest.raises(SplatError, match="no camera poses"):
        Known()(Capture(tuple(replace(v, world_from_cam=None) for v in views)), tmp_path, Silent())


def test_points_are_used_however_few_there_are(given, sfm_folder: Path) -> None:
    known = Known(max_features_size=400, max_features=80)
    few = known(given.select([True] * 2 + [False] * 5), sfm_folder, Silent())
    assert few.capture.points is not None and 0 < len(few.capture.points) < 80
    assert few.details["points_from"] == "triangulation"


def test_points_of_the_dataset_are_kept(given, with_points, tmp_path: Path) -> None:
    brought = replace(given, points=with_points.capture.points)
    assert Known()(brought, tmp_path, Silent()).capture.points is brought.points


def testsampson_error_is_the_distance_from_the_line() -> None:
    pose = Rigid.look_at(torch.tensor([1.0, 0.2, 0.0]), torch.tensor([0.0, 0.0, 5.0]), torch.tensor([0.0, -1.0, 0.0]))
    b_from_a = pose.inverse()
    points = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)).double() + torch.tensor([0.0, 0.0, 5.0])
    there = b_from_a.apply(points)
    a, b = (points[:, :2] / points[:, 2:]).numpy(), (there[:, :2] / there[:, 2:]).numpy()
    r, t = b_from_a.rotation.numpy(), b_from_a.translation.numpy()
    assert float(sampson_error(a, b, r, t).max()) < 1e-9
    moved = b + np.array([0.0, 0.01])  # the baseline is nearly horizontal: lines are too
    assert sampson_error(a, moved, r, t) == pytest.approx(0.01 / 2**0.5, rel=0.2)


# ---------------------------------------------------------------------------------------------------- held-out photos


def test_a_held_out_photo_is_localized_where_it_was_taken(given, with_points, sfm_folder) -> None:
    frozen = with_points.capture.select([i != 3 for i in range(7)])
    before = frozen.points.positions.clone()
    fresh = replace(given.views[3], world_from_cam=None)
    found = localize(frozen, [fresh], sfm_folder, Silent(), QUICK)
    pose, truth = found[fresh.name].world_from_cam, given.views[3].world_from_cam
    assert float((pose.translation - truth.translation).norm()) < 0.02
    angle = torch.arccos((((pose.rotation.T @ truth.rotation).trace() - 1) / 2).clamp(-1, 1))
    assert float(torch.rad2deg(angle)) < 0.3
    assert torch.equal(frozen.points.positions, before)
    assert found[fresh.name].camera.fx == pytest.approx(given.views[3].camera.fx)


def test_held_out_photos_follow_the_frame_and_size_of_the_capture(given, with_points, sfm_folder) -> None:
    frozen = normalize(with_points.capture.select([i != 3 for i in range(7)])).resized(200)
    fresh = replace(given.views[3], world_from_cam=None)
    found = localize(frozen, [fresh], sfm_folder, Silent(), QUICK)[fresh.name].world_from_cam
    truth: Similarity = frozen.world_from_source
    expected = truth.apply_pose(given.views[3].world_from_cam)
    assert float((found.translation - expected.translation).norm()) < 0.02


def test_a_photo_of_another_place_is_left_out(world, with_points, sfm_folder) -> None:
    stranger = replace(world.capture.views[8], camera=world.camera)
    assert localize(with_points.capture, [stranger, world.capture.views[10]], sfm_folder, Silent(), QUICK) == {}


def test_an_unknown_camera_has_its_focal_length_estimated(world, with_points, sfm_folder) -> None:
    frozen = with_points.capture.select([i != 3 for i in range(7)])
    other = replace(world.capture.views[3], camera_group="someone else's")  # with a guess of 480 px, taken with 420
    found = localize(frozen, [other], sfm_folder, Silent(), QUICK)
    assert found[other.name].camera.fx == pytest.approx(world.camera.fx, rel=0.03)
