"""What settings of `splat reconstruct` must be, before anything is read."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

from splat.core.errors import SplatError
from splat.methods.presets import PRESETS
from splat.stages.figures import check_names


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


def check(settings: Checked) -> None:
    """Raises SplatError for a value that means nothing."""
    if not settings.photos.exists():
        raise SplatError(f"{settings.photos} does not exist: give a folder of photos, a video or a dataset.")
    if settings.preset not in PRESETS:
        raise SplatError(f"--preset {settings.preset} does not exist: choose {', '.join(PRESETS)}.")
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
    check_names(settings.figures)
