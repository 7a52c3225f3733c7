"""Normals and features: what every rasterizer draws of them, and the compiled one as the reference does."""

from dataclasses import replace

import oracles
import pytest
import torch
from torch import Tensor

from splat.core.camera import Camera
from splat.core.gaussians import Gaussians
from splat.core.geometry import quat_from_matrix, rotation_from_axis_angle
from splat.core.slots import RasterSettings, Render
from splat.native import bindings, build
from splat.raster.channels import normals_in_camera
from splat.raster.native import Native
from splat.raster.reference import Reference

NATIVE, REFERENCE = Native(), Reference()
compiled = pytest.mark.skipif(build.unavailable() is not None, reason=f"no kernels: {build.unavailable()}")
BACKGROUND = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
CHANNELS = [1, 3, 5, 17]


@pytest.fixture(params=[REFERENCE, pytest.param(NATIVE, marks=compiled)], ids=lambda r: r.name)
def rasterizer(request):
    return request.param


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scene(n: int = 150, degree: int = 1, seed: int = 0, scale: float = 0.2) -> Gaussians:
    return oracles.random_gaussians(n, seeded(seed), degree, scale)


def some_features(n: int, channels: int, seed: int = 40) -> Tensor:
    return torch.randn(n, channels, generator=seeded(seed), dtype=torch.float64)


def of_its_type(rasterizer, g: Gaussians) -> Gaussians:
    return g.to(torch.float64 if rasterizer is REFERENCE else torch.float32)


def draw(rasterizer, g: Gaussians, camera, pose, features: Tensor | None = None, **settings: object) -> Render:
    """In the precision that the rasterizer has."""
    g = of_its_type(rasterizer, g)
    features = None if features is None else features.to(g.means)
    return rasterizer(g, camera, pose, BACKGROUND.to(g.means), RasterSettings(**settings), features)  # type: ignore[arg-type]


def shown(r: Render) -> dict[str, Tensor]:
    parts = {"rgb": r.rgb, "alpha": r.alpha, "depth": r.depth, "normals": r.normals, "features": r.features}
    return {name: t for name, t in parts.items() if t is not None}


def gradients(
    rasterizer, g: Gaussians, camera, pose: Tensor, features: Tensor | None, only: tuple[str, ...] = (), **settings
) -> dict[str, Tensor]:
    """Of a fixed random weighting of everything drawn (or of `only` this), by every input; and what backward leaves in
    the render."""
    rows = oracles.leaves(of_its_type(rasterizer, g))
    pose, background = pose.clone().requires_grad_(), BACKGROUND.to(rows.means).clone().requires_grad_()
    features = None if features is None else features.to(rows.means).clone().requires_grad_()
    r = rasterizer(rows, camera, pose, background, RasterSettings(**settings), features)
    rng = seeded(5)
    parts = {name: (torch.randn(t.shape, generator=rng).to(t) * t).sum() for name, t in shown(r).items()}
    sum(part for name, part in parts.items() if not only or name in only).backward()
    found = {name: t.grad for name, t in oracles.fields(rows).items()}
    found |= {"pose": pose.grad, "background": background.grad, "means2d": r.means2d.grad}
    if features is not None:
        found["features"] = features.grad
    if r.absgrad is not None:
        found["absgrad"] = r.absgrad
    return found


CASES = [
    # channels (0: none), normals, mode, absgrad, (width, height), focal
    (1, False, "classic", True, (71, 53), 60.0),
    (3, False, "classic", False, (33, 17), 30.0),
    (5, False, "antialiased", True, (40, 90), 70.0),
    (17, False, "classic", False, (64, 48), 200.0),
    (0, True, "classic", True, (50, 31), 40.0),
    (2, True, "antialiased", True, (71, 53), 60.0),
    (12, True, "classic", False, (16, 16), 14.0),
    (30, False, "classic", True, (37, 21), 30.0),
]


@compiled
@pytest.mark.parametrize("channels,normals,mode,absgrad,size,focal", CASES)
def test_channels_and_every_gradient_agree_with_the_reference(channels, normals, mode, absgrad, size, focal):
    g, pose, camera = scene(), oracles.random_pose(seeded(channels + 3)), oracles.random_camera(*size, focal)
    features = some_features(len(g), channels) if channels else None
    settings = {"mode": mode, "absgrad": absgrad, "normals": normals}
    truth, mine = (shown(draw(r, g, camera, pose, features, **settings)) for r in (REFERENCE, NATIVE))
    assert mine.keys() == truth.keys() and len(truth) == 3 + normals + (channels > 0)
    for name, value in truth.items():
        assert value.abs().max() > 0.1 and (value - mine[name]).abs().max() < 1e-4 * max(1, value.abs().max()), name
    expected, found = (gradients(r, g, camera, pose, features, **settings) for r in (REFERENCE, NATIVE))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert value.abs().sum() > 0, name
        assert oracles.relative_error(found[name], value) < 1e-3, name


@compiled
@pytest.mark.parametrize("only", [("normals",), ("features",), ("rgb",), ("normals", "depth")])
def test_gradients_of_some_of_what_is_drawn(only):
    """Losses on some outputs reach the kernels without a gradient of the others."""
    g, pose, camera = scene(80), oracles.random_pose(seeded(3)), oracles.random_camera(40, 30, 35.0)
    features = some_features(len(g), 4)
    expected, found = (
        gradients(r, g, camera, pose, features, only, normals=True, absgrad=True) for r in (REFERENCE, NATIVE)
    )
    for name, truth in expected.items():
        if truth is None or not truth.any():
            assert found[name] is None or not found[name].any(), name
        else:
            assert oracles.relative_error(found[name], truth) < 1e-3, name


@compiled
@pytest.mark.parametrize("least", [1 / 255, 0.1])
def test_channels_stop_where_colour_stops(least):
    g, camera, pose = scene(400, scale=0.4), oracles.random_camera(64, 48, 60.0), oracles.random_pose(seeded(1))
    features = some_features(len(g), 5)
    truth, mine = (draw(r, g, camera, pose, features, min_transmittance=least) for r in (REFERENCE, NATIVE))
    assert (truth.features - mine.features).abs().max() < 1e-4
    assert (mine.features - draw(NATIVE, g, camera, pose, features).features).abs().max() > 1e-5
    expected, found = (gradients(r, g, camera, pose, features, min_transmittance=least) for r in (REFERENCE, NATIVE))
    for name, value in expected.items():
        assert oracles.relative_error(found[name], value) < 1e-3, name


@pytest.mark.parametrize("channels", CHANNELS)
def test_colour_alpha_and_depth_are_the_same_bits_with_features_and_without(rasterizer, channels):
    g, camera, pose = scene(300), oracles.random_camera(60, 50, 50.0), oracles.random_pose(seeded(4))
    plain = draw(rasterizer, g, camera, pose)
    assert plain.normals is None and plain.features is None
    with torch.no_grad():
        fuller = draw(rasterizer, g, camera, pose, some_features(len(g), channels), normals=True)
    for name, t in shown(plain).items():
        assert torch.equal(t, shown(fuller)[name]), name
    assert torch.equal(plain.radii, fuller.radii)
    assert fuller.features.shape == (50, 60, channels) and fuller.normals.shape == (50, 60, 3)


@pytest.mark.parametrize("channels", CHANNELS)
def test_a_channel_does_not_depend_on_the_others(rasterizer, channels):
    g, camera, pose = scene(300), oracles.random_camera(60, 50, 50.0), oracles.random_pose(seeded(4))
    features = some_features(len(g), channels)
    together = draw(rasterizer, g, camera, pose, features, normals=True)
    assert torch.allclose(together.features, draw(rasterizer, g, camera, pose, features).features, atol=1e-6)
    assert torch.allclose(together.normals, draw(rasterizer, g, camera, pose, normals=True).normals, atol=1e-6)
    for k in range(0, channels, 4):
        alone = draw(rasterizer, g, camera, pose, features[:, k : k + 1]).features
        assert torch.allclose(together.features[..., k : k + 1], alone, atol=1e-6)


def test_a_feature_of_one_is_alpha_and_a_feature_of_depth_is_depth(rasterizer):
    g, camera, pose = scene(200), oracles.random_camera(60, 50, 50.0), oracles.random_pose(seeded(4))
    z = g.means @ pose[2, :3] + pose[2, 3]
    r = draw(rasterizer, g, camera, pose, torch.stack([torch.ones_like(z), z], 1))
    assert r.alpha.max() > 0.9
    assert torch.allclose(r.features[..., 0], r.alpha, atol=1e-5)
    assert torch.allclose(r.features[..., 1], r.depth, atol=1e-5)


def test_permuting_gaussians_changes_no_channel(rasterizer):
    g, camera, pose = scene(300, seed=12), oracles.random_camera(60, 50, 50.0), oracles.random_pose(seeded(4))
    features, order = some_features(len(g), 5), torch.randperm(len(g), generator=seeded(1))
    a = draw(rasterizer, g, camera, pose, features, normals=True)
    b = draw(rasterizer, g[order], camera, pose, features[order], normals=True)
    assert torch.equal(a.features, b.features) and torch.equal(a.normals, b.normals)
    if rasterizer is NATIVE:
        a, b = (gradients(NATIVE, g[i], camera, pose, features[i], normals=True) for i in (slice(None), order))
        for name in [*oracles.fields(g), "features"]:
            assert torch.equal(a[name][order], b[name]), name


@pytest.mark.parametrize("tilt", [0.0, 0.6])
def test_a_plane_of_flat_gaussians_has_the_planes_normal(rasterizer, tilt):
    """Seen head on, and tilted; from both sides: the normal points to where one looks from."""
    turn = rotation_from_axis_angle(torch.tensor([tilt, 0.0, 0.0], dtype=torch.float64))
    grid = torch.stack(torch.meshgrid(*[torch.linspace(-1.5, 1.5, 25)] * 2, indexing="ij"), -1).reshape(-1, 2).double()
    n = len(grid)
    g = Gaussians(
        means=torch.cat([grid, torch.zeros(n, 1, dtype=torch.float64)], 1) @ turn.T,
        quats_wxyz=quat_from_matrix(turn).expand(n, 4) * 3,
        log_scales=torch.tensor([0.1, 0.12, 1e-4], dtype=torch.float64).log().expand(n, 3),
        logit_opacities=torch.full((n,), 4.0, dtype=torch.float64),
        sh=torch.zeros(n, 1, 3, dtype=torch.float64),
    ).map(torch.clone)
    camera = Camera(40.0, 40.0, 16.0, 12.0, 32, 24)
    for half_turn in (0.0, torch.pi):
        pose = torch.eye(4, dtype=torch.float64)
        pose[:3, :3] = rotation_from_axis_angle(torch.tensor([0.0, half_turn, 0.0], dtype=torch.float64))
        pose[2, 3] = 4.0
        r = draw(rasterizer, g, camera, pose, normals=True)
        assert r.alpha.median() > 0.9
        normal = pose[:3, :3] @ turn[:, 2]
        normal = -normal * normal[2].sign()
        assert torch.allclose(r.normals, (r.alpha[..., None] * normal.to(r.alpha)), atol=1e-5)


def test_normals_face_the_camera_and_are_of_unit_length():
    g, pose = scene(500), oracles.random_pose(seeded(2))
    normals = normals_in_camera(g, pose)
    assert torch.allclose(normals.norm(dim=1), torch.ones(500, dtype=torch.float64))
    assert ((normals * (g.means @ pose[:3, :3].T + pose[:3, 3])).sum(1) <= 0).all()


def test_the_normal_is_the_axis_of_least_variance():
    g, pose = scene(100), oracles.random_pose(seeded(2))
    _, axes = torch.linalg.eigh(g.covariances)
    expected = axes[:, :, 0] @ pose[:3, :3].T
    assert torch.allclose((expected * normals_in_camera(g, pose)).sum(1).abs(), torch.ones(100, dtype=torch.float64))


def test_round_gaussians_have_a_normal_and_finite_gradients(rasterizer):
    """Where axes are of equal length the first of them counts."""
    g, camera, pose = scene(60), oracles.random_camera(40, 30, 30.0), oracles.random_pose(seeded(6))
    g = replace(g, log_scales=torch.full_like(g.log_scales, -2.0))
    r = draw(rasterizer, g, camera, pose, normals=True)
    assert r.normals.isfinite().all() and r.normals.abs().max() > 0.1
    found = gradients(rasterizer, g, camera, pose, None, normals=True)
    assert all(t.isfinite().all() for t in found.values()) and found["quats_wxyz"].any()


POISON = [float("nan"), float("inf"), -float("inf")]


@pytest.mark.parametrize("value", POISON)
def test_a_feature_that_is_not_finite_counts_as_zero(rasterizer, value):
    g, camera, pose = scene(60, seed=9), oracles.random_camera(40, 30, 30.0), oracles.random_pose(seeded(6))
    zeroed = some_features(len(g), 3)
    zeroed[7, 1] = 0
    zeroed[20] = 0
    bad = torch.where(zeroed == 0, value, zeroed)
    radii = draw(rasterizer, g, camera, pose).radii
    assert radii[7] > 0 and radii[20] > 0
    a, b = (draw(rasterizer, g, camera, pose, f, normals=True) for f in (bad, zeroed))
    assert all(torch.equal(t, shown(b)[name]) for name, t in shown(a).items())
    a, b = (gradients(rasterizer, g, camera, pose, f, normals=True) for f in (bad, zeroed))
    assert b["features"][zeroed == 0].all() and not a["features"][zeroed == 0].any()
    b["features"][zeroed == 0] = 0
    assert all(torch.equal(a[name], t) for name, t in b.items())


@pytest.mark.parametrize("field", ["means", "quats_wxyz", "log_scales", "logit_opacities", "sh"])
def test_gaussians_that_are_not_drawn_show_no_channel(rasterizer, field):
    """They change no pixel and no other row's gradient, and have none themselves."""
    g, camera, pose = scene(60, seed=9), oracles.random_camera(40, 30, 30.0), oracles.random_pose(seeded(6))
    features = some_features(len(g), 3)
    features[7] = float("nan")
    features[20] = 3e38
    keep = torch.ones(len(g), dtype=torch.bool)
    keep[[7, 20]] = False
    for value in POISON:
        bad = g.clone()
        rows = getattr(bad, field).reshape(len(bad), -1)
        rows[7, 0] = value
        rows[20] = value
        assert not draw(rasterizer, bad, camera, pose).radii[~keep].any()
        a = draw(rasterizer, bad, camera, pose, features, normals=True)
        b = draw(rasterizer, bad[keep], camera, pose, features[keep], normals=True)
        assert all(torch.equal(t, shown(b)[name]) for name, t in shown(a).items())
        a = gradients(rasterizer, bad, camera, pose, features, normals=True)
        b = gradients(rasterizer, bad[keep], camera, pose, features[keep], normals=True)
        for name in [*oracles.fields(g), "features"]:
            assert not a[name][~keep].any(), name
            assert torch.allclose(a[name][keep], b[name], atol=1e-5), name
        assert oracles.relative_error(a["pose"], b["pose"]) < 1e-5


def test_no_gaussians_leave_channels_empty(rasterizer):
    camera, none = oracles.random_camera(20, 30), scene(3)[:0]
    r = draw(rasterizer, none, camera, torch.eye(4), some_features(0, 4), normals=True)
    assert r.features.shape == (30, 20, 4) and not r.features.any() and not r.normals.any()
    if rasterizer is NATIVE:
        assert gradients(NATIVE, none, camera, torch.eye(4), some_features(0, 4))["features"].shape == (0, 4)


def test_features_alone_may_want_a_gradient(rasterizer):
    g, camera, pose = scene(20), oracles.random_camera(20, 20), oracles.random_pose(seeded(3))
    features = some_features(len(g), 2).requires_grad_()
    r = draw(rasterizer, g, camera, pose, features)
    r.features.sum().backward()
    assert torch.allclose(features.grad.sum(0), r.alpha.sum().double(), atol=1e-3)


@pytest.mark.parametrize("shape", [(19, 2), (21, 2), (20, 0)])
def test_features_of_another_shape_are_refused(rasterizer, shape):
    g, camera, pose = scene(20), oracles.random_camera(20, 20), oracles.random_pose(seeded(3))
    with pytest.raises(ValueError, match="a row per Gaussian"):
        draw(rasterizer, g, camera, pose, torch.zeros(shape))


@compiled
def test_channels_have_the_same_bits_every_time_and_with_any_number_of_threads():
    g = scene(3000, seed=3, scale=0.05).to(torch.float32)
    camera, pose = oracles.random_camera(130, 90, 100.0), oracles.random_pose(seeded(7))
    features, before, results = some_features(len(g), 7), bindings.get_threads(), []
    try:
        for threads in (1, 2, 5, 2):
            bindings.set_threads(threads)
            r = draw(NATIVE, g, camera, pose, features, normals=True)
            found = gradients(NATIVE, g, camera, pose, features, normals=True, absgrad=True)
            results.append([*shown(r).values(), *found.values()])
    finally:
        bindings.set_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))
