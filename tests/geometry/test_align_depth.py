"""Depth without a scale, aligned to depth that is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from splat.geometry.align_depth import Alignment, align_depth


def scene(seed: int, n: int = 2000) -> Tensor:
    return 1 + 9 * torch.rand(n, generator=torch.Generator().manual_seed(seed)).double()


def draw(seed: int, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(1, generator=torch.Generator().manual_seed(1000 + seed)))


def values_of(z: Tensor, family: str, seed: int) -> Tensor:
    if family == "disparity":
        return (1 / z - draw(seed, -0.5, 0.05)) / draw(seed + 1, 0.5, 2)
    if family == "metric":
        return z / draw(seed, 0.5, 2)
    return (z - draw(seed, -0.5, 0.5)) / draw(seed + 1, 0.5, 2)


@pytest.mark.parametrize("family", ["disparity", "up-to-scale", "metric"])
@pytest.mark.parametrize("seed", range(5))
def test_scale_and_offset_are_recovered(family: str, seed: int) -> None:
    z = scene(seed)
    found = align_depth(values_of(z, family, seed), z, family)  # type: ignore[arg-type]
    assert found is not None and found.error < 1e-6
    assert float((found.depth(values_of(z, family, seed)) / z - 1).abs().max()) < 1e-4


@pytest.mark.parametrize("family", ["disparity", "up-to-scale", "metric"])
@pytest.mark.parametrize("seed", range(5))
def test_a_fifth_of_outliers_and_noise_change_it_little(family: str, seed: int) -> None:
    z = scene(seed)
    g = torch.Generator().manual_seed(seed)
    known = z * (1 + 0.02 * torch.randn(len(z), generator=g).double())
    wrong = torch.rand(len(z), generator=g) < 0.2
    known = torch.where(wrong, 1 + 30 * torch.rand(len(z), generator=g).double(), known)
    values = values_of(z, family, seed)
    found = align_depth(values, known, family)  # type: ignore[arg-type]
    assert found is not None
    assert float((found.depth(values) / z - 1).abs().median()) < 0.02


def test_weights_say_what_counts() -> None:
    z = scene(0)
    values = values_of(z, "disparity", 0)
    half = torch.arange(len(z)) % 2 == 0
    known = torch.where(half, z, 3 * z)
    found = align_depth(values, known, "disparity", half.double())
    assert found is not None and float((found.depth(values) / z - 1).abs().max()) < 1e-3


@pytest.mark.parametrize("factor", [1e-3, 1.0, 1e4])
def test_the_unit_of_the_world_does_not_matter(factor: float) -> None:
    z = scene(3)
    values = values_of(z, "disparity", 3)
    found = align_depth(values, factor * z, "disparity")
    assert found is not None and float((found.depth(values) / (factor * z) - 1).abs().max()) < 1e-3


def test_the_order_of_samples_does_not_matter() -> None:
    z = scene(4)
    values = values_of(z, "disparity", 4)
    order = torch.randperm(len(z), generator=torch.Generator().manual_seed(9))
    one, other = align_depth(values, z, "disparity"), align_depth(values[order], z[order], "disparity")
    assert one is not None and other is not None and one.scale == pytest.approx(other.scale, rel=1e-6)


def test_nothing_comes_of_too_little_or_of_depth_that_runs_the_other_way() -> None:
    z = scene(5)
    assert align_depth(z[:4], z[:4], "disparity") is None
    assert align_depth(torch.full((50,), torch.nan), z[:50], "up-to-scale") is None
    assert align_depth(z, z, "disparity") is None, "depth is not disparity"


def test_what_lies_behind_the_camera_has_no_depth() -> None:
    far = Alignment(2.0, -1.0, True, 0.0).depth(torch.tensor([0.25, 0.5, 1.0]))
    assert far.tolist() == [0.0, 0.0, 1.0]
