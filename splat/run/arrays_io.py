"""Gaussians and first Gaussians on disk inside a run folder (the exchange formats are in `export/`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from splat.core.files import atomic_path
from splat.core.foreign import regular_file
from splat.core.gaussians import Gaussians
from splat.core.slots import DepthMap, Init, RayRows

_FIELDS = ("means", "quats_wxyz", "log_scales", "logit_opacities", "sh")


def save_init(path: Path, init: Init) -> None:
    arrays: dict[str, Any] = {k: getattr(init.gaussians, k).detach().cpu().numpy() for k in _FIELDS}
    if init.view_ids is not None and init.pixels is not None:
        arrays |= {"view_ids": init.view_ids.numpy(), "pixels": init.pixels.numpy()}
    if init.rays is not None:
        arrays |= {f"ray_{k}": v.numpy() for k, v in vars(init.rays).items()}
    for i, found in enumerate(init.depths):
        arrays[f"depth_{i}"] = torch.where(found.confidence > 0, 1 / found.depth.clamp_min(1e-12), 0).numpy()
        arrays[f"min_probability_{i}"] = np.float32(found.min_probability)
        arrays[f"probability_{i}"] = (255 * found.confidence.clamp(0, 1)).round().byte().numpy()
        if found.normals_cam is not None:
            arrays[f"normals_{i}"] = (127 * found.normals_cam).round().to(torch.int8).numpy()
        if found.predicted is not None:
            arrays[f"predicted_{i}"] = found.predicted.numpy()
    with atomic_path(path) as part, part.open("wb") as f:
        np.savez(f, **arrays)


def load_init(path: Path) -> Init:
    regular_file(path)
    with np.load(path) as z:
        arrays = {k: torch.from_numpy(z[k]) for k in z.files}
    gaussians = Gaussians(**{k: arrays[k] for k in _FIELDS})
    rays = {k.removeprefix("ray_"): v for k, v in arrays.items() if k.startswith("ray_")}
    count = sum(k.startswith("depth_") for k in arrays)
    depths = tuple(_depth_map(arrays, i) for i in range(count))
    return Init(gaussians, arrays.get("view_ids"), arrays.get("pixels"), RayRows(**rays) if rays else None, depths)


def _depth_map(arrays: dict[str, Tensor], i: int) -> DepthMap:
    inverse, normals = arrays[f"depth_{i}"], arrays.get(f"normals_{i}")
    unit = None if normals is None else torch.nn.functional.normalize(normals.float(), dim=2)
    depth = torch.where(inverse > 0, 1 / inverse.clamp_min(1e-12), 1.0)
    probability = arrays[f"probability_{i}"].float() / 255 * (inverse > 0)
    least = float(arrays[f"min_probability_{i}"])
    return DepthMap(depth, probability, "metric", unit, (), least, arrays.get(f"predicted_{i}"))


def save_gaussians(path: Path, gaussians: Gaussians) -> None:
    save_init(path, Init(gaussians))


def load_gaussians(path: Path) -> Gaussians:
    return load_init(path).gaussians
