"""Loss terms of Gaussians on rays that no photo needs to be rendered for: matched pixels must mean the same point.

Both give the gradient by the depth of every row, so they belong to the parameterization, which adds it to that of the
photos.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from splat.core.capture import View
from splat.core.slots import Init
from splat.geometry.depth_flow import PairMatches, match_views
from splat.geometry.reproject import match_inverse_depth, pixel_indices, pixel_transfer

_SIDE = 504
"""px: the long side of the photos whose pixels errors are counted in."""
_SOFT = 1.0
"""px: below this the error counts by its square."""


def working_matches(init: Init, views: Sequence[View]) -> list[PairMatches]:
    """The matches of all pairs of photos at their working size, by the depth maps that came with the first Gaussians;
    empty where there are none."""
    return match_views(views, init.depths) if len(init.depths) == len(views) else []


@dataclass(eq=False)
class Reprojection:
    """Mean error of m matches in pixels of another photo, of rows at depth z in their own: Huber's, so that noise does
    not make depth shrink and wrong matches count little."""

    rows: Int[Tensor, "m"]
    slopes: Float[Tensor, "m 3"]
    """The homogeneous pixel in the other photo is z slopes + shifts."""
    shifts: Float[Tensor, "m 3"]
    pixels: Float[Tensor, "m 2"]
    units: Float[Tensor, "m"]
    """Pixels of a photo of 504 px per pixel of the other photo."""

    @staticmethod
    def of(init: Init, views: Sequence[View], pairs: Sequence[PairMatches] | None = None) -> Reprojection:
        """For the rows whose pixel has a match. The match of a row is where the depth of its pixel's cell puts the
        row's own pixel, so rows between pixel centres have exact ones too."""
        assert init.view_ids is not None and init.pixels is not None
        parts = []
        for p in working_matches(init, views) if pairs is None else pairs:
            a, b = views[p.view_a], views[p.view_b]
            mine = (init.view_ids.cpu() == p.view_a).nonzero()[:, 0]
            own = init.pixels[mine].cpu()
            row, column = pixel_indices(own, a.camera.width, a.camera.height)
            index = torch.full((a.camera.width * a.camera.height,), -1)
            index[p.pixel_ids] = torch.arange(len(p.pixel_ids))
            at = index[row * a.camera.width + column]
            mine, own, at = mine[at >= 0], own[at >= 0], at[at >= 0]
            transfer = pixel_transfer(a.camera, b.camera, b.pose.inverse() @ a.pose)
            matrix, shift = transfer[:9].reshape(3, 3), transfer[9:]
            slopes = torch.cat([own.double(), torch.ones(len(own), 1).double()], 1) @ matrix.T
            # the match is of the pixel's centre: moved along by the few tenths of a pixel that the row is off it
            centres = torch.cat([p.pixels_a[at].double(), torch.ones(len(own), 1).double()], 1) @ matrix.T
            w, _, _ = match_inverse_depth(centres, shift, p.pixels_b[at].double())
            there = slopes + w[:, None] * shift
            unit = torch.full((len(mine),), _SIDE / max(b.camera.width, b.camera.height))
            parts.append(
                (mine, slopes.float(), shift.float().expand(len(mine), 3), (there[:, :2] / there[:, 2:]).float(), unit)
            )
        if not parts:
            none = [torch.zeros(0, n) for n in (3, 3, 2)]
            return Reprojection(torch.zeros(0, dtype=torch.int64), none[0], none[1], none[2], torch.zeros(0))
        return Reprojection(*(torch.cat(c).contiguous() for c in zip(*parts)))

    def __call__(self, z: Float[Tensor, "n"]) -> Float[Tensor, ""]:
        """Differentiable in z (world units)."""
        if not len(self.rows):
            return z.sum() * 0
        there = z[self.rows, None] * self.slopes + self.shifts
        off = (there[:, :2] / there[:, 2:].clamp_min(1e-9) - self.pixels).norm(dim=1) * self.units
        error = torch.where(off < _SOFT, off.square() / (2 * _SOFT), off - _SOFT / 2)
        return torch.where(there[:, 2] > 1e-9, error, 0).mean()

    def select(self, rows: Tensor) -> None:
        """Keep or reorder rows: a mask of them, or indices."""
        count = len(rows)
        ids = rows.nonzero()[:, 0] if rows.dtype == torch.bool else rows
        place = torch.full((max(count, int(ids.max()) + 1 if len(ids) else 0),), -1, device=rows.device)
        place[ids] = torch.arange(len(ids), device=rows.device)
        now = place[self.rows]
        kept = now >= 0
        self.rows = now[kept]
        self.slopes, self.shifts, self.pixels, self.units = (
            t[kept] for t in (self.slopes, self.shifts, self.pixels, self.units)
        )

    def to(self, device: torch.device) -> Reprojection:
        return Reprojection(*(t.to(device) for t in vars(self).values()))

    def state(self) -> dict[str, Any]:
        return {name: t.clone() for name, t in vars(self).items()}

    def load_state(self, state: dict[str, Any]) -> None:
        for name, t in vars(self).items():
            setattr(self, name, state[name].to(t.device))


@dataclass(eq=False)
class _PairRows:
    view: int
    rows: Int[Tensor, "m"]
    others: Int[Tensor, "m 4"]
    weights: Float[Tensor, "m 4"]


class WorldDistance:
    """The published flow loss of rows that are the pixels of photos: mean over the pixels and coordinates of photo i of
    |X_j - X_i| where they match, X_j read bilinearly from the world points of photo j. Not divided by the number of
    matches, and smaller in a smaller scene."""

    def __init__(
        self,
        pairs: Sequence[PairMatches],
        index: Sequence[Int[Tensor, "h w"]],
        origins: Float[Tensor, "n 3"],
        directions: Float[Tensor, "n 3"],
        unit: float,
    ) -> None:
        """`index`: for each photo the row of each pixel, -1 where there is none; a point is origin + z direction;
        `unit`: world units in which distances are 1."""
        self.origins, self.directions, self.unit = origins, directions, unit
        self.pixels = [i.numel() for i in index]
        device = origins.device
        self.pairs = []
        for p in pairs:
            own = index[p.view_a].reshape(-1)[p.pixel_ids]
            h, w = index[p.view_b].shape
            at = p.pixels_b - 0.5
            corner = at.floor()
            fx, fy = (at - corner).unbind(1)
            x, y = corner.long().unbind(1)
            xs, ys = (t.clamp(0, n - 1) for t, n in ((torch.stack([x, x + 1]), w), (torch.stack([y, y + 1]), h)))
            others = torch.stack([index[p.view_b][ys[j], xs[i]] for j in (0, 1) for i in (0, 1)], 1)
            weights = torch.stack([(1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy], 1)
            kept = (own >= 0) & (others >= 0).all(1)
            parts = (own[kept], others[kept], weights[kept])
            self.pairs.append(_PairRows(p.view_a, *(t.to(device).contiguous() for t in parts)))

    def __call__(self, z: Float[Tensor, "n"], view: int | None = None) -> Float[Tensor, ""]:
        """The loss of one reference photo; None: the sum over all."""
        points = self.origins + z[:, None] * self.directions
        total = z.sum() * 0
        for p in self.pairs:
            if view is None or p.view == view:
                other = (points[p.others] * p.weights[..., None]).sum(1)
                total = total + (other - points[p.rows]).abs().sum() / (3 * self.pixels[p.view] * self.unit)
        return total


def gradient_by_depth(
    loss: Reprojection | WorldDistance, z: Float[Tensor, "n"], view: int | None = None
) -> Float[Tensor, "n"]:
    """Of the loss, at depths z; not finite values are 0."""
    with torch.enable_grad():
        leaf = z.detach().clone().requires_grad_()
        value = loss(leaf) if isinstance(loss, Reprojection) else loss(leaf, view)
        value.backward()
    assert leaf.grad is not None
    return leaf.grad.nan_to_num(0.0, 0.0, 0.0)
