"""Pictures of one posed view read at the pixels of another, by depth, as NumPy arrays: what filters of frames use."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from jaxtyping import Bool, Float

from splat.core.camera import Camera
from splat.core.geometry import Rigid
from splat.geometry.reproject import pixel_transfer

Pixels = tuple[np.ndarray, np.ndarray, np.ndarray]
"""x and y in px, and z in world units, each float32 [h w]."""


@dataclass(frozen=True, eq=False)
class Transfer:
    """Takes pixels with depths from view a to view b."""

    linear: Float[np.ndarray, "3 3"]
    shift: Float[np.ndarray, "3"]

    @staticmethod
    def between(camera_a: Camera, world_from_a: Rigid, camera_b: Camera, world_from_b: Rigid) -> Transfer:
        maps = pixel_transfer(camera_a, camera_b, world_from_b.inverse() @ world_from_a).numpy()
        return Transfer(maps[:9].reshape(3, 3).astype(np.float32), maps[9:].astype(np.float32))

    def __call__(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> Pixels:
        """Pixels and depths in b; those behind b have a z of at most 0, and their pixels mean nothing."""
        a, t = self.linear, self.shift
        u, v, w = (z * (a[i, 0] * x + a[i, 1] * y + a[i, 2]) + t[i] for i in range(3))
        over = 1 / np.where(w > 0, w, 1)
        return u * over, v * over, w


def pixel_grid(camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """x and y of the pixels' centres, float32 [h w]."""
    y, x = np.mgrid[: camera.height, : camera.width].astype(np.float32) + np.float32(0.5)
    return x, y


def inside(camera: Camera, x: np.ndarray, y: np.ndarray) -> Bool[np.ndarray, "h w"]:
    """Whether pixel coordinates lie in the frame, and a pixel away from its border, where interpolation guesses."""
    return (x >= 1) & (x < camera.width - 1) & (y >= 1) & (y < camera.height - 1)


def nearest(image: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Values of the pixels that coordinates fall into, never mixed over an edge; the nearest one beyond the frame."""
    h, w = image.shape[:2]
    column, row = (np.clip(np.nan_to_num(t), 0, n - 1).astype(np.int32) for t, n in ((x, w), (y, h)))
    return image[row, column]


def smooth(image: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Values at pixel coordinates by cubic interpolation (exact to 1/32 px), which may overshoot; those of the border
    beyond the frame."""
    at = (np.nan_to_num(x, nan=-1.0) - np.float32(0.5), np.nan_to_num(y, nan=-1.0) - np.float32(0.5))
    return cv2.remap(image, *at, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


@dataclass(eq=False)
class MaskedBlur:
    """Gaussian means of what is known around each pixel."""

    known: Float[np.ndarray, "h w"]
    """float32 in [0, 1]."""
    _weights: dict[float, np.ndarray] = field(default_factory=dict)

    def __call__(self, image: np.ndarray, sigma: float) -> np.ndarray:
        """Of an image [h w] or [h w c], `sigma` in px; 0 where nothing is near."""
        if sigma not in self._weights:
            self._weights[sigma] = _gaussian(self.known, sigma)
        shape = self.known.shape if image.ndim == 2 else (*self.known.shape, 1)
        weight = self._weights[sigma].reshape(shape)
        total = _gaussian(image * self.known.reshape(shape), sigma)
        return np.where(weight > 1e-3, total / np.maximum(weight, 1e-3), 0).astype(np.float32)


def grey(image: Float[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w"]:
    """The mean over the channels."""
    return cv2.transform(image, np.full((1, 3), 1 / 3, np.float32))


def _gaussian(image: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)
