"""The search of PatchMatch stereo: the planes of one photo at one size, and their costs.

A plane sweep over inverse depth initializes; then slanted planes are propagated in a checkerboard pattern and perturbed
at random (Bleyer et al. 2011, Galliani et al. 2015). The cost of a plane is 1 - NCC, averaged over the best source
photos (`native/shared/stereo.h`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from splat.core.camera import Camera
from splat.core.geometry import Rigid
from splat.geometry.reproject import pixel_transfer
from splat.geometry.surface_normals import normals_of_slopes
from splat.native import bindings


@dataclass(frozen=True, eq=False)
class StereoView:
    """A photo to match: grey values in 0 ... 255, camera and pose."""

    camera: Camera
    world_from_cam: Rigid
    grey: Float[Tensor, "h w"]
    depths: tuple[float, float]
    """Range of the search: nearest and farthest depth (z, world units)."""

    @cached_property
    def texels(self) -> Int[Tensor, "h w"]:
        return texels_of(self.grey)


@dataclass(frozen=True, eq=False)
class Planes:
    """A plane per pixel: inverse depth and its derivatives by x and y per pixel; and the cost, averaged over the best
    source photos."""

    planes: Float[Tensor, "3 h w"]
    cost: Float[Tensor, "h w"]

    @property
    def depth(self) -> Float[Tensor, "h w"]:
        return 1 / self.planes[0].clamp_min(1e-12)

    def normals(self, camera: Camera) -> Float[Tensor, "h w 3"]:
        """Unit normals of the planes in the camera frame, facing the camera."""
        return normals_of_slopes(camera, self.planes[0], self.planes[1:])


class PlaneSearch:
    """PatchMatch of one photo at one size."""

    def __init__(self, view: StereoView, sources: list[StereoView], best: int, low: float, high: float) -> None:
        self.view, self.sources, self.best, self.low, self.high = view, sources, best, low, high
        self.texels = [s.texels for s in sources]
        sizes = [(t.data_ptr(), s.camera.width, s.camera.height) for t, s in zip(self.texels, sources, strict=True)]
        self.table = bindings.int64s(x for row in sizes for x in row)
        world_from_view = view.world_from_cam
        transfers = [
            pixel_transfer(view.camera, s.camera, s.world_from_cam.inverse() @ world_from_view) for s in sources
        ]
        self.warps = bindings.doubles(x for t in transfers for x in t.tolist())
        self.grey = view.grey.contiguous()

    def _run(self, name: str, *arguments: float | int | Tensor | None, best: int = 0) -> None:
        c = self.view.camera
        bindings.call(
            name,
            *(c.height, c.width, self.grey, c.fx, c.fy, c.cx, c.cy, len(self.texels), self.table, self.warps),
            *(best or self.best, self.low, self.high),
            *arguments,
        )

    def with_costs(self, planes: Tensor, best: int = 0) -> Planes:
        """Unchanged planes with their costs, averaged over other than `self.best` source photos where asked for."""
        out = Planes(planes.contiguous(), torch.empty(planes.shape[1:]))
        self._run("splat_stereo_search", 0.0, 0.0, None, 0, out.planes, out.cost, best=best)
        return out

    def sweep(self, hypotheses: int) -> tuple[Planes, Float[Tensor, "k h w"]]:
        """The plane sweep: the best of `hypotheses` fronto-parallel planes at equal steps of inverse depth; and the
        costs of them all."""
        h, w = self.view.grey.shape
        volume = torch.empty(hypotheses, h, w)
        planes = torch.zeros(3, h, w)
        steps = self.low + (self.high - self.low) * (torch.arange(hypotheses) + 0.5) / hypotheses
        for k in range(hypotheses):
            planes[0] = steps[k]
            self._run("splat_stereo_search", 0.0, 0.0, None, 0, planes, volume[k])
        cost, number = volume.min(0)
        out = Planes(torch.zeros(3, h, w), cost.contiguous())
        out.planes[0] = steps[number]
        return out, volume

    def round(self, planes: Planes, spread: float, turn: float, generator: torch.Generator) -> Planes:
        """One round of propagation and perturbation, over both colours of the checkerboard."""
        out = Planes(planes.planes.clone(), planes.cost.clone())
        noise = torch.empty_like(out.planes).uniform_(-1, 1, generator=generator)
        for parity in (0, 1):
            self._run("splat_stereo_search", spread, turn, noise, parity, out.planes, out.cost)
        return out


def grey_of(rgb: Float[Tensor, "h w 3"]) -> Float[Tensor, "h w"]:
    """Luma (Rec. 601) in 0 ... 255 of colours in [0, 1]."""
    return 255 * (rgb @ rgb.new_tensor([0.299, 0.587, 0.114]))


def texels_of(grey: Float[Tensor, "h w"]) -> Int[Tensor, "h w"]:
    """The grey values of each pixel and its right, lower and lower right neighbours, packed into 32 bits: a bilinear
    interpolation reads memory once."""
    g = grey.round().clamp(0, 255).to(torch.int32)
    right, down = torch.cat([g[:, 1:], g[:, -1:]], 1), torch.cat([g[1:], g[-1:]], 0)
    corner = torch.cat([down[:, 1:], down[:, -1:]], 1)
    return g | right << 8 | down << 16 | corner << 24


def pyramid(view: StereoView, levels: int) -> list[StereoView]:
    """The view at full size first, each level half the size of the one before."""
    out = [view]
    for _ in range(levels - 1):
        last = out[-1]
        camera = last.camera.resized(max(1, last.camera.width // 2), max(1, last.camera.height // 2))
        grey = torch.nn.functional.interpolate(last.grey[None, None], (camera.height, camera.width), mode="area")
        out.append(StereoView(camera, view.world_from_cam, grey[0, 0].contiguous(), view.depths))
    return out


def upsampled(planes: Planes, camera: Camera) -> Float[Tensor, "3 h w"]:
    """Planes at the size of `camera`: each pixel takes the plane of the coarser pixel that contains it."""
    h, w = planes.cost.shape
    sy, sx = h / camera.height, w / camera.width
    y = ((torch.arange(camera.height) + 0.5) * sy)[:, None].expand(-1, camera.width)
    x = ((torch.arange(camera.width) + 0.5) * sx)[None].expand(camera.height, -1)
    row, column = y.floor().long().clamp(0, h - 1), x.floor().long().clamp(0, w - 1)
    at, gx, gy = planes.planes[:, row, column]
    return torch.stack([at + gx * (x - column - 0.5) + gy * (y - row - 0.5), gx * sx, gy * sy])
