"""A training run, step by step: its phases, and all state that is part of checkpoints."""

from __future__ import annotations

import copy
from collections.abc import Callable
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
    Silent,
    Stateful,
)
from splat.geometry.morton import morton_order
from splat.native.build import release_freed_memory
from splat.train.execution import Execution
from splat.train.loss_monitor import LossMonitor
from splat.train.models.free import FreeGaussians
from splat.train.models.view_model import ViewModel
from splat.train.step import StepState, drawn_camera, pooled
from splat.train.surroundings import over_surroundings


@dataclass(frozen=True)
class TrainSettings:
    """Settings of a run that no phase has."""

    scene_extent: float = 1.0
    """Unit of position learning rates, in world units: see `views.scene_extent`."""
    seed: int = 0
    checkpoint_minutes: float = 3.0
    """Minutes between checkpoints."""
    checkpoint_every: int = 0
    """Also write one after every so many steps; 0 = by time alone."""
    key: str = ""
    """Identifies the settings and inputs that a checkpoint belongs to (without the number of steps)."""
    track_displacement: bool = False
    """Record where each Gaussian's first ancestor started: see `TrainResult.displacement`."""


class TrainingRun:
    """Does the steps of a run. `train.loop.train` adds checkpoints, observers and signals."""

    ARRANGE_EVERY = 8
    """Edits by density control between two sorts of the rows (`_arrange`). Each edit appends rows that are sorted among
    themselves, so a few edits cost little locality."""

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
        self.init, self.phases = execution.shard(init, phases)
        init = self.init
        self.raster, self.view_model, self.settings, self.report = raster, view_model, settings, report
        self.execution = execution
        self.device = init.gaussians.means.device
        self.sh_degree = init.gaussians.sh_degree
        """SH degree of the result. During training the degree in use follows the schedules."""
        self.total = sum(p.steps for p in phases)
        self.generator = torch.Generator().manual_seed(settings.seed + 7919 * execution.group.rank)
        self.model: Parameterization = FreeGaussians(init.gaussians)
        if settings.track_displacement:
            self.model.track_displacement()
        view_model.prepare(self.total * execution.group.world)
        self.density: DensityControl
        self.beyond: Gaussians | None = None
        """This process's part of the surroundings of the phase."""
        self.losses = LossMonitor(report)
        self.phase_index, self.phase_step = -1, 0
        self.density_changes = 0

    @property
    def phase(self) -> Phase:
        return self.phases[self.phase_index]

    @property
    def surroundings(self) -> Gaussians | None:
        """What is behind the scene in this phase, all of it."""
        found = self.phase.surroundings if self.phase_index >= 0 else None
        return None if found is None else found.gaussians.to(self.device)

    @property
    def step(self) -> int:
        """Number of steps done, over all phases."""
        return sum(p.steps for p in self.phases[: max(0, self.phase_index)]) + self.phase_step

    # -------------------------------------------------------------------------------------------------------- phases

    def advance(self) -> bool:
        """Enter the next phase if the current one has ended. Returns whether there is a step to do."""
        while self.phase_index < 0 or self.phase_step >= self.phase.steps:
            if self.phase_index + 1 == len(self.phases):
                return False
            self._enter(self.phase_index + 1)
            self.phase_step = 0
            self._call(self.phase.on_start)
        return True

    def _enter(self, index: int) -> None:
        """Set up a phase's model and density control. Also called for the phases before that of a checkpoint."""
        self.phase_index = index
        if self.phase.parameterize is not None:
            self.model = self.phase.parameterize(self.model, self.init)
        self.density = self.phase.density(self.phase.steps, self.settings.scene_extent)
        whole = self.surroundings
        self.beyond = None if whole is None else whole[self.execution.group.rank :: self.execution.group.world]

    def _call(self, hook: Hook | None) -> None:
        if hook is not None:
            apart = self._train_apart if self.execution.group.world == 1 else None
            hook(Round(self.step, self.phase_step, self.model, self._draw, self.report, apart))
            if getattr(hook, "edits_rows", True):
                self.density.reset_statistics()

    def _draw(self, item: Item) -> Render:
        """Render the current scene, without gradient, exposure and dropout."""
        phase = self.phase
        with torch.no_grad():
            background = phase.schedules.background.colour(False, self.generator).to(self.device)
            gaussians = self.model.gaussians()
            render = self.raster(gaussians, drawn_camera(item), item.cam_from_world, background, phase.raster)
            seen = pooled(render, item.supersample)
            view = item.camera, item.cam_from_world, background
            return over_surroundings(seen, self.beyond, *view, self.raster, phase.raster)

    def _train_apart(self, init: Init, phase: Phase) -> Callable[[Item], Render]:
        """Train other Gaussians from the corrections of photos as they are; returns what draws them."""
        views = copy.deepcopy(self.view_model)
        run = TrainingRun(init, (phase,), self.raster, views, self.settings, Silent(), Execution())
        while run.advance():
            run.do_step()
        return run._draw

    # ---------------------------------------------------------------------------------------------------------- steps

    def do_step(self) -> dict[str, Any]:
        """Render the items, update the parameters and run density control. Returns values for the log. Call `advance`
        first."""
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
                    release_freed_memory()  # of rows that moved; steps need less
        self.phase_step += 1
        if self.phase.round_every and self.phase_step % self.phase.round_every == 0:
            self._call(self.phase.on_round)
        return line

    def _step_state(self) -> StepState:
        """The `StepState` of the current step. Raises the SH degree of the model to that of the schedule."""
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
            beyond=self.beyond,
        )
        self.model.use_sh_degree(phase.schedules.sh.degree(state.progress, self.sh_degree))
        return state

    def _arrange(self) -> None:
        """Sort the rows in Morton order now and then, so that rows that one photo sees are close in memory: gathering
        and updating 60,000 rows scattered among 600,000 takes three times as long as 60,000 consecutive ones."""
        if self.density_changes % self.ARRANGE_EVERY == 0:
            self.model.rearrange(morton_order(self.model.gaussians().means))
            self.density.reset_statistics()
        self.density_changes += 1

    def read_losses(self) -> float:
        """Read the losses since the last call; blocks on a GPU. Returns the running PSNR (dB; NaN: none)."""
        self.losses.read(self.step)
        return self.losses.psnr

    # ------------------------------------------------------------------------------------------------------ the scene

    def gaussians(self) -> Gaussians:
        """The Gaussians of all processes, at the final SH degree."""
        mine = self.model.gaussians().with_sh_degree(self.sh_degree)
        return mine if self.execution.group.world == 1 else mine.map(self.execution.group.all_gather_rows)

    def median_displacement(self) -> float | None:
        """In world units; None if not recorded."""
        moved = self.model.displacement()
        return None if moved is None else float(self.execution.group.all_gather_rows(moved).median())

    # -------------------------------------------------------------------------------------------------------- keeping

    def state(self) -> dict[str, Any]:
        """State for checkpoints, between two steps, once a phase has been entered."""
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
        """Raises SplatError if the state cannot belong to these phases."""
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
        """The hooks of the phase that have a state. A hook that is used for both events is listed once."""
        found: dict[str, Stateful] = {}
        for name in ("on_round", "on_start"):
            hook = getattr(self.phase, name)
            if isinstance(hook, Stateful) and not any(hook is other for other in found.values()):
                found[name] = hook
        return found
