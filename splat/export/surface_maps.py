"""What each photo's camera measures of the surface: depth drawn from the Gaussians, and depth that matching found.

The two err differently. Drawn depth is exact where many photos look, and where few do Gaussians may lie anywhere that
explains their pixels; matched depth needs two photos only, says how probable it is, and knows nothing of most edges.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from splat.core.camera import Camera
from splat.core.slots import DepthMap, PathCamera
from splat.export.tsdf import SurfaceMap, measured_pixels
from splat.geometry.surface_depth import MIN_ALPHA, SurfaceDepth

_MIXED = 2.0
"""How much less a pixel counts that blends what lies far apart: by one half where the standard deviation is the
truncation over this."""
_REACH = 4.0
"""Depth, in multiples of the median, beyond which nothing is meshed: there a pixel is several voxels wide."""
_MIN_COSINE = 0.17
"""Between ray and normal, of a measurement; 80 degrees from the normal."""
_MATCHED = 3.0
"""What a certain matched depth counts, relative to a drawn one; less probable ones by the square of probability."""


@dataclass(frozen=True)
class Measure:
    """What decides how much a pixel counts; world units."""

    truncation: float
    """Of the field."""
    depth: float
    """Median depth of all pixels."""


def drawn_map(c: PathCamera, s: SurfaceDepth, measure: Measure) -> SurfaceMap:
    """The surface as the Gaussians have it."""
    # Half opaque is hardly there; pixels that mix surfaces count where they are alone.
    weight = (s.alpha - MIN_ALPHA) / (1 - MIN_ALPHA)
    weight = weight / (1 + (_MIXED * s.spread * s.depth / measure.truncation).square())
    return _map(c, s.depth, s.normals_cam, weight, s.rgb, measure)


def matched_map(c: PathCamera, found: DepthMap, rgb: Float[Tensor, "h w 3"], measure: Measure) -> SurfaceMap:
    """The surface as matching has it, at the size of its map, in the colours that the camera is drawn in."""
    assert found.normals_cam is not None
    h, w = found.depth.shape
    known = found.confidence > 0 if found.predicted is None else (found.confidence > 0) & ~found.predicted
    rows, columns = (((torch.arange(n) + 0.5) * size / n).long() for n, size in zip((h, w), rgb.shape))
    small = PathCamera(c.camera.resized(w, h), c.world_from_cam)
    depth, probability, normals = (t.to(rgb) for t in (found.depth, found.confidence, found.normals_cam))
    weight = _MATCHED * probability.square()
    return _map(small, torch.where(known.to(rgb.device), depth, 0), normals, weight, rgb[rows][:, columns], measure)


def _map(
    c: PathCamera,
    depth: Float[Tensor, "h w"],
    normals_cam: Float[Tensor, "h w 3"],
    weight: Float[Tensor, "h w"],
    rgb: Float[Tensor, "h w 3"],
    measure: Measure,
) -> SurfaceMap:
    """With what is not measured marked: edges, what is far, and what is seen at a grazing angle."""
    ray = _rays(c.camera).to(depth)
    length = ray.norm(dim=2)
    cosine = (-(normals_cam * ray).sum(2) / length).clamp(min=0)
    near = depth < _REACH * measure.depth
    good = measured_pixels(depth, measure.truncation) & near & (cosine > _MIN_COSINE)
    # Near and frontal views resolve more.
    resolved = cosine * (measure.depth / depth.clamp(min=1e-9)).square()
    weight = torch.where(good, (weight * resolved).clamp(max=4.0), 0)
    return SurfaceMap(c.camera, c.world_from_cam, depth, depth * length * cosine.clamp(min=_MIN_COSINE), weight, rgb)


def _rays(camera: Camera) -> Float[Tensor, "h w 3"]:
    """Of pixel centres, camera axes, z = 1."""
    x, y = camera.pixel_centres().unbind(2)
    return torch.stack([(x - camera.cx) / camera.fx, (y - camera.cy) / camera.fy, torch.ones_like(x)], 2)
