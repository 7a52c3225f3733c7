"""The losses of CoherentGS: total variation within layers, and L1 at smaller sizes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from splat.core.camera import Camera
from splat.core.gaussians import Gaussians
from splat.core.slots import Item, Render, Step
from splat.losses import Losses
from splat.losses.layers import layered_variation
from splat.losses.multiscale import coarse_l1

NONE = Gaussians(*(torch.zeros(0, *s) for s in ((3,), (4,), (3,), (), (1, 3))))


def step_of(depth: Tensor, layers: Tensor | None, rgb: Tensor | None = None, photo: Tensor | None = None) -> Step:
    h, w = depth.shape
    photo = torch.zeros(h, w, 3, dtype=torch.uint8) if photo is None else photo
    rgb = torch.zeros(h, w, 3) if rgb is None else rgb
    item = Item(Camera(10.0, 10.0, w / 2, h / 2, w, h), torch.eye(4), photo, layers=layers, depth_unit=2.0)
    alpha = torch.full((h, w), 0.8)
    render = Render(rgb, alpha, alpha * depth, torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64))
    return Step(0, item, render, rgb, None, photo, NONE, None, 1.0)


def halves(h: int = 6, w: int = 8) -> Tensor:
    layers = torch.zeros(h, w, dtype=torch.int64)
    layers[:, w // 2 :] = 1
    return layers


def test_constant_depth_varies_nowhere() -> None:
    for share in (0.0, 0.35, 1.0):
        assert float(layered_variation(step_of(torch.full((6, 8), 3.0), halves()), share)) < 1e-7


def test_a_step_between_layers_costs_nothing_where_only_layers_count() -> None:
    """The published loss, which masks before it takes differences, has an edge of height q there."""
    depth = torch.where(halves() == 0, 2.0, 6.0)
    step = step_of(depth, halves())
    assert float(layered_variation(step, 1.0)) < 1e-7
    q = [1 / (1 + 2 / 2), 1 / (1 + 6 / 2)]
    jumps = 6 * abs(q[0] - q[1]) / (6 * 7)
    for share in (0.0, 0.35):
        assert float(layered_variation(step, share)) == pytest.approx((1 - share) * jumps, rel=1e-4)
    assert float(layered_variation(step_of(depth, torch.full((6, 8), -1)), 1.0)) < 1e-7


def test_variation_of_four_pixels_by_hand() -> None:
    depth = torch.tensor([[2.0, 4.0], [6.0, 2.0]])
    q = 1 / (1 + depth / 2)
    across = ((q[0, 0] - q[0, 1]).abs() + (q[1, 0] - q[1, 1]).abs()) / 2
    down = ((q[0, 0] - q[1, 0]).abs() + (q[0, 1] - q[1, 1]).abs()) / 2
    assert float(layered_variation(step_of(depth, None), 1.0)) == pytest.approx(float(across + down), rel=1e-4), (
        "without layers it counts everywhere"
    )
    assert float(layered_variation(step_of(depth, torch.zeros(2, 2, dtype=torch.int64)), 1.0)) == pytest.approx(
        float(across + down), rel=1e-4
    )


def test_the_share_goes_from_the_published_start_to_its_end() -> None:
    depth = torch.where(halves() == 0, 2.0, 6.0)
    step = step_of(depth, halves())
    for first, last in ((0.35, 1.0), (0.0, 1.0)):  # code, paper
        losses = Losses(l1=0.0, dssim=0.0, layered=5.0, layered_from=first, layered_to=last)
        values = [float(losses(replace(step, progress=p))[0]) for p in (0.0, 0.5, 1.0)]
        whole = 5 * float(layered_variation(step, 0.0))
        assert values == pytest.approx([whole * (1 - first), whole * (1 - (first + last) / 2), 0.0], abs=1e-6)


def test_weights_that_change_cannot_be_replayed() -> None:
    assert Losses().replayable and not Losses(layered=5.0).replayable


def test_coarse_l1_of_four_pixels_by_hand() -> None:
    rgb = torch.tensor([[0.1, 0.3], [0.5, 0.9]])[..., None].expand(2, 2, 3).contiguous()
    photo = torch.full((2, 2, 3), 51, dtype=torch.uint8)  # 0.2
    step = step_of(torch.ones(2, 2), None, rgb, photo)
    assert float(coarse_l1(step)) == pytest.approx(0.25 * abs(0.45 - 0.2), rel=1e-5)
    total, figures = Losses(l1=0.8, dssim=0.0, coarse=0.8)(step)
    assert float(total) == pytest.approx(0.8 * (0.1 + 0.1 + 0.3 + 0.7) / 4 + 0.8 * 0.25 * 0.25, rel=1e-4)
    assert figures["coarse"] == pytest.approx(0.25 * 0.25, rel=1e-5)


def test_sizes_of_coarse_l1_weigh_less_and_less() -> None:
    flat = torch.full((32, 48, 3), 0.5)
    step = step_of(torch.ones(32, 48), None, flat)
    assert float(coarse_l1(step)) == pytest.approx(0.5 * (1 / 4 + 1 / 8 + 1 / 16 + 1 / 32), rel=1e-5)


def test_pixels_without_weight_say_nothing_to_coarse_l1() -> None:
    rgb = torch.zeros(32, 48, 3)
    rgb[:, 24:] = 1.0
    step = step_of(torch.ones(32, 48), None, rgb)
    weight = torch.full((32, 48), 255, dtype=torch.uint8)
    weight[:, 24:] = 0
    assert float(coarse_l1(replace(step, item=replace(step.item, weight=weight)))) == 0
