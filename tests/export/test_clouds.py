"""Point clouds with normals: `.xyz.ply`, `.pcd`, `.las`."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from spheres import around, sphere_of_gaussians

from splat.core.ply import read_ply
from splat.core.slots import RasterSettings, Silent
from splat.export.cloud_files import LasCloud, PcdCloud, PlyCloud, las_bytes
from splat.export.deliverable import Scene
from splat.export.oriented_cloud import OrientedCloud, cloud_of, shortest_axes, towards_cameras
from splat.raster.native import Native

UTM = np.array([399_123.4567, 5_812_345.6789, 34.5678])


def cloud(offset: np.ndarray, count: int = 1000) -> OrientedCloud:
    rng = np.random.default_rng(1)
    normals = rng.standard_normal((count, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return OrientedCloud(
        torch.from_numpy(offset + 80 * rng.random((count, 3))),
        torch.from_numpy(normals).float(),
        torch.from_numpy(rng.random((count, 3))).float(),
    )


def las_points(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates and normals of a LAS file, by the numbers of its header."""
    size, start, records = struct.unpack_from("<HII", data, 94)
    kind, length = struct.unpack_from("<BH", data, 104)
    scale, origin = np.array(struct.unpack_from("<3d", data, 131)), np.array(struct.unpack_from("<3d", data, 155))
    (count,) = struct.unpack_from("<Q", data, 247)
    assert (data[:4], data[24:26], size, kind, records) == (b"LASF", b"\x01\x04", 375, 7, 1)
    rows = np.frombuffer(data, np.dtype([("xyz", "<i4", 3), ("rest", "V24"), ("n", "<f4", 3)]), count, start)
    assert length == rows.dtype.itemsize and len(data) == start + count * length
    return rows["xyz"] * scale + origin, rows["n"]


def test_las_is_exact_to_a_tenth_of_a_millimetre_at_utm_coordinates() -> None:
    made = cloud(UTM)
    positions, normals = las_points(las_bytes(made))
    assert np.abs(positions - made.positions.numpy()).max() < 1e-4
    assert np.array_equal(normals, made.normals.numpy())
    bounds = np.array(struct.unpack_from("<6d", las_bytes(made), 179)).reshape(3, 2)
    np.testing.assert_allclose(bounds[:, 0], made.positions.numpy().max(0))


@pytest.mark.parametrize("offset", [UTM, np.zeros(3)])
def test_ply_and_pcd_have_doubles_where_float32_is_too_coarse(tmp_path: Path, offset: np.ndarray) -> None:
    made, far = cloud(offset), bool(offset.any())
    PlyCloud().save(tmp_path / "a.xyz.ply", made)
    vertex = read_ply(tmp_path / "a.xyz.ply")["vertex"]
    assert vertex["x"].dtype == (np.float64 if far else np.float32)
    np.testing.assert_allclose(vertex["y"], made.positions[:, 1], rtol=0 if far else 1e-6)
    np.testing.assert_array_equal(vertex["nz"], made.normals[:, 2].numpy())
    PcdCloud().save(tmp_path / "a.pcd", made)
    data = (tmp_path / "a.pcd").read_bytes()
    head, _, body = data.partition(b"DATA binary\n")
    assert f"SIZE {8 if far else 4}".encode() in head and b"POINTS 1000" in head
    kind = "<f8" if far else "<f4"
    rows = np.frombuffer(body, np.dtype([("xyz", kind, 3), ("n", "<f4", 3), ("rgb", "<u4")]))
    np.testing.assert_allclose(rows["xyz"], made.positions.numpy(), rtol=0 if far else 1e-6)
    assert rows["rgb"][0] >> 16 == round(float(made.rgb[0, 0]) * 255)


def test_normals_point_to_the_cameras_that_see_the_points() -> None:
    g = sphere_of_gaussians(800)
    towards = towards_cameras(g, around(12, side=60), Native(), RasterSettings())
    axes = shortest_axes(g)
    outwards = torch.where((axes * towards).sum(1, keepdim=True) < 0, -axes, axes)
    assert float((torch.nn.functional.normalize(g.means, dim=1) * outwards).sum(1).min()) > 0.99


def test_a_bare_file_has_normals_too_and_samples_come_with_theirs(tmp_path: Path) -> None:
    scene = Scene(sphere_of_gaussians(800), {}, offset=(1000.0, 0.0, 0.0))
    made = cloud_of(scene, 5000)
    assert len(made.positions) == 5000 and made.positions.dtype == torch.float64
    local = made.positions - torch.tensor([1000.0, 0, 0], dtype=torch.float64)
    cosine = (torch.nn.functional.normalize(local, dim=1) * made.normals).sum(1)
    assert float(cosine.min()) > 0.95
    for deliverable, name in ((PlyCloud(50), "a.xyz.ply"), (PcdCloud(50), "a.pcd"), (LasCloud(50), "a.las")):
        assert deliverable.write(tmp_path / name, scene, Silent()) == [tmp_path / name]
