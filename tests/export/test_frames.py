"""The original frame: leaving it and coming back changes nothing that can be seen."""

import json
from pathlib import Path

import oracles
import torch

from splat.core.capture import Capture, View
from splat.core.geometry import Rigid, Similarity, rotation_from_axis_angle
from splat.core.slots import RasterSettings
from splat.export.sidecar import sidecar_path, to_original_frame, write_sidecar
from splat.raster.reference import Reference

WORLD_FROM_SOURCE = Similarity(
    0.37,
    rotation_from_axis_angle(torch.tensor([0.4, -1.1, 0.7], dtype=torch.float64)),
    torch.tensor([3.0, -2.0, 0.5], dtype=torch.float64),
)


def capture(world_from_cam: Rigid) -> Capture:
    view = View("a.png", Path("a.png"), (24, 16), oracles.random_camera(), world_from_cam)
    return Capture((view,), world_from_source=WORLD_FROM_SOURCE)


def test_the_picture_is_the_same_from_the_original_frame():
    """Gaussians and camera both taken to the source frame give the same image, harmonics included."""
    generator = torch.Generator().manual_seed(3)
    g = oracles.random_gaussians(60, generator, sh_degree=3)
    world_from_cam = Rigid.from_matrix(oracles.random_pose(generator).inverse())
    source_from_world = WORLD_FROM_SOURCE.inverse()
    source_from_cam = source_from_world.apply_pose(world_from_cam)
    camera, black = oracles.random_camera(), torch.zeros(3, dtype=torch.float64)

    def draw(gaussians, a_from_cam: Rigid):
        return Reference()(gaussians, camera, a_from_cam.inverse().matrix(), black, RasterSettings())

    ours = draw(g, world_from_cam)
    theirs = draw(to_original_frame(g, capture(world_from_cam)), source_from_cam)
    assert ours.alpha.max() > 0.5
    assert (ours.rgb - theirs.rgb).abs().max() < 1e-6
    assert (ours.depth - theirs.depth * WORLD_FROM_SOURCE.scale).abs().max() < 1e-6


def test_to_the_original_frame_and_back_is_the_identity():
    g = oracles.random_gaussians(40, torch.Generator().manual_seed(4), sh_degree=3)
    there = to_original_frame(g, capture(Rigid.identity()))
    back = there.transformed(WORLD_FROM_SOURCE)
    for name in ("means", "log_scales", "logit_opacities", "sh"):
        assert torch.allclose(getattr(back, name), getattr(g, name), atol=1e-6), name
    assert torch.allclose(back.covariances, g.covariances, atol=1e-8)


def test_the_sidecar_has_the_transform_and_its_inverse(tmp_path: Path):
    c = capture(Rigid.identity())
    path = write_sidecar(tmp_path / "scene.compressed.ply", c, sh_degree=3)
    assert path == sidecar_path(tmp_path / "scene.compressed.ply") == tmp_path / "scene.frame.json"
    value = json.loads(path.read_text())
    assert value["frame"] == "source" and value["sh_degree"] == 3
    a, b = (torch.tensor(value[k]["matrix"], dtype=torch.float64) for k in ("world_from_source", "source_from_world"))
    assert torch.allclose(a @ b, torch.eye(4, dtype=torch.float64), atol=1e-12)
    assert torch.equal(a, WORLD_FROM_SOURCE.matrix())
