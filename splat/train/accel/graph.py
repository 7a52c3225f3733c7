"""Capture of training steps in CUDA graphs, and their replay, which saves the time of kernel launches.

A graph repeats the same kernels on the same memory. Values that change from step to step are in memory that is filled
before each replay: the photo, its pose, and a row of numbers (camera, background, learning rates, ...). When anything
else changes (the number of Gaussians, their addresses, the size of the photo, the capacity of pairs, which loss terms
are due, ...), another graph is captured. Steps in which density control changes rows are never replayed.
"""

from __future__ import annotations

import gc
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from splat.core import devices
from splat.core.camera import Camera
from splat.core.devices import to_device
from splat.core.schedules import StepSizes
from splat.core.slots import Item, Reporter, RowGradients
from splat.train.accel.pair_capacity import PairCapacity
from splat.train.step import StepResult, StepState, background_of, draw_item, optimizer_step

Mode = Literal["auto", "on", "off"]


@runtime_checkable
class Recording(Protocol):
    """Captured work."""

    def replay(self) -> None: ...


@runtime_checkable
class Recorder(Protocol):
    """Captures the work of a function on a device."""

    def record(self, work: Callable[[], None], generators: Sequence[torch.Generator]) -> Recording:
        """Capture `work`. `generators`: the random generators that it uses."""
        ...


@runtime_checkable
class ReplayableModel(Protocol):
    """A parameterization whose updates can be captured. `FreeGaussians` documents the methods."""

    def places(self) -> tuple[Any, ...]: ...
    def moves_harmonics_next(self, rates: StepSizes) -> bool: ...
    def count_update(self) -> None: ...
    def adam_constants(self, rates: StepSizes) -> list[float]: ...
    def apply(self, gradient: RowGradients, rates: StepSizes, constants: Tensor) -> None: ...


class CudaRecorder:
    """Captures CUDA graphs that share their memory: they never run at the same time, and leave no results in it.

    Unlike `torch.cuda.graph` it does not collect garbage and empty the memory cache at every capture: captures are
    frequent here, as the number of Gaussians changes.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()

    def record(self, work: Callable[[], None], generators: Sequence[torch.Generator]) -> Recording:
        graph = torch.cuda.CUDAGraph()
        for generator in generators:
            graph.register_generator_state(generator)
        torch.cuda.synchronize(self.device)
        with _no_garbage(), torch.cuda.stream(self.stream):
            # of this thread: another one, which shows or loads something, is not in the way
            graph.capture_begin(pool=self.pool, capture_error_mode="thread_local")
            try:
                work()
            finally:
                graph.capture_end()
        return graph


@contextmanager
def _no_garbage() -> Iterator[None]:
    """Disables garbage collection, which may free memory and thereby abort the capture."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


class Replays:
    """The captured graphs of a run, made on demand."""

    WARM_UP = 2
    """Number of eager steps of a kind before its capture, in which kernels and libraries are loaded. (They run on the
    current stream: leaves of autograd are new in every step, and a second stream would need more memory.)"""
    MAX_KINDS = 8
    """Maximum number of graphs that are kept: photos of several sizes, with and without periodic work."""

    def __init__(
        self,
        device: torch.device,
        mode: Mode,
        report: Reporter,
        pairs: PairCapacity,
        recorder: Recorder | None = None,
    ) -> None:
        self.device, self.mode, self.report, self.pairs, self.recorder = device, mode, report, pairs, recorder
        if mode != "off" and recorder is None and device.type == "cuda":
            self.recorder = CudaRecorder(device)
        self.shared: tuple[Any, ...] = ()
        self.kinds: OrderedDict[tuple[Any, ...], _Kind] = OrderedDict()
        self.outdated: list[_Kind] = []
        """Kept until the next capture, which reuses their memory."""
        self.replayed = 0
        """Number of replayed steps."""
        self.reported: set[str] = set()
        self.failed = False

    def step(self, s: StepState, items: Sequence[Item]) -> StepResult | None:
        """Do the step with these items. Returns None, and does nothing, if it must be done by `eager_step`."""
        if self.mode == "off" or self.failed:
            return None
        unasked, reason = self._obstacle(s, items)
        model = s.model
        if reason or not isinstance(model, ReplayableModel):
            reason = reason or "this model may ask for numbers in between"
            if (unasked or self.mode == "on") and reason not in self.reported:
                self.reported.add(reason)
                self.report.info(f"Steps are not recorded as a CUDA graph: {reason}.")
            return None
        item = items[0]
        s.density.prepare_replay(s.phase_step, len(s.model), s.device)
        if s.density.changes_rows(s.phase_step):
            return None
        shared, own = self._shared(s, model), self._own(s, model, item)
        if shared != self.shared:
            self.outdated += [kind for kind in self.kinds.values() if kind.recording is not None]
            self.kinds.clear()
            self.shared = shared
        numbers = _begin(s, model, item)
        kind = self.kinds.get(own)
        if kind is None:
            kind = self.kinds[own] = _Kind(s, model, _Inputs(item, numbers, s.device), self.pairs)
            if len(self.kinds) > self.MAX_KINDS:
                self.kinds.popitem(last=False)
        self.kinds.move_to_end(own)
        kind.inputs.fill(item, numbers)
        self._work(kind)
        result = StepResult(replayed=True)
        result.add(item, *kind.figures())
        return result

    def _work(self, kind: _Kind) -> None:
        kind.done += 1
        if kind.done <= self.WARM_UP:
            kind.work()
            return
        if kind.recording is None:
            assert self.recorder is not None
            try:
                kind.recording = self.recorder.record(kind.work, kind.state.density.generators())
            except RuntimeError as e:
                self.failed = True
                self.report.warn(f"Steps run one kernel after the other: a CUDA graph could not be made ({e}).")
                self.outdated.clear()
                kind.work()
                return
            self.outdated.clear()
        kind.recording.replay()
        self.replayed += 1

    def _obstacle(self, s: StepState, items: Sequence[Item]) -> tuple[bool, str]:
        """Why this step cannot be captured ("" if it can), and whether the user should be told."""
        if self.recorder is None or not devices.is_asynchronous(s.device):
            return False, "that is for GPUs"
        if not s.exchange.alone:
            return False, "several processes train together"
        if s.capacity is None:
            return False, "it takes a fixed capacity of (tile, Gaussian) pairs, --train.capacity"
        if not (getattr(s.raster, "replayable", False) and s.raster.culls(s.device)):
            return False, f'the rasterizer "{s.raster.name}" asks for numbers in between'
        if s.phase.schedules.dropout.rate > 0:
            return True, "dropout draws other rows in every step"
        if not getattr(s.phase.losses, "replayable", False):
            return True, "these losses may ask for numbers in between"
        if len(items) != 1:
            return True, "a step has several items"
        if s.beyond is not None:
            return True, "the surroundings are drawn beside the scene"
        if items[0].supersample > 1:
            return False, "it renders at several times the size"
        return True, ""

    def _shared(self, s: StepState, model: ReplayableModel) -> tuple[Any, ...]:
        """The part of the key that is common to all kept graphs."""
        return s.phase, s.capacity, *model.places()

    def _own(self, s: StepState, model: ReplayableModel, item: Item) -> tuple[Any, ...]:
        """The part of the key that is specific to this step."""
        photo = tuple(None if p is None else (p.dtype, p.shape) for p in (item.rgb, item.alpha, item.weight))
        judged = item.loss_weight, item.terms
        learns = item.view_id is not None, s.view_model.learns_pose(s.run_progress)
        due = s.wants_absgrad, s.opacity_decay, model.moves_harmonics_next(s.rates)
        return photo, judged, learns, due, s.density.places(s.phase_step)


@dataclass(frozen=True, eq=False)
class _AnyCamera(Camera):
    """A camera for photos of one size, whose intrinsics are in device memory alone."""

    place: Float[Tensor, "4"] | None = None

    def intrinsics(self, device: torch.device) -> Float[Tensor, "4"]:
        assert self.place is not None
        return self.place


def _begin(s: StepState, model: ReplayableModel, item: Item) -> list[list[float]]:
    """Begin the updates of the current step. Returns the numbers that it reads: camera, background, view, model and
    density control."""
    c, view = item.camera, list[float]()
    background = background_of(s, item)
    if item.view_id is not None:
        s.view_model.count_update(item.view_id, s.run_progress)
        view = s.view_model.adam_constants(item.view_id, s.run_progress)
    model.count_update()
    return [
        [c.fx, c.fy, c.cx, c.cy],
        background,
        view,
        model.adam_constants(s.rates),
        s.density.begin_replay(s.rates.means, s.generator),
    ]


class _Inputs:
    """The inputs of steps of one kind: memory that graphs read."""

    def __init__(self, item: Item, numbers: list[list[float]], device: torch.device) -> None:
        sizes = [len(part) for part in numbers]
        self.row = torch.zeros(sum(sizes), device=device)
        camera, self.background, self.view, self.model, self.density = self.row.split(sizes)
        nowhere, size = float("nan"), (item.camera.width, item.camera.height)
        self.item = replace(
            item,
            camera=_AnyCamera(nowhere, nowhere, nowhere, nowhere, *size, place=camera),
            cam_from_world=item.cam_from_world.clone(),
            rgb=item.rgb.clone(),
            alpha=None if item.alpha is None else item.alpha.clone(),
            weight=None if item.weight is None else item.weight.clone(),
        )

    def fill(self, item: Item, numbers: list[list[float]]) -> None:
        """Set the inputs to this item and these numbers."""
        to_device([number for part in numbers for number in part], self.row.device, into=self.row)
        for mine, theirs in zip(_pixels(self.item), _pixels(item), strict=True):
            mine.copy_(theirs)


def _pixels(item: Item) -> list[Tensor]:
    return [t for t in (item.cam_from_world, item.rgb, item.alpha, item.weight) if t is not None]


class _Kind:
    """Steps that differ in their inputs alone, and their graph."""

    def __init__(self, state: StepState, model: ReplayableModel, inputs: _Inputs, pairs: PairCapacity) -> None:
        self.state, self.model, self.inputs, self.pairs = state, model, inputs, pairs
        self.done = 0
        self.recording: Recording | None = None
        self.names: list[str] = []
        self.found = torch.zeros(0)

    def work(self) -> None:
        """The step. It uses the `StepState` of the first step of the kind; all that it reads of it is the same within a
        kind."""
        s, i, model = self.state, self.inputs, self.model
        found = draw_item(s, i.item, i.background, factored=True, view_constants=i.view)
        assert found is not None
        with torch.no_grad():
            self.pairs.record(found.overflow)

        def update(gradient: RowGradients) -> None:
            model.apply(gradient, s.rates, i.model)

        optimizer_step(s, [found.rows], [found.correction], i.view, update)
        with torch.no_grad():
            s.density.replayed_update(s.model, i.density)
            figures = {k: v.detach() for k, v in found.figures.items() if isinstance(v, Tensor)}
            self.names = ["loss", *figures]
            self.found = torch.stack([v.double() for v in (found.loss, *figures.values())])

    def figures(self) -> tuple[Tensor, dict[str, Any]]:
        """Copies of the loss and the values for the log: the next replay overwrites them."""
        values = dict(zip(self.names, self.found.clone().unbind(), strict=True))
        return values.pop("loss"), values
