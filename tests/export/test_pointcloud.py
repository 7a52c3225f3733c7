"""Point clouds: the right points, the right colours, and no need for Open3D."""

import sys
import types
from pathlib import Path

import numpy as np
import oracles
import pytest
import torch

from splat.core.capture import PointCloud
from splat.core.errors import SplatError
from splat.core.gaussians import Gaussians, rgb_to_sh
from splat.core.ply import read_ply
from splat.export import open3d_io
from splat.export.pointcloud import points_from_gaussians, write_point_cloud


def disc(n: int = 1) -> Gaussians:
    """n equal flat discs at the origin, normal z, radii 2 and 1."""
    return Gaussians(
        means=torch.zeros(n, 3),
        quats_wxyz=torch.tensor([1.0, 0, 0, 0]).repeat(n, 1),
        log_scales=torch.tensor([2.0, 1.0, 1e-3]).log().repeat(n, 1),
        logit_opacities=torch.full((n,), 4.0),
        sh=rgb_to_sh(torch.tensor([[0.25, 0.5, 1.0]]).repeat(n, 1)),
    )


def test_faint_gaussians_give_no_point():
    g = oracles.random_gaussians(200, torch.Generator().manual_seed(0), dtype=torch.float32)
    cloud = points_from_gaussians(g, min_opacity=0.4)
    assert torch.equal(cloud.positions, g.means[g.opacities >= 0.4])
    assert 0 < len(cloud) < 200


def test_samples_are_spread_as_the_gaussian_is():
    cloud = points_from_gaussians(disc(), samples=20_000)
    # a normal variable kept inside a ball of two sigmas has about three quarters of its variance in two dimensions
    spread = cloud.positions.std(0)
    assert abs(float(spread[0] / spread[1]) - 2) < 0.05 and spread[2] < 2e-3
    assert 1.5 < spread[0] < 2.0
    radius = (cloud.positions / torch.tensor([2.0, 1.0, 1e-3])).norm(dim=1)
    assert radius.max() < 2.0001
    assert torch.allclose(cloud.rgb, torch.tensor([0.25, 0.5, 1.0]).expand(20_000, 3), atol=1e-6)


def test_large_and_opaque_gaussians_get_more_samples():
    g = Gaussians.cat([disc(), disc(), disc()])
    g.means[:, 0] = torch.tensor([-100.0, 0.0, 100.0])
    g.log_scales[0] += np.log(2.0)  # four times the area
    g.logit_opacities[2] = 0.0  # half as opaque
    x = points_from_gaussians(g, samples=30_000).positions[:, 0]
    counts = torch.stack([(x < -50).sum(), ((x > -50) & (x < 50)).sum(), (x > 50).sum()]).double()
    share = counts / counts[1]
    assert abs(share[0] - 4) < 0.25 and abs(share[2] - 0.5 / torch.tensor(4.0).sigmoid()) < 0.05


def test_the_same_seed_gives_the_same_cloud():
    g = oracles.random_gaussians(50, torch.Generator().manual_seed(0), dtype=torch.float32)
    a, b, c = (points_from_gaussians(g, samples=100, seed=s).positions for s in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_no_gaussians_give_an_empty_cloud_that_can_be_written(tmp_path: Path):
    g = disc()[torch.zeros(0, dtype=torch.int64)]
    write_point_cloud(tmp_path / "a.ply", points_from_gaussians(g, samples=10), writer="own")
    assert len(read_ply(tmp_path / "a.ply")["vertex"]) == 0


def test_the_own_writer_keeps_positions_exactly_and_colours_to_eight_bits(tmp_path: Path):
    cloud = PointCloud(torch.randn(30, 3), torch.rand(30, 3))
    write_point_cloud(tmp_path / "a.ply", cloud, writer="own")
    rows = read_ply(tmp_path / "a.ply")["vertex"]
    assert np.array_equal(rows["z"], cloud.positions[:, 2].numpy())
    assert abs(rows["green"] / 255 - cloud.rgb[:, 1].numpy()).max() <= 0.5 / 255 + 1e-6


def test_missing_libusb_is_told_with_its_fix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Open3D is there, but the system lacks the library it links against."""

    class Broken:
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name == "open3d":
                raise OSError("libusb-1.0.so.0: cannot open shared object file: No such file or directory")

    monkeypatch.delitem(sys.modules, "open3d", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    reason = open3d_io.unavailable()
    assert reason is not None and "libusb-1.0-0" in reason and "apt-get" in reason
    write_point_cloud(tmp_path / "a.ply", PointCloud(torch.zeros(2, 3), torch.zeros(2, 3)))  # the own writer steps in
    assert len(read_ply(tmp_path / "a.ply")["vertex"]) == 2
    with pytest.raises(SplatError, match=r"libusb-1\.0-0"):
        write_point_cloud(tmp_path / "b.ply", PointCloud(torch.zeros(2, 3), torch.zeros(2, 3)), writer="open3d")


def test_open3d_gets_the_points_and_a_failure_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    fake = types.ModuleType("open3d")
    fake.__spec__ = types.SimpleNamespace()  # type: ignore[assignment]
    fake.geometry = types.SimpleNamespace(PointCloud=lambda points: types.SimpleNamespace(points=points))  # type: ignore[attr-defined]
    fake.utility = types.SimpleNamespace(Vector3dVector=lambda a: a)  # type: ignore[attr-defined]
    fake.io = types.SimpleNamespace(write_point_cloud=lambda path, cloud: Path(path).write_text("half") and False)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "open3d", fake)
    with pytest.raises(SplatError, match="not written by Open3D"):
        write_point_cloud(tmp_path / "a.ply", PointCloud(torch.zeros(2, 3), torch.zeros(2, 3)))
    assert list(tmp_path.iterdir()) == []


def test_real_open3d_reads_back_what_was_written(tmp_path: Path):
    pytest.importorskip("open3d", exc_type=ImportError)
    cloud = PointCloud(torch.randn(30, 3), torch.rand(30, 3))
    write_point_cloud(tmp_path / "a.ply", cloud, writer="open3d")
    rows = read_ply(tmp_path / "a.ply")["vertex"]
    assert abs(rows["x"] - cloud.positions[:, 0].numpy()).max() < 1e-6
    assert abs(rows["red"] / 255 - cloud.rgb[:, 0].numpy()).max() <= 1 / 255
