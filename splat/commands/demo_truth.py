"""How far a run of a ray-traced scene is from what the scene really is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from splat.core.geometry import align_points
from splat.run.completed import CompletedRun
from splat.stages.measure import draw


def compare(run_folder: Path, truth: Any) -> dict[str, float]:
    """Errors after the similarity that aligns the found camera centres with the true ones.

    `centre_error_percent`: median distance of the camera centres, in percent of the largest distance between two true
    ones. `depth_error_percent`: median relative error of the rendered expected depth over all pixels of all views.
    """
    run = CompletedRun.open(run_folder)
    names = list(truth.names)
    true_poses = dict(zip(names, truth.world_from_cam))
    views = [v for v in run.capture.views if v.name in true_poses and v.world_from_cam is not None]
    found = torch.stack([v.world_from_cam.translation for v in views if v.world_from_cam is not None])
    true = torch.stack([true_poses[v.name].translation for v in views]).double()
    truth_from_world = align_points(found, true)
    centre_error = (truth_from_world.apply(found) - true).norm(dim=1).median()
    size = torch.cdist(true, true).max()
    errors = []
    background = run.trained.background
    for v in views:
        render = draw(run.trained.gaussians, v, run.raster, run.settings, background)
        depth = render.depth / render.alpha.clamp(min=1e-6) * truth_from_world.scale
        exact = torch.as_tensor(truth.depth(v.name)).float()
        if exact.shape != depth.shape:
            exact = torch.nn.functional.interpolate(exact[None, None], depth.shape, mode="nearest")[0, 0]
        known = torch.isfinite(exact) & (exact > 0)
        errors.append(((depth - exact).abs() / exact)[known])
    return {
        "centre_error_percent": float(100 * centre_error / size),
        "depth_error_percent": float(100 * torch.cat(errors).median()),
    }
