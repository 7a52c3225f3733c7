"""The train stage: first Gaussians and photos -> trained Gaussians."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from splat.core.capture import Capture
from splat.core.errors import Interrupted, SplatError
from splat.core.gaussians import Gaussians
from splat.core.ranks import Ranks
from splat.core.schedules import Background, Dropout, LearningRates, OpacityDecay, ResolutionSchedule, ShSchedule
from splat.core.slots import Init, Rasterizer, Reporter, Silent
from splat.losses import Losses
from splat.native import bindings
from splat.native.build import keep_freed_memory
from splat.priors.neighbours import nearest_depths
from splat.raster.distributed import Distributed
from splat.run.folder import hash_of
from splat.run.machine import available_cores
from splat.run.trained import Trained, load_trained, save_trained
from splat.stages.measure import mean, measure
from splat.train import DefaultDensity, MCMCDensity, NoDensity
from splat.train.clearance import Clearance
from splat.train.density import DensitySettings
from splat.train.distributed import batch_steps, own_density
from splat.train.loop import Phase, TrainSettings
from splat.train.loop import train as run_phases
from splat.train.view_model import ViewModel, ViewSettings
from splat.train.views import PhotoSource, load_views, scene_extent

if TYPE_CHECKING:
    from splat.stages.first import Context


@dataclass(frozen=True)
class TrainConfig:
    """How Gaussians are optimized."""

    density: Literal["default", "mcmc", "none"] = "default"
    """How their number changes: default (divide where the image pulls), mcmc (relocate and grow to --cap), none."""
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
    """While training, a pixel is done where less than this is left of the light from behind: what a display cannot show
    is not computed. Everything else is drawn down to 1e-4."""
    clearance: float = 0.3
    """No Gaussian may be nearer to a training photo's camera than this fraction of the nearest sparse point it sees:
    no haze before the lens. 0: anywhere."""
    views: ViewSettings = field(default_factory=ViewSettings)
    capacity: int | None = None
    """On a GPU, room for so many (tile, Gaussian) pairs of a photo: no step then waits for their count. It grows where
    it is too small, and until then the farthest Gaussians are left out (default: count, and wait)."""
    graph: Literal["auto", "on", "off"] = "auto"
    """On a GPU, record a step as a CUDA graph and replay it, which saves the time of asking for its kernels: takes
    --train.capacity and the native rasterizer. auto: where it can be done; on: and say where it cannot."""
    checkpoint_minutes: float = 3.0
    """Minutes between checkpoints; one is also written on Ctrl-C."""
    checkpoint_every: int = 0
    """Also after every so many steps; 0: by the clock alone."""
    evaluate_at: tuple[int, ...] = ()
    """Also measure the held-out photos after these steps (0: before the first), and how far Gaussians travel: see
    `timeline` and `displacement` in metrics.json. The seconds in the timeline are of training alone. Steps are of one
    photo each, as with --iterations."""

    def chosen_density(self, cap: int) -> DensitySettings:
        if self.density == "default":
            return replace(self.default, cap=cap)
        return replace(self.mcmc, cap=cap) if self.density == "mcmc" else self.none


def train(c: Context, capture: Capture, init: Init, init_key: str) -> tuple[Trained, str]:
    """Optimize on the training photos; resumes from its checkpoint, and goes on when --iterations has grown."""
    c.report.begin("train")
    k = c.config
    views = capture.train_views
    extent = scene_extent(views, None if capture.points is None else capture.points.positions)
    has_alpha = _has_alpha(capture)
    config = k.train
    assert k.cap is not None, "fit_to_memory decides it"
    cap = k.cap
    if capture.source == "blender" and "train.views.exposure" not in k.explicit_flags:
        # Rendered photos share one exposure; a map per photo would only learn their errors.
        config = replace(config, views=replace(config.views, exposure=False))
    if has_alpha and config.background == Background():
        config = replace(config, background=replace(config.background, rgb=(1.0, 1.0, 1.0)))
    timing = replace(config, checkpoint_minutes=0.0, checkpoint_every=0, capacity=None, graph="auto")
    sizes = [(v.camera.width, v.camera.height) for v in views]
    losses = k.losses
    if config.density == "mcmc" and losses.opacity == losses.scale == 0:
        losses = replace(losses, opacity=0.01, scale=0.01)  # what relocation needs to find useless Gaussians
    drawn_by = c.raster.name if c.ranks.world == 1 else Distributed(c.ranks).name
    key = hash_of("train", init_key, timing, losses, c.settings, cap, k.seed, sizes, drawn_by)
    settings = TrainSettings(
        scene_extent=extent,
        seed=k.seed,
        raster=replace(c.settings, min_transmittance=config.min_transmittance, capacity=config.capacity),
        rates=config.rates,
        sh=config.sh,
        opacity_decay=config.decay,
        dropout=config.dropout,
        background=config.background,
        graph=config.graph,
        checkpoint_minutes=config.checkpoint_minutes,
        checkpoint_every=config.checkpoint_every,
        evaluate_at=config.evaluate_at,
        key=key,
    )
    background = torch.tensor(config.background.rgb)

    def held_out(step: int, gaussians: Gaussians) -> dict[str, Any]:
        found = list(measure(gaussians, capture.test_views, c.raster, c.settings, background.to(gaussians.means)))
        photos = min(k.iterations, step * c.ranks.world)
        return {"step": photos, "psnr": mean([m.psnr for m in found]), "ssim": mean([m.ssim for m in found])}

    job = Job(capture, init, config, losses, settings, cap, k.iterations, k.threads or available_cores(), c.device)

    def make(folder: Path) -> Trained:
        trained = optimize(c.ranks.told(job.into(folder)), c.ranks, c.raster, c.report, c.run.log, held_out)
        save_trained(folder, trained)
        return trained

    trained = c.run.stage("train", key, config, make, load_trained, extent=k.iterations)
    c.report.info(f"{len(trained.gaussians)} Gaussians after {trained.steps} steps")
    return trained, hash_of(key, k.iterations)


@dataclass(frozen=True, eq=False)
class Job:
    """What a process needs to know to take part in training."""

    capture: Capture
    init: Init
    config: TrainConfig
    losses: Losses
    settings: TrainSettings
    cap: int
    photos: int
    """To be drawn, by all processes together."""
    threads: int
    """For all processes of this machine together."""
    device: torch.device
    checkpoint: Path | None = None

    def into(self, folder: Path) -> Job:
        return replace(self, checkpoint=folder / "checkpoint")


def optimize(
    job: Job,
    ranks: Ranks,
    raster: Rasterizer,
    report: Reporter,
    log: Callable[[dict[str, Any]], None] | None,
    evaluate: Callable[[int, Gaussians], dict[str, Any]] | None = None,
) -> Trained:
    """Train, together with the other processes. All get the same Gaussians back."""
    keep_freed_memory()
    config, views = job.config, job.capture.train_views
    asked = tuple(batch_steps(photos, ranks.world) for photos in job.settings.evaluate_at)
    settings = replace(job.settings, evaluate_at=asked)
    extent, steps = settings.scene_extent, batch_steps(job.photos, ranks.world)
    posed = load_views(views, job.threads)
    source = PhotoSource(posed, steps, config.resolution, settings.seed, job.device)
    centres = torch.stack([v.world_from_cam.translation for v in views if v.world_from_cam is not None])
    model = ViewModel(len(views), config.views, centres.float(), extent, job.device)
    density: DensitySettings = own_density(config.chosen_density(job.cap), ranks.world)
    if config.clearance > 0:
        near = nearest_depths(job.capture.training())
        if near is not None:
            density = Clearance(density, centres.float(), config.clearance * near.float())
    phase = Phase(steps=steps, source=source, losses=job.losses, density=density)
    start = replace(job.init, gaussians=job.init.gaussians.to(job.device))
    with _shared_cores(job, ranks):
        result = run_phases(
            *(start, (phase,), raster if ranks.world == 1 else Distributed(ranks), model, settings, report),
            *(job.checkpoint, log, evaluate),
            ranks=ranks,
        )
    names = [v.name for v in views]
    exposures = dict(zip(names, result.view_model.exposures().cpu())) if config.views.exposure else {}
    poses = {}
    if config.views.poses:
        poses = {n: model.corrected_pose(i, posed[i].cam_from_world.to(job.device)) for i, n in enumerate(names)}
    last = result.gaussians.to("cpu")
    return Trained(
        gaussians=last,
        exposures=exposures,
        poses={n: p.detach().cpu() for n, p in poses.items()},
        background=torch.tensor(config.background.rgb),
        scene_extent=extent,
        steps=min(job.photos, result.steps * ranks.world),
        history=result.history,
        displacement=None if result.displacement is None else result.displacement / extent,
    )


@contextmanager
def _shared_cores(job: Job, ranks: Ranks) -> Iterator[None]:
    """Several processes on the CPU divide its cores while they train."""
    if ranks.world == 1 or job.device.type != "cpu":
        yield
        return
    before = bindings.get_threads(), torch.get_num_threads()
    share = max(1, job.threads // ranks.world)
    bindings.set_threads(share)
    torch.set_num_threads(share)
    try:
        yield
    finally:
        bindings.set_threads(before[0])
        torch.set_num_threads(before[1])


def help_out(ranks: Ranks) -> None:
    """What all processes but rank 0 do: wait until it has something to train, take part, until it says that it is done.
    What goes wrong elsewhere, rank 0 reports. Raises SplatError for what goes wrong here: rank 0, which may be on
    another machine, waits for this process until it is seen to fail."""
    try:
        while (job := ranks.told(None)) is not None:
            optimize(job, ranks, Distributed(ranks), Silent(), None)
    except SplatError as e:
        raise SplatError(f"process {ranks.rank} of {ranks.world}: {e}") from None
    except (Interrupted, ConnectionError):
        return


def _has_alpha(capture: Capture) -> bool:
    """Whether the photos bring transparency, judged by the first one."""
    return capture.views[0].load(capture.views[0].camera.scaled(0.1)).alpha is not None
