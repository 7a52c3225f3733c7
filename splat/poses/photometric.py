"""Pose search of held-out photos that enter nothing before: photometric refinement against the frozen Gaussians."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from splat.core.capture import View
from splat.core.gaussians import Gaussians
from splat.core.geometry import Rigid, rotation_from_axis_angle
from splat.core.metrics import ssim_map
from splat.core.slots import Rasterizer, RasterSettings
from splat.geometry.compositing import composite_photo
from splat.geometry.drawing import draw

SIZES = ((0.25, 0.4), (0.5, 0.3), (1.0, 0.3))
"""Sizes of the photo, over its working size, and the share of the steps at each."""


@dataclass(frozen=True)
class PoseSearch:
    """Photometric refinement of one pose against frozen Gaussians."""

    steps: int = 120
    rotation_lr: float = 2e-3
    """Radians per Adam step at the start; both rates decay to a tenth."""
    translation_lr: float = 2e-3
    """In units of the scene's extent."""

    def __call__(
        self,
        gaussians: Gaussians,
        view: View,
        raster: Rasterizer,
        settings: RasterSettings,
        background: Float[Tensor, "3"],
        extent: float,
    ) -> View:
        """`view` with the pose at which the Gaussians, drawn over `background`, look most like its photo (0.8 L1 +
        0.2 (1 - SSIM), colours as they are).

        Coarse to fine: a quarter, a half, then the full working size; the best pose of each size is where the next one
        starts. `extent`: of the scene, world units.
        """
        assert view.world_from_cam is not None
        start = view.world_from_cam.inverse().matrix().to(gaussians.means)
        twist = torch.zeros(6, requires_grad=True, device=gaussians.means.device)
        rates = torch.tensor([self.rotation_lr] * 3 + [self.translation_lr * extent] * 3).to(twist)
        first, second = torch.zeros_like(twist), torch.zeros_like(twist)
        best, best_loss = twist.detach().clone(), float("inf")
        for scale, share in SIZES:
            camera = view.camera.scaled(scale)
            if min(camera.width, camera.height) < 40 and scale < 1:
                continue
            photo = view.load(camera)
            target = composite_photo(photo, background)
            weight = None if photo.weight is None else (torch.from_numpy(photo.weight) > 127).to(twist)[..., None]
            best_loss = float("inf")  # losses of different sizes do not compare
            n = max(1, round(self.steps * share))
            first.zero_(), second.zero_()
            for i in range(n + 1):
                delta = _rigid_matrix(twist)
                pose = delta @ start
                image = draw(gaussians, camera, pose, raster, settings, background).rgb
                error = (image - target).abs() * 0.8 + 0.2 * (1 - ssim_map(image, target))
                loss = error.mean() if weight is None else (error * weight).sum() / weight.sum().clamp(min=1) / 3
                if loss.item() < best_loss:
                    best, best_loss = twist.detach().clone(), loss.item()
                if i == n:
                    break
                (gradient,) = torch.autograd.grad(loss, twist)
                if not bool(torch.isfinite(gradient).all()):
                    break
                decay = 0.1 ** (i / n) * scale**0.5
                with torch.no_grad():
                    first.mul_(0.9).add_(gradient, alpha=0.1)
                    second.mul_(0.99).addcmul_(gradient, gradient, value=0.01)
                    m, v = first / (1 - 0.9 ** (i + 1)), second / (1 - 0.99 ** (i + 1))
                    twist -= decay * rates * m / (v.sqrt() + 1e-12)
            with torch.no_grad():
                twist.copy_(best)
        cam_from_world = (_rigid_matrix(best) @ start).double().cpu()
        return replace(view, world_from_cam=Rigid.from_matrix(cam_from_world).inverse())


def _rigid_matrix(twist: Float[Tensor, "6"]) -> Float[Tensor, "4 4"]:
    top = torch.cat([rotation_from_axis_angle(twist[:3]), twist[3:, None]], 1)
    bottom = torch.tensor([[0.0, 0.0, 0.0, 1.0]]).to(twist)
    return torch.cat([top, bottom], 0)
