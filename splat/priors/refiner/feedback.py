"""How much a corrected render counts where it is fed back into training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from splat.core.geometry import Rigid
from splat.core.slots import RefinedView, RenderedView
from splat.geometry.focus import camera_centres
from splat.geometry.virtual_path import distance_weights


@dataclass(frozen=True)
class FeedbackWeight:
    """Weight of each pixel: the camera's distance from the photos, x what the render covers, x whether the correction
    is small, x the refiner's own confidence.

    The first is that of LM-Gaussian (2024), on camera centres; the second after RI3D (2025), which corrects only where
    the scene was observed.
    """

    saturation: float = 16.0
    """The distance to the nearest photo counts fully at 1 / `saturation` of the photos' spread."""
    spread_factor: float = 1.2
    """Spread: that many times the largest distance from a photo to its second-farthest."""
    alpha: tuple[float, float] = (0.5, 0.9)
    """Below the first the render does not count, from the second on fully."""
    max_change: float = 0.25
    """Change of a pixel, in values of [0, 1], at which an opaque pixel does not count any more."""

    def of_camera(self, world_from_cam: Rigid, photos: Sequence[Rigid]) -> float:
        """In [0, 1]: 0 at a photo's camera. Depends on centres alone, and not on the world's origin or scale."""
        if not photos:
            return 0.0
        centre = world_from_cam.translation[None]
        return float(distance_weights(centre, camera_centres(photos), self.saturation, self.spread_factor))

    def of_pixels(self, view: RenderedView, refined: RefinedView) -> Float[Tensor, "h w"]:
        """In [0, 1], without the camera's part."""
        low, high = self.alpha
        covered = ((view.alpha - low) / max(high - low, 1e-6)).clamp(0, 1)
        change = (refined.rgb - view.rgb).abs().mean(-1)
        gentle = (1 - change / self.max_change).clamp(0, 1)
        return covered * gentle * refined.confidence

    def __call__(self, view: RenderedView, refined: RefinedView, photos: Sequence[Rigid]) -> Float[Tensor, "h w"]:
        """In [0, 1]. `photos`: `world_from_cam` of the training photos."""
        return self.of_camera(view.world_from_cam, photos) * self.of_pixels(view, refined)
