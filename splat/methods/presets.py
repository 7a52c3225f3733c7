"""What `--preset` stands for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Preset:
    """A trade of time for quality; every value can be overridden by its flag."""

    iterations: int
    max_resolution: int
    """Long side of the working photos, px."""
    cap: int
    """Most Gaussians that density control may reach, however many photos there are."""


PRESETS: dict[str, Preset] = {
    "fast": Preset(iterations=3000, max_resolution=480, cap=60_000),
    "default": Preset(iterations=6000, max_resolution=800, cap=150_000),
    "quality": Preset(iterations=30_000, max_resolution=1600, cap=1_000_000),
}

FEW_PHOTOS = 14
"""Up to so many training photos are few: what is trained longer, or without dropout, learns them by heart."""
FEW_PHOTOS_SHARE = 0.5
FEW_PHOTOS_DROPOUT = 0.2
FEW_PHOTOS_FREE_SPACE = 0.05
"""With few photos depth maps say where nothing may float; with 17 of fern or 21 of a room it costs 0.2 to 0.6 dB."""
FEW_PHOTOS_FRAME_MARGIN = 0.15
"""Beyond the edges of few photos Gaussians grow that nobody saw, and hide the scene from elsewhere."""
FEW_PHOTOS_SURROUNDINGS = 2_000
"""Few photos leave places that nobody saw, which would be black."""
FEW_PHOTOS_SH_DEGREE = 1
"""Few photos do not say how colours change with direction: higher degrees make up for wrong geometry."""


def iterations_for(preset: str, train_photos: int) -> int:
    """Training steps of one photo each: the preset's, fewer with few photos (`FEW_PHOTOS_SHARE`, growing to the whole
    from `FEW_PHOTOS` to twice as many)."""
    share = FEW_PHOTOS_SHARE + (1 - FEW_PHOTOS_SHARE) * (train_photos - FEW_PHOTOS) / FEW_PHOTOS
    return round(PRESETS[preset].iterations * min(1.0, max(FEW_PHOTOS_SHARE, share)))


def few_photo_defaults(train_photos: int) -> dict[str, Any]:
    """Settings (dotted names) that so few training photos change."""
    if train_photos > FEW_PHOTOS:
        return {}
    return {
        "train.dropout.rate": FEW_PHOTOS_DROPOUT,
        "train.free_space": FEW_PHOTOS_FREE_SPACE,
        "train.frame_margin": FEW_PHOTOS_FRAME_MARGIN,
        "train.surroundings.count": FEW_PHOTOS_SURROUNDINGS,
        "sh_degree": FEW_PHOTOS_SH_DEGREE,
        "ground": True,
    }


PIXELS_PER_GAUSSIAN = 50
"""Training pixels, over all photos, for each Gaussian. More Gaussians cost time and explain held-out photos no better:
on 17 photos of llff_fern 61 k (one per 50 pixels) reach 27.3 dB, as 147 k do."""
MIN_CAP = 20_000


def cap_for(preset: str, training_pixels: int) -> int:
    """Most Gaussians for that many pixels of training photos, at most the preset's own limit."""
    return min(PRESETS[preset].cap, max(MIN_CAP, training_pixels // PIXELS_PER_GAUSSIAN))
