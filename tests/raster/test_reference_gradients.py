"""The reference's gradients are the derivatives of its image: finite differences in float64."""

from dataclasses import replace

import oracles
import pytest
import torch
from torch import Tensor

from splat.core.gaussians import Gaussians
from splat.core.slots import RasterSettings, Render
from splat.raster.reference import Reference

DRAW = Reference()
STEP = 1e-6


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Scene:
    """A small scene, and a random weighting of everything drawn: one number that depends on every output. Normals and
    two features are among them where `extra` says so."""

    def __init__(
        self,
        mode: str,
        degree: int,
        seed: int,
        n: int = 12,
        focal: float = 16.0,
        size: tuple[int, int] = (20, 12),
        extra: bool = False,
    ) -> None:
        rng = seeded(seed)
        self.camera = oracles.random_camera(*size, focal)
        self.settings = RasterSettings(mode=mode, normals=extra)  # type: ignore[arg-type]
        self.values = oracles.fields(oracles.random_gaussians(n, rng, degree, scale=0.35))
        self.values["cam_from_world"] = oracles.random_pose(rng)
        self.values["background"] = torch.rand(3, generator=rng, dtype=torch.float64)
        self.weights = [
            torch.randn(size[1], size[0], *k, generator=rng, dtype=torch.float64) for k in [(3,), (), (), (3,), (2,)]
        ]
        if extra:
            self.values["features"] = torch.randn(n, 2, generator=rng, dtype=torch.float64)

    def draw(self, values: dict[str, Tensor], settings: RasterSettings | None = None) -> Render:
        g = Gaussians(**{k: v for k, v in values.items() if k not in ("cam_from_world", "background", "features")})
        view = self.camera, values["cam_from_world"], values["background"]
        return DRAW(g, *view, settings or self.settings, values.get("features"))

    def number(self, values: dict[str, Tensor]) -> Tensor:
        image = self.draw(values)
        shown = [t for t in (image.rgb, image.alpha, image.depth, image.normals, image.features) if t is not None]
        return sum(((w * t).sum() for w, t in zip(self.weights, shown)), torch.zeros(()))

    def leaves(self) -> dict[str, Tensor]:
        return {k: v.detach().clone().requires_grad_() for k, v in self.values.items()}

    def directional(self, name: str, direction: Tensor) -> float:
        ends = []
        for sign in (1, -1):
            moved = dict(self.values)
            moved[name] = moved[name] + sign * STEP * direction
            ends.append(float(self.number(moved)))
        return (ends[0] - ends[1]) / (2 * STEP)


@pytest.mark.parametrize(
    "mode,degree,focal",
    [
        ("classic", 0, 16.0),
        ("classic", 3, 16.0),
        ("antialiased", 2, 16.0),
        ("classic", 1, 70.0),
        ("antialiased", 1, 70.0),
    ],
)
def test_gradients_of_every_input_agree_with_finite_differences(mode, degree, focal):
    """Along random directions and, for the pose, along each of its 12 numbers. With the longer lens most Gaussians lie
    outside the image, where the Jacobian is clamped."""
    agrees_with_finite_differences(Scene(mode, degree, seed=degree + 20, focal=focal))


@pytest.mark.parametrize("mode,focal", [("classic", 16.0), ("antialiased", 70.0)])
def test_gradients_of_normals_and_features_agree_with_finite_differences(mode, focal):
    scene = Scene(mode, 1, seed=24, focal=focal, extra=True)
    agrees_with_finite_differences(scene)
    scene.weights[:3] = [0 * w for w in scene.weights[:3]]  # and alone
    agrees_with_finite_differences(scene, without=("sh", "background"))
    scene.weights[4] *= 0
    agrees_with_finite_differences(scene, without=("sh", "background", "features"))


def agrees_with_finite_differences(scene: Scene, without: tuple[str, ...] = ()) -> None:
    values = scene.leaves()
    scene.number(values).backward()
    rng = seeded(99)
    for name in values:
        if name in without:
            assert values[name].grad is None or not values[name].grad.any(), name
            continue
        gradient = values[name].grad
        assert gradient is not None and gradient.abs().sum() > 0, name
        directions = [torch.randn(gradient.shape, generator=rng, dtype=torch.float64) for _ in range(4)]
        if name == "cam_from_world":
            units = torch.eye(16, dtype=torch.float64)[:12].reshape(12, 4, 4)
            directions = list(units)
        for direction in directions:
            truth = scene.directional(name, direction)
            scale = float((gradient.abs() * direction.abs()).sum())
            assert abs(float((gradient * direction).sum()) - truth) < 1e-6 * scale, name


def test_means2d_gradient_is_the_image_shift():
    """Moving the principal point moves every centre and, inside the frame, nothing else."""
    scene = Scene("classic", 0, seed=31)
    values = scene.leaves()
    image = scene.draw(values)
    loss = sum(((w * t).sum() for w, t in zip(scene.weights, (image.rgb, image.alpha, image.depth))), torch.zeros(()))
    loss.backward()
    camera = scene.camera
    for axis, name in enumerate(("cx", "cy")):
        ends = []
        for sign in (1, -1):
            scene.camera = replace(camera, **{name: getattr(camera, name) + sign * STEP})
            ends.append(float(scene.number(scene.values)))
        assert image.means2d.grad is not None
        shift = float(image.means2d.grad[:, axis].sum())
        assert shift == pytest.approx((ends[0] - ends[1]) / (2 * STEP), rel=1e-5)


@pytest.mark.parametrize("extra", [False, True])
def test_absgrad_is_the_sum_of_each_pixels_own_gradient(extra):
    scene = Scene("antialiased", 0, seed=32, n=8, focal=8.0, size=(10, 6), extra=extra)
    values = scene.leaves()

    def weighted(image: Render) -> Tensor:
        shown = scene.weights[0] * image.rgb
        if image.features is not None:
            shown = torch.cat([shown, scene.weights[4] * image.features], -1)
        return shown

    image = scene.draw(values, replace(scene.settings, absgrad=True))
    weighted(image).sum().backward()
    expected = torch.zeros(8, 2, dtype=torch.float64)
    for y in range(scene.camera.height):
        for x in range(scene.camera.width):
            again = scene.draw(values)
            (gradient,) = torch.autograd.grad(weighted(again)[y, x].sum(), again.means2d)
            expected += gradient.abs()
    assert image.absgrad is not None
    assert torch.allclose(image.absgrad, expected, atol=1e-12)
    assert image.means2d.grad is not None and (image.absgrad >= image.means2d.grad.abs() - 1e-12).all()


def test_float32_agrees_with_float64():
    scene = Scene("antialiased", 3, seed=33, n=40)
    exact, rounded = scene.leaves(), {k: v.float().requires_grad_() for k, v in scene.values.items()}
    (scene.weights[0] * scene.draw(exact).rgb).sum().backward()
    (scene.weights[0].float() * scene.draw(rounded).rgb).sum().backward()
    for name in scene.values:
        a, b = exact[name].grad, rounded[name].grad
        assert a is not None and b is not None
        assert oracles.relative_error(b, a) < 1e-4, name
