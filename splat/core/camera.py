"""Cameras: intrinsics, lens, projection.

Camera axes are +x right, +y down, +z ahead (OpenCV, COLMAP). Pixel centres are at .5: the top-left pixel covers
[0, 1) x [0, 1) and its centre is (0.5, 0.5). Depth is z, never the distance along the ray.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from splat.core.devices import to_device


@dataclass(frozen=True)
class Lens:
    """A lens that is not a pinhole: a COLMAP camera model and its full parameter list, in pixels of the size below."""

    model: str
    """COLMAP's name, e.g. "OPENCV", "SIMPLE_RADIAL", "OPENCV_FISHEYE"."""
    params: tuple[float, ...]
    """COLMAP's parameters for that model, focal length and principal point included."""
    width: int
    height: int


@dataclass(frozen=True)
class Camera:
    """Pinhole intrinsics in pixels. `lens`, when set, is the lens of the photo: `core.image.load_photo` resamples the
    photo to this pinhole when it is read, so nothing after ingest handles a distorted image."""

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int
    lens: Lens | None = None

    def resized(self, width: int, height: int) -> Camera:
        """The same camera with another number of pixels over the same field of view."""
        sx, sy = width / self.width, height / self.height
        return replace(
            self,
            fx=self.fx * sx,
            fy=self.fy * sy,
            cx=self.cx * sx,
            cy=self.cy * sy,
            width=width,
            height=height,
        )

    def scaled(self, factor: float) -> Camera:
        """`resized` by one factor, rounded to whole pixels (at least one)."""
        return self.resized(max(1, round(self.width * factor)), max(1, round(self.height * factor)))

    def at_most(self, side: int) -> Camera:
        """`scaled` down until the long side has at most so many pixels."""
        return self.scaled(min(1.0, side / max(self.width, self.height)))

    def matrix(self) -> Float[Tensor, "3 3"]:
        """px_from_cam."""
        return torch.tensor([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]], dtype=torch.float64)

    def intrinsics(self, device: torch.device) -> Float[Tensor, "4"]:
        """fx, fy, cx, cy as float32 on a device. The tensor is cached and shared: do not modify it."""
        return _intrinsics(self.fx, self.fy, self.cx, self.cy, device)

    def project(self, points_cam: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 2"]:
        """Pixel coordinates of points in the camera frame; valid where z > 0."""
        x, y, z = points_cam.unbind(-1)
        return torch.stack([self.fx * x / z + self.cx, self.fy * y / z + self.cy], -1)

    def contains(self, pixels: Float[Tensor, "*n 2"]) -> Bool[Tensor, "*n"]:
        """Whether pixel coordinates are inside the image."""
        x, y = pixels.unbind(-1)
        return (x >= 0) & (x < self.width) & (y >= 0) & (y < self.height)

    def unproject(self, pixels: Float[Tensor, "*n 2"], depth: Float[Tensor, "*n"]) -> Float[Tensor, "*n 3"]:
        """Points in the camera frame at z = `depth`."""
        x = (pixels[..., 0] - self.cx) / self.fx * depth
        y = (pixels[..., 1] - self.cy) / self.fy * depth
        return torch.stack([x, y, depth], -1)

    def pixel_centres(self) -> Float[Tensor, "h w 2"]:
        y, x = torch.meshgrid(torch.arange(self.height) + 0.5, torch.arange(self.width) + 0.5, indexing="ij")
        return torch.stack([x, y], -1)


@functools.lru_cache(maxsize=10_000)
def _intrinsics(fx: float, fy: float, cx: float, cy: float, device: torch.device) -> Float[Tensor, "4"]:
    """Cached, so that the intrinsics of a camera are copied to the device once."""
    return to_device((fx, fy, cx, cy), device)
