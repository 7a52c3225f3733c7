"""Losses of rendered depth."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from splat.core.camera import Camera
from splat.core.gaussians import Gaussians
from splat.core.slots import Item, Render, Step
from splat.losses import Losses
from splat.losses.depth import depth_error, disparity_variation

H, W = 6, 8
NONE = Gaussians(*(torch.zeros(0, *s) for s in ((3,), (4,), (3,), (), (1, 3))))


def step_of(depth: Tensor, alpha: Tensor, known: Tensor | None, probability: float = 1.0, photo=None) -> Step:
    photo = torch.full((H, W, 3), 128, dtype=torch.uint8) if photo is None else photo
    item = Item(Camera(10.0, 10.0, 4.0, 3.0, W, H), torch.eye(4), photo)
    if known is not None:
        inverse = torch.where(known > 0, 1 / known.clamp_min(1e-9), 0)
        item = replace(item, inverse_depth=inverse, probability=probability * (known > 0).to(depth))
    rgb = torch.zeros(H, W, 3, dtype=depth.dtype)
    render = Render(rgb, alpha, alpha * depth, torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64))
    return Step(0, item, render, rgb, None, photo, NONE, None, 1.0)


def flat(value: float) -> Tensor:
    return torch.full((H, W), value, dtype=torch.float64)


def test_the_right_depth_costs_nothing_whatever_the_opacity() -> None:
    for alpha in (0.3, 0.9):
        assert float(depth_error(step_of(flat(3.0), flat(alpha), flat(3.0)), 0.1)) == pytest.approx(0, abs=1e-12)


def test_errors_are_relative_weighted_and_bounded() -> None:
    assert float(depth_error(step_of(flat(3.15), flat(0.8), flat(3.0)), 0.1)) == pytest.approx(0.05)
    assert float(depth_error(step_of(flat(31.5), flat(0.8), flat(30.0), 0.4), 0.1)) == pytest.approx(0.02)
    assert float(depth_error(step_of(flat(9.0), flat(0.8), flat(3.0)), 0.1)) == pytest.approx(0.1)


def test_unknown_depth_says_nothing() -> None:
    known = flat(3.0)
    known[:, :4] = 0
    assert float(depth_error(step_of(flat(3.15), flat(0.8), known), 0.1)) == pytest.approx(0.025)
    assert depth_error(step_of(flat(3.0), flat(0.8), None), 0.1) is None


def test_a_flat_disparity_has_no_variation_and_an_edge_of_the_photo_excuses_one() -> None:
    assert float(disparity_variation(step_of(flat(3.0), flat(0.8), None))) == 0
    depth = flat(3.0)
    depth[:, 4:] = 6.0
    photo = torch.full((H, W, 3), 128, dtype=torch.uint8)
    photo[:, 4:] = 255
    inside = float(disparity_variation(step_of(depth, flat(0.8), None)))
    at_edge = float(disparity_variation(step_of(depth, flat(0.8), None, photo=photo)))
    # one jump a row, of 1/3 - 1/6 relative to the mean of 1/4, over W columns
    assert inside == pytest.approx((1 / 6) / (1 / 4) / W) and at_edge < 0.01 * inside
    far = float(disparity_variation(step_of(100 * depth, flat(0.8), None)))
    assert far == pytest.approx(inside), "the unit of the world does not matter"


@pytest.mark.parametrize("term", ["depth", "smoothness"])
def test_gradients_are_those_of_finite_differences(term: str) -> None:
    g = torch.Generator().manual_seed(0)
    depth = (3 + 0.3 * torch.rand(H, W, generator=g, dtype=torch.float64)).requires_grad_()
    alpha = (0.5 + 0.4 * torch.rand(H, W, generator=g, dtype=torch.float64)).requires_grad_()
    known = flat(3.1)

    def value(depth: Tensor, alpha: Tensor) -> Tensor:
        step = step_of(depth, alpha, known)
        if term == "depth":
            found = depth_error(step, 0.5)
            assert found is not None
            return found
        return disparity_variation(step)

    if term == "depth":
        assert torch.autograd.gradcheck(value, (depth, alpha), eps=1e-7)
        return
    # the mean disparity is a constant of the loss: differences of the loss times it, held
    d0 = float((1 / depth.detach()).mean())

    def scaled(depth: Tensor, alpha: Tensor) -> Tensor:
        return value(depth, alpha) * (1 / depth.detach()).mean() / d0

    assert torch.autograd.gradcheck(scaled, (depth, alpha), eps=1e-7, atol=1e-4)


def test_an_item_may_leave_the_terms_out() -> None:
    losses = Losses(l1=0.0, dssim=0.0, depth=1.0, smoothness=1.0)
    step = step_of(flat(3.15).float(), flat(0.8).float(), flat(3.0).float())
    total, figures = losses(step)
    assert float(total) == pytest.approx(0.05, rel=1e-3) and set(figures) == {"depth", "smoothness"}
    other = replace(step, item=replace(step.item, terms=frozenset({"l1"})))
    assert float(losses(other)[0]) == 0
