"""Loads to measure the rasterizer on: the fixed one in the image plane, the same lifted into space, a trained run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from splat.core.camera import Camera
from splat.core.gaussians import Gaussians, rgb_to_sh
from splat.native import bindings
from splat.raster import reference


@dataclass(frozen=True, eq=False)
class Load:
    """Projected Gaussians of one image, as the reference sees them, and their scene where they come from one."""

    name: str
    camera: Camera
    flat: reference.Splats | None
    scene: Gaussians | None = None
    cam_from_world: Tensor | None = None


def fixed_load(n: int, width: int, height: int, median_sigma: float = 2.0) -> Load:
    """n Gaussians given in the image plane: the fixed kernel load."""
    rng = np.random.default_rng(0)
    centre = rng.uniform(size=(n, 2)) * [width, height]
    long = np.exp(rng.normal(math.log(median_sigma), 0.7, n)).clip(0.3, 80)
    short = long * np.exp(-np.abs(rng.normal(0, 0.7, n)))
    angle = rng.uniform(0, np.pi, n)
    opacity = np.maximum(1 / (1 + np.exp(-rng.normal(0, 2, n))), 0.005)
    colour = rng.uniform(size=(n, 3))
    depth = rng.permutation(n) + 1.0
    cos, sin = np.cos(angle), np.sin(angle)
    xx = (long * cos) ** 2 + (short * sin) ** 2 + reference.BLUR
    yy = (long * sin) ** 2 + (short * cos) ** 2 + reference.BLUR
    xy = (long**2 - short**2) * cos * sin
    det = (long * short) ** 2 + reference.BLUR * (long**2 + short**2) + reference.BLUR**2
    t = [torch.from_numpy(np.ascontiguousarray(v)) for v in (centre, np.stack([xx, xy, yy], 1), det, opacity, colour)]
    flat = reference.Splats(t[0], t[1], t[2], t[3], t[4], torch.from_numpy(depth))
    return Load(f"{n // 1000}k plane {width}x{height}", Camera(1.0, 1.0, 0.0, 0.0, width, height), flat)


def lifted(load: Load) -> Load:
    """The same load in space: flat Gaussians that face the camera at depths from 2 to 10 in the same order, so that
    projection leads back to (nearly) the same footprints."""
    s, c = load.flat, load.camera
    assert s is not None
    camera = Camera(float(c.width), float(c.width), c.width / 2, c.height / 2, c.width, c.height)
    z = 2 + 8 * s.depths / s.depths.max()
    xx, xy, yy = (s.covariances - torch.tensor([reference.BLUR, 0, reference.BLUR])).unbind(1)
    values, vectors = torch.linalg.eigh(torch.stack([xx, xy, xy, yy], 1).reshape(-1, 2, 2))
    sigma = values.clamp_min(1e-4).sqrt() * (z / camera.fx)[:, None]
    half = torch.atan2(vectors[:, 1, 1], vectors[:, 0, 1]) / 2  # the long axis turned to the first scale
    zero = torch.zeros_like(half)
    scene = Gaussians(
        means=camera.unproject(s.means2d, z),
        quats_wxyz=torch.stack([half.cos(), zero, zero, half.sin()], 1),
        log_scales=torch.stack([sigma[:, 1], sigma[:, 0], sigma.min(1).values * 0.1], 1).log(),
        logit_opacities=torch.logit(s.opacities),
        sh=rgb_to_sh(s.rgb, degree=3),
    ).to(torch.float32)
    return Load(load.name.replace("plane", "lifted"), camera, s, scene, torch.eye(4))


def rows_of(s: reference.Splats) -> Tensor:
    """The kernels' rows (see kernels.h) of the reference's splats."""
    s = s.to(torch.float64)
    _, xy, yy = s.covariances.unbind(1)
    a = (0.5 * math.log2(math.e) * yy / s.determinants).sqrt()
    half = reference.half_extents(s, reference.cutoff(s.opacities))
    visible = (s.opacities >= reference.MIN_ALPHA)[:, None]
    columns = [s.means2d, a[:, None], (-a * xy / yy)[:, None], (0.5 * math.log2(math.e) / yy).sqrt()[:, None]]
    columns += [s.opacities.log2()[:, None], half * visible, s.depths[:, None], s.rgb]
    return torch.cat(columns, 1).float().contiguous()


def project(load: Load) -> Tensor:
    """The load's rows: given, or by the projection kernel."""
    if load.scene is None or load.cam_from_world is None:
        assert load.flat is not None
        return rows_of(load.flat)
    g, n, k = load.scene, len(load.scene), load.scene.sh.shape[1]
    rows = torch.empty(n, bindings.FIELDS)
    fields = (g.means, g.quats_wxyz, g.log_scales, g.logit_opacities, g.sh)
    c = load.camera
    view = (load.cam_from_world, c.intrinsics(rows.device), c.width, c.height)
    degree = g.sh_degree
    centres, radii = torch.empty(n, 2), torch.empty(n, dtype=torch.int32)
    bindings.call("splat_project_forward", n, k, degree, *fields, *view, 0.01, 0, rows, centres, radii)
    return rows


def of_run(folder: Path) -> Load:
    """The first registered view of a finished run (`splat reconstruct --out folder`)."""
    from splat.run.completed import CompletedRun

    run = CompletedRun.open(folder)
    view = next(v for v in run.capture.views if v.world_from_cam is not None)
    assert view.camera is not None and view.world_from_cam is not None
    pose = view.world_from_cam.inverse().matrix().float().contiguous()
    scene = run.trained.gaussians.to(torch.float32)
    size = f"{view.camera.width}x{view.camera.height}"
    return Load(f"{folder.name} {size}", view.camera, None, scene.map(Tensor.contiguous), pose)
