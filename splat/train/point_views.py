"""Targets for cameras between the photos: renders of the first points (the virtual views of LM-Gaussian).

They are made once, from the depth maps of the photos and their colours, and do not change: what training makes of the
space between the photos may not move far from what was known at the start. Pixels into which no point falls say
nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from splat.core.camera import Camera
from splat.core.gaussians import SH_C0, Gaussians
from splat.core.slots import Item, TargetSource
from splat.geometry.point_render import render_points
from splat.geometry.reproject import PosedDepth, read_bilinear
from splat.geometry.virtual_path import between_photos
from splat.train.views import RandomTurns


@dataclass(frozen=True)
class PointViews:
    """Which renders of points there are, and what they count."""

    every: int = 1
    """A render of points is a target in every so many steps, beside the photo; 0: none."""
    per_pair: int = 10
    """Steps of the way between two neighbouring photos."""
    max_views: int = 120
    """Of more cameras than these, so many are taken, spread over all ways."""
    size: int = 400
    """Long side, px, at most."""
    weight: float | None = None
    """Weight of their L1 error (default: 0.6 around a scene, 0.3 before it)."""
    until: float | None = None
    """Fraction of the run's steps after which they end (default: where the published first stage does, 0.4 around a
    scene, 0.25 before it)."""
    min_covered: float = 0.2
    """Renders of which a smaller share of the pixels has a point are not used."""


@dataclass(frozen=True, eq=False)
class Cloud:
    """Coloured points in the world."""

    points: Float[Tensor, "n 3"]
    colours: Float[Tensor, "n 3"]
    """In [0, 1]."""

    @staticmethod
    def of_depths(depths: Sequence[PosedDepth], photos: Sequence[Item], max_side: int) -> Cloud:
        """Every known depth, in the colour of its photo, which may have another size; without those of pixels that are
        masked, transparent, or beside such. Of maps with more columns or rows than `max_side` every n-th pixel of
        every n-th row, so that fewer than twice as many are left."""
        points, colours = [], []
        for d, photo in zip(depths, photos, strict=True):
            step = max(1, max(d.depth.shape) // max_side)
            pixels = d.camera.pixel_centres()[::step, ::step].float()
            known = d.depth[::step, ::step] > 0
            size = (d.camera.width, d.camera.height)
            for counts in (photo.weight, photo.alpha):
                if counts is not None:
                    whole = read_bilinear(counts.cpu()[None].float(), pixels, size)[0] > 254
                    known = known & whole
            at = d.camera.unproject(pixels[known], d.depth[::step, ::step][known])
            points.append(d.world_from_cam.apply(at).float())
            image = photo.rgb.cpu().permute(2, 0, 1).float() / 255
            colours.append(read_bilinear(image, pixels, size).permute(1, 2, 0)[known])
        return Cloud(torch.cat(points), torch.cat(colours))

    @staticmethod
    def of_gaussians(gaussians: Gaussians) -> Cloud:
        """Centres, in the colour that does not depend on the direction."""
        colours = (0.5 + SH_C0 * gaussians.sh[:, 0]).clamp(0, 1)
        return Cloud(gaussians.means.detach().cpu().float(), colours.detach().cpu().float())


def point_items(
    cloud: Cloud,
    cameras: Sequence[Camera],
    poses: Sequence[Any],
    settings: PointViews,
    weight: float,
    device: torch.device | str = "cpu",
) -> list[Item]:
    """Renders of the cloud for the cameras between the photos; those of the photos themselves are left out. `poses`:
    `world_from_cam` (`Rigid`) of each photo."""
    items = []
    for between in between_photos(poses, settings.per_pair, settings.max_views):
        camera = cameras[between.nearer].at_most(settings.size)
        image, covered = render_points(camera, between.world_from_cam, cloud.points, cloud.colours)
        if float(covered.float().mean()) < settings.min_covered:
            continue
        items.append(
            Item(
                camera,
                between.world_from_cam.inverse().matrix().float().to(device),
                (255 * image).round().byte().to(device),
                weight=(covered.byte() * 255).to(device),
                loss_weight=weight,
                terms=frozenset({"l1"}),
            )
        )
    return items


class PointSource:
    """A `slots.TargetSource`: the items of another one, and a render of points beside them, at random, until
    `last_step` steps are done: over all phases that draw from it, so that a second one does not begin anew."""

    def __init__(self, source: TargetSource, items: Sequence[Item], every: int, last_step: int, seed: int = 0) -> None:
        self.source, self.virtual, self.every, self.last_step = source, list(items), every, last_step
        self.turns = RandomTurns(seed + 3)
        self.done = 0
        self.step = -1

    def items(self, step: int, steps: int) -> Iterator[Item]:
        if step != self.step:  # several processes ask for the items of a step one after the other
            self.done, self.step = self.done + 1, step
        yield from self.source.items(step, steps)
        if self.virtual and self.every and step % self.every == 0 and self.done <= self.last_step:
            yield self.virtual[self.turns.next(len(self.virtual))]

    def state(self) -> dict[str, Any]:
        return {"source": self.source.state(), "done": self.done, "step": self.step, **self.turns.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.source.load_state(state["source"])
        self.done, self.step = int(state["done"]), int(state["step"])
        self.turns.load_state(state)
