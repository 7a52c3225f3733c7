"""Steps of training that a GPU records once and replays: no time is spent on asking for one kernel after the other.

A recording (a CUDA graph) does the same work in the same places in memory again. What changes from step to step lies in
memory that is filled before each replay: the photo, its pose, and one row of numbers (camera, background, rates, ...).
What else there is to a step (the number of Gaussians and where they lie, the photo's size, the capacity for pairs,
which terms are due, ...) makes it another recording. Steps in which density control changes rows are never replayed.
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
    """Work that was recorded, not done."""

    def replay(self) -> None: ...


@runtime_checkable
class Recorder(Protocol):
    """Records what a function gives a device to do."""

    def record(self, work: Callable[[], None], generators: Sequence[torch.Generator]) -> Recording:
        """`generators` are those that the work draws from."""
        ...


@runtime_checkable
class ReplayableModel(Protocol):
    """A parameterization whose updates can be recorded: see `FreeGaussians`, which explains each method."""

    def places(self) -> tuple[Any, ...]: ...
    def moves_harmonics_next(self, rates: StepSizes) -> bool: ...
    def count_update(self) -> None: ...
    def adam_constants(self, rates: StepSizes) -> list[float]: ...
    def apply(self, gradient: RowGradients, rates: StepSizes, constants: Tensor) -> None: ...


class CudaRecorder:
    """Records CUDA graphs, whose memory is shared: they never run at the same time, and leave nothing in it.

    `torch.cuda.graph` would do, but collects garbage and gives all unused memory back each time. Here a recording is
    made whenever the number of Gaussians changes.
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
    """What is collected may give memory back to the driver, which ends a recording."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


class Replays:
    """The recordings of a run, made as they are needed."""

    WARM_UP = 2
    """Steps of a kind that are done as they will be recorded, before they are: kernels and libraries load meanwhile.
    (On the stream of all others: the leaves of autograd are new in every step, and memory is not needed twice.)"""
    MAX_KINDS = 8
    """Kinds of steps that are kept: photos of several sizes, with and without what is due now and then."""

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
        """Kept until the next recording is made, which takes over their memory."""
        self.replayed = 0
        """Steps so far."""
        self.reported: set[str] = set()
        self.failed = False

    def step(self, s: StepState, items: Sequence[Item]) -> StepResult | None:
        """Do the step with these items; None, and nothing is done, where it must be done by `eager_step`."""
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
        """Why this step cannot be recorded, "" where it can; and whether that is worth saying unasked."""
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
        return True, ""

    def _shared(self, s: StepState, model: ReplayableModel) -> tuple[Any, ...]:
        """What all recordings that are kept have in common."""
        return s.phase, s.capacity, *model.places()

    def _own(self, s: StepState, model: ReplayableModel, item: Item) -> tuple[Any, ...]:
        """What a recording of this step has of its own."""
        photo = tuple(None if p is None else (p.dtype, p.shape) for p in (item.rgb, item.alpha, item.weight))
        judged = item.loss_weight, item.terms
        learns = item.view_id is not None, s.view_model.learns_pose(s.run_progress)
        due = s.wants_absgrad, s.opacity_decay, model.moves_harmonics_next(s.rates)
        return photo, judged, learns, due, s.density.places(s.phase_step)


@dataclass(frozen=True, eq=False)
class _AnyCamera(Camera):
    """Of photos of one size, whose intrinsics are in the device's memory and nowhere else."""

    place: Float[Tensor, "4"] | None = None

    def intrinsics(self, device: torch.device) -> Float[Tensor, "4"]:
        assert self.place is not None
        return self.place


def _begin(s: StepState, model: ReplayableModel, item: Item) -> list[list[float]]:
    """Begin the updates of the step at hand. Returns what it reads of the camera, the background, the view, the model
    and the density control."""
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
    """What changes from one step of a kind to the next: memory that recordings read."""

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
        """The next step will be the one of this item and these numbers."""
        to_device([number for part in numbers for number in part], self.row.device, into=self.row)
        for mine, theirs in zip(_pixels(self.item), _pixels(item), strict=True):
            mine.copy_(theirs)


def _pixels(item: Item) -> list[Tensor]:
    return [t for t in (item.cam_from_world, item.rgb, item.alpha, item.weight) if t is not None]


class _Kind:
    """Steps that differ in their inputs alone."""

    def __init__(self, state: StepState, model: ReplayableModel, inputs: _Inputs, pairs: PairCapacity) -> None:
        self.state, self.model, self.inputs, self.pairs = state, model, inputs, pairs
        self.done = 0
        self.recording: Recording | None = None
        self.names: list[str] = []
        self.found = torch.zeros(0)

    def work(self) -> None:
        """The step. Its state is that of the first of the kind: nothing that is read of it changes within a kind."""
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
        """The loss and what is for the log, for good: the next replay finds others."""
        values = dict(zip(self.names, self.found.clone().unbind(), strict=True))
        return values.pop("loss"), values
