"""The training loop. Methods differ in their phases: targets, losses, schedules, density control and hooks. Observers
watch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from splat.core.errors import Interrupted, SplatError
from splat.core.gaussians import Gaussians, with_surroundings
from splat.core.slots import Control, Init, Observer, Phase, Rasterizer, Reporter, Silent, Snapshot, Stateful
from splat.native.build import release_freed_memory
from splat.train import checkpoint
from splat.train.clock import Meter, Stopwatch, stop_requests
from splat.train.execution import Execution
from splat.train.models.view_model import ViewModel
from splat.train.observers.snapshot import Figures, drawable
from splat.train.run import TrainingRun, TrainSettings

__all__ = ["TrainResult", "TrainSettings", "train"]

ASK_EVERY = 10
"""Steps between two synchronizations of several processes on whether to save or to stop."""


@dataclass(frozen=True, eq=False)
class TrainResult:
    """Result of training."""

    gaussians: Gaussians
    view_model: ViewModel
    steps: int
    seconds: float
    """Training time, over resumed runs, without the time of observers."""
    displacement: float | None = None
    """Median distance of the Gaussians from where their first ancestors started, world units. None unless
    `TrainSettings.track_displacement` is set and the parameterization records it."""


def train(
    init: Init,
    phases: tuple[Phase, ...],
    raster: Rasterizer,
    view_model: ViewModel,
    settings: TrainSettings,
    report: Reporter,
    checkpoint_dir: Path | None = None,
    observers: Sequence[Observer] = (),
    acceleration: Execution | None = None,
    control: Control | None = None,
) -> TrainResult:
    """Optimize `init` through all phases, starting from the checkpoint in `checkpoint_dir` if there is one.

    Observers get a snapshot before the first step and after each step. At most one observer per class may have a state.
    `acceleration` (a `train.accel.Acceleration`, or None) replaces the eager execution of steps. If it joins several
    processes, all must pass the same arguments (with observers that want Gaussians at the same steps) and a rasterizer
    that draws the Gaussians of all; each step then takes a photo per process, and all processes return the same
    Gaussians. Only rank 0 reports, observes and saves. `control` may pause training, or end it early; of one process.

    On the CPU the result is the same, bit for bit, whether or not training was interrupted, written to checkpoints or
    observed. If the last phase has become longer since the checkpoint was written, it is continued.

    Raises Interrupted after SIGINT or SIGTERM, once a checkpoint is written; SplatError when the loss stays NaN or
    infinite.
    """
    execution = acceleration or Execution()
    if execution.group.rank > 0:
        report = Silent()
    run = TrainingRun(init, phases, raster, view_model, settings, report, execution)
    audience = _Audience(run, observers)
    seconds = _restore(run, observers, checkpoint_dir)
    if run.step == 0:
        audience.show({}, Stopwatch(0.0), Meter(0), seconds=0.0)
    watch, meter, saved = Stopwatch(seconds), Meter(run.step), time.monotonic()
    with stop_requests() as stop:
        while run.advance():
            line = run.do_step()
            meter.update(run.step)
            audience.show(line, watch, meter)
            seconds = watch.seconds()
            every = settings.checkpoint_every
            due = every and run.step % every == 0
            overdue = time.monotonic() - saved > 60 * settings.checkpoint_minutes
            overdue, stops = audience.agreed(overdue, stop.is_set())
            if due or overdue or stops:
                _save(run, observers, checkpoint_dir, seconds)
                saved = time.monotonic()
            if stops:
                raise Interrupted(f"Stopped at step {run.step} of {run.total}; run the same command to go on.")
            if control is not None:
                with watch.paused():
                    control.wait(stop.is_set)
                if control.ends:
                    report.info(f"Ended at step {run.step} of {run.total}, as was asked; the same command goes on.")
                    break
    _save(run, observers, checkpoint_dir, seconds)
    return TrainResult(drawable(run.gaussians()), view_model, run.step, seconds, run.median_displacement())


class _Audience:
    """The observers of a run, and the decisions that several processes synchronize between steps."""

    def __init__(self, run: TrainingRun, observers: Sequence[Observer]) -> None:
        self.run, self.observers, self.group = run, observers, run.execution.group
        self.count = self.group.world * len(run.model)  # when processes last asked each other

    def agreed(self, overdue: bool, stops: bool) -> tuple[bool, bool]:
        """Whether a checkpoint is overdue on any rank, and whether any rank was asked to stop."""
        if self.group.world == 1:
            return overdue, stops
        if self.run.step % ASK_EVERY:
            return False, False
        counted = self.group.all_reduce(overdue, stops, len(self.run.model))
        self.count = int(counted[2])
        return counted[0] > 0, counted[1] > 0

    def show(self, line: dict[str, Any], watch: Stopwatch, meter: Meter, seconds: float | None = None) -> None:
        """Pass a snapshot to every observer. Its time does not count as training time. `seconds` of training: by
        default those of the watch."""
        run, step = self.run, self.run.step
        wanted = [o.wants_gaussians(step, run.total) for o in self.observers]
        everything: Gaussians | None = None
        around: Gaussians | None = None
        count = len(run.model) if self.group.world == 1 else self.count
        if any(wanted):
            run.read_losses()  # what a GPU has still to do is training
            with watch.paused(), torch.no_grad():
                everything, around = run.gaussians(), run.surroundings
                count = len(everything)
        if self.group.rank > 0 or not self.observers:
            return

        def read() -> float:
            with watch.counting():
                return run.read_losses()

        figures = Figures(dict(line), read)
        seconds = watch.seconds() if seconds is None else seconds
        phase = run.phase.name if run.phase_index >= 0 else ""
        with watch.paused(), torch.no_grad():
            for observer, wants in zip(self.observers, wanted, strict=True):
                copy, behind = None, 0
                if wants and everything is not None:
                    copy = with_surroundings(drawable(everything), around)
                    behind = 0 if around is None else len(around)
                observer(Snapshot(step, run.total, phase, count, figures, seconds, meter.rate, copy, behind))


# --------------------------------------------------------------------------------------------------------- checkpoints


def _stateful(observers: Sequence[Observer]) -> dict[str, Stateful]:
    """Observers that have a state, by class name."""
    return {type(o).__name__: o for o in observers if isinstance(o, Stateful)}


def _save(run: TrainingRun, observers: Sequence[Observer], folder: Path | None, seconds: float) -> None:
    """Write the states of all processes, on rank 0."""
    if folder is None:
        return
    watching = {name: observer.state() for name, observer in _stateful(observers).items()}
    state = {**run.state(), "observers": watching, "seconds": seconds}
    group = run.execution.group
    if group.world == 1:
        checkpoint.save(folder, state, run.settings.key)
        return
    shards = group.gather(_on_cpu(state))
    if shards is not None:
        checkpoint.save(folder, {"shards": shards}, run.settings.key)
    group.all_reduce(0)  # nobody goes on before it is there


def _restore(run: TrainingRun, observers: Sequence[Observer], folder: Path | None) -> float:
    """Load the checkpoint, if there is one. Returns the seconds of training before it."""
    group, seconds = run.execution.group, 0.0
    state = checkpoint.load(folder, run.settings.key, run.report) if folder else None
    if state is not None:
        shards = state.get("shards", [state])
        if len(shards) != group.world:
            raise SplatError(f"The checkpoint in {folder} was written by {len(shards)} processes: take as many.")
        state = shards[group.rank]
        run.load_state(state)
        for name, observer in _stateful(observers).items():
            if name in state["observers"]:
                observer.load_state(state["observers"][name])
        seconds = float(state["seconds"])
        del state, shards
        release_freed_memory()
        if run.step < run.total:
            run.report.info(f"Going on from step {run.step} of {run.total}.")
    if group.all_reduce(run.step)[0] != group.world * run.step:
        raise SplatError(f"The processes do not all see the same checkpoint in {folder}.")
    return seconds


def _on_cpu(state: Any) -> Any:
    """A copy of nested dictionaries and lists with all tensors on the CPU."""
    if isinstance(state, Tensor):
        return state.cpu()
    if isinstance(state, dict):
        return {k: _on_cpu(v) for k, v in state.items()}
    return [_on_cpu(v) for v in state] if isinstance(state, list) else state
