"""Every protocol and every record that crosses a folder: the architecture on one page.

Each folder of the pipeline (ingest, poses, priors, init, raster, train, export) is a slot: it contains interchangeable
implementations of a protocol of this page, and its `__init__` lists them. Slots never import each other: what one needs
from another arrives as an argument typed here. An implementation that users choose is a frozen dataclass with
`__call__`; its fields are its settings, and their docstrings are the help text.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from splat.core.bundle import TensorBundle
from splat.core.camera import Camera
from splat.core.capture import Capture
from splat.core.colour import affine_map
from splat.core.gaussians import Gaussians
from splat.core.geometry import Rigid
from splat.core.schedules import Schedules, StepSizes

# ------------------------------------------------------------------------------------------------------ user messages


@runtime_checkable
class Reporter(Protocol):
    """Receives the messages of a stage. The command line shows a progress bar; scripts may pass `Silent()`."""

    def info(self, message: str) -> None: ...
    def warn(self, message: str) -> None: ...
    def begin(self, stage: str) -> None:
        """A stage starts."""
        ...

    def progress(self, done: int, total: int, **figures: float | int | str) -> None:
        """Progress of the current stage, with values to show (loss=..., psnr=..., gaussians=...)."""
        ...


class Silent:
    """A Reporter that shows nothing and collects warnings."""

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
        """Whether it can read this path. Cheap: checks file names, opens no photo."""
        ...

    def read(self, path: Path, options: ReadOptions, report: Reporter) -> Capture: ...


@dataclass(frozen=True)
class ReadOptions:
    """Options of all readers."""

    images: str | None = None
    """Sub-folder of the photos (default: what `split.json` names, else the layout's own, else the folder itself)."""
    masks: Path | None = None
    """Folder of masks (default: `masks/` beside the photos, if there is one)."""
    invert_masks: bool = False
    """Masks are black where the photo is to be used."""
    mask_mode: Literal["ignore", "empty", "test"] = "ignore"
    """Masked pixels are left out of the losses (ignore), or are empty background (empty); or training knows nothing of
    masks, and held-out photos are measured within theirs (test)."""
    object: bool = False
    """Mask what stays from photo to photo: an object on a turntable before a camera that stands still."""
    test_every: int | None = 8
    """Hold out every n-th photo by name, where no split is given; None or 0 trains on all."""
    train_ids: tuple[int, ...] = ()
    """Train on these photos alone: numbers by name, from 0. Wins over every other split."""
    test_ids: tuple[int, ...] = ()
    """Hold out these (default with `train_ids`: all others). Photos in neither list are left out."""
    ignore_poses: bool = False
    """Use the photos alone, even where the dataset has poses."""
    max_frames: int = 120
    """Video: at most this many frames, the sharpest of as many equal windows."""
    max_pixels: int | None = None
    """Photos with more pixels are left out (default: 500 million, and no more than the size of the file explains)."""
    workdir: Path | None = None
    """Where a reader may write (video frames)."""


@dataclass(frozen=True, eq=False)
class PoseResult:
    """A posed capture, and a record of how it was posed."""

    capture: Capture
    """Registered views only, with known lenses; `points` and `tracks` where SfM was run."""
    unregistered: dict[str, str] = field(default_factory=dict)
    """Photos without a pose, by name, each with the reason."""
    warnings: tuple[str, ...] = ()
    total: int = 0
    """Number of input photos: the m of "registered n of m"."""
    details: dict[str, Any] = field(default_factory=dict)
    """JSON-serializable values for the report (settings and result of each attempt, reprojection error, ...)."""


@runtime_checkable
class Poser(Protocol):
    def __call__(self, capture: Capture, workdir: Path, report: Reporter) -> PoseResult: ...


# -------------------------------------------------------------------------------------------------------------- priors


@dataclass(frozen=True, eq=False)
class SparseMatches:
    """Features of photos, and which of them match."""

    xy: tuple[np.ndarray, ...]
    """Per photo float32 [n 2]: (x, y) in pixels of the photo that was given (centres at .5)."""
    rows: Mapping[tuple[int, int], np.ndarray]
    """Per pair of photos (i, j), uint32 [m 2]: indices of matching features in `xy[i]` and `xy[j]`."""
    scores: Mapping[tuple[int, int], np.ndarray]
    """Per pair float32 [m]: probability that the match is right."""


@runtime_checkable
class SparseMatcher(Protocol):
    @property
    def name(self) -> str:
        """For messages."""
        ...

    def __call__(
        self,
        photos: Sequence[np.ndarray],
        pairs: Sequence[tuple[int, int]],
        folder: Path,
        report: Reporter,
        threads: int = 1,
    ) -> SparseMatches:
        """Features of photos (uint8 [h w 3]) and matches of pairs of them. `folder`: for cached results."""
        ...


@dataclass(frozen=True, eq=False)
class DenseMatch:
    """For each pixel of view a (h x w, its working size), the corresponding pixel of view b."""

    view_a: int
    """Index into `Capture.views`."""
    view_b: int
    pixels_b: Float[Tensor, "h w 2"]
    """(x, y) in pixels of b's working size; undefined where there is no match."""
    certainty: Float[Tensor, "h w"]
    """In [0, 1]; 0: no match, or the match is outside the frame of b."""


@runtime_checkable
class DenseMatcher(Protocol):
    def __call__(
        self, capture: Capture, pairs: Sequence[tuple[int, int]], report: Reporter, seed: int = 0
    ) -> Iterator[DenseMatch]:
        """A match for each pair (a, b) of views of a posed capture, in the order of the pairs. They are computed
        lazily, as all of them may not fit in memory."""
        ...


@dataclass(frozen=True, eq=False)
class DepthMap:
    """Depth of one view, at any size."""

    depth: Float[Tensor, "h w"]
    """z-depth in world units, z-depth up to an unknown scale, or disparity: see `family`."""
    confidence: Float[Tensor, "h w"]
    """The probability that the depth is right (`Stereo`: within 5 %); 0 where there is none. A prior that cannot tell
    gives 1 where it knows the depth."""
    family: Literal["metric", "up-to-scale", "disparity", "unknown"] = "metric"
    """unknown: depth up to scale or disparity, whichever fits the scene."""
    normals_cam: Float[Tensor, "h w 3"] | None = None
    """Unit normals in camera axes, facing the camera."""
    neighbours: tuple[int, ...] = ()
    """Indices of the views that the depth was computed from and checked against, most useful first."""
    min_probability: float = 0.0
    """The least confidence of a depth that counts as measured; one below it is weak evidence."""
    predicted: Bool[Tensor, "h w"] | None = None
    """Where the depth is not measured but that of a prior, aligned to what is: it stands in for completion."""

    @property
    def measured(self) -> Bool[Tensor, "h w"]:
        enough = (self.confidence > 0) & (self.confidence >= self.min_probability)
        return enough if self.predicted is None else enough & ~self.predicted

    @property
    def known(self) -> Float[Tensor, "h w"]:
        """The depth where it is measured, else 0."""
        return torch.where(self.measured, self.depth, 0)


@runtime_checkable
class DepthPrior(Protocol):
    def __call__(self, capture: Capture, report: Reporter, seed: int = 0) -> list[DepthMap]:
        """A depth map per view of a posed capture, in its order."""
        ...


@dataclass(frozen=True, eq=False)
class Priors:
    """What an initializer may use beyond the sparse points."""

    depth: DepthPrior | None = None
    matches: DenseMatcher | None = None


# ---------------------------------------------------------------------------------------------------------------- init


@dataclass(frozen=True, eq=False)
class RayRows(TensorBundle):
    """Of n Gaussians that are bound to the rays of their pixels: what holds them there."""

    layers: Int[Tensor, "n"]
    """The depth layer of the pixel within its view, from 0."""
    probability: Float[Tensor, "n"]
    """That the pixel's depth is right, in [0, 1]."""
    nearest: Float[Tensor, "n"]
    """Nearest and farthest depth that no other photo contradicts, as factors of the Gaussian's own."""
    farthest: Float[Tensor, "n"]


@dataclass(frozen=True, eq=False)
class Init:
    """Initial Gaussians, and the view and pixel that each was made from, where known."""

    gaussians: Gaussians
    view_ids: Int[Tensor, "n"] | None = None
    """Index into the views of the capture; -1: from no photo."""
    pixels: Float[Tensor, "n 2"] | None = None
    """Of the view at its working size."""
    rays: RayRows | None = None
    depths: tuple[DepthMap, ...] = ()
    """The depth map of each training view, where all of them were matched; of any size."""

    def rows(self, ids: Int[Tensor, "m"]) -> Init:
        """The subset `ids`."""
        return replace(
            self,
            gaussians=self.gaussians[ids],
            view_ids=None if self.view_ids is None else self.view_ids[ids],
            pixels=None if self.pixels is None else self.pixels[ids],
            rays=None if self.rays is None else self.rays[ids],
        )


@runtime_checkable
class Initializer(Protocol):
    def __call__(
        self, capture: Capture, sh_degree: int, seed: int, report: Reporter, priors: Priors | None = None
    ) -> Init: ...


# -------------------------------------------------------------------------------------------------------------- raster


@dataclass(frozen=True)
class RasterSettings:
    """Settings of a rendering."""

    mode: Literal["classic", "antialiased"] = "classic"
    """classic: 0.3 px^2 is added to the diagonal of every 2D covariance (3DGS). antialiased: and opacity is lowered
    such that its integral stays the same (2D Mip filter of Mip-Splatting, Yu et al. 2024)."""
    near: float = 0.01
    """Near plane: Gaussians whose centre has a smaller z (camera axes, world units) are not drawn."""
    sh_degree: int | None = None
    """Evaluate spherical harmonics up to this degree; None: all."""
    min_transmittance: float = 1e-4
    """Compositing of a pixel stops when its transmittance is below this. A larger value than the 1e-4 of 3DGS is
    faster; up to 1/255 the difference is below the precision of 8-bit images."""
    absgrad: bool = False
    """Fill in `Render.absgrad`, for density control."""
    capacity: int | None = None
    """Allocate memory for this many (tile, Gaussian) pairs instead of reading their number from the GPU, which blocks.
    If there are more, the farthest Gaussians are left out: see `Render.overflow`. None: read the number. A rasterizer
    may ignore this setting."""
    factored_sh: bool = False
    """Allow a rasterizer to fill in `Render.sh0_gradient` instead of the gradient of `sh`. All other SH gradients
    follow from it: they are proportional to the SH basis in the view direction."""
    normals: bool = False
    """Fill in `Render.normals`."""


@dataclass(frozen=True, eq=False)
class Render:
    """One view of n Gaussians, differentiable."""

    rgb: Float[Tensor, "h w 3"]
    """Not clamped; includes the background."""
    alpha: Float[Tensor, "h w"]
    depth: Float[Tensor, "h w"]
    """Sum of weight x z (camera axes, world units). Divide by alpha for the expected depth."""
    means2d: Float[Tensor, "n 2"]
    """Projected centres in pixels; after backward, `.grad` is dL/d(pixel position)."""
    radii: Int[Tensor, "n"]
    """Radius in pixels of the drawn footprint; 0 = not drawn."""
    absgrad: Float[Tensor, "n 2"] | None = None
    """With `RasterSettings.absgrad`: sum over pixels of |dL/d(pixel position)| (AbsGS, Ye et al. 2024)."""
    sh0_gradient: Float[Tensor, "n 1 3"] | None = None
    """Gradient of SH degree 0, if the rasterizer makes use of `RasterSettings.factored_sh`."""
    per_photo: tuple[tuple[Camera, Render], ...] = ()
    """With several processes, each of which draws another photo (`raster.distributed`): per photo its camera, and the
    `means2d`, `radii` and `absgrad` of this process's Gaussians in it. Empty with one process."""
    overflow: Int[Tensor, "1"] | None = None
    """Number of (tile, Gaussian) pairs beyond `RasterSettings.capacity`, where that is used. Reading it blocks."""
    normals: Float[Tensor, "h w 3"] | None = None
    """With `RasterSettings.normals`: sum of weight x unit normal, in camera axes. The normal of a Gaussian is its
    shortest axis, oriented towards the camera. Normalize for the direction, divide by alpha for the mean."""
    features: Float[Tensor, "h w c"] | None = None
    """With features: sum of weight x feature, over a background of 0. Divide by alpha for the mean."""


@runtime_checkable
class Rasterizer(Protocol):
    """Draws Gaussians. `splat.raster.RASTERIZERS` is ordered; the first that is available for a device draws."""

    @property
    def name(self) -> str: ...

    def unavailable(self, device: torch.device) -> str | None:
        """Why it cannot run on this device, in one sentence; None if it can."""
        ...

    @property
    def replayable(self) -> bool:
        """Whether its work can be captured in a CUDA graph and replayed with other values in the same memory. With
        `RasterSettings.capacity` it then reads pose, background and `Camera.intrinsics` on the GPU, and never
        blocks."""
        ...

    def culls(self, device: torch.device) -> bool:
        """Whether it culls faster than `visible` and a gather of the rows: training then passes all rows."""
        ...

    def visible(
        self,
        gaussians: Gaussians,
        camera: Camera,
        cam_from_world: Float[Tensor, "4 4"],
        settings: RasterSettings,
    ) -> Int[Tensor, "m"]:
        """Ids (int64, ascending) of a superset of the Gaussians that touch the image. Not differentiable: the caller
        gathers these rows and makes them leaves of autograd."""
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
        """Differentiable in every field of `gaussians`, `cam_from_world`, `background` and `features`.

        Compositing, front to back by z: alpha = min(0.999, opacity * exp(-d' Sigma^-1 d / 2)); a pair contributes when
        alpha >= 1/255 and the transmittance before it is >= `settings.min_transmittance`. Colour = max(0, 0.5 + SH).
        A Gaussian with a value that is not finite is not drawn. A feature that is not finite counts as 0 and gets no
        gradient. Features do not influence colour, alpha and depth.
        """
        ...


# ------------------------------------------------------------------------------------------------------------- refiners


@dataclass(frozen=True, eq=False)
class RenderedView:
    """A render without gradient, and its camera: what a refiner corrects."""

    camera: Camera
    world_from_cam: Rigid
    rgb: Float[Tensor, "h w 3"]
    """In [0, 1]."""
    alpha: Float[Tensor, "h w"]
    depth: Float[Tensor, "h w"]
    """Expected z in world units (`Render.depth` over alpha); 0 where nothing was drawn."""

    @staticmethod
    def of(render: Render, camera: Camera, world_from_cam: Rigid) -> RenderedView:
        """On the CPU."""
        rgb, alpha, depth = (t.detach().float().cpu() for t in (render.rgb, render.alpha, render.depth))
        expected = torch.where(alpha > 1e-3, depth / alpha.clamp_min(1e-3), 0)
        return RenderedView(camera, world_from_cam, rgb.clamp(0, 1), alpha, expected)


@dataclass(frozen=True, eq=False)
class ReferencePhoto:
    """A photo that a refiner may copy from."""

    camera: Camera
    world_from_cam: Rigid
    rgb: Float[Tensor, "h w 3"]
    """In [0, 1]."""
    depth: Float[Tensor, "h w"]
    """z of what the photo shows, world units, as the scene is rendered from its camera; 0: unknown."""


@dataclass(frozen=True, eq=False)
class RefinerPair:
    """What a refiner learns from: a render from a photo's camera, of a scene made without that photo."""

    view: RenderedView
    references: tuple[ReferencePhoto, ...]
    """Other photos, nearest first."""
    target: Float[Tensor, "h w 3"]
    """The photo, in [0, 1]."""
    photo: str
    """Its name. Pairs of one photo are held out together."""
    weight: Float[Tensor, "h w"] | None = None
    """0 where the photo has nothing to say (a mask); None: all of it counts."""


@dataclass(frozen=True, eq=False)
class RefinedView:
    """A corrected render."""

    rgb: Float[Tensor, "h w 3"]
    """In [0, 1]."""
    confidence: Float[Tensor, "h w"]
    """In [0, 1]; 1: it is what a photo would have shown."""


@runtime_checkable
class ViewRefiner(Protocol):
    """Corrects renders of cameras that nobody stood at, so that training may take them as targets.

    How much of a corrected render counts is decided by others (`priors.refiner.FeedbackWeight`).
    """

    def fit(self, pairs: Sequence[RefinerPair], budget: int, seed: int, report: Reporter) -> ViewRefiner:
        """A refiner that has learned from the scene's own pairs in `budget` steps, where that is of use; self where
        nothing can be learned. Deterministic by seed."""
        ...

    def refine(
        self, view: RenderedView, references: Sequence[ReferencePhoto], strength: float = 1.0, seed: int = 0
    ) -> RefinedView:
        """`references`: photos, nearest first. `strength` in [0, 1]; 0: the render as it is."""
        ...

    def state(self) -> dict[str, Any]:
        """What `fit` has learned, for checkpoints."""
        ...

    def restored(self, state: dict[str, Any]) -> ViewRefiner:
        """The refiner as it was when `state` was taken."""
        ...


# ------------------------------------------------------------------------------------------------------------ training


@dataclass(frozen=True, eq=False)
class Item:
    """A camera to render, and the target image."""

    camera: Camera
    cam_from_world: Float[Tensor, "4 4"]
    rgb: Tensor
    """uint8 [h w 3] photo at the camera's size."""
    alpha: Tensor | None = None
    """uint8 [h w]: the target is the photo composited with it over the background of the step."""
    weight: Tensor | None = None
    """uint8 [h w]: 0 = no loss at this pixel."""
    view_id: int | None = None
    """The training view, whose exposure and pose corrections apply. None for a virtual view."""
    inverse_depth: Float[Tensor, "h w"] | None = None
    """1 / z (1 / world units) of what the photo shows, by its depth map; 0 where it is not known."""
    probability: Float[Tensor, "h w"] | None = None
    """That `inverse_depth` is right, in [0, 1]."""
    normals_cam: Float[Tensor, "h w 3"] | None = None
    """Unit normals of what the photo shows, in camera axes, facing the camera; 0 where they are not known."""
    layers: Int[Tensor, "h w"] | None = None
    """The depth layer of each pixel, from 0; -1: none."""
    depth_unit: float = 1.0
    """Length, in world units, that losses of depth which are not relative count in."""
    supersample: int = 1
    """Render at so many times the size, each way, and average before exposure and losses."""
    loss_weight: float = 1.0
    terms: frozenset[str] | None = None
    """Names of the loss terms that apply to this item (fields of `losses.Losses`); None: all."""

    def counts(self, term: str) -> bool:
        """Whether a loss term applies to this item."""
        return self.terms is None or term in self.terms


@dataclass(frozen=True, eq=False)
class Step:
    """Input of the loss terms. A new input is a new field here, and changes no existing term."""

    number: int
    """Number of steps before this one, over all phases."""
    item: Item
    render: Render
    image: Float[Tensor, "h w 3"]
    """The rendered image, before `affine`."""
    affine: Float[Tensor, "3 4"] | None
    """The view's exposure [A | b], to be applied to the colours of `image`; None: identity."""
    photo: Tensor
    """The target: uint8 [h w 3], or float in [0, 1] if it was composited over the background of the step."""
    gaussians: Gaussians
    """The rows that were rendered; leaves of autograd."""
    ids: Int[Tensor, "m"] | None
    """Indices of these rows in the model; None: all."""
    scene_extent: float
    progress: float = 0.0
    """Fraction of the steps of the phase done."""

    @cached_property
    def rgb(self) -> Float[Tensor, "h w 3"]:
        """`image` with `affine` applied. Computed on first use: a loss may apply `affine` itself."""
        return self.image if self.affine is None else affine_map(self.image, self.affine[:, :3], self.affine[:, 3])

    @cached_property
    def target(self) -> Float[Tensor, "h w 3"]:
        """The photo as float."""
        return self.photo.float() / 255 if self.photo.dtype == torch.uint8 else self.photo


@dataclass(frozen=True, eq=False)
class RowGradients:
    """Gradients of one step by the rows that were rendered."""

    ids: Int[Tensor, "m"] | None
    """Indices of the rows in the model, ascending and unique; None: all."""
    fields: Gaussians
    """Gradient of the loss by each raw field of these rows."""
    visibility: Int[Tensor, "m"] | None = None
    """Rows with 0 were not drawn and are not updated (sparse Adam); None: all were drawn."""
    camera_centre: Float[Tensor, "3"] | None = None
    """Set with `RasterSettings.factored_sh`: the camera centre in the world. `fields.sh` is then [m 1 3], the gradient
    of SH degree 0, and the other SH gradients follow from it and the view directions."""


@runtime_checkable
class Parameterization(Protocol):
    """Owns parameters, optimizer state and constraints. Subclasses inherit the defaults below."""

    takes_factored_sh: bool = False
    """Whether `update` accepts the gradient of SH degree 0 alone (`RowGradients.camera_centre`)."""

    def __len__(self) -> int:
        """Number of Gaussians."""
        ...

    def gaussians(self) -> Gaussians:
        """All n Gaussians, without gradient: views of the storage, valid until the next call that changes it."""
        ...

    def use_sh_degree(self, degree: int) -> None:
        """Learn SH coefficients up to this degree from now on. A lower degree than before has no effect."""
        return None

    def update(self, gradient: RowGradients, rates: StepSizes) -> None:
        """One optimizer step."""
        ...

    def edit(self, keep: Tensor, append: Gaussians | None, parents: Int[Tensor, "m"] | None = None) -> None:
        """Keep the rows marked in `keep` [n] (bool), then append rows with zero optimizer state. `parents`: for each
        new row the index, before the edit, of the row that it was cloned or split from (None: no parents)."""
        ...

    def rearrange(self, permutation: Int[Tensor, "n"]) -> None:
        """Row i becomes the former row permutation[i], optimizer state included. May do nothing where the position of a
        row has a meaning (pixels of a photo)."""
        return None

    def assign(self, ids: Int[Tensor, "m"], rows: Gaussians, parents: Int[Tensor, "m"] | None = None) -> None:
        """Overwrite rows in place and reset their optimizer state. `parents` as in `edit` (None: `ids`)."""
        ...

    def shift(self, ids: Tensor | None, **deltas: Tensor | float) -> None:
        """Add to fields of rows (None: all) in place, within the constraints; keeps optimizer state."""
        ...

    def track_displacement(self) -> None:
        """Start to record where rows, and the ancestors of new rows, started."""
        return None

    def displacement(self) -> Float[Tensor, "n"] | None:
        """Distance of each row from where its first ancestor started, world units; None if not recorded."""
        return None

    def state(self) -> dict[str, Any]: ...
    def load_state(self, state: dict[str, Any]) -> None: ...


@runtime_checkable
class DensityControl(Protocol):
    """Decides which Gaussians to add, move and remove. Steps count from 0 in each phase. Subclasses inherit the
    defaults below, which do nothing."""

    def wants_absgrad(self, step: int) -> bool:
        """Whether it needs `Render.absgrad` in this step."""
        return False

    def after_backward(self, step: int, ids: Tensor | None, render: Render, camera: Camera) -> None:
        """Collect statistics of a render of rows `ids` (None: all)."""
        return None

    def after_update(
        self, step: int, model: Parameterization, means_rate: float, generator: torch.Generator
    ) -> str | None:
        """Called after the optimizer step, in which positions had the learning rate `means_rate` (world units). Returns
        a line for the log if it added, removed or replaced Gaussians."""
        return None

    def reset_statistics(self) -> None:
        """Called when rows were edited from outside: clear the statistics."""
        return None

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        return None

    # For `train.accel`, which captures steps in CUDA graphs and replays them. By default no step can be captured.

    def changes_rows(self, step: int) -> bool:
        """Whether `after_update` of this step may edit rows or block on a GPU. Such a step is never captured."""
        return True

    def prepare_replay(self, step: int, count: int, device: torch.device) -> None:
        """Allocate the memory and the generators that this step, of `count` rows, uses."""
        return None

    def places(self, step: int) -> tuple[Any, ...]:
        """Key of a captured step: the memory addresses that it uses and the branches that it took. A capture is reused
        only while its key is the same."""
        return ()

    def generators(self) -> Sequence[torch.Generator]:
        """Random generators on the device that a captured step uses."""
        return ()

    def begin_replay(self, means_rate: float, generator: torch.Generator) -> list[float]:
        """Advance `generator` as `after_update` does, and return the numbers for `replayed_update`."""
        return []

    def replayed_update(self, model: Parameterization, numbers: Float[Tensor, "k"]) -> None:
        """`after_update` of a step without edits of rows; `numbers` are those of `begin_replay`, on the device."""
        return None


@runtime_checkable
class TargetSource(Protocol):
    """Yields the items of each step. Its state, order of views included, is part of checkpoints."""

    def items(self, step: int, steps: int) -> Iterator[Item]:
        """Items of step `step` of the phase's `steps`."""
        ...

    def state(self) -> dict[str, Any]: ...
    def load_state(self, state: dict[str, Any]) -> None: ...


Objective = Callable[[Step], tuple[Float[Tensor, ""], dict[str, float | Tensor]]]
"""Step -> the loss to minimize, and values for the log ("psnr" is shown while training runs)."""

DensitySettings = Callable[[int, float], DensityControl]
"""(steps of the phase, scene extent) -> the density control of the phase."""


@dataclass(frozen=True, eq=False)
class Round:
    """Argument of the hooks of a phase: what they may read and edit."""

    step: int
    """Steps done, over all phases."""
    phase_step: int
    """Steps done in this phase."""
    model: Parameterization
    draw: Callable[[Item], Render]
    """Renders the current scene, without gradient, exposure and dropout."""
    report: Reporter
    train_apart: Callable[[Init, Phase], Callable[[Item], Render]] | None = None
    """Trains other Gaussians in a phase of their own, which changes nothing about this run, and returns what `draw` is
    for them. None where several processes train together."""


@runtime_checkable
class Stateful(Protocol):
    """A hook or observer whose state is part of checkpoints."""

    def state(self) -> dict[str, Any]: ...
    def load_state(self, state: dict[str, Any]) -> None: ...


Hook = Callable[[Round], None]
"""A hook that is `Stateful` is part of checkpoints. One with an attribute `edits_rows` that is False leaves the rows as
they are, so that the statistics of density control stay."""


@runtime_checkable
class Surroundings(Protocol):
    """What is behind all Gaussians of a scene, and stays as it is while they are trained."""

    @property
    def gaussians(self) -> Gaussians: ...

    def without_photos(self, left_out: Collection[int]) -> Surroundings:
        """The same without what it knows from some of the training photos."""
        ...


@dataclass(frozen=True, eq=False)
class Phase:
    """A part of training with its own targets, losses, schedules and density control.

    Schedules are functions of the fraction of this phase's steps, so each phase has a warm-up and a decay of its own.
    """

    steps: int
    source: TargetSource
    losses: Objective
    density: DensitySettings
    schedules: Schedules = field(default_factory=Schedules)
    raster: RasterSettings = field(default_factory=RasterSettings)
    """Settings of the renders. Training overrides `absgrad`, `factored_sh` and `capacity`."""
    name: str = "train"
    surroundings: Surroundings | None = None
    """What is behind the Gaussians; None: the background colour of the schedules alone."""
    parameterize: Callable[[Parameterization, Init], Parameterization] | None = None
    """Makes this phase's model from that of the phase before (for the first phase: from free Gaussians) and this
    process's part of the first Gaussians. Called when the phase starts, and before a checkpoint of the phase is loaded.
    None: keep the model, optimizer state included."""
    on_start: Hook | None = None
    """Called once, before the first step of the phase; not when training resumes inside the phase."""
    round_every: int = 0
    """Steps between two calls of `on_round`; 0: never."""
    on_round: Hook | None = None


@dataclass(frozen=True, eq=False)
class Snapshot:
    """What observers get after a step. They must not modify it."""

    step: int
    """Steps done, over all phases; 0 before the first."""
    total: int
    phase: str
    count: int
    """Number of Gaussians, over all processes."""
    figures: Mapping[str, float | str]
    """Loss, loss terms, "psnr" (running mean, dB) and "density" (the log line of density control). Reading a number
    blocks on a GPU; "density" is text and does not."""
    seconds: float
    """Training time, over resumed runs, without the time of observers."""
    steps_per_second: float
    gaussians: Gaussians | None
    """A copy of all Gaussians for this observer, without rows that are never drawn; None unless it
    `wants_gaussians` of this step."""
    num_surroundings: int = 0
    """How many of `gaussians`, the last ones, are behind the scene (see `train/surroundings.py`)."""


@runtime_checkable
class Observer(Protocol):
    """Watches training without changing it. One that is `Stateful` is part of checkpoints, under the name of its class.
    With several processes, `wants_gaussians` is called on all ranks, the observer itself on rank 0."""

    def wants_gaussians(self, step: int, total: int) -> bool:
        """Whether it needs `Snapshot.gaussians` after this step; with several processes, must depend on the arguments
        alone."""
        ...

    def __call__(self, snapshot: Snapshot) -> None: ...


@runtime_checkable
class Control(Protocol):
    """Somebody who may pause training between two steps, or end it before its last one and keep what there is."""

    ends: bool
    """Training was asked to end. The result is that of a shorter run; the same command goes on from there."""

    def wait(self, stopped: Callable[[], bool]) -> None:
        """Returns at once; while training is paused, when it is resumed or `stopped()`."""
        ...


# -------------------------------------------------------------------------------------------------------------- method


@dataclass(frozen=True)
class MatchingRequest:
    """Dense matching that a method needs. Values of 0 are chosen by the run, such that matching is fast enough."""

    size: int = 0
    """Long side of the photos for matching, px; 0: the run decides."""
    max_size: int = 640
    """Upper limit of `size` if the run decides."""
    photos: int = 0
    """Number of photos to match; 0: the run decides."""
    depth: bool = True
    """Whether it reads depth maps (`Priors.depth`)."""


@dataclass(frozen=True)
class InitPlan:
    """What the run decides for the initializer, where its settings do not."""

    max_gaussians: int
    """Cap on the number of Gaussians in training."""
    matching_size: int = 0
    """Long side of the photos for matching, px."""
    matching_photos: int = 0
    """Number of photos to match."""


@dataclass(frozen=True, eq=False)
class Budget:
    """Limits of training."""

    steps: int
    """Number of steps. Each takes one photo per process."""
    max_gaussians: int
    photo_phase: Phase
    """A phase of all `steps` on the training photos, from the user's settings. A method returns it as it is, or derives
    its phases from it with `dataclasses.replace`."""


@runtime_checkable
class Method(Protocol):
    """How Gaussians are made from posed photos: a frozen dataclass whose fields are its settings.

    `splat.methods.METHODS` lists all methods; `--method`, `auto`, `splat init` and the bench use that list.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    """One line of help text."""

    def unavailable(self) -> str | None:
        """Why it cannot run on this machine, in one sentence; None if it can."""
        ...

    def check(self) -> None:
        """Raises SplatError for a value of its settings that means nothing. Called before anything is read."""
        ...

    def defaults(self, preset: str) -> Mapping[str, Any]:
        """Settings of a run that it changes: dotted fields of `Reconstruct` -> values. Values given by the user take
        precedence. Raises KeyError for an unknown preset."""
        ...

    def max_gaussians(self, capture: Capture) -> int | None:
        """The method's own cap on the number of Gaussians; None: that of the preset."""
        ...

    def matching(self) -> MatchingRequest | None:
        """Dense matching that it needs; None: no matching, and its initializer gets no priors."""
        ...

    def training_weights(self) -> str:
        """SHA-256 of the weights of networks that its phases read: others make another result. Empty: none."""
        ...

    def initializer(self, capture: Capture, plan: InitPlan | None = None) -> Initializer:
        """The initializer; without a plan, by the settings alone, which is what the key of the init stage has."""
        ...

    def phases(self, capture: Capture, init: Init, budget: Budget) -> tuple[Phase, ...]:
        """The phases of training, in order."""
        ...


# -------------------------------------------------------------------------------------------------------------- export


@dataclass(frozen=True, eq=False)
class SplatFile:
    """What a splat file contains."""

    gaussians: Gaussians
    """Their means are those of the file: `offset` is not added, which float32 could not hold."""
    header: dict[str, str] = field(default_factory=dict)
    """SplatRenderMode, offset, Vertical axis: see `splat.export.header`."""


@runtime_checkable
class SplatReader(Protocol):
    """Reads a splat file format."""

    @property
    def name(self) -> str: ...

    @property
    def suffixes(self) -> tuple[str, ...]: ...

    def load(self, path: Path, report: Reporter | None = None) -> SplatFile:
        """Read a file. Rows that cannot be used are left out, with a warning."""
        ...


@runtime_checkable
class Codec(SplatReader, Protocol):
    """A splat file format. `splat.export.CODECS` is ordered; the first that accepts a name reads or writes it."""

    @property
    def about(self) -> str:
        """One phrase for tables of formats."""
        ...

    def save(self, path: Path, gaussians: Gaussians, header: dict[str, str], report: Reporter | None = None) -> None:
        """Write a file. What the format cannot hold is a warning, or a SplatError where the scene would be another."""
        ...


@dataclass(frozen=True, eq=False)
class EnhancedView:
    """A render that was changed for presentation."""

    rgb: Float[Tensor, "h w 3"]
    """In [0, 1]."""
    photos: tuple[str, ...] = ()
    """Names of the photos that something was taken from."""
    frames: tuple[int, ...] = ()
    """Frames that something was taken from, counted from this one: -1 is the one before it."""


@runtime_checkable
class FrameEnhancer(Protocol):
    """Changes renders for presentation: what it makes is never trained on and never measured."""

    def __call__(self, frames: Iterable[RenderedView]) -> Iterator[EnhancedView]:
        """One for each frame, in order. Frames are neighbours in time; a bounded number of them is held at once."""
        ...

    def about(self) -> dict[str, Any]:
        """What is written beside the pictures: the method, its settings, and its weights with SHA-256 and licence."""
        ...


@dataclass(frozen=True, eq=False)
class PathCamera:
    """One frame of a camera path."""

    camera: Camera
    world_from_cam: Rigid
