"""Nearest and farthest depth of posed photos of which no sparse point is known, from a coarse plane sweep."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from splat.core.camera import Camera
from splat.core.capture import Capture, View
from splat.core.geometry import Rigid
from splat.core.slots import Reporter
from splat.geometry.focus import nearest_alike
from splat.geometry.reproject import check_consistency
from splat.native import build
from splat.priors.stereo_search import PlaneSearch, StereoView, grey_of

_SIDE = 160
"""Long side of the photos, px."""
_HYPOTHESES = 192
_NEAREST, _FARTHEST = 1.0, 0.4
"""Disparity in image widths at the nearest depth that is tried, and in pixels at the farthest."""
_MAX_COST, _MAX_SHIFT, _MAX_DIFFERENCE = 0.3, 1.0, 0.03
_MIN_SHARE = 0.1
"""Of a photo's pixels, to be consistent: less is chance."""


def with_bounds(capture: Capture, report: Reporter, sources: int = 3) -> Capture:
    """The posed capture with `View.bounds` for the views that have none, where a sweep over all inverse depths that
    their baselines can tell apart finds surfaces on which two photos agree. Views are in world units throughout.

    Unchanged where there are no compiled kernels or fewer than two views.
    """
    if build.unavailable() is not None or len(capture.views) < 2:
        return capture
    poses = [v.pose for v in capture.views]
    pairs = [nearest_alike(poses, i, sources) for i in range(len(poses))]
    depths: list[Tensor | None] = []
    views: list[tuple[Camera, Rigid, Tensor]] = []
    for view in capture.views:
        scale = min(1.0, _SIDE / max(view.camera.width, view.camera.height))
        views.append((view.camera.scaled(scale), view.pose, grey_of(view.rgb(scale))))
    for i, others in enumerate(pairs):
        near, far = _every_depth(capture.views, views[i][0].fx, views[i][0].width, i, others)
        if not others:
            depths.append(None)
            continue
        own, *rest = (StereoView(*views[k], (near, far)) for k in (i, *others))
        found, _ = PlaneSearch(own, rest, min(2, len(others)), 1 / far, 1 / near).sweep(_HYPOTHESES)
        depths.append(torch.where(found.cost < _MAX_COST, found.depth, 0.0))
    bounded, count = [], 0
    for i, view in enumerate(capture.views):
        bounds = view.bounds or _bounds(views, depths, i, pairs[i])
        count += bounds is not None and view.bounds is None
        bounded.append(replace(view, bounds=bounds))
    if count:
        report.info(f"{count} photos have no sparse points: a coarse sweep found how near and far their surfaces are")
    return capture.with_views(tuple(bounded))


def _every_depth(views: tuple[View, ...], focal: float, width: int, i: int, others: list[int]) -> tuple[float, float]:
    """The range of depths that the baselines can tell apart, world units."""
    base = [float((views[i].pose.translation - views[j].pose.translation).norm()) for j in others] or [1.0]
    return min(base) * focal / (_NEAREST * width), max(base) * focal / _FARTHEST


def _bounds(
    views: list[tuple[Camera, Rigid, Tensor]], depths: list[Float[Tensor, "h w"] | None], i: int, others: list[int]
) -> tuple[float, float] | None:
    own = depths[i]
    if own is None:
        return None
    consistent = torch.zeros_like(own, dtype=torch.bool)
    for j in others:
        other = depths[j]
        if other is not None:
            a, b = views[i], views[j]
            consistent |= check_consistency(
                *(a[0], a[1], own, b[0], b[1], other),
                *(_MAX_SHIFT, _MAX_DIFFERENCE),
            ).consistent
    known = own[consistent]
    if len(known) < _MIN_SHARE * own.numel():
        return None
    near, far = known.quantile(0.02), known.quantile(0.98)
    return 0.7 * float(near), 1.6 * float(far)
