"""How much of what a run draws floats before surfaces that its photos see."""

from __future__ import annotations

from collections.abc import Sequence

from splat.core.capture import Capture, View
from splat.core.slots import DepthPrior, Silent
from splat.geometry.camera_paths import interpolated_path
from splat.geometry.floaters import floater_share
from splat.geometry.reproject import posed_depths
from splat.native import build
from splat.priors.stereo import Stereo
from splat.run.trained import Trained
from splat.stages.context import Context

_SIDE, _MIN_PHOTOS, _FRAMES = 320, 16, 12


def floaters(
    c: Context, capture: Capture, trained: Trained, tests: Sequence[View], prior: DepthPrior | None = None
) -> float | None:
    """The share of the blended weight that floats (`geometry.floaters`), along a path between the training cameras and
    at the held-out ones; depth is matched anew, small, in every n-th training photo, such that there are 16 to 31 (all
    where there are fewer than 32). None without compiled kernels."""
    train = capture.training()
    if build.unavailable() is not None or len(train.views) < 2:
        return None
    step = max(1, len(train.views) // _MIN_PHOTOS)
    some = train.select([i % step == 0 for i in range(len(train.views))]).resized(_SIDE)
    maps = (prior or Stereo())(some.in_memory(c.threads), Silent(), c.seed)
    depths = posed_depths(some.views, maps)
    path = interpolated_path(train, _FRAMES, _SIDE)
    cameras = [(f.camera, f.world_from_cam) for f in path.cameras]
    for view in tests:
        scale = min(1.0, _SIDE / max(view.camera.width, view.camera.height))
        cameras.append((view.camera.scaled(scale), view.pose))
    return floater_share(trained.gaussians, depths, cameras, c.raster, c.settings)
