"""The rows and header of a 3D Gaussian splatting `.ply`, to and from Gaussians.

One `vertex` row per Gaussian, float32: x y z, nx ny nz (zeros), f_dc_0..2, f_rest_* channel-major (all red
coefficients, then green, then blue), opacity (logit), scale_0..2 (log), rot_0..3 (wxyz).
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from splat.core.errors import SplatError
from splat.core.gaussians import SH_C0, Gaussians
from splat.core.slots import Reporter
from splat.export.header import NO_OFFSET, Offset, localized
from splat.export.repair import warn

FLAT_LOG_RATIO = -7.0
"""Log ratio of the third scale to the smaller of the other two, for files of 2DGS, which have two scales."""


def vertex_rows(gaussians: Gaussians) -> np.ndarray:
    """Structured array of n float32 rows in the order of the layout."""
    g = gaussians
    n, k, _ = g.sh.shape
    columns: list[tuple[str, Tensor]] = [(name, g.means[:, i]) for i, name in enumerate("xyz")]
    columns += [(name, g.means.new_zeros(n)) for name in ("nx", "ny", "nz")]
    columns += [(f"f_dc_{c}", g.sh[:, 0, c]) for c in range(3)]
    columns += [(f"f_rest_{c * (k - 1) + j}", g.sh[:, 1 + j, c]) for c in range(3) for j in range(k - 1)]
    columns += [("opacity", g.logit_opacities)]
    columns += [(f"scale_{i}", g.log_scales[:, i]) for i in range(3)]
    columns += [(f"rot_{i}", g.quats_wxyz[:, i]) for i in range(4)]
    rows = np.empty(n, [(name, "<f4") for name, _ in columns])
    for name, values in columns:
        rows[name] = values.detach().cpu().float().numpy()
    return rows


def gaussians_from_vertices(
    elements: dict[str, np.ndarray], path: Path, report: Reporter | None
) -> tuple[Gaussians, Offset]:
    """Gaussians from the elements of a file, and the offset that their coordinates are relative to: zero except for
    doubles that float32 cannot hold. Properties may be in any order, float or double, with or without normals and
    f_rest. Raises SplatError for a file that is no splat."""
    vertices = elements.get("vertex")
    names = () if vertices is None else vertices.dtype.names or ()
    if vertices is None or not {"x", "y", "z"} <= set(names):
        raise SplatError(f"{path} has no vertices with x, y, z: give a Gaussian splat .ply.")
    needed = ["opacity", "scale_0", "scale_1", "rot_0", "rot_1", "rot_2", "rot_3"]
    missing = [name for name in needed if name not in names]
    if missing:
        raise SplatError(
            f"{path} is not a Gaussian splat (no property '{missing[0]}'): "
            "it may be a point cloud or a mesh; give the splat .ply instead."
        )

    def table(columns: list[str]) -> Tensor:
        with np.errstate(over="ignore"):  # a double beyond float32 becomes inf, and `repaired` removes the row
            return torch.from_numpy(np.stack([vertices[c].astype(np.float32) for c in columns], 1))

    log_scales = table([c for c in ("scale_0", "scale_1", "scale_2") if c in names])
    if log_scales.shape[1] == 2:
        log_scales = torch.cat([log_scales, log_scales.amin(1, keepdim=True) + FLAT_LOG_RATIO], 1)
    means, offset = table(["x", "y", "z"]), NO_OFFSET
    if all(vertices.dtype[a] == np.float64 for a in "xyz"):
        local, offset = localized(np.stack([vertices[a] for a in "xyz"], 1))
        means = torch.from_numpy(local.astype(np.float32)) if any(offset) else means
    gaussians = Gaussians(
        means=means,
        quats_wxyz=table([f"rot_{i}" for i in range(4)]),
        log_scales=log_scales,
        logit_opacities=table(["opacity"])[:, 0],
        sh=_harmonics(vertices, names, path, report),
    )
    return gaussians, offset


def _harmonics(vertices: np.ndarray, names: tuple[str, ...], path: Path, report: Reporter | None) -> Tensor:
    """SH coefficients [n k 3], of at most degree 3."""
    if {"f_dc_0", "f_dc_1", "f_dc_2"} <= set(names):
        dc = np.stack([vertices[f"f_dc_{c}"] for c in range(3)], 1).astype(np.float32)
    elif {"red", "green", "blue"} <= set(names):  # nerfstudio's export with plain colours
        rgb = np.stack([vertices[c] for c in ("red", "green", "blue")], 1)
        peak = 255.0 if np.issubdtype(rgb.dtype, np.integer) else 1.0
        dc = ((rgb / peak - 0.5) / SH_C0).astype(np.float32)
    else:
        raise SplatError(f"{path} has no colours (f_dc_0 or red): give a Gaussian splat .ply.")
    rest = sorted((name for name in names if re.fullmatch(r"f_rest_\d+", name)), key=lambda s: int(s[7:]))
    per_channel = len(rest) // 3
    degree = round((per_channel + 1) ** 0.5) - 1
    if len(rest) != 3 * ((degree + 1) ** 2 - 1):
        raise SplatError(f"{path} has {len(rest)} f_rest properties, which fits no degree: export it again.")
    if degree > 3:
        warn(report, f"{path} has harmonics of degree {degree}; only degrees up to 3 are used.")
    keep = min(per_channel, 15)
    sh = np.empty((len(vertices), 1 + keep, 3), np.float32)
    sh[:, 0] = dc
    for c in range(3):
        for j in range(keep):
            sh[:, 1 + j, c] = vertices[rest[c * per_channel + j]]
    return torch.from_numpy(sh)
