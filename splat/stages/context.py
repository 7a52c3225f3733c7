"""What every stage works with: the run folder, a reporter, a device and what draws on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from splat import raster as rasterizers
from splat.core.errors import SplatError
from splat.core.files import utf8_path
from splat.core.machine import available_cores, limit_memory
from splat.core.process_group import ALONE, ProcessGroup
from splat.core.slots import Rasterizer, RasterSettings, Reporter
from splat.native import bindings, build
from splat.run.folder import RunFolder

REFERENCE_SLOWDOWN = 150
"""Of training on the reference rasterizer, against the compiled kernels."""


@dataclass(frozen=True, eq=False)
class Context:
    """Opened once for a run and handed to each of its stages."""

    run: RunFolder
    report: Reporter
    device: torch.device
    raster: Rasterizer
    settings: RasterSettings
    """How results are drawn: with or without anti-aliasing."""
    threads: int
    seed: int = 0
    group: ProcessGroup = ALONE
    """The processes that train together; this one is rank 0."""


@contextmanager
def work_folder(folder: Path) -> Iterator[Path]:
    """`folder / "work"`, made: for what a stage needs on its way."""
    (folder / "work").mkdir(parents=True, exist_ok=True)
    with utf8_path(folder / "work") as work:
        yield work


def open_context(
    run: RunFolder,
    report: Reporter,
    *,
    device: str = "auto",
    raster: str = "auto",
    antialiased: bool = False,
    threads: int | None = None,
    memory: float | None = None,
    seed: int = 0,
    group: ProcessGroup = ALONE,
) -> Context:
    """Choose device and rasterizer, set the number of threads of torch and of the kernels, and say all of it. `memory`:
    GB that this process may fill (default: most of what is free).

    Raises SplatError where the device or the rasterizer that was asked for cannot be had.
    """
    limit_memory(memory)
    threads = threads or available_cores()
    build.return_freed_memory(threads)
    torch.set_num_threads(threads)
    if build.unavailable() is None:
        bindings.set_threads(threads)
    name = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    if name == "cuda" and not torch.cuda.is_available():
        raise SplatError("--device cuda: torch sees no CUDA device here; `splat doctor` says why.")
    place = torch.device(name)
    chosen = rasterizers.choose(place, raster)
    report.info(f"drawing with {chosen.name} on {place}, {threads} threads")
    if chosen.name == "reference" and raster == "auto" and place.type == "cpu":
        reason = (build.unavailable() or "").splitlines()[0]
        report.warn(
            f"there are no compiled kernels ({reason}) Training is about {REFERENCE_SLOWDOWN} times slower without "
            "them, and the figures are not those of a usual run: `splat doctor` says what to do."
        )
    if group.world > 1:
        if raster not in ("auto", "native"):
            raise SplatError(f"--raster {raster}: several processes draw with native; leave the flag out.")
        rasterizers.choose(place, "native")
        report.info(f"{group.world} processes train together, {group.world} photos in a step, with native")
    settings = RasterSettings(mode="antialiased" if antialiased else "classic")
    return Context(run, report, place, chosen, settings, threads, seed, group)
