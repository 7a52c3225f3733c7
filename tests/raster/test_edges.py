"""Where the drawing of a Gaussian ends: to the last pixel of an opacity of 1/255, and with it in the lists of tiles."""

from __future__ import annotations

import oracles
import pytest
import torch
from torch import Tensor

from splat.core.camera import Camera
from splat.core.gaussians import Gaussians
from splat.core.slots import Rasterizer, RasterSettings
from splat.native import bindings, build
from splat.raster.native import Native, bin_tiles
from splat.raster.reference import Reference

compiled = pytest.mark.skipif(build.unavailable() is not None, reason="no compiled kernels")
RASTERIZERS = [Reference(), pytest.param(Native(), marks=compiled)]
EYE = torch.eye(4)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ellipses(n: int, size: int, seed: int, lengths: tuple[float, float], opacity: tuple[float, float]) -> Tensor:
    """Projected rows of the fields that binning and blending read, colours and depths aside: ellipses of standard
    deviations within `lengths` px, turned anyhow, over an image of size x size."""
    g = seeded(seed)
    low, high = (torch.tensor(v).double().log() for v in lengths)
    s = (low + (high - low) * torch.rand(n, 2, generator=g).double()).exp()
    turn = torch.pi * torch.rand(n, generator=g).double()
    cos, sin = turn.cos(), turn.sin()
    xx, yy = cos**2 * s[:, 0] ** 2 + sin**2 * s[:, 1] ** 2, sin**2 * s[:, 0] ** 2 + cos**2 * s[:, 1] ** 2
    xy, det = cos * sin * (s[:, 0] ** 2 - s[:, 1] ** 2), (s[:, 0] * s[:, 1]) ** 2
    faint = opacity[0] + (opacity[1] - opacity[0]) * torch.rand(n, generator=g).double()
    octave = torch.tensor(2.0).double().log()
    half = 0.5 / octave  # u^2 + v^2 are octaves
    a = (half * yy / det).sqrt()
    reach = 2 * (255 * faint).log()
    centre = size * torch.rand(n, 2, generator=g).double()
    rows = torch.zeros(n, bindings.FIELDS, dtype=torch.float64)
    rows[:, :2] = centre
    rows[:, 2], rows[:, 3], rows[:, 4] = a, -a * xy / yy, (half / yy).sqrt()
    rows[:, 5], rows[:, 6], rows[:, 7] = faint.log() / octave, (reach * xx).sqrt(), (reach * yy).sqrt()
    return rows.float()


def alphas(rows: Tensor, size: int) -> Tensor:
    """[n size size], float64, by the formula."""
    x, y, a, b, c, power = rows.double()[:, :6].T[..., None, None]
    at = torch.arange(size).double() + 0.5
    dx, dy = at[None, None, :] - x, at[None, :, None] - y
    return torch.exp2(power - (a * dx + b * dy) ** 2 - (c * dy) ** 2)


@compiled
def test_every_tile_with_a_pixel_that_is_reached_is_listed_and_hardly_another() -> None:
    size, tile, depth = 96, bindings.TILE, 8
    camera = Camera(50.0, 50.0, 48.0, 48.0, size, size)
    for seed, lengths in enumerate([(0.55, 1.5), (0.6, 12.0), (3.0, 40.0)]):
        rows = ellipses(1500, size, seed, lengths, (0.006, 1.0))
        rows[:, depth] = torch.rand(len(rows), generator=seeded(9)) + 1
        bins = bin_tiles(rows, camera)
        tiles = (size // tile) ** 2
        listed = torch.zeros(len(rows), tiles, dtype=torch.bool)
        for t in range(tiles):
            listed[bins.entries[bins.tile_start[t] : bins.tile_start[t + 1], 0].long(), t] = True
        images = [alphas(part, size)[:, None] for part in rows.split(250)]
        brightest = torch.cat([torch.nn.functional.max_pool2d(i, tile)[:, 0].flatten(1) for i in images])
        assert not bool((brightest >= 1.0001 / 255).logical_and(~listed).any()), f"lengths {lengths}: a tile is missing"
        beyond = float((listed & (brightest < 0.98 / 255)).sum() / listed.sum())
        assert beyond < 0.02, f"lengths {lengths}: {beyond:.3f} of the pairs are for nothing"


@compiled
def test_not_a_pixel_is_missing_at_the_edge_of_an_ellipse() -> None:
    """Blocks of pixels are passed over by an estimate; it must never be short."""
    size, depth, red = 256, 8, 9
    camera = Camera(50.0, 50.0, size / 2, size / 2, size, size)
    shapes = [((30.0, 70.0), (0.3, 1.0)), ((0.6, 60.0), (0.02, 1.0)), ((4.0, 20.0), (0.005, 0.2))]
    for seed, (lengths, opacity) in enumerate(shapes):
        rows = ellipses(60, size, seed, lengths, opacity)
        rows[:, depth], rows[:, red] = 1, 1
        truth = alphas(rows, size)
        for i in range(len(rows)):
            one = rows[i : i + 1].contiguous()
            bins = bin_tiles(one, camera)
            rgb, alpha, deep = (torch.empty(size, size, *more) for more in ((3,), (), ()))
            bindings.call(
                "splat_blend_forward",
                *(one, size, size, bins.tile_start, bins.entries, torch.zeros(3), 1e-4, rgb, alpha, deep, None, None),
            )
            missing = (truth[i] > (1 + 1e-5) / 255) & (alpha == 0)
            assert not bool(missing.any()), (lengths, i, missing.nonzero()[:3])
            assert not bool(((truth[i] < (1 - 1e-5) / 255) & (alpha > 0)).any()), (lengths, i)


@compiled
def test_rows_of_one_depth_are_listed_in_their_order_however_many_threads_sort_them() -> None:
    """Enough rows that several threads sort them side by side."""
    n, size, depth = 60_000, 16, 8
    rows = torch.zeros(n, bindings.FIELDS)
    rows[:, :8] = torch.tensor([8.5, 8.5, 1.0, 0.0, 1.0, -2.0, 3.0, 3.0])
    rows[:, depth] = (torch.arange(n) * 7 % 3 + 1).float()  # three depths, mixed
    expected = rows[:, depth].argsort(stable=True)
    before = bindings.get_threads()
    try:
        for threads in (1, 2, 4):
            bindings.set_threads(threads)
            found = bin_tiles(rows, Camera(9.0, 9.0, 8.0, 8.0, size, size)).entries[:, 0].long()
            assert torch.equal(found, expected), f"{threads} threads"
    finally:
        bindings.set_threads(before)


@pytest.mark.parametrize("rasterizer", RASTERIZERS, ids=lambda r: r.name)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("degree", [0, 1, 3])
def test_one_harmonic_that_is_not_finite_is_enough_for_a_row_not_to_be_drawn(
    rasterizer: Rasterizer, value: float, degree: int
) -> None:
    """Minus infinity, too, of which black would be left."""
    camera = oracles.random_camera(40, 30, 30.0)
    clean = oracles.random_gaussians(40, seeded(3), degree, dtype=torch.float32)
    pose = oracles.random_pose(seeded(4), torch.float32)
    drawn = (rasterizer(clean, camera, pose, torch.zeros(3), RasterSettings()).radii > 0).nonzero()[:, 0]
    for at, row in enumerate(drawn[: clean.sh.shape[1]].tolist()):
        bad = Gaussians(clean.means, clean.quats_wxyz, clean.log_scales, clean.logit_opacities, clean.sh.clone())
        bad.sh[row, at, row % 3] = value
        keep = torch.arange(len(bad)) != row
        found = rasterizer(bad, camera, pose, torch.zeros(3), RasterSettings())
        expected = rasterizer(clean[keep], camera, pose, torch.zeros(3), RasterSettings())
        assert int(found.radii[row]) == 0 and torch.equal(found.rgb, expected.rgb)
