"""How much of what a run draws floats before surfaces that its photos see, and where most of it is."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from splat.core.camera import Camera
from splat.core.capture import Capture, View
from splat.core.gaussians import Gaussians
from splat.core.geometry import Rigid
from splat.core.machine import available_cores
from splat.core.slots import DepthPrior, Rasterizer, RasterSettings, Silent
from splat.geometry.camera_paths import interpolated_path
from splat.geometry.drawing import draw_view
from splat.geometry.floaters import Floating, floating, floating_weights, seen_past, share_of
from splat.geometry.reproject import PosedDepth, posed_depths
from splat.native import build
from splat.priors.stereo import Stereo
from splat.run.completed import CompletedRun
from splat.run.trained import Trained
from splat.stages.context import Context

SIDE, _MIN_PHOTOS, FRAMES = 320, 16, 12
_PICTURE_SIDE = 640


@dataclass(frozen=True, eq=False)
class Place:
    """A camera that floaters are looked for at."""

    name: str
    camera: Camera
    world_from_cam: Rigid


@dataclass(frozen=True, eq=False)
class Worst:
    """The place with most floaters, and how it looks there."""

    name: str
    share: float
    """Of the blended weight of this picture."""
    render: np.ndarray
    """uint8 [h w 3]."""
    marked: np.ndarray
    """uint8 [h w 3]: the same in grey, what floats red."""


def matched_photos(capture: Capture) -> Capture:
    """Every n-th training photo, small, such that there are 16 to 31 (all where there are fewer than 32)."""
    train = capture.training()
    step = max(1, len(train.views) // _MIN_PHOTOS)
    return train.select([i % step == 0 for i in range(len(train.views))]).resized(SIDE)


def free_space(capture: Capture, threads: int, seed: int, prior: DepthPrior | None = None) -> list[PosedDepth]:
    """Depth matched anew in `matched_photos`. Empty without compiled kernels, or with one photo."""
    some = matched_photos(capture)
    if build.unavailable() is not None or len(some.views) < 2:
        return []
    maps = (prior or Stereo())(some.in_memory(threads), Silent(), seed)
    return posed_depths(some.views, maps)


def known_free_space(run: CompletedRun) -> bool:
    """Whether `free_space` can be measured for a finished run."""
    photos = run.capture.train_views
    return build.unavailable() is None and len(photos) > 1 and not any(v.name in run.lost for v in photos)


class SeenPastOf:
    """`geometry.floaters.seen_past` of Gaussians in the normalized frame of a finished run. Its photos are matched when
    it is first called; raises SplatError where they are gone."""

    def __init__(self, run: CompletedRun) -> None:
        self._run, self._lock = run, threading.Lock()
        self._depths: list[PosedDepth] | None = None
        self._last: tuple[Gaussians, Float[Tensor, "n"]] | None = None

    def __call__(self, gaussians: Gaussians) -> Float[Tensor, "n"]:
        with self._lock:
            if self._depths is None:
                self._run.require(self._run.capture.train_views)
                self._depths = free_space(self._run.capture, available_cores(), self._run.config.get("seed", 0))
            if self._last is None or self._last[0] is not gaussians:
                self._last = gaussians, seen_past(gaussians.means, self._depths)
            return self._last[1]


def places(capture: Capture, tests: Sequence[View], side: int = SIDE) -> list[Place]:
    """Along a path between the training cameras, and at the held-out ones."""
    path = interpolated_path(capture.training(), FRAMES, side)
    out = [
        Place(f"between photos, {i + 1} of {FRAMES}", f.camera, f.world_from_cam) for i, f in enumerate(path.cameras)
    ]
    return out + [Place(v.name, v.camera.at_most(side), v.pose) for v in tests]


def measured(
    gaussians: Gaussians,
    depths: Sequence[PosedDepth],
    where: Sequence[Place],
    raster: Rasterizer,
    settings: RasterSettings,
) -> list[Floating]:
    """What floats (`geometry.floaters`) at each place."""
    return floating_weights(gaussians, depths, [(p.camera, p.world_from_cam) for p in where], raster, settings)


def floaters(
    c: Context, capture: Capture, trained: Trained, tests: Sequence[View], prior: DepthPrior | None = None
) -> tuple[float | None, Worst | None]:
    """The share of the blended weight that floats, over all `places`, and the worst one. None without compiled
    kernels, or where nothing floats."""
    depths = free_space(capture, c.threads, c.seed, prior)
    if not depths:
        return None, None
    where = places(capture, tests)
    found = measured(trained.gaussians, depths, where, c.raster, c.settings)
    worst = max(range(len(where)), key=lambda i: found[i].share)
    if found[worst].share <= 0:
        return share_of(found), None
    place = places(capture, tests, _PICTURE_SIDE)[worst]
    marks = floating(trained.gaussians.means, depths)
    shown = trained.gaussians, trained.background.to(trained.gaussians.means)
    render, marked = pictures(*shown, marks, place, c.raster, c.settings, trained.surroundings)
    return share_of(found), Worst(place.name, found[worst].share, render, marked)


def pictures(
    gaussians: Gaussians,
    background: torch.Tensor,
    marks: torch.Tensor,
    place: Place,
    raster: Rasterizer,
    settings: RasterSettings,
    beyond: Gaussians | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [h w 3] each: what is drawn at a place, and the same in grey with the marked Gaussians red."""
    features = marks.to(gaussians.means)[:, None]
    drawn = draw_view(gaussians, place.camera, place.world_from_cam, raster, settings, background, features, beyond)
    assert drawn.features is not None
    rgb, weight = drawn.rgb.clamp(0, 1).cpu(), drawn.features.clamp(0, 1).cpu()
    grey = 0.6 * rgb.mean(-1, keepdim=True).expand(-1, -1, 3)
    red = torch.tensor([1.0, 0.15, 0.1])
    return tuple((255 * p).round().byte().numpy() for p in (rgb, grey + weight * (red - grey)))  # type: ignore[return-value]
