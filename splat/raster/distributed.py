"""Rendering of Gaussians that are sharded over processes: each process renders a photo of its own.

As in Grendel (Zhao et al. 2024), each process projects its Gaussians for the cameras of all processes, the projected
rows are exchanged (all-to-all), and each process blends the rows that its photo shows. Backward returns the gradients
of projected rows to their owners. Per visible Gaussian and photo, 14 numbers are sent and 16 returned, plus extra
channels; SH coefficients and optimizer state are never sent.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from splat.core.camera import Camera
from splat.core.gaussians import Gaussians
from splat.core.process_group import ProcessGroup
from splat.core.slots import RasterSettings, Render
from splat.native.bindings import FIELDS
from splat.raster.channels import extra_channels, split_channels
from splat.raster.native import Native, _Blend, _Project


@dataclass(frozen=True)
class Distributed:
    """See `slots.Rasterizer`. All processes call its methods together, each with its shard of the Gaussians and its own
    camera. The image shows the Gaussians of all, in rank order. Values per Gaussian are of this process's shard:
    `radii` is the maximum over all photos, and `per_photo` has the values per photo."""

    group: ProcessGroup
    inner: Native = field(default_factory=Native)

    replayable = False

    @property
    def name(self) -> str:
        return f"{self.inner.name} x {self.group.world}"

    def unavailable(self, device: torch.device) -> str | None:
        return self.inner.unavailable(device)

    def culls(self, device: torch.device) -> bool:
        return self.inner.culls(device)

    def visible(
        self, gaussians: Gaussians, camera: Camera, cam_from_world: Float[Tensor, "4 4"], settings: RasterSettings
    ) -> Int[Tensor, "m"]:
        """Ids of rows of this shard that may be visible in any of the photos, ascending."""
        cameras, poses = self._everyones(camera, cam_from_world.detach())
        seen = torch.zeros(len(gaussians), dtype=torch.bool, device=gaussians.means.device)
        for other, pose in zip(cameras, poses, strict=True):
            seen[self.inner.visible(gaussians, other, pose, settings)] = True
        return seen.nonzero()[:, 0]

    def __call__(
        self,
        gaussians: Gaussians,
        camera: Camera,
        cam_from_world: Float[Tensor, "4 4"],
        background: Float[Tensor, "3"],
        settings: RasterSettings,
        features: Float[Tensor, "n c"] | None = None,
    ) -> Render:
        """Draw. The Gaussians get the sum of the gradients of all processes' losses, and the pose gets the gradients by
        all processes' Gaussians. All processes must request normals or none, and pass features of the same width."""
        g = gaussians
        degree = g.sh_degree if settings.sh_degree is None else min(settings.sh_degree, g.sh_degree)
        cameras, poses = self._everyones(camera, cam_from_world)
        projected = [
            _Project.apply(g.means, g.quats_wxyz, g.log_scales, g.logit_opacities, g.sh, pose, other, degree, settings)
            for other, pose in zip(cameras, poses, strict=True)
        ]
        visible_ids = [radii.nonzero()[:, 0] for _, _, radii in projected]
        counts = self.group.all_gather(torch.tensor([len(ids) for ids in visible_ids], device=g.means.device)).tolist()
        send_counts, receive_counts = counts[self.group.rank], [row[self.group.rank] for row in counts]
        channels = [extra_channels(g, pose, settings, features) for pose in poses]
        parts = [
            [splats[i], centres[i], *([] if extra is None else [extra[i]])]
            for (splats, centres, _), i, extra in zip(projected, visible_ids, channels, strict=True)
        ]
        rows = torch.cat([torch.cat(part, 1) for part in parts])
        # Blending fills in `received_absgrad`; backward sends it home with the gradients, into `own_absgrad`.
        received_absgrad = rows.new_zeros(sum(receive_counts), 2) if settings.absgrad else None
        own_absgrad = [torch.zeros_like(centres) if settings.absgrad else None for _, centres, _ in projected]
        here = _Exchange.apply(
            rows, self.group, send_counts, receive_counts, visible_ids, received_absgrad, own_absgrad
        )
        wants_gradient = torch.is_grad_enabled() and (here.requires_grad or background.requires_grad)
        rgb, alpha, depth, overflow, image = _Blend.apply(
            here[:, :FIELDS].contiguous(),
            here[:, FIELDS : FIELDS + 2].contiguous(),
            *(background, camera, settings.min_transmittance, wants_gradient, received_absgrad, settings.capacity),
            None if channels[0] is None else here[:, FIELDS + 2 :].contiguous(),
        )
        normals, shown = split_channels(image, settings)
        radii = torch.stack([r for _, _, r in projected]).amax(0)
        own = Render(
            *(rgb, alpha, depth, projected[self.group.rank][1], radii),
            overflow=overflow,
            normals=normals,
            features=shown,
        )
        per_photo = []
        for other, (_, centres, found), sums in zip(cameras, projected, own_absgrad, strict=True):
            if centres.requires_grad:
                centres.retain_grad()
            per_photo.append((other, replace(own, means2d=centres, radii=found, absgrad=sums)))
        return replace(own, per_photo=tuple(per_photo))

    def _everyones(self, camera: Camera, cam_from_world: Tensor) -> tuple[list[Camera], list[Tensor]]:
        """Cameras and poses of the photos of all ranks. Poses are differentiable if that of any rank is."""
        c, wants = camera, torch.is_grad_enabled() and cam_from_world.requires_grad
        mine = torch.tensor([c.fx, c.fy, c.cx, c.cy, c.width, c.height, float(wants)], dtype=torch.float64)
        table = self.group.all_gather(mine.to(cam_from_world.device)).tolist()
        cameras = [Camera(row[0], row[1], row[2], row[3], int(row[4]), int(row[5])) for row in table]
        if any(row[6] for row in table) and not wants:
            cam_from_world = cam_from_world.detach().requires_grad_()
        poses = _Poses.apply(cam_from_world, self.group)
        return cameras, list(poses.unbind(0))


class _Poses(torch.autograd.Function):
    """All-gather of poses: this process's [4 4] -> [world 4 4]."""

    @staticmethod
    def forward(ctx: Any, pose: Tensor, group: ProcessGroup) -> Tensor:
        ctx.group = group
        return group.all_gather(pose.detach())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        group: ProcessGroup = ctx.group
        one_each = [1] * group.world
        return group.all_to_all(grads[0], one_each, one_each).sum(0), None


class _Exchange(torch.autograd.Function):
    """All-to-all of projected rows: those of this process for every photo -> those of every process for its photo.
    Backward sends their gradients back, with absolute sums."""

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        group: ProcessGroup,
        send_counts: list[int],
        receive_counts: list[int],
        visible_ids: list[Tensor],
        received_absgrad: Tensor | None,
        own_absgrad: list[Tensor | None],
    ) -> Tensor:
        """`visible_ids`: per photo, the rows of this process that it shows. `own_absgrad`: per photo, [n 2] to fill in
        backward with the absolute gradient sums of this process's n rows (`RasterSettings.absgrad`)."""
        ctx.rest = group, send_counts, receive_counts, visible_ids, received_absgrad, own_absgrad
        return group.all_to_all(rows.detach(), send_counts, receive_counts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        group, send_counts, receive_counts, visible_ids, received_absgrad, own_absgrad = ctx.rest
        leaving = grads[0] if received_absgrad is None else torch.cat([grads[0], received_absgrad], 1)
        back = group.all_to_all(leaving, receive_counts, send_counts)
        if received_absgrad is not None:
            for sums, ids, part in zip(own_absgrad, visible_ids, back[:, -2:].split(send_counts), strict=True):
                sums[ids] = part
            back = back[:, :-2]
        return back, None, None, None, None, None, None
