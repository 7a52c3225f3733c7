"""Alignment of the depth maps of several posed views, each known up to a scale and an offset, by matches between them.

`align_by_world` is the published stage of CoherentGS: matched pixels are moved together in the world. It is kept to
compare with: distances in the world are smaller in a smaller scene, so noise of the matches makes it shrink, and its
offset is one of depth where networks leave one of disparity. `align_by_disparity` has neither fault: every match says,
in closed form, at which inverse depth it is, and two numbers per view are fitted to that in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from splat.core.camera import Camera
from splat.core.geometry import Rigid
from splat.geometry.align_depth import Alignment, align_depth
from splat.geometry.depth_flow import PairMatches
from splat.geometry.reproject import match_inverse_depth, pixel_transfer, read_bilinear

STEPS = 1000
SCALE_RATE, OFFSET_RATE = 1.0, 5.0
"""Adam, of scales and of offsets (units of the nearest depth / 1.33), annealed to 0 by a cosine."""
MIN_MATCHES = 50


@dataclass(frozen=True, eq=False)
class _Rays:
    """Of the m matches of a pair: a world point of a is centre_a + z direction_a, likewise of b."""

    a: int
    b: int
    directions_a: Float[Tensor, "m 3"]
    directions_b: Float[Tensor, "m 3"]
    values_a: Float[Tensor, "m"]
    values_b: Float[Tensor, "m"]
    """Relative depth; of b read bilinearly."""
    pixels: int
    """Of photo a."""


class WorldDistance:
    """The published loss: mean over a photo's pixels and coordinates of |X_b - X_a|, over the pixels that match, X
    being world points at depth scale x value + offset."""

    def __init__(
        self,
        values: Sequence[Float[Tensor, "h w"]],
        cameras: Sequence[Camera],
        poses: Sequence[Rigid],
        pairs: Sequence[PairMatches],
        unit: float = 1.0,
    ) -> None:
        """`values`: relative depth, at the size of the cameras; `unit`: world units that are one unit of the offsets
        and of the loss."""
        self.centres = torch.stack([p.translation for p in poses]).float() / unit
        self.rays = []
        for p in pairs:
            a, b = p.view_a, p.view_b
            size = (cameras[b].width, cameras[b].height)
            self.rays.append(
                _Rays(
                    a=a,
                    b=b,
                    directions_a=_directions(cameras[a], poses[a], p.pixels_a),
                    directions_b=_directions(cameras[b], poses[b], p.pixels_b),
                    values_a=values[a].reshape(-1)[p.pixel_ids],
                    values_b=read_bilinear(values[b][None], p.pixels_b[None], size)[0, 0],
                    pixels=values[a].numel(),
                )
            )

    def __call__(
        self, scales: Float[Tensor, "v"], offsets: Float[Tensor, "v"], view: int | None = None
    ) -> Float[Tensor, ""]:
        """The loss of the pairs from one view; None: from all."""
        total = scales.new_zeros(())
        for r in self.rays:
            if view is not None and r.a != view:
                continue
            a = (scales[r.a] * r.values_a + offsets[r.a])[:, None] * r.directions_a
            b = (scales[r.b] * r.values_b + offsets[r.b])[:, None] * r.directions_b
            total = total + (b - a + self.centres[r.b] - self.centres[r.a]).abs().sum() / (3 * r.pixels)
        return total


def align_by_world(
    values: Sequence[Float[Tensor, "h w"]],
    cameras: Sequence[Camera],
    poses: Sequence[Rigid],
    pairs: Sequence[PairMatches],
    unit: float,
    seed: int = 0,
    steps: int = STEPS,
) -> list[Alignment]:
    """The published alignment: depth in world units = unit x (scale x value + offset), by `steps` of Adam on the
    `WorldDistance` of a random view, from scale 1 and offset 0."""
    loss = WorldDistance(values, cameras, poses, pairs, unit)
    scales = torch.ones(len(values)).requires_grad_()
    offsets = torch.zeros(len(values)).requires_grad_()
    rates = SCALE_RATE, OFFSET_RATE
    adam = torch.optim.Adam([{"params": [p], "lr": r} for p, r in zip((scales, offsets), rates)])
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps if loss.rays else 0):
        for group, rate in zip(adam.param_groups, rates):
            group["lr"] = rate * (1 + math.cos(math.pi * step / steps)) / 2
        adam.zero_grad()
        found = loss(scales, offsets, int(torch.randint(len(values), (1,), generator=generator)))
        if found.requires_grad:
            found.backward()
            adam.step()
    return [Alignment(unit * s, unit * o, False, math.nan) for s, o in zip(scales.detach().tolist(), offsets.tolist())]


def align_by_disparity(
    values: Sequence[Float[Tensor, "h w"]],
    cameras: Sequence[Camera],
    poses: Sequence[Rigid],
    pairs: Sequence[PairMatches],
    family: str = "disparity",
) -> list[Alignment | None]:
    """For each view the scale and offset of 1 / z (`family` "disparity") or z ("up-to-scale") that its matches say.

    A match is at the inverse depth that brings it nearest to its pixel in the other photo (`inverse_depths`). Errors
    are in pixels of the other photo, weighted by Cauchy's function: pairs with more parallax count more, and noise
    moves the fit to neither side. Matches that are far off their epipolar line are not used. None where fewer than
    `MIN_MATCHES` are left, or no fit has most of the view in front of the camera.
    """
    disparity = family == "disparity"
    out: list[Alignment | None] = []
    for i, own in enumerate(values):
        parts = [_samples(p, own, cameras, poses) for p in pairs if p.view_a == i]
        x, w, weight = torch.cat(parts, 1) if parts else torch.zeros(3, 0)
        if len(x) < MIN_MATCHES:
            out.append(None)
            continue
        start = align_depth(x.float(), (1 / w).float(), "disparity" if disparity else "up-to-scale", weight * w**2)
        out.append(None if start is None else _polished(start, x, w, weight.sqrt()))
    return out


def inverse_depths(
    pair: PairMatches, cameras: Sequence[Camera], poses: Sequence[Rigid]
) -> tuple[Float[Tensor, "m"], Float[Tensor, "m"], Float[Tensor, "m"]]:
    """Of each match: 1 / z in view a, the pixels by which it moves in b when that changes by 1, and the pixels by which
    it misses b's epipolar line. float64; the first is not positive for matches that meet behind the camera."""
    a, b = pair.view_a, pair.view_b
    transfer = pixel_transfer(cameras[a], cameras[b], poses[b].inverse() @ poses[a])
    matrix, t = transfer[:9].reshape(3, 3), transfer[9:]
    homogeneous = torch.cat([pair.pixels_a.double(), torch.ones(len(pair.pixels_a), 1).double()], 1)
    p, q = homogeneous @ matrix.T, pair.pixels_b.double()
    w, along, wanted = match_inverse_depth(p, t, q)
    scale = (p[:, 2] + t[2] * w).abs().clamp_min(1e-12)
    return w, along.norm(dim=1) / scale, (wanted - w[:, None] * along).norm(dim=1) / scale


def _samples(
    pair: PairMatches, values: Tensor, cameras: Sequence[Camera], poses: Sequence[Rigid]
) -> Float[Tensor, "3 m"]:
    """Relative value, inverse depth, and weight (squared pixels per inverse depth) of the matches that are usable."""
    w, pixels, off = inverse_depths(pair, cameras, poses)
    x = values.reshape(-1)[pair.pixel_ids].double()
    usable = (w > 0) & x.isfinite() & w.isfinite()
    if bool(usable.any()):
        usable &= off <= 1.5 + 2 * off[usable].median()
    return torch.stack([x, w, pixels.square()])[:, usable]


def _polished(start: Alignment, x: Tensor, w: Tensor, pixels: Tensor) -> Alignment | None:
    """Gauss-Newton on pixel errors of the inverse depth, reweighted, from a robust start."""
    scale, offset = start.scale, start.offset
    for _ in range(30):
        mapped = scale * x + offset
        if start.disparity:
            model, by_scale, by_offset = mapped, x, torch.ones_like(x)
        else:
            model = 1 / torch.where(mapped > 0, mapped, torch.inf)
            by_scale, by_offset = -x * model.square(), -model.square()
        error = pixels * (w - model)
        spread = 1.5 * float(error.abs().median()) + 1e-9
        weight = pixels.square() / (1 + (error / spread).square())
        jacobian = torch.stack([by_scale, by_offset], 1)
        normal = jacobian.T @ (weight[:, None] * jacobian)
        size = normal.diagonal().sqrt().clamp_min(1e-300)  # two numbers of different units
        right = jacobian.T @ (weight * (w - model)) / size
        change = torch.linalg.lstsq(normal / size / size[:, None], right[:, None]).solution[:, 0] / size
        scale, offset = scale + float(change[0]), offset + float(change[1])
    found = Alignment(scale, offset, start.disparity, 0.0)
    depth = found.depth(x)
    if not (scale > 0 and math.isfinite(scale + offset)) or float((depth > 0).double().mean()) < 0.5:
        return None
    return Alignment(scale, offset, start.disparity, float((depth * w - 1).abs().median()))


def _directions(camera: Camera, pose: Rigid, pixels: Float[Tensor, "m 2"]) -> Float[Tensor, "m 3"]:
    """In the world, for each unit of z."""
    rays = camera.unproject(pixels.double(), torch.ones(len(pixels), dtype=torch.float64))
    return (rays @ pose.rotation.T.double()).float()
