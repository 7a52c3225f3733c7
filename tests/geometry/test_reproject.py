"""Depth maps against each other and against points: compiled kernels say what torch says, and both the truth."""

import planes
import torch

from splat.core.camera import Camera
from splat.core.geometry import Rigid, rotation_from_axis_angle
from splat.geometry.reproject import (
    PosedDepth,
    check_consistency,
    count_support,
    forward_backward,
    look_up_depth,
    parallax,
    pixel_indices,
    pixel_transfer,
    project_points,
)

A, B = Camera(60.0, 62.0, 24.0, 17.0, 47, 33), Camera(55.0, 52.0, 18.0, 15.0, 37, 29)
LIMITS = (1.5, 0.02)


def turned_pose(seed: int) -> Rigid:
    generator = torch.Generator().manual_seed(seed)
    turn = rotation_from_axis_angle(0.2 * torch.randn(3, generator=generator).double())
    return Rigid(turn, torch.randn(3, generator=generator).double())


def test_pixels_with_a_depth_are_transferred_as_their_points_are_projected():
    a, b = turned_pose(0), turned_pose(1)
    row = pixel_transfer(A, B, b.inverse() @ a)
    pixel, depth = torch.tensor([31.0, 17.0]).double(), torch.tensor(3.7).double()
    expected = B.project(b.inverse().apply(a.apply(A.unproject(pixel, depth))))
    found = row[:9].reshape(3, 3) @ torch.cat([pixel, torch.ones(1).double()]) + row[9:] / depth
    assert torch.allclose(found[:2] / found[2], expected)


def test_points_are_in_frame_in_front_of_the_camera_and_inside_its_borders():
    pose = turned_pose(0)
    pixels = torch.tensor([[5.0, 6.0], [5.0, 6.0], [-0.1, 6.0], [5.0, 33.1]]).double()
    depths = torch.tensor([2.0, -2.0, 2.0, 2.0]).double()
    found = project_points(A, pose, pose.apply(A.unproject(pixels, depths)))
    assert found.in_frame.tolist() == [True, False, False, False]
    assert torch.allclose(found.pixels, pixels) and torch.allclose(found.depth, depths)


def test_coordinates_fall_into_the_pixel_they_lie_in_or_the_nearest():
    pixels = torch.tensor([[0.0, 0.0], [3.99, 1.5], [-7.0, 99.0], [torch.nan, 1.0], [torch.inf, -torch.inf]])
    row, column = pixel_indices(pixels, 5, 4)
    assert row.tolist() == [0, 1, 3, 1, 0] and column.tolist() == [0, 3, 0, 0, 4]


def test_a_depth_map_tells_points_on_the_surface_from_those_before_and_behind_it():
    pose = turned_pose(0)
    wall = torch.full((A.height, A.width), 4.0).double()
    wall[:, :10] = 0  # not known
    pixels = torch.tensor([[20.5, 16.5]] * 3 + [[4.5, 16.5]]).double()
    found = look_up_depth(A, pose, wall, pose.apply(A.unproject(pixels, torch.tensor([4.0, 2.0, 8.0, 4.0]).double())))
    assert torch.allclose(found.ratio[:3], torch.tensor([1.0, 2.0, 0.5]).double())
    assert found.known.tolist() == [True, True, True, False] and found.row.tolist() == [16] * 4
    assert found.agrees(0.05).tolist() == [True, False, False, False]


def rough_depths(camera, pose, rng):
    """A plane's, some a little off, some far off, some not known."""
    depth = planes.PlaneScene.make(25.0).depth(camera, pose)
    depth = depth * (1 + 0.02 * torch.randn(depth.shape, generator=rng))
    depth[torch.rand(depth.shape, generator=rng) < 0.1] *= 3
    depth[torch.rand(depth.shape, generator=rng) < 0.1] = 0
    return depth


def test_compiled_consistency_is_that_of_torch():
    rng = torch.Generator().manual_seed(0)
    a, b = planes.walk(2)
    one, two = rough_depths(A, a, rng), rough_depths(B, b, rng)
    ours = check_consistency(A, a, one.float(), B, b, two.float(), *LIMITS, 4.9, pixels=True)
    truth = check_consistency(A, a, one, B, b, two, *LIMITS, 4.9, pixels=True)
    seen, angle = forward_backward(A, a, one, B, b, two), parallax(A, a, one, b.translation)
    assert ours.pixels is not None and truth.pixels is not None
    usable = one > 0
    # Where rounding may decide: on the border between pixels, and at the limits.
    clear = ((seen.pixels - seen.pixels.round()).abs() > 1e-4).all(2) & usable
    away = clear & ((seen.shift - LIMITS[0]).abs() > 1e-3) & ((seen.depth_difference.abs() - LIMITS[1]).abs() > 1e-5)
    away &= (angle - 4.9).abs() > 1e-4
    assert torch.allclose(ours.pixels[usable], truth.pixels[usable].float(), rtol=1e-4, atol=1e-3)
    assert torch.equal(ours.pixel_ids[clear].long(), truth.pixel_ids[clear])
    assert torch.equal(ours.consistent[away], truth.consistent[away])
    assert not ours.consistent[~usable].any() and 0.1 < float(truth.consistent.double().mean()) < 0.9
    assert float(away.double().mean()) > 0.8
    assert bool((check_consistency(A, a, one, B, b, two, *LIMITS).consistent & ~truth.consistent).any()), (
        "some rays are too close"
    )


def test_photos_agree_on_the_plane_they_both_see_and_nowhere_else():
    scene, (a, b) = planes.PlaneScene.make(25.0), planes.walk(2)
    one, two = scene.depth(A, a).float(), scene.depth(B, b).float()
    there = B.project(b.inverse().apply(a.apply(A.unproject(A.pixel_centres().double(), one.double()))))
    inside = B.contains(there) & ((there - there.round()).abs() > 1e-4).all(2)
    # The depth of the middle of the pixel that a point falls into is not quite that of the point.
    found = check_consistency(A, a, one, B, b, two, 2.0, 0.05)
    assert torch.equal(found.consistent[inside], inside[inside]) and not found.consistent[~B.contains(there)].any()
    number = there[..., 1].long() * B.width + there[..., 0].long()
    assert torch.equal(found.pixel_ids[inside].long(), number[inside])
    assert not check_consistency(A, a, one, B, b, two * 1.2, 50.0, 0.05).consistent.any()
    assert not check_consistency(A, a, one, B, b, two, 2.0, 0.05, min_parallax=30.0).consistent.any()


def test_compiled_support_and_violations_are_those_of_torch_and_the_truth():
    rng = torch.Generator().manual_seed(1)
    poses = planes.walk(3)
    depths = [rough_depths(A, p, rng) for p in poses]
    points = torch.randn(5000, 3, generator=rng).double() + torch.tensor([0.0, 0, 4])
    points[0] = torch.nan
    ours = count_support([PosedDepth(A, p, d.float()) for p, d in zip(poses, depths)], points.float(), 0.03, 0.05)
    truth = count_support([PosedDepth(A, p, d) for p, d in zip(poses, depths)], points.float().double(), 0.03, 0.05)
    for mine, theirs in zip(ours, truth, strict=True):
        assert float((mine != theirs).double().mean()) < 1e-3, "rounding decides next to nothing"
        assert mine[0] == 0 and int(theirs.max()) == 3
    wall = torch.full((A.height, A.width), 4.0)
    wall[:, :20] = 0  # not known
    ahead = poses[0].apply(A.unproject(torch.tensor([[30.0, 16]] * 4 + [[10.0, 16]]), torch.tensor([4.0, 3, 5, -4, 4])))
    support, violations = count_support([PosedDepth(A, poses[0], wall)], ahead.float(), 0.03, 0.05)
    assert support.tolist() == [1, 0, 0, 0, 0] and violations.tolist() == [0, 1, 0, 0, 0]
