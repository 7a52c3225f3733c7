"""Density control: where to add Gaussians and which to remove. A config is a frozen dataclass; calling it gives the
state that lives through one phase (`slots.DensityControl`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from splat.core.camera import Camera
from splat.core.gaussians import Gaussians
from splat.core.geometry import matrix_from_quat
from splat.core.slots import DensityControl, Parameterization, Render
from splat.native.ops import add_density_statistics

DensitySettings = Callable[[int, int, float], DensityControl]
"""What a phase holds: (first step, number of steps, scene extent) -> the control of that phase."""


@runtime_checkable
class Replayed(Protocol):
    """A density control of whose steps a GPU may record all but those that add, move or remove rows."""

    @property
    def generators(self) -> Sequence[torch.Generator]:
        """Of the random numbers that it draws on the device."""
        ...

    def recorded(self, step: int, count: int, device: torch.device) -> tuple[Any, ...] | None:
        """What a recording of this step, of so many rows, would hold on to (places in memory, choices), made ready.
        None: rows change in this step."""
        ...

    def numbers(self, step: int, model: Parameterization, generator: torch.Generator) -> list[float]:
        """What of `after_update` changes from step to step; `generator` is asked for what that asks for."""
        ...

    def replayed_update(self, step: int, model: Parameterization, numbers: Tensor) -> None:
        """`after_update` of a step in which rows do not change, from its numbers on the device."""
        ...


@dataclass(frozen=True)
class NoDensity:
    """The number of Gaussians stays, except that faint ones may be removed now and then."""

    prune_opacity: float = 0.0
    """Remove Gaussians fainter than this; 0 = never."""
    prune_every: float = 1 / 70
    """Fraction of the steps between two removals."""

    def __call__(self, first_step: int, steps: int, scene_extent: float) -> DensityControl:
        return _PruneOnly(self, first_step, steps)


class _PruneOnly:
    def __init__(self, settings: NoDensity, first_step: int, steps: int) -> None:
        self.settings, self.first_step = settings, first_step
        self.every = max(1, round(settings.prune_every * steps))

    def wants_absgrad(self, step: int) -> bool:
        return False

    def after_backward(self, step: int, ids: Tensor | None, render: Render, camera: Camera) -> None: ...

    generators = ()

    def recorded(self, step: int, count: int, device: torch.device) -> tuple[Any, ...] | None:
        return None if self._is_due(step) else ()

    def numbers(self, step: int, model: Parameterization, generator: torch.Generator) -> list[float]:
        return []

    def replayed_update(self, step: int, model: Parameterization, numbers: Tensor) -> None: ...

    def _is_due(self, step: int) -> bool:
        return self.settings.prune_opacity > 0 and (step - self.first_step + 1) % self.every == 0

    def after_update(self, step: int, model: Parameterization, generator: torch.Generator) -> str | None:
        if not self._is_due(step):
            return None
        keep = model.gaussians(step).opacities >= self.settings.prune_opacity
        removed = len(keep) - int(keep.sum())
        if removed == 0:
            return None
        model.edit(keep, None)
        return f"removed {removed} faint"

    def forget(self) -> None: ...

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: dict[str, Any]) -> None: ...


# ----------------------------------------------------------------------------------------------------------- gradients


@dataclass(frozen=True)
class DefaultDensity:
    """Adds Gaussians where the image pulls at them (Kerbl et al. 2023), measured by absolute gradients (AbsGS, Ye et
    al. 2024), the strongest pull first, under a budget that grows to `cap` (as Taming 3DGS, Mallick et al. 2024)."""

    cap: int = 200_000
    """Never more Gaussians than this."""
    absgrad: bool = True
    """Sum absolute gradients over pixels: opposite pulls do not cancel, so large blurred Gaussians are found."""
    threshold: float = 0.0
    """Mean gradient of the loss by image position (position measured in half image widths and heights, which makes it
    independent of the resolution) above which a Gaussian is divided. 0: 6e-4 with absgrad, 2e-4 without."""
    start: float = 0.02
    """Fraction of the steps before the first change."""
    stop: float = 0.6
    """Fraction of the steps after which nothing is added."""
    every: float = 1 / 70
    """Fraction of the steps between two changes; never less than 50 steps."""
    growth: float = 1.0
    """How the budget reaches `cap`: 1 - (1 - t)^growth of the way at fraction t of the time to `stop`. 1: evenly, as
    the photos grow; 2: fast at first, so that more Gaussians are trained for longer, at a higher cost."""
    prune_opacity: float = 0.005
    """Remove Gaussians fainter than this."""
    prune_screen: float = 0.0
    """Remove Gaussians whose drawn radius exceeds this fraction of the image's long side; 0 = never."""
    reset_every: float = 0.0
    """Fraction of the steps between opacity resets (3DGS: 0.1), while Gaussians are added; 0 = never."""
    max_anisotropy: float = 0.0
    """Longest axis at most this many times the middle one: no needles; 0 = free."""

    @property
    def limit(self) -> float:
        """The threshold in force."""
        return self.threshold or (6e-4 if self.absgrad else 2e-4)

    def __call__(self, first_step: int, steps: int, scene_extent: float) -> DensityControl:
        return _Adaptive(self, first_step, steps, scene_extent)


class _Adaptive:
    def __init__(self, settings: DefaultDensity, first_step: int, steps: int, scene_extent: float) -> None:
        self.settings, self.first_step, self.steps, self.extent = settings, first_step, max(1, steps), scene_extent
        self.every = max(min(50, steps), round(settings.every * steps))
        self.threshold = settings.limit
        self.first_count = -1
        self.forget()

    def forget(self) -> None:
        self.pull = torch.zeros(0)
        self.seen = torch.zeros(0)
        self.radius = torch.zeros(0)

    def _progress(self, step: int) -> float:
        return (step - self.first_step + 1) / self.steps

    def wants_absgrad(self, step: int) -> bool:
        return self.settings.absgrad and self._progress(step) <= self.settings.stop

    def after_backward(self, step: int, ids: Tensor | None, render: Render, camera: Camera) -> None:
        """Add this image's pull to the rows it drew."""
        if self._progress(step) > self.settings.stop or len(render.radii) == 0:
            return
        gradient = render.absgrad if self.settings.absgrad else render.means2d.grad
        if gradient is None or render.means2d.grad is None:
            return
        self._reach(len(render.radii) if ids is None else int(ids[-1]) + 1, render.radii.device)
        size = camera.width, camera.height
        add_density_statistics(ids, gradient, render.radii, size, self.pull, self.seen, self.radius)

    def _reach(self, n: int, device: torch.device) -> None:
        """Make room for the statistics of n rows, there (a checkpoint's are on the CPU)."""
        found = [t.to(device) for t in (self.pull, self.seen, self.radius)]
        if len(self.pull) < n:
            more = torch.zeros(n + n // 2 - len(self.pull), device=device)
            found = [torch.cat([t, more]) for t in found]
        self.pull, self.seen, self.radius = found

    generators = ()

    def recorded(self, step: int, count: int, device: torch.device) -> tuple[Any, ...] | None:
        if self._is_due(step) or self.first_count < 0:
            return None
        if self._progress(step) > self.settings.stop:
            return ()
        self._reach(count, device)
        return tuple(t.data_ptr() for t in (self.pull, self.seen, self.radius))

    def numbers(self, step: int, model: Parameterization, generator: torch.Generator) -> list[float]:
        return []

    def replayed_update(self, step: int, model: Parameterization, numbers: Tensor) -> None: ...

    def _is_due(self, step: int) -> bool:
        return (step - self.first_step + 1) % self.every == 0 and self._progress(step) >= self.settings.start

    def after_update(self, step: int, model: Parameterization, generator: torch.Generator) -> str | None:
        s, progress = self.settings, self._progress(step)
        if self.first_count < 0:
            self.first_count = len(model.gaussians(step))
        if not self._is_due(step):
            return None
        gaussians = model.gaussians(step)
        n = len(gaussians)
        self._reach(n, gaussians.means.device)
        keep = gaussians.logit_opacities >= math.log(s.prune_opacity / (1 - s.prune_opacity))
        if s.prune_screen > 0:
            keep &= self.radius[:n] <= s.prune_screen
        children, parents = None, torch.zeros(0, dtype=torch.int64)
        if progress <= s.stop:
            parents = self._parents(keep, progress)
            children = long_axis_children(gaussians[parents])
            keep[parents] = False
        removed = n - int(keep.sum()) - len(parents)
        if removed or len(parents):
            model.edit(keep, children, parents.repeat(2))
        if s.max_anisotropy > 0:
            limit_needles(model, step, s.max_anisotropy)
        self._reset_opacities(step, model)
        self.forget()
        if not removed and not len(parents):
            return None
        return f"{n} -> {n - removed + len(parents)}: divided {len(parents)}, removed {removed}"

    def _parents(self, keep: Bool[Tensor, "n"], progress: float) -> Int[Tensor, "p"]:
        """The rows to divide: above the threshold, and only as many as the budget of the moment allows."""
        n = len(keep)
        score = self.pull[:n] / self.seen[:n].clamp_min(1)
        candidates = (keep & (score > self.threshold)).nonzero()[:, 0]
        room = self._budget(progress) - int(keep.sum())
        if len(candidates) > room:
            order = score[candidates].sort(descending=True, stable=True).indices
            candidates = candidates[order[: max(0, room)]].sort().values
        return candidates

    def _budget(self, progress: float) -> int:
        """From the first count to the cap."""
        s = self.settings
        t = min(1.0, progress / max(s.stop, 1e-9))
        return round(self.first_count + (s.cap - self.first_count) * (1 - (1 - t) ** s.growth))

    def _reset_opacities(self, step: int, model: Parameterization) -> None:
        """Opacities fall to at most twice the pruning limit, as 3DGS does it, and must earn their place again."""
        s = self.settings
        if s.reset_every <= 0 or self._progress(step) > s.stop:
            return
        every = max(1, round(s.reset_every * self.steps / self.every)) * self.every
        if (step - self.first_step + 1) % every == 0:
            low = math.log(2 * s.prune_opacity / (1 - 2 * s.prune_opacity))
            logits = model.gaussians(step).logit_opacities
            model.shift(None, logit_opacities=logits.clamp_max(low) - logits)

    def state(self) -> dict[str, Any]:
        return {"pull": self.pull, "seen": self.seen, "radius": self.radius, "first_count": self.first_count}

    def load_state(self, state: dict[str, Any]) -> None:
        self.pull, self.seen, self.radius = state["pull"], state["seen"], state["radius"]
        self.first_count = int(state["first_count"])


def long_axis_children(parents: Gaussians) -> Gaussians:
    """Two Gaussians for each, side by side along its longest axis: first all on one side, then all on the other.

    The constants are the least-squares fit of two overlapping profiles to the parent's along that axis, at opacity
    0.5: the pair looks like the parent (within 0.05 of its peak), so dividing does not disturb the image.
    """
    axis = parents.log_scales.argmax(1)
    sigma = parents.scales.gather(1, axis[:, None])
    direction = matrix_from_quat(parents.quats_wxyz).gather(2, axis[:, None, None].expand(-1, 3, 1))[..., 0]
    log_scales = parents.log_scales.clone()
    log_scales.scatter_add_(1, axis[:, None], torch.full_like(sigma, math.log(_CHILD_SIGMA)))
    logits = torch.logit((_CHILD_OPACITY * parents.opacities).clamp(1e-6, 1 - 1e-6))
    sides = [parents.means + sign * _CHILD_OFFSET * sigma * direction for sign in (-1.0, 1.0)]
    return Gaussians.cat([Gaussians(m, parents.quats_wxyz, log_scales, logits, parents.sh) for m in sides])


_CHILD_SIGMA, _CHILD_OFFSET, _CHILD_OPACITY = 0.6, 0.565, 0.82


def limit_needles(model: Parameterization, step: int, ratio: float) -> None:
    """Shorten every longest axis to `ratio` times the middle one."""
    log_scales = model.gaussians(step).log_scales
    ordered = log_scales.sort(1)
    excess = (ordered.values[:, 2] - ordered.values[:, 1] - math.log(ratio)).clamp_min(0)
    ids = excess.nonzero()[:, 0]
    if len(ids):
        delta = torch.zeros_like(log_scales[ids])
        delta.scatter_(1, ordered.indices[ids, 2:], -excess[ids, None])
        model.shift(ids, log_scales=delta)
