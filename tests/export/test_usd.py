"""`.usda` and `.usdz`, read back by OpenUSD itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import oracles
import pytest
import torch

from splat.core.geometry import matrix_from_quat
from splat.core.slots import Silent
from splat.export import DELIVERABLES
from splat.export.deliverable import Scene, all_chosen
from splat.export.usd import UsdDeliverable


@pytest.mark.parametrize("suffix", ["usda", "usdz"])
@pytest.mark.parametrize("up", [(0.0, -1.0, 0.0), (0.0, 0.0, 1.0)])
def test_a_splat_reads_back_as_openusd_says(suffix: str, up: tuple[float, float, float], tmp_path: Path) -> None:
    pytest.importorskip("pxr", reason="usd-core (extra `usd`) is not installed")
    from pxr import Usd, UsdGeom, UsdVol

    g = oracles.random_gaussians(40, torch.Generator().manual_seed(2), 2, dtype=torch.float32)
    path = tmp_path / f"a.{suffix}"
    UsdDeliverable().write(path, Scene(g, {"SplatRenderMode": "mip", "offset": "1 2 3"}, up=up), Silent())
    stage = Usd.Stage.Open(str(path))
    assert UsdGeom.GetStageUpAxis(stage) == ("Z" if up[2] else "Y") and UsdGeom.GetStageMetersPerUnit(stage) == 1
    (prim,) = [p for p in stage.Traverse() if p.IsA(UsdVol.ParticleField3DGaussianSplat)]
    read = {a.GetName(): a.Get() for a in prim.GetAttributes()}
    flip = torch.eye(3, dtype=torch.float64) if up[2] else torch.diag(torch.tensor([1.0, -1, -1])).double()
    assert np.allclose(read["positions"], g.means.double() @ flip, atol=1e-5)
    wxyz = torch.tensor([[q.GetReal(), *q.GetImaginary()] for q in read["orientations"]], dtype=torch.float64)
    half = matrix_from_quat(wxyz) * torch.tensor(np.array(read["scales"])).double()[:, None]
    assert torch.allclose(half @ half.transpose(1, 2), flip @ g.covariances.double() @ flip, atol=1e-4)
    assert np.allclose(read["opacities"], g.opacities, atol=1e-6)
    assert read["radiance:sphericalHarmonicsDegree"] == 2
    coefficients = np.array(read["radiance:sphericalHarmonicsCoefficients"]).reshape(40, 9, 3)
    assert np.allclose(coefficients[:, 0], g.sh[:, 0], atol=1e-5)
    assert not up[2] or np.allclose(coefficients, g.sh, atol=1e-5)
    said = stage.GetRootLayer().customLayerData["splat"]
    assert said["SplatRenderMode"] == "mip" and list(said["offset"]) == [1, 2, 3]


def test_without_openusd_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pxr", None)
    with pytest.raises(Exception, match=r"a\.usdz cannot be written: .*splat3d\[usd\]"):
        all_chosen([Path("a.usdz")], True, Path("run"), DELIVERABLES)
