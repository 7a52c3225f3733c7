"""Free Gaussians against Adam written out, and the bookkeeping of rows."""

from __future__ import annotations

import oracles
import pytest
import torch
from torch import Tensor

from splat.core.gaussians import Gaussians
from splat.core.schedules import LearningRates
from splat.core.sh import sh_basis
from splat.core.slots import RowGradients
from splat.train.models.free import FreeGaussians

RATES = LearningRates()


def update(
    model: FreeGaussians,
    step: int,
    ids: Tensor | None,
    gradient: Gaussians,
    camera_centre: Tensor | None = None,
    rates: LearningRates = RATES,
    steps: int = 10,
    extent: float = 1.0,
) -> None:
    """One of so many steps."""
    model.update(RowGradients(ids, gradient, None, camera_centre), rates.at(step / steps, extent))


def scene(n: int = 12, degree: int = 1) -> Gaussians:
    return oracles.random_gaussians(n, torch.Generator().manual_seed(1), sh_degree=degree, dtype=torch.float32)


def like(gaussians: Gaussians, seed: int) -> Gaussians:
    generator = torch.Generator().manual_seed(seed)
    return gaussians.map(lambda t: torch.randn(t.shape, generator=generator))


def test_all_rows_in_every_step_is_torch_adam() -> None:
    start = scene()
    model = FreeGaussians(start)
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
        update(model, step, torch.arange(len(start)), gradient, steps=50, extent=2.0)
    now = model.gaussians()
    for name in ("means", "quats_wxyz", "log_scales", "logit_opacities"):
        assert torch.allclose(getattr(now, name), getattr(leaves, name), atol=1e-5), name
    assert torch.allclose(now.sh, torch.cat([sh0, rest], 1), atol=1e-5)


def test_rows_that_were_not_drawn_stand_still() -> None:
    start = scene()
    model = FreeGaussians(start)
    ids = torch.tensor([2, 5, 6])
    update(model, 0, ids, like(start[ids], 0))
    update(model, 1, ids, like(start[ids], 1))
    now = model.gaussians()
    others = torch.tensor([i for i in range(12) if i not in ids.tolist()])
    for name in oracles.fields(start):
        assert torch.equal(getattr(now, name)[others], getattr(start, name)[others])
        assert not torch.equal(getattr(now, name)[ids], getattr(start, name)[ids])


def test_editing_moves_optimizer_state_with_its_row() -> None:
    """Removing, adding and growing storage changes nothing for the rows that stay."""
    start = scene()
    edited, plain = (FreeGaussians(start) for _ in range(2))
    everything = torch.arange(12)
    first = like(start, 0)
    for model in (edited, plain):
        update(model, 0, everything, first)
    keep = torch.tensor([i not in (0, 7) for i in range(12)])
    edited.edit(keep, scene(30))
    assert len(edited.gaussians()) == 40
    second = like(start, 1)
    update(plain, 1, everything, second)
    update(edited, 1, torch.arange(10), second[keep])
    for name in oracles.fields(start):
        assert torch.equal(getattr(edited.gaussians(), name)[:10], getattr(plain.gaussians(), name)[keep])


def test_rearranging_moves_everything_with_its_row() -> None:
    start = scene()
    moved, plain = (FreeGaussians(start) for _ in range(2))
    order = torch.randperm(12, generator=torch.Generator().manual_seed(3))
    for model in (moved, plain):
        update(model, 0, None, like(start, 0))
    moved.rearrange(order)
    second = like(start, 1)
    update(plain, 1, None, second)
    update(moved, 1, None, second[order])
    for name in oracles.fields(start):
        assert torch.equal(getattr(moved.gaussians(), name), getattr(plain.gaussians(), name)[order])


def test_displacement_is_measured_from_where_the_first_ancestor_started() -> None:
    model = FreeGaussians(scene(4))
    model.track_displacement()
    start = model.gaussians().means.clone()
    model.shift(torch.tensor([1]), means=torch.tensor([[0.0, 3.0, 0.0]]))
    children = model.gaussians()[torch.tensor([1, 1, 2])]
    model.edit(torch.tensor([True, False, True, True]), children, torch.tensor([1, 1, 2]))
    model.edit(torch.ones(6, dtype=torch.bool), children[:1])  # of nobody: its own start
    model.rearrange(torch.tensor([6, 5, 4, 3, 2, 1, 0]))
    assert model.displacement().tolist() == pytest.approx([0, 0, 3, 3, 0, 0, 0])
    model.assign(torch.tensor([0]), model.gaussians()[torch.tensor([2])], torch.tensor([2]))
    model.assign(torch.tensor([6]), model.gaussians()[torch.tensor([2])])
    away = float((start[1] + torch.tensor([0.0, 3.0, 0.0]) - start[0]).norm())
    assert model.displacement().tolist() == pytest.approx([3, 0, 3, 3, 0, 0, away])
    other = FreeGaussians(scene(5))
    other.load_state(model.state())
    assert torch.equal(other.displacement(), model.displacement())


def test_new_and_overwritten_rows_start_without_momentum() -> None:
    start = scene()
    model = FreeGaussians(start)
    ids = torch.arange(12)
    update(model, 0, ids, like(start, 0))
    model.assign(torch.tensor([3]), start[torch.tensor([3])])
    model.edit(torch.ones(12, dtype=torch.bool), start[torch.tensor([4])])
    zero = start.map(torch.zeros_like)
    update(model, 1, torch.tensor([3, 12]), Gaussians.cat([zero[3:4], zero[4:5]]))
    now = model.gaussians()
    assert torch.equal(now.means[3], start.means[3]) and torch.equal(now.means[12], start.means[4])


def test_rows_appended_where_others_lay_start_without_momentum() -> None:
    """The storage of removed rows is used again."""
    start = scene()
    model = FreeGaussians(start)
    update(model, 0, None, like(start, 0))
    model.edit(torch.arange(12) < 9, start[torch.tensor([4, 5])])
    update(model, 1, torch.tensor([9, 10]), start[:2].map(torch.zeros_like))
    now = model.gaussians()
    for name, value in oracles.fields(start).items():
        assert torch.equal(getattr(now, name)[9:], value[4:6]), name


def test_shifting_keeps_momentum() -> None:
    start = scene()
    shifted, plain = (FreeGaussians(start) for _ in range(2))
    ids = torch.arange(12)
    for model in (shifted, plain):
        update(model, 0, ids, like(start, 0))
    shifted.shift(None, logit_opacities=-0.5)
    shifted.shift(torch.tensor([1]), means=torch.ones(1, 3))
    for model in (shifted, plain):
        update(model, 1, ids, like(start, 1))
    difference = shifted.gaussians().logit_opacities - plain.gaussians().logit_opacities
    assert torch.allclose(difference, torch.full((12,), -0.5), atol=1e-6)
    assert torch.allclose((shifted.gaussians().means - plain.gaussians().means)[1], torch.ones(3), atol=1e-6)


def test_harmonics_are_stored_when_a_schedule_reaches_them_and_from_then_on() -> None:
    model, degrees = FreeGaussians(scene(degree=0).with_sh_degree(3)), []
    for degree in (0, 1, 0, 3, 2):
        model.use_sh_degree(degree)
        degrees.append(model.gaussians().sh_degree)
    assert degrees == [0, 1, 1, 3, 3]
    # A scene that comes with harmonics keeps them from the start.
    assert FreeGaussians(scene(degree=2).with_sh_degree(3)).gaussians().sh_degree == 2


@pytest.mark.parametrize("grown", [False, True])
def test_state_comes_back_exactly(grown: bool) -> None:
    start = scene()
    a = FreeGaussians(start)
    ids = torch.arange(12)
    update(a, 0, ids, like(start, 0))
    if grown:
        a.edit(torch.ones(12, dtype=torch.bool), scene(5))
    b = FreeGaussians(scene(3))
    b.load_state(a.state())
    for model in (a, b):
        update(model, 1, ids, like(start, 1))
    for name in oracles.fields(start):
        assert torch.equal(getattr(a.gaussians(), name), getattr(b.gaussians(), name))


def test_a_state_takes_no_memory_beside_the_rows_and_changes_no_result() -> None:
    start, ids = scene(), torch.arange(12)
    plain, saved = (FreeGaussians(start) for _ in range(2))
    for model in (plain, saved):
        update(model, 0, ids, like(start, 0))
        model.edit(torch.ones(12, dtype=torch.bool), scene(5))
    assert len(saved.rows.values["means"]) > len(saved), "there is room for more rows"
    found = saved.state()["tensors"]
    for store in saved.rows._stores():
        assert all(len(t) == len(saved) for t in store.values())
    assert found["values"]["sh"].data_ptr() == saved.rows.values["sh"].data_ptr()
    assert found["first"]["sh"].untyped_storage().nbytes() == found["first"]["sh"].numel() * 4
    for model in (plain, saved):
        update(model, 1, ids, like(start, 1))
        model.edit(torch.ones(17, dtype=torch.bool), scene(3))
        update(model, 2, ids, like(start, 2))
    for name in oracles.fields(start):
        assert torch.equal(getattr(plain.gaussians(), name), getattr(saved.gaussians(), name))


def test_harmonics_may_move_every_few_steps_only() -> None:
    start, seldom = scene(), LearningRates(sh_rest_every=4)
    model = FreeGaussians(start)
    moved = []
    for step in range(8):
        before = model.gaussians().sh.clone()
        update(model, step, torch.arange(len(start)), like(start, step), rates=seldom)
        now = model.gaussians().sh
        assert not torch.equal(now[:, 0], before[:, 0])
        moved.append(not torch.equal(now[:, 1:], before[:, 1:]))
    assert moved == [False, False, False, True] * 2
    # Adam's first step is as long as its rate, whatever the gradient.
    first = FreeGaussians(start)
    for step in range(4):
        update(first, step, torch.arange(len(start)), like(start, step), rates=seldom)
    moved_by = (first.gaussians().sh - start.sh)[:, 1:].abs()
    assert torch.allclose(moved_by, torch.full_like(moved_by, 4 * RATES.sh_rest), rtol=1e-3)


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("some", [False, True])
def test_the_constants_gradient_and_a_direction_say_what_all_gradients_say(every, some) -> None:
    start = scene(degree=2)
    rates = LearningRates(sh_rest_every=every)
    whole, factored = (FreeGaussians(start) for _ in range(2))
    ids = torch.tensor([1, 4, 5, 9]) if some else torch.arange(len(start))
    for step in range(7):
        centre = torch.tensor([0.3, -2.0, 1.0 + step])
        gradient = like(start[ids], step)
        directions = torch.nn.functional.normalize(whole.gaussians().means[ids] - centre, dim=1)
        basis = sh_basis(directions, 2)
        full = (basis / basis[:, :1])[..., None] * gradient.sh[:, :1]
        rest = oracles.fields(gradient)
        update(whole, step, ids, Gaussians(**{**rest, "sh": full}), rates=rates)
        update(factored, step, ids, Gaussians(**{**rest, "sh": gradient.sh[:, :1].contiguous()}), centre, rates)
    a, b = whole.gaussians(), factored.gaussians()
    for name, value in oracles.fields(a).items():
        assert torch.allclose(value, oracles.fields(b)[name], atol=1e-6), name
    assert not torch.equal(a.sh[ids, 1:], start.sh[ids, 1:])
