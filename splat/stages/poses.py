"""The poses stage: Capture -> posed Capture in a normalized frame, lens known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from splat.core.capture import Capture
from splat.core.errors import SplatError
from splat.core.files import write_json
from splat.core.foreign import read_json
from splat.core.interrupts import interruptible
from splat.core.slots import Poser, PoseResult, Reporter, SparseMatcher
from splat.poses.fewer import Fewer
from splat.poses.known import Known
from splat.poses.normalize import normalize
from splat.poses.sfm import Sfm
from splat.priors.depth_range import with_bounds
from splat.priors.disk_lightglue import DiskLightGlue
from splat.priors.stereo import Stereo
from splat.run.capture_io import load_capture, save_capture
from splat.run.code import code_hash
from splat.run.folder import hash_of
from splat.stages.context import Context, work_folder

_MIN_POINTS_PER_VIEW = 8
"""With fewer the photos themselves must say how near and far they look."""


def poses(c: Context, name: str, capture: Capture, poser: Poser, heldout: str) -> PoseResult:
    """`name`: of the photos, for messages. `heldout`: the protocol that `capture` was prepared for; part of the key.

    Raises SplatError where fewer than two training photos could be placed.
    """
    c.report.begin("poses")
    added = _beside_sift(capture, poser, c.report)
    key = hash_of("poses", c.run.identity("ingest"), poser, heldout, *added)

    def make(folder: Path) -> PoseResult:
        with work_folder(folder) as work, interruptible():
            result = poser(capture, work, c.report, *added)
        placed = result.capture
        if placed.points is None or len(placed.points) < _MIN_POINTS_PER_VIEW * len(placed.views):
            placed = with_bounds(placed, c.report)
        result = replace(result, capture=normalize(placed, result.details.get("up", "auto")))
        save_capture(folder, result.capture, c.run.photos)
        details = {"total": result.total, "unregistered": result.unregistered, "warnings": list(result.warnings)}
        write_json(folder / "poses.json", details | {"details": result.details})
        return result

    def load(folder: Path) -> PoseResult:
        return load_poses(folder, c.run.photos)

    used = ("splat.priors.depth_range", type(poser).__module__, *(type(m).__module__ for m in added))
    code = code_hash("splat.poses", *used)
    result = c.run.stage("poses", key, poser, make, load, code=code)
    c.report.info(f"registered {len(result.capture.views)} of {result.total} photos")
    without_matcher = isinstance(poser, Sfm) and poser.may_add_matches(capture) and not added
    if result.unregistered and without_matcher and (reason := DiskLightGlue().unavailable()) is not None:
        c.report.info(f"DISK and LightGlue may place more photos: {reason}")
    for name, reason in sorted(result.unregistered.items()):
        c.report.warn(f"{name} was not registered: {reason}")
    for warning in result.warnings:
        c.report.warn(warning)
    if len(result.capture.train_views) < 2:
        raise SplatError(
            f"{name}: only {len(result.capture.train_views)} of {result.total} photos could be placed; take more "
            "photos that overlap by at least 60 %."
        )
    return result


def _beside_sift(capture: Capture, poser: Poser, report: Reporter) -> tuple[Any, ...]:
    """What the poser takes beside the capture: a matcher where its weights are found, and for structure from motion the
    depth of posed photos."""
    matcher = _matcher(capture, poser, report)
    if matcher is None:
        return ()
    found = poser.poser if isinstance(poser, Fewer) else poser
    return (matcher, Stereo()) if isinstance(found, Sfm) else (matcher,)


def _matcher(capture: Capture, poser: Poser, report: Reporter) -> SparseMatcher | None:
    """The matcher beside SIFT, where the poser takes one and its weights are found. Raises SplatError where it was
    asked for and cannot run."""
    if not isinstance(poser, Known | Sfm | Fewer) or not poser.may_add_matches(capture):
        return None
    matcher = DiskLightGlue()
    if not poser.needs_matcher and (reason := matcher.unavailable()) is not None:
        if isinstance(poser, Known | Fewer):
            report.info(f"points come from SIFT alone: {reason}")
        return None
    try:
        matcher.check()
    except SplatError as e:
        if poser.needs_matcher:
            raise
        report.warn(str(e))
        return None
    return matcher


def load_poses(folder: Path, photos: Path | None = None) -> PoseResult:
    """What the stage wrote. `photos` as in `load_capture`."""
    saved = read_json(folder / "poses.json")
    unregistered: dict[str, str] = (
        saved.get("unregistered", saved.get("dropped")) or {}
    )  # the name in runs of version 0.1.0
    warnings = tuple(saved["warnings"])
    return PoseResult(load_capture(folder, photos), unregistered, warnings, saved["total"], saved["details"])
