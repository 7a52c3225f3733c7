"""The train stage: first Gaussians and photos -> trained Gaussians."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from splat.core import licences
from splat.core.capture import Capture
from splat.core.errors import Interrupted, SplatError
from splat.core.gaussians import Gaussians
from splat.core.process_group import ProcessGroup
from splat.core.schedules import Background
from splat.core.slots import Budget, Control, Init, Method, Observer, Rasterizer, RasterSettings, Reporter, Silent
from splat.geometry.reproject import posed_depths
from splat.losses import Losses
from splat.native import bindings
from splat.native.build import keep_freed_memory
from splat.priors.neighbours import nearest_depths
from splat.raster.distributed import Distributed
from splat.run.code import code_hash
from splat.run.folder import hash_of
from splat.run.trained import Trained, load_trained, save_trained
from splat.run.used_priors import note_priors
from splat.stages.context import Context
from splat.stages.measure import mean, measure
from splat.train.execution import Execution
from splat.train.loop import TrainSettings
from splat.train.loop import train as run_phases
from splat.train.models.view_model import ViewModel
from splat.train.observers import Evaluate, TrainingLog
from splat.train.settings import Training, photo_phase
from splat.train.views import load_views, scene_extent


def train(
    c: Context,
    capture: Capture,
    init: Init,
    *,
    method: Method,
    training: Training,
    losses: Losses,
    steps: int,
    cap: int,
    explicit: Collection[str] = frozenset(),
    observers: Sequence[Observer] = (),
    control: Control | None = None,
) -> Trained:
    """Optimize on the training photos; resumes from its checkpoint, and goes on when `steps` has grown. `observers`
    besides the log and the evaluation, and `control`, are of one process.

    `steps` are of one photo each, and `cap` is the most Gaussians there may be; `explicit` are the dotted names of
    settings that the user gave (`train.views.exposure`), which the data do not change.
    """
    c.report.begin("train")
    training = fitted_to(training, capture, explicit)
    losses = with_mcmc_regularizers(losses, training)
    views = capture.train_views
    extent = scene_extent(views, None if capture.points is None else capture.points.positions)
    # What changes when, or how fast, but not what is computed.
    timeless = replace(training, checkpoint_minutes=0.0, checkpoint_every=0, capacity=None, graph="auto")
    sizes = [(v.camera.width, v.camera.height) for v in views]
    drawn_by = c.raster.name if c.group.world == 1 else Distributed(c.group).name
    code = code_hash("splat.stages.train", type(method).__module__)
    about = method.name, method, method.training_weights(), timeless, losses, c.settings, cap, c.seed, sizes, drawn_by
    key = hash_of("train", c.run.identity("init"), *about)
    job = Job(
        capture=capture,
        init=init,
        method=method,
        training=training,
        losses=losses,
        settings=TrainSettings(
            scene_extent=extent,
            seed=c.seed,
            checkpoint_minutes=training.checkpoint_minutes,
            checkpoint_every=training.checkpoint_every,
            track_displacement=bool(training.evaluate_at),
        ),
        raster=c.settings,
        cap=cap,
        photos=steps,
        threads=c.threads,
        device=c.device,
    )
    background = torch.tensor(training.background.rgb)

    def held_out(step: int, gaussians: Gaussians) -> dict[str, Any]:
        found = list(measure(gaussians, capture.test_views, c.raster, c.settings, background.to(gaussians.means)))
        photos = min(steps, step * c.group.world)
        return {"step": photos, "psnr": mean([m.psnr for m in found]), "ssim": mean([m.ssim for m in found])}

    def make(folder: Path) -> Trained:
        settings = replace(job.settings, key=c.run.identity("train"))
        shared = c.group.broadcast(replace(job, settings=settings, checkpoint=folder / "checkpoint"))
        with licences.recorded() as used:
            trained = optimize(shared, c.group, c.raster, c.report, c.run.log, held_out, observers, control)
        note_priors(folder, used)
        save_trained(folder, trained)
        return trained

    trained = c.run.stage("train", key, training, make, load_trained, extent=steps, code=code)
    if control is not None and control.ends and trained.steps < steps:
        c.run.shorten("train", trained.steps)
    c.report.info(f"{len(trained.gaussians)} Gaussians after {trained.steps} steps")
    return trained


# -------------------------------------------------------------------------------------- what the data and choices imply


def fitted_to(training: Training, capture: Capture, explicit: Collection[str] = frozenset()) -> Training:
    """The settings for photos like these; what is `explicit` stays.

    Renders (NeRF-synthetic) share one exposure: a colour map per photo would only learn their errors. Photos with
    transparency are compared over white, as their benchmarks do, where nothing was said about the background, and show
    no surroundings.
    """
    if capture.source == "blender" and "train.views.exposure" not in explicit:
        training = replace(training, views=replace(training.views, exposure=False))
    if not _has_alpha(capture):
        return training
    if "train.surroundings.count" not in explicit:
        training = replace(training, surroundings=replace(training.surroundings, count=0))
    if training.background == Background():
        training = replace(training, background=replace(training.background, rgb=(1.0, 1.0, 1.0)))
    return training


def _has_alpha(capture: Capture) -> bool:
    """Whether the photos bring transparency, judged by the first one."""
    return capture.views[0].load(capture.views[0].camera.scaled(0.1)).alpha is not None


def with_mcmc_regularizers(losses: Losses, training: Training) -> Losses:
    """Under MCMC density control the regularizers of its paper, by which relocation finds useless Gaussians, where
    neither of them is on."""
    if training.density == "mcmc" and losses.opacity == losses.scale == 0:
        return replace(losses, opacity=0.01, scale=0.01)
    return losses


# ------------------------------------------------------------------------------------------------------ every process


@dataclass(frozen=True, eq=False)
class Job:
    """What a process needs to know to take part in training. It travels between processes: everything pickles."""

    capture: Capture
    init: Init
    method: Method
    training: Training
    losses: Losses
    settings: TrainSettings
    raster: RasterSettings
    """How the result is drawn."""
    cap: int
    photos: int
    """To be drawn, by all processes together."""
    threads: int
    """For all processes of this machine together."""
    device: torch.device
    checkpoint: Path | None = None


def batch_steps(photos: int, world: int) -> int:
    """How many steps of `world` photos draw so many."""
    return math.ceil(photos / world)


def optimize(
    job: Job,
    group: ProcessGroup,
    raster: Rasterizer,
    report: Reporter,
    log: Callable[[dict[str, Any]], None] | None = None,
    evaluate: Callable[[int, Gaussians], dict[str, Any]] | None = None,
    observers: Sequence[Observer] = (),
    control: Control | None = None,
) -> Trained:
    """Train, together with the other processes. All get the same Gaussians back."""
    keep_freed_memory()
    training, extent = job.training, job.settings.scene_extent
    capture = job.capture.training()
    views, steps = capture.views, batch_steps(job.photos, group.world)
    photos = load_views(views, job.threads)
    centres = torch.stack([v.world_from_cam.translation for v in views if v.world_from_cam is not None])
    maps = job.init.depths
    shell = training.surroundings.around(job.init.gaussians.means, photos, posed_depths(views, maps, measured=False))
    on_photos = photo_phase(
        training,
        job.losses,
        photos,
        steps,
        job.cap,
        job.raster,
        centres=centres,
        nearest=nearest_depths(capture) if training.near_camera > 0 else None,
        depths=posed_depths(views, maps) if training.free_space > 0 else (),
        surroundings=shell,
        seed=job.settings.seed,
        device=job.device,
    )
    init = replace(job.init, gaussians=job.init.gaussians.to(job.device))
    phases = job.method.phases(capture, init, Budget(steps, job.cap, on_photos))
    model = ViewModel(len(views), training.views, centres.float(), extent, job.device)
    history = TrainingLog(report, log)
    evaluated = tuple(batch_steps(n, group.world) for n in training.evaluate_at)
    with _shared_cores(job, group):
        result = run_phases(
            init,
            phases,
            raster if group.world == 1 else Distributed(group),
            model,
            job.settings,
            report,
            job.checkpoint,
            (history, Evaluate(evaluated, evaluate, history.add), *observers),
            _acceleration(job, group, report),
            control,
        )
    names = [v.name for v in views]
    exposures = dict(zip(names, result.view_model.exposures().cpu())) if training.views.exposure else {}
    poses = {}
    if training.views.poses:
        poses = {n: model.corrected_pose(i, photos[i].cam_from_world.to(job.device)) for i, n in enumerate(names)}
    return Trained(
        gaussians=result.gaussians.to("cpu"),
        exposures=exposures,
        poses={n: p.detach().cpu() for n, p in poses.items()},
        background=torch.tensor(training.background.rgb),
        surroundings=None if shell is None else shell.gaussians,
        scene_extent=extent,
        steps=min(job.photos, result.steps * group.world),
        history=history.history,
        displacement=None if result.displacement is None else result.displacement / extent,
    )


def _acceleration(job: Job, group: ProcessGroup, report: Reporter) -> Execution | None:
    """What was asked for, beyond the plain way; None: nothing."""
    t = job.training
    if group.world == 1 and t.capacity is None and t.graph != "on":
        return None
    from splat.train.accel import Acceleration

    return Acceleration(job.device, report if group.rank == 0 else Silent(), t.capacity, t.graph, group)


@contextmanager
def _shared_cores(job: Job, group: ProcessGroup) -> Iterator[None]:
    """Several processes on the CPU divide its cores while they train."""
    if group.world == 1 or job.device.type != "cpu":
        yield
        return
    before = bindings.get_threads(), torch.get_num_threads()
    share = max(1, job.threads // group.world)
    bindings.set_threads(share)
    torch.set_num_threads(share)
    try:
        yield
    finally:
        bindings.set_threads(before[0])
        torch.set_num_threads(before[1])


def help_out(group: ProcessGroup) -> None:
    """What all processes but rank 0 do: wait until it has something to train, take part, until it says that it is done.
    What goes wrong elsewhere, rank 0 reports. Raises SplatError for what goes wrong here: rank 0, which may be on
    another machine, waits for this process until it is seen to fail."""
    try:
        while (job := group.broadcast(None)) is not None:
            optimize(job, group, Distributed(group), Silent())
    except SplatError as e:
        raise SplatError(f"process {group.rank} of {group.world}: {e}") from None
    except (Interrupted, ConnectionError):
        return
