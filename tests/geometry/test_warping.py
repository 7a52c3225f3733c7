"""Photos warped by exact depth."""

from __future__ import annotations

import refining
import torch

from splat.core.metrics import psnr
from splat.geometry.warping import warp_photo


def test_a_photo_warped_by_exact_depth_is_the_other_photo() -> None:
    a, b = refining.photos()[2:4]
    warped = warp_photo(a.camera, a.world_from_cam, a.depth, b.camera, b.world_from_cam, b.rgb, b.depth)
    seen = warped.agreement > 0.5
    assert float(seen.float().mean()) > 0.5
    assert psnr(warped.rgb, a.rgb, seen) > psnr(b.rgb, a.rgb, seen) + 12
    wrong = warp_photo(a.camera, a.world_from_cam, 1.2 * a.depth, b.camera, b.world_from_cam, b.rgb, b.depth)
    assert psnr(wrong.rgb, a.rgb, seen) < psnr(warped.rgb, a.rgb, seen) - 8


def test_what_the_photo_does_not_see_is_marked() -> None:
    a, b = refining.photos()[0::5]
    warped = warp_photo(a.camera, a.world_from_cam, a.depth, b.camera, b.world_from_cam, b.rgb, b.depth)
    occluded = (warped.mask > 0) & (warped.agreement < 0.1)
    assert bool(occluded.any()) and not warped.rgb[warped.mask == 0].any()
    assert not warped.mask[a.depth == 0].any()
    error = (warped.rgb - a.rgb).abs().mean(-1)
    assert error[occluded].mean() > 2 * error[warped.agreement > 0.5].mean()


def test_a_view_warped_into_itself_is_itself() -> None:
    a = refining.photos()[0]
    warped = warp_photo(a.camera, a.world_from_cam, a.depth, a.camera, a.world_from_cam, a.rgb, a.depth)
    assert torch.allclose(warped.rgb[a.depth > 0], a.rgb[a.depth > 0], atol=1e-4)
    assert torch.allclose(warped.agreement, (a.depth > 0).float(), atol=1e-4)
