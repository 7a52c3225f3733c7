"""Triangulated points are where they are, as well known as is said, and believed only where they may be."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from splat.core.camera import Camera
from splat.core.geometry import Rigid, Similarity, rotation_from_axis_angle
from splat.core.triangulate import Gates, Triangulated, triangulate, triangulate_linear

A = Camera(800.0, 810.0, 371.0, 205.0, 640, 480)
B = Camera(1000.0, 990.0, 300.0, 420.0, 800, 600)
C = Camera(500.0, 500.0, 260.0, 200.0, 480, 360)
CAMERAS = [A, B, C]


def ring(depth: float, count: int, baseline: float, seed: int = 0) -> list[Rigid]:
    """Cameras about `depth` from the origin, spread by `baseline`, that look about there, in a random frame."""
    generator = torch.Generator().manual_seed(seed)
    poses = []
    for i in range(count):
        side = torch.tensor([(i - (count - 1) / 2) * baseline, 0.15 * baseline * (i % 2), 0.0])
        jitter = 0.05 * baseline * torch.randn(3, generator=generator)
        eye = torch.tensor([0.0, 0, -depth]) + side + jitter
        poses.append(Rigid.look_at(eye, 0.01 * depth * torch.randn(3, generator=generator), torch.tensor([0.1, -1, 0])))
    turn = rotation_from_axis_angle(torch.randn(3, generator=generator).double())
    return [Rigid(turn, torch.zeros(3).double()) @ p for p in poses]


def seen(points: Tensor, cameras: list[Camera], poses: list[Rigid]) -> Tensor:
    """Pixels [n v 2]."""
    return torch.stack([c.project(p.inverse().apply(points)) for c, p in zip(cameras, poses, strict=True)], 1)


def cloud(depth: float, poses: list[Rigid], cameras: list[Camera], count: int = 400, seed: int = 1) -> Tensor:
    """Points that all cameras see, float64."""
    generator = torch.Generator().manual_seed(seed)
    points = 0.15 * depth * torch.randn(4 * count, 3, generator=generator).double()
    inside = torch.ones(len(points), dtype=torch.bool)
    for c, p in zip(cameras, poses, strict=True):
        at = p.inverse().apply(points)
        inside &= c.contains(c.project(at)) & (at[:, 2] > 0.3 * depth)
    assert int(inside.sum()) >= count
    return points[inside][:count]


def all_valid(pixels: Tensor) -> Tensor:
    return torch.ones(pixels.shape[:2], dtype=torch.bool)


def found(points: Tensor, cameras: list[Camera], poses: list[Rigid], noise: float = 0.0, **gates) -> Triangulated:
    pixels = seen(points, cameras, poses)
    pixels = pixels + noise * torch.randn(pixels.shape, generator=torch.Generator().manual_seed(7)).double()
    return triangulate(pixels, all_valid(pixels), cameras, poses, Gates(**gates))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("depth", [0.05, 0.3, 1.0, 20.0, 1000.0])
@pytest.mark.parametrize("views", [2, 3])
def test_exact_observations_give_the_point_at_any_depth(depth, dtype, views):
    for seed in range(3):
        cameras, poses = CAMERAS[:views], ring(depth, views, 0.15 * depth, seed)
        points = cloud(depth, poses, cameras)
        pixels = seen(points, cameras, poses)
        poses = [Rigid(p.rotation.to(dtype), p.translation.to(dtype)) for p in poses]
        result = triangulate(pixels.to(dtype), all_valid(pixels), cameras, poses)
        assert bool(result.accepted.all()) and bool(result.support.all())
        error = (result.positions - points).norm(dim=1) / result.depths.amin(1)
        assert float(error.max()) < 1e-4
        linear = triangulate_linear(pixels.to(dtype), all_valid(pixels), cameras, poses)
        assert float(((linear - points).norm(dim=1) / result.depths.amin(1)).max()) < 1e-4
        assert result.positions.dtype == torch.float64 and float(result.errors.max()) < 1e-2


def test_a_scene_far_from_the_origin_loses_nothing():
    poses = ring(1.0, 2, 0.15)
    points = cloud(1.0, poses, [A, B])
    away = torch.tensor([3e5, -4e5, 1e5]).double()
    moved = [Rigid(p.rotation, p.translation + away) for p in poses]
    pixels = seen(points, [A, B], poses)
    result = triangulate(pixels, all_valid(pixels), [A, B], moved)
    assert bool(result.accepted.all()) and float((result.positions - away - points).norm(dim=1).max()) < 1e-6


def test_a_point_behind_a_camera_is_never_accepted():
    poses = ring(4.0, 2, 0.6)
    points = cloud(4.0, poses, [A, A])
    back = [Rigid(p.rotation, p.translation + 3 * (points.mean(0) - p.translation)) for p in poses]
    for pair in (back, [poses[0], back[1]]):
        pixels = seen(points, [A, A], pair)
        linear = triangulate_linear(pixels, all_valid(pixels), [A, A], pair)
        assert torch.allclose(linear, points, atol=1e-6), "it is found there all the same"
        assert not bool(triangulate(pixels, all_valid(pixels), [A, A], pair).accepted.any())


def test_without_a_baseline_nothing_is_accepted():
    poses = ring(4.0, 2, 0.6)
    points = cloud(4.0, poses, [A, A])
    turned = Rigid(poses[1].rotation, poses[0].translation)
    for noise in (0.0, 0.5, 1.0):
        for pair in ([poses[0], poses[0]], [poses[0], turned]):
            pixels = seen(points, [A, A], pair)
            pixels = pixels + noise * torch.randn(pixels.shape, dtype=torch.float64)
            assert not bool(triangulate(pixels, all_valid(pixels), [A, A], pair).accepted.any())


def test_less_parallax_than_asked_is_not_accepted():
    for baseline, some in ((0.02, False), (0.035, True), (0.1, True)):
        poses = ring(4.0, 2, baseline)
        points = cloud(4.0, poses, [A, A])
        a, b = (torch.nn.functional.normalize(points - p.translation, dim=1) for p in poses)
        degrees = (a * b).sum(1).arccos().rad2deg()
        result = found(points, [A, A], poses, sigma=0.01)
        assert torch.allclose(result.parallax, degrees, atol=1e-5)
        assert torch.equal(result.accepted, degrees >= 0.5) and bool(result.accepted.any()) == some


def test_a_depth_that_is_known_too_badly_is_not_accepted():
    poses = ring(4.0, 2, 0.3)
    points = cloud(4.0, poses, [C, C])
    loose, strict = found(points, [C, C], poses, sigma=0.5), found(points, [C, C], poses, sigma=5.0)
    assert bool(loose.accepted.all()) and not bool(strict.accepted.any())
    assert torch.allclose(10 * loose.depth_sigmas, strict.depth_sigmas)


def test_a_target_out_of_frame_is_not_accepted():
    poses = ring(4.0, 2, 0.6)
    points = cloud(4.0, poses, [A, A])
    narrow = replace(A, width=200)
    outside = ~narrow.contains(seen(points, [A, A], poses)[:, 1])
    result = found(points, [A, narrow], poses)
    assert int(outside.sum()) > 50 and torch.equal(result.accepted, ~outside)


def test_nearer_than_near_is_not_accepted():
    poses = ring(4.0, 2, 0.6)
    points = cloud(4.0, poses, [A, A])
    result = found(points, [A, A], poses, near=4.0)
    assert torch.equal(result.accepted, (result.depths > 4.0).all(1)) and 0 < int(result.accepted.sum()) < len(points)


def test_what_is_not_valid_is_not_read():
    poses = ring(4.0, 3, 0.4)
    points = cloud(4.0, poses, CAMERAS)
    pixels, valid = seen(points, CAMERAS, poses), torch.ones(len(points), 3, dtype=torch.bool)
    valid[::2, 2] = False
    valid[:10] = torch.tensor([True, False, False])
    pixels[~valid] = torch.nan
    result = triangulate(pixels, valid, CAMERAS, poses)
    assert torch.equal(result.support[10:], valid[10:]) and bool(result.accepted[10:].all())
    assert not bool(result.accepted[:10].any()) and bool(result.errors[~valid].isinf().all())
    assert len(triangulate(pixels[:0], valid[:0], CAMERAS, poses).positions) == 0


@pytest.mark.parametrize("views", [2, 3])
@pytest.mark.parametrize("parallax", [0.04, 0.3])
def test_depth_errors_are_what_the_covariance_predicts(views, parallax):
    cameras, poses = CAMERAS[:views], ring(4.0, views, parallax * 4.0)
    points = cloud(4.0, poses, cameras, 1500)
    result = found(points, cameras, poses, noise=0.5, sigma=0.5, most_error=4.0, most_depth_sigma=0.2)
    a = result.accepted
    assert float(a.float().mean()) > 0.99
    axis = poses[0].rotation[:, 2]
    error = ((result.positions - points) @ axis)[a].square().mean().sqrt()
    predicted = (result.depth_sigmas * result.depths)[a, 0].square().mean().sqrt()
    assert 1 / 1.3 < float(error / predicted) < 1.3
    whole = (result.positions - points)[a].square().sum(1).mean().sqrt()
    trace = result.covariances[a].diagonal(dim1=1, dim2=2).sum(1).mean().sqrt()
    assert 1 / 1.3 < float(whole / trace) < 1.3


def test_three_views_beat_two():
    poses = ring(4.0, 3, 0.4)
    points = cloud(4.0, poses, [A, A, A], 1000)
    three = found(points, [A, A, A], poses, noise=0.5)
    pixels = seen(points, [A, A, A], poses)
    pixels = pixels + 0.5 * torch.randn(pixels.shape, generator=torch.Generator().manual_seed(7)).double()
    rms = []
    for pair in ([0, 1], [1, 2], [0, 2]):
        two = triangulate(pixels[:, pair], all_valid(pixels[:, pair]), [A, A], [poses[i] for i in pair])
        rms.append(float((two.positions - points)[two.accepted].norm(dim=1).square().mean().sqrt()))
    assert float(three.accepted.float().mean()) > 0.97
    assert float((three.positions - points)[three.accepted].norm(dim=1).square().mean().sqrt()) < min(rms)


@pytest.mark.parametrize("views", [3, 5])
def test_outliers_among_the_observations_are_found(views):
    """30 % of points have one observation that is anywhere in its photo; all have noise."""
    cameras, poses = [A] * views, ring(4.0, views, 0.3)
    points = cloud(4.0, poses, cameras, 1500)
    generator = torch.Generator().manual_seed(3)
    pixels = seen(points, cameras, poses)
    pixels = pixels + 0.3 * torch.randn(pixels.shape, generator=generator).double()
    which = torch.randint(views, (len(points),), generator=generator)
    hit = torch.rand(len(points), generator=generator) < 0.3
    wrong = torch.zeros(len(points), views, dtype=torch.bool)
    wrong[hit, which[hit]] = True
    anywhere = torch.rand(int(wrong.sum()), 2, generator=generator).double() * torch.tensor([A.width, A.height])
    pixels[wrong] = anywhere
    result = triangulate(pixels, all_valid(pixels), cameras, poses, Gates(sigma=0.3))
    believed = result.support & result.accepted[:, None]
    assert float(believed[wrong].float().mean()) <= 0.05
    assert float(believed[~wrong].float().mean()) >= 0.9
    off = (result.positions - points).norm(dim=1)[result.accepted & hit]
    assert float((off < 0.1).float().mean()) > 0.95, "such a point is where the others see it"


def test_points_whose_observations_have_nothing_in_common_are_rejected():
    poses = ring(4.0, 3, 0.3)
    generator = torch.Generator().manual_seed(4)
    pixels = torch.rand(2000, 3, 2, generator=generator).double() * torch.tensor([A.width, A.height])
    two = triangulate(pixels, all_valid(pixels), [A] * 3, poses)
    three = triangulate(pixels, all_valid(pixels), [A] * 3, poses, Gates(least_views=3))
    assert float(two.accepted.float().mean()) <= 0.05 and float(three.accepted.float().mean()) < 0.002


def outlying(views: int) -> tuple[Tensor, Tensor, list[Rigid]]:
    """Noisy pixels with outliers, valid ones, poses."""
    poses = ring(4.0, views, 0.3)
    points = cloud(4.0, poses, [A] * views, 500)
    pixels = seen(points, [A] * views, poses)
    pixels = pixels + 0.7 * torch.randn(pixels.shape, generator=torch.Generator().manual_seed(5)).double()
    pixels[::4, 1] += 40
    return pixels, torch.rand(len(points), views, generator=torch.Generator().manual_seed(6)) < 0.9, poses


def test_it_does_not_depend_on_the_worlds_frame_or_unit():
    pixels, valid, poses = outlying(3)
    turn = rotation_from_axis_angle(torch.tensor([0.5, -1.0, 2.0]).double())
    move = Similarity(37.0, turn, torch.tensor([100.0, -20, 5]).double())
    one = triangulate(pixels, valid, [A] * 3, poses)
    two = triangulate(pixels, valid, [A] * 3, [move.apply_pose(p) for p in poses])
    assert 0 < int(one.accepted.sum()) < len(pixels)
    assert torch.equal(one.accepted, two.accepted) and torch.equal(one.support, two.support)
    assert torch.allclose(move.apply(one.positions)[one.accepted], two.positions[one.accepted], atol=1e-5)
    assert torch.allclose(37 * one.depths[one.accepted], two.depths[one.accepted])


def test_the_order_of_points_and_of_views_changes_nothing():
    pixels, valid, poses = outlying(3)
    one = triangulate(pixels, valid, [A] * 3, poses)
    order = torch.randperm(len(pixels))
    two = triangulate(pixels[order], valid[order], [A] * 3, poses)
    assert torch.equal(one.accepted[order], two.accepted) and torch.equal(one.support[order], two.support)
    assert torch.allclose(one.positions[order][two.accepted], two.positions[two.accepted], rtol=1e-12)
    turned = [2, 0, 1]
    three = triangulate(pixels[:, turned], valid[:, turned], [A] * 3, [poses[i] for i in turned])
    assert torch.equal(one.accepted, three.accepted)
    assert torch.allclose(one.positions[one.accepted], three.positions[one.accepted], atol=1e-6)
