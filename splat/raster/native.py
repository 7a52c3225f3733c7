"""The compiled rasterizer: autograd functions around the kernels of `splat.native`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from splat.core import devices
from splat.core.camera import Camera
from splat.core.gaussians import Gaussians
from splat.core.slots import RasterSettings, Render
from splat.native import bindings, build, build_cuda
from splat.native.bindings import FIELDS, RECORD, TILE
from splat.raster.channels import extra_channels, split_channels


def _empty(*shape: int, like: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, dtype=dtype, device=like.device)


def _floats(t: Tensor) -> Tensor:
    return t if t.dtype == torch.float32 and t.is_contiguous() else t.detach().to(torch.float32).contiguous()


def _camera(cam_from_world: Tensor, camera: Camera) -> tuple[Any, ...]:
    return _floats(cam_from_world), camera.intrinsics(cam_from_world.device), camera.width, camera.height


class _Project(torch.autograd.Function):
    """Gaussians -> projected rows [n FIELDS] (see kernels.h), centres [n 2], radii [n]. The gradient of the centres is
    that of the returned centres, not of the rows."""

    @staticmethod
    def forward(
        ctx: Any,
        means: Tensor,
        quats_wxyz: Tensor,
        log_scales: Tensor,
        logit_opacities: Tensor,
        sh: Tensor,
        cam_from_world: Tensor,
        camera: Camera,
        degree: int,
        settings: RasterSettings,
        sh0_gradient: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        rows = [_floats(t) for t in (means, quats_wxyz, log_scales, logit_opacities, sh)]
        n, k = sh.shape[:2]
        splats, means2d = _empty(n, FIELDS, like=means), _empty(n, 2, like=means)
        radii = _empty(n, like=means, dtype=torch.int32)
        view = _camera(cam_from_world, camera)
        antialiased = int(settings.mode == "antialiased")
        bindings.call(
            "splat_project_forward", n, k, degree, *rows, *view, settings.near, antialiased, splats, means2d, radii
        )
        ctx.save_for_backward(*rows, radii)
        ctx.rest = n, k, degree, view, antialiased, cam_from_world.dtype, sh0_gradient
        ctx.mark_non_differentiable(radii)
        return splats, means2d, radii

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        n, k, degree, view, antialiased, pose_dtype, sh0_gradient = ctx.rest
        *rows, radii = ctx.saved_tensors
        g_splats, g_means2d = (None if g is None else g.contiguous() for g in grads[:2])
        out = [torch.empty_like(row) for row in rows[:4]]
        g_sh = torch.empty_like(rows[4]) if sh0_gradient is None else sh0_gradient
        g_pose = _empty(4, 4, like=radii, dtype=torch.float64)
        workspace = bindings.workspace("splat_project_backward_workspace", n, device=radii.device)
        bindings.call(
            "splat_project_backward",
            *(n, k, degree, g_sh.shape[1], *rows, *view, antialiased, radii, g_splats, g_means2d),
            *(*out, g_sh, g_pose, workspace),
        )
        return (*out, None if g_sh is sh0_gradient else g_sh, g_pose.to(pose_dtype), None, None, None, None)


@dataclass(frozen=True, eq=False)
class Bins:
    """Lists of the Gaussians that touch each tile, front to back: see splat_bin_count and splat_bin_fill in
    kernels.h."""

    first: Int[Tensor, "n_plus_1"]
    tile_start: Int[Tensor, "tiles_plus_1"]
    entries: Int[Tensor, "total 2"]
    overflow: Int[Tensor, "1"] | None = None
    """Number of pairs beyond the capacity, if one was given."""


def bin_tiles(splats: Float[Tensor, "n fields"], camera: Camera, capacity: int | None = None) -> Bins:
    """Sort projected rows by depth and list them by tile. With a capacity this does not block on a GPU; if there are
    more pairs, the farthest rows are left out."""
    n, w, h = len(splats), camera.width, camera.height
    tiles = math.ceil(w / TILE) * math.ceil(h / TILE)
    order, first = _empty(n, like=splats, dtype=torch.int32), _empty(n + 1, like=splats, dtype=torch.int32)
    tile_start = _empty(tiles + 1, like=splats, dtype=torch.int32)
    counts = capacity is None or not devices.is_asynchronous(splats.device)
    total = bindings.int64s([0]) if counts else None
    overflow = None if counts else _empty(1, like=splats, dtype=torch.int32)
    workspace = bindings.workspace("splat_bin_workspace", n, w, h, device=splats.device)
    bindings.call("splat_bin_count", n, splats, w, h, order, first, total, workspace)
    if total is not None:
        capacity = total[0]
    assert capacity is not None
    entries = _empty(capacity, 2, like=splats, dtype=torch.int32)
    more = bindings.workspace("splat_bin_fill_workspace", n, w, h, capacity, device=splats.device)
    lists = tile_start, entries, overflow, workspace, more
    bindings.call("splat_bin_fill", n, splats, w, h, order, first, capacity, *lists)
    return Bins(first, tile_start, entries, overflow)


class _Blend(torch.autograd.Function):
    """Projected rows, their centres, background and extra channels [n c] -> image [h w 3], alpha [h w], depth [h w],
    `Bins.overflow`, and the image of the channels [h w c] (None without channels). The centres repeat values of the
    rows, so that their gradient is a tensor of its own."""

    @staticmethod
    def forward(
        ctx: Any,
        splats: Tensor,
        means2d: Tensor,
        background: Tensor,
        camera: Camera,
        min_transmittance: float,
        wants_gradient: bool,
        absgrad: Tensor | None,
        capacity: int | None = None,
        channels: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
        w, h = camera.width, camera.height
        bins = bin_tiles(splats, camera, capacity)
        rgb, alpha, depth = (_empty(*shape, like=splats) for shape in ((h, w, 3), (h, w), (h, w)))
        hits = _empty(len(bins.entries), like=splats, dtype=torch.int16) if wants_gradient else None
        asked = splats, w, h, bins.tile_start, bins.entries, _floats(background), min_transmittance
        image = None
        if channels is None:
            bindings.call("splat_blend_forward", *asked, rgb, alpha, depth, hits, None)
        else:
            channels, c = _floats(channels), channels.shape[1]
            image = _empty(h, w, c, like=splats)
            workspace = bindings.workspace("splat_blend_channels_workspace", w, h, c, device=splats.device)
            made = rgb, alpha, depth, image, hits
            bindings.call("splat_blend_channels_forward", *asked, c, channels, *made, workspace)
        if hits is not None:
            lists = bins.first, bins.tile_start, bins.entries, hits
            ctx.save_for_backward(splats, *lists, rgb, alpha, depth, channels, image)
            ctx.rest = w, h, min_transmittance, absgrad, background.dtype
        ctx.set_materialize_grads(False)
        if bins.overflow is not None:
            ctx.mark_non_differentiable(bins.overflow)
        return rgb, alpha, depth, bins.overflow, image

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        splats, first, tile_start, entries, hits, rgb, alpha, depth, channels, image = ctx.saved_tensors
        w, h, min_transmittance, absgrad, background_dtype = ctx.rest
        g_rgb, g_alpha, g_depth = (None if g is None else g.contiguous() for g in grads[:3])
        if g_rgb is None:
            g_rgb = torch.zeros_like(rgb)
        g_splats, g_means2d = torch.empty_like(splats), _empty(len(splats), 2, like=splats)
        g_background = _empty(3, like=splats, dtype=torch.float64)
        records = _empty(len(entries), RECORD, like=splats)
        asked = len(splats), splats, w, h, first, tile_start, entries, hits, min_transmittance
        found = g_splats, g_means2d, g_background, absgrad
        g_channels = None
        if grads[4] is None:  # there are none, or no loss looks at them
            workspace = bindings.workspace("splat_blend_backward_workspace", w, h, device=splats.device)
            bindings.call(
                "splat_blend_backward",
                *(*asked, rgb, alpha, depth, g_rgb, g_alpha, g_depth, *found, records, len(entries), workspace),
            )
        else:
            c, g_channels = channels.shape[1], torch.empty_like(channels)
            workspace = bindings.workspace("splat_blend_channels_workspace", w, h, c, device=splats.device)
            more = _empty(len(entries), c, like=splats)
            bindings.call(
                "splat_blend_channels_backward",
                *(*asked, c, channels, rgb, alpha, depth, image, g_rgb, g_alpha, g_depth, grads[4].contiguous()),
                *(*found, g_channels, records, more, len(entries), workspace),
            )
        return g_splats, g_means2d, g_background.to(background_dtype), *[None] * 5, g_channels


@dataclass(frozen=True)
class Native:
    """Draws float32 Gaussians with the compiled kernels, on the CPU or a CUDA device. See `slots.Rasterizer`."""

    name: str = "native"
    replayable = True

    def unavailable(self, device: torch.device) -> str | None:
        if device.type == "cuda":
            return build_cuda.unavailable()
        return build.unavailable() if device.type == "cpu" else f"there are no kernels for {device.type}."

    def culls(self, device: torch.device) -> bool:
        return device.type == "cuda"

    def visible(
        self, gaussians: Gaussians, camera: Camera, cam_from_world: Float[Tensor, "4 4"], settings: RasterSettings
    ) -> Int[Tensor, "m"]:
        """See `slots.Rasterizer.visible`."""
        n = len(gaussians)
        rows = [_floats(t) for t in (gaussians.means, gaussians.log_scales, gaussians.logit_opacities)]
        ids, count = _empty(n, like=rows[0], dtype=torch.int64), bindings.int64s([0])
        workspace = bindings.workspace("splat_visible_workspace", n, device=ids.device)
        bindings.call("splat_visible", n, *rows, *_camera(cam_from_world, camera), settings.near, ids, count, workspace)
        return ids[: count[0]]

    def __call__(
        self,
        gaussians: Gaussians,
        camera: Camera,
        cam_from_world: Float[Tensor, "4 4"],
        background: Float[Tensor, "3"],
        settings: RasterSettings,
        features: Float[Tensor, "n c"] | None = None,
    ) -> Render:
        """See `slots.Rasterizer`. Rows that are not drawn get a gradient of exactly zero, whatever their values."""
        g = gaussians
        degree = g.sh_degree if settings.sh_degree is None else min(settings.sh_degree, g.sh_degree)
        sh0_gradient = _empty(len(g), 1, 3, like=g.means) if settings.factored_sh and g.sh.shape[1] > 1 else None
        splats, means2d, radii = _Project.apply(
            *(g.means, g.quats_wxyz, g.log_scales, g.logit_opacities, g.sh),
            *(cam_from_world, camera, degree, settings, sh0_gradient),
        )
        channels = extra_channels(g, cam_from_world, settings, features)
        sources = [splats, background] if channels is None else [splats, background, channels]
        wants_gradient = torch.is_grad_enabled() and any(t.requires_grad for t in sources)
        if means2d.requires_grad:
            means2d.retain_grad()
        absgrad = torch.empty_like(means2d) if settings.absgrad else None
        rgb, alpha, depth, overflow, image = _Blend.apply(
            *(splats, means2d, background, camera, settings.min_transmittance, wants_gradient, absgrad),
            *(settings.capacity, channels),
        )
        normals, drawn = split_channels(image, settings)
        return Render(
            *(rgb, alpha, depth, means2d, radii, absgrad, sh0_gradient),
            overflow=overflow,
            normals=normals,
            features=drawn,
        )
