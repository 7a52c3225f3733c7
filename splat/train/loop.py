"""The training loop. What the methods differ in is carried by phases: targets, losses, density control, hooks."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from splat.core.errors import Interrupted, SplatError
from splat.core.gaussians import Gaussians
from splat.core.order import morton_order
from splat.core.ranks import ALONE, Ranks
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
from splat.native import bindings
from splat.train import checkpoint
from splat.train.density import DensitySettings, NoDensity
from splat.train.distributed import OwnPhotos, batch_rates, everyones, on_cpu, own_rows
from splat.train.parameters import FreeGaussians, LearningRates
from splat.train.progress import Meter, stop_requests
from splat.train.room import Room
from splat.train.rows import Drawn, camera_centre, gradient_of, leaves, summed
from splat.train.schedule import Background, Dropout, OpacityDecay, ShSchedule
from splat.train.view_model import ViewCorrection, ViewModel

Losses = Callable[[Step], tuple[Tensor, dict[str, Any]]]
Hook = Callable[["Trainer"], None]


@runtime_checkable
class Kept(Protocol):
    """What has a state that checkpoints keep."""

    def state(self) -> dict[str, Any]: ...
    def load_state(self, state: dict[str, Any]) -> None: ...


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
    """One that is `Kept` is part of checkpoints."""


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

    LOG_EVERY = 50
    MOST_FAILURES = 50
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
        self.checkpoint_dir, self.log, self.evaluate = checkpoint_dir, log, evaluate
        self.total = sum(p.steps for p in phases)
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
        self.history: list[dict[str, Any]] = []
        self.changes = 0  # by density control
        self.not_counted = 0.0  # seconds of evaluation in this run
        self.seconds, self.failures, self.psnr = 0.0, 0, float("nan")
        self.unread: list[tuple[Tensor, float | Tensor, int | None]] = []
        self.room = Room(settings.raster.capacity)

    @property
    def phase(self) -> Phase:
        return self.phases[self.index]

    @property
    def step(self) -> int:
        """The number of steps done, all phases together."""
        return sum(p.steps for p in self.phases[: max(0, self.index)]) + self.local

    def render(self, item: Item) -> Render:
        """How the scene looks now, without gradient or exposure: for hooks."""
        with torch.no_grad():
            gaussians = self.model.gaussians(self.step)
            background = self.settings.background.colour(False, self.generator).to(self.device)
            settings = replace(self.settings.raster, capacity=None)
            return self.raster(gaussians, item.camera, item.cam_from_world, background, settings)

    # -------------------------------------------------------------------------------------------------------- the run

    def run(self) -> TrainResult:
        self._restore()
        if self.ranks.sums(self.step)[0] != self.ranks.world * self.step:
            raise SplatError(f"The processes do not all see the same checkpoint in {self.checkpoint_dir}.")
        started, offset = time.monotonic(), self.seconds
        saved = started
        meter = Meter(self.step)
        if self.step == 0:
            self._evaluate()
        with stop_requests() as stop:
            while self._advance():
                line = self._one_step()
                self.local += 1
                self.seconds = offset + time.monotonic() - started - self.not_counted
                self._say(line, meter)
                self._evaluate()
                every = self.settings.checkpoint_every
                due = every and self.step % every == 0
                overdue = time.monotonic() - saved > 60 * self.settings.checkpoint_minutes
                overdue, stops = self._agreed(overdue, stop.is_set())
                if due or overdue:
                    self._save()
                    saved = time.monotonic()
                if stops:
                    self._save()
                    raise Interrupted(f"Stopped at step {self.step} of {self.total}; run the same command to go on.")
        self._save()
        gaussians = _drawable(self._everything(self.total)).with_sh_degree(self.init.gaussians.sh_degree)
        moved = self.model.displacement() if isinstance(self.model, FreeGaussians) else None
        displacement = None if moved is None else float(self.ranks.joined(moved).median())
        return TrainResult(gaussians, self.view_model, self.step, self.seconds, self.history, displacement)

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
            self._enter(self.index + 1)
            self.local = 0
            if self.phase.on_start is not None:
                self.phase.on_start(self)
                self.density.forget()
        return True

    def _enter(self, index: int) -> None:
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
        step, progress = self.step, self.step / max(1, self.total)
        gaussians = self.model.gaussians(step)
        items = list(self.phase.source.items(self.local))
        factored = len(items) == 1 and self.ranks.world == 1 and self.model.takes_factored_sh
        raster = replace(self.settings.raster, absgrad=self.density.wants_absgrad(step), factored_sh=factored)
        seen_from: Tensor | None = None
        drawn_of: list[Drawn] = []
        corrections: list[ViewCorrection] = []
        dropout = self.settings.dropout
        line: dict[str, Any] = {}
        waits_for_gpu = bindings.waits(self.device)  # asking for a number would
        for item in items:
            correction = self.view_model.begin(item, progress)
            background = _sent(self.settings.background.colour(item.alpha is not None, self.generator), self.device)
            pose = correction.cam_from_world()
            ids: Tensor | None = None
            if not self.raster.culls(self.device):
                ids = self.raster.visible(gaussians, item.camera, pose.detach(), raster)
            elif dropout.share(progress) > 0:
                ids = torch.arange(len(gaussians), device=self.device)
            if ids is not None:
                ids = dropout.keep(ids, progress, self.generator)
            rows = leaves(gaussians, ids)
            drawn = dropout.compensate(rows, progress)
            render = self.raster(drawn, item.camera, pose, background, replace(raster, capacity=self.room.capacity))
            image, affine = correction.expose(render, background)
            photo = _photo(item, background)
            loss, figures = self.phase.losses(
                Step(step, item, render, image, affine, photo, rows, self.settings.scene_extent)
            )
            if not waits_for_gpu and self.ranks.sums(not math.isfinite(float(loss.detach())))[0]:
                self._skip(item.view_id)
                continue
            loss.backward(torch.full_like(loss, item.loss_weight))
            corrections += everyones(correction, self.ranks)
            with torch.no_grad():
                for camera, share in render.shares or ((item.camera, render),):
                    self.density.after_backward(step, ids, share, camera)
            self._tell(self.room.note(render, item.camera))
            self.unread.append((loss.detach(), figures.get("psnr", math.nan), item.view_id))
            drawn_of.append(Drawn(ids, gradient_of(rows, render), render.radii if ids is None else None))
            if render.sh0_gradient is not None:
                seen_from = camera_centre(pose.detach())
            line = {"loss": loss.detach(), **{k: v for k, v in figures.items() if k != "psnr"}}
        if not waits_for_gpu or len(self.unread) >= self.LOG_EVERY:
            self._read_losses()
        with torch.no_grad():
            for correction in corrections:
                self.view_model.update(correction, progress)
            if drawn_of:
                one = summed(drawn_of)
                self.model.update(step, one.ids, one.gradient, seen_from, one.seen)
            if decay := self.settings.opacity_decay.amount(step, self.total):
                self.model.shift(None, logit_opacities=decay)
            if changed := self.density.after_update(step, self.model, self.generator):
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

    def _read_losses(self) -> None:
        """Losses and PSNRs since the last time: on a GPU reading them means waiting for it, and is done rarely.
        (There a loss without a value is found late; its gradient counts as zero.)"""
        for loss, psnr, view_id in self.unread:
            if not math.isfinite(float(loss)):
                self._skip(view_id)
                continue
            self.failures = 0
            if not math.isnan(db := float(psnr)):
                self.psnr = db if math.isnan(self.psnr) else 0.98 * self.psnr + 0.02 * db
        self.unread.clear()
        self._tell(self.room.read())

    def _tell(self, line: str | None) -> None:
        if line is not None:
            self.report.info(f"step {self.step}: {line}")

    def _skip(self, view_id: int | None) -> None:
        self.failures += 1
        self.report.warn(f"The loss of step {self.step} (view {view_id}) has no finite value: the step is skipped.")
        if self.failures >= self.MOST_FAILURES:
            raise SplatError(
                f"The loss has had no finite value for {self.failures} steps (now step {self.step}): "
                "lower the learning rates, or check the photos and poses."
            )

    # ------------------------------------------------------------------------------------------------ telling, keeping

    def _say(self, line: dict[str, Any], meter: Meter) -> None:
        step, last = self.step, self.step == self.total
        due = meter.due(step) or last
        logs = step % self.LOG_EVERY == 0 or last or "density" in line
        if due or logs:
            self._read_losses()
            line = {k: float(v) if isinstance(v, Tensor) else v for k, v in line.items()}
        count = len(self.model.gaussians(step)) if self.ranks.world == 1 else self.count_of_all
        if due:
            self.report.progress(
                step, self.total, loss=line.get("loss", math.nan), psnr=self.psnr, gaussians=count, rate=meter.rate
            )
        if logs:
            psnr = {} if math.isnan(self.psnr) else {"psnr": self.psnr}
            head = {"step": step, "phase": self.phase.name, **psnr, "gaussians": count}
            self._log({**head, **line, "seconds": round(self.seconds, 3), "steps_per_second": round(meter.rate, 2)})

    def _evaluate(self) -> None:
        """Where it was asked for."""
        step = self.step
        if step not in self.settings.evaluate_at:
            return
        started = time.monotonic()
        with torch.no_grad():
            gaussians = self._everything(step)  # of all processes, so all of them ask
            figures = self.evaluate(step, _drawable(gaussians)) if self.evaluate is not None else None
        self.not_counted += time.monotonic() - started
        if figures is not None:
            seconds = round(self.seconds, 3)
            self._log({"step": step, "evaluation": figures, "gaussians": len(gaussians), "seconds": seconds})

    def _log(self, line: dict[str, Any]) -> None:
        self.history.append(line)
        if self.log is not None:
            self.log(line)

    def _save(self) -> None:
        if self.checkpoint_dir is None:
            return
        self._read_losses()
        state = {
            "phase": self.index,
            "local": self.local,
            "model": self.model.state(),
            "density": self.density.state() if self.index >= 0 else {},
            "source": self.phase.source.state(),
            "round": self.phase.on_round.state() if isinstance(self.phase.on_round, Kept) else {},
            "view_model": self.view_model.state(),
            "generator": self.generator.get_state(),
            "history": self.history,
            "seconds": self.seconds,
            "changes": self.changes,
            "failures": self.failures,
            "psnr": self.psnr,
            "capacity": self.room.capacity,
        }
        if self.ranks.world > 1:
            shards = self.ranks.collected(on_cpu(state))
            if shards is None:
                return
            state = {"shards": shards}
        checkpoint.save(self.checkpoint_dir, state, self.settings.key)

    def _restore(self) -> None:
        state = checkpoint.load(self.checkpoint_dir, self.settings.key) if self.checkpoint_dir else None
        if state is None:
            return
        shards = state.get("shards", [state])
        if len(shards) != self.ranks.world:
            raise SplatError(
                f"The checkpoint in {self.checkpoint_dir} was written by {len(shards)} processes: take as many."
            )
        state = shards[self.ranks.rank]
        if state["phase"] >= len(self.phases):
            raise SplatError(f"The checkpoint in {self.checkpoint_dir} has more phases than this method: delete it.")
        for index in range(state["phase"] + 1):
            self._enter(index)
        self.local = state["local"]
        self.model.load_state(state["model"])
        self.density.load_state(state["density"])
        self.phase.source.load_state(state["source"])
        if isinstance(self.phase.on_round, Kept):
            self.phase.on_round.load_state(state["round"])
        self.view_model.load_state(state["view_model"])
        self.generator.set_state(state["generator"])
        self.history, self.seconds = state["history"], state["seconds"]
        self.changes, self.failures, self.psnr = state["changes"], state["failures"], state["psnr"]
        if self.room.capacity is not None:
            self.room.capacity = max(self.room.capacity, state.get("capacity") or 0)
        if self.step < self.total:
            self.report.info(f"Going on from step {self.step} of {self.total}.")


def _drawable(gaussians: Gaussians) -> Gaussians:
    """A copy without the rows that no rasterizer draws: fainter than 1/255, or with a value that is not finite."""
    finite = torch.stack([t.isfinite().reshape(len(gaussians), -1).all(1) for t in vars(gaussians).values()]).all(0)
    return gaussians[finite & (gaussians.opacities >= 1 / 255)]


def _photo(item: Item, background: Float[Tensor, "3"]) -> Tensor:
    """The photo as it is, or as floats over the step's background where it has alpha."""
    if item.alpha is None:
        return item.rgb
    target = item.rgb.float().div_(255)
    alpha = item.alpha.float()[..., None] / 255
    return target * alpha + background * (1 - alpha)


def _sent(small: Tensor, device: torch.device) -> Tensor:
    """A few numbers made here, on their way to a device that is not waited for."""
    return small if device.type != "cuda" else small.pin_memory().to(device, non_blocking=True)
