"""Removing floaters from a trained scene where that costs nothing that its photos can tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from splat.core.capture import Capture, View
from splat.core.errors import SplatError
from splat.core.foreign import shown
from splat.core.gaussians import Gaussians
from splat.core.machine import available_cores
from splat.core.metrics import psnr
from splat.core.slots import Rasterizer, RasterSettings, Reporter
from splat.geometry.between import surfaces_between
from splat.geometry.cleaning import MAX_LOSS, Cleaned, clean
from splat.geometry.compositing import composite_photo, exposed
from splat.geometry.drawing import draw_view
from splat.geometry.floaters import floating, nearest_measured, share_of, veiling
from splat.geometry.morton import morton_order
from splat.geometry.reproject import PosedDepth
from splat.run.completed import CompletedRun
from splat.run.trained import Trained
from splat.stages.floaters import free_space, measured, places

_FRONT = 0.9
"""What is nearer to a photo than this fraction of what it measured nearest may veil the scene."""
_GROUPS = 16
_MAX_JUDGES = 24
"""Photos that judge; evenly spread."""


@runtime_checkable
class Drawing(Protocol):
    """What draws and how: a `stages.context.Context` or a `run.completed.CompletedRun`."""

    @property
    def raster(self) -> Rasterizer: ...
    @property
    def settings(self) -> RasterSettings: ...


@dataclass(frozen=True, eq=False)
class CleanScene:
    """A scene without the floaters that could go, and figures of both."""

    gaussians: Gaussians
    cleaned: Cleaned
    floaters_before: float | None
    """Share of the blended weight that floats (`stages.floaters`)."""
    floaters_after: float | None
    heldout: bool
    """Whether held-out photos judged; else training photos."""

    def figures(self) -> dict[str, float | int | bool | str | None]:
        """As `metrics.json` has them."""
        c = self.cleaned
        return {
            "removed": c.removed,
            "candidates": c.candidates,
            "floaters_before": self.floaters_before,
            "floaters_after": self.floaters_after,
            "psnr_before": c.psnr_before,
            "psnr_after": c.psnr_after,
            "judged_by_heldout": self.heldout,
            "sentence": self.sentence(),
        }

    def sentence(self) -> str:
        """What was done, for people."""
        c, share = self.cleaned, (self.floaters_before, self.floaters_after)
        if c.candidates == 0:
            return "nothing floats in space that two photos see past: nothing was removed"
        floats = "" if None in share else f", floaters {100 * (share[0] or 0):.2f} -> {100 * (share[1] or 0):.2f} %"
        judges = "held-out" if self.heldout else "training"
        return (
            f"{c.removed} of {c.candidates} floating Gaussians removed{floats}, {judges} PSNR {c.psnr_before:.2f} -> "
            f"{c.psnr_after:.2f} dB"
        )


def clean_scene(
    capture: Capture,
    trained: Trained,
    tests: Sequence[View],
    depths: Sequence[PosedDepth],
    drawing: Drawing,
    max_loss: float = MAX_LOSS,
) -> CleanScene:
    """`trained` without floaters, as far as the mean PSNR of the held-out photos `tests` (of the training photos where
    there is none) falls by at most `max_loss` dB. `depths`: of `stages.floaters.free_space`."""
    raster, settings, gaussians = drawing.raster, drawing.settings, trained.gaussians
    views = list(tests) or _spread(capture.train_views)
    exposures = {} if tests else trained.exposures
    judge = _judge(gaussians, views, exposures, raster, settings, trained.background, trained.surroundings)
    cleaned = clean(len(gaussians), candidates(gaussians, depths), judge, max_loss)
    left = gaussians[cleaned.kept.to(gaussians.means.device)]
    where = places(capture, tests) if depths else []
    shares = [share_of(measured(g, depths, where, raster, settings)) for g in (gaussians, left)]
    return CleanScene(left, cleaned, shares[0], shares[1], bool(tests))


def clean_run(run: CompletedRun, report: Reporter, max_loss: float = MAX_LOSS) -> CompletedRun:
    """A finished run whose Gaussians are those of `clean_scene`. Raises SplatError where its photos are gone."""
    tests = [v for v in run.capture.test_views if v.world_from_cam is not None]
    run.require([*run.capture.train_views, *tests])
    report.begin("clean")
    depths = free_space(run.capture, available_cores(), run.config.get("seed", 0))
    if not depths:
        raise SplatError(
            f"{shown(run.root)} cannot be cleaned: free space is measured by matching two training photos or more with "
            "compiled kernels; `splat doctor` says what is missing."
        )
    gaussians = run.trained.gaussians.to(run.device)
    scene = clean_scene(run.capture, replace(run.trained, gaussians=gaussians), tests, depths, run, max_loss)
    report.info(scene.sentence())
    return replace(run, trained=replace(run.trained, gaussians=scene.gaussians.to("cpu")))


def candidates(gaussians: Gaussians, depths: Sequence[PosedDepth]) -> list[Int[Tensor, "_"]]:
    """Rows of Gaussians that float or veil (`geometry.floaters`), in groups that are near each other; in each, faint
    ones first."""
    if not depths:
        return []
    means = gaussians.means
    nearest = [_FRONT * d for d in nearest_measured(depths)]
    found = floating(means, depths) | veiling(means, depths, nearest, surfaces_between(depths))
    rows = found.nonzero()[:, 0]
    groups = rows[morton_order(means[rows])].chunk(_GROUPS) if len(rows) else ()
    return [g[gaussians.opacities[g].argsort(stable=True)].cpu() for g in groups]


def _spread(views: Sequence[View]) -> list[View]:
    picks = torch.linspace(0, len(views) - 1, min(len(views), _MAX_JUDGES)).round().long().tolist()
    return [views[i] for i in picks]


def _judge(
    gaussians: Gaussians,
    views: Sequence[View],
    exposures: dict[str, Float[Tensor, "3 4"]],
    raster: Rasterizer,
    settings: RasterSettings,
    background: Float[Tensor, "3"],
    beyond: Gaussians | None,
) -> Callable[[Bool[Tensor, "n"]], float]:
    """Mean PSNR of the views as `stages.measure` has it; the photos are read once."""
    background = background.to(gaussians.means)
    read = []
    for view in views:
        photo = view.load()
        mask = None if photo.weight is None else torch.from_numpy(photo.weight > 127)
        read.append((composite_photo(photo, background.cpu()), mask))

    def judge(kept: Bool[Tensor, "n"]) -> float:
        some = gaussians if bool(kept.all()) else gaussians[kept.to(gaussians.means.device)]
        total = 0.0
        for view, (target, mask) in zip(views, read, strict=True):
            image = draw_view(some, view.camera, view.pose, raster, settings, background, beyond=beyond).rgb.cpu()
            total += psnr(exposed(image, exposures.get(view.name)), target, mask)
        return total / len(views)

    return judge
