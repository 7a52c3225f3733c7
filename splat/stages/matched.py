"""Depth that matching finds in the training photos of a finished run, for what measures its surface."""

from __future__ import annotations

from dataclasses import replace

import torch

from splat.core.capture import Capture, View
from splat.core.machine import available_cores
from splat.core.slots import DepthMap, DepthPrior, Reporter
from splat.native import build
from splat.priors.stereo import Stereo
from splat.run.completed import CompletedRun

MAX_PHOTOS = 40
"""Photos that are matched anew, spread over all of them: where there are more, most surface is drawn right."""
_AS_LARGE = 0.9
"""Of the size that is wanted, depth maps are that training has left: photos are not matched again then."""


def matched_depths(
    run: CompletedRun, capture: Capture, size: int, report: Reporter, prior: DepthPrior | None = None
) -> tuple[DepthMap | None, ...]:
    """Depth of each training photo, in their order, in the normalized frame, of confidence 0 where the photo is masked:
    matched at `size` px on the long side (at most the photos' own), or what the run kept where that is about as large.
    None for photos that were not matched; nothing at all where photos are gone or fewer than two, or `size` is 0.

    capture: that of the run, with the poses that training left. prior: what matches (default: `Stereo`, whatever the
    run had been matched by).
    """
    photos = capture.training()
    if size <= 0 or len(photos.views) < 2 or not photos.posed or any(v.name in run.lost for v in photos.views):
        return ()
    views = [_of_size(v, size) for v in photos.views]
    kept = run.matched_depths()
    wanted = _AS_LARGE * max(max(v.camera.width, v.camera.height) for v in views)
    if kept and (build.unavailable() is not None or max(max(m.depth.shape) for m in kept) >= wanted):
        return tuple(_unmasked(m, v) for m, v in zip(kept, views, strict=True))
    if build.unavailable() is not None:
        return ()
    report.begin("matching")
    every = -(-len(views) // MAX_PHOTOS)
    some = photos.with_views(tuple(views)).select([i % every == 0 for i in range(len(views))])
    some = some.in_memory(available_cores())
    found = (prior or Stereo())(some, report)
    out: list[DepthMap | None] = [None] * len(views)
    out[::every] = [_unmasked(m, v) for m, v in zip(found, some.views, strict=True)]
    return tuple(out)


def _of_size(view: View, size: int) -> View:
    """Working at `size` px on the long side, at most at the photo's own."""
    now = max(view.camera.width, view.camera.height)
    return replace(view, camera=view.camera.scaled(min(size, max(view.photo_size)) / now), cached=None)


def _unmasked(found: DepthMap, view: View) -> DepthMap:
    h, w = found.depth.shape
    usable = torch.from_numpy(view.load(view.camera.resized(w, h)).usable())
    return replace(found, confidence=found.confidence * usable)
