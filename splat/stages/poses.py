"""The poses stage: Capture -> posed Capture in a normalized frame, lens known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from splat.core.capture import Capture
from splat.core.errors import SplatError
from splat.core.files import write_json
from splat.core.foreign import read_json
from splat.core.interrupts import interruptible
from splat.core.slots import Poser, PoseResult
from splat.poses.features import quiet
from splat.poses.normalize import normalize
from splat.priors.depth_range import with_bounds
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
    key = hash_of("poses", c.run.identity("ingest"), poser, heldout)

    def make(folder: Path) -> PoseResult:
        quiet()
        with work_folder(folder) as work, interruptible():
            result = poser(capture, work, c.report)
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

    code = code_hash("splat.poses", "splat.priors.depth_range", type(poser).__module__)
    result = c.run.stage("poses", key, poser, make, load, code=code)
    c.report.info(f"registered {len(result.capture.views)} of {result.total} photos")
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


def load_poses(folder: Path, photos: Path | None = None) -> PoseResult:
    """What the stage wrote. `photos` as in `load_capture`."""
    saved = read_json(folder / "poses.json")
    unregistered: dict[str, str] = (
        saved.get("unregistered", saved.get("dropped")) or {}
    )  # the name in runs of version 0.1.0
    warnings = tuple(saved["warnings"])
    return PoseResult(load_capture(folder, photos), unregistered, warnings, saved["total"], saved["details"])
