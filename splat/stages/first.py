"""The first stages of a run: what each reads, what makes its key, what it writes. `reconstruct` puts them in order.

ingest -> capture/   poses -> poses/   init -> init/        here
train -> train/ (training.py)   evaluate -> evaluate/ (evaluation.py)   export -> export/ (results.py)
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from splat import ingest as readers
from splat import raster as rasterizers
from splat.core.capture import Capture, View
from splat.core.errors import SplatError
from splat.core.files import write_json
from splat.core.ranks import ALONE, Ranks
from splat.core.slots import Init, Initializer, PoseResult, Priors, Rasterizer, RasterSettings, ReadOptions
from splat.init import DenseSurfaces
from splat.init.dense_surfaces import MAX_MATCHING_SIZE, initial_budget
from splat.methods.presets import cap_for, resolve_method
from splat.poses.known import Known
from splat.poses.normalize import normalize
from splat.poses.sfm import Sfm
from splat.priors import MatchedDepth, StereoMatcher
from splat.run.arrays_io import load_init, save_init
from splat.run.capture_io import load_capture, save_capture
from splat.run.console import Console
from splat.run.folder import RunFolder, fingerprint, hash_of
from splat.stages.forecast import (
    Fit,
    Matching,
    available_cores,
    available_memory_gb,
    estimate,
    fit_memory,
    plan_matching,
)

if TYPE_CHECKING:
    from splat.commands.reconstruct import Reconstruct


@dataclass(frozen=True, eq=False)
class Context:
    """What every stage needs to know."""

    config: Reconstruct
    run: RunFolder
    report: Console
    device: torch.device
    raster: Rasterizer
    settings: RasterSettings
    ranks: Ranks = ALONE
    """The processes that train together; this one is rank 0."""

    @staticmethod
    def open(config: Reconstruct, run: RunFolder, report: Console, ranks: Ranks = ALONE) -> Context:
        threads = config.threads or available_cores()
        torch.set_num_threads(threads)
        from splat.native import bindings, build

        if build.unavailable() is None:
            bindings.set_threads(threads)
        name = config.device
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        if name == "cuda" and not torch.cuda.is_available():
            raise SplatError("--device cuda: torch sees no CUDA device here; `splat doctor` says why.")
        device = torch.device(name)
        raster = rasterizers.choose(device, config.raster)
        settings = RasterSettings(mode="antialiased" if config.antialiased else "classic")
        report.info(f"drawing with {raster.name} on {device}, {threads} threads")
        if ranks.world > 1:
            if config.raster not in ("auto", "native"):
                raise SplatError(f"--raster {config.raster}: several processes draw with native; leave the flag out.")
            rasterizers.choose(device, "native")
            report.info(f"{ranks.world} processes train together, {ranks.world} photos in a step, with native")
        return Context(config, run, report, device, raster, settings, ranks)


# -------------------------------------------------------------------------------------------------------------- ingest


def ingest(c: Context) -> tuple[Capture, str]:
    """Files -> Capture at full size."""
    k = c.config
    c.report.begin("ingest")
    options = ReadOptions(
        images=k.images,
        masks=k.masks,
        invert_masks=k.invert_masks,
        mask_mode=k.mask_mode,
        test_every=k.test_every or None,
        ignore_poses=k.ignore_poses,
        max_frames=k.max_frames,
        workdir=c.run.root / "capture",
    )
    described = replace(options, workdir=None)
    key = hash_of("capture", str(k.photos.resolve()), _files_of(k.photos), described)

    def make(folder: Path) -> Capture:
        capture = readers.read(k.photos, options, c.report)
        save_capture(folder, capture)
        return capture

    return c.run.stage("capture", key, described, make, load_capture), key


def _files_of(path: Path) -> str:
    """A fingerprint of everything the readers may look at."""
    if path.is_file():
        return fingerprint([path])
    files: Iterable[Path] = (p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
    return fingerprint(files)


def split_off_tests(capture: Capture) -> tuple[Capture, tuple[View, ...]]:
    """The capture without its held-out photos, and these."""
    held_out = capture.test_views
    return capture.training(), held_out


def announce(c: Context, capture: Capture) -> None:
    """What was found, and the minutes and gigabytes to expect."""
    k = c.config
    train, test = len(capture.train_views), len(capture.test_views)
    sizes = sorted({v.photo_size for v in capture.views}, reverse=True)
    size = f"{sizes[0][0]}x{sizes[0][1]}" + (f" and {len(sizes) - 1} other sizes" if len(sizes) > 1 else "")
    poses = "with poses" if capture.posed else "poses to be found"
    c.report.info(f"{k.photos}: {len(capture.views)} photos ({capture.source}), {size}, {poses}; {test} held out")
    if train < 2:
        raise SplatError(f"{k.photos} leaves {train} photo(s) to train on: give at least 2 (or --test-every 0).")
    working = capture.resized(k.max_resolution, k.downscale)
    cap = most_gaussians(k, working)
    e = estimate(working, k.iterations, cap, not capture.posed, k.threads)
    minutes, gigabytes = e.minutes, e.gigabytes
    if resolve_method(k.method, train)[0] == "edgs":
        matching = _matching(k, working.training(), cap)
        minutes, gigabytes = minutes + matching.seconds / 60, max(gigabytes, matching.gigabytes)
    c.report.info(
        f"expected: about {minutes:.0f} min and {gigabytes:.1f} GB "
        f"for {k.iterations} steps at up to {k.max_resolution} px with up to {cap} Gaussians"
    )


def most_gaussians(k: Reconstruct, working: Capture) -> int:
    """The cap: the flag's, or what the training photos can support."""
    pixels = sum(v.camera.width * v.camera.height for v in working.train_views)
    return k.cap if k.cap is not None else cap_for(k.preset, pixels)


# --------------------------------------------------------------------------------------------------------------- poses


def poses(c: Context, capture: Capture, capture_key: str) -> tuple[PoseResult, str]:
    """Capture -> posed Capture in a normalized frame, lens known."""
    c.report.begin("poses")
    k = c.config
    config = _poser(k, any(v.world_from_cam is not None for v in capture.views))
    key = hash_of("poses", capture_key, config, k.heldout)

    def make(folder: Path) -> PoseResult:
        result = config(capture, folder / "work", c.report)
        result = replace(result, capture=normalize(result.capture, result.details.get("up", "auto")))
        save_capture(folder, result.capture)
        details = {"total": result.total, "dropped": result.dropped, "warnings": list(result.warnings)}
        write_json(folder / "poses.json", details | {"details": result.details})
        return result

    def load(folder: Path) -> PoseResult:
        saved = json.loads((folder / "poses.json").read_text())
        return PoseResult(
            load_capture(folder), saved["dropped"], tuple(saved["warnings"]), saved["total"], saved["details"]
        )

    result = c.run.stage("poses", key, config, make, load)
    c.report.info(f"registered {len(result.capture.views)} of {result.total} photos")
    for name, reason in sorted(result.dropped.items()):
        c.report.warn(f"{name} was dropped: {reason}")
    for warning in result.warnings:
        c.report.warn(warning)
    if len(result.capture.train_views) < 2:
        raise SplatError(
            f"{k.photos}: only {len(result.capture.train_views)} of {result.total} photos could be placed; take more "
            "photos that overlap by at least 60 %."
        )
    return result, key


def _poser(k: Reconstruct, has_poses: bool) -> Known | Sfm:
    """How poses are found, with the flags that stand for both ways filled in."""
    if has_poses:
        return replace(k.known, up=k.up if k.known.up == "auto" else k.known.up, seed=k.seed)
    frame = k.sfm.frame
    frame = replace(frame, up=k.up if frame.up == "auto" else frame.up, scale=frame.scale or k.scale)
    return replace(k.sfm, frame=frame, seed=k.seed, threads=k.threads or k.sfm.threads)


def fit_to_memory(c: Context, posed: Capture) -> tuple[Capture, Context]:
    """The capture at its working size; both size and cap lowered, saying so, where memory would not do. Without
    --memory a run keeps to what it began with: memory that is free by chance must not tell a new run from one that goes
    on."""
    k = c.config
    working = posed.resized(k.max_resolution, k.downscale)
    cap = most_gaussians(k, working)
    c = replace(c, config=replace(k, cap=cap))
    budget = memory_budget(k)
    if budget is None:
        return working, c
    if k.memory is None:
        fit = _first_fit(c, working, cap, budget)
    else:
        fit = fit_memory(working, k.iterations, cap, budget)
    if not fit.changed:
        return working, c
    memory = f"{budget:.1f} GB of memory" if k.memory else "the memory that was free when this run began"
    c.report.warn(f"{memory} would not do: working at {fit.max_resolution} px with at most {fit.cap} Gaussians")
    return working.resized(fit.max_resolution), replace(c, config=replace(k, cap=fit.cap))


def _first_fit(c: Context, working: Capture, cap: int, budget: float) -> Fit:
    """What was found to fit when the run began; found now where it begins, or where other sizes were asked for."""
    path = c.run.root / "memory.json"
    asked = {"cap": cap, "sizes": hash_of([(v.camera.width, v.camera.height) for v in working.views])}
    try:
        saved = json.loads(path.read_text())
        if saved["asked"] == asked:
            return Fit(**saved["fit"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    fit = fit_memory(working, c.config.iterations, cap, budget)
    write_json(path, {"asked": asked, "fit": asdict(fit)})
    return fit


def _dense_priors(k: Reconstruct, size: int) -> Priors:
    """What dense initialization may ask, as --matcher says; photos are matched at `size` px."""
    if k.matcher == "stereo":
        return Priors(k.stereo, StereoMatcher(k.stereo, size), k.points)
    matcher = replace(k.flow, matching_size=k.flow.matching_size or size) if k.matcher == "flow" else k.roma
    return Priors(MatchedDepth(matcher), matcher, k.points)


def memory_budget(k: Reconstruct) -> float | None:
    """GB this run may take; None where nobody knows."""
    free = available_memory_gb()
    return k.memory or (0.85 * free if free is not None else None)


# ---------------------------------------------------------------------------------------------------------------- init


def init(c: Context, capture: Capture, method: str, poses_key: str) -> tuple[Init, str]:
    """Posed Capture -> first Gaussians. Initializers see training photos alone."""
    c.report.begin("init")
    k = c.config
    assert k.cap is not None, "fit_to_memory decides it"
    cap = k.cap
    initializer: Initializer = getattr(k, method)
    size = [(v.camera.width, v.camera.height) for v in capture.views]
    seen = capture.training()
    asks = _dense_priors(k, 0) if isinstance(initializer, DenseSurfaces) else None
    # Of what is left to us (sizes to match at) only that it is: more --iterations go on from the same Gaussians.
    key = hash_of("init", poses_key, method, initializer, asks, k.sh_degree, k.seed, size, cap)

    def make(folder: Path) -> Init:
        chosen, priors = _planned(c, initializer, seen, cap)
        result = chosen(seen, k.sh_degree, k.seed, c.report, priors)
        if len(result.gaussians) > cap:
            generator = torch.Generator().manual_seed(k.seed)
            ids = torch.randperm(len(result.gaussians), generator=generator)[:cap].sort().values
            c.report.info(f"{len(result.gaussians)} first Gaussians thinned to the cap of {cap}")
            result = result.rows(ids)
        save_init(folder / "init.npz", result)
        return result

    result = c.run.stage("init", key, initializer, make, lambda folder: load_init(folder / "init.npz"))
    c.report.info(f"{len(result.gaussians)} first Gaussians")
    return result, key


def _planned(c: Context, initializer: Initializer, seen: Capture, cap: int) -> tuple[Initializer, Priors | None]:
    """The initializer with what is left to us filled in, and what it may ask."""
    if not isinstance(initializer, DenseSurfaces):
        return initializer, None
    k = c.config
    plan = _matching(k, seen, cap)
    c.report.info(
        f"matching {plan.photos} photos at {plan.size} px: about {plan.seconds:.0f} s, {plan.gigabytes:.1f} GB"
    )
    budget = initializer.budget or initial_budget(seen, cap)
    if k.roma.device == "auto":
        k = replace(k, roma=replace(k.roma, device=c.device.type))
    return replace(initializer, matching_size=plan.size, max_photos=plan.photos, budget=budget), _dense_priors(
        k, plan.size
    )


def _matching(k: Reconstruct, seen: Capture, cap: int) -> Matching:
    """How dense initialization would match these photos."""
    asked = k.edgs.matching_size or (k.flow.matching_size if k.matcher == "flow" else 0)
    return plan_matching(
        *(seen, k.iterations, cap, memory_budget(k), asked, MAX_MATCHING_SIZE),
        photos=k.edgs.max_photos,
        cores=k.threads,
    )
