"""What is farther than any surface that matching finds (the sky, a view through a window): a sphere far around."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from splat.core.gaussians import Gaussians, rgb_to_sh
from splat.core.geometry import quat_from_matrix
from splat.init.surfaces import Surface

FINEST = 8.0
"""Pixels that a cell of the sphere is wide at least."""


@dataclass(frozen=True)
class Shell:
    """Discs on a sphere around the cameras, in the directions of pixels that nothing nearer explains.

    Being behind all else they only show where there is nothing else, and hardly move in a photo as its camera does:
    the sky need not be made of haze in front of the houses.
    """

    most: float = 0.0
    """As many as this share of the budget; 0: none. (0.05 makes first images of captures with sky or bare walls 0.5 to
    3 dB better, but trained ones worse where walls stay unexplained: fountain_P11 by 1.5 dB.)"""
    above: float = 5.0
    """Only directions this much above the horizon, degrees: below it what nothing explains is ground that is too bare
    to match. (Up is -y in every capture whose poses were found or given.)"""
    distance: float = 10.0
    """Its radius, as a multiple of how far the farthest surface is from the middle of the cameras."""
    overlap: float = 0.6
    """Standard deviation of a disc, as a fraction of the distance to its neighbours."""
    opacity: float = 0.8

    def __call__(
        self, surfaces: Sequence[Surface], unexplained: Sequence[Tensor], budget: int, sh_degree: int
    ) -> Gaussians | None:
        """`unexplained` [h w] is above 0 at the pixels of each photo that nothing nearer explains. None where there are
        none, or no surface says how far the sphere must be."""
        farthest = [float(s.depth[s.covered].quantile(0.98)) for s in surfaces if bool(s.covered.any())]
        most = round(self.most * budget)
        if most < 1 or not farthest:
            return None
        centres = torch.stack([s.pose.translation.float() for s in surfaces])
        middle = centres.mean(0)
        radius = self.distance * (max(farthest) + float((centres - middle).norm(dim=1).max()))
        looks, colours = [], []
        for s, open_to in zip(surfaces, unexplained, strict=True):
            mine = open_to > 0
            looks.append(s.rays[mine] @ s.pose.rotation.float().T)
            colours.append(s.rgb[mine] / s.gain)
        directions, rgb = torch.cat(looks), torch.cat(colours)
        sky = -directions[:, 1] > math.sin(math.radians(self.above))
        directions, rgb = directions[sky], rgb[sky]
        if not len(directions):
            return None
        finest = min(FINEST * 2 / (s.view.camera.fx + s.view.camera.fy) for s in surfaces)
        across = max(1, int(math.pi / 2 / finest))  # cells along a quarter of a great circle
        while across > 1 and len(cells(directions, across).unique()) > most:
            across = across * 9 // 10
        _, which, count = cells(directions, across).unique(return_inverse=True, return_counts=True)
        mean = torch.zeros(len(count), 6).index_add_(0, which, torch.cat([directions, rgb], 1)) / count[:, None]
        axes = torch.nn.functional.normalize(mean[:, :3], dim=1)
        size = self.overlap * radius * math.pi / 2 / across
        return Gaussians(
            means=middle + radius * axes,
            quats_wxyz=quat_from_matrix(_facing(axes)),
            log_scales=torch.tensor([size, size, 0.25 * size]).log().repeat(len(axes), 1),
            logit_opacities=torch.logit(torch.full((len(axes),), self.opacity)),
            sh=rgb_to_sh(mean[:, 3:].clamp(0, 1), sh_degree),
        )


def cells(directions: Float[Tensor, "n 3"], across: int) -> Int[Tensor, "n"]:
    """Numbers of the cells of a sphere that unit vectors fall into: a cube's faces, each cut by equal angles into
    `across` x `across`."""
    size, axis = directions.abs().max(1)
    face = 2 * axis + (directions.gather(1, axis[:, None])[:, 0] < 0)
    others = torch.stack([(axis + 1) % 3, (axis + 2) % 3], 1)
    angle = torch.atan(directions.gather(1, others) / size[:, None])  # -pi/4 .. pi/4
    at = ((angle / (math.pi / 2) + 0.5) * across).long().clamp(0, across - 1)
    return (face * across + at[:, 0]) * across + at[:, 1]


def _facing(axes: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3 3"]:
    """Rotations whose third columns are the unit vectors `axes`."""
    helper = torch.eye(3)[axes.abs().argmin(1)]
    first = torch.nn.functional.normalize(torch.linalg.cross(helper, axes), dim=1)
    return torch.stack([first, torch.linalg.cross(axes, first), axes], 2)
