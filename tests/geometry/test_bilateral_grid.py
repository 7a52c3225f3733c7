"""Local means that do not mix surfaces of different depth."""

from __future__ import annotations

import torch

from splat.geometry.bilateral_grid import BilateralGrid

DEPTH = torch.where(torch.arange(120)[None].expand(90, 120) < 60, 2.0, 5.0)


def test_a_constant_is_kept_and_what_no_weight_is_near_is_the_given_mean() -> None:
    grid = BilateralGrid(DEPTH)
    means = grid.means(torch.full((90, 120), 0.3), torch.ones(90, 120), 0.0)
    assert float((means - 0.3).abs().max()) < 0.02, "in corners it counts that little is near"
    assert float(grid.means(torch.zeros(90, 120), torch.zeros(90, 120), 0.7).sub(0.7).abs().max()) < 1e-6


def test_two_surfaces_side_by_side_do_not_mix() -> None:
    values = torch.where(DEPTH < 3, 0.1, -0.1)
    means = BilateralGrid(DEPTH).means(values, torch.ones(90, 120), 0.0)
    assert float((means - values).abs().max()) < 0.02
    flat = BilateralGrid(torch.full((90, 120), 2.0)).means(values, torch.ones(90, 120), 0.0)
    assert float((flat - values).abs().max()) > 0.08, "of one surface they would"


def test_few_pixels_say_what_is_around_them_and_little_about_what_is_far() -> None:
    weights = torch.zeros(90, 120)
    weights[40:50, 10:20] = 1
    means = BilateralGrid(torch.full((90, 120), 2.0)).means(torch.full((90, 120), 0.2), weights, 0.0)
    assert float(means[45, 15]) > 0.15 and float(means[45, 110].abs()) < 1e-4
