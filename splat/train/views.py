"""Training photos: as bytes in memory, at all resolutions of the schedule, one random view per step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import interpolate

from splat.core.camera import Camera
from splat.core.capture import BYTES_PER_READ_PIXEL, View
from splat.core.errors import SplatError
from splat.core.image import Photo
from splat.core.machine import threads_that_fit
from splat.core.schedules import ResolutionSchedule
from splat.core.slots import DepthMap, Item
from splat.native.build import release_freed_memory


@dataclass(frozen=True, eq=False)
class Posed:
    """A photo in memory with its camera and pose: input of `PhotoSource`."""

    photo: Photo
    camera: Camera
    cam_from_world: Float[Tensor, "4 4"]


def load_views(views: Sequence[View], threads: int = 2) -> list[Posed]:
    """Read posed views at their working size, in order."""
    for v in views:
        if v.world_from_cam is None:
            raise SplatError(f"{v.name} has no pose: register it first, or leave it out.")

    def load(v: View) -> Posed:
        assert v.world_from_cam is not None
        return Posed(v.load(), v.camera, v.world_from_cam.inverse().matrix().float())

    largest = max((v.photo_size[0] * v.photo_size[1] for v in views), default=1)
    with ThreadPoolExecutor(threads_that_fit(threads, largest * BYTES_PER_READ_PIXEL)) as pool:
        return list(pool.map(load, views))


def shrink(photo: Photo, width: int, height: int) -> Photo:
    """Area average of the colours of pixels that are neither masked nor transparent.

    Weight and alpha of a smaller pixel are plain averages.
    """
    size = (width, height)
    if photo.alpha is None and photo.weight is None:
        return Photo(rgb=cv2.resize(photo.rgb, size, interpolation=cv2.INTER_AREA))
    ones = np.ones(photo.rgb.shape[:2], np.float32)
    weight = ones if photo.weight is None else photo.weight.astype(np.float32) / 255
    alpha = ones if photo.alpha is None else photo.alpha.astype(np.float32) / 255

    def average(values: np.ndarray) -> np.ndarray:
        return cv2.resize(values, size, interpolation=cv2.INTER_AREA)

    def to_bytes(values: np.ndarray) -> np.ndarray:
        return np.clip(values + 0.5, 0, 255).astype(np.uint8)

    cover, counted = average(weight * alpha), average(weight)
    colour = average(photo.rgb * (weight * alpha)[..., None]) / np.maximum(cover, 1e-6)[..., None]
    return Photo(
        rgb=to_bytes(colour),
        alpha=None if photo.alpha is None else to_bytes(255 * cover / np.maximum(counted, 1e-6)),
        weight=None if photo.weight is None else to_bytes(255 * counted),
    )


class PhotoSource:
    """TargetSource of photos: every view once per epoch, in random order. The rest of the epoch is part of the state.

    With the default schedule it begins with 1.94 times the bytes of the photos (3 per pixel, plus 1 with alpha and 1
    with a mask: `memory_bytes`), and ends with those of the photos: what is coarser than the schedule is at is given
    up.
    """

    def __init__(
        self,
        views: Sequence[Posed],
        schedule: ResolutionSchedule | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        if not views:
            raise SplatError("There is no training photo: check the folder and the split.")
        self.schedule = schedule or ResolutionSchedule(start=1.0)
        self.levels = [_levels(v, i, self.schedule, device) for i, v in enumerate(views)]
        """The items of each view, by level. Those below `level` are that of `level`."""
        self.seed = seed
        self.generator = torch.Generator().manual_seed(seed)
        self.remaining: list[int] = []
        self.level = 0

    def __len__(self) -> int:
        return len(self.levels)

    def give_depths(self, maps: Sequence[DepthMap], normals: bool = False) -> None:
        """Add the depth map of each view (metric, of any size), and its normals where asked for, to its items of every
        size."""
        self.levels = [
            [_with_depth(item, found, normals) for item in items]
            for items, found in zip(self.levels, maps, strict=True)
        ]

    def give_layers(self, maps: Sequence[Int[Tensor, "h w"]], depth_unit: float) -> None:
        """Add the depth layers of each view's pixels (of any size) to its items of every size, and the length that
        losses of depth count in (world units)."""
        self.levels = [
            [_with_layers(item, found, depth_unit) for item in items]
            for items, found in zip(self.levels, maps, strict=True)
        ]

    def memory_bytes(self) -> int:
        """Bytes of all pixels."""
        tensors = {id(t): t for v in self.levels for i in v for t in (i.rgb, i.alpha, i.weight) if t is not None}
        return sum(t.numel() for t in tensors.values())

    def items(self, step: int, steps: int) -> Iterator[Item]:
        """The item of step `step` of the phase's `steps`. Each call takes the next view of the epoch."""
        if not self.remaining:
            self.remaining = torch.randperm(len(self.levels), generator=self.generator).tolist()
        # A run that is prolonged never goes back to coarser photos.
        self._advance(max(self.level, self.schedule.level(step / max(1, steps))))
        yield self.levels[self.remaining.pop()][self.level]

    def _advance(self, level: int) -> None:
        """Go on to a level. Photos of coarser ones are given up: half of the memory of photos, more with their depths,
        which Gaussians take meanwhile."""
        if level == self.level:
            return
        if level < self.level:
            raise ValueError(f"the photos of level {level} were given up at level {self.level}.")
        self.level = level
        self.levels = [[items[level]] * level + items[level:] for items in self.levels]
        release_freed_memory()

    def state(self) -> dict[str, Any]:
        return {"order": list(self.remaining), "finest": self.level, "generator": self.generator.get_state()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.remaining = list(state["order"])
        self._advance(int(state["finest"]))
        self.generator.set_state(state["generator"])


class RandomTurns:
    """Numbers below a count, each once per epoch, in random order."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.remaining: list[int] = []

    def next(self, count: int) -> int:
        if not self.remaining:
            self.remaining = torch.randperm(count, generator=self.generator).tolist()
        return self.remaining.pop()

    def start_over(self) -> None:
        """Begin an epoch, of another count perhaps."""
        self.remaining = []

    def state(self) -> dict[str, Any]:
        return {"remaining": list(self.remaining), "generator": self.generator.get_state()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.remaining = list(state["remaining"])
        self.generator.set_state(state["generator"])


class ItemSource:
    """A `slots.TargetSource` of items as they are, each once per epoch, in random order."""

    def __init__(self, items: Sequence[Item], seed: int = 0) -> None:
        self.all, self.turns = list(items), RandomTurns(seed)

    def items(self, step: int, steps: int) -> Iterator[Item]:
        yield self.all[self.turns.next(len(self.all))]

    def state(self) -> dict[str, Any]:
        return self.turns.state()

    def load_state(self, state: dict[str, Any]) -> None:
        self.turns.load_state(state)


def target_state(item: Item) -> dict[str, Any]:
    """What is kept in checkpoints of a target that no photo is: see `target_fields`."""
    c = item.camera
    pixels = {"pose": item.cam_from_world, "rgb": item.rgb, "weight": item.weight}
    return pixels | {"intrinsics": [c.fx, c.fy, c.cx, c.cy, c.width, c.height], "view": item.view_id}


def target_fields(state: dict[str, Any], device: torch.device) -> tuple[Camera, Tensor, Tensor, Tensor]:
    """Camera, `cam_from_world`, colours and weight of a target that was kept."""
    pose, rgb, weight = (state[name].to(device) for name in ("pose", "rgb", "weight"))
    return Camera(*state["intrinsics"]), pose, rgb, weight


def smaller(item: Item, side: int) -> Item:
    """The item with at most `side` px on its long side: colours, alpha and weight averaged, depth and normals those of
    the nearest pixel."""
    camera = item.camera.at_most(side)
    if camera == item.camera:
        return item
    size = (camera.height, camera.width)

    def averaged(pixels: Tensor | None) -> Tensor | None:
        if pixels is None:
            return None
        planes = (pixels if pixels.ndim == 3 else pixels[..., None]).permute(2, 0, 1)[None].float()
        small = interpolate(planes, size, mode="area")[0].permute(1, 2, 0)
        return (small if pixels.ndim == 3 else small[..., 0]).round().to(pixels.dtype).contiguous()

    def nearest(values: Tensor | None) -> Tensor | None:
        if values is None:
            return None
        planes = (values if values.ndim == 3 else values[..., None]).permute(2, 0, 1)[None].float()
        small = interpolate(planes, size, mode="nearest-exact")[0].permute(1, 2, 0)
        return (small if values.ndim == 3 else small[..., 0]).to(values.dtype).contiguous()

    rgb = averaged(item.rgb)
    assert rgb is not None
    return replace(
        item,
        camera=camera,
        rgb=rgb,
        alpha=averaged(item.alpha),
        weight=averaged(item.weight),
        inverse_depth=nearest(item.inverse_depth),
        probability=nearest(item.probability),
        normals_cam=nearest(item.normals_cam),
        layers=nearest(item.layers),
    )


def _levels(view: Posed, view_id: int, schedule: ResolutionSchedule, device: torch.device | str) -> list[Item]:
    """The view at each level, coarse to fine. Levels of the same size share their pixels."""
    made: dict[float, Item] = {}
    levels = []
    for level in range(len(schedule.factors())):
        factor = schedule.factor_for(level, max(view.camera.width, view.camera.height))
        if factor not in made:
            made[factor] = _item(view, view_id, factor, device)
        levels.append(made[factor])
    return levels


def _with_depth(item: Item, found: DepthMap, normals: bool) -> Item:
    """Depth, and the normal where there is a depth, of the pixel that contains the middle of each pixel: never averaged
    over an edge."""
    known = found.confidence > 0
    inverse = torch.where(known, 1 / found.depth.clamp_min(1e-12), 0)
    both = torch.stack([inverse, found.confidence * known])[None]
    size = (item.camera.height, item.camera.width)
    inverse, probability = interpolate(both, size, mode="nearest-exact")[0].to(item.rgb.device)
    item = replace(item, inverse_depth=inverse, probability=probability)
    if not normals or found.normals_cam is None:
        return item
    facing = (found.normals_cam * known[..., None]).permute(2, 0, 1)[None]
    resized = interpolate(facing, size, mode="nearest-exact")[0].permute(1, 2, 0)
    return replace(item, normals_cam=resized.contiguous().to(item.rgb.device))


def _with_layers(item: Item, layers: Int[Tensor, "h w"], depth_unit: float) -> Item:
    """Layers of the pixel that contains the middle of each pixel."""
    size = (item.camera.height, item.camera.width)
    resized = interpolate(layers[None, None].float(), size, mode="nearest-exact")[0, 0]
    return replace(item, layers=resized.long().to(item.rgb.device), depth_unit=depth_unit)


def _item(view: Posed, view_id: int, factor: float, device: torch.device | str) -> Item:
    camera, photo = view.camera, view.photo
    if factor < 1:
        camera = camera.scaled(factor)
        photo = shrink(photo, camera.width, camera.height)
    rgb = photo.rgb
    if photo.weight is not None:  # what is masked must not matter, so it is not even there
        rgb = np.where(photo.weight[..., None] > 0, rgb, np.uint8(0))

    def tensor(pixels: np.ndarray | None) -> Tensor | None:
        return None if pixels is None else torch.from_numpy(np.ascontiguousarray(pixels)).to(device)

    colours = tensor(rgb)
    assert colours is not None
    return Item(
        camera=replace(camera, lens=None),
        cam_from_world=view.cam_from_world.to(device),
        rgb=colours,
        alpha=tensor(photo.alpha),
        weight=tensor(photo.weight),
        view_id=view_id,
    )


def scene_extent(views: Sequence[View], points: Float[Tensor, "n 3"] | None = None) -> float:
    """Unit of the position learning rates, in world units.

    1.1 times the largest distance of a camera from the mean camera centre (Kerbl et al. 2023), but at least a tenth of
    the median distance from the cameras to `points`: for cameras that are close together and far from the scene.
    """
    centres = torch.stack([v.world_from_cam.translation for v in views if v.world_from_cam is not None]).float()
    extent = 1.1 * float((centres - centres.mean(0)).norm(dim=1).max())
    if points is not None and len(points):
        extent = max(extent, 0.1 * float((points - centres.mean(0).to(points)).norm(dim=1).median()))
    return extent if extent > 0 else 1.0
