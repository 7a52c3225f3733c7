"""What the viewer's page needs of a scene, live (`viewer/`) or inside one file (`export/html.py`): splats as planes of
numbers, where the scene is, its cameras; and the page itself, which `scripts/build_viewer.sh` builds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from splat.core.capture import View
from splat.core.errors import SplatError
from splat.core.foreign import read_json
from splat.core.gaussians import SH_C0, Gaussians

MAX_FRAMED = 50_000
"""Gaussians that the extent is judged by."""


def pack_splats(gaussians: Gaussians) -> bytes:
    """All rows as planes, one after another: means (float32 xyz), and as float16 opacity, colour of degree 0, log
    scales, quaternions (wxyz, unit), and the harmonics above degree 0 (coefficient by coefficient, rgb each)."""
    g = gaussians.map(lambda t: t.detach().cpu().float())
    quats = g.quats_wxyz / g.quats_wxyz.norm(dim=1, keepdim=True).clamp(min=1e-12)
    limit = 65504.0
    halves = (g.opacities, 0.5 + SH_C0 * g.sh[:, 0], g.log_scales, quats, g.sh[:, 1:])
    planes = [g.means.contiguous().numpy().tobytes()]
    planes += [h.clamp(-limit, limit).half().contiguous().numpy().tobytes() for h in halves]
    return b"".join(planes)


def planes_of(sh_degree: int) -> tuple[tuple[int, int], ...]:
    """Numbers a Gaussian, and bytes a number, of each plane of `pack_splats`."""
    return ((3, 4), (1, 2), (3, 2), (3, 2), (4, 2), (3 * ((sh_degree + 1) ** 2 - 1), 2))


@dataclass(frozen=True)
class Extent:
    """Where a scene is."""

    centre: tuple[float, float, float]
    radius: float
    """For `extent`: that 80 % of what is opaque lies within."""


def extent(gaussians: Gaussians) -> Extent:
    """Of the Gaussians that count (opacity at least a tenth, if there are any), with few far ones left out."""
    solid = gaussians.opacities >= 0.1
    means = gaussians.means[solid] if bool(solid.any()) else gaussians.means
    means = means[means.isfinite().all(1)].detach().cpu().double()
    means = means[:: max(1, len(means) // MAX_FRAMED)]
    if len(means) == 0:
        return Extent((0.0, 0.0, 0.0), 1.0)
    centre = means.median(0).values
    radius = float(torch.quantile((means - centre).norm(dim=1), 0.8))
    x, y, z = centre.tolist()
    return Extent((x, y, z), radius if radius > 0 else 1.0)


def ball_within(surroundings: Gaussians | None) -> Extent | None:
    """The ball that the surroundings of a scene are around: from outside they would hide it. None: there are none."""
    if surroundings is None:
        return None
    means = surroundings.means.detach().cpu().double()
    centre = means.mean(0)
    x, y, z = centre.tolist()
    return Extent((x, y, z), 0.999 * float((means - centre).norm(dim=1).min()))


def _as_json(extent: Extent | None) -> dict[str, Any] | None:
    return None if extent is None else {"centre": list(extent.centre), "radius": extent.radius}


def hello(
    name: str,
    up: tuple[float, float, float],
    background: tuple[float, float, float],
    antialiased: bool,
    units_per_scene: float,
    around: Extent | None,
    surroundings: Extent | None = None,
) -> dict[str, Any]:
    """The message that a scene begins with, as far as every page needs it. `surroundings`: see `ball_within`."""
    return {
        "type": "hello",
        "name": name,
        "up": list(up),
        "background": list(background),
        "antialiased": antialiased,
        "units_per_scene": units_per_scene,
        "extent": _as_json(around),
        "surroundings": _as_json(surroundings),
    }


def camera(index: int, view: View, psnr: float | None) -> dict[str, Any]:
    """A posed photo as the page has it. `psnr`: dB, where it was measured."""
    shape = view.camera
    return {
        "id": index,
        "name": view.name,
        "role": view.role,
        "psnr": None if psnr is None else round(psnr, 2),
        "width": shape.width,
        "height": shape.height,
        "intrinsics": [shape.fx, shape.fy, shape.cx, shape.cy],
        "world_from_cam": view.pose.matrix()[:3].tolist(),
    }


def measured_psnr(run: Path) -> dict[str, float]:
    """PSNR of each photo of a finished run that was measured, by name; empty where that cannot be read."""
    try:
        saved = read_json(run / "evaluate" / "views.json")
        rows = [*saved.get("train", []), *saved.get("test", [])]
        return {str(r["name"]): float(r["psnr"]) for r in rows if isinstance(r.get("psnr"), int | float)}
    except (SplatError, KeyError, TypeError, AttributeError):
        return {}


@cache
def bundled(name: str) -> bytes:
    """A file of the built page (`viewer/static`)."""
    return resources.files("splat").joinpath("viewer", "static", name).read_bytes()
