"""Bundles of tensors, and captures as values: every edit leaves the rest consistent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from splat.core.camera import Camera
from splat.core.capture import Capture, PointCloud, Tracks, View
from splat.core.geometry import Rigid, Similarity, rotation_from_axis_angle

CAMERA = Camera(500.0, 510.0, 320.0, 240.0, 640, 480)


def cloud(n: int) -> PointCloud:
    return PointCloud(torch.randn(n, 3), torch.rand(n, 3))


def capture(n_views: int = 4, n_points: int = 30) -> Capture:
    """Cameras that look at a cloud, and exact tracks."""
    points = cloud(n_points)
    views = []
    for i in range(n_views):
        eye = torch.tensor([i - 1.5, -0.3 * i, -8.0])
        pose = Rigid.look_at(eye, torch.zeros(3), torch.tensor([0.0, -1, 0]))
        views.append(
            View(
                name=f"{i}.png",
                image_path=Path(f"{i}.png"),
                photo_size=(640, 480),
                camera=CAMERA,
                world_from_cam=pose,
                role="test" if i == 1 else "train",
            )
        )
    view_ids = torch.arange(n_views).repeat_interleave(n_points)
    point_ids = torch.arange(n_points).repeat(n_views)
    pixels = torch.cat([v.camera.project(v.world_from_cam.inverse().apply(points.positions)) for v in views])
    return Capture(views=tuple(views), points=points, tracks=Tracks(view_ids, point_ids, pixels))


def reprojection_error(c: Capture) -> float:
    """Largest distance in pixels between a track and the projection of its point."""
    worst = 0.0
    for i, v in enumerate(c.views):
        mine = c.tracks.view_ids == i
        points = c.points.positions[c.tracks.point_ids[mine].long()]
        seen = v.camera.project(v.world_from_cam.inverse().apply(points))
        worst = max(worst, float((seen - c.tracks.pixels[mine]).abs().max()))
    return worst


def test_a_bundle_transforms_every_tensor() -> None:
    c = cloud(5)
    assert len(c) == 5
    assert c.to(torch.float64).rgb.dtype == torch.float64
    picked = c[torch.tensor([3, 0])]
    torch.testing.assert_close(picked.positions, c.positions[[3, 0]])
    torch.testing.assert_close(picked.rgb, c.rgb[[3, 0]])
    copy = c.clone()
    copy.rgb.zero_()
    assert c.rgb.any()


def test_splitting_and_joining_a_bundle_is_the_identity() -> None:
    c = cloud(7)
    joined = PointCloud.cat([c[:3], c[3:4], c[4:]])
    torch.testing.assert_close(joined.positions, c.positions)
    torch.testing.assert_close(joined.rgb, c.rgb)


def test_detach_cuts_the_graph() -> None:
    c = PointCloud(torch.zeros(2, 3, requires_grad=True), torch.zeros(2, 3))
    assert not c.detach().positions.requires_grad


def test_the_test_capture_is_exact() -> None:
    assert reprojection_error(capture()) < 1e-3


@pytest.mark.parametrize(
    "size", [{"max_resolution": 200}, {"downscale": 2.7}, {"downscale": 3.0, "max_resolution": 100}]
)
def test_tracks_follow_the_working_size(size: dict) -> None:
    small = capture().resized(**size)
    assert max(small.views[0].camera.width, small.views[0].camera.height) <= size.get("max_resolution", 640)
    assert reprojection_error(small) < 1e-3


def test_resizing_never_enlarges() -> None:
    assert capture().resized(max_resolution=4000).views[0].camera == CAMERA


def test_tracks_follow_a_selection_of_views() -> None:
    c = capture().select([True, False, True, True])
    assert [v.name for v in c.views] == ["0.png", "2.png", "3.png"]
    assert set(c.tracks.view_ids.tolist()) == {0, 1, 2}
    assert reprojection_error(c) < 1e-3


def test_the_empty_selection_is_an_empty_capture() -> None:
    c = capture().select([False] * 4)
    assert not c.views and len(c.tracks.view_ids) == 0


def test_another_frame_changes_no_picture_and_is_remembered() -> None:
    a_from_world = Similarity(
        3.0, rotation_from_axis_angle(torch.tensor([0.3, -1.0, 0.4]).double()), torch.tensor([5.0, 0, 1]).double()
    )
    b_from_a = Similarity(
        0.5, rotation_from_axis_angle(torch.tensor([1.0, 0.2, 0.0]).double()), torch.tensor([0.0, -2, 1]).double()
    )
    c = capture()
    moved = c.transformed(a_from_world).transformed(b_from_a)
    assert reprojection_error(moved) < 1e-3
    back = moved.world_from_source.inverse().apply(moved.camera_centres())
    torch.testing.assert_close(back, c.camera_centres())
    home = moved.world_from_source.inverse().apply(moved.points.positions.double())
    torch.testing.assert_close(home, c.points.positions.double(), atol=1e-5, rtol=0)


def test_train_and_test_views_partition_the_capture() -> None:
    c = capture()
    assert [v.name for v in c.test_views] == ["1.png"]
    assert {v.name for v in c.train_views} | {v.name for v in c.test_views} == {v.name for v in c.views}


def test_a_capture_is_posed_only_when_every_view_is() -> None:
    c = capture()
    assert c.posed
    partly = c.with_views((replace(c.views[0], world_from_cam=None), *c.views[1:]))
    assert not partly.posed
    assert len(partly.camera_centres()) == 3
