"""Rays against closed forms, pictures against what the geometry says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from splat.bench.scenes import load_scenes
from splat.core.camera import Camera
from splat.core.geometry import Rigid

load_scenes()

from splat.scenes import light  # noqa: E402
from splat.scenes.furnish import turned  # noqa: E402
from splat.scenes.noise import Canvas, fractal  # noqa: E402
from splat.scenes.render import Picture, render  # noqa: E402
from splat.scenes.solids import FACES, Solid, Surface  # noqa: E402
from splat.scenes.texels import Texture  # noqa: E402
from splat.scenes.trace import Light, Scene  # noqa: E402

GREY = Surface(Texture(np.full((8, 8, 3), 0.5, np.float32)))
CAMERA = Camera(60.0, 60.0, 40.0, 30.0, 80, 60)


def solid(shape: str, frame: np.ndarray, surface: Surface = GREY) -> Solid:
    return Solid(shape, frame, (surface,) * FACES[shape], name=shape)


def frames(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    tilt = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    return np.column_stack([tilt * rng.uniform(0.3, 1.5, 3), rng.standard_normal(3)])


def rays_at(target: np.ndarray, seed: int, n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Rays from far away that pass near a point."""
    rng = np.random.default_rng(seed)
    origin = rng.standard_normal((3, n))
    origin = target[:, None] + 8 * origin / np.linalg.norm(origin, axis=0)
    return origin, target[:, None] + rng.standard_normal((3, n)) - origin


@pytest.mark.parametrize("shape", sorted(FACES))
@given(st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_hits_lie_on_the_surface_and_come_first(shape: str, seed: int) -> None:
    """At t the unit shape's equation holds, and no point of the ray before t is inside."""
    body = solid(shape, frames(seed))
    origin, direction = rays_at(body.world_from_local[:, 3], seed + 1)
    t = body.intersect(origin, direction)
    hit = np.isfinite(t)
    assert hit.any()
    o, d = body.to_local(origin, direction)

    def outside(at: np.ndarray) -> np.ndarray:
        """Negative inside, zero on the surface."""
        x, y, z = o + at * d
        if shape == "box":
            return np.maximum(np.maximum(abs(x), abs(y)), abs(z)) - 1
        if shape == "sphere":
            return np.sqrt(x * x + y * y + z * z) - 1
        if shape == "cylinder":
            return np.maximum(np.sqrt(x * x + y * y), abs(z)) - 1
        return np.where((abs(x) <= 1) & (abs(y) <= 1), np.sign(z) * np.sign(o[2]) * abs(z), 1.0)

    assert np.abs(outside(np.where(hit, t, 0))[hit]).max() < 1e-9
    for share in np.linspace(0.5, 0.999, 40):
        assert (outside(np.where(hit, t * share, 0)) > -1e-9)[hit].all()
    if shape == "quad":  # a miss crosses the plane beside the square
        x, y, _ = o - o[2] / d[2] * d
        assert (np.maximum(abs(x), abs(y)) > 1)[~hit & (-o[2] / d[2] > 0)].all()
        return
    for share in np.linspace(0.2, 3, 200):  # a miss never enters
        assert (outside(np.full(t.shape, share)) > -1e-9)[~hit].all()


@pytest.mark.parametrize("shape", sorted(FACES))
def test_single_precision_agrees_with_double(shape: str) -> None:
    body = solid(shape, frames(5))
    origin, direction = rays_at(body.world_from_local[:, 3], 6, 20_000)
    exact = body.intersect(origin, direction)
    t = body.intersect(origin.astype(np.float32), direction.astype(np.float32))
    both = np.isfinite(exact) & np.isfinite(t)
    assert (np.isfinite(exact) != np.isfinite(t)).mean() < 1e-3
    assert np.quantile(np.abs(t[both] - exact[both]), 0.99) < 1e-4


@pytest.mark.parametrize("axis", range(3))
def test_a_ray_along_a_box_edge_direction_hits_the_face(axis: int) -> None:
    """Directions with exact zeros: infinity minus infinity must not lose them."""
    body = solid("box", np.column_stack([np.eye(3), np.zeros(3)]))
    direction = np.zeros((3, 1), np.float32)
    direction[axis] = 1
    assert body.intersect(np.float32(-3) * direction, direction)[0] == pytest.approx(2)


@pytest.mark.parametrize("shape", sorted(FACES))
def test_surface_coordinates_and_points_are_inverse(shape: str) -> None:
    body = solid(shape, frames(3))
    rng = np.random.default_rng(4)
    u, v = rng.uniform(0.02, 0.98, 50), rng.uniform(0.02, 0.98, 50)
    for face in range(FACES[shape]):
        found, u2, v2 = body.surface_at(body.points_at(face, u, v))
        near = np.hypot(2 * u - 1, 2 * v - 1) < 0.99 if shape == "cylinder" and face else np.ones(50, bool)
        assert (found[near] == face).all()
        np.testing.assert_allclose(u2[near], u[near], atol=1e-9)
        np.testing.assert_allclose(v2[near], v[near], atol=1e-9)


@pytest.mark.parametrize("shape", ["box", "sphere", "cylinder"])
def test_normals_are_those_of_the_tangents(shape: str) -> None:
    """Unit, outward, and at right angles to both directions on the surface, whatever the scales of the axes."""
    body = solid(shape, frames(8))
    u, v = np.random.default_rng(9).uniform(0.2, 0.8, (2, 40))
    to_world = body.world_from_local[:, :3]
    for face in range(FACES[shape]):
        local = body.points_at(face, u, v)
        normal = body.normal_at(local, np.full(40, face, np.int8))
        np.testing.assert_allclose(np.linalg.norm(normal, axis=0), 1, atol=1e-9)
        assert ((to_world @ local) * normal).sum(0).min() > 0
        for du, dv in ((1e-6, 0), (0, 1e-6)):
            tangent = to_world @ (body.points_at(face, u + du, v + dv) - local) / 1e-6
            assert np.abs((tangent * normal).sum(0)).max() < 1e-4


def look(scene: Scene, eye: tuple[float, float, float], target: tuple[float, float, float], **kw: int) -> Picture:
    up = torch.tensor([0.0, 0.0, 1.0])
    return render(scene, CAMERA, Rigid.look_at(torch.tensor(eye), torch.tensor(target), up), **kw)


def test_the_depth_of_a_wall_and_of_a_ball_is_the_closed_form() -> None:
    ball = solid("sphere", np.column_stack([np.eye(3) * 0.5, [0, 2, 0]]))
    wall = solid("quad", np.array([[9, 0, 0, 0], [0, 0, -1, 5], [0, 9, 0, 0.0]]))
    picture = look(Scene((ball, wall), ()), (0, 0, 0), (0, 1, 0))
    pixels = CAMERA.pixel_centres().numpy().astype(float)
    x, y = (pixels[..., 0] - 40) / 60, (pixels[..., 1] - 30) / 60
    a, b = 1 + x**2 + y**2, -2.0
    inside = b * b - a * 3.75 > 0
    expected = np.where(inside, (-b - np.sqrt(np.maximum(b * b - a * 3.75, 0))) / a, 5.0)
    np.testing.assert_allclose(picture.depth, expected, rtol=1e-6)
    np.testing.assert_allclose(
        picture.normals[~inside], np.broadcast_to([0, -1, 0], picture.normals[~inside].shape), atol=1e-6
    )
    assert (picture.alpha == 1).all()


def test_a_straight_edge_covers_each_pixel_by_its_area() -> None:
    """A half plane, slanted: alpha is the covered area of each pixel within the grid of 4 x 4 rays, and the colour
    of a half-covered pixel is not darkened."""
    slant = turned(0) @ np.diag([50, 50, 1])
    frame = np.column_stack([slant @ turned(17), [0, 0, 4]])
    frame[:, 3] += slant @ turned(17) @ np.array([1.0, 0, 0])
    scene = Scene((solid("quad", frame),), ())
    pose = Rigid(torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64))
    picture = render(scene, CAMERA, pose)
    fine = render(scene, CAMERA, pose, inner=16, edges=16)
    assert 0.3 < picture.alpha.mean() < 0.7
    assert np.abs(picture.alpha - fine.alpha).max() < 0.13
    assert abs(picture.alpha.mean() - fine.alpha.mean()) < 2e-3
    assert picture.rgb[picture.alpha > 0].std() < 1e-5


def test_edge_pixels_agree_with_many_rays_everywhere() -> None:
    """The shortcut for pixels inside a face gives the picture that 6 x 6 rays in every pixel give."""
    canvas = Canvas(4, 4, 40)
    skin = np.clip(0.5 + 0.2 * fractal(canvas, 0.5, 0.06, 1), 0, 1)[..., None] * np.ones(3, np.float32)
    skin = Surface(Texture(skin.astype(np.float32)))
    things = (
        solid("box", np.column_stack([turned(30) * 0.6, [-0.8, 3, 0]]), skin),
        solid("cylinder", np.column_stack([np.diag([0.4, 0.4, 0.8]), [0.9, 2.6, 0]]), skin),
        solid("quad", np.array([[5, 0, 0, 0], [0, 0, -1, 6], [0, 5, 0, 0.0]]), skin),
    )
    scene = Scene(things, ())
    quick, slow = look(scene, (0, 0, 0.4), (0, 3, 0)), look(scene, (0, 0, 0.4), (0, 3, 0), inner=6, edges=6)
    difference = np.abs(quick.rgb - slow.rgb)
    assert difference.mean() < 0.004 and np.quantile(difference, 0.99) < 0.03
    assert (quick.depth == slow.depth).all()


def test_textures_keep_their_mean_through_the_levels() -> None:
    """Far away a texture is its mean colour in linear light, not an aliased sample of it."""
    checks = (np.indices((64, 64)).sum(0) % 2).astype(np.float32)[..., None] * np.ones(3, np.float32)
    texture = Texture(checks)
    u, v = np.random.default_rng(0).random((2, 100)).astype(np.float32)
    far = texture.look_up(u, v, np.full(100, 9.0, np.float32), wrap=False)
    np.testing.assert_allclose(far, 0.5, atol=1e-3)
    np.testing.assert_allclose(texture.mean, 0.5, atol=1e-3)


def test_coarser_textures_are_the_same_texture() -> None:
    """The pattern belongs to the metres, not to the texels: averaging 4 x 4 texels gives what a quarter of the texels
    give, up to the octaves that these cannot hold."""
    fine, coarse = Canvas(2, 1, 200), Canvas(2, 1, 50)
    a = fractal(fine, 0.4, 0.1, 3).reshape(50, 4, 100, 4).mean((1, 3))
    b = fractal(coarse, 0.4, 0.1, 3)
    assert np.abs(a - b).max() < 0.15 and np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.995


def test_light_far_from_a_small_lamp_falls_off_as_the_formula_says() -> None:
    """A small rectangle above a floor: E / pi = L A cos cos' / (pi r^2), and nothing behind a screen."""
    floor = solid(
        "quad", np.column_stack([np.eye(3) * [2, 2, 1], np.zeros(3)]), Surface(Texture(np.zeros((8, 8, 3), np.float32)))
    )
    lamp = Light((0, 0, 3), (0.05, 0, 0), (0, -0.05, 0), (100, 100, 100), 2)
    scene = Scene((floor,), (lamp,), light_texel=0.1)
    light.bake(scene, 1)
    grid = scene.irradiance[0, 0][..., 0]
    h, w = grid.shape
    x = ((np.arange(w) + 0.5) / w * 4 - 2)[None]
    y = (2 - (np.arange(h) + 0.5) / h * 4)[:, None]
    square = x * x + y * y + 9
    expected = 100 * 0.01 / np.pi * (3 / np.sqrt(square)) ** 2 / square
    np.testing.assert_allclose(grid[3:-3, 3:-3], expected[3:-3, 3:-3], rtol=0.02)
    screen = solid("box", np.column_stack([np.eye(3) * [0.5, 2, 0.02], [1.0, 0, 1.5]]), floor.surfaces[0])
    shaded = Scene((floor, screen), (lamp,), light_texel=0.1)
    light.bake(shaded, 1)
    middle = shaded.irradiance[0, 0][h // 2, :, 0]
    at = x[0]  # the screen spans 0.5 .. 1.5 half way up: its shadow 1 .. 3 on the floor
    assert middle[at > 1.25].max() < 1e-6
    np.testing.assert_allclose(middle[at < 0.75][2:], expected[h // 2][at < 0.75][2:], rtol=0.02)


def test_a_white_furnace_keeps_its_light() -> None:
    """A ball under a uniform sky: every texel gathers exactly the sky's radiance, all around."""
    ball = solid("sphere", np.column_stack([np.eye(3) * 0.5, [0, 0, 0]]))
    scene = Scene((ball,), (), sky=(0.8, 0.6, 0.4), light_texel=0.1)
    light.bake(scene, 1)
    np.testing.assert_allclose(
        scene.irradiance[0, 0], np.broadcast_to([0.8, 0.6, 0.4], scene.irradiance[0, 0].shape), atol=1e-5
    )
