"""Every protocol and every record that crosses a folder: the architecture on one page.

A folder is a slot, a file in it is a filling, the folder's `__init__` lists the fillings. Slots never import each
other: what one needs from another arrives as an argument typed here. A user-chosen filling is a callable frozen
dataclass whose fields are its settings; the fields' docstrings are the help text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from splat.core.camera import Camera
from splat.core.capture import Capture
from splat.core.colour import affine_map
from splat.core.gaussians import Gaussians
from splat.core.geometry import Rigid
from splat.core.schedules import Schedules, StepSizes

# ------------------------------------------------------------------------------------------------ talking to the user


@runtime_checkable
class Reporter(Protocol):
    """Where a stage says what it does. The command line draws a bar; a script may pass `Silent()`."""

    def info(self, message: str) -> None: ...
    def warn(self, message: str) -> None: ...
    def begin(self, stage: str) -> None:
        """A stage starts."""
        ...

    def progress(self, done: int, total: int, **figures: float | int | str) -> None:
        """How far the current stage is, with figures worth showing (loss=..., psnr=..., gaussians=...)."""
        ...


class Silent:
    """A Reporter that keeps warnings and says nothing."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def begin(self, stage: str) -> None: ...

    def info(self, message: str) -> None: ...

    def warn(self, message: str) -> None:
        self.warnings.append(message)

    def progress(self, done: int, total: int, **figures: float | int | str) -> None: ...


# ------------------------------------------------------------------------------------------------------ ingest, poses


@runtime_checkable
class Reader(Protocol):
    """A dataset layout. `splat.ingest.READERS` is ordered; the first that accepts a path reads it."""

    name: str

    def accepts(self, path: Path) -> bool:
        """Cheap: looks at names, never at pixels."""
        ...

    def read(self, path: Path, options: ReadOptions, report: Reporter) -> Capture: ...


@dataclass(frozen=True)
class ReadOptions:
    """What every reader honours."""

    images: str | None = None
    """Sub-folder of the photos (default: what `split.json` names, else the layout's own, else the folder itself)."""
    masks: Path | None = None
    """Folder of masks (default: `masks/` beside the photos, if there is one)."""
    invert_masks: bool = False
    """Masks are black where the photo is to be used."""
    mask_mode: Literal["ignore", "empty"] = "ignore"
    """Masked pixels say nothing (ignore), or are empty background (empty)."""
    test_every: int | None = 8
    """Hold out every n-th photo by name, where no split is given; None or 0 trains on all."""
    ignore_poses: bool = False
    """Use the photos alone, even where the dataset has poses."""
    max_frames: int = 120
    """Video: at most this many frames, the sharpest of as many equal windows."""
    workdir: Path | None = None
    """Where a reader may write (video frames)."""


@dataclass(frozen=True, eq=False)
class PoseResult:
    """A posed capture and what happened on the way."""

    capture: Capture
    """Registered views only, lens known, `points` and `tracks` from SfM where there was SfM."""
    unregistered: dict[str, str] = field(default_factory=dict)
    """Photos without a pose, by name, each with the reason."""
    warnings: tuple[str, ...] = ()
    total: int = 0
    """Photos that were offered: "registered n of m" has this m."""
    details: dict[str, Any] = field(default_factory=dict)
    """JSON-able figures for the report (settings and result of each attempt, reprojection error, ...)."""


@runtime_checkable
class Poser(Protocol):
    def __call__(self, capture: Capture, workdir: Path, report: Reporter) -> PoseResult: ...


# -------------------------------------------------------------------------------------------------------------- priors


@dataclass(frozen=True, eq=False)
class DenseMatch:
    """Where view b shows what each pixel of view a shows; at a's working size."""

    view_a: int
    """Index into `Capture.views`."""
    view_b: int
    pixels_b: Float[Tensor, "h w 2"]
    """In pixels of b's working size; anything where there is no match."""
    certainty: Float[Tensor, "h w"]
    """0 ... 1; 0: no match, or none in b's frame."""


@runtime_checkable
class DenseMatcher(Protocol):
    def __call__(
        self, capture: Capture, pairs: Sequence[tuple[int, int]], report: Reporter, seed: int = 0
    ) -> Iterator[DenseMatch]:
        """A match for each pair (a, b) of views of a posed capture, in their order, each made when it is asked for: all
        of them may not fit in memory."""
        ...


@dataclass(frozen=True, eq=False)
class DepthMap:
    """Depth of one view, at any size; 0 confidence where nothing is known."""

    depth: Float[Tensor, "h w"]
    """z-depth in world units (metric), known up to scale, or a disparity: see `family`."""
    confidence: Float[Tensor, "h w"]
    family: Literal["metric", "up-to-scale", "disparity"] = "metric"
    normals_cam: Float[Tensor, "h w 3"] | None = None
    """Towards the camera."""
    neighbours: tuple[int, ...] = ()
    """Views of the capture that it was found and checked with, the most useful first."""


@runtime_checkable
class DepthPrior(Protocol):
    def __call__(self, capture: Capture, report: Reporter, seed: int = 0) -> list[DepthMap]:
        """A depth map per view of a posed capture, in its order."""
        ...


@dataclass(frozen=True, eq=False)
class Priors:
    """What an initializer may ask about the photos, beyond sparse points."""

    depth: DepthPrior | None = None
    matches: DenseMatcher | None = None


# ---------------------------------------------------------------------------------------------------------------- init


@dataclass(frozen=True, eq=False)
class Init:
    """First Gaussians, and the view and pixel each came from where that is known."""

    gaussians: Gaussians
    view_ids: Int[Tensor, "n"] | None = None
    pixels: Float[Tensor, "n 2"] | None = None

    def rows(self, ids: Int[Tensor, "m"]) -> Init:
        """Some of the first Gaussians."""
        return replace(
            self,
            gaussians=self.gaussians[ids],
            view_ids=None if self.view_ids is None else self.view_ids[ids],
            pixels=None if self.pixels is None else self.pixels[ids],
        )


@runtime_checkable
class Initializer(Protocol):
    def __call__(
        self, capture: Capture, sh_degree: int, seed: int, report: Reporter, priors: Priors | None = None
    ) -> Init: ...


# -------------------------------------------------------------------------------------------------------------- raster


@dataclass(frozen=True)
class RasterSettings:
    """How to draw."""

    mode: Literal["classic", "antialiased"] = "classic"
    """classic: 0.3 px^2 is added to every footprint (3DGS). antialiased: and opacity is lowered to keep the total
    (Mip-Splatting's 2D filter)."""
    near: float = 0.01
    """Gaussians whose centre is nearer than this (z, world units) are not drawn."""
    sh_degree: int | None = None
    """Use only harmonics up to this degree; None: all."""
    min_transmittance: float = 1e-4
    """A pixel is done where less than this is left of the light from behind. More than the 1e-4 of 3DGS saves pairs
    that can hardly be seen: at 1/255, nothing that a display shows."""
    absgrad: bool = False
    """Also sum absolute values of the 2D position gradients over pixels (AbsGS), for density control."""
    capacity: int | None = None
    """Room for this many (tile, Gaussian) pairs, so that a GPU need not be asked, and waited for, how many there are.
    Where there are more, the farthest Gaussians are left out: see `Render.overflow`. None: count, and wait. A
    rasterizer that gains nothing by it pays no attention."""
    factored_sh: bool = False
    """The gradient of every harmonic is that of the constant times the basis in the direction of view: a rasterizer
    that saves work by it may leave the gradient of `sh` empty and fill in `Render.sh0_gradient`."""
    normals: bool = False
    """Also draw `Render.normals`."""


@dataclass(frozen=True, eq=False)
class Render:
    """One view of n Gaussians, differentiable."""

    rgb: Float[Tensor, "h w 3"]
    """Not clamped; includes the background."""
    alpha: Float[Tensor, "h w"]
    depth: Float[Tensor, "h w"]
    """Sum of weight x z: divide by alpha for the expected depth."""
    means2d: Float[Tensor, "n 2"]
    """Projected centres in pixels; after backward, `.grad` holds dL/d(pixel position)."""
    radii: Int[Tensor, "n"]
    """Radius in pixels of the drawn footprint; 0 = not drawn."""
    absgrad: Float[Tensor, "n 2"] | None = None
    """Filled in by backward when asked for: means something once `means2d.grad` is there."""
    sh0_gradient: Float[Tensor, "n 1 3"] | None = None
    """Of the constant harmonic, where `RasterSettings.factored_sh` is made use of; filled in like `absgrad`."""
    shares: tuple[tuple[Camera, Render], ...] = ()
    """Where several processes draw a photo each (`raster.distributed`): of every photo its camera and what it says of
    the Gaussians of this process (`means2d`, `radii`, `absgrad`). Empty: this render says it all."""
    overflow: Int[Tensor, "1"] | None = None
    """How many (tile, Gaussian) pairs had no room, where `RasterSettings.capacity` is made use of. Reading it waits."""
    normals: Float[Tensor, "h w 3"] | None = None
    """Where `RasterSettings.normals` asks for it: sum of weight x unit normal in camera axes. A Gaussian's normal is
    its shortest axis, turned towards the camera. Divide by its length for the direction, by alpha for the mean."""
    features: Float[Tensor, "h w c"] | None = None
    """Where features were given: sum of weight x feature; the background has none. Divide by alpha for the mean."""


@runtime_checkable
class Rasterizer(Protocol):
    """Draws Gaussians. `splat.raster.RASTERIZERS` is ordered; the first that is available for a device draws."""

    @property
    def name(self) -> str: ...

    def unavailable(self, device: torch.device) -> str | None:
        """Why it cannot run there, in one sentence; None when it can."""
        ...

    @property
    def replayable(self) -> bool:
        """Whether training may record its work on a GPU once and replay it with other numbers in the same places: given
        `RasterSettings.capacity` it then reads pose, background and `Camera.intrinsics` there and waits for nothing."""
        ...

    def culls(self, device: torch.device) -> bool:
        """Whether training should give it all rows: where it culls by itself at less than gathering costs."""
        ...

    def visible(
        self,
        gaussians: Gaussians,
        camera: Camera,
        cam_from_world: Float[Tensor, "4 4"],
        settings: RasterSettings,
    ) -> Int[Tensor, "m"]:
        """Ids of the Gaussians that may touch the image, ascending, int64; never leaves out one that does. No gradient:
        the caller gathers these rows and makes them the leaves of autograd."""
        ...

    def __call__(
        self,
        gaussians: Gaussians,
        camera: Camera,
        cam_from_world: Float[Tensor, "4 4"],
        background: Float[Tensor, "3"],
        settings: RasterSettings,
        features: Float[Tensor, "n c"] | None = None,
    ) -> Render:
        """Gradients flow to every field of `gaussians`, to `cam_from_world`, to `background` and to `features`.

        Compositing, front to back by z: alpha = min(0.999, opacity * exp(-d' Sigma^-1 d / 2)); a pair contributes when
        alpha >= 1/255 and the transmittance before it is >= `settings.min_transmittance`. Colour = max(0, 0.5 + SH).
        A Gaussian with a value that is not finite is not drawn. A feature that is not finite counts as 0 and has no
        gradient; its Gaussian is drawn as without features, which change neither colour nor alpha nor depth.
        """
        ...


# ------------------------------------------------------------------------------------------------------------ training


@dataclass(frozen=True, eq=False)
class Item:
    """One camera to draw and what it should look like."""

    camera: Camera
    cam_from_world: Float[Tensor, "4 4"]
    rgb: Tensor
    """uint8 [h w 3] photo at the camera's size."""
    alpha: Tensor | None = None
    """uint8 [h w]: the photo is composited over the step's background with it."""
    weight: Tensor | None = None
    """uint8 [h w]: 0 = this pixel says nothing."""
    view_id: int | None = None
    """The training view it came from: its exposure and pose corrections apply. None for a virtual view."""
    loss_weight: float = 1.0
    terms: frozenset[str] | None = None
    """Names of the loss terms that count for this item (fields of `losses.Losses`); None: all of them."""

    def counts(self, term: str) -> bool:
        """Whether a loss term counts for this item."""
        return self.terms is None or term in self.terms


@dataclass(frozen=True, eq=False)
class Step:
    """What a loss term may read; a new input is a new field here, and touches no existing term."""

    number: int
    """Steps done before, all phases together."""
    item: Item
    render: Render
    image: Float[Tensor, "h w 3"]
    """The rendered image, before `affine`."""
    affine: Float[Tensor, "3 4"] | None
    """The view's exposure [A | b], still to be applied to the image's colours; None: nothing is."""
    photo: Tensor
    """What the image should look like: uint8 [h w 3], or float where it was composited over the step's background."""
    gaussians: Gaussians
    """The rows that were drawn (leaves)."""
    ids: Int[Tensor, "m"] | None
    """Which of the model's rows these are; None: all of them."""
    scene_extent: float

    @cached_property
    def rgb(self) -> Float[Tensor, "h w 3"]:
        """The rendered image as the view's exposure shows it. A loss that applies `affine` itself need not ask."""
        return self.image if self.affine is None else affine_map(self.image, self.affine[:, :3], self.affine[:, 3])

    @cached_property
    def target(self) -> Float[Tensor, "h w 3"]:
        """The photo as float."""
        return self.photo.float() / 255 if self.photo.dtype == torch.uint8 else self.photo


@dataclass(frozen=True, eq=False)
class RowGradients:
    """What a step found out about the rows that it drew."""

    ids: Int[Tensor, "m"] | None
    """The rows, ascending, each once; None: all of the model's."""
    fields: Gaussians
    """The loss's gradient by each raw field of these rows."""
    drawn: Int[Tensor, "m"] | None = None
    """Rows with 0 here were not drawn, and are not updated; None: all were drawn."""
    camera_centre: Float[Tensor, "3"] | None = None
    """Where it is given, `fields.sh` is [m 1 3], the gradient of the constant harmonic alone: all rows were drawn from
    this one point of the world, and the others' gradients follow from it."""


@runtime_checkable
class Parameterization(Protocol):
    """Owns parameters, optimizer state and constraints. A class that inherits from it gets the defaults below."""

    takes_factored_sh: bool = False
    """Whether `update` can do with the gradient of the constant harmonic alone (`RowGradients.camera_centre`)."""

    def __len__(self) -> int:
        """How many Gaussians there are."""
        ...

    def gaussians(self) -> Gaussians:
        """All n Gaussians now, without gradient: windows on the storage, valid until the next call that changes it."""
        ...

    def use_sh_degree(self, degree: int) -> None:
        """From now on harmonics up to this degree are learned; never fewer than before."""
        return None

    def update(self, gradient: RowGradients, rates: StepSizes) -> None:
        """One optimizer step."""
        ...

    def edit(self, keep: Tensor, append: Gaussians | None, parents: Int[Tensor, "m"] | None = None) -> None:
        """Keep the rows marked in `keep` [n] (bool), then append rows whose optimizer state is zero. `parents` says
        which of the n rows each of them descends from (None: from none)."""
        ...

    def rearrange(self, order: Int[Tensor, "n"]) -> None:
        """Row i becomes what row order[i] was, optimizer state and all. Where rows have a place of their own (pixels
        of a photo), nothing happens."""
        return None

    def assign(self, ids: Int[Tensor, "m"], rows: Gaussians, parents: Int[Tensor, "m"] | None = None) -> None:
        """Overwrite rows in place and reset their optimizer state. `parents` as in `edit` (None: themselves)."""
        ...

    def shift(self, ids: Tensor | None, **deltas: Tensor | float) -> None:
        """Add to fields of rows in place (None: of all rows), as far as constraints let them; keeps optimizer state."""
        ...

    def track_displacement(self) -> None:
        """From now on remember where rows, and the rows that they descend from, started."""
        return None

    def displacement(self) -> Float[Tensor, "n"] | None:
        """How far each row is from where its first ancestor started, world units; None where nobody remembers."""
        return None

    def state(self) -> dict[str, Any]: ...
    def load_state(self, state: dict[str, Any]) -> None: ...


@runtime_checkable
class DensityControl(Protocol):
    """Decides which Gaussians to add, move and remove. Steps are those of its phase, from 0. A class that inherits from
    it gets the defaults below, which do nothing."""

    def wants_absgrad(self, step: int) -> bool:
        """Whether it reads `Render.absgrad` in this step."""
        return False

    def after_backward(self, step: int, ids: Tensor | None, render: Render, camera: Camera) -> None:
        """Rows `ids` (None: all) were drawn."""
        return None

    def after_update(
        self, step: int, model: Parameterization, means_rate: float, generator: torch.Generator
    ) -> str | None:
        """Called when the optimizer has moved rows, positions with the step size `means_rate` (world units). Returns a
        line for the log when it changed the number of Gaussians or replaced some."""
        return None

    def reset_statistics(self) -> None:
        """Someone else edited the rows: statistics start over."""
        return None

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        return None

    # What `train.accel` asks, which records steps and replays them. The defaults say that nothing can be recorded.

    def changes_rows(self, step: int) -> bool:
        """Whether `after_update` of this step may add, move or remove rows, or wait for a number: such a step is never
        recorded."""
        return True

    def prepare_replay(self, step: int, count: int, device: torch.device) -> None:
        """Have the memory and the generators ready that this step, of `count` rows, uses."""
        return None

    def places(self, step: int) -> tuple[Any, ...]:
        """Addresses that a recording of this step holds on to, and choices that are made in it."""
        return ()

    def generators(self) -> Sequence[torch.Generator]:
        """Those on the device that a recorded step draws from."""
        return ()

    def begin_replay(self, means_rate: float, generator: torch.Generator) -> list[float]:
        """Take from `generator` what `after_update` would, and return the numbers that `replayed_update` reads."""
        return []

    def replayed_update(self, model: Parameterization, numbers: Float[Tensor, "k"]) -> None:
        """`after_update` of a step in which rows do not change, from its numbers on the device."""
        return None


@runtime_checkable
class TargetSource(Protocol):
    """Yields the items of each step, in an order that is part of the checkpoint."""

    def items(self, step: int, steps: int) -> Iterator[Item]:
        """Those of step `step` of the phase's `steps`."""
        ...

    def state(self) -> dict[str, Any]: ...
    def load_state(self, state: dict[str, Any]) -> None: ...


Objective = Callable[[Step], tuple[Float[Tensor, ""], dict[str, float | Tensor]]]
"""A step -> the total to minimize, and figures for the log ("psnr" among them is shown while training runs)."""

DensitySettings = Callable[[int, float], DensityControl]
"""(steps of the phase, scene extent) -> the density control that lives through the phase."""


@dataclass(frozen=True, eq=False)
class Round:
    """What a hook of a phase may read and edit."""

    step: int
    """Steps done, all phases together."""
    phase_step: int
    """Steps of this phase done."""
    model: Parameterization
    draw: Callable[[Item], Render]
    """How the scene looks now, without gradient, exposure or dropout."""
    report: Reporter


@runtime_checkable
class Kept(Protocol):
    """What has a state that checkpoints keep."""

    def state(self) -> dict[str, Any]: ...
    def load_state(self, state: dict[str, Any]) -> None: ...


Hook = Callable[[Round], None]
"""One that is `Kept` is part of checkpoints."""


@dataclass(frozen=True, eq=False)
class Phase:
    """A stretch of training with its own targets, losses, schedules and density control.

    Schedules count in fractions of this phase's steps: a second phase may heat up again, or hold a rate.
    """

    steps: int
    source: TargetSource
    losses: Objective
    density: DensitySettings
    schedules: Schedules = field(default_factory=Schedules)
    raster: RasterSettings = field(default_factory=RasterSettings)
    """How items are drawn; `normals` makes `Render.normals` for the losses. Training itself sets `absgrad`,
    `factored_sh` and `capacity`."""
    name: str = "train"
    parameterize: Callable[[Parameterization], Parameterization] | None = None
    """Turns the model of the phase before (at first: free Gaussians) into this phase's. Called when the phase starts,
    and again before a checkpoint of it is loaded. None: the model goes on as it is, optimizer state and all."""
    on_start: Hook | None = None
    """Called once, before the phase's first step; not when resuming inside it."""
    round_every: int = 0
    """Steps between two calls of `on_round`; 0: never."""
    on_round: Hook | None = None


@dataclass(frozen=True, eq=False)
class Snapshot:
    """What observers are shown after a step. They change nothing."""

    step: int
    """Steps done, all phases together; 0 before the first."""
    total: int
    phase: str
    count: int
    """Gaussians, of all processes."""
    figures: Mapping[str, float | str]
    """Of the step: loss, terms, psnr (running mean, dB), and what density control did ("density"). Looking up a number
    waits for a GPU; asking for "density", which is a text, does not."""
    seconds: float
    """Of training alone, summed over resumed runs; what observers take does not count."""
    steps_per_second: float
    gaussians: Gaussians | None
    """A copy of all for this observer alone, without rows that nothing draws; only after steps for which it
    `wants_gaussians`."""


@runtime_checkable
class Observer(Protocol):
    """Watches training. Several may, and none disturbs it. One that is `Kept` is part of checkpoints, under the name of
    its class. Where several processes train together all of them are asked what they want, and rank 0's are shown."""

    def wants_gaussians(self, step: int, total: int) -> bool:
        """Whether `Snapshot.gaussians` is needed after this step: a function of the step alone."""
        ...

    def __call__(self, snapshot: Snapshot) -> None: ...


# -------------------------------------------------------------------------------------------------------------- method


@dataclass(frozen=True)
class MatchingRequest:
    """How a method wants its photos matched; what it leaves open the run decides by the time matching would take."""

    size: int = 0
    """Long side of the photos that are matched, px; 0: left open."""
    max_size: int = 640
    """The most that `size` may be where it is left open."""
    photos: int = 0
    """How many photos are matched; 0: left open."""


@dataclass(frozen=True)
class InitPlan:
    """What a run decides for the initializer, where its settings leave it open."""

    max_gaussians: int
    """The cap of training."""
    matching_size: int = 0
    """Long side in px of the photos that are matched."""
    matching_photos: int = 0
    """How many photos are matched."""


@dataclass(frozen=True, eq=False)
class Budget:
    """What training may spend."""

    steps: int
    """Of one photo each (of `world` photos each where that many processes train together)."""
    max_gaussians: int
    photo_phase: Phase
    """One phase of all `steps` on the training photos, as the user's settings have it. A method takes it as it is, or
    makes its own phases of it with `dataclasses.replace`."""


@runtime_checkable
class Method(Protocol):
    """How a scene is made of posed photos: a frozen dataclass whose fields are its settings.

    `splat.methods.METHODS` lists them: `--method`, `auto`, `splat init`, the bench and Python read that list alone.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    """One line for the help."""

    def unavailable(self) -> str | None:
        """Why it cannot run on this machine, in one sentence; None when it can."""
        ...

    def defaults(self, preset: str) -> Mapping[str, Any]:
        """What it changes about the settings of a run: dotted fields of `Reconstruct` -> values. Explicit values win.
        Raises KeyError for a preset that does not exist."""
        ...

    def max_gaussians(self, capture: Capture) -> int | None:
        """The cap that the method has by itself; None: the preset's."""
        ...

    def matching(self) -> MatchingRequest | None:
        """What it asks of dense matching; None: photos are not matched, and its initializer is given no priors."""
        ...

    def initializer(self, capture: Capture, plan: InitPlan | None = None) -> Initializer:
        """What makes the first Gaussians; without a plan as the settings have it, which makes the stage's key."""
        ...

    def phases(self, capture: Capture, init: Init, budget: Budget) -> tuple[Phase, ...]:
        """How they are trained on the training photos."""
        ...


# -------------------------------------------------------------------------------------------------------------- export


@runtime_checkable
class Codec(Protocol):
    """A splat file format. `splat.export.CODECS` is ordered; the first that accepts a name reads or writes it."""

    name: str
    suffixes: tuple[str, ...]

    def save(self, path: Path, gaussians: Gaussians, header: dict[str, str]) -> None: ...
    def load(self, path: Path, report: Reporter | None = None) -> Gaussians:
        """Repairs (rows left out) are warnings."""
        ...


@dataclass(frozen=True, eq=False)
class PathCamera:
    """One frame of a camera path."""

    camera: Camera
    world_from_cam: Rigid
