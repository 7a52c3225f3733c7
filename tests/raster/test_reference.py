"""What a rasterizer must do, shown on the reference."""

import math
from dataclasses import replace

import oracles
import pytest
import torch

from splat.core.camera import Camera
from splat.core.errors import SplatError
from splat.core.gaussians import Gaussians, rgb_to_sh
from splat.core.geometry import Similarity, rotation_from_axis_angle
from splat.core.slots import RasterSettings
from splat.raster import choose, reasons
from splat.raster.reference import Reference

DRAW = Reference()
BLACK = torch.zeros(3, dtype=torch.float64)
MODES = ["classic", "antialiased"]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def one_gaussian(z=5.0, scale=0.2, opacity=0.8, rgb=(0.9, 0.5, 0.2), xy=(0.0, 0.0)) -> Gaussians:
    return Gaussians(
        means=torch.tensor([[*xy, z]], dtype=torch.float64),
        quats_wxyz=torch.tensor([[1.0, 0, 0, 0]], dtype=torch.float64),
        log_scales=torch.full((1, 3), math.log(scale), dtype=torch.float64),
        logit_opacities=torch.logit(torch.tensor([opacity], dtype=torch.float64)),
        sh=rgb_to_sh(torch.tensor([rgb], dtype=torch.float64)),
    )


CAMERA = Camera(fx=50.0, fy=50.0, cx=16.0, cy=12.0, width=32, height=24)
EYE = torch.eye(4, dtype=torch.float64)


@pytest.mark.parametrize("mode", MODES)
def test_an_isotropic_gaussian_on_the_axis_is_the_closed_form(mode):
    z, scale, opacity = 5.0, 0.2, 0.8
    g = one_gaussian(z, scale, opacity)
    image = DRAW(g, CAMERA, EYE, BLACK, RasterSettings(mode=mode))
    variance = (50 * scale / z) ** 2 + 0.3
    peak = opacity * (1 if mode == "classic" else (variance - 0.3) / variance)
    d2 = (CAMERA.pixel_centres().double() - torch.tensor([16.0, 12.0])).square().sum(-1)
    alpha = peak * torch.exp(-d2 / (2 * variance))
    alpha = torch.where(alpha >= 1 / 255, alpha, 0)
    assert torch.allclose(image.alpha, alpha, atol=1e-12)
    assert torch.allclose(image.rgb, alpha[..., None] * torch.tensor([0.9, 0.5, 0.2], dtype=torch.float64), atol=1e-12)
    assert torch.allclose(image.depth, alpha * z, atol=1e-12)
    assert int(image.radii[0]) == math.ceil(math.sqrt(2 * math.log(255 * peak) * variance))
    assert torch.allclose(image.means2d, torch.tensor([[16.0, 12.0]], dtype=torch.float64))


def test_antialiasing_keeps_the_total_light_of_a_tiny_gaussian():
    """Its footprint integrates to opacity x 2 pi sigma^2 whatever the blur, where classic drawing inflates it."""
    wide = Camera(fx=50.0, fy=50.0, cx=16.3, cy=12.1, width=32, height=24)
    g = one_gaussian(z=5, scale=0.08, opacity=0.99)
    total = DRAW(g, wide, EYE, BLACK, RasterSettings(mode="antialiased")).alpha.sum()
    assert float(total) == pytest.approx(0.99 * 2 * math.pi * 0.8**2, rel=0.02)
    assert float(DRAW(g, wide, EYE, BLACK, RasterSettings()).alpha.sum()) > 1.3 * float(total)


@pytest.mark.parametrize("mode", MODES)
def test_permuting_gaussians_changes_nothing(mode):
    g, pose, camera = oracles.random_gaussians(60, seeded(0)), oracles.random_pose(seeded(1)), oracles.random_camera()
    order = torch.randperm(60, generator=seeded(2))
    a = DRAW(g, camera, pose, BLACK, RasterSettings(mode=mode))
    b = DRAW(g[order], camera, pose, BLACK, RasterSettings(mode=mode))
    assert torch.equal(a.rgb, b.rgb) and torch.equal(a.depth, b.depth) and torch.equal(a.alpha, b.alpha)
    assert torch.equal(a.radii[order], b.radii) and torch.equal(a.means2d[order], b.means2d)


def test_gaussians_at_one_depth_are_drawn_in_their_order():
    g = Gaussians.cat([one_gaussian(rgb=(1, 0, 0), opacity=0.9), one_gaussian(rgb=(0, 1, 0), opacity=0.9)])
    red, green, _ = DRAW(g, CAMERA, EYE, BLACK, RasterSettings()).rgb[12, 16]
    assert red > 5 * green


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_the_image_does_not_depend_on_the_world_frame(mode, degree):
    g, camera = oracles.random_gaussians(40, seeded(3), sh_degree=degree), oracles.random_camera()
    pose = oracles.random_pose(seeded(4))
    turn = rotation_from_axis_angle(torch.tensor([0.7, -1.1, 0.4], dtype=torch.float64))
    b_from_a = Similarity(2.5, turn, torch.tensor([1.0, -3.0, 2.0], dtype=torch.float64))
    moved = torch.eye(4, dtype=torch.float64)
    moved[:3, :3] = pose[:3, :3] @ turn.T
    moved[:3, 3] = 2.5 * pose[:3, 3] - moved[:3, :3] @ b_from_a.translation
    settings = RasterSettings(mode=mode)
    a = DRAW(g, camera, pose, BLACK, settings)
    b = DRAW(g.transformed(b_from_a), camera, moved, BLACK, replace(settings, near=settings.near * 2.5))
    assert a.alpha.max() > 0.5
    assert torch.allclose(a.rgb, b.rgb, atol=1e-6)  # rotate_sh and log(scale) are computed in float32 precision
    assert torch.allclose(2.5 * a.depth, b.depth, atol=1e-6)


def test_the_length_of_a_quaternion_means_nothing():
    g, pose, camera = oracles.random_gaussians(30, seeded(5)), oracles.random_pose(seeded(6)), oracles.random_camera()
    a = DRAW(g, camera, pose, BLACK, RasterSettings()).rgb
    b = DRAW(replace(g, quats_wxyz=-3 * g.quats_wxyz), camera, pose, BLACK, RasterSettings()).rgb
    assert torch.allclose(a, b, atol=1e-12)


def test_an_opaque_gaussian_hides_what_is_behind_it():
    """Four layers of alpha 0.999 at the centre leave 1e-12: only the first two pass the transmittance test."""
    front = [one_gaussian(z=4 + 0.1 * i, scale=2.0, opacity=0.9999, rgb=(0.5, 0.5, 0.5)) for i in range(4)]
    behind = one_gaussian(z=8, scale=1.0, opacity=0.9, rgb=(1.0, 0, 0))
    g = oracles.leaves(Gaussians.cat([*front, behind]))
    image = DRAW(g, CAMERA, EYE, BLACK, RasterSettings())
    t = 1 - 0.999
    assert float(image.rgb.detach()[12, 16, 0]) == pytest.approx(0.5 * (1 - t * t), abs=1e-12)
    image.rgb[12, 16].sum().backward()
    assert g.sh.grad is not None and not g.sh.grad[2:].any() and g.sh.grad[:2].any()


def test_background_shows_through_what_alpha_leaves():
    g, pose, camera = oracles.random_gaussians(30, seeded(7)), oracles.random_pose(seeded(8)), oracles.random_camera()
    background = torch.tensor([0.2, 0.7, 1.5], dtype=torch.float64)
    black = DRAW(g, camera, pose, BLACK, RasterSettings())
    lit = DRAW(g, camera, pose, background, RasterSettings())
    assert torch.allclose(lit.rgb, black.rgb + (1 - black.alpha)[..., None] * background, atol=1e-14)
    assert torch.equal(lit.depth, black.depth)
    empty = DRAW(g[:0], camera, pose, background, RasterSettings())
    assert torch.equal(empty.rgb, background.expand_as(empty.rgb)) and not empty.alpha.any()


def test_depth_over_alpha_lies_between_the_nearest_and_the_farthest():
    g, pose, camera = oracles.random_gaussians(50, seeded(9)), oracles.random_pose(seeded(10)), oracles.random_camera()
    image = DRAW(g, camera, pose, BLACK, RasterSettings())
    z = (g.means @ pose[:3, :3].T + pose[:3, 3])[image.radii > 0, 2]
    expected = (image.depth / image.alpha)[image.alpha > 0]
    assert z.min() - 1e-9 <= expected.min() and expected.max() <= z.max() + 1e-9


def test_nothing_nearer_than_the_near_plane_is_drawn():
    g = Gaussians.cat([one_gaussian(z=z, scale=0.01) for z in (-3.0, 0.0, 0.05, 0.2, 1.0)])
    radii = DRAW(g, CAMERA, EYE, BLACK, RasterSettings(near=0.1)).radii
    assert (radii > 0).tolist() == [False, False, False, True, True]
    assert (DRAW(g, CAMERA, EYE, BLACK, RasterSettings(near=0.0)).radii > 0).tolist() == [
        False,
        False,
        True,
        True,
        True,
    ]


def test_the_linearization_is_frozen_outside_the_image():
    """Far to the side the footprint uses the Jacobian of the frame's edge: it stays as large as there."""
    camera = Camera(fx=50.0, fy=50.0, cx=10.0, cy=12.0, width=32, height=24)
    settings = RasterSettings()

    def radius(x_over_z: float) -> int:
        return int(DRAW(one_gaussian(z=2, scale=3.0, xy=(2 * x_over_z, 0)), camera, EYE, BLACK, settings).radii[0])

    right, left = (32 - 10 + 0.15 * 32) / 50, -(10 + 0.15 * 32) / 50
    assert radius(right - 0.2) < radius(right) == radius(right + 0.3)
    assert radius(left + 0.2) <= radius(left) == radius(left - 0.3) < radius(right)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("mode", MODES)
def test_values_that_are_not_finite_are_not_drawn(dtype, mode):
    clean = oracles.random_gaussians(30, seeded(11), dtype=dtype)
    pose, camera = oracles.random_pose(seeded(12), dtype), oracles.random_camera()
    poison = [float("nan"), float("inf"), -float("inf"), 1e38, 1e-42, 0.0]
    bad = clean[torch.zeros(5 * len(poison), dtype=torch.long)].clone()
    for i, value in enumerate(poison):
        for j, name in enumerate(oracles.fields(bad)):
            oracles.fields(bad)[name][5 * i + j] = value
    g = oracles.leaves(Gaussians.cat([bad[:18], clean, bad[18:]]))
    pose.requires_grad_()
    image = DRAW(g, camera, pose, torch.ones(3, dtype=dtype), RasterSettings(mode=mode, absgrad=True))
    assert all(t.isfinite().all() for t in (image.rgb, image.alpha, image.depth, image.means2d))
    (image.rgb.clamp(0, 1).sum() + image.depth.sum()).backward()
    for name, t in oracles.fields(g).items():
        assert t.grad is not None and t.grad.isfinite().all(), name
        assert not t.grad[:15].any(), f"{name} of a row that is not finite has a gradient"
    assert pose.grad is not None and pose.grad.isfinite().all()


def test_visible_rows_draw_the_same_image():
    g, pose, camera = (
        oracles.random_gaussians(300, seeded(13)),
        oracles.random_pose(seeded(14)),
        oracles.random_camera(),
    )
    g = replace(g, means=4 * g.means)
    for mode in MODES:
        settings = RasterSettings(mode=mode)
        whole = DRAW(g, camera, pose, BLACK, settings)
        ids = DRAW.visible(g, camera, pose, settings)
        assert ids.dtype == torch.int64 and (ids.diff() > 0).all()
        assert set((whole.radii > 0).nonzero()[:, 0].tolist()) <= set(ids.tolist())
        assert len(ids) < 250
        part = DRAW(g[ids], camera, pose, BLACK, settings)
        assert torch.allclose(part.rgb, whole.rgb, atol=1e-12)
        assert torch.equal(part.radii, whole.radii[ids])


def test_fewer_harmonics_are_the_same_as_dropping_them():
    g, pose, camera = (
        oracles.random_gaussians(30, seeded(15), 3),
        oracles.random_pose(seeded(16)),
        oracles.random_camera(),
    )
    for degree in range(4):
        a = DRAW(g, camera, pose, BLACK, RasterSettings(sh_degree=degree)).rgb
        b = DRAW(g.with_sh_degree(degree), camera, pose, BLACK, RasterSettings()).rgb
        assert torch.allclose(a, b, atol=1e-13)


def test_colours_are_never_negative():
    image = DRAW(one_gaussian(rgb=(-0.5, -2.0, 0.4)), CAMERA, EYE, BLACK, RasterSettings())
    assert image.rgb[..., :2].abs().max() == 0 and image.rgb[..., 2].max() > 0.3


def test_two_thousand_gaussians_fit_in_memory_and_time():
    g = oracles.random_gaussians(2000, seeded(17), scale=0.05, dtype=torch.float32)
    camera = Camera(fx=100.0, fy=100.0, cx=64.0, cy=48.0, width=128, height=96)
    g = oracles.leaves(g)
    pose = oracles.random_pose(seeded(18), torch.float32)
    image = DRAW(g, camera, pose, torch.zeros(3), RasterSettings())
    image.rgb.square().mean().backward()
    assert g.means.grad is not None and g.means.grad.abs().sum() > 0


def test_choosing_says_why_not():
    assert choose("cpu", "reference").name == "reference"
    assert choose("cpu").unavailable(torch.device("cpu")) is None
    assert reasons("cpu")["reference"] is None
    with pytest.raises(SplatError, match="no rasterizer"):
        choose("cpu", "opengl")
