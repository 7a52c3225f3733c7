"""Density control: where Gaussians are added, and what relocation leaves unchanged."""

from __future__ import annotations

import math

import oracles
import pytest
import torch

from splat.core.gaussians import Gaussians
from splat.core.slots import Init, RasterSettings
from splat.train.density import DefaultDensity, MCMCDensity, NoDensity
from splat.train.density.default import limit_needles, long_axis_children
from splat.train.density.mcmc import _sample, _shared, add_new_gaussians, add_position_noise, relocate
from splat.train.models.free import FreeGaussians


def model_of(gaussians: Gaussians) -> FreeGaussians:
    return FreeGaussians(gaussians)


def some(n: int, seed: int = 0) -> Gaussians:
    return oracles.random_gaussians(n, torch.Generator().manual_seed(seed), sh_degree=0, dtype=torch.float32)


def everywhere(a: Gaussians, b: Gaussians, world) -> float:
    """Largest difference of any pixel of any view."""
    return max(float((world.draw(a, p, 0.3) - world.draw(b, p, 0.3)).abs().max()) for p in world.poses)


# ------------------------------------------------------------------------------------------------------------ gradients


def test_gaussians_are_added_where_the_gradient_of_the_image_is_large(world) -> None:
    """Detail is taken from one side of the scene: its neighbours there are split, the others are not."""
    right = world.truth.means[:, 1] > 0.1
    merged = world.truth.map(lambda t: t.clone())
    coarse = merged[right.nonzero()[:3, 0]]
    coarse = Gaussians(coarse.means, coarse.quats_wxyz, coarse.log_scales + 0.7, coarse.logit_opacities, coarse.sh)
    start = Gaussians.cat([merged[~right], coarse])
    n = len(start)
    density = DefaultDensity(cap=n + 6, every=0.3, stop=0.95, start=0.0)
    result = world.train(100, init=Init(start), density=density).gaussians
    added = result.means[-6:]  # children come last
    assert len(result) > n + 2
    assert float((start.means[:, 1] > 0.1).float().mean()) < 0.2
    assert float((added[:, 1] > 0.1).float().mean()) > 0.6


def test_the_count_never_passes_the_cap(world) -> None:
    density = DefaultDensity(cap=47, every=0.1, start=0.0, stop=1.0, threshold=1e-12, growth=4.0)
    world.train(60, density=density)
    counts = [line["gaussians"] for line in world.history]
    assert max(counts) == 47


def test_faint_gaussians_are_removed_and_with_them_nothing_else(world) -> None:
    """While it trains: the result is without them in any case, since nobody draws them."""
    start = world.start().gaussians
    start.logit_opacities[[3, 8]] = -9.0
    for density in (DefaultDensity(cap=1, every=0.2, start=0.0), NoDensity(0.005, 0.2)):
        result = world.train(50, init=Init(start.clone()), density=density)
        assert len(result.gaussians) == 38
        assert world.history[-1]["gaussians"] == 38


def test_a_split_hardly_changes_the_image(world) -> None:
    parents = world.truth
    children = long_axis_children(parents)
    assert len(children) == 2 * len(parents)
    unchanged = everywhere(children, parents, world)
    naive = Gaussians.cat([parents, parents])
    assert unchanged < 0.12 < everywhere(naive, parents, world)


def test_children_lie_along_the_longest_axis() -> None:
    parents = some(50)
    children = long_axis_children(parents)
    difference = children.means[50:] - children.means[:50]
    from splat.core.geometry import matrix_from_quat

    local = torch.einsum("nji,nj->ni", matrix_from_quat(parents.quats_wxyz), difference).abs()
    assert torch.equal(local.argmax(1), parents.log_scales.argmax(1))
    assert torch.allclose((children.means[50:] + children.means[:50]) / 2, parents.means, atol=1e-6)


def test_absolute_gradients_find_what_cancels(world) -> None:
    """A Gaussian that covers two opposite edges has gradients that cancel: only absolute ones see it."""
    settings = RasterSettings(absgrad=True)
    one = some(1)
    one = Gaussians(
        torch.zeros(1, 3), torch.tensor([[1.0, 0, 0, 0]]), torch.full((1, 3), -1.0), torch.tensor([2.0]), one.sh
    )
    leaves = oracles.leaves(one)
    render = world.raster(leaves, world.camera, world.poses[0], torch.zeros(3), settings)
    (render.rgb.sum()).backward()
    plain, absolute = render.means2d.grad.norm(), render.absgrad.norm()
    assert float(absolute) > 20 * float(plain)
    for absgrad, divides in ((True, True), (False, False)):
        settings = DefaultDensity(cap=100, absgrad=absgrad, start=0.0, every=0.01, threshold=float(absolute))
        control = settings(50, 1.0)
        control.after_backward(0, torch.tensor([0]), render, world.camera)
        control.every = 1
        model = model_of(one)
        control.after_update(0, model, 0.01, torch.Generator())
        assert (len(model.gaussians()) == 2) == divides


def test_resetting_opacities_lowers_all_of_them_once(world) -> None:
    control = DefaultDensity(cap=1, start=0.0, every=0.5, stop=1.0, reset_every=0.5)(100, 1.0)
    model = model_of(world.truth)
    for step in range(50):
        control.after_update(step, model, 0.01, torch.Generator())
    assert float(model.gaussians().opacities.max()) == pytest.approx(0.01, rel=1e-3)


def test_needles_are_shortened_to_the_ratio() -> None:
    start = some(200)
    start.log_scales[:, 1] += 4
    model = model_of(start)
    limit_needles(model, 5.0)
    after = model.gaussians().log_scales.sort(1).values
    before = start.log_scales.sort(1).values
    assert float((after[:, 2] - after[:, 1]).max()) <= math.log(5) + 1e-5
    assert torch.equal(after[:, :2], before[:, :2])


# ----------------------------------------------------------------------------------------------------------------- MCMC


def test_one_copy_changes_nothing() -> None:
    g = some(30)
    logits, log_scales = _shared(g.opacities, g.log_scales, torch.ones(30, dtype=torch.int64), 0.005)
    assert torch.allclose(logits, g.logit_opacities, atol=1e-4)
    assert torch.allclose(log_scales, g.log_scales, atol=1e-6)


@pytest.mark.parametrize("copies", [2, 5, 51])
def test_copies_keep_the_total_of_the_footprint(copies: int) -> None:
    """Equation 9 asks that the profile through the centre integrates to what the one Gaussian did."""
    x = torch.linspace(-12, 12, 20001, dtype=torch.float64)
    for opacity in (0.05, 0.5, 0.95):
        o = torch.tensor([opacity], dtype=torch.float64)
        logit, log_scale = _shared(o, torch.zeros(1, 3, dtype=torch.float64), torch.tensor([copies]), 1e-6)
        one = o * torch.exp(-(x**2) / 2)
        each = logit.sigmoid() * torch.exp(-(x**2) / 2 / log_scale[0, 0].exp() ** 2)
        many = 1 - (1 - each) ** copies
        assert float(many.max()) == pytest.approx(opacity, rel=1e-6)
        assert float(many.sum() / one.sum()) == pytest.approx(1.0, rel=1e-3)


def test_relocation_keeps_the_image(world) -> None:
    faint = some(20, seed=4)
    faint.logit_opacities[:] = -8.0
    scene = Gaussians.cat([world.truth, faint])
    model = model_of(scene)
    moved = relocate(model, 0.005, torch.Generator().manual_seed(0))
    after = model.gaussians()
    assert moved == 20 and len(after) == 60
    assert float(after.opacities.min()) >= 0.005
    assert everywhere(after, scene, world) < 0.12
    assert (
        math.sqrt(float((world.draw(after, world.poses[0]) - world.draw(scene, world.poses[0])).square().mean())) < 0.02
    )


def test_rows_are_relocated_and_added_between_the_start_and_the_stop_only() -> None:
    control = MCMCDensity(every=0.1, start=0.2, stop=0.5)(1000, 1.0)
    assert [step + 1 for step in range(1000) if control.changes_rows(step)] == [200, 300, 400, 500]


def test_growing_keeps_the_image_and_stops_at_the_cap(world) -> None:
    model = model_of(world.truth)
    assert add_new_gaussians(model, 15, 0.005, torch.Generator().manual_seed(0)) == 15
    assert everywhere(model.gaussians(), world.truth, world) < 0.12
    density = MCMCDensity(cap=44, every=0.01, start=0.0, stop=1.0)
    world.train(150, density=density)
    assert max(line["gaussians"] for line in world.history) == 44


def test_sources_are_drawn_in_proportion_to_opacity() -> None:
    opacities = torch.tensor([0.1, 0.0, 0.6, 0.3])
    drawn = _sample(opacities, 20_000, torch.Generator().manual_seed(0))
    share = torch.bincount(drawn, minlength=4) / 20_000
    assert torch.allclose(share, opacities, atol=0.02) and share[1] == 0


def test_noise_moves_only_faint_gaussians_and_along_their_shape() -> None:
    n = 3000
    g = some(1)
    log_scales = torch.tensor([[0.0, -1.0, -3.0]]).expand(n, 3).clone()
    logits = torch.cat([torch.full((n // 2,), -6.0), torch.full((n // 2,), 1.0)])
    identity = torch.tensor([[1.0, 0, 0, 0]]).expand(n, 4).clone()
    start = Gaussians(torch.zeros(n, 3), identity, log_scales, logits, g.sh.expand(n, 1, 3).clone())
    model = model_of(start)
    add_position_noise(model, 0.01, torch.Generator().manual_seed(0))
    moved = model.gaussians().means
    assert torch.equal(moved[n // 2 :], start.means[n // 2 :])
    weight = torch.sigmoid(-100 * (logits[:1].sigmoid() - 0.005))
    expected = 0.01 * float(weight) * torch.tensor([1.0, math.exp(-2), math.exp(-6)])
    assert torch.allclose(moved[: n // 2].std(0), expected, rtol=0.1)
