"""The rasterizer of gsplat (nerfstudio-project/gsplat, 1.5), where it is installed and there is a CUDA device.

gsplat stops a pixel before the Gaussian that would take its transmittance to 1e-4 or below, where the reference
composites that one and stops behind it: images differ by 1e-4 of a colour at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from splat.core.camera import Camera
from splat.core.gaussians import Gaussians
from splat.core.slots import RasterSettings, Render
from splat.raster.reference import BLUR, Reference, used_degree

INSTALL = 'install it with `pip install "splat3d[cuda]"`.'


@dataclass(frozen=True)
class Gsplat:
    """See `slots.Rasterizer`. gsplat compiles its kernels when it first draws, which takes minutes."""

    name: str = "gsplat"

    def unavailable(self, device: torch.device) -> str | None:
        # Some versions of gsplat fail to import, or start to compile, where there is no CUDA: ask torch first.
        if device.type != "cuda":
            return f"gsplat draws on CUDA devices only, not on {device.type}."
        if not torch.cuda.is_available():
            return "torch finds no CUDA device."
        try:
            import gsplat
        except ImportError:
            return f"gsplat is not installed; {INSTALL}"
        except Exception as e:
            return f"gsplat cannot be imported ({type(e).__name__}: {e})."
        return None if hasattr(gsplat, "rasterization") else f"this gsplat has no rasterization(); {INSTALL}"

    def culls(self, device: torch.device) -> bool:
        return True

    def visible(
        self, gaussians: Gaussians, camera: Camera, cam_from_world: Float[Tensor, "4 4"], settings: RasterSettings
    ) -> Int[Tensor, "m"]:
        """Ids of rows that may be drawn, ascending."""
        return Reference().visible(gaussians, camera, cam_from_world, settings)

    def __call__(
        self,
        gaussians: Gaussians,
        camera: Camera,
        cam_from_world: Float[Tensor, "4 4"],
        background: Float[Tensor, "3"],
        settings: RasterSettings,
    ) -> Render:
        import gsplat

        g = _drawable(gaussians)
        degree = used_degree(g, settings)
        colours, alpha, meta = gsplat.rasterization(
            means=g.means,
            quats=g.quats_wxyz,
            scales=g.scales,
            opacities=g.opacities,
            colors=g.sh[:, : (degree + 1) ** 2].contiguous(),
            viewmats=cam_from_world.to(g.means)[None],
            Ks=camera.matrix().to(g.means)[None],
            width=camera.width,
            height=camera.height,
            near_plane=settings.near,
            eps2d=BLUR,
            sh_degree=degree,
            packed=False,
            backgrounds=background.to(g.means)[None],
            render_mode="RGB+D",
            absgrad=settings.absgrad,
            rasterize_mode=settings.mode,
        )
        means2d, absgrad = _watched(meta["means2d"], settings.absgrad)
        radii = meta["radii"][0]
        return Render(
            rgb=colours[0, ..., :3],
            alpha=alpha[0, ..., 0],
            depth=colours[0, ..., 3],
            means2d=means2d,
            radii=radii.amax(-1) if radii.ndim == 2 else radii,
            absgrad=absgrad,
        )


def _drawable(gaussians: Gaussians) -> Gaussians:
    """Rows with a value that is not finite, or no rotation, replaced by ones that gsplat does not draw; `torch.where`
    gives them a gradient of exactly zero."""
    g = gaussians
    flat = torch.cat([t.detach().flatten(1) for t in (g.means, g.quats_wxyz, g.log_scales, g.sh)], 1)
    norm = g.quats_wxyz.detach().square().sum(1)
    fine = flat.isfinite().all(1) & g.logit_opacities.detach().isfinite() & (norm > 0) & norm.isfinite()

    def where(t: Tensor, otherwise: float) -> Tensor:
        return torch.where(fine.reshape(-1, *[1] * (t.ndim - 1)), t, otherwise)

    return Gaussians(
        means=where(g.means, 0.0),
        quats_wxyz=where(g.quats_wxyz, 1.0),
        log_scales=where(g.log_scales, 0.0),
        logit_opacities=where(g.logit_opacities, -100.0),
        sh=where(g.sh, 0.0),
    )


def _watched(inner: Any, absolute: bool) -> tuple[Tensor, Tensor | None]:
    """Our [n 2] centres, whose `.grad` backward fills from gsplat's [1 n 2], and the absolute sums likewise."""
    means2d = inner.detach()[0].clone()
    absgrad = torch.zeros_like(means2d) if absolute else None

    def fill(gradient: Tensor) -> None:
        means2d.grad = gradient[0].detach().clone()
        if absgrad is not None:
            absgrad.copy_(inner.absgrad.reshape(absgrad.shape))  # set by gsplat's backward just before

    if inner.requires_grad:
        inner.register_hook(fill)
    return means2d, absgrad
