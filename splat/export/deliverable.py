"""What `splat export` and `splat convert` write: deliverables, each chosen by the suffix of a name."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from splat.core.capture import Capture
from splat.core.errors import SplatError
from splat.core.foreign import shown
from splat.core.gaussians import Gaussians
from splat.core.geometry import Similarity
from splat.core.slots import DepthMap, Rasterizer, RasterSettings, Reporter
from splat.export.header import NO_OFFSET, Offset

Frame = Literal["source", "world", "y-up"]
Direction = tuple[float, float, float]
Shared = TypeVar("Shared")


def nothing_matched(size: int, report: Reporter) -> Sequence[DepthMap | None]:
    """Where photos cannot be matched, or must not be."""
    return ()


@dataclass(frozen=True, eq=False)
class TrainedScene:
    """The finished run that a scene comes from, in the frame of training ("world"): what is drawn or measured is best
    drawn there, where the near plane and all sizes are those of training."""

    root: Path
    """The run folder."""
    capture: Capture
    """With the poses that training left. `world_from_source` leads back to the input's frame."""
    gaussians: Gaussians
    """The same Gaussians as those of the scene, row by row: filtered and edited as it is; on the CPU. Without the
    surroundings."""
    raster: Rasterizer
    device: torch.device
    """That `raster` draws on."""
    background: Float[Tensor, "3"]
    file_from_world: Similarity
    """To the frame of the output, without its offset: `scene.surfaces` are `gaussians` transformed by it."""
    surroundings: Gaussians | None = None
    """What is behind everything else, no surface: the rows of the scene after those of `gaussians`."""
    exposures: dict[str, Float[Tensor, "3 4"]] = field(default_factory=dict)
    """Colour map learned for each training photo, by name."""
    matched: Callable[[int, Reporter], Sequence[DepthMap | None]] = nothing_matched
    """What matching at a long side in px finds of the depth of each training photo, in their order; None, or nothing at
    all, where photos cannot be matched, or where part of the scene was cut away, which it would bring back."""
    lost: dict[str, str] = field(default_factory=dict)
    """Views whose photo is gone or has changed -> what is wrong with it."""


@dataclass(frozen=True, eq=False)
class Scene:
    """What is to be written: Gaussians in the frame of the output, and what is known about them."""

    gaussians: Gaussians
    """In the frame of the output, relative to `offset`; on the CPU."""
    header: dict[str, str]
    """See `splat.export.header`; holds the offset too."""
    frame: Frame = "source"
    """source: of the input (of a file: its own). world: as training saw it. y-up: source, turned such that +y is up."""
    offset: Offset = NO_OFFSET
    """To be added to coordinates for those of the frame, float64: zero unless the scene is far from its origin."""
    up: Direction = (0.0, -1.0, 0.0)
    """Unit vector in the frame of the output."""
    settings: RasterSettings = field(default_factory=RasterSettings)
    """How the Gaussians are meant to be drawn."""
    trained: TrainedScene | None = None
    """None: it comes from a bare file."""
    name: str = "splat"
    """Of the run or file that it comes from, without suffix: a title."""
    file_from_source: Similarity | None = None
    """From the input's frame (of a bare file: the file's, without its offset) to that of the output, without its
    offset; None: they are the same."""
    _shared: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    @property
    def surfaces(self) -> Gaussians:
        """The Gaussians without the surroundings."""
        return self.gaussians if self.trained is None else self.gaussians[: len(self.trained.gaussians)]

    def once(self, key: Hashable, make: Callable[[], Shared]) -> Shared:
        """What `make` returns, made when it is first asked for: several outputs of one kind share it."""
        if key not in self._shared:
            self._shared[key] = make()
        shared: Shared = self._shared[key]
        return shared


@runtime_checkable
class Deliverable(Protocol):
    """One kind of output: a file, or a folder where `suffixes` name folders.

    `splat.export.DELIVERABLES` lists them; implementations inherit the defaults below. Their fields are their settings.
    """

    suffixes: tuple[str, ...]
    """Of the names that it writes, lower case; the longest suffix of all that fits a name chooses."""
    about: str
    """One phrase for `--help` and the README."""
    needs_run: bool = False
    """It cannot be made of a bare splat file."""
    holds_gaussians: bool = True
    """It is a splat again, rather than points, a mesh, pictures or cameras."""

    def unavailable(self) -> str | None:
        """Why it cannot be written here (an optional library is missing), with the fix; None: it can."""
        return None

    def write(self, path: Path, scene: Scene, report: Reporter) -> list[Path]:
        """Write `path` and return all files written. What the format cannot hold is a warning, or a SplatError where
        the scene would be another."""
        ...


def chosen(path: Path, deliverables: Sequence[Deliverable]) -> Deliverable:
    """The deliverable with the longest suffix that the name of `path` ends in. Raises SplatError where none fits."""
    name = path.name.lower()
    fitting = [(len(s), i) for i, d in enumerate(deliverables) for s in d.suffixes if name.endswith(s)]
    if not fitting:
        known = ", ".join(s for d in deliverables for s in d.suffixes)
        raise SplatError(f"{shown(path)} has no suffix that can be written: use one of {known}.")
    return deliverables[max(fitting, key=lambda f: (f[0], -f[1]))[1]]


def all_chosen(
    outputs: Sequence[Path], from_run: bool, source: Path, deliverables: Sequence[Deliverable]
) -> list[Deliverable]:
    """One deliverable for each output, before anything is read or written. Raises SplatError for an unknown suffix, a
    missing library, an output that is given twice, or one that needs a run where there is a bare file."""
    found = []
    for i, path in enumerate(outputs):
        deliverable = chosen(path, deliverables)
        if deliverable.needs_run and not from_run:
            raise SplatError(
                f"{shown(path)} is made from the photos of a run, and {shown(source)} is a splat file: give the run."
            )
        if (reason := deliverable.unavailable()) is not None:
            raise SplatError(f"{shown(path)} cannot be written: {reason}")
        if path in outputs[:i]:
            raise SplatError(f"{shown(path)} is given twice: give each output once.")
        found.append(deliverable)
    return found
