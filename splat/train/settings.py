"""Settings of training, and the phase on the training photos that they describe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from splat.core.schedules import (
    Background,
    Dropout,
    LearningRates,
    OpacityDecay,
    ResolutionSchedule,
    Schedules,
    ShSchedule,
)
from splat.core.slots import DensitySettings, Objective, Phase, RasterSettings
from splat.geometry.reproject import PosedDepth
from splat.train.density import DENSITIES, DefaultDensity, MCMCDensity, NoDensity
from splat.train.density.free_space import FreeSpace
from splat.train.density.in_frame import Frame, InFrame
from splat.train.density.near_camera import NearCamera
from splat.train.models.view_model import ViewSettings
from splat.train.surroundings import Shell, SurroundingsSettings
from splat.train.views import PhotoSource, Posed

if TYPE_CHECKING:
    DensityName = str
else:
    DensityName = Literal[tuple(DENSITIES)]


@dataclass(frozen=True)
class Training:
    """How Gaussians are optimized."""

    density: DensityName = "default"
    """Density control: default (split where image gradients are large), mcmc (relocate, and grow to --cap), none."""
    default: DefaultDensity = field(default_factory=DefaultDensity)
    mcmc: MCMCDensity = field(default_factory=MCMCDensity)
    none: NoDensity = field(default_factory=NoDensity)
    rates: LearningRates = field(default_factory=LearningRates)
    resolution: ResolutionSchedule = field(default_factory=ResolutionSchedule)
    sh: ShSchedule = field(default_factory=ShSchedule)
    decay: OpacityDecay = field(default_factory=OpacityDecay)
    dropout: Dropout = field(default_factory=Dropout)
    background: Background = field(default_factory=Background)
    min_transmittance: float = 1 / 255
    """Compositing of a pixel stops below this transmittance during training: the rest is below the precision of 8-bit
    images. All other renders use 1e-4."""
    near_camera: float = 0.3
    """Gaussians may not be closer to a training camera than this fraction of the depth of the nearest sparse point that
    it sees, which prevents floaters in front of cameras. 0: no limit."""
    frame_margin: float | None = None
    """Gaussians whose centre is outside the frame of every training photo by more than this fraction of its size are
    removed, those with a standard deviation of a tenth of it once they are outside at all: nobody saw the place, and
    from beside they hide what was seen (default: no limit; with at most 14 training photos 0.15)."""
    free_space: float = 0.0
    """Where there are depth maps: Gaussians that at least two photos see past by more than this fraction of their depth
    are removed, and those that veil the scene between the photos, which prevents floaters. Many photos see to that
    themselves, and are more exact than depth maps. 0: no limit (default: 0; with at most 14 training photos 0.05)."""
    surroundings: SurroundingsSettings = field(default_factory=SurroundingsSettings)
    """What is behind the scene where nobody saw it."""
    views: ViewSettings = field(default_factory=ViewSettings)
    capacity: int | None = None
    """On a GPU, the capacity of (tile, Gaussian) pairs of a photo, so that no step blocks to count them. It grows where
    it is too small; until then the farthest Gaussians are left out (default: count the pairs)."""
    graph: Literal["auto", "on", "off"] = "auto"
    """On a GPU, capture steps in CUDA graphs and replay them, which saves launch time. Needs --train.capacity and the
    native rasterizer. auto: where possible; on: also say why where it is not."""
    checkpoint_minutes: float = 3.0
    """Minutes between checkpoints; one is also written on Ctrl-C."""
    checkpoint_every: int = 0
    """Also write one after every so many steps; 0: by time alone."""
    evaluate_at: tuple[int, ...] = ()
    """Also evaluate the held-out photos after these steps (0: before the first), and record how far Gaussians move: see
    `timeline` and `displacement` in metrics.json. Seconds in the timeline are training time. Steps are of one photo
    each, as with --iterations."""

    def chosen_density(self, max_gaussians: int) -> DensitySettings:
        """The settings named by `density`, with the cap set where they have one."""
        settings: DensitySettings = getattr(self, self.density)
        has_cap = any(f.name == "cap" for f in fields(settings))  # type: ignore[arg-type]
        return replace(settings, cap=max_gaussians) if has_cap else settings  # type: ignore[type-var]

    @property
    def schedules(self) -> Schedules:
        """Schedules of a run of one phase."""
        return Schedules(self.rates, self.sh, self.decay, self.dropout, self.background)


def photo_phase(
    training: Training,
    losses: Objective,
    photos: Sequence[Posed],
    steps: int,
    max_gaussians: int,
    raster: RasterSettings,
    *,
    centres: Float[Tensor, "v 3"] | None = None,
    nearest: Float[Tensor, "v"] | None = None,
    depths: Sequence[PosedDepth] = (),
    surroundings: Shell | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Phase:
    """A phase of all `steps` on the training photos, with the user's settings.

    `centres` of the training cameras (world) and, per camera, the depth of the nearest point that it is known to see
    (world units) define the space in front of the cameras that is kept empty (`density.near_camera`); None: no such
    space. `depths` of the photos define what is kept empty between them (`density.free_space`). `surroundings`:
    what is behind the scene.
    """
    density = training.chosen_density(max_gaussians)
    if training.near_camera > 0 and centres is not None and nearest is not None:
        density = NearCamera(density, centres.float(), training.near_camera * nearest.float())
    if training.frame_margin is not None:
        frames = tuple(Frame(replace(p.camera, lens=None), p.cam_from_world) for p in photos)
        density = InFrame(density, frames, training.frame_margin)
    if training.free_space > 0 and len(depths) > 1:
        density = FreeSpace(density, depths, training.free_space)
    return Phase(
        steps=steps,
        source=PhotoSource(photos, training.resolution, seed, device),
        losses=losses,
        density=density,
        schedules=training.schedules,
        surroundings=surroundings,
        raster=replace(
            raster, min_transmittance=training.min_transmittance, normals=getattr(losses, "reads_normals", False)
        ),
    )
