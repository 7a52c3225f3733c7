"""Meshes: fused depth of exact scenes, the zero level of a field, and the files."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from spheres import RADIUS, around, sphere_of_gaussians

from splat.core.camera import Camera
from splat.core.capture import Capture, View
from splat.core.gaussians import Gaussians, rgb_to_sh
from splat.core.geometry import Rigid, Similarity, quats_on_one_side, rotation_between
from splat.core.ply import read_ply, write_ply
from splat.core.slots import DepthMap, PathCamera, RasterSettings, Silent
from splat.export.cloud_files import PlyCloud
from splat.export.deliverable import Scene, TrainedScene
from splat.export.header import Offset
from splat.export.mesh import Mesh, MeshOptions, mesh_from_gaussians, parts_of, without_small_parts
from splat.export.mesh_files import ObjMesh, PlyMesh, glb_bytes, mesh_of, obj_bytes, ply_elements
from splat.export.surface_maps import Measure, matched_map
from splat.export.surface_nets import surface_nets
from splat.export.tsdf import SIDE, SurfaceMap, Tsdf, blocks_near, pack, unpack
from splat.geometry.surface_depth import surface_depth
from splat.raster.native import Native


def exact_map(c: PathCamera, plane_hole: bool = False) -> SurfaceMap:
    """What a camera measures of the sphere of RADIUS about the origin."""
    x, y = c.camera.pixel_centres().unbind(2)
    ray = torch.stack([(x - c.camera.cx) / c.camera.fx, (y - c.camera.cy) / c.camera.fy, torch.ones_like(x)], 2)
    towards = ray.double() @ c.world_from_cam.rotation.T
    eye = c.world_from_cam.translation
    a, b, e = (towards**2).sum(2), (towards * eye).sum(2), float(eye @ eye) - RADIUS**2
    root = b * b - a * e
    depth = torch.where(root > 0, (-b - root.clamp(min=0).sqrt()) / a, 0)
    at = eye + depth[..., None] * towards
    distance = -((at / RADIUS) * (depth[..., None] * towards)).sum(2)
    cosine = distance / (depth.clamp(min=1e-9) * ray.norm(dim=2))
    weight = (depth > 0) & (cosine > 0.2)
    if plane_hole:
        weight &= at[..., 2] < 0.3
    return SurfaceMap(
        c.camera, c.world_from_cam, depth.float(), distance.float(), (weight * cosine).float(), at.float().abs()
    )


@pytest.fixture(scope="module")
def sphere_mesh() -> Mesh:
    g = sphere_of_gaussians(6000)
    return mesh_from_gaussians(g, around(16), Native(), RasterSettings(), MeshOptions(voxel=0.02), Silent())


def test_the_surface_of_flat_gaussians_is_where_they_are(sphere_mesh: Mesh) -> None:
    error = (sphere_mesh.vertices.norm(dim=1) - RADIUS).abs()
    assert float(error.median()) < 0.01 * RADIUS and float(error.max()) < 0.06 * RADIUS
    # nothing is left out
    area = float(sphere_mesh.areas().sum())
    assert area == pytest.approx(4 * math.pi * RADIUS**2, rel=0.03)


def test_faces_are_counter_clockwise_from_outside_and_have_the_colours_of_their_place(sphere_mesh: Mesh) -> None:
    outwards = (sphere_mesh.normals() * sphere_mesh.vertices).sum(1) / sphere_mesh.vertices.norm(dim=1)
    assert float((outwards > 0.9).float().mean()) > 0.99
    red = sphere_mesh.vertices[:, 0] > 0.1
    assert bool((sphere_mesh.rgb[red][:, 0] > sphere_mesh.rgb[red][:, 2]).all())


def meshed_scene(tmp_path: Path, offset: Offset = (0.0, 0.0, 0.0)) -> Scene:
    """A sphere of Gaussians, turned, three times as large in the frame of the output."""
    g, views = sphere_of_gaussians(1500), []
    for i, c in enumerate(around(12, side=80)):
        views.append(View(f"{i}.png", tmp_path / f"{i}.png", (80, 80), c.camera, c.world_from_cam))
    quarter = rotation_between(torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.0, 1.0, 0.0]))
    file_from_world = Similarity(3.0, quarter, torch.tensor(offset, dtype=torch.float64))
    local = Similarity(3.0, quarter, torch.zeros(3, dtype=torch.float64))
    trained = TrainedScene(
        tmp_path, Capture(tuple(views)), g, Native(), torch.device("cpu"), torch.zeros(3), file_from_world
    )
    return Scene(g.transformed(local), {}, offset=offset, trained=trained)


def test_two_formats_of_one_export_share_their_mesh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene, made = meshed_scene(tmp_path), []
    monkeypatch.setattr("splat.export.mesh_files.mesh_of", lambda *a: made.append(mesh_of(*a)) or made[-1])
    ObjMesh(MeshOptions(voxel=0.1)).write(tmp_path / "a.obj", scene, Silent())
    PlyMesh(MeshOptions(voxel=0.1)).write(tmp_path / "a.mesh.ply", scene, Silent())
    assert len(made) == 1
    PlyMesh(MeshOptions(voxel=0.2)).write(tmp_path / "b.mesh.ply", scene, Silent())
    assert len(made) == 2 and len(made[0].vertices) > 2 * len(made[1].vertices)


def test_a_run_is_meshed_where_its_output_stands(tmp_path: Path) -> None:
    """Also points: both in the frame of the output, at its full coordinates."""
    offset = (400_000.0, 5_800_000.0, 100.0)
    scene = meshed_scene(tmp_path, offset)
    assert PlyMesh(MeshOptions(voxel=0.1)).write(tmp_path / "a.mesh.ply", scene, Silent()) == [tmp_path / "a.mesh.ply"]
    PlyCloud().write(tmp_path / "a.xyz.ply", scene, Silent())
    for name, tolerance in (("a.mesh.ply", 0.05), ("a.xyz.ply", 1e-5)):
        vertex = read_ply(tmp_path / name)["vertex"]
        at = np.stack([vertex[a] for a in "xyz"], 1) - offset
        normals = np.stack([vertex[f"n{a}"] for a in "xyz"], 1)
        assert np.abs(np.linalg.norm(at, axis=1) - 3 * RADIUS).max() < tolerance * 3 * RADIUS
        assert np.median((at * normals).sum(1)) > 0.98 * 3 * RADIUS


def test_surroundings_are_no_surface_in_meshes_and_clouds(tmp_path: Path) -> None:
    scene = meshed_scene(tmp_path)
    t = scene.trained
    assert t is not None
    beyond = replace(t.gaussians, means=5 * t.gaussians.means, log_scales=t.gaussians.log_scales + 2)
    placed = Gaussians.cat([scene.gaussians, beyond.transformed(t.file_from_world)])
    around = replace(scene, gaussians=placed, trained=replace(t, surroundings=beyond), _shared={})
    for name, some in (("plain", scene), ("around", around)):
        PlyMesh(MeshOptions(voxel=0.1)).write(tmp_path / f"{name}.mesh.ply", some, Silent())
        PlyCloud().write(tmp_path / f"{name}.xyz.ply", some, Silent())
    for kind in ("mesh.ply", "xyz.ply"):
        assert (tmp_path / f"plain.{kind}").read_bytes() == (tmp_path / f"around.{kind}").read_bytes()


def test_depth_of_a_slanted_plane_is_exact_between_centres_of_gaussians() -> None:
    """Large Gaussians on one plane: with the depth of their centres alone it would be a staircase."""
    camera = Camera(200.0, 200.0, 60.0, 50.0, 120, 100)
    normal = torch.nn.functional.normalize(torch.tensor([0.5, -0.3, -1.0], dtype=torch.float64), dim=0)
    u = torch.nn.functional.normalize(torch.linalg.cross(normal, torch.tensor([0.0, 1.0, 0.0]).double()), dim=0)
    v = torch.linalg.cross(normal, u)
    grid = torch.cartesian_prod(*[torch.linspace(-2, 2, 21, dtype=torch.float64)] * 2)
    centre = torch.tensor([0.0, 0.0, 3.0], dtype=torch.float64)
    means = centre + grid[:, :1] * u + grid[:, 1:] * v
    quat = quats_on_one_side(rotation_between(torch.tensor([0.0, 0.0, 1.0]), normal)[None])
    g = Gaussians(
        means.float(),
        quat.float().repeat(len(means), 1),
        torch.tensor([0.2, 0.2, 1e-3]).log().repeat(len(means), 1),
        torch.full((len(means),), 3.0),
        rgb_to_sh(torch.full((len(means), 3), 0.5)),
    )
    found = surface_depth(g, camera, Rigid.identity(), Native(), RasterSettings())
    x, y = camera.pixel_centres().unbind(2)
    ray = torch.stack([(x - 60) / 200, (y - 50) / 200, torch.ones_like(x)], 2).double()
    true = float(normal @ centre) / (ray @ normal)
    assert float(((found.depth - true) / true).abs().max()) < 2e-3
    assert float((found.normals_cam.double() @ normal).min()) > 0.999


def test_exact_depth_gives_the_exact_surface_and_a_hole_that_nobody_saw_stays_open() -> None:
    voxel, truncation = 0.02, 0.08
    maps = [exact_map(c, plane_hole=True) for c in around(12)]
    keys = torch.cat([blocks_near(m, voxel, truncation) for m in maps]).unique()
    tsdf = Tsdf(keys, voxel, truncation)
    for m in maps:
        tsdf.fuse(m)
    vertices, faces, rgb = surface_nets(keys, tsdf.values(2), tsdf.colours(), voxel)
    error = (vertices.norm(dim=1) - RADIUS).abs()
    assert float(error.median()) < 0.003 * RADIUS and float(error.max()) < voxel
    assert float(vertices[:, 2].max()) < 0.3 + truncation  # open at the top
    zone = 2 * math.pi * RADIUS * (RADIUS + 0.3)
    area = float(Mesh(vertices, faces, rgb).areas().sum())
    assert area == pytest.approx(zone, rel=0.08)  # a voxel or two of the rim are missing
    assert float((rgb - vertices.abs()).abs().median()) < 0.03


def exact_match(c: PathCamera, probability: float = 1.0, scale: float = 1.0) -> DepthMap:
    """The sphere as matching would have it, at half the size, in the camera's axes; `scale` makes it wrong."""
    small = PathCamera(c.camera.scaled(0.5), c.world_from_cam)
    m = exact_map(small)
    at = c.world_from_cam.apply(small.camera.unproject(small.camera.pixel_centres().float(), m.depth))
    normals = (at.double() @ c.world_from_cam.rotation).float() / RADIUS
    known = (m.depth > 0).float()
    return DepthMap(torch.where(m.depth > 0, scale * m.depth, 1.0), probability * known, normals_cam=normals)


def with_a_wrong_side() -> Gaussians:
    """The sphere, but what faces +x lies a fifth of the radius too far out: as Gaussians do where few photos look."""
    g = sphere_of_gaussians(6000)
    out = torch.where(g.means[:, :1] > 0.5 * RADIUS, 1.2, 1.0)
    return replace(g, means=out * g.means)


def test_a_matched_slanted_plane_is_measured_exactly_and_in_the_colours_that_are_drawn() -> None:
    camera = Camera(200.0, 210.0, 60.0, 50.0, 120, 100)
    small = camera.resized(60, 50)
    normal = torch.nn.functional.normalize(torch.tensor([0.5, -0.3, -1.0], dtype=torch.float64), dim=0)
    ray = small.unproject(small.pixel_centres().double(), torch.ones(50, 60, dtype=torch.float64))
    depth = (-3.0 / (ray @ normal)).float()
    rgb = torch.rand(100, 120, 3, generator=torch.Generator().manual_seed(0))
    found = DepthMap(depth, torch.ones(50, 60), normals_cam=normal.float().expand(50, 60, 3))
    m = matched_map(PathCamera(camera, Rigid.identity()), found, rgb, Measure(truncation=0.1, depth=3.0))
    assert bool((m.weight > 0).all()), "no edge is seen in a plane"
    torch.testing.assert_close(m.distance, torch.full((50, 60), 3.0))
    torch.testing.assert_close(m.rgb, rgb[1::2, 1::2])


def share_on_the_sphere(mesh: Mesh) -> tuple[float, float]:
    """Of the side that `with_a_wrong_side` moves: how much of the true surface is there, and of what is there how much
    is true, both within 0.03 RADIUS."""
    side = mesh.vertices[mesh.vertices[:, 0] > 0.7 * RADIUS]
    truth = sphere_of_gaussians(4000).means
    truth = truth[truth[:, 0] > 0.7 * RADIUS]
    near = torch.cdist(truth, side).amin(1) < 0.06 * RADIUS
    true = (side.norm(dim=1) / RADIUS - 1).abs() < 0.03
    return float(near.float().mean()), float(true.float().mean())


def test_matched_depth_puts_a_surface_right_that_is_drawn_in_the_wrong_place() -> None:
    cameras, g = around(16), with_a_wrong_side()
    given = (Native(), RasterSettings(), MeshOptions(voxel=0.02), Silent())
    covered, true = share_on_the_sphere(mesh_from_gaussians(g, cameras, *given))
    assert covered < 0.2 and true < 0.2, "planted"
    matched = [exact_match(c) for c in cameras]
    covered, true = share_on_the_sphere(mesh_from_gaussians(g, cameras, *given, matched))
    assert covered > 0.98 and true > 0.95


def test_an_improbable_match_hardly_moves_what_is_drawn() -> None:
    cameras, g = around(16), sphere_of_gaussians(6000)
    matched = [exact_match(c, probability=0.05, scale=1.02) for c in cameras]
    options = MeshOptions(voxel=0.02)
    mesh = mesh_from_gaussians(g, cameras, Native(), RasterSettings(), options, Silent(), matched)
    error = (mesh.vertices.norm(dim=1) - RADIUS).abs()
    assert float(error.median()) < 0.01 * RADIUS and float(error.max()) < 0.06 * RADIUS


def test_what_no_map_is_known_of_is_drawn() -> None:
    """Nothing matched anywhere: the mesh is that of the Gaussians, to the last bit."""
    cameras, g = around(12, side=60), sphere_of_gaussians(1500)
    given = (Native(), RasterSettings(), MeshOptions(voxel=0.04), Silent())
    nothing = [exact_match(c, probability=0.0) for c in cameras]
    alone, beside = (mesh_from_gaussians(g, cameras, *given, m) for m in ((), nothing))
    assert torch.equal(alone.vertices, beside.vertices) and torch.equal(alone.faces, beside.faces)


def test_blocks_cover_everything_within_the_truncation() -> None:
    m = exact_map(around(1)[0])
    voxel, truncation = 0.02, 0.1
    keys = blocks_near(m, voxel, truncation)
    known = m.weight > 0
    points = m.world_from_cam.apply(m.camera.unproject(m.camera.pixel_centres()[known].float(), m.depth[known]))
    generator = torch.Generator().manual_seed(0)
    near = points + truncation * (2 * torch.rand(points.shape, generator=generator) - 1)
    block = pack((near / (SIDE * voxel)).floor().long())
    assert bool(torch.isin(block, keys).all())


def test_keys_of_blocks_are_unpacked_as_they_were() -> None:
    blocks = torch.tensor([[-1, 0, 5], [-(2**20), 2**20 - 1, 0], [3, -7, 11]])
    assert torch.equal(unpack(pack(blocks)), blocks)


def test_small_parts_are_left_out() -> None:
    square = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    vertices = torch.cat([square, 0.01 * square + 5])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
    mesh = Mesh(vertices, faces, vertices / 10)
    assert parts_of(faces, 8).tolist() == [0, 0, 0, 0, 4, 4, 4, 4]
    left = without_small_parts(mesh, 0.01)
    assert torch.equal(left.vertices, square) and torch.equal(left.faces, faces[:2])
    assert len(without_small_parts(mesh, 0.0).faces) == 4


# ------------------------------------------------------------------------------------------------------------- files

TRIANGLE = Mesh(
    torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), torch.tensor([[0, 1, 2]]), torch.tensor([[1.0, 0.5, 0.0]] * 3)
)


def test_glb_has_positions_normals_linear_colours_and_up() -> None:
    data = glb_bytes(TRIANGLE, (100_000.0, 200_000.0, 7.0), (0.0, 0.0, 1.0))
    magic, version, total, length, kind = struct.unpack("<IIIII", data[:20])
    assert (magic, version, total, kind) == (0x46546C67, 2, len(data), 0x4E4F534A)
    document = json.loads(data[20 : 20 + length])
    binary = data[28 + length :]
    view = document["bufferViews"]
    take = [binary[v["byteOffset"] : v["byteOffset"] + v["byteLength"]] for v in view]
    assert np.array_equal(np.frombuffer(take[0], "<f4").reshape(-1, 3), TRIANGLE.vertices.numpy())
    assert np.frombuffer(take[1], "<f4").reshape(-1, 3)[0].tolist() == [0, 0, 1]
    assert np.frombuffer(take[2], "<u2")[:4] / 65535 == pytest.approx([1, 0.2140, 0, 1], abs=1e-4)
    assert np.frombuffer(take[3], "<u4").tolist() == [0, 1, 2]
    node = document["nodes"][0]
    x, y, z, w = node["rotation"]
    up = [2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)]  # of the z axis
    assert up == pytest.approx([0, 1, 0], abs=1e-6)
    assert node["translation"] == pytest.approx([100_000, 7, -200_000])


def test_obj_and_ply_hold_large_coordinates(tmp_path: Path) -> None:
    offset = (399_000.25, 5_500_000.5, 12.0)
    lines = obj_bytes(TRIANGLE, offset).decode().splitlines()
    assert lines[1] == "v 399000.25 5500000.5 12 1 0.5 0"
    assert lines[-1] == "f 1//1 2//2 3//3"
    path = tmp_path / "a.mesh.ply"
    write_ply(path, ply_elements(TRIANGLE, offset))
    read = read_ply(path)
    assert read["vertex"]["y"].tolist() == [5_500_000.5, 5_500_000.5, 5_500_001.5]
    assert read["vertex"]["nz"].tolist() == [1, 1, 1] and read["vertex"]["green"].tolist() == [128] * 3
    assert np.asarray(read["face"]["vertex_indices"]).tolist() == [[0, 1, 2]]
    write_ply(path, ply_elements(TRIANGLE, (0.0, 0.0, 0.0)))
    assert read_ply(path)["vertex"]["x"].dtype == np.float32
