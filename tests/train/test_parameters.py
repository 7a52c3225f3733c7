"""Free Gaussians against Adam written out, and the bookkeeping of rows."""

from __future__ import annotations

import oracles
import pytest
import torch

from splat.core.gaussians import Gaussians
from splat.core.schedules import LearningRates, ShSchedule
from splat.core.sh import sh_basis
from splat.train.parameters import FreeGaussians

RATES = LearningRates()


def scene(n: int = 12, degree: int = 1) -> Gaussians:
    return oracles.random_gaussians(n, torch.Generator().manual_seed(1), sh_degree=degree, dtype=torch.float32)


def like(gaussians: Gaussians, seed: int) -> Gaussians:
    generator = torch.Generator().manual_seed(seed)
    return gaussians.map(lambda t: torch.randn(t.shape, generator=generator))


def test_all_rows_in_every_step_is_torch_adam() -> None:
    start = scene()
    model = FreeGaussians(start, RATES, total_steps=50, scene_extent=2.0)
    leaves = oracles.leaves(start)
    sh0, rest = (leaves.sh[:, :1].detach().requires_grad_(), leaves.sh[:, 1:].detach().requires_grad_())
    rates = [RATES.quats, RATES.scales, RATES.opacities, RATES.sh0, RATES.sh_rest]
    tensors = [leaves.quats_wxyz, leaves.log_scales, leaves.logit_opacities, sh0, rest]
    groups = [{"params": [t], "lr": r} for t, r in zip(tensors, rates, strict=True)]
    optimizer = torch.optim.Adam([{"params": [leaves.means], "lr": 0.0}, *groups], eps=1e-15)
    for step in range(20):
        gradient = like(start, step)
        optimizer.param_groups[0]["lr"] = 2.0 * 3.2e-4 * 0.005 ** (step / 50)
        leaves.means.grad = gradient.means
        for t, g in zip(tensors[:3], (gradient.quats_wxyz, gradient.log_scales, gradient.logit_opacities), strict=True):
            t.grad = g
        sh0.grad, rest.grad = gradient.sh[:, :1], gradient.sh[:, 1:]
        optimizer.step()
        model.update(step, torch.arange(len(start)), gradient)
    now = model.gaussians(20)
    for name in ("means", "quats_wxyz", "log_scales", "logit_opacities"):
        assert torch.allclose(getattr(now, name), getattr(leaves, name), atol=1e-5), name
    assert torch.allclose(now.sh, torch.cat([sh0, rest], 1), atol=1e-5)


def test_rows_that_were_not_drawn_stand_still() -> None:
    start = scene()
    model = FreeGaussians(start, RATES, 10, 1.0)
    ids = torch.tensor([2, 5, 6])
    model.update(0, ids, like(start[ids], 0))
    model.update(1, ids, like(start[ids], 1))
    now = model.gaussians(2)
    others = torch.tensor([i for i in range(12) if i not in ids.tolist()])
    for name in oracles.fields(start):
        assert torch.equal(getattr(now, name)[others], getattr(start, name)[others])
        assert not torch.equal(getattr(now, name)[ids], getattr(start, name)[ids])


def test_editing_moves_optimizer_state_with_its_row() -> None:
    """Removing, adding and growing storage changes nothing for the rows that stay."""
    start = scene()
    edited, plain = (FreeGaussians(start, RATES, 10, 1.0) for _ in range(2))
    everything = torch.arange(12)
    first = like(start, 0)
    for model in (edited, plain):
        model.update(0, everything, first)
    keep = torch.tensor([i not in (0, 7) for i in range(12)])
    edited.edit(keep, scene(30))
    assert len(edited.gaussians(1)) == 40
    second = like(start, 1)
    plain.update(1, everything, second)
    edited.update(1, torch.arange(10), second[keep])
    for name in oracles.fields(start):
        assert torch.equal(getattr(edited.gaussians(2), name)[:10], getattr(plain.gaussians(2), name)[keep])


def test_rearranging_moves_everything_with_its_row() -> None:
    start = scene()
    moved, plain = (FreeGaussians(start, RATES, 10, 1.0) for _ in range(2))
    order = torch.randperm(12, generator=torch.Generator().manual_seed(3))
    for model in (moved, plain):
        model.update(0, None, like(start, 0))
    moved.rearrange(order)
    second = like(start, 1)
    plain.update(1, None, second)
    moved.update(1, None, second[order])
    for name in oracles.fields(start):
        assert torch.equal(getattr(moved.gaussians(2), name), getattr(plain.gaussians(2), name)[order])


def test_displacement_is_measured_from_where_the_first_ancestor_started() -> None:
    model = FreeGaussians(scene(4), RATES, 10, 1.0)
    model.follow()
    start = model.gaussians(0).means.clone()
    model.shift(torch.tensor([1]), means=torch.tensor([[0.0, 3.0, 0.0]]))
    children = model.gaussians(0)[torch.tensor([1, 1, 2])]
    model.edit(torch.tensor([True, False, True, True]), children, torch.tensor([1, 1, 2]))
    model.edit(torch.ones(6, dtype=torch.bool), children[:1])  # of nobody: its own start
    model.rearrange(torch.tensor([6, 5, 4, 3, 2, 1, 0]))
    assert model.displacement().tolist() == pytest.approx([0, 0, 3, 3, 0, 0, 0])
    model.assign(torch.tensor([0]), model.gaussians(0)[torch.tensor([2])], torch.tensor([2]))
    model.assign(torch.tensor([6]), model.gaussians(0)[torch.tensor([2])])
    away = float((start[1] + torch.tensor([0.0, 3.0, 0.0]) - start[0]).norm())
    assert model.displacement().tolist() == pytest.approx([3, 0, 3, 3, 0, 0, away])
    other = FreeGaussians(scene(5), RATES, 10, 1.0)
    other.load_state(model.state())
    assert torch.equal(other.displacement(), model.displacement())


def test_new_and_overwritten_rows_start_without_momentum() -> None:
    start = scene()
    model = FreeGaussians(start, RATES, 10, 1.0)
    ids = torch.arange(12)
    model.update(0, ids, like(start, 0))
    model.assign(torch.tensor([3]), start[torch.tensor([3])])
    model.edit(torch.ones(12, dtype=torch.bool), start[torch.tensor([4])])
    zero = start.map(torch.zeros_like)
    model.update(1, torch.tensor([3, 12]), Gaussians.cat([zero[3:4], zero[4:5]]))
    now = model.gaussians(2)
    assert torch.equal(now.means[3], start.means[3]) and torch.equal(now.means[12], start.means[4])


def test_shifting_keeps_momentum() -> None:
    start = scene()
    shifted, plain = (FreeGaussians(start, RATES, 10, 1.0) for _ in range(2))
    ids = torch.arange(12)
    for model in (shifted, plain):
        model.update(0, ids, like(start, 0))
    shifted.shift(None, logit_opacities=-0.5)
    shifted.shift(torch.tensor([1]), means=torch.ones(1, 3))
    for model in (shifted, plain):
        model.update(1, ids, like(start, 1))
    difference = shifted.gaussians(2).logit_opacities - plain.gaussians(2).logit_opacities
    assert torch.allclose(difference, torch.full((12,), -0.5), atol=1e-6)
    assert torch.allclose((shifted.gaussians(2).means - plain.gaussians(2).means)[1], torch.ones(3), atol=1e-6)


def test_harmonics_are_stored_when_the_schedule_reaches_them() -> None:
    start = scene(degree=0).with_sh_degree(3)
    model = FreeGaussians(start, RATES, 100, 1.0, ShSchedule(0.1))
    assert [model.gaussians(s).sh_degree for s in (0, 9, 10, 29, 30, 99)] == [0, 0, 1, 2, 3, 3]
    # A scene that comes with harmonics keeps them from the start.
    assert FreeGaussians(scene(degree=2), RATES, 100, 1.0, ShSchedule(0.1)).gaussians(0).sh_degree == 2


@pytest.mark.parametrize("grown", [False, True])
def test_state_comes_back_exactly(grown: bool) -> None:
    start = scene()
    a = FreeGaussians(start, RATES, 10, 1.0)
    ids = torch.arange(12)
    a.update(0, ids, like(start, 0))
    if grown:
        a.edit(torch.ones(12, dtype=torch.bool), scene(5))
    b = FreeGaussians(scene(3), RATES, 10, 1.0)
    b.load_state(a.state())
    for model in (a, b):
        model.update(1, ids, like(start, 1))
    for name in oracles.fields(start):
        assert torch.equal(getattr(a.gaussians(2), name), getattr(b.gaussians(2), name))


def test_harmonics_may_move_every_few_steps_only() -> None:
    start = scene()
    model = FreeGaussians(start, LearningRates(sh_rest_every=4), total_steps=50, scene_extent=2.0)
    moved = []
    for step in range(8):
        before = model.gaussians(step).sh.clone()
        model.update(step, torch.arange(len(start)), like(start, step))
        now = model.gaussians(step).sh
        assert not torch.equal(now[:, 0], before[:, 0])
        moved.append(not torch.equal(now[:, 1:], before[:, 1:]))
    assert moved == [False, False, False, True] * 2
    # Adam's first step is as long as its rate, whatever the gradient.
    first = FreeGaussians(start, LearningRates(sh_rest_every=4), total_steps=50, scene_extent=2.0)
    for step in range(4):
        first.update(step, torch.arange(len(start)), like(start, step))
    moved_by = (first.gaussians(4).sh - start.sh)[:, 1:].abs()
    assert torch.allclose(moved_by, torch.full_like(moved_by, 4 * RATES.sh_rest), rtol=1e-3)


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("some", [False, True])
def test_the_constants_gradient_and_a_direction_say_what_all_gradients_say(every, some) -> None:
    start = scene(degree=2)
    rates = LearningRates(sh_rest_every=every)
    whole, factored = (FreeGaussians(start, rates, total_steps=50, scene_extent=2.0) for _ in range(2))
    ids = torch.tensor([1, 4, 5, 9]) if some else torch.arange(len(start))
    for step in range(7):
        seen_from = torch.tensor([0.3, -2.0, 1.0 + step])
        gradient = like(start[ids], step)
        directions = torch.nn.functional.normalize(whole.gaussians(step).means[ids] - seen_from, dim=1)
        basis = sh_basis(directions, 2)
        full = (basis / basis[:, :1])[..., None] * gradient.sh[:, :1]
        rest = oracles.fields(gradient)
        whole.update(step, ids, Gaussians(**{**rest, "sh": full}))
        factored.update(step, ids, Gaussians(**{**rest, "sh": gradient.sh[:, :1].contiguous()}), seen_from)
    a, b = whole.gaussians(7), factored.gaussians(7)
    for name, value in oracles.fields(a).items():
        assert torch.allclose(value, oracles.fields(b)[name], atol=1e-6), name
    assert not torch.equal(a.sh[ids, 1:], start.sh[ids, 1:])
