"""The training loop. What the methods differ in is carried by phases: targets, losses, density control, hooks."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from splat.core.errors import Interrupted, SplatError
from splat.core.gaussians import Gaussians
from splat.core.ranks import ALONE, Ranks
from splat.core.schedules import Background, Dropout, LearningRates, OpacityDecay, ShSchedule
from splat.core.slots import (
    Init,
    Item,
    Parameterization,
    Rasterizer,
    RasterSettings,
    Render,
    Reporter,
    Silent,
    Step,
    TargetSource,
)
from splat.geometry.morton import morton_order
from splat.native import bindings
from splat.train.density import DensitySettings, NoDensity
from splat.train.distributed import OwnPhotos, batch_rates, own_rows
from splat.train.graph import Mode, Replays
from splat.train.parameters import FreeGaussians
from splat.train.progress import Meter, stop_requests
from splat.train.resume import restore, save
from splat.train.room import Room
from splat.train.step import eager_step
from splat.train.telling import Stopwatch, Telling, drawable
from splat.train.view_model import ViewModel

Losses = Callable[[Step], tuple[Tensor, dict[str, Any]]]
Hook = Callable[["Trainer"], None]


@dataclass(frozen=True, eq=False)
class Phase:
    """A stretch of training with its own targets, losses and density control."""

    steps: int
    source: TargetSource
    """Asked once per step, with the step counted from the phase's start."""
    losses: Losses
    """(total to minimize, figures for the log; "psnr" among them is shown while training runs)."""
    density: DensitySettings = field(default_factory=NoDensity)
    lr_scale: float = 1.0
    """Multiplies every learning rate of the Gaussians."""
    name: str = "train"
    parameterize: Callable[[Trainer, Parameterization], Parameterization] | None = None
    """Turns the model of the phase before (at first: free Gaussians) into this phase's. Called when the phase starts
    and again before a checkpoint of it is loaded."""
    on_start: Hook | None = None
    """Called once, before the phase's first step; not when resuming inside it."""
    round_every: int = 0
    """Steps between two calls of `on_round`; 0 = never."""
    on_round: Hook | None = None
    """One that is `resume.Kept` is part of checkpoints."""


@dataclass(frozen=True)
class TrainSettings:
    """How to train, whatever the method."""

    scene_extent: float = 1.0
    """Length that position learning rates are relative to, in world units: see `views.scene_extent`."""
    seed: int = 0
    raster: RasterSettings = field(default_factory=RasterSettings)
    rates: LearningRates = field(default_factory=LearningRates)
    sh: ShSchedule = field(default_factory=ShSchedule)
    opacity_decay: OpacityDecay = field(default_factory=OpacityDecay)
    dropout: Dropout = field(default_factory=Dropout)
    graph: Mode = "auto"
    """Whether a GPU records steps and replays them (see `graph`): auto where it can."""
    background: Background = field(default_factory=Background)
    evaluate_at: tuple[int, ...] = ()
    """Steps after which to evaluate, 0 before the first; the time it takes does not count."""
    checkpoint_minutes: float = 3.0
    """Minutes between checkpoints."""
    checkpoint_every: int = 0
    """Also after every so many steps; 0 = by the clock alone."""
    key: str = ""
    """Says which settings and inputs a checkpoint belongs to (the number of steps left out)."""


@dataclass(frozen=True, eq=False)
class TrainResult:
    """What training made."""

    gaussians: Gaussians
    view_model: ViewModel
    steps: int
    seconds: float
    """Of training alone, summed over resumed runs."""
    history: list[dict[str, Any]]
    """The lines of the log."""
    displacement: float | None = None
    """Median over the Gaussians of how far each is from where the first of its ancestors started, world units; only
    where `evaluate_at` asked and the parameterization can say."""


def train(
    init: Init,
    phases: tuple[Phase, ...],
    raster: Rasterizer,
    view_model: ViewModel,
    settings: TrainSettings,
    report: Reporter,
    checkpoint_dir: Path | None = None,
    log: Callable[[dict[str, Any]], None] | None = None,
    evaluate: Callable[[int, Gaussians], dict[str, Any]] | None = None,
    ranks: Ranks = ALONE,
) -> TrainResult:
    """Optimize `init` through all phases, from the checkpoint in `checkpoint_dir` where there is one.

    Several processes each give the same arguments and a rasterizer that draws for all of them; each step then takes a
    photo for each (see `train.distributed`), and all get the same Gaussians back. Rank 0 reports, logs and saves.

    On the CPU the result does not depend, bit for bit, on where it was interrupted or when checkpoints were written.
    Phases that are longer than when the checkpoint was written are continued. `log` gets a JSON-able dict every
    50 steps; `evaluate` gets the step and the Gaussians at `settings.evaluate_at`, and its figures are logged.

    Raises Interrupted after SIGINT or SIGTERM, with everything saved; SplatError when the loss stays without a value.
    """
    trainer = Trainer(init, phases, raster, view_model, settings, report, checkpoint_dir, log, evaluate, ranks)
    return trainer.run()


class Trainer:
    """One run of `train`. Hooks get it, and may read and edit `model`, `view_model` and their phase's source."""

    ASK_EVERY = 10
    """Steps between two times that several processes ask each other whether to save or to stop."""
    ARRANGE_EVERY = 8
    """Changes by density control between two arrangements of the rows. Each change adds rows that are in order among
    themselves, so that a few of them break what a photo sees into no more than a few stretches."""

    def __init__(
        self,
        init: Init,
        phases: tuple[Phase, ...],
        raster: Rasterizer,
        view_model: ViewModel,
        settings: TrainSettings,
        report: Reporter,
        checkpoint_dir: Path | None,
        log: Callable[[dict[str, Any]], None] | None,
        evaluate: Callable[[int, Gaussians], dict[str, Any]] | None,
        ranks: Ranks = ALONE,
    ) -> None:
        if len(init.gaussians) == 0:
            raise SplatError("There is nothing to train: the initializer made no Gaussians; try another --method.")
        if ranks.world > 1:
            init = own_rows(init, ranks)
            phases = tuple(replace(p, source=OwnPhotos(p.source, ranks)) for p in phases)
            report, log = (report, log) if ranks.rank == 0 else (Silent(), None)
        self.init, self.phases, self.raster, self.view_model = init, phases, raster, view_model
        self.settings, self.report, self.ranks = settings, report, ranks
        self.checkpoint_dir, self.evaluate = checkpoint_dir, evaluate
        self.total = sum(p.steps for p in phases)
        self.telling = Telling(report, log, self.total)
        self.device = init.gaussians.means.device
        self.generator = torch.Generator().manual_seed(settings.seed + 7919 * ranks.rank)
        rates = batch_rates(settings.rates, ranks.world)
        free = FreeGaussians(init.gaussians, rates, self.total, settings.scene_extent, settings.sh)
        if settings.evaluate_at:
            free.follow()
        self.model: Parameterization = free
        self.count_of_all = ranks.world * len(init.gaussians)  # when they last asked each other
        view_model.prepare(self.total * ranks.world)
        self.index, self.local = -1, 0  # phase, and step within it
        self.changes = 0  # by density control
        self.room = Room(settings.raster.capacity, self.device)
        self.replays = Replays(self, settings.graph)

    @property
    def phase(self) -> Phase:
        return self.phases[self.index]

    @property
    def step(self) -> int:
        """The number of steps done, all phases together."""
        return sum(p.steps for p in self.phases[: max(0, self.index)]) + self.local

    @property
    def progress(self) -> float:
        """The fraction of the steps done."""
        return self.step / max(1, self.total)

    def render(self, item: Item) -> Render:
        """How the scene looks now, without gradient or exposure: for hooks."""
        with torch.no_grad():
            gaussians = self.model.gaussians(self.step)
            background = self.settings.background.colour(False, self.generator).to(self.device)
            settings = replace(self.settings.raster, capacity=None)
            return self.raster(gaussians, item.camera, item.cam_from_world, background, settings)

    # -------------------------------------------------------------------------------------------------------- the run

    def run(self) -> TrainResult:
        restore(self)
        if self.ranks.sums(self.step)[0] != self.ranks.world * self.step:
            raise SplatError(f"The processes do not all see the same checkpoint in {self.checkpoint_dir}.")
        watch, saved = Stopwatch(self.telling.seconds), time.monotonic()
        meter = Meter(self.step)
        if self.step == 0:
            self._evaluate(watch)
        with stop_requests() as stop:
            while self._advance():
                line = self._one_step()
                self.local += 1
                self.telling.seconds = watch.seconds()
                self._say(line, meter)
                self._evaluate(watch)
                every = self.settings.checkpoint_every
                due = every and self.step % every == 0
                overdue = time.monotonic() - saved > 60 * self.settings.checkpoint_minutes
                overdue, stops = self._agreed(overdue, stop.is_set())
                if due or overdue:
                    save(self)
                    saved = time.monotonic()
                if stops:
                    save(self)
                    raise Interrupted(f"Stopped at step {self.step} of {self.total}; run the same command to go on.")
        save(self)
        gaussians = drawable(self._everything(self.total)).with_sh_degree(self.init.gaussians.sh_degree)
        moved = self.model.displacement() if isinstance(self.model, FreeGaussians) else None
        displacement = None if moved is None else float(self.ranks.joined(moved).median())
        seconds, history = self.telling.seconds, self.telling.history
        return TrainResult(gaussians, self.view_model, self.step, seconds, history, displacement)

    def _agreed(self, overdue: bool, stops: bool) -> tuple[bool, bool]:
        """Whether anyone finds a checkpoint overdue, and whether anyone was asked to stop."""
        if self.ranks.world == 1:
            return overdue, stops
        if self.step % self.ASK_EVERY:
            return False, False
        counted = self.ranks.sums(overdue, stops, len(self.model.gaussians(self.step)))
        self.count_of_all = int(counted[2])
        return counted[0] > 0, counted[1] > 0

    def _everything(self, step: int) -> Gaussians:
        """The Gaussians of all processes."""
        mine = self.model.gaussians(step)
        if self.ranks.world == 1:
            return mine
        return mine.with_sh_degree(self.init.gaussians.sh_degree).map(self.ranks.joined)

    def _advance(self) -> bool:
        """Make sure there is a step to do, entering the next phase when one has ended."""
        while self.index < 0 or self.local >= self.phase.steps:
            if self.index + 1 == len(self.phases):
                return False
            self.enter(self.index + 1)
            self.local = 0
            if self.phase.on_start is not None:
                self.phase.on_start(self)
                self.density.forget()
        return True

    def enter(self, index: int) -> None:
        """Set up a phase's model and density control; also on the way to a checkpoint inside a later phase."""
        self.index = index
        if self.phase.parameterize is not None:
            self.model = self.phase.parameterize(self, self.model)
        self.model.lr_scale = self.phase.lr_scale
        first_step = sum(p.steps for p in self.phases[:index])
        self.density = self.phase.density(first_step, self.phase.steps, self.settings.scene_extent)

    # -------------------------------------------------------------------------------------------------------- one step

    def _one_step(self) -> dict[str, Any]:
        """Draw the step's items, and move what they pull at. Returns figures for the log."""
        step, items = self.step, list(self.phase.source.items(self.local))
        line = self.replays.step(items)
        replayed = line is not None
        if line is None:
            line = eager_step(self, items)
        if not bindings.waits(self.device) or self.telling.overdue:
            self.read_losses()
        with torch.no_grad():
            if not replayed and (changed := self.density.after_update(step, self.model, self.generator)):
                line["density"] = changed
                self._arrange()
            if self.phase.round_every and (self.local + 1) % self.phase.round_every == 0 and self.phase.on_round:
                self.phase.on_round(self)
                self.density.forget()
        return line

    def _arrange(self) -> None:
        """Now and then put the rows in an order in which what one photo sees lies together in memory: gathering and
        moving 60,000 rows strewn among 600,000 takes three times as long as 60,000 that follow one another."""
        if self.changes % self.ARRANGE_EVERY == 0:
            self.model.rearrange(morton_order(self.model.gaussians(self.step).means))
            self.density.forget()
        self.changes += 1

    def read_losses(self) -> None:
        """Those of the steps since the last time, and what there was no room for: where there is a GPU, it is waited
        for."""
        self.telling.read(self.step)
        self.tell(self.room.read())

    def tell(self, line: str | None) -> None:
        if line is not None:
            self.report.info(f"step {self.step}: {line}")

    def _say(self, line: dict[str, Any], meter: Meter) -> None:
        step, due = self.step, meter.due(self.step) or self.step == self.total
        if due or self.telling.logs(step, line):
            self.read_losses()
            count = len(self.model.gaussians(step)) if self.ranks.world == 1 else self.count_of_all
            self.telling.say(step, self.phase.name, line, count, meter, due)

    def _evaluate(self, watch: Stopwatch) -> None:
        """Where it was asked for."""
        if self.step in self.settings.evaluate_at:
            with watch.paused(), torch.no_grad():
                gaussians = self._everything(self.step)  # of all processes, so all of them ask
                self.telling.evaluate(self.step, gaussians, self.evaluate)
