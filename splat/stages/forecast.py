"""Before anything long starts: how many minutes and gigabytes, and what to lower when that is too much."""

from __future__ import annotations

from dataclasses import dataclass

from splat.core.capture import Capture
from splat.run.machine import available_cores

# Seconds of a training step on two AVX-512 cores at 3 GHz: a least-squares fit to the ten captures at the default
# preset (within 40 % of each), where the count of Gaussians grows to its cap, and photos to their size, on the way.
_SECONDS_PER_STEP = 7.5e-3
_SECONDS_PER_PIXEL = 3.4e-8
_SECONDS_PER_GAUSSIAN = 5.1e-8
_SECONDS_BESIDE = 30.0  # loading, evaluating, renders and exports
_SFM_SECONDS_PER_PHOTO = 1.1
_SFM_SECONDS_PER_PAIR = 0.05
# Bytes: parameters, Adam moments, gradients and per-row buffers of one SH3 Gaussian; uint8 photos over all levels of
# the resolution schedule; what torch, cv2 and pycolmap occupy once loaded.
_BYTES_PER_GAUSSIAN = 2200
_BYTES_PER_PHOTO_PIXEL = 6.0
_BYTES_PER_RENDER_PIXEL = 220
_BYTES_BASE = 0.7e9
# Dense initialization with matching against four photos, per pixel of all photos at the size they are matched at: 6 s
# for 43 photos of 173 x 308 (fox), 4.6 s for 12 of 480 x 319 (banana).
_SECONDS_PER_MATCHED_PIXEL = 2.6e-6
_BYTES_PER_MATCHED_PIXEL = 140.0
MATCHING_SHARE = 0.125
"""Of the predicted time of a run, what dense matching may take."""
FEWEST_MATCHED = 24
"""Photos that are matched whatever it takes."""


@dataclass(frozen=True)
class Estimate:
    minutes: float
    gigabytes: float


def estimate(capture: Capture, iterations: int, cap: int, needs_sfm: bool, cores: int | None = None) -> Estimate:
    """Expected wall time and peak memory of a CPU run."""
    cores = cores or available_cores()
    sizes = [v.camera.width * v.camera.height for v in capture.views]
    pixels = sum(sizes) / max(1, len(sizes))
    step = (_SECONDS_PER_STEP + pixels * _SECONDS_PER_PIXEL + cap * _SECONDS_PER_GAUSSIAN) * 2 / cores
    seconds = iterations * step + _SECONDS_BESIDE
    if needs_sfm:
        n = len(capture.views)
        pairs = n * (n - 1) / 2 if n <= 100 and capture.kind == "photos" else 15 * n
        seconds += (n * _SFM_SECONDS_PER_PHOTO + pairs * _SFM_SECONDS_PER_PAIR) * 2 / cores + 3
    memory = _BYTES_BASE + cap * _BYTES_PER_GAUSSIAN + sum(sizes) * _BYTES_PER_PHOTO_PIXEL
    memory += max(sizes, default=0) * _BYTES_PER_RENDER_PIXEL
    return Estimate(seconds / 60, memory / 1e9)


@dataclass(frozen=True)
class Matching:
    """How dense matching is to be done, and what it will take."""

    size: int
    """Long side of the photos that are matched, px."""
    photos: int
    """How many of them."""
    seconds: float
    gigabytes: float
    """Peak of the process while it lasts."""


def plan_matching(
    capture: Capture,
    iterations: int,
    cap: int,
    budget_gb: float | None = None,
    size: int = 0,
    most: int = 10_000,
    least: int = 240,
    photos: int = 0,
    cores: int | None = None,
) -> Matching:
    """The largest size, up to `most` px, at which matching the capture takes at most an eighth of the predicted run and
    no more memory than there is; `least`, and only some of the photos, where even that is too much. A `size` or number
    of `photos` other than 0 is taken as it is."""
    cores = cores or available_cores()
    run = 60 * estimate(capture, iterations, cap, False, cores).minutes - _SECONDS_BESIDE
    most_seconds = run * MATCHING_SHARE / (1 - MATCHING_SHARE)
    most_bytes = float("inf") if budget_gb is None else 1e9 * budget_gb - _BYTES_BASE
    total = len(capture.views)

    def pixels(side: int) -> float:
        whole = sum(v.camera.width * v.camera.height for v in capture.resized(side).views)
        return whole * min(photos or total, total) / max(1, total)

    seconds_per_pixel = _SECONDS_PER_MATCHED_PIXEL * 2 / cores
    most_pixels = min(most_seconds / seconds_per_pixel, most_bytes / _BYTES_PER_MATCHED_PIXEL)
    side = size or min(most, max((max(v.camera.width, v.camera.height) for v in capture.views), default=most))
    while not size and side > least and pixels(side) > most_pixels:
        side = max(least, int(0.93 * side))
    found = pixels(side)
    count = min(photos or total, total)
    if not (size or photos) and found > most_pixels:
        count = min(total, max(FEWEST_MATCHED, int(total * most_pixels / found)))
        found *= count / total
    return Matching(side, count, found * seconds_per_pixel, (_BYTES_BASE + found * _BYTES_PER_MATCHED_PIXEL) / 1e9)


@dataclass(frozen=True)
class Fit:
    """What was lowered to fit into memory."""

    max_resolution: int
    cap: int
    changed: bool


def fit_memory(capture: Capture, iterations: int, cap: int, budget_gb: float) -> Fit:
    """The largest cap and resolution whose estimate stays within `budget_gb`; the cap goes down first, to a quarter,
    then the resolution."""
    long_side = max(max(v.camera.width, v.camera.height) for v in capture.views)
    resolution, lowered = long_side, cap
    while estimate(capture.resized(resolution), iterations, lowered, False).gigabytes > budget_gb:
        if lowered > max(20_000, cap // 4):
            lowered = max(20_000, cap // 4, int(lowered * 0.8))
        elif resolution > 160:
            resolution = int(resolution * 0.85)
        else:
            break
    return Fit(resolution, lowered, (resolution, lowered) != (long_side, cap))
