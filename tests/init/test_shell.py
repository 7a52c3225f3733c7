"""What is far behind everything: where it is seen, in which colour, and that nothing else is hidden by it."""

from __future__ import annotations

import math

import planes
import pytest
import torch

from splat.core.camera import Camera
from splat.core.capture import Capture
from splat.core.gaussians import rgb_to_sh
from splat.core.geometry import matrix_from_quat
from splat.core.image import read_pixels, write_png
from splat.core.slots import DepthMap, Priors, RasterSettings, Silent
from splat.init.edgs import Edgs
from splat.init.shell import Shell, cells
from splat.raster.reference import Reference

CAMERA = Camera(150.0, 155.0, 83.0, 57.0, 160, 120)
SCENE = planes.PlaneScene.make(20.0)
SKY = (120, 170, 250)
HORIZON = 50


class UpToTheSky:
    """The plane's own depth below the horizon, and no opinion above."""

    def __call__(self, capture: Capture, report, seed: int = 0) -> list[DepthMap]:
        maps = []
        for i, v in enumerate(capture.views):
            pose = planes.walk(len(capture.views))[i]
            depth = SCENE.depth(v.camera, pose).float()
            normal = (pose.rotation.T.float() @ SCENE.normal.float()).expand(*depth.shape, 3)
            sure = torch.ones_like(depth)
            sure[: round(HORIZON * v.camera.height / CAMERA.height)] = 0
            others = tuple(j for j in range(len(capture.views)) if j != i)
            maps.append(DepthMap(depth, sure, "metric", normal, others))
        return maps


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Capture:
    found = planes.capture_of(SCENE, CAMERA, planes.walk(3), tmp_path_factory.mktemp("sky"))
    for v in found.views:
        pixels = read_pixels(v.image_path).copy()
        pixels[:HORIZON] = SKY
        write_png(v.image_path, pixels)
    return found


def made(capture: Capture, **settings):
    settings.setdefault("shell", Shell(most=0.05))
    return Edgs(keep_points=0.0, fill=0.0, **settings)(capture, 1, 0, Silent(), Priors(UpToTheSky()))


def behind(init) -> torch.Tensor:
    return init.view_ids < 0


def test_the_sky_is_a_sphere_of_its_colour_in_its_directions(capture: Capture) -> None:
    init = made(capture)
    g = init.gaussians[behind(init)]
    assert 5 < len(g) <= 0.05 * len(init.gaussians) + 1
    centre = torch.stack([v.pose.translation for v in capture.views]).mean(0).float()
    away = g.means - centre
    farthest = max(float(SCENE.depth(v.camera, v.pose).max()) for v in capture.views)
    assert float(away.norm(dim=1).std() / away.norm(dim=1).mean()) < 1e-4
    assert float(away.norm(dim=1).min()) > 5 * farthest
    flat = matrix_from_quat(g.quats_wxyz)[:, :, 2]
    assert float((flat * torch.nn.functional.normalize(away, dim=1)).sum(1).abs().min()) > 0.999
    sky = rgb_to_sh(torch.tensor([SKY]) / 255)[0]
    assert torch.allclose(g.sh[:, :1], sky.expand(len(g), 1, 3), atol=0.1)  # 0.03 of a channel
    for v in capture.views:
        inside = v.pose.inverse().apply(g.means.double())
        pixels = CAMERA.project(inside)
        seen = (inside[:, 2] > 0) & CAMERA.contains(pixels)
        assert (
            bool(seen.any()) and float(pixels[seen, 1].max()) < HORIZON + 16
        )  # a cell of the test of what is explained


def test_with_it_the_first_image_has_a_sky(capture: Capture) -> None:
    v = capture.views[1]

    def seen(**settings) -> torch.Tensor:
        cam_from_world = v.pose.inverse().matrix().float()
        gaussians = made(capture, **settings).gaussians
        render = Reference()(gaussians, v.camera, cam_from_world, torch.zeros(3), RasterSettings())
        return render.rgb[: HORIZON - 16]

    sky = torch.tensor(SKY) / 255
    assert float((seen() - sky).abs().mean()) < 0.1
    assert float((seen(shell=Shell(most=0.0)) - sky).abs().mean()) > 0.4


def test_nothing_is_put_behind_what_is_explained(tmp_path) -> None:
    """The whole photo is matched: no sphere, and none where there is no budget for one."""
    whole = planes.capture_of(SCENE, CAMERA, planes.walk(3), tmp_path)
    init = Edgs(keep_points=0.0, shell=Shell(most=0.05))(whole, 1, 0, Silent(), Priors(Everywhere()))
    assert not behind(init).any()


class Everywhere(UpToTheSky):
    def __call__(self, capture: Capture, report, seed: int = 0) -> list[DepthMap]:
        from dataclasses import replace

        return [replace(m, confidence=torch.ones_like(m.depth)) for m in super().__call__(capture, report, seed)]


def test_cells_are_about_equal_and_neighbours_share_them() -> None:
    directions = torch.nn.functional.normalize(
        torch.randn(200_000, 3, generator=torch.Generator().manual_seed(0)), dim=1
    )
    across = 8
    which = cells(directions, across)
    assert set(which.tolist()) == set(range(6 * across**2))
    area = which.bincount().double() / len(which) * 4 * math.pi
    assert float(area.max() / area.min()) < 1.6
    for cell in (0, 77, 383):
        mine = directions[which == cell]
        assert float((mine @ mine.mean(0) / mine.mean(0).norm()).min()) > math.cos(1.2 * math.pi / 2 / across)
    assert torch.equal(cells(-directions, across) == which, torch.zeros(len(which), dtype=torch.bool))
