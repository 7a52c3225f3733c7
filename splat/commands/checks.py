"""What settings of `splat reconstruct` must be, before anything is read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from splat.core.errors import SplatError
from splat.core.slots import Method
from splat.losses import Losses
from splat.methods.presets import PRESETS
from splat.poses.upright import parse_up
from splat.stages.figures import check_names

MAX_SEED = 2**31 - 1
"""What structure from motion takes."""


@runtime_checkable
class Checked(Protocol):
    """The settings that are looked at: see `commands.reconstruct.Reconstruct`."""

    @property
    def photos(self) -> Path: ...
    @property
    def preset(self) -> str: ...
    @property
    def sh_degree(self) -> int: ...
    @property
    def iterations(self) -> int | None: ...
    @property
    def max_resolution(self) -> int | None: ...
    @property
    def downscale(self) -> float: ...
    @property
    def train_photos(self) -> int: ...
    @property
    def cap(self) -> int | None: ...
    @property
    def figures(self) -> tuple[str, ...]: ...
    @property
    def test_every(self) -> int: ...
    @property
    def up(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def threads(self) -> int | None: ...
    @property
    def memory(self) -> float | None: ...
    @property
    def max_frames(self) -> int: ...
    @property
    def max_pixels(self) -> int | None: ...
    @property
    def losses(self) -> Losses: ...
    @property
    def methods(self) -> Iterable[Method]: ...


def check(settings: Checked) -> None:
    """Raises SplatError for a value that means nothing."""
    if not settings.photos.exists():
        raise SplatError(f"{settings.photos} does not exist: give a folder of photos, a video or a dataset.")
    if settings.preset not in PRESETS:
        raise SplatError(f"--preset {settings.preset} does not exist: choose {', '.join(PRESETS)}.")
    if (name := next(_nans(settings), None)) is not None:
        raise SplatError(f"--{name.replace('_', '-')} is not a number (nan): give one.")
    if not 0 <= settings.sh_degree <= 3:
        raise SplatError(f"--sh-degree {settings.sh_degree} is not supported: choose 0, 1, 2 or 3.")
    if settings.iterations is not None and settings.iterations < 1:
        raise SplatError(f"--iterations {settings.iterations} is too few: give at least 1.")
    if (settings.max_resolution is not None and settings.max_resolution < 32) or settings.downscale <= 0:
        raise SplatError("--max-resolution must be at least 32 and --downscale above 0.")
    if settings.train_photos and settings.train_photos < 2:
        raise SplatError(f"--train-photos {settings.train_photos} is too few: give at least 2, or 0 for all.")
    if settings.cap is not None and settings.cap < 1:
        raise SplatError(f"--cap {settings.cap} is too low: give at least 1.")
    if settings.memory is not None and settings.memory <= 0:
        raise SplatError(f"--memory {settings.memory:g} is too little: give GB above 0.")
    if settings.seed > MAX_SEED:
        raise SplatError(f"--seed {settings.seed} is too large: give at most {MAX_SEED}.")
    for flag, value, lowest in (
        ("--seed", settings.seed, 0),
        ("--threads", settings.threads, 0),
        ("--test-every", settings.test_every, 0),
        ("--max-frames", settings.max_frames, 1),
        ("--max-pixels", settings.max_pixels, 1),
    ):
        if value is not None and value < lowest:
            raise SplatError(f"{flag} {value} is too low: give at least {lowest}.")
    if settings.losses.pearson_patch < 1:
        raise SplatError(f"--losses.pearson-patch {settings.losses.pearson_patch} is too low: give at least 1.")
    for method in settings.methods:
        method.check()
    parse_up(settings.up)  # else it is read once the poses are found
    check_names(settings.figures)


def check_whole(command: str, blocks: object, dry_run: bool) -> None:
    """Raises SplatError where a command that takes the flags of `splat reconstruct` is asked for what that alone does:
    it would do the whole at once, and for real."""
    for flag, given in (("--blocks", blocks is not None), ("--dry-run", dry_run)):
        if given:
            raise SplatError(f"{flag} is of `splat reconstruct` alone: leave it out of `splat {command}`.")


def _nans(settings: Any, before: str = "") -> Iterator[str]:
    """Dotted names of the settings that are NaN, those of every method under its name."""
    if not is_dataclass(settings):
        return
    for f in fields(settings):
        value, name = getattr(settings, f.name), before + f.name
        if f.name == "methods":
            for method in value:
                yield from _nans(method, f"{method.name}.")
        elif is_dataclass(value):
            yield from _nans(value, f"{name}.")
        elif any(isinstance(v, float) and math.isnan(v) for v in (value if isinstance(value, tuple) else (value,))):
            yield name
