"""Matches between photos that have depth maps: where each pixel is in another photo, checked forwards and backwards.

They stand for the optical flow of CoherentGS (FlowFormer++ there), with its own rule of which pixels count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import max_pool2d

from splat.core.capture import View
from splat.core.slots import DepthMap
from splat.geometry.reproject import PosedDepth, project_points, read_bilinear

MAX_ERROR = 2 * math.log(2)
"""px, |dx| + |dy|, after the way forwards and backwards: where the published confidence exp(-error / 2) is 0.5."""
EROSION = 5
"""Side of the window, px, all of which must come back."""


@dataclass(frozen=True, eq=False)
class PairMatches:
    """m pixels of view a and where they are in view b."""

    view_a: int
    view_b: int
    pixel_ids: Int[Tensor, "m"]
    """In a: row x width + column."""
    pixels_a: Float[Tensor, "m 2"]
    """Their centres."""
    pixels_b: Float[Tensor, "m 2"]


def pixels_in(a: PosedDepth, b: PosedDepth) -> Float[Tensor, "h w 2"]:
    """Where each pixel of a is in b, px, by a's depth; NaN where that is not known, or outside of b's frame."""
    centres = a.camera.pixel_centres()
    points = a.world_from_cam.apply(a.camera.unproject(centres, a.depth).double())
    found = project_points(b.camera, b.world_from_cam, points)
    seen = (a.depth > 0) & found.in_frame
    return torch.where(seen[..., None], found.pixels, torch.nan).float()


def consistent(
    forward: Float[Tensor, "h w 2"],
    backward: Float[Tensor, "hb wb 2"],
    max_error: float = MAX_ERROR,
    erosion: int = EROSION,
) -> Bool[Tensor, "h w"]:
    """Which pixels of a come back to where they were, and all within a window of `erosion` px around them.

    `forward`: where a's pixels are in b; `backward`: where b's are in a, read bilinearly; NaN where that is not known.
    Windows end at the frame.
    """
    h, w = forward.shape[:2]
    hb, wb = backward.shape[:2]
    read = read_bilinear(_shift(backward, (h, w)).permute(2, 0, 1), forward, (wb, hb)).permute(1, 2, 0)
    returned = forward / forward.new_tensor([wb, hb]) * forward.new_tensor([w, h]) + read
    y, x = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij")
    error = (returned - torch.stack([x, y], -1)).abs().sum(-1)
    fails = ~(error < max_error)  # NaN fails
    reach = erosion // 2
    return ~(max_pool2d(fails.float()[None], 2 * reach + 1, 1, reach)[0] > 0)


def _shift(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """By how much `pixels` of a photo of this (height, width) are off their own place in it, px."""
    h, w = pixels.shape[:2]
    y, x = torch.meshgrid((torch.arange(h) + 0.5) * size[0] / h, (torch.arange(w) + 0.5) * size[1] / w, indexing="ij")
    return pixels - torch.stack([x, y], -1)


def match_pairs(
    depths: Sequence[PosedDepth], max_error: float = MAX_ERROR, erosion: int = EROSION
) -> list[PairMatches]:
    """The matches of every ordered pair of views that has any."""
    pairs = []
    for i, a in enumerate(depths):
        for j, b in enumerate(depths):
            if i == j:
                continue
            forward = pixels_in(a, b)
            ids = consistent(forward, pixels_in(b, a), max_error, erosion).reshape(-1).nonzero()[:, 0]
            if len(ids):
                centres = a.camera.pixel_centres().reshape(-1, 2)[ids]
                pairs.append(PairMatches(i, j, ids, centres, forward.reshape(-1, 2)[ids]))
    return pairs


def match_views(views: Sequence[View], maps: Sequence[DepthMap]) -> list[PairMatches]:
    """The matches of all pairs of views at their working size, by depth maps of any size."""
    posed = []
    for v, m in zip(views, maps, strict=True):
        size = (v.camera.height, v.camera.width)
        known = torch.nn.functional.interpolate(m.known[None, None], size, mode="nearest-exact")[0, 0]
        posed.append(PosedDepth(v.camera, v.pose, known))
    return match_pairs(posed)
