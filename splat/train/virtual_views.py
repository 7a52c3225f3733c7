"""Targets for cameras that nobody stood at: photos warped by depth that two views agree on, for training on few photos.

Between the photos nothing contradicts a wrong scene. A virtual camera near a photo's is rendered; where its rendered
depth and the photo's depth map agree forwards and backwards, the photo says what the virtual camera should see there
(as ICO-GS, 2026, and the virtual views of Binocular3DGS, Han et al. 2024). Elsewhere nothing is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from splat.core.camera import Camera
from splat.core.geometry import Rigid
from splat.core.slots import Item, Round
from splat.geometry.between import pose_between
from splat.geometry.focus import nearest_alike
from splat.geometry.reproject import PosedDepth, check_consistency, read_bilinear
from splat.train.views import PhotoSource, target_fields, target_state

_NEAREST = 3
"""Other photos to whose cameras the way of a virtual camera may lead."""


@dataclass(frozen=True)
class VirtualViews:
    """Which virtual cameras there are, and what they count."""

    every: int = 1
    """A virtual view is rendered in every so many steps, beside the photo; 0: none."""
    count: int = 16
    """Virtual cameras between two renewals."""
    rounds: int = 10
    """How often in the phase they are chosen and warped anew."""
    reach: float = 0.5
    """Farthest position, as a fraction of the way from the photo's camera to another's."""
    aside: float = 0.1
    """Standard deviation of the position off that way, as a fraction of its length."""
    weight: float = 0.5
    """Weight of a virtual view beside a photo."""
    max_shift: float = 1.0
    """Largest forward-backward shift, px."""
    max_depth_difference: float = 0.02
    """Largest relative difference between rendered and known depth."""
    min_covered: float = 0.1
    """Views in which a smaller share of the pixels has a target are not used."""


class VirtualSource:
    """A `slots.TargetSource`: the photos, and targets of virtual cameras beside them. `renew` is a hook of a phase."""

    def __init__(
        self, photos: PhotoSource, depths: Sequence[PosedDepth], settings: VirtualViews, seed: int = 0
    ) -> None:
        self.photos, self.depths, self.settings = photos, depths, settings
        self.generator = torch.Generator().manual_seed(seed + 1)
        self.virtual: list[Item] = []
        self.taken = 0
        poses = [d.world_from_cam for d in depths]
        self.pairs = [(i, j) for i in range(len(poses)) for j in nearest_alike(poses, i, _NEAREST)]

    def items(self, step: int, steps: int) -> Iterator[Item]:
        yield from self.photos.items(step, steps)
        if self.virtual and self.settings.every and step % self.settings.every == 0:
            self.taken += 1
            yield self.virtual[self.taken % len(self.virtual)]

    def renew(self, now: Round) -> None:
        """Choose cameras and warp photos to them by the scene as it is."""
        s = self.settings
        self.virtual = []
        for _ in range(s.count if self.pairs else 0):
            pick = int(torch.randint(len(self.pairs), (1,), generator=self.generator))
            view, other = self.pairs[pick]
            photo = self.photos.levels[view][self.photos.level]
            item = self._warped(now, view, photo, self._camera_between(view, other))
            if item is not None:
                self.virtual.append(item)

    def _camera_between(self, view: int, other: int) -> Rigid:
        """`world_from_cam`."""
        a, b = (self.depths[i].world_from_cam for i in (view, other))
        t = self.settings.reach * float(torch.rand(1, generator=self.generator))
        way = b.translation - a.translation
        off = self.settings.aside * float(way.norm()) * torch.randn(3, generator=self.generator).to(way)
        on_the_way = pose_between(a, b, t)
        return Rigid(on_the_way.rotation, on_the_way.translation + off)

    def _warped(self, now: Round, view: int, photo: Item, world_from_cam: Rigid) -> Item | None:
        s, camera = self.settings, photo.camera
        pose = world_from_cam.inverse().matrix().float().to(photo.rgb.device)
        blank = Item(camera, pose, torch.zeros_like(photo.rgb))
        render = now.draw(blank)
        depth = torch.where(render.alpha > 0.6, render.depth / render.alpha.clamp_min(1e-6), 0).cpu()
        known = self.depths[view]
        found = check_consistency(
            *(camera, world_from_cam, depth, known.camera, known.world_from_cam, known.depth),
            *(s.max_shift, s.max_depth_difference),
            pixels=True,
        )
        assert found.pixels is not None
        seen = found.consistent.to(photo.rgb.device)
        if float(seen.float().mean()) < s.min_covered:
            return None
        at = found.pixels.to(photo.rgb.device)
        weight = seen.byte() * 255
        if photo.weight is not None:
            weight = torch.minimum(weight, _sampled(photo.weight[..., None], at, known.camera)[..., 0])
        if photo.alpha is not None:
            weight = torch.where(_sampled(photo.alpha[..., None], at, known.camera)[..., 0] > 250, weight, 0)
        return self._item(camera, pose, _sampled(photo.rgb, at, known.camera), weight, photo.view_id)

    def _item(self, camera: Camera, pose: Tensor, rgb: Tensor, weight: Tensor, view_id: int | None) -> Item:
        return Item(
            camera=camera,
            cam_from_world=pose,
            rgb=rgb,
            weight=weight,
            view_id=view_id,
            loss_weight=self.settings.weight,
            terms=frozenset({"l1", "dssim"}),
        )

    def state(self) -> dict[str, Any]:
        return {
            "photos": self.photos.state(),
            "generator": self.generator.get_state(),
            "virtual": [target_state(i) for i in self.virtual],
            "taken": self.taken,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.photos.load_state(state["photos"])
        self.generator.set_state(state["generator"])
        self.taken = int(state["taken"])
        device = self.photos.levels[0][0].rgb.device
        self.virtual = [self._item(*target_fields(m, device), m["view"]) for m in state["virtual"]]


def _sampled(pixels: Tensor, at: Float[Tensor, "h w 2"], camera: Camera) -> Tensor:
    """uint8 [h w c] of a photo, bilinear, at pixel coordinates of `camera`, which may have another size."""
    image = pixels.permute(2, 0, 1).float()
    return read_bilinear(image, at, (camera.width, camera.height)).permute(1, 2, 0).round().byte()
