"""One training run, step by step: phases in their order, and all state that a checkpoint keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from splat.core import devices
from splat.core.errors import SplatError
from splat.core.gaussians import Gaussians
from splat.core.slots import (
    DensityControl,
    Hook,
    Init,
    Item,
    Parameterization,
    Phase,
    Rasterizer,
    Render,
    Reporter,
    Round,
    Stateful,
)
from splat.geometry.morton import morton_order
from splat.train.execution import Execution
from splat.train.loss_monitor import LossMonitor
from splat.train.models.free import FreeGaussians
from splat.train.models.view_model import ViewModel
from splat.train.step import StepState


@dataclass(frozen=True)
class TrainSettings:
    """What is not a phase's."""

    scene_extent: float = 1.0
    """Length that position learning rates are relative to, in world units: see `views.scene_extent`."""
    seed: int = 0
    checkpoint_minutes: float = 3.0
    """Minutes between checkpoints."""
    checkpoint_every: int = 0
    """Also after every so many steps; 0 = by the clock alone."""
    key: str = ""
    """Says which settings and inputs a checkpoint belongs to (the number of steps left out)."""
    track_displacement: bool = False
    """Remember where each Gaussian's first ancestor started: see `TrainResult.displacement`."""


class TrainingRun:
    """Does one step after the other. `train.loop.train` adds what is around it: checkpoints, observers, signals."""

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
        execution: Execution,
    ) -> None:
        if len(init.gaussians) == 0:
            raise SplatError("There is nothing to train: the initializer made no Gaussians; try another --method.")
        init, self.phases = execution.shard(init, phases)
        self.raster, self.view_model, self.settings, self.report = raster, view_model, settings, report
        self.execution = execution
        self.device = init.gaussians.means.device
        self.sh_degree = init.gaussians.sh_degree
        """Of the finished scene; on the way harmonics are used as far as schedules have come."""
        self.total = sum(p.steps for p in phases)
        self.generator = torch.Generator().manual_seed(settings.seed + 7919 * execution.group.rank)
        self.model: Parameterization = FreeGaussians(init.gaussians)
        if settings.track_displacement:
            self.model.track_displacement()
        view_model.prepare(self.total * execution.group.world)
        self.density: DensityControl
        self.losses = LossMonitor(report)
        self.phase_index, self.phase_step = -1, 0
        self.density_changes = 0

    @property
    def phase(self) -> Phase:
        return self.phases[self.phase_index]

    @property
    def step(self) -> int:
        """The number of steps done, all phases together."""
        return sum(p.steps for p in self.phases[: max(0, self.phase_index)]) + self.phase_step

    # -------------------------------------------------------------------------------------------------------- phases

    def advance(self) -> bool:
        """Make sure there is a step to do, entering the next phase when one has ended. False: all is done."""
        while self.phase_index < 0 or self.phase_step >= self.phase.steps:
            if self.phase_index + 1 == len(self.phases):
                return False
            self._enter(self.phase_index + 1)
            self.phase_step = 0
            self._call(self.phase.on_start)
        return True

    def _enter(self, index: int) -> None:
        """Set up a phase's model and density control; also on the way to a checkpoint inside a later phase."""
        self.phase_index = index
        if self.phase.parameterize is not None:
            self.model = self.phase.parameterize(self.model)
        self.density = self.phase.density(self.phase.steps, self.settings.scene_extent)

    def _call(self, hook: Hook | None) -> None:
        if hook is not None:
            hook(Round(self.step, self.phase_step, self.model, self._draw, self.report))
            self.density.reset_statistics()

    def _draw(self, item: Item) -> Render:
        """How the scene looks now, without gradient, exposure or dropout."""
        phase = self.phase
        with torch.no_grad():
            background = phase.schedules.background.colour(False, self.generator).to(self.device)
            gaussians = self.model.gaussians()
            return self.raster(gaussians, item.camera, item.cam_from_world, background, phase.raster)

    # ---------------------------------------------------------------------------------------------------------- steps

    def do_step(self) -> dict[str, Any]:
        """Draw the step's items, move what their gradients say, and let density control work. Returns figures for the
        log; `advance` says whether there is a step to do."""
        state = self._step_state()
        items = list(self.phase.source.items(self.phase_step, self.phase.steps))
        result = self.execution.step(state, items)
        self.losses.add(result, state.number)
        if not devices.is_asynchronous(self.device) or self.losses.overdue:
            self.losses.read(state.number)
        line = result.figures
        with torch.no_grad():
            if not result.replayed:
                changed = self.density.after_update(self.phase_step, self.model, state.rates.means, self.generator)
                if changed:
                    line["density"] = changed
                    self._arrange()
        self.phase_step += 1
        if self.phase.round_every and self.phase_step % self.phase.round_every == 0:
            self._call(self.phase.on_round)
        return line

    def _step_state(self) -> StepState:
        """The record of the step at hand, for which the model has the harmonics that the phase wants."""
        step, phase = self.step, self.phase
        state = StepState(
            number=step,
            phase=phase,
            phase_step=self.phase_step,
            run_progress=step / max(1, self.total),
            model=self.model,
            view_model=self.view_model,
            density=self.density,
            raster=self.raster,
            scene_extent=self.settings.scene_extent,
            generator=self.generator,
            device=self.device,
            exchange=self.execution.exchange,
            capacity=self.execution.capacity,
        )
        self.model.use_sh_degree(phase.schedules.sh.degree(state.progress, self.sh_degree))
        return state

    def _arrange(self) -> None:
        """Now and then put the rows in an order in which what one photo sees lies together in memory: gathering and
        moving 60,000 rows strewn among 600,000 takes three times as long as 60,000 that follow one another."""
        if self.density_changes % self.ARRANGE_EVERY == 0:
            self.model.rearrange(morton_order(self.model.gaussians().means))
            self.density.reset_statistics()
        self.density_changes += 1

    def read_losses(self) -> float:
        """Those of the steps since the last time; waits for a GPU. Returns the running PSNR (dB; NaN: none)."""
        self.losses.read(self.step)
        return self.losses.psnr

    # ------------------------------------------------------------------------------------------------------ the scene

    def gaussians(self) -> Gaussians:
        """Those of all processes, at the degree of the finished scene."""
        mine = self.model.gaussians().with_sh_degree(self.sh_degree)
        return mine if self.execution.group.world == 1 else mine.map(self.execution.group.all_gather_rows)

    def median_displacement(self) -> float | None:
        """World units; None where nobody remembers where Gaussians started."""
        moved = self.model.displacement()
        return None if moved is None else float(self.execution.group.all_gather_rows(moved).median())

    # -------------------------------------------------------------------------------------------------------- keeping

    def state(self) -> dict[str, Any]:
        """Between two steps, once there was a phase."""
        self.read_losses()
        return {
            "phase": self.phase_index,
            "phase_step": self.phase_step,
            "model": self.model.state(),
            "density": self.density.state(),
            "source": self.phase.source.state(),
            "hooks": {name: hook.state() for name, hook in self._stateful_hooks().items()},
            "view_model": self.view_model.state(),
            "generator": self.generator.get_state(),
            "density_changes": self.density_changes,
            "losses": self.losses.state(),
            "execution": self.execution.state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Raises SplatError where the phases cannot be those of the state."""
        if state["phase"] >= len(self.phases):
            raise SplatError("The checkpoint has more phases than this method: delete its folder to train again.")
        for index in range(state["phase"] + 1):
            self._enter(index)
        self.phase_step = state["phase_step"]
        self.model.load_state(state["model"])
        self.density.load_state(state["density"])
        self.phase.source.load_state(state["source"])
        for name, hook in self._stateful_hooks().items():
            hook.load_state(state["hooks"][name])
        self.view_model.load_state(state["view_model"])
        self.generator.set_state(state["generator"])
        self.density_changes = state["density_changes"]
        self.losses.load_state(state["losses"])
        self.execution.load_state(state["execution"])

    def _stateful_hooks(self) -> dict[str, Stateful]:
        """Those of the phase that have a state; one that is called on both occasions counts once."""
        found: dict[str, Stateful] = {}
        for name in ("on_round", "on_start"):
            hook = getattr(self.phase, name)
            if isinstance(hook, Stateful) and not any(hook is other for other in found.values()):
                found[name] = hook
        return found
