"""Merging neighbours: counts, moments, and pictures that stay."""

from __future__ import annotations

from dataclasses import replace

import oracles
import torch

from splat.core.camera import Camera
from splat.core.gaussians import Gaussians
from splat.core.geometry import Rigid
from splat.core.metrics import psnr
from splat.core.slots import PathCamera, RasterSettings
from splat.geometry.decimation import blended_weights, covered_areas, merged
from splat.raster.reference import Reference

CAMERA = Camera(60.0, 60.0, 24.0, 18.0, 48, 36)


def wall(n: int = 400) -> Gaussians:
    """Discs side by side on a wall, coloured smoothly."""
    g = oracles.random_gaussians(n, torch.Generator().manual_seed(1), 0, dtype=torch.float32)
    at = torch.rand(n, 2, generator=torch.Generator().manual_seed(2)) * 2 - 1
    means = torch.cat([at, torch.full((n, 1), 3.0)], 1)
    sh = torch.stack([at[:, 0], at[:, 1], at[:, 0] * at[:, 1]], 1)[:, None]
    log_scales = torch.tensor([-2.5, -2.5, -5.0]).expand(n, 3).contiguous()
    quats = torch.tensor([1.0, 0, 0, 0]).expand(n, 4).contiguous()
    return replace(g, means=means, sh=sh, log_scales=log_scales, quats_wxyz=quats, logit_opacities=torch.zeros(n))


def picture(g: Gaussians) -> torch.Tensor:
    return Reference()(g, CAMERA, Rigid.identity().matrix().float(), torch.zeros(3), RasterSettings()).rgb


def test_two_become_one_with_the_moments_of_both() -> None:
    g = wall(2)
    one = merged(g, 1)
    assert len(one) == 1 and torch.allclose(one.means[0], g.means.mean(0), atol=1e-5)
    d = (g.means - g.means.mean(0)).double()
    expected = g.covariances.double().mean(0) + torch.einsum("ni,nj->ij", d, d) / 2
    assert torch.allclose(one.covariances[0].double(), expected, atol=1e-6)


def test_half_of_a_smooth_wall_looks_like_all_of_it() -> None:
    g = wall()
    half = merged(g, 200)
    fewest = g[covered_areas(g).argsort(descending=True)[:200]]
    assert len(half) == 200 and psnr(picture(half), picture(g)) > 24
    assert psnr(picture(half), picture(g)) > psnr(picture(fewest), picture(g)) + 6


def test_what_matters_is_merged_last_and_nothing_where_there_are_few() -> None:
    g = wall()
    left = g.means[:, 0] < 0
    half = merged(g, 200, torch.where(left, 100.0, 1.0))
    remain = float((half.means[:, 0] < 0).sum() / left.sum()), float((half.means[:, 0] >= 0).sum() / (~left).sum())
    assert remain[0] > 0.7 and remain[1] < 0.4 and len(merged(g, 500)) == 400


def test_blended_weights_are_those_of_the_picture() -> None:
    g = replace(wall(30), sh=torch.full((30, 1, 3), -0.5 / 0.28209479177387814))  # black
    camera = PathCamera(CAMERA, Rigid.identity())
    weights = blended_weights(g, [camera, camera], Reference(), RasterSettings())
    lit = replace(g, sh=g.sh.clone())
    lit.sh[7] = 0.5 / 0.28209479177387814
    assert torch.allclose(weights[7], 2 * picture(lit)[..., 0].sum(), rtol=1e-3)
    assert (weights >= 0).all()
