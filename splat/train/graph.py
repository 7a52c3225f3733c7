"""Steps of training that a GPU records once and replays: no time is spent on asking for one kernel after the other.

A recording (a CUDA graph) does the same work in the same places in memory again. What changes from step to step lies in
memory that is filled before each replay: the photo, its pose, and one row of numbers (camera, background, rates, ...).
What else there is to a step (the number of Gaussians and where they lie, the photo's size, the room for pairs, which
terms are due, ...) makes it another recording. Steps in which density control changes rows are never replayed.
"""

from __future__ import annotations

import gc
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from splat.core.camera import Camera
from splat.core.slots import Item
from splat.native import bindings
from splat.native.bindings import sent
from splat.train.density import Replayed
from splat.train.step import background_of, draw, move, told

if TYPE_CHECKING:
    from splat.train.loop import Trainer

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
class ReplayedModel(Protocol):
    """A parameterization whose updates can be recorded: see `FreeGaussians`."""

    def recorded(self, step: int) -> tuple[tuple[Any, ...], tuple[Any, ...]]: ...
    def numbers(self, step: int) -> list[float]: ...


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
    MOST = 8
    """Kinds of steps that are kept: photos of several sizes, with and without what is due now and then."""

    def __init__(self, trainer: Trainer, mode: Mode, recorder: Recorder | None = None) -> None:
        self.trainer, self.mode, self.recorder = trainer, mode, recorder
        if mode != "off" and recorder is None and trainer.device.type == "cuda":
            self.recorder = CudaRecorder(trainer.device)
        self.shared: tuple[Any, ...] = ()
        self.kinds: OrderedDict[tuple[Any, ...], _Kind] = OrderedDict()
        self.outdated: list[_Kind] = []
        """Kept until the next recording is made, which takes over their memory."""
        self.replayed = 0
        """Steps so far."""
        self.said: set[str] = set()
        self.failed = False

    def step(self, items: list[Item]) -> dict[str, Any] | None:
        """Do the step with these items and return figures for the log; None, and nothing is done, where it must be
        done by `eager_step`."""
        if self.mode == "off" or self.failed:
            return None
        asked, reason = self._obstacle(items)
        if reason:
            if (asked or self.mode == "on") and reason not in self.said:
                self.said.add(reason)
                self.trainer.report.info(f"Steps are not recorded as a CUDA graph: {reason}.")
            return None
        t, item = self.trainer, items[0]
        shared, own = self._key(item)
        if own is None:
            return None
        if shared != self.shared:
            self.outdated += [kind for kind in self.kinds.values() if kind.recording is not None]
            self.kinds.clear()
            self.shared = shared
        numbers = _numbers(t, item)
        kind = self.kinds.get(own)
        if kind is None:
            kind = self.kinds[own] = _Kind(t, _Inputs(item, numbers, t.device))
            if len(self.kinds) > self.MOST:
                self.kinds.popitem(last=False)
        self.kinds.move_to_end(own)
        kind.inputs.fill(item, numbers)
        self._work(kind)
        loss, figures = kind.figures()
        return told(t, item, loss, figures)

    def _work(self, kind: _Kind) -> None:
        kind.done += 1
        if kind.done <= self.WARM_UP:
            kind.work()
            return
        if kind.recording is None:
            assert self.recorder is not None
            try:
                kind.recording = self.recorder.record(kind.work, cast(Replayed, self.trainer.density).generators)
            except RuntimeError as e:
                self.failed = True
                self.trainer.report.warn(f"Steps run one kernel after the other: a CUDA graph could not be made ({e}).")
                self.outdated.clear()
                kind.work()
                return
            self.outdated.clear()
        kind.recording.replay()
        self.replayed += 1

    def _obstacle(self, items: list[Item]) -> tuple[bool, str]:
        """Why this step cannot be recorded, "" where it can; and whether that is worth saying unasked."""
        t = self.trainer
        if self.recorder is None or not bindings.waits(t.device):
            return False, "that is for GPUs"
        if t.ranks.world > 1:
            return False, "several processes train together"
        if t.room.capacity is None:
            return False, "it takes a fixed room for (tile, Gaussian) pairs, --train.capacity"
        if not (getattr(t.raster, "replayable", False) and t.raster.culls(t.device)):
            return False, f'the rasterizer "{t.raster.name}" asks for numbers in between'
        if t.settings.dropout.rate > 0:
            return True, "dropout draws other rows in every step"
        if not getattr(t.phase.losses, "replayable", False):
            return True, "these losses may ask for numbers in between"
        if not isinstance(t.model, ReplayedModel) or not isinstance(t.density, Replayed):
            return True, "this model or density control may ask for numbers in between"
        if len(items) != 1:
            return True, "a step has several items"
        return True, ""

    def _key(self, item: Item) -> tuple[tuple[Any, ...], tuple[Any, ...] | None]:
        """What recordings share, and what a recording of this step has of its own (None: it is not recorded)."""
        t = self.trainer
        step = t.step
        rows, updated = cast(ReplayedModel, t.model).recorded(step)
        control = cast(Replayed, t.density).recorded(step, len(t.model.gaussians(step)), t.device)
        shared = (t.index, t.room.capacity, *rows)
        photo = tuple(None if p is None else (p.dtype, p.shape) for p in (item.rgb, item.alpha, item.weight))
        learns = item.view_id is not None, t.view_model.learns_pose(t.progress)
        due = t.density.wants_absgrad(step), t.settings.opacity_decay.amount(step, t.total), updated
        return shared, None if control is None else (photo, item.loss_weight, learns, due, control)


@dataclass(frozen=True, eq=False)
class _AnyCamera(Camera):
    """Of photos of one size, whose intrinsics are in the device's memory and nowhere else."""

    place: Float[Tensor, "4"] | None = None

    def intrinsics(self, device: torch.device) -> Float[Tensor, "4"]:
        assert self.place is not None
        return self.place


def _numbers(t: Trainer, item: Item) -> list[list[float]]:
    """What the step at hand reads of the camera, the background, the view, the model and the density control. What
    counts its steps counts this one."""
    c = item.camera
    return [
        [c.fx, c.fy, c.cx, c.cy],
        background_of(t, item),
        [] if item.view_id is None else t.view_model.numbers(item.view_id, t.progress),
        cast(ReplayedModel, t.model).numbers(t.step),
        cast(Replayed, t.density).numbers(t.step, t.model, t.generator),
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
        sent([number for part in numbers for number in part], self.row.device, into=self.row)
        for mine, theirs in zip(_pixels(self.item), _pixels(item), strict=True):
            mine.copy_(theirs)


def _pixels(item: Item) -> list[Tensor]:
    return [t for t in (item.cam_from_world, item.rgb, item.alpha, item.weight) if t is not None]


class _Kind:
    """Steps that differ in their inputs alone."""

    def __init__(self, t: Trainer, inputs: _Inputs) -> None:
        self.trainer, self.step, self.inputs = t, t.step, inputs
        self.done = 0
        self.recording: Recording | None = None
        self.names: list[str] = []
        self.found = torch.zeros(0)

    def work(self) -> None:
        """The step. Its number is that of the first of the kind: nothing that is read of it changes within a kind."""
        t, i = self.trainer, self.inputs
        shot = draw(t, self.step, i.item, i.background, factored=True, view_numbers=i.view)
        assert shot is not None
        move(t, self.step, [shot], [shot.correction], i.view, i.model)
        with torch.no_grad():
            cast(Replayed, t.density).replayed_update(self.step, t.model, i.density)
            figures = {k: v.detach() for k, v in shot.figures.items() if isinstance(v, Tensor)}
            self.names = ["loss", *figures]
            self.found = torch.stack([v.double() for v in (shot.loss, *figures.values())])

    def figures(self) -> tuple[Tensor, dict[str, Any]]:
        """The loss and what is for the log, for good: the next replay finds others."""
        values = dict(zip(self.names, self.found.clone().unbind(), strict=True))
        return values.pop("loss"), values
