"""Depth maps against each other and against points: compiled kernels say what torch says, and both the truth."""

import planes
import torch

from splat.core.camera import Camera
from splat.core.reproject import Witness, agreement, forward_backward, parallax, witnessed

A, B = Camera(60.0, 62.0, 24.0, 17.0, 47, 33), Camera(55.0, 52.0, 18.0, 15.0, 37, 29)
LIMITS = (1.5, 0.02)


def rough_depths(camera, pose, rng):
    """A plane's, some a little off, some far off, some not known."""
    depth = planes.PlaneScene.make(25.0).depth(camera, pose)
    depth = depth * (1 + 0.02 * torch.randn(depth.shape, generator=rng))
    depth[torch.rand(depth.shape, generator=rng) < 0.1] *= 3
    depth[torch.rand(depth.shape, generator=rng) < 0.1] = 0
    return depth


def test_compiled_agreement_is_that_of_torch():
    rng = torch.Generator().manual_seed(0)
    a, b = planes.walk(2)
    one, two = rough_depths(A, a, rng), rough_depths(B, b, rng)
    ours = agreement(A, a, one.float(), B, b, two.float(), *LIMITS, 4.9, pixels=True)
    truth = agreement(A, a, one, B, b, two, *LIMITS, 4.9, pixels=True)
    seen, angle = forward_backward(A, a, one, B, b, two), parallax(A, a, one, b.translation)
    assert ours.pixels is not None and truth.pixels is not None
    usable = one > 0
    # Where rounding may decide: on the border between pixels, and at the limits.
    clear = ((seen.pixels - seen.pixels.round()).abs() > 1e-4).all(2) & usable
    away = clear & ((seen.shift - LIMITS[0]).abs() > 1e-3) & ((seen.difference.abs() - LIMITS[1]).abs() > 1e-5)
    away &= (angle - 4.9).abs() > 1e-4
    assert torch.allclose(ours.pixels[usable], truth.pixels[usable].float(), rtol=1e-4, atol=1e-3)
    assert torch.equal(ours.at[clear].long(), truth.at[clear])
    assert torch.equal(ours.agrees[away], truth.agrees[away])
    assert not ours.agrees[~usable].any() and 0.1 < float(truth.agrees.double().mean()) < 0.9
    assert float(away.double().mean()) > 0.8
    assert bool((agreement(A, a, one, B, b, two, *LIMITS).agrees & ~truth.agrees).any()), "some rays are too close"


def test_photos_agree_on_the_plane_they_both_see_and_nowhere_else():
    scene, (a, b) = planes.PlaneScene.make(25.0), planes.walk(2)
    one, two = scene.depth(A, a).float(), scene.depth(B, b).float()
    there = B.project(b.inverse().apply(a.apply(A.unproject(A.pixel_centres().double(), one.double()))))
    inside = B.contains(there) & ((there - there.round()).abs() > 1e-4).all(2)
    # The depth of the middle of the pixel that a point falls into is not quite that of the point.
    found = agreement(A, a, one, B, b, two, 2.0, 0.05)
    assert torch.equal(found.agrees[inside], inside[inside]) and not found.agrees[~B.contains(there)].any()
    number = there[..., 1].long() * B.width + there[..., 0].long()
    assert torch.equal(found.at[inside].long(), number[inside])
    assert not agreement(A, a, one, B, b, two * 1.2, 50.0, 0.05).agrees.any()
    assert not agreement(A, a, one, B, b, two, 2.0, 0.05, least_parallax=30.0).agrees.any()


def test_compiled_testimony_is_that_of_torch_and_of_who_sees_what():
    rng = torch.Generator().manual_seed(1)
    poses = planes.walk(3)
    depths = [rough_depths(A, p, rng) for p in poses]
    points = torch.randn(5000, 3, generator=rng).double() + torch.tensor([0.0, 0, 4])
    points[0] = torch.nan
    ours = witnessed([Witness(A, p, d.float()) for p, d in zip(poses, depths)], points.float(), 0.03, 0.05)
    truth = witnessed([Witness(A, p, d) for p, d in zip(poses, depths)], points.float().double(), 0.03, 0.05)
    for mine, theirs in zip(ours, truth, strict=True):
        assert float((mine != theirs).double().mean()) < 1e-3, "rounding decides next to nothing"
        assert mine[0] == 0 and int(theirs.max()) == 3
    wall = torch.full((A.height, A.width), 4.0)
    wall[:, :20] = 0  # not known
    ahead = poses[0].apply(A.unproject(torch.tensor([[30.0, 16]] * 4 + [[10.0, 16]]), torch.tensor([4.0, 3, 5, -4, 4])))
    agree, see_past = witnessed([Witness(A, poses[0], wall)], ahead.float(), 0.03, 0.05)
    assert agree.tolist() == [1, 0, 0, 0, 0] and see_past.tolist() == [0, 1, 0, 0, 0]
