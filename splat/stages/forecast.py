"""Before anything long starts: how many minutes and gigabytes, and what to lower when that is too much."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from splat.core.capture import Capture, View
from splat.core.errors import SplatError
from splat.core.files import write_json
from splat.core.foreign import read_json
from splat.core.machine import MAX_SHARE, available_cores, available_memory_gb
from splat.core.slots import MatchingRequest, Method
from splat.init.dense_surfaces import MAX_KEPT_MAPS
from splat.losses import Losses
from splat.methods.presets import cap_for
from splat.poses.fewer import fewer
from splat.poses.photometric import PoseSearch
from splat.run.folder import hash_of
from splat.stages.context import REFERENCE_SLOWDOWN, Context
from splat.stages.memory import (
    BYTES_BASE,
    BYTES_BESIDE_MATCHING,
    BYTES_LEFT_OF_POSES,
    BYTES_PER_MATCHED_PIXEL,
    MIN_FEATURE_SIDE,
    Memory,
    expected_memory,
    pose_bytes,
    training_bytes,
)
from splat.stages.perceptual import expected_networks
from splat.stages.timing import PLANNING, REFERENCE_SPEED, STEP_FACTORS, Speed, stage_seconds
from splat.stages.work import Sizes, default_feature_side, finds_features, matching_work
from splat.train.settings import Training

MATCHING_SHARE = 0.125
"""Of the planned time of a run, what dense matching may take."""
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
        """GB this process may fill in all; None where nobody knows."""
        free = available_memory_gb()
        return self.memory or (MAX_SHARE * free + BYTES_BASE / 1e9 if free is not None else None)


@dataclass(frozen=True)
class Matching:
    """How dense matching is to be done, and what it will take."""

    size: int
    """Long side of the photos that are matched, px."""
    photos: int
    """How many of them."""
    seconds: float
    """Expected, of matching alone."""
    gigabytes: float
    """Peak of the process while it lasts."""
    pixels: float
    """Of all photos that are matched."""


def plan_matching(capture: Capture, limits: Limits, cap: int, request: MatchingRequest, size: int = 0) -> Matching:
    """The largest size, up to `request.max_size`, at which matching the capture takes at most an eighth of the run, by
    the seconds of `timing.PLANNING`, and no more memory than there is; MIN_MATCHING_SIZE, and only some of the photos,
    where even that is too much. A size (`request.size`, else `size`) or number of photos that was asked for is taken as
    it is."""
    cores, size, photos = limits.threads or available_cores(), request.size or size, request.photos
    run = PLANNING.training(capture, limits.iterations, cap, cores)
    max_seconds = run * MATCHING_SHARE / (1 - MATCHING_SHARE)
    budget = limits.memory_gb()
    before = BYTES_BASE + BYTES_LEFT_OF_POSES + BYTES_BESIDE_MATCHING
    max_bytes = float("inf") if budget is None else 1e9 * budget - before
    total = len(capture.views)

    def pixels(side: int) -> float:
        whole = sum(v.camera.width * v.camera.height for v in capture.resized(side).views)
        return whole * min(photos or total, total) / max(1, total)

    # of any machine the same: the size must not depend on how fast it is
    seconds_per_pixel = PLANNING.matched_pixel * PLANNING.on(cores)
    max_pixels = min(max_seconds / seconds_per_pixel, max_bytes / BYTES_PER_MATCHED_PIXEL)
    largest = request.max_size
    side = size or min(largest, max((max(v.camera.width, v.camera.height) for v in capture.views), default=largest))
    while not size and side > MIN_MATCHING_SIZE and pixels(side) > max_pixels:
        side = max(MIN_MATCHING_SIZE, int(0.93 * side))
    found = pixels(side)
    count = min(photos or total, total)
    if not (size or photos) and found > max_pixels:
        count = min(total, max(MIN_MATCHED_PHOTOS, int(total * max_pixels / found)))
        found *= count / total
    seconds = REFERENCE_SPEED.seconds(matching_work(found, count), cores)
    return Matching(side, count, seconds, (before + found * BYTES_PER_MATCHED_PIXEL) / 1e9, found)


@dataclass(frozen=True)
class Fit:
    """What was lowered to fit into memory."""

    max_resolution: int
    cap: int
    changed: bool


MIN_RESOLUTION = 160
"""px; what photos are at least trained at, however little memory there is."""


def lowest_cap(cap: int) -> int:
    """What a cap may be lowered to, for memory."""
    return min(cap, max(20_000, cap // 4))


def fit_memory(capture: Capture, cap: int, budget_gb: float) -> Fit:
    """The largest cap and resolution whose training stays within `budget_gb`; the cap goes down first, to a quarter,
    then the resolution."""
    long_side = max(max(v.camera.width, v.camera.height) for v in capture.views)
    resolution, lowered = long_side, cap
    before = BYTES_BASE + BYTES_LEFT_OF_POSES
    while before + training_bytes(capture.resized(resolution), lowered) > 1e9 * budget_gb:
        if lowered > lowest_cap(cap):
            lowered = max(lowest_cap(cap), int(lowered * 0.8))
        elif resolution > MIN_RESOLUTION:
            resolution = max(MIN_RESOLUTION, int(resolution * 0.85))
        else:
            break
    return Fit(resolution, lowered, (resolution, lowered) != (long_side, cap))


@dataclass(frozen=True)
class Expected:
    """What a run will take."""

    seconds: Mapping[str, float]
    """By stage."""
    memory: Memory
    fit: Fit

    @property
    def minutes(self) -> float:
        return sum(self.seconds.values()) / 60


@dataclass(frozen=True)
class Choices:
    """Settings beside the limits that decide what a run takes."""

    matching_size: int = 0
    """As in `plan_matching`."""
    feature_side: int | None = None
    """Long side in px of the photos in which features are found, where it was asked for."""
    train_photos: int = 0
    """Of the photos that poses are found for, so many are trained on; 0: all that are not held out."""
    training: Training = field(default_factory=Training)
    losses: Losses = field(default_factory=Losses)
    ground: bool = False
    search: PoseSearch = field(default_factory=PoseSearch)
    lpips: Path | None = None
    figures: tuple[str, ...] = ()
    renders: bool = True


def sizes_of(
    capture: Capture,
    limits: Limits,
    method: Method,
    choices: Choices,
    *,
    budget: float | None,
    threads: int,
    held_out: Sequence[View] = (),
) -> tuple[Sizes, Fit]:
    """What decides how much a run has to do, and what was lowered for memory; arguments as for `expect`."""
    limits = replace(limits, threads=limits.threads or threads)
    posing = capture.resized(limits.max_resolution, limits.downscale)
    working = fewer(posing, choices.train_photos) if choices.train_photos else posing
    seen = working.training()
    cap, request = limits.cap_for(working, method), method.matching()
    fit = Fit(limits.max_resolution, cap, False) if budget is None else fit_memory(working, cap, budget)
    matching = None if request is None else plan_matching(seen, limits, cap, request, choices.matching_size)
    placed = Capture(tuple(held_out)).resized(limits.max_resolution, limits.downscale).views
    reads_normals = choices.losses.reads_normals and 0 < len(seen.views) <= MAX_KEPT_MAPS and request is not None
    sizes = Sizes(
        posing=posing,
        working=working.resized(fit.max_resolution),
        iterations=limits.iterations,
        cap=fit.cap,
        needs_sfm=not capture.posed,
        matched=0.0 if matching is None else matching.pixels,
        matched_photos=0 if matching is None else matching.photos,
        ground=choices.ground,
        feature_side=choices.feature_side,
        held_out=placed,
        search=choices.search,
        resolution=choices.training.resolution,
        step_factor=STEP_FACTORS.get(method.name, 1.0),
        normals=1 / max(1, choices.losses.normal_every) if reads_normals else 0.0,
        networks=expected_networks(choices.lpips, choices.figures),
        renders=choices.renders,
    )
    return sizes, fit


def expect(
    capture: Capture,
    limits: Limits,
    method: Method,
    choices: Choices,
    *,
    budget: float | None,
    threads: int | None = None,
    held_out: Sequence[View] = (),
    speed: Speed = REFERENCE_SPEED,
) -> Expected:
    """What a run of `method` on photos at full size will take. `budget`: GB that it may fill; None: any number.
    `held_out`: photos that are placed in the finished scene (the strict protocol)."""
    threads = threads or available_cores()
    sizes, fit = sizes_of(capture, limits, method, choices, budget=budget, threads=threads, held_out=held_out)
    spare = None if budget is None else 1e9 * budget - BYTES_BASE
    return Expected(stage_seconds(sizes, threads, speed), expected_memory(sizes, threads, spare), fit)


def announce(
    c: Context,
    name: str,
    capture: Capture,
    limits: Limits,
    method: Method,
    choices: Choices,
    held_out: Sequence[View] = (),
    in_blocks: bool = False,
) -> None:
    """Say what was found, and the minutes and gigabytes to expect. `held_out` as in `expect`. `in_blocks`: what to
    expect is said later, once it is known what they are.

    Raises SplatError where there are fewer than two photos to train on, or too little memory for any run of them.
    """
    train, test = len(capture.train_views), len(capture.test_views)
    sizes = sorted({v.photo_size for v in capture.views}, reverse=True)
    size = f"{sizes[0][0]}x{sizes[0][1]}" + (f" and {len(sizes) - 1} other sizes" if len(sizes) > 1 else "")
    poses = "with poses" if capture.posed else "poses to be found"
    c.report.info(f"{name}: {len(capture.views)} photos ({capture.source}), {size}, {poses}; {test} held out")
    if train < 2:
        raise SplatError(f"{name} leaves {train} photo(s) to train on: give at least 2 (or --test-every 0).")
    if in_blocks:
        return
    working = capture.resized(limits.max_resolution, limits.downscale)
    cap, budget = limits.cap_for(working, method), limits.memory_gb()
    _refuse_too_little(working, cap, budget, limits)
    found = expect(capture, limits, method, choices, budget=budget, threads=c.threads, held_out=held_out)
    minutes, expected, fit = found.minutes, found.memory, found.fit
    if c.raster.name == "reference":
        minutes *= REFERENCE_SLOWDOWN
    by_stage = {stage: round(s, 1) for stage, s in found.seconds.items()}
    megabytes = {stage: round(b / 2**20, 1) for stage, b in expected.stages.items()}
    c.run.log({"kind": "forecast", "mb": megabytes, "seconds": by_stage})
    c.report.info(
        f"expected: about {minutes:.0f} min and {expected.peak / 1e9:.1f} GB (most in {expected.largest}) "
        f"for {limits.iterations} steps at up to {fit.max_resolution} px with up to {fit.cap} Gaussians"
    )


def _refuse_too_little(working: Capture, cap: int, budget: float | None, limits: Limits) -> None:
    """Raises SplatError where even the smallest run of these photos would take more memory than there is."""
    if budget is None:
        return
    small = working.resized(MIN_RESOLUTION)
    sizes = Sizes(small, small, 0, lowest_cap(cap), not working.posed, feature_side=MIN_FEATURE_SIDE)
    smallest = expected_memory(sizes, threads=1)
    if smallest.peak > 1e9 * budget:
        what = "--memory gives" if limits.memory else "there are"
        raise SplatError(
            f"{len(working.views)} photos take at least {smallest.peak / 1e9:.2f} GB of memory, most of it in "
            f"{smallest.largest}, and {what} {budget:.2f} GB: close other programs, raise the limit, or give fewer "
            "photos (--max-frames)."
        )


def fit_features(c: Context, capture: Capture, limits: Limits, feature_side: int | None = None) -> int | None:
    """The long side in px of the photos in which features are found: `feature_side` unless that, in a single thread,
    takes more memory than there is; then smaller, saying so. None: the default."""
    budget, needs_sfm = limits.memory_gb(), not capture.posed
    if budget is None or feature_side is not None or not finds_features(capture, needs_sfm):
        return feature_side
    default = default_feature_side(capture, needs_sfm)

    def find() -> int:
        side = default
        while side > MIN_FEATURE_SIDE and BYTES_BASE + pose_bytes(capture, needs_sfm, 1, side) > 1e9 * budget:
            side = max(MIN_FEATURE_SIDE, int(0.85 * side))
        return side

    asked = {"side": default, "sizes": hash_of([v.photo_size for v in capture.views])}
    side = find() if limits.memory else _first(c, "features", asked, lambda: [find()])[0]
    if side == default:
        return None
    c.report.warn(f"{_named(budget, limits)} would not do: features are found in photos of {side} px, not {default}")
    return side


def _named(budget: float, limits: Limits) -> str:
    return f"{budget:.1f} GB of memory" if limits.memory else "the memory that was free when this run began"


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
        asked = {"cap": cap, "sizes": hash_of([(v.camera.width, v.camera.height) for v in working.views])}
        found = _first(c, "training", asked, lambda: [(f := fit_memory(working, cap, budget)).max_resolution, f.cap])
        largest = max(max(v.camera.width, v.camera.height) for v in working.views)
        fit = Fit(found[0], found[1], found != [largest, cap])
    else:
        fit = fit_memory(working, cap, budget)
    if not fit.changed:
        return working, cap
    c.report.warn(
        f"{_named(budget, limits)} would not do: working at {fit.max_resolution} px with at most {fit.cap} Gaussians"
    )
    return working.resized(fit.max_resolution), fit.cap


def _first(c: Context, what: str, asked: dict[str, Any], find: Callable[[], list[int]]) -> list[int]:
    """What was found to fit when the run began; found now where it begins, or where other sizes were asked for."""
    path = c.run.root / "memory.json"
    saved: dict[str, Any] = {}
    with suppress(SplatError):
        saved = read if isinstance(read := read_json(path), dict) else {}
    kept = saved.get(what)
    fit = find()
    before = kept.get("fit") if isinstance(kept, dict) and kept.get("asked") == asked else None
    if isinstance(before, list) and [type(v) for v in before] == [int] * len(fit) and min(before) > 0:
        return before
    write_json(path, saved | {what: {"asked": asked, "fit": fit}})
    return fit
