"""Fewer Gaussians that look alike: how much each one matters, and pairs of neighbours that become one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from splat.core.gaussians import SH_C0, Gaussians
from splat.core.geometry import matrix_from_quat, quat_from_matrix
from splat.core.slots import PathCamera, Rasterizer, RasterSettings
from splat.native.ops import nearest_neighbours

_MAX_OPACITY = 0.999
_NEIGHBOURS = 8
_COLOUR, _SHAPE = 20.0, 0.1
"""Weights of squared differences, of colours in 0 to 1 and of log scales, beside squared distance over squared size."""


def blended_weights(
    gaussians: Gaussians, cameras: Sequence[PathCamera], rasterizer: Rasterizer, settings: RasterSettings
) -> Float[Tensor, "n"]:
    """The sum over all pixels of all cameras of the weight with which each Gaussian is blended: as the gradient of the
    pictures by its colour, which any rasterizer gives. Gaussians on the device of the rasterizer, in its world."""
    total = gaussians.means.new_zeros(len(gaussians))
    grey = gaussians.detach().with_sh_degree(0)
    for c in cameras:
        sh = torch.zeros_like(grey.sh, requires_grad=True)
        picture = rasterizer(
            replace(grey, sh=sh), c.camera, c.world_from_cam.inverse().matrix().to(sh), sh.new_zeros(3), settings
        )
        (gradient,) = torch.autograd.grad(picture.rgb[..., 0].sum(), sh)
        total += gradient[:, 0, 0] / SH_C0
    return total


def covered_areas(gaussians: Gaussians) -> Float[Tensor, "n"]:
    """Opacity x area, the product of the two larger scales: what a Gaussian covers, seen from nowhere in particular."""
    two = gaussians.log_scales.double().topk(2, dim=1).values.sum(1)
    return gaussians.opacities.double() * two.clamp(-60, 60).exp()


def merged(gaussians: Gaussians, count: int, importance: Float[Tensor, "n"] | None = None) -> Gaussians:
    """`count` Gaussians that look like these (all of them where there are no more): rounds in which pairs of neighbours
    become one, first those that differ least in place, size and colour and matter least.

    importance: of each Gaussian, e.g. `blended_weights`; None: `covered_areas`. Half of kermit's 27,600 Gaussians are
    31.2 dB from the picture of all on held-out photos, where leaving out the least important half gives 24.0 dB.
    """
    g = gaussians.detach()
    w = (covered_areas(g) if importance is None else importance.to(g.means.device).double()).clamp_min(1e-12)
    while len(g) > max(count, 1):
        pairs = _pairs(g, w)
        pairs = pairs[: min(len(g) - count, max(1, len(pairs) // 2))]
        alone = torch.ones(len(g), dtype=torch.bool, device=g.means.device)
        alone[pairs.reshape(-1)] = False
        w = torch.cat([w[alone], w[pairs].sum(1)])
        g = Gaussians.cat([g[alone], _united(g, pairs)])
    return g


def _pairs(g: Gaussians, importance: Float[Tensor, "n"]) -> Int[Tensor, "m 2"]:
    """Pairs that are each other's cheapest neighbour, the cheapest first: squared distance over squared size, plus
    squared differences of colours and log scales, x the importance of the lesser one."""
    n = len(g)
    ids = torch.arange(n, device=g.means.device)
    if n == 2:
        return ids[None]
    near = nearest_neighbours(g.means.contiguous(), min(_NEIGHBOURS, n - 1))[1].long()
    size = g.log_scales.double().mul(2).exp().sum(1)
    apart = (g.means[:, None] - g.means[near]).double().square().sum(2)
    cost = apart / (size[:, None] + size[near]).clamp_min(1e-30)
    cost += _COLOUR * (g.base_rgb[:, None] - g.base_rgb[near]).double().square().sum(2)
    cost += _SHAPE * (g.log_scales[:, None] - g.log_scales[near]).double().square().sum(2)
    cost *= torch.minimum(importance[:, None], importance[near])
    least, which = cost.min(1)
    partner = near[ids, which]
    first = ids[(partner[partner] == ids) & (ids < partner)]
    if len(first) == 0:  # neighbours of equal cost in a ring
        first = least.argmin()[None]
    pairs = torch.stack([first, partner[first]], 1)
    return pairs[least[first].argsort(stable=True)]


def _united(g: Gaussians, pairs: Int[Tensor, "m 2"]) -> Gaussians:
    """One Gaussian for each pair, with the moments of both, weighted by what they cover, which it covers too."""
    covered = covered_areas(g)[pairs].clamp_min(1e-60)
    w = covered / covered.sum(1, keepdim=True)
    means = g.means.double()[pairs]
    mean = (w[..., None] * means).sum(1)
    d = means - mean[:, None]
    half = matrix_from_quat(g.quats_wxyz.double())[pairs] * g.log_scales.double().exp()[pairs][..., None, :]
    covariance = (w[..., None, None] * (half @ half.transpose(-1, -2) + d[..., :, None] * d[..., None, :])).sum(1)
    variances, axes = torch.linalg.eigh(covariance)
    axes[torch.linalg.det(axes) < 0] *= -1
    log_scales = 0.5 * variances.clamp_min(1e-30).log()
    area = log_scales[:, 1:].sum(1).exp()
    opacities = (covered.sum(1) / area).clamp(1e-6, _MAX_OPACITY)
    sh = (w[..., None, None] * g.sh.double()[pairs]).sum(1)
    fields = (mean, quat_from_matrix(axes), log_scales, opacities.logit(), sh)
    return Gaussians(*(f.to(g.means.dtype) for f in fields))
