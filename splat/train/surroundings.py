"""What nobody saw: a shell of Gaussians around the scene, in the colours that the photos have in its direction.

From where no photo was taken there are places at which nothing was reconstructed. They would be black, and worse:
training leaves dark surfaces transparent, for black costs nothing. So light that passes the scene here reaches a sphere
around all of it. Its colours follow the photos where they look past what is near, and continue them smoothly where none
looks: of n vertices with colours c_i, sum_i w_i |c_i - d_i|^2 + s sum_ij |c_i - c_j|^2 over neighbours is smallest, d_i
being what the photos show behind vertex i (a screened Laplace equation). The shell hides nothing, for everything is
before it, and it is no surface: meshes, point clouds, depth and holes know nothing of it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from splat.core.camera import Camera
from splat.core.gaussians import Gaussians, rgb_to_sh
from splat.core.geometry import quat_from_matrix
from splat.core.slots import Rasterizer, RasterSettings, Render
from splat.geometry.drawing import over
from splat.geometry.reproject import PosedDepth, read_bilinear
from splat.train.views import Posed, shrink

_BEYOND, _BEYOND_CAMERAS = 1.2, 3.0
"""Radius of the shell over the distance from the middle of the farthest Gaussian, and of the farthest camera: from
outside it would hide the scene, and one who looks around should not get there soon."""
_FARTHEST = 100.0
"""Over the median distance, at most: a single stray Gaussian does not push the shell away."""
_SMOOTHNESS = 0.05
"""s of the equation; a photo that shows all of a vertex has a weight of 1."""
_FAR_SHARE, _FALL, _LEAST_WEIGHT = 0.05, 8, 1e-3
"""A pixel counts wholly where its surface is among the farthest 5 % of all photos or has no depth, else by the eighth
power of its depth over theirs: what is near hides what is behind it, and is of another colour. The least weight is
better than no colour at all."""
_NEIGHBOURS = 6
_SIGMA, _THICKNESS, _LOGIT = 0.7, 0.05, 3.0
"""Standard deviations along and across the shell, over the distance of two vertices, and logit of the opacity: 2 % of
the light passes where it is thinnest."""
_PIXELS_PER_VERTEX = 2.0
"""Of the shrunk photos that colours are read from, along a line."""
_ITERATIONS = 500
_DRAWN_SIDE = 160
"""px: the long side that training draws the shell at; its Gaussians are some 8 px wide there."""


@dataclass(frozen=True)
class SurroundingsSettings:
    """The shell around the scene (see the top of `train/surroundings.py`)."""

    count: int = 0
    """Gaussians behind everything else, in the colours of the photos, so that what nobody saw is not black; 0: none
    (default: 0; with at most 14 training photos 2000). Needs depth maps of the photos, which say what is near."""

    def around(
        self, means: Float[Tensor, "n 3"], photos: Sequence[Posed], depths: Sequence[PosedDepth]
    ) -> Shell | None:
        """The shell around first Gaussians at `means` and the cameras of the photos. `depths`: what is known of the
        depth of each photo, doubtful or not. None: there is to be none, or nothing is known of depth (a shell in the
        colours of near surfaces costs sceaux_castle 1.1 dB with sparse points alone)."""
        if self.count <= 0 or not photos or len(depths) != len(photos):
            return None
        centres = torch.stack([_centre(p) for p in photos])
        means = means.cpu()
        middle = means.median(0).values
        distance = (means - middle).norm(dim=1)
        scene = min(float(distance.max()), _FARTHEST * float(distance.median()))
        cameras = float((centres - middle).norm(dim=1).max())
        radius = max(_BEYOND * scene, _BEYOND_CAMERAS * cameras, 1e-6)
        directions = _fibonacci_sphere(self.count)
        known = torch.cat([d.depth[d.depth > 0] for d in depths])
        far = float(np.quantile(known.numpy(), 1 - _FAR_SHARE)) if len(known) else 1.0
        seen = [
            _seen(p, middle + radius * directions, d, far, _spacing(self.count))
            for p, d in zip(photos, depths, strict=True)
        ]
        return Shell(
            directions, middle, radius, torch.stack([s.weight for s in seen]), torch.stack([s.rgb for s in seen])
        )


@dataclass(frozen=True, eq=False)
class Shell:
    """A shell of n vertices and what v photos show behind each: `slots.Surroundings`."""

    directions: Float[Tensor, "n 3"]
    """From the middle; unit."""
    middle: Float[Tensor, "3"]
    radius: float
    """World units."""
    weights: Float[Tensor, "v n"]
    """In [0, 1]; 0: the photo does not show it."""
    rgb: Float[Tensor, "v n 3"]
    """In [0, 1]."""

    @cached_property
    def gaussians(self) -> Gaussians:
        """Discs, of SH degree 0."""
        count = len(self.directions)
        spacing = self.radius * _spacing(count)
        normals = self.directions
        x = torch.linalg.cross(torch.eye(3)[normals.abs().argmin(1)], normals)
        x = x / x.norm(dim=1, keepdim=True)
        turn = torch.stack([x, torch.linalg.cross(normals, x), normals], 2)
        scales = spacing * torch.tensor([_SIGMA, _SIGMA, _THICKNESS])
        return Gaussians(
            means=self.middle + self.radius * normals,
            quats_wxyz=quat_from_matrix(turn),
            log_scales=scales.log().repeat(count, 1),
            logit_opacities=torch.full((count,), _LOGIT),
            sh=rgb_to_sh(self.colours),
        )

    @cached_property
    def colours(self) -> Float[Tensor, "n 3"]:
        """Those of the photos, and their smoothest continuation."""
        weight = self.weights.sum(0)
        seen = (self.weights[..., None] * self.rgb).sum(0)
        return _continued(weight, seen, _neighbours(self.directions)).clamp(0, 1)

    def without_photos(self, left_out: Collection[int]) -> Shell:
        """The same shell without what these training photos show."""
        weights = self.weights.clone()
        weights[sorted(left_out)] = 0
        return replace(self, weights=weights)


@dataclass(frozen=True, eq=False)
class _Seen:
    """What a photo shows behind n vertices."""

    rgb: Float[Tensor, "n 3"]
    weight: Float[Tensor, "n"]


def _seen(photo: Posed, vertices: Float[Tensor, "n 3"], depth: PosedDepth, far: float, spacing: float) -> _Seen:
    """The colour of the photo around the pixel of each vertex, and how much it counts. `far`: see `_FALL`."""
    camera = _coarse(photo.camera, _PIXELS_PER_VERTEX / spacing)
    local = vertices @ photo.cam_from_world[:3, :3].T + photo.cam_from_world[:3, 3]
    at = camera.project(local)
    inside = (local[:, 2] > 0) & camera.contains(at)
    small = shrink(photo.photo, camera.width, camera.height)
    size = (camera.width, camera.height)
    pixels = torch.where(inside[:, None], at, 0)
    image = torch.from_numpy(small.rgb).permute(2, 0, 1).float() / 255
    usable = torch.from_numpy(small.usable()).float()[None]
    weight = torch.where(depth.depth > 0, (depth.depth / far).clamp(0, 1) ** _FALL, 1.0)
    weight = torch.nn.functional.adaptive_avg_pool2d(weight[None, None], (camera.height, camera.width))[0]
    weight = read_bilinear(weight, pixels[None], size)[0, 0].clamp(_LEAST_WEIGHT, 1)
    weight = weight * read_bilinear(usable, pixels[None], size)[0, 0] * inside
    return _Seen(read_bilinear(image, pixels[None], size)[:, 0].T, weight)


def _coarse(camera: Camera, pixels_per_radian: float) -> Camera:
    """The pinhole of a loaded photo at about that many pixels per radian, and no larger than the photo."""
    return replace(camera, lens=None).scaled(min(1.0, pixels_per_radian / max(camera.fx, camera.fy)))


def _continued(
    weight: Float[Tensor, "n"], seen: Float[Tensor, "n 3"], neighbours: Int[Tensor, "n k"]
) -> Float[Tensor, "n 3"]:
    """Solves (W + s L) c = W d by conjugate gradients, L being the Laplacian of the graph made symmetric; `seen` is
    W d. Where nothing is seen at all, grey."""
    if not bool((weight > 0).any()):
        return torch.full_like(seen, 0.5)
    rows = torch.arange(len(weight)).repeat_interleave(neighbours.shape[1])
    edges = torch.stack([rows, neighbours.reshape(-1)])
    edges = torch.cat([edges, edges.flip(0)], 1).unique(dim=1)
    degree = torch.bincount(edges[0], minlength=len(weight)).double()

    def times(c: Tensor) -> Tensor:
        around = torch.zeros_like(c).index_add_(0, edges[0], c[edges[1]])
        return weight.double()[:, None] * c + _SMOOTHNESS * (degree[:, None] * c - around)

    right = seen.double()
    c = (right.sum(0) / weight.double().sum()).expand_as(right).clone()
    residual = right - times(c)
    direction, square = residual.clone(), residual.square().sum(0)
    for _ in range(_ITERATIONS):
        if float(square.max()) < 1e-12:
            break
        along = times(direction)
        step = square / (direction * along).sum(0).clamp_min(1e-300)
        c += step * direction
        residual -= step * along
        new = residual.square().sum(0)
        direction = residual + new / square.clamp_min(1e-300) * direction
        square = new
    return c.float()


def _neighbours(directions: Float[Tensor, "n 3"]) -> Int[Tensor, "n k"]:
    """The nearest vertices of each."""
    cosine = directions @ directions.T
    cosine.fill_diagonal_(-2)
    return cosine.topk(min(_NEIGHBOURS, len(directions) - 1), dim=1).indices


def _spacing(count: int) -> float:
    """Distance of two vertices, radians."""
    return math.sqrt(4 * math.pi / count)


def _centre(photo: Posed) -> Float[Tensor, "3"]:
    return -photo.cam_from_world[:3, :3].T @ photo.cam_from_world[:3, 3]


def _fibonacci_sphere(count: int) -> Float[Tensor, "n 3"]:
    """Points that cover the unit sphere evenly (the lattice of Swinbank and Purser 2006)."""
    i = torch.arange(count, dtype=torch.float64)
    z = 1 - (2 * i + 1) / count
    angle = math.pi * (3 - math.sqrt(5)) * i
    radius = (1 - z * z).clamp_min(0).sqrt()
    return torch.stack([radius * angle.cos(), radius * angle.sin(), z], 1).float()


def over_surroundings(
    render: Render,
    shell: Gaussians | None,
    camera: Camera,
    cam_from_world: Float[Tensor, "4 4"],
    background: Float[Tensor, "3"],
    raster: Rasterizer,
    settings: RasterSettings,
) -> Render:
    """A render that was made over `background`, over the shell instead, as training draws it (`drawn_behind`). None: as
    it is."""
    if shell is None:
        return render
    return over(render, drawn_behind(shell, camera, cam_from_world, background, raster, settings), background)


def drawn_behind(
    shell: Gaussians,
    camera: Camera,
    cam_from_world: Float[Tensor, "4 4"],
    background: Float[Tensor, "3"],
    raster: Rasterizer,
    settings: RasterSettings,
) -> Float[Tensor, "h w 3"]:
    """The shell over the background, as training draws it behind each photo: small, for it is smooth, and enlarged.
    Without gradients."""
    with torch.no_grad():
        settings = RasterSettings(mode=settings.mode, near=settings.near)
        small = raster(shell, camera.at_most(_DRAWN_SIDE), cam_from_world.detach(), background, settings).rgb
        planes = small.permute(2, 0, 1)[None]
        size = (camera.height, camera.width)
        return torch.nn.functional.interpolate(planes, size, mode="bilinear", align_corners=False)[0].permute(1, 2, 0)
