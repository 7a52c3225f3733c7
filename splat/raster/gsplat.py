"""The rasterizer of gsplat (nerfstudio-project/gsplat: release 1.5 and the main branch, 1.6), if it is installed and
there is a CUDA device.

Both versions take the same keywords. Layouts of results differ between versions: leading batch dimensions, and radii [C
N] or [C N 2]. Here there is one scene and one camera, so the number of elements tells the layouts apart.

gsplat stops compositing a pixel before the Gaussian that takes the transmittance to 1e-4 or below, the reference after
it: images differ by at most 1e-4.

Extra channels are passed after the colours. gsplat then takes no SH, so colours are computed here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from splat.core.camera import Camera
from splat.core.errors import SplatError
from splat.core.gaussians import Gaussians
from splat.core.slots import RasterSettings, Render
from splat.raster.channels import extra_channels, split_channels
from splat.raster.reference import BLUR, Reference, colour, used_degree, view_directions

INSTALL = 'install it with `pip install "splat3d[cuda]"`.'


@dataclass(frozen=True)
class Gsplat:
    """See `slots.Rasterizer`. gsplat compiles its kernels at the first render, which takes minutes."""

    name: str = "gsplat"
    replayable = False

    def unavailable(self, device: torch.device) -> str | None:
        # Some versions of gsplat fail to import, or start to compile, where there is no CUDA: ask torch first.
        if device.type != "cuda":
            return f"gsplat draws on CUDA devices only, not on {device.type}."
        if not torch.cuda.is_available():
            return "torch finds no CUDA device."
        try:
            import gsplat
        except Exception as e:  # a failed build of its kernels raises ImportError too
            if isinstance(e, ModuleNotFoundError) and e.name == "gsplat":
                return f"gsplat is not installed; {INSTALL}"
            return f"gsplat cannot be imported ({type(e).__name__}: {e})."
        if not hasattr(gsplat, "rasterization"):
            return f"this gsplat has no rasterization(); {INSTALL}"
        missing = _missing_keywords(gsplat.rasterization)
        if missing:
            version = getattr(gsplat, "__version__", "of unknown version")
            return f"gsplat {version} takes no {', '.join(missing)} in rasterization(); {INSTALL}"
        return None

    def culls(self, device: torch.device) -> bool:
        return True

    def visible(
        self, gaussians: Gaussians, camera: Camera, cam_from_world: Float[Tensor, "4 4"], settings: RasterSettings
    ) -> Int[Tensor, "m"]:
        """See `slots.Rasterizer.visible`."""
        return Reference().visible(gaussians, camera, cam_from_world, settings)

    def __call__(
        self,
        gaussians: Gaussians,
        camera: Camera,
        cam_from_world: Float[Tensor, "4 4"],
        background: Float[Tensor, "3"],
        settings: RasterSettings,
        features: Float[Tensor, "n c"] | None = None,
    ) -> Render:
        import gsplat

        g, pose, behind = _drawable(gaussians), cam_from_world.to(gaussians.means), background.to(gaussians.means)
        degree = used_degree(g, settings)
        colours = g.sh[:, : (degree + 1) ** 2].contiguous()
        channels = extra_channels(g, pose, settings, features)
        if channels is not None:
            if settings.absgrad:
                _check_absgrad(channels.shape[1])
            rgb = colour(g.sh, view_directions(g.means, pose), degree)
            colours = torch.cat([rgb, channels], 1)
            behind = torch.cat([behind, behind.new_zeros(channels.shape[1])])
        drawn, alpha, meta = gsplat.rasterization(
            means=g.means,
            quats=g.quats_wxyz,
            scales=g.scales,
            opacities=g.opacities,
            colors=colours,
            viewmats=pose[None],
            Ks=camera.matrix().to(g.means)[None],
            width=camera.width,
            height=camera.height,
            near_plane=settings.near,
            eps2d=BLUR,
            sh_degree=degree if channels is None else None,
            packed=False,
            backgrounds=behind[None],
            render_mode="RGB+D",
            absgrad=settings.absgrad,
            rasterize_mode=settings.mode,
        )
        n, h, w = len(g), camera.height, camera.width
        image = drawn.reshape(h, w, 4 + (0 if channels is None else channels.shape[1]))
        normals, shown = split_channels(None if channels is None else image[..., 3:-1], settings)
        means2d, absgrad = _watched(
            meta["means2d"], n, settings.absgrad, torch.is_grad_enabled() and g.means.requires_grad
        )
        return Render(
            rgb=image[..., :3],
            alpha=alpha.reshape(h, w),
            depth=image[..., -1],
            means2d=means2d,
            radii=_radii(meta["radii"], n),
            absgrad=absgrad,
            normals=normals,
            features=shown,
        )


KEYWORDS = (
    *("means", "quats", "scales", "opacities", "colors", "viewmats", "Ks", "width", "height", "near_plane", "eps2d"),
    *("sh_degree", "packed", "backgrounds", "render_mode", "absgrad", "rasterize_mode"),
)
"""Keyword arguments of gsplat.rasterization that are used."""


CHUNK = 32
"""Channels that gsplat renders at a time. With more it returns the absolute sums of the last chunk alone."""


def _check_absgrad(channels: int) -> None:
    if 4 + channels > CHUNK:
        raise SplatError(
            f"gsplat sums no absolute gradients over {channels} extra channels ({CHUNK - 4} at most); "
            'draw with "--raster native".'
        )


def _missing_keywords(rasterization: Callable[..., Any]) -> list[str]:
    taken = inspect.signature(rasterization).parameters
    if any(p.kind is p.VAR_KEYWORD for p in taken.values()):
        return []
    return [name for name in KEYWORDS if name not in taken]


def _radii(radii: Int[Tensor, "..."], n: int) -> Int[Tensor, "n"]:
    """Radii [n] in whole pixels; the larger one where there is one per axis."""
    return radii.reshape(n, radii.numel() // max(1, n)).amax(-1).int() if n else radii.new_zeros(0).int()


def _drawable(gaussians: Gaussians) -> Gaussians:
    """Replaces rows with a value that is not finite, or with a zero quaternion, by rows that gsplat does not draw.
    `torch.where` gives them a gradient of exactly zero."""
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


def _watched(inner: Any, n: int, absolute: bool, wants_gradient: bool) -> tuple[Tensor, Tensor | None]:
    """Centres [n 2], whose `.grad` backward copies from gsplat's tensor, and the absolute sums likewise."""
    means2d = inner.detach().reshape(n, 2).clone()
    absgrad = torch.zeros_like(means2d) if absolute else None
    if not wants_gradient:
        return means2d, absgrad
    if not inner.requires_grad:
        raise SplatError('This gsplat tells no gradient of projected centres; draw with "--raster native".')

    def fill(gradient: Tensor) -> None:
        means2d.grad = gradient.detach().reshape(n, 2).clone()
        if absgrad is not None:
            sums = getattr(inner, "absgrad", None)  # set by gsplat's backward just before
            if sums is None:
                raise SplatError('This gsplat sums no absolute gradients; draw with "--raster native".')
            absgrad.copy_(sums.detach().reshape(n, 2))

    inner.register_hook(fill)
    return means2d, absgrad
