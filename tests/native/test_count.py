"""The slow counter counts what the definition says, and its image is the fast kernel's."""

import pytest
import torch

from splat.core.camera import Camera
from splat.native import bindings, build
from splat.raster.native import bin_tiles

pytestmark = pytest.mark.skipif(build.unavailable() is not None, reason="no kernels")


def test_pairs_and_image_agree_with_the_definition():
    rng = torch.Generator().manual_seed(3)
    n, w, h = 200, 37, 29
    rows = torch.zeros(n, bindings.FIELDS)
    rows[:, :2] = torch.rand(n, 2, generator=rng) * torch.tensor([w, h])
    a, b, c = (
        0.2 + torch.rand(n, generator=rng),
        torch.randn(n, generator=rng) / 4,
        0.2 + torch.rand(n, generator=rng),
    )
    rows[:, 2], rows[:, 3], rows[:, 4] = a, b, c
    rows[:, 5] = -3 * torch.rand(n, generator=rng)
    reach = rows[:, 5] - torch.tensor(1 / 255).log2()
    # The box of u^2 + v^2 <= reach, with u = a dx + b dy and v = c dy.
    rows[:, 6], rows[:, 7] = (reach * (1 / a**2 + (b / (a * c)) ** 2)).sqrt(), reach.sqrt() / c
    rows[:, bindings.DEPTH] = torch.randperm(n, generator=rng) + 1.0
    rows[:, 9:] = torch.rand(n, 3, generator=rng)
    background = torch.tensor([0.3, 0.6, 0.1])

    order = rows[:, bindings.DEPTH].sort().indices.int()
    rgb, margin, pairs = torch.empty(h, w, 3), torch.empty(h, w), torch.empty(1, dtype=torch.int64)
    bindings.call("splat_count_pairs", rows, w, h, n, order, background, 1e-4, rgb, margin, pairs)

    s = rows[order.long()].double()
    camera = Camera(1.0, 1.0, 0.0, 0.0, w, h)
    pixels = camera.pixel_centres().reshape(-1, 1, 2).double()
    dx, dy = (pixels - s[:, :2]).unbind(-1)
    alpha = (s[:, 5] - (s[:, 2] * dx + s[:, 3] * dy) ** 2 - (s[:, 4] * dy) ** 2).exp2()
    shown = alpha >= 1 / 255
    alpha = torch.where(shown, alpha.clamp(max=0.999), 0)
    passed = torch.cat([torch.ones(h * w, 1), (1 - alpha).cumprod(1)], 1)
    contributing = shown & (passed[:, :-1] >= 1e-4)
    assert int(pairs) == int(contributing.sum()) > 10_000
    truth = torch.zeros(h * w, 3, dtype=torch.float64)
    left = torch.ones(h * w, dtype=torch.float64)
    for i in range(n):
        weight = torch.where(contributing[:, i], alpha[:, i] * left, 0)
        truth, left = truth + weight[:, None] * s[i, 9:], left - weight
    truth += left[:, None] * background
    assert (rgb.reshape(-1, 3) - truth).abs().max() < 1e-6

    bins = bin_tiles(rows, camera)
    mine, plane, evaluated = torch.empty(h, w, 3), torch.empty(2, h, w), torch.empty(6, dtype=torch.int64)
    image = (background, 1e-4, mine, plane[0], plane[1], None, evaluated)
    bindings.call("splat_blend_forward", rows, w, h, bins.tile_start, bins.entries, *image)
    assert ((mine - rgb).abs().amax(2)[margin > 1e-4]).max() < 1e-5 and (margin > 1e-4).float().mean() > 0.9
    assert int(pairs) <= int(evaluated.sum()) < 3 * int(pairs)
