"""What `--preset` and `--method auto` stand for."""

from __future__ import annotations

from dataclasses import dataclass

from splat.native.build import unavailable


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


PIXELS_PER_GAUSSIAN = 50
"""Training pixels, over all photos, that each Gaussian should have to answer to. More Gaussians cost time and explain
held-out photos no better: on 17 photos of llff_fern 61 k (one per 50 pixels) reach 27.3 dB, as 147 k do."""
FEWEST = 20_000


def cap_for(preset: str, training_pixels: int) -> int:
    """Most Gaussians for that many pixels of training photos, at most the preset's own limit."""
    return min(PRESETS[preset].cap, max(FEWEST, training_pixels // PIXELS_PER_GAUSSIAN))


@dataclass(frozen=True)
class AutoRow:
    """One row of the `auto` table: the first row that fits decides."""

    max_photos: int | None
    """Fits captures of at most this many registered training photos; None: any number."""
    method: str
    why: str


# A method that measures better on a class of captures takes its row here. `edgs` beside `points` (scripts/results): ten
# captures at the default preset +0.12 dB, more than 14 training photos +0.30, fewer +0.01; seven at the fast one +0.66;
# two or three photos of the ray-traced room +2 to +3.
AUTO: tuple[AutoRow, ...] = (AutoRow(None, "edgs", "Gaussians on the surfaces that dense matching finds"),)


def resolve_method(method: str, train_photos: int) -> tuple[str, str]:
    """The method to run and the reason, for `auto` or for an explicit choice."""
    if method != "auto":
        return method, "as asked"
    if unavailable() is not None:
        return "points", "Gaussians at the SfM points: dense matching needs the compiled kernels"
    row = next(r for r in AUTO if r.max_photos is None or train_photos <= r.max_photos)
    return row.method, row.why
