"""Cameras between photos see the surfaces that the photos measured."""

import planes
import torch

from splat.core.camera import Camera
from splat.geometry.between import pose_between, splatted, surfaces_between
from splat.geometry.reproject import PosedDepth

CAMERA = Camera(150.0, 155.0, 83.0, 57.0, 160, 120)


def test_the_way_starts_at_one_camera_and_ends_at_the_other():
    a, b = planes.walk(3)[::2]
    for t, end in ((0.0, a), (1.0, b)):
        pose = pose_between(a, b, t)
        assert torch.allclose(pose.translation, end.translation) and torch.allclose(pose.rotation, end.rotation)
    middle = pose_between(a, b, 0.5)
    assert torch.allclose(middle.translation, (a.translation + b.translation) / 2)
    assert torch.allclose(middle.rotation @ middle.rotation.T, torch.eye(3).to(middle.rotation), atol=1e-6)


def test_the_nearest_point_of_a_pixel_wins_and_where_none_falls_nothing_is_known():
    points = torch.tensor([[0.0, 0, 4], [0, 0, 2], [10, 0, 1]])
    pose = planes.walk(1)[0]
    world = pose.apply(points.double()).float()
    depth = splatted(CAMERA, pose, world)
    assert abs(float(depth[57, 83]) - 2) < 1e-5
    assert int((depth > 0).sum()) == 9


def test_a_plane_is_where_it_is_for_cameras_between():
    scene = planes.PlaneScene.make(20.0)
    depths = [PosedDepth(CAMERA, p, scene.depth(CAMERA, p).float()) for p in planes.walk(3)]
    found = surfaces_between(depths)
    assert len(found) >= 6
    for view in found:
        truth = scene.depth(view.camera, view.world_from_cam).float()
        known = view.depth > 0
        assert float(known.float().mean()) > 0.3
        assert float((view.depth / truth - 1).abs()[known].quantile(0.95)) < 0.03
