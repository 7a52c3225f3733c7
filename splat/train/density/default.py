"""Density control by image gradients (Kerbl et al. 2023), in absolute value (AbsGS) and under a budget."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from splat.core.camera import Camera
from splat.core.gaussians import Gaussians
from splat.core.geometry import matrix_from_quat
from splat.core.slots import DensityControl, Parameterization, Render
from splat.native.ops import add_density_statistics


@dataclass(frozen=True)
class DefaultDensity:
    """Splits the Gaussians with the largest 2D position gradients (Kerbl et al. 2023), summed in absolute value (AbsGS,
    Ye et al. 2024), under a budget that grows to `cap` (as Taming 3DGS, Mallick et al. 2024)."""

    cap: int = 200_000
    """Maximum number of Gaussians."""
    absgrad: bool = True
    """Sum absolute gradients over pixels, so that gradients of opposite signs do not cancel: finds large Gaussians that
    blur detail."""
    threshold: float = 0.0
    """Split Gaussians whose mean gradient of the loss by image position is above this. Positions are in units of half
    the image width and height, which makes it independent of resolution. 0: 6e-4 with absgrad, 2e-4 without."""
    start: float = 0.02
    """Fraction of the steps before the first change."""
    stop: float = 0.6
    """Fraction of the steps after which nothing is added."""
    every: float = 1 / 70
    """Fraction of the steps between two changes; never less than 50 steps."""
    growth: float = 1.0
    """Growth of the budget: at fraction t of the time to `stop` it has covered 1 - (1 - t)^growth of the way to `cap`.
    1: linear; 2: fast at first, so more Gaussians are trained for longer, at a higher cost."""
    prune_opacity: float = 0.005
    """Remove Gaussians of lower opacity."""
    prune_screen: float = 0.0
    """Remove Gaussians whose radius exceeds this fraction of the long side of the image; 0 = never."""
    reset_every: float = 0.0
    """Fraction of the steps between opacity resets (3DGS: 0.1) until `stop`; 0 = never."""
    max_anisotropy: float = 0.0
    """Maximum ratio of the longest to the middle axis, against needles; 0 = no limit."""

    @property
    def limit(self) -> float:
        """The `threshold`, or its default."""
        return self.threshold or (6e-4 if self.absgrad else 2e-4)

    def __call__(self, steps: int, scene_extent: float) -> DensityControl:
        return _Adaptive(self, steps)

    def shard(self, world: int) -> DefaultDensity:
        """The settings for one of `world` processes: its part of the cap, and the threshold for gradients of a mean
        over `world` photos."""
        return replace(self, cap=math.ceil(self.cap / world), threshold=self.limit / world)


class _Adaptive(DensityControl):
    def __init__(self, settings: DefaultDensity, steps: int) -> None:
        self.settings, self.steps = settings, max(1, steps)
        self.every = max(min(50, steps), round(settings.every * steps))
        self.threshold = settings.limit
        self.first_count = -1
        """Number of rows at the start of the phase; -1: not known yet."""
        self.reset_statistics()

    def reset_statistics(self) -> None:
        self.grad2d = torch.zeros(0)
        """Sum of 2D position gradients, in units of half the image."""
        self.visits = torch.zeros(0)
        """Number of images in which the row was drawn."""
        self.radius = torch.zeros(0)
        """Largest radius over the long side of the image."""

    def _progress(self, step: int) -> float:
        return (step + 1) / self.steps

    def wants_absgrad(self, step: int) -> bool:
        return self.settings.absgrad and self._progress(step) <= self.settings.stop

    def after_backward(self, step: int, ids: Tensor | None, render: Render, camera: Camera) -> None:
        """Add the 2D position gradients of this image to the statistics of its rows."""
        if self._progress(step) > self.settings.stop or len(render.radii) == 0:
            return
        gradient = render.absgrad if self.settings.absgrad else render.means2d.grad
        if gradient is None or render.means2d.grad is None:
            return
        self._reach(len(render.radii) if ids is None else int(ids[-1]) + 1, render.radii.device)
        size = camera.width, camera.height
        add_density_statistics(ids, gradient, render.radii, size, self.grad2d, self.visits, self.radius)

    def _reach(self, n: int, device: torch.device) -> None:
        """Extend the statistics to n rows and move them to the device (those of a checkpoint are on the CPU)."""
        found = [t.to(device) for t in (self.grad2d, self.visits, self.radius)]
        if len(self.grad2d) < n:
            more = torch.zeros(n + n // 2 - len(self.grad2d), device=device)
            found = [torch.cat([t, more]) for t in found]
        self.grad2d, self.visits, self.radius = found

    def changes_rows(self, step: int) -> bool:
        return self._is_due(step) or self.first_count < 0

    def prepare_replay(self, step: int, count: int, device: torch.device) -> None:
        if self._progress(step) <= self.settings.stop:
            self._reach(count, device)

    def places(self, step: int) -> tuple[Any, ...]:
        if self._progress(step) > self.settings.stop:
            return ()
        return tuple(t.data_ptr() for t in (self.grad2d, self.visits, self.radius))

    def _is_due(self, step: int) -> bool:
        return (step + 1) % self.every == 0 and self._progress(step) >= self.settings.start

    def after_update(
        self, step: int, model: Parameterization, means_rate: float, generator: torch.Generator
    ) -> str | None:
        s, progress = self.settings, self._progress(step)
        if self.first_count < 0:
            self.first_count = len(model)
        if not self._is_due(step):
            return None
        gaussians = model.gaussians()
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
        pruned = n - int(keep.sum()) - len(parents)
        if pruned or len(parents):
            model.edit(keep, children, parents.repeat(2))
        if s.max_anisotropy > 0:
            limit_needles(model, s.max_anisotropy)
        self._reset_opacities(step, model)
        self.reset_statistics()
        if not pruned and not len(parents):
            return None
        return f"{n} -> {n - pruned + len(parents)}: split {len(parents)}, pruned {pruned}"

    def _parents(self, keep: Bool[Tensor, "n"], progress: float) -> Int[Tensor, "p"]:
        """The rows to split: above the threshold, as many as the budget allows now, largest gradients first."""
        n = len(keep)
        score = self.grad2d[:n] / self.visits[:n].clamp_min(1)
        candidates = (keep & (score > self.threshold)).nonzero()[:, 0]
        allowed = self._budget(progress) - int(keep.sum())
        if len(candidates) > allowed:
            largest = score[candidates].sort(descending=True, stable=True).indices
            candidates = candidates[largest[: max(0, allowed)]].sort().values
        return candidates

    def _budget(self, progress: float) -> int:
        """Maximum number of Gaussians now: grows from the first count to the cap."""
        s = self.settings
        t = min(1.0, progress / max(s.stop, 1e-9))
        return round(self.first_count + (s.cap - self.first_count) * (1 - (1 - t) ** s.growth))

    def _reset_opacities(self, step: int, model: Parameterization) -> None:
        """Opacity reset of 3DGS: clamp opacities to twice the pruning limit."""
        s = self.settings
        if s.reset_every <= 0 or self._progress(step) > s.stop:
            return
        every = max(1, round(s.reset_every * self.steps / self.every)) * self.every
        if (step + 1) % every == 0:
            low = math.log(2 * s.prune_opacity / (1 - 2 * s.prune_opacity))
            logits = model.gaussians().logit_opacities
            model.shift(None, logit_opacities=logits.clamp_max(low) - logits)

    def state(self) -> dict[str, Any]:
        return {"grad2d": self.grad2d, "visits": self.visits, "radius": self.radius, "first_count": self.first_count}

    def load_state(self, state: dict[str, Any]) -> None:
        self.grad2d, self.visits, self.radius = state["grad2d"], state["visits"], state["radius"]
        self.first_count = int(state["first_count"])


def long_axis_children(parents: Gaussians) -> Gaussians:
    """Two children per Gaussian, side by side along its longest axis: first all on one side, then all on the other.

    The constants are a least-squares fit of two overlapping profiles to the parent's along that axis, at opacity 0.5:
    the pair looks like the parent (within 0.05 of its peak), so a split hardly changes the image.
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


def limit_needles(model: Parameterization, ratio: float) -> None:
    """Shorten longest axes to `ratio` times the middle one."""
    log_scales = model.gaussians().log_scales
    ordered = log_scales.sort(1)
    excess = (ordered.values[:, 2] - ordered.values[:, 1] - math.log(ratio)).clamp_min(0)
    ids = excess.nonzero()[:, 0]
    if len(ids):
        delta = torch.zeros_like(log_scales[ids])
        delta.scatter_(1, ordered.indices[ids, 2:], -excess[ids, None])
        model.shift(ids, log_scales=delta)
