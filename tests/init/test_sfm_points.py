"""The first Gaussians stand where the points are, or where the cameras look."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from splat.core.camera import Camera
from splat.core.capture import Capture, PointCloud, View
from splat.core.errors import SplatError
from splat.core.geometry import Rigid, Similarity, rotation_from_axis_angle
from splat.core.slots import Initializer, Silent
from splat.init import DenseSurfaces, PublishedEdgs, SfmPoints
from splat.init.sfm_points import random_positions, surrounded_box

CAMERA = Camera(fx=500.0, fy=500.0, cx=200.0, cy=150.0, width=400, height=300)
UP = torch.tensor([0.0, 0, 1])


def view(eye, target, name="a.jpg", role="train") -> View:
    pose = Rigid.look_at(torch.tensor(eye), torch.tensor(target), UP)
    return View(name, Path(name), (400, 300), CAMERA, pose, role=role)


def ring(n=12, radius=4.0, centre=(0.0, 0.0, 0.0)) -> tuple[View, ...]:
    """Cameras on a dome around `centre`, looking at it."""
    views = []
    for i in range(n):
        a, h = 2 * math.pi * i / n, 0.3 + 0.4 * (i % 3) / 2
        offset = [math.cos(a) * math.cos(h), math.sin(a) * math.cos(h), math.sin(h)]
        eye = [c + radius * o for c, o in zip(centre, offset)]
        views.append(view(eye, list(centre), f"{i}.jpg"))
    return tuple(views)


def forward(n=6) -> tuple[View, ...]:
    """Cameras side by side, all looking along +y."""
    return tuple(view([0.5 * i, 0.0, 0.0], [0.5 * i, 1.0, 0.0], f"{i}.jpg") for i in range(n))


def cloud(n=400, seed=0) -> PointCloud:
    rng = torch.Generator().manual_seed(seed)
    return PointCloud(torch.rand(n, 3, generator=rng) - 0.5, torch.rand(n, 3, generator=rng))


@pytest.mark.parametrize("initializer", [DenseSurfaces, PublishedEdgs, SfmPoints])
def test_every_initializer_is_one_by_its_defaults(initializer):
    assert isinstance(initializer(), Initializer)


@pytest.mark.parametrize("degree", [0, 3])
def test_one_gaussian_per_point(degree):
    points = cloud()
    g = SfmPoints(opacity=0.2)(Capture(ring(), points), degree, 0, Silent()).gaussians
    assert torch.equal(g.means, points.positions)
    assert torch.allclose(g.base_rgb, points.rgb, atol=1e-6)
    assert torch.allclose(g.opacities, torch.tensor(0.2)) and g.sh_degree == degree and not g.sh[:, 1:].any()
    spacing = torch.cdist(points.positions, points.positions).sort(1).values[:, 1:4].mean(1)
    assert torch.allclose(g.scales, spacing[:, None].expand(-1, 3), rtol=1e-3)
    assert torch.equal(g.covariances, g.covariances.diagonal(dim1=1, dim2=2).diag_embed())


def test_points_at_one_place_become_one_gaussian_of_their_mean_colour():
    points = cloud(50)
    doubled = PointCloud.cat([points, PointCloud(points.positions[:20], 1 - points.rgb[:20])])
    g = SfmPoints()(Capture(ring(), doubled), 0, 0, Silent()).gaussians
    assert torch.equal(g.means, points.positions)
    assert torch.allclose(g.base_rgb[:20], torch.tensor(0.5), atol=1e-6)
    assert torch.allclose(g.base_rgb[20:], points.rgb[20:], atol=1e-6)


def test_points_that_are_not_finite_are_left_out():
    points = cloud(50)
    points.positions[3, 1] = float("nan")
    points.positions[7] = float("inf")
    g = SfmPoints()(Capture(ring(), points), 0, 0, Silent()).gaussians
    assert len(g) == 48 and all(t.isfinite().all() for t in (g.means, g.log_scales, g.sh))


def test_a_stray_point_is_no_larger_than_a_part_of_its_distance_and_moves_no_other():
    points = cloud()
    before = SfmPoints()(Capture(ring(), points), 0, 0, Silent()).gaussians
    stray = PointCloud.cat([points, PointCloud(torch.tensor([[0.0, 0, 1000], [4.0, 0, 1.2]]), torch.rand(2, 3))])
    g = SfmPoints()(Capture(ring(), stray), 0, 0, Silent()).gaussians
    assert torch.allclose(g.scales[:-2], before.scales)
    centres = torch.stack([v.world_from_cam.translation for v in ring()]).float()
    nearest = torch.cdist(g.means[-2:], centres).min(1).values
    assert (g.scales[-2:, 0] <= 0.1001 * nearest).all()


def test_the_start_moves_with_the_world():
    capture = Capture(ring(), cloud())
    turn = rotation_from_axis_angle(torch.tensor([0.3, 1.0, -0.5], dtype=torch.float64))
    moved = Similarity(7.0, turn, torch.tensor([1.0, 2, 3], dtype=torch.float64))
    a = SfmPoints()(capture, 0, 0, Silent()).gaussians.transformed(moved)
    b = SfmPoints()(capture.transformed(moved), 0, 0, Silent()).gaussians
    assert torch.allclose(a.means, b.means, atol=1e-5) and torch.allclose(a.log_scales, b.log_scales, atol=1e-4)


def test_cameras_on_a_dome_surround_what_they_look_at():
    box = surrounded_box(ring(radius=4.0, centre=(1.0, -2.0, 0.5)))
    assert box is not None
    assert torch.allclose(box[0], torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64), atol=1e-6)
    assert box[1] == pytest.approx(4 * 150 / 500)
    assert surrounded_box(forward()) is None
    outward = tuple(
        replace(v, world_from_cam=Rigid.look_at(v.world_from_cam.translation, 2 * v.world_from_cam.translation, UP))
        for v in ring()
    )
    assert surrounded_box(outward) is None


def test_without_points_the_box_is_filled_evenly_and_the_seed_decides():
    capture = Capture(ring(centre=(5.0, 0.0, 0.0)))
    report = Silent()
    g = SfmPoints(random_count=2000, random_colour="random")(capture, 1, 3, report).gaussians
    assert len(g) == 2000
    assert torch.allclose(g.means.mean(0), torch.tensor([5.0, 0, 0]), atol=0.06)
    assert ((g.means - torch.tensor([5.0, 0, 0])).abs() <= 1.2001).all()
    assert g.base_rgb.std() > 0.2 and g.base_rgb.min() >= -1e-6 and g.base_rgb.max() <= 1 + 1e-6
    again = SfmPoints(random_count=2000, random_colour="random")(capture, 1, 3, report).gaussians
    other = SfmPoints(random_count=2000, random_colour="random")(capture, 1, 4, report).gaussians
    assert torch.equal(g.means, again.means) and torch.equal(g.sh, again.sh)
    assert not torch.equal(g.means, other.means)
    assert torch.allclose(SfmPoints(random_count=100)(capture, 0, 0, report).gaussians.base_rgb, torch.tensor(0.5))


def test_cameras_side_by_side_get_points_that_two_of_them_see():
    views = forward()
    points = random_positions(views, 3000, torch.Generator().manual_seed(0)).double()
    assert len(points) == 3000
    seen = torch.zeros(3000)
    for v in views:
        inside = v.world_from_cam.inverse().apply(points)
        x, y = v.camera.project(inside).unbind(1)
        seen += (inside[:, 2] > 0) & (x >= -1e-3) & (x <= 400.001) & (y >= -1e-3) & (y <= 300.001)
    assert (seen >= 2).all()


def test_one_camera_is_enough_and_none_is_an_error():
    assert len(SfmPoints(random_count=50)(Capture(ring(1)), 0, 0, Silent()).gaussians) == 50
    with pytest.raises(SplatError, match="poses"):
        SfmPoints()(Capture(tuple(replace(v, world_from_cam=None) for v in ring())), 0, 0, Silent())


def test_held_out_cameras_say_nothing():
    near = view([0.0, 0.6, 0.0], [0.0, 0.0, 0.0], "test.jpg", role="test")
    a = SfmPoints()(Capture(ring(), cloud()), 0, 0, Silent()).gaussians
    b = SfmPoints()(Capture((*ring(), near), cloud()), 0, 0, Silent()).gaussians
    assert torch.equal(a.log_scales, b.log_scales)
