"""`.usda`, `.usdc`, `.usd`, `.usdz`: UsdVol.ParticleField3DGaussianSplat of OpenUSD 26.03 and later, by `usd-core`.

Positions, orientations, linear scales, opacities and SH (per Gaussian, by degree; the signs of the 3DGS code) are
float32. USD's up is y or z: a scene with another up is turned, with its SH, to +y. `customLayerData.splat` says how,
and holds the local origin and whether it was trained with anti-aliasing. Colours are display-referred sRGB.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from splat.core.files import atomic_path
from splat.core.geometry import Similarity, rotation_between
from splat.core.slots import Reporter
from splat.export.deliverable import Deliverable, Scene
from splat.export.header import MIP, OFFSET, is_antialiased, offset_of
from splat.export.packing import arrays

_PRIM = "/scene/splat"
_NEAR_AXIS = 1e-6
_MAX_LOG = 88.0


@dataclass(frozen=True)
class UsdDeliverable(Deliverable):
    """One prim that holds the splat."""

    suffixes: tuple[str, ...] = (".usdz", ".usda", ".usdc", ".usd")
    about: str = "OpenUSD's ParticleField3DGaussianSplat (extra `usd`)"

    def unavailable(self) -> str | None:
        try:
            from pxr import UsdVol
        except ImportError:
            return "it needs OpenUSD: `pip install splat3d[usd]`, or write .glb."
        if not hasattr(UsdVol, "ParticleField3DGaussianSplat"):
            return "this OpenUSD is older than 26.03 and knows no splats: `pip install -U usd-core`, or write .glb."
        return None

    def write(self, path: Path, scene: Scene, report: Reporter) -> list[Path]:
        with atomic_path(path) as temporary, tempfile.TemporaryDirectory(prefix="splat-") as folder:
            layer = Path(folder) / ("splat.usda" if path.suffix.lower() == ".usda" else "splat.usdc")
            _write_layer(layer, scene)
            if path.suffix.lower() == ".usdz":
                from pxr import UsdUtils

                packed = Path(folder) / "packed.usdz"
                UsdUtils.CreateNewUsdzPackage(str(layer), str(packed))
                layer = packed
            shutil.copyfile(layer, temporary)
        return [path]


def _write_layer(path: Path, scene: Scene) -> None:
    from pxr import Sdf, Usd, UsdGeom, UsdVol, Vt

    up = torch.tensor(scene.up, dtype=torch.float64)
    axis, turn = "Y", torch.eye(3, dtype=torch.float64)
    if float(up[2]) > 1 - _NEAR_AXIS:
        axis = "Z"
    elif float(up[1]) <= 1 - _NEAR_AXIS:
        turn = rotation_between(up, torch.tensor([0.0, 1.0, 0.0]))
    g = scene.gaussians.transformed(Similarity(1.0, turn, torch.zeros(3, dtype=torch.float64)))
    means, quats, log_scales, opacities, sh = arrays(g)
    scales = np.exp(np.minimum(log_scales, _MAX_LOG))
    stage = Usd.Stage.CreateNew(str(path))
    UsdGeom.SetStageUpAxis(stage, axis)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    said: dict[str, Any] = {"usd_from_file": [float(v) for v in turn.reshape(-1)]}
    said["SplatRenderMode"] = MIP if is_antialiased(scene.header) else "default"
    if OFFSET in scene.header:
        said[OFFSET] = [float(v) for v in offset_of(scene.header)]
    layer = stage.GetRootLayer()
    data = {k: Vt.DoubleArray(v) if isinstance(v, list) else v for k, v in said.items()}
    layer.customLayerData = {"splat": data}
    root = UsdGeom.Xform.Define(stage, Sdf.Path(_PRIM).GetParentPath())
    stage.SetDefaultPrim(root.GetPrim())
    prim = UsdVol.ParticleField3DGaussianSplat.Define(stage, _PRIM)
    reach = 3 * scales.max(1, keepdims=True)
    values: dict[str, Any] = {
        "positions": Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(means)),
        # a Quatf lies in memory as imaginary part, then real part
        "orientations": Vt.QuatfArray.FromNumpy(np.ascontiguousarray(quats[:, [1, 2, 3, 0]])),
        "scales": Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(scales)),
        "opacities": Vt.FloatArray.FromNumpy(np.ascontiguousarray(opacities)),
        "radiance:sphericalHarmonicsDegree": round(sh.shape[1] ** 0.5) - 1,
        "radiance:sphericalHarmonicsCoefficients": Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(sh.reshape(-1, 3))),
        "projectionModeHint": "perspective",
        "sortingModeHint": "zDepth",
        "extent": Vt.Vec3fArray.FromNumpy(np.stack([(means - reach).min(0), (means + reach).max(0)])),
    }
    for name, value in values.items():
        prim.GetPrim().GetAttribute(name).Set(value)
    layer.Save()
