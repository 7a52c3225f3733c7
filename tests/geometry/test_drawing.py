"""Views drawn with and without gradients, and photos composited over a background."""

import numpy as np
import torch

from splat.core.camera import Camera
from splat.core.gaussians import Gaussians, rgb_to_sh
from splat.core.geometry import Rigid
from splat.core.image import Photo
from splat.core.slots import RasterSettings
from splat.geometry.compositing import composite, composite_photo
from splat.geometry.drawing import draw, draw_view
from splat.raster.reference import Reference

CAMERA = Camera(40.0, 40.0, 20.0, 15.0, 40, 30)
POSE = Rigid(torch.eye(3).double(), torch.tensor([0.2, 0.1, -3.0]).double())
GREY = torch.full((3,), 0.25)


def some(seed: int = 0) -> Gaussians:
    rng = torch.Generator().manual_seed(seed)
    means = torch.randn(60, 3, generator=rng)
    means[30:] += 100  # out of sight
    return Gaussians(
        means=means,
        quats_wxyz=torch.randn(60, 4, generator=rng),
        log_scales=torch.randn(60, 3, generator=rng) - 2,
        logit_opacities=torch.randn(60, generator=rng),
        sh=rgb_to_sh(torch.rand(60, 3, generator=rng)),
    )


def test_a_view_is_what_the_rasterizer_draws_of_all_gaussians() -> None:
    g, pose = some(), POSE.inverse().matrix().float()
    whole = Reference()(g, CAMERA, pose, GREY, RasterSettings())
    found = draw_view(g, CAMERA, POSE, Reference(), RasterSettings(), GREY)
    assert torch.allclose(found.rgb, whole.rgb, atol=1e-6) and torch.allclose(found.depth, whole.depth, atol=1e-5)
    assert len(found.radii) <= 30 < len(whole.radii)


def test_gradients_reach_pose_and_background_only_where_asked_for() -> None:
    pose, background = POSE.inverse().matrix().float().requires_grad_(), GREY.clone().requires_grad_()
    draw(some(), CAMERA, pose, Reference(), RasterSettings(), background).rgb.sum().backward()
    assert pose.grad is not None and bool(pose.grad[:3].any()) and background.grad is not None
    assert not draw_view(some(), CAMERA, POSE, Reference(), RasterSettings(), background).rgb.requires_grad


def test_transparent_pixels_show_the_background_and_opaque_ones_the_photo() -> None:
    rgb = torch.tensor([[[200, 100, 0], [200, 100, 0], [200, 100, 0]]], dtype=torch.uint8)
    alpha = torch.tensor([[0, 255, 51]], dtype=torch.uint8)
    background = torch.tensor([0.0, 0.5, 1.0])
    found = composite(rgb, alpha, background)
    photo = rgb[0, 0].float() / 255
    assert torch.allclose(found[0], torch.stack([background, photo, 0.2 * photo + 0.8 * background]))
    assert torch.equal(composite(rgb, None, background), rgb.float() / 255)
    in_memory = Photo(rgb=rgb.numpy(), alpha=np.ascontiguousarray(alpha.numpy()))
    assert torch.equal(composite_photo(in_memory, background), found)
