"""Before anything long starts: how many minutes and gigabytes, and what to lower when that is too much."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from splat.core.capture import Capture
from splat.core.errors import SplatError
from splat.core.files import write_json
from splat.core.foreign import read_json
from splat.core.slots import MatchingRequest, Method
from splat.methods.presets import cap_for
from splat.run.folder import hash_of
from splat.run.machine import available_cores, available_memory_gb
from splat.stages.context import REFERENCE_SLOWDOWN, Context

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
MIN_MATCHED_PHOTOS = 24
"""Photos that are matched whatever it takes."""
MIN_MATCHING_SIZE = 240
"""px; no photo is matched smaller."""


@dataclass(frozen=True)
class Limits:
    """What a run may take: the settings that decide its size and its time."""

    preset: str
    iterations: int
    max_resolution: int
    downscale: float = 1.0
    cap: int | None = None
    memory: float | None = None
    """GB; None: most of what is free."""
    threads: int | None = None

    def cap_for(self, working: Capture, method: Method) -> int:
        """Most Gaussians: as asked, as the method has it by itself, or what the training photos can support."""
        if self.cap is not None:
            return self.cap
        pixels = sum(v.camera.width * v.camera.height for v in working.train_views)
        own = method.max_gaussians(working)
        return cap_for(self.preset, pixels) if own is None else own

    def memory_gb(self) -> float | None:
        """GB this run may take; None where nobody knows."""
        free = available_memory_gb()
        return self.memory or (0.85 * free if free is not None else None)


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


def plan_matching(capture: Capture, limits: Limits, cap: int, request: MatchingRequest, size: int = 0) -> Matching:
    """The largest size, up to `request.max_size`, at which matching the capture takes at most an eighth of the
    predicted run and no more memory than there is; MIN_MATCHING_SIZE, and only some of the photos, where even that is
    too much. A size (`request.size`, else `size`) or number of photos that was asked for is taken as it is."""
    cores, size, photos = limits.threads or available_cores(), request.size or size, request.photos
    run = 60 * estimate(capture, limits.iterations, cap, False, cores).minutes - _SECONDS_BESIDE
    max_seconds = run * MATCHING_SHARE / (1 - MATCHING_SHARE)
    budget = limits.memory_gb()
    max_bytes = float("inf") if budget is None else 1e9 * budget - _BYTES_BASE
    total = len(capture.views)

    def pixels(side: int) -> float:
        whole = sum(v.camera.width * v.camera.height for v in capture.resized(side).views)
        return whole * min(photos or total, total) / max(1, total)

    seconds_per_pixel = _SECONDS_PER_MATCHED_PIXEL * 2 / cores
    max_pixels = min(max_seconds / seconds_per_pixel, max_bytes / _BYTES_PER_MATCHED_PIXEL)
    largest = request.max_size
    side = size or min(largest, max((max(v.camera.width, v.camera.height) for v in capture.views), default=largest))
    while not size and side > MIN_MATCHING_SIZE and pixels(side) > max_pixels:
        side = max(MIN_MATCHING_SIZE, int(0.93 * side))
    found = pixels(side)
    count = min(photos or total, total)
    if not (size or photos) and found > max_pixels:
        count = min(total, max(MIN_MATCHED_PHOTOS, int(total * max_pixels / found)))
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


def announce(c: Context, name: str, capture: Capture, limits: Limits, method: Method, matching_size: int = 0) -> None:
    """Say what was found, and the minutes and gigabytes to expect. `matching_size` as in `plan_matching`.

    Raises SplatError where there are fewer than two photos to train on.
    """
    train, test = len(capture.train_views), len(capture.test_views)
    sizes = sorted({v.photo_size for v in capture.views}, reverse=True)
    size = f"{sizes[0][0]}x{sizes[0][1]}" + (f" and {len(sizes) - 1} other sizes" if len(sizes) > 1 else "")
    poses = "with poses" if capture.posed else "poses to be found"
    c.report.info(f"{name}: {len(capture.views)} photos ({capture.source}), {size}, {poses}; {test} held out")
    if train < 2:
        raise SplatError(f"{name} leaves {train} photo(s) to train on: give at least 2 (or --test-every 0).")
    working = capture.resized(limits.max_resolution, limits.downscale)
    cap = limits.cap_for(working, method)
    e = estimate(working, limits.iterations, cap, not capture.posed, limits.threads)
    minutes, gigabytes = e.minutes, e.gigabytes
    if c.raster.name == "reference":
        minutes *= REFERENCE_SLOWDOWN
    if (request := method.matching()) is not None:
        matching = plan_matching(working.training(), limits, cap, request, matching_size)
        minutes, gigabytes = minutes + matching.seconds / 60, max(gigabytes, matching.gigabytes)
    c.report.info(
        f"expected: about {minutes:.0f} min and {gigabytes:.1f} GB "
        f"for {limits.iterations} steps at up to {limits.max_resolution} px with up to {cap} Gaussians"
    )


def fit_to_memory(c: Context, posed: Capture, limits: Limits, method: Method) -> tuple[Capture, int]:
    """The capture at its working size, and the cap; both lowered, saying so, where memory would not do. Unless memory
    was given a run keeps to what it began with: memory that is free by chance must not tell a new run from one that
    goes on."""
    working = posed.resized(limits.max_resolution, limits.downscale)
    cap = limits.cap_for(working, method)
    budget = limits.memory_gb()
    if budget is None:
        return working, cap
    if limits.memory is None:
        fit = _first_fit(c, working, limits, cap, budget)
    else:
        fit = fit_memory(working, limits.iterations, cap, budget)
    if not fit.changed:
        return working, cap
    memory = f"{budget:.1f} GB of memory" if limits.memory else "the memory that was free when this run began"
    c.report.warn(f"{memory} would not do: working at {fit.max_resolution} px with at most {fit.cap} Gaussians")
    return working.resized(fit.max_resolution), fit.cap


def _first_fit(c: Context, working: Capture, limits: Limits, cap: int, budget: float) -> Fit:
    """What was found to fit when the run began; found now where it begins, or where other sizes were asked for."""
    path = c.run.root / "memory.json"
    asked = {"cap": cap, "sizes": hash_of([(v.camera.width, v.camera.height) for v in working.views])}
    try:
        saved = read_json(path)
        if saved["asked"] == asked:
            return Fit(**saved["fit"])
    except (SplatError, KeyError, TypeError):
        pass
    fit = fit_memory(working, limits.iterations, cap, budget)
    write_json(path, {"asked": asked, "fit": asdict(fit)})
    return fit
