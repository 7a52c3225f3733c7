"""A GPU draws without being asked how many (tile, Gaussian) pairs there are; on an emulated GPU (see `emulated`)."""

from dataclasses import replace

import oracles
import pytest
import torch
from emulated import gpu  # noqa: F401

from splat.core import devices
from splat.core.camera import Camera
from splat.core.gaussians import Gaussians
from splat.core.slots import RasterSettings
from splat.native import bindings, build
from splat.raster.native import Native, _Project, bin_tiles

pytestmark = pytest.mark.skipif(build.compiler() is None, reason="no C++ compiler")
NATIVE = Native()
CAMERA = oracles.random_camera(70, 50, 60.0)
POSE = oracles.random_pose(torch.Generator().manual_seed(1), torch.float32)
BACKGROUND = torch.tensor([0.2, 0.5, 0.9])


@pytest.fixture(autouse=True)
def far_away(monkeypatch):
    """What the emulated GPU computes lies in the CPU's memory; asking for it counts as waiting all the same."""
    monkeypatch.setattr(devices, "is_asynchronous", lambda device: True)


@pytest.fixture
def counts(monkeypatch):
    """The places that splat_bin_count was given for its total."""
    asked, call = [], bindings.call

    def noting(name, *arguments, device=None):
        if name == "splat_bin_count":
            asked.append(arguments[6])
        call(name, *arguments, device=device)

    monkeypatch.setattr(bindings, "call", noting)
    return asked


def scene(n: int = 120, seed: int = 0) -> Gaussians:
    return oracles.random_gaussians(n, torch.Generator().manual_seed(seed), 1, 0.2, torch.float32)


def draw(g: Gaussians, capacity: int | None, camera: Camera = CAMERA):
    """The render, normals and features included, and the gradients of all that was drawn, absolute sums included."""
    rows, features = oracles.leaves(g), torch.arange(2.0 * len(g)).reshape(-1, 2).cos().requires_grad_()
    settings = RasterSettings(capacity=capacity, absgrad=True, normals=True)
    r = NATIVE(rows, camera, POSE, BACKGROUND, settings, features)
    ((r.rgb**2).sum() + r.alpha.sum() + 0.1 * r.depth.sum() + r.normals.sum() + (r.features**2).sum()).backward()
    return r, [t.grad for t in oracles.fields(rows).values()] + [features.grad, r.means2d.grad, r.absgrad]


def pairs_by_depth(g: Gaussians):
    """Rows from near to far, and how many pairs there are up to and with each."""
    splats, _, radii = _Project.apply(*oracles.fields(g).values(), POSE, CAMERA, 1, RasterSettings())
    first = bin_tiles(splats, CAMERA).first.long()
    order = splats[:, bindings.DEPTH].where(radii > 0, torch.inf).sort(stable=True).indices[: int((radii > 0).sum())]
    return order, first.diff()[order].cumsum(0)


def test_a_fixed_capacity_draws_the_same_image_without_asking_for_the_count(counts):
    g = scene()
    needed = int(pairs_by_depth(g)[1][-1])
    (counted, *_), expected = (a := draw(g, None))[:1], a[1]
    assert counted.overflow is None and counts[-1] is not None
    for capacity in (needed, needed + 1, 3 * needed):
        r, found = draw(g, capacity)
        assert counts[-1] is None and r.overflow is not None and r.overflow.tolist() == [0]
        for name in ("rgb", "alpha", "depth", "normals", "features"):
            assert torch.equal(getattr(counted, name), getattr(r, name))
        assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_too_small_a_capacity_leaves_out_the_farthest_and_says_how_many_there_were(share):
    """Image and every gradient are those of the nearest Gaussians alone."""
    g = scene()
    order, pairs = pairs_by_depth(g)
    drawn = max(1, round(share * len(order)))
    capacity, needed = int(pairs[drawn - 1]), int(pairs[-1])
    assert capacity < needed
    faint = torch.full_like(g.logit_opacities, -30.0)
    faint[order[:drawn]] = g.logit_opacities[order[:drawn]]
    near, expected = draw(replace(g, logit_opacities=faint), None)
    r, found = draw(g, capacity)
    assert r.overflow is not None and r.overflow.tolist() == [needed - capacity]
    assert torch.equal(r.rgb, near.rgb) and torch.equal(r.depth, near.depth)
    assert torch.equal(r.normals, near.normals) and torch.equal(r.features, near.features)
    for a, b in zip(expected, found, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("capacity", [1, 7, 100])
def test_a_gaussian_that_fits_in_part_is_drawn_in_some_of_its_tiles(capacity):
    """Nothing that was not computed is read: memory full of poison shows nowhere."""
    g = scene()
    full, _ = draw(g, None)
    for _ in range(3):
        poison = [torch.full((bindings.RECORD * k,), float("nan")) for k in (1, 7, 100, 4000)]
        del poison
        r, found = draw(g, capacity)
        assert all(t is not None and t.isfinite().all() for t in found)
        assert (r.alpha <= full.alpha + 1e-6).all() and int((r.alpha > 0).sum()) > 0


def test_no_room_at_all_and_no_gaussians_leave_the_background():
    for g in (scene(), scene()[:0]):
        r, found = draw(g, 0)
        assert torch.equal(r.rgb, BACKGROUND.expand_as(r.rgb)) and all((t == 0).all() for t in found)


def test_the_cpu_counts_at_no_cost_and_pays_no_attention(monkeypatch):
    monkeypatch.undo()
    g = scene()
    r, _ = draw(g, 1)
    assert r.overflow is None and torch.equal(r.rgb, draw(g, None)[0].rgb)
