"""Scores of planes: the NCC of every pixel's patch, written out, and the true plane before all others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import planes
import pytest
import torch
from torch import Tensor

from splat.core.camera import Camera
from splat.core.capture import View
from splat.core.geometry import Rigid
from splat.priors.ground_plane import Plane
from splat.priors.plane_scores import PATCH, PhotoPairs, box_sums, correlation

CAMERA = Camera(50.0, 52.0, 31.0, 25.0, 64, 48)
POSES = planes.walk(3)
OTHERS = ((1, 2), (0, 2), (0, 1))


def wall_at(distance: float) -> Plane:
    return Plane(torch.tensor([0.0, 0.0, 1.0]).double(), torch.tensor(distance).double())


def photo(pose: Rigid, camera: Camera) -> Tensor:
    """[3 h w] of a textured wall at z = 4."""
    pixels = camera.pixel_centres().double()
    rays = camera.unproject(pixels, pixels.new_ones(pixels.shape[:2])) @ pose.rotation.T
    at = pose.translation + rays * ((4 - pose.translation[2]) / rays[..., 2])[..., None]
    grey = 0.5 + 0.25 * (5 * at[..., 0]).sin() * (4 * at[..., 1] + 1).cos()
    return grey.float().expand(3, *grey.shape)


def pairs_of(cameras: list[Camera]) -> PhotoPairs:
    views = [View(str(i), Path("x"), (c.width, c.height), c, p) for i, (c, p) in enumerate(zip(cameras, POSES))]
    nothing = [torch.zeros(c.height, c.width) for c in cameras]
    return PhotoPairs.of(views, [photo(p, c) for p, c in zip(POSES, cameras)], nothing, OTHERS)


def everywhere(cameras: list[Camera]) -> list[Tensor]:
    return [torch.ones(c.height, c.width, dtype=torch.bool) for c in cameras]


def test_sums_are_those_of_the_patch_around_each_pixel() -> None:
    maps = torch.rand(2, 3, 11, 17)
    expected = PATCH**2 * torch.nn.functional.avg_pool2d(maps, PATCH, 1, PATCH // 2)
    assert torch.allclose(box_sums(maps), expected, atol=1e-4)


def test_the_correlation_is_that_of_the_valid_pixels_of_a_patch() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, 1, 13, 15, generator=generator)
    valid = torch.rand(1, 13, 15, generator=generator) > 0.3
    ncc, textured = correlation(a, b, valid)
    assert bool(textured[0, 6, 7])
    for y, x in ((6, 7), (0, 0), (12, 3)):
        window = (0, slice(max(0, y - 3), y + 4), slice(max(0, x - 3), x + 4))
        of = torch.stack([m[window][valid[window]] for m in (a, b)])
        assert float(ncc[0, y, x]) == pytest.approx(float(torch.corrcoef(of)[0, 1]), abs=1e-4)


def test_the_true_plane_explains_more_than_those_before_and_behind_it() -> None:
    cameras = [CAMERA] * 3
    pairs = pairs_of(cameras)
    gains = {d: pairs.explained_by(wall_at(d), everywhere(cameras)).gain for d in (3.2, 3.8, 4.0, 4.2, 5.0)}
    true = pairs.explained_by(wall_at(4.0), everywhere(cameras))
    assert max(gains, key=lambda d: gains[d]) == 4.0 and true.alike > 0.99
    assert pairs.explained_by(wall_at(-4.0), everywhere(cameras)).pixels == 0  # behind the cameras


def test_photos_of_other_sizes_are_compared_pixel_by_pixel_all_the_same() -> None:
    cameras = [CAMERA, CAMERA.resized(32, 24), CAMERA.resized(80, 60)]
    texture = pairs_of(cameras).explained_by(wall_at(4.0), everywhere(cameras))
    assert texture.alike > 0.95 and texture.pixels > 2000


def test_what_a_photo_measured_before_the_plane_hides_it_and_what_may_not_be_explained_does_not_count() -> None:
    cameras = [CAMERA] * 3
    pairs = pairs_of(cameras)
    hidden = replace(pairs, measured=torch.full_like(pairs.measured, 2.0))
    assert hidden.explained_by(wall_at(4.0), everywhere(cameras)).pixels == 0
    upper = everywhere(cameras)
    for rows in upper:
        rows[20:] = False
    all_of_it, part = (pairs.explained_by(wall_at(4.0), w).pixels for w in (everywhere(cameras), upper))
    assert 0.3 * all_of_it < part < 0.5 * all_of_it
    nowhere = [torch.zeros_like(w) for w in upper]
    assert pairs.explained_by(wall_at(4.0), nowhere).pixels == 0
