"""Which Gaussians density control removes: those fainter than its limit, and no others."""

from __future__ import annotations

import oracles
import pytest
import torch

from splat.core.slots import DensitySettings
from splat.train.density import DefaultDensity, NoDensity
from splat.train.models.free import FreeGaussians


@pytest.mark.parametrize("limit", [0.005, 0.05])
@pytest.mark.parametrize("default", [True, False])
def test_gaussians_fainter_than_the_limit_are_removed_and_no_others(default: bool, limit: float) -> None:
    start = oracles.random_gaussians(6, torch.Generator().manual_seed(0), 0, dtype=torch.float32)
    start.logit_opacities[:] = torch.logit(limit * torch.tensor([0.5, 0.98, 1.02, 2.0, 9.0, 15.0]))
    settings: DensitySettings = (
        DefaultDensity(cap=6, start=0.0, every=0.5, prune_opacity=limit) if default else NoDensity(limit, 0.5)
    )
    control, model = settings(100, 1.0), FreeGaussians(start)
    for step in range(50):
        control.after_update(step, model, 0.01, torch.Generator())
    assert torch.equal(model.gaussians().means, start.means[2:])
