"""The shell around a scene has the colours of the photos, continues them where none looks, and hides nothing."""

from __future__ import annotations

import math
from dataclasses import replace

import oracles
import pytest
import torch
from torch import Tensor

from splat.core.camera import Camera
from splat.core.gaussians import Gaussians, with_surroundings
from splat.core.geometry import Rigid
from splat.core.image import Photo
from splat.core.slots import RasterSettings
from splat.geometry.drawing import draw_view
from splat.geometry.reproject import PosedDepth
from splat.raster.reference import Reference
from splat.train.surroundings import Shell, SurroundingsSettings, drawn_behind
from splat.train.views import Posed

UP = torch.tensor([0.0, -1.0, 0.0])
CAMERA = Camera(60.0, 60.0, 60.0, 45.0, 120, 90)
CUBE = [(1.0, 0, 0), (-1.0, 0, 0), (0, 0, 1.0), (0, 0, -1.0)]
BLACK = torch.zeros(3)


def sky(directions: Tensor) -> Tensor:
    """A smooth colour of each direction (unit, [... 3]), in [0.2, 0.8]."""
    return 0.5 + 0.3 * directions


def photo(towards: tuple[float, float, float], eye: tuple[float, float, float] = (0, 0, 0)) -> Posed:
    """Of the sky, which is infinitely far."""
    pose = Rigid.look_at(torch.tensor(eye, dtype=torch.float32), torch.tensor(eye) + torch.tensor(towards), UP)
    rays = CAMERA.unproject(CAMERA.pixel_centres().float(), torch.ones(CAMERA.height, CAMERA.width))
    rays = rays @ pose.rotation.T.float()
    rgb = (255 * sky(rays / rays.norm(dim=-1, keepdim=True))).round().byte()
    return Posed(Photo(rgb.numpy()), CAMERA, pose.inverse().matrix().float())


def near_scene() -> Gaussians:
    rows = oracles.random_gaussians(60, torch.Generator().manual_seed(3), dtype=torch.float32)
    return replace(rows, means=rows.means / rows.means.norm(dim=1).max())


def depth_of(photo: Posed, z: float = 0.0) -> PosedDepth:
    """All of it at one depth; 0: nothing is known."""
    pose = Rigid.from_matrix(photo.cam_from_world).inverse()
    return PosedDepth(photo.camera, pose, torch.full((CAMERA.height, CAMERA.width), z))


def shell_of(photos: list[Posed], depths: tuple[PosedDepth, ...] | None = None, count: int = 800) -> Shell:
    depths = tuple(map(depth_of, photos)) if depths is None else depths
    found = SurroundingsSettings(count).around(near_scene().means, photos, depths)
    assert found is not None
    return found


def test_where_photos_look_past_everything_it_has_their_colours() -> None:
    shell = shell_of([photo(t) for t in CUBE])
    seen = shell.weights.sum(0) > 0.9
    assert 0.5 < float(seen.float().mean()) < 0.95
    error = (shell.colours - sky(shell.directions)).abs()
    assert float(error[seen].max()) < 0.03
    assert float((shell.gaussians.base_rgb - shell.colours).abs().max()) < 1e-6


def test_where_no_photo_looks_colours_are_continued_and_none_is_made_up() -> None:
    shell = shell_of([photo((1.0, 0, 0))])
    unseen = shell.weights.sum(0) == 0
    assert float(unseen.float().mean()) > 0.5
    seen = shell.rgb[0][~unseen]
    assert bool((shell.colours >= seen.amin(0) - 0.01).all() and (shell.colours <= seen.amax(0) + 0.01).all())
    distance, nearest = torch.cdist(shell.directions[unseen], shell.directions[~unseen]).min(1)
    change = (shell.colours[unseen] - shell.colours[~unseen][nearest]).abs().amax(1)
    assert float(change[distance < 0.15].max()) < 0.1  # no edge where the photo ends


def test_a_near_surface_says_little_about_what_is_behind_it() -> None:
    """Two photos of one direction: a red one of a near wall, and a green one that looks past everything."""

    def plain(colour: tuple[int, int, int]) -> Posed:
        rgb = torch.tensor(colour, dtype=torch.uint8).expand(CAMERA.height, CAMERA.width, 3).contiguous()
        return replace(photo((1.0, 0, 0)), photo=Photo(rgb.numpy()))

    red, green = plain((255, 0, 0)), plain((0, 255, 0))
    shell = shell_of([red, green], (depth_of(red, 0.1), depth_of(green, 2.0)))
    seen = shell.weights[1] > 0.99
    assert float(shell.colours[seen, 0].max()) < 0.05 and float(shell.colours[seen, 1].min()) > 0.95


def test_a_photo_that_is_left_out_says_nothing() -> None:
    photos = [photo(t) for t in CUBE[:2]]
    means = near_scene().means
    whole, one = (SurroundingsSettings(400).around(means, p, [*map(depth_of, p)]) for p in (photos, photos[:1]))
    assert whole is not None and one is not None
    assert not torch.allclose(whole.colours, one.colours, atol=0.05)
    assert torch.allclose(whole.without_photos({1}).colours, one.colours, atol=1e-5)
    assert bool((whole.without_photos({0, 1}).colours == 0.5).all())


def test_masked_pixels_say_nothing() -> None:
    seen = photo((1.0, 0, 0))
    masked = replace(seen, photo=replace(seen.photo, weight=torch.zeros(90, 120).byte().numpy()))
    assert float(shell_of([masked]).weights.max()) == 0 < float(shell_of([seen]).weights.max())


def test_without_photos_depth_or_gaussians_of_its_own_there_is_none() -> None:
    seen = photo((1.0, 0, 0))
    assert SurroundingsSettings(0).around(near_scene().means, [seen], [depth_of(seen)]) is None
    assert SurroundingsSettings(100).around(near_scene().means, [], []) is None
    assert SurroundingsSettings(100).around(near_scene().means, [seen], []) is None


@pytest.mark.parametrize("towards", CUBE)
def test_it_is_behind_the_scene_and_hides_nothing_of_it(towards: tuple[float, float, float]) -> None:
    around = [photo(t, (-1.5 * t[0], 0.0, -1.5 * t[2])) for t in CUBE]
    scene, shell = near_scene(), shell_of(around).gaussians
    eye = -1.5 * torch.tensor(towards)
    pose = Rigid.look_at(eye, torch.zeros(3), UP)
    settings, raster = RasterSettings(min_transmittance=1e-6), Reference()
    alone = draw_view(scene, CAMERA, pose, raster, settings, BLACK)
    with_shell = draw_view(scene, CAMERA, pose, raster, settings, BLACK, beyond=shell)
    together = draw_view(with_surroundings(scene, shell), CAMERA, pose, raster, settings, BLACK)
    assert torch.equal(with_shell.alpha, alone.alpha) and torch.equal(with_shell.depth, alone.depth)
    assert float((with_shell.rgb - together.rgb).abs().max()) < 6 / 255  # some Gaussians here are as large as the scene
    assert float(together.alpha.min()) > 0.95  # nothing is left black
    opaque = alone.alpha > 0.999
    assert bool(opaque.any()) and float((with_shell.rgb - alone.rgb)[opaque].abs().max()) < 2 / 255


def test_it_leaves_no_gaps_wherever_one_looks() -> None:
    shell = shell_of([photo(t) for t in CUBE], count=2000).gaussians
    for towards in [*CUBE, (0.1, 1.0, 0.0), (0.7, 0.7, 0.1)]:
        pose = Rigid.look_at(torch.zeros(3), torch.tensor(towards), torch.tensor([0.3, -1.0, 0.2]))
        assert float(draw_view(shell, CAMERA, pose, Reference(), RasterSettings(), BLACK).alpha.min()) > 0.95


def test_training_draws_it_small_and_it_looks_the_same() -> None:
    shell = shell_of([photo(t) for t in CUBE], count=2000).gaussians
    camera = CAMERA.resized(480, 360)
    pose = Rigid.look_at(torch.tensor([0.3, 0.1, -0.2]), torch.tensor([1.0, 0.2, 0.1]), UP)
    matrix = pose.inverse().matrix().float()
    exact = draw_view(shell, camera, pose, Reference(), RasterSettings(), BLACK).rgb
    quick = drawn_behind(shell, camera, matrix, BLACK, Reference(), RasterSettings())
    assert quick.shape == exact.shape and float((quick - exact).abs().max()) < 3 / 255


def test_a_stray_gaussian_does_not_push_it_away() -> None:
    means = torch.cat([near_scene().means, torch.tensor([[1e6, 0, 0]])])
    shell = SurroundingsSettings(100).around(means, [photo((1.0, 0, 0))], [depth_of(photo((1.0, 0, 0)))])
    assert shell is not None and shell.radius < 200
    assert math.isclose(float(shell.gaussians.means.sub(shell.middle).norm(dim=1).max()), shell.radius, rel_tol=1e-4)
