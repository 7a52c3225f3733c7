"""Depth maps of several views, aligned by matches between them: the published way, and one without its faults."""

from __future__ import annotations

from dataclasses import replace

import planes
import pytest
import torch
from torch import Tensor

from splat.core.camera import Camera
from splat.geometry.align_views import WorldDistance, align_by_disparity, align_by_world, inverse_depths
from splat.geometry.depth_flow import PairMatches, match_pairs
from splat.geometry.reproject import PosedDepth

CAMERA = Camera(110.0, 110.0, 60.0, 45.0, 120, 90)
SCENE = planes.PlaneScene.make(50.0)
"""Tilted, so that each photo has a range of depths: a scale and an offset are two numbers."""


def world(
    count: int, step: float = 0.35
) -> tuple[list[Tensor], list[PairMatches], tuple[list[Camera], list[planes.Rigid]]]:
    poses = planes.walk(count, step)
    depths = [SCENE.depth(CAMERA, p).float() for p in poses]
    return depths, match_pairs([PosedDepth(CAMERA, p, d) for p, d in zip(poses, depths)]), ([CAMERA] * count, poses)


def between(low: float, high: float, seed: int) -> float:
    return low + (high - low) * float(torch.rand(1, generator=torch.Generator().manual_seed(seed)))


def relative(depths: list[Tensor], family: str) -> list[Tensor]:
    """Depth with a scale in [0.5, 2] and an offset of its own for each view."""
    out = []
    for i, z in enumerate(depths):
        scale, offset = between(0.5, 2, i), between(-0.5, 0.5, 50 + i)
        out.append((1 / z - 0.1 * offset) / scale if family == "disparity" else (z - offset) / scale)
    return out


def moved(pairs: list[PairMatches], sigma: float = 0.0, outliers: float = 0.0) -> list[PairMatches]:
    """Matches with noise, a share of them anywhere."""
    g = torch.Generator().manual_seed(7)
    out = []
    for p in pairs:
        at = p.pixels_b + sigma * torch.randn(p.pixels_b.shape, generator=g)
        wrong = torch.rand(len(at), generator=g) < outliers
        anywhere = torch.rand(at.shape, generator=g) * torch.tensor([120.0, 90.0])
        out.append(replace(p, pixels_b=torch.where(wrong[:, None], anywhere, at)))
    return out


def thinned(pairs: list[PairMatches], every: int = 40) -> list[PairMatches]:
    """Fewer matches, for speed."""
    return [
        replace(p, pixel_ids=p.pixel_ids[::every], pixels_a=p.pixels_a[::every], pixels_b=p.pixels_b[::every])
        for p in pairs
    ]


def errors(found: list, values: list[Tensor], depths: list[Tensor]) -> list[float]:
    assert all(a is not None for a in found)
    return [float((a.depth(v) / z - 1).abs().median()) for a, v, z in zip(found, values, depths)]


@pytest.mark.parametrize(
    "family, count", [("disparity", 2), ("up-to-scale", 2), ("disparity", 3), ("up-to-scale", 3), ("disparity", 8)]
)
def test_depth_is_recovered_whatever_scale_and_offset_each_view_has(family: str, count: int) -> None:
    depths, pairs, cameras = world(count)
    values = relative(depths, family)
    assert max(errors(align_by_disparity(values, *cameras, pairs, family), values, depths)) < 0.01
    wrong = moved(pairs, outliers=0.2)
    assert max(errors(align_by_disparity(values, *cameras, wrong, family), values, depths)) < 0.02


@pytest.mark.parametrize("family", ["disparity", "up-to-scale"])
@pytest.mark.parametrize("sigma", [2.0, 5.0])
def test_noise_of_matches_does_not_shrink_the_scene(family: str, sigma: float) -> None:
    depths, pairs, cameras = world(3)
    values = relative(depths, family)
    found = align_by_disparity(values, *cameras, moved(pairs, sigma), family)
    for a, v, z in zip(found, values, depths):
        assert a is not None
        bias = float((a.depth(v) / z).median()) - 1
        assert abs(bias) < (0.005 if sigma == 2.0 else 0.05), "of a parallax of 10 px"


def test_the_published_alignment_shrinks_a_scene_of_noisy_matches() -> None:
    """Why it is not the default of anything but the published method."""
    depths, pairs, cameras = world(3, step=0.8)
    found = [align_by_world(depths, *cameras, moved(thinned(pairs), s), 2.0) for s in (0.0, 5.0)]
    size = [float(torch.cat([(a.depth(z) / z).reshape(-1) for a, z in zip(f, depths)]).median()) for f in found]
    assert abs(size[0] - 1) < 0.02 and size[1] < 0.9


def test_the_published_alignment_recovers_scale_and_offset_of_depth() -> None:
    depths, pairs, cameras = world(3, step=0.8)
    values = relative(depths, "up-to-scale")
    found = align_by_world(values, *cameras, thinned(pairs), 2.0)
    assert max(errors(found, values, depths)) < 0.01


@pytest.mark.parametrize("count", [2, 5])
def test_the_loss_of_true_depth_is_nothing(count: int) -> None:
    depths, pairs, cameras = world(count)
    loss = WorldDistance(depths, *cameras, pairs)
    ones, none = torch.ones(count), torch.zeros(count)
    # not quite: depth is read bilinearly, and that of a tilted plane is not linear
    assert float(loss(ones, none)) < 0.03 * float(loss(1.1 * ones, none))


def test_the_loss_does_not_depend_on_the_sequence_of_views() -> None:
    depths, pairs, (cameras, poses) = world(3)
    scales, offsets = torch.tensor([0.8, 1.1, 1.3]), torch.tensor([0.1, -0.2, 0.0])
    one = WorldDistance(depths, cameras, poses, pairs)(scales, offsets)
    back = [replace(p, view_a=2 - p.view_a, view_b=2 - p.view_b) for p in reversed(pairs)]
    other = WorldDistance(depths[::-1], cameras, poses[::-1], back)(scales.flip(0), offsets.flip(0))
    assert float(one) == pytest.approx(float(other), rel=1e-5)


def test_a_match_says_its_inverse_depth_in_closed_form() -> None:
    depths, pairs, (cameras, poses) = world(3)
    for p in pairs:
        w, pixels, off = inverse_depths(p, cameras, poses)
        truth = 1 / depths[p.view_a].reshape(-1)[p.pixel_ids].double()
        assert float((w / truth - 1).abs().max()) < 1e-3 and float(off.max()) < 1e-2 and float(pixels.min()) > 1


def test_views_without_matches_are_not_aligned() -> None:
    depths, pairs, cameras = world(3)
    found = align_by_disparity(depths, *cameras, [p for p in pairs if p.view_a != 1], "up-to-scale")
    assert found[1] is None and found[0] is not None
    assert align_by_disparity(depths, *cameras, []) == [None] * 3
    assert [(a.scale, a.offset) for a in align_by_world(depths, *cameras, [], 1.0)] == [(1.0, 0.0)] * 3
