"""The compiled rasterizer draws what the reference draws, and its gradients are the reference's."""

import threading
from dataclasses import replace

import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from splat.core.camera import Camera
from splat.core.gaussians import Gaussians
from splat.core.slots import RasterSettings, Render
from splat.native import bindings, build
from splat.raster.native import Native, bin_tiles
from splat.raster.reference import Reference

pytestmark = pytest.mark.skipif(build.unavailable() is not None, reason=f"no kernels: {build.unavailable()}")
NATIVE, REFERENCE = Native(), Reference()
CLASSIC = RasterSettings()
BACKGROUND = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scene(n: int = 150, degree: int = 1, seed: int = 0, scale: float = 0.2) -> Gaussians:
    return oracles.random_gaussians(n, seeded(seed), degree, scale)


def draw(rasterizer, g: Gaussians, camera: Camera, pose: Tensor, options: RasterSettings = CLASSIC) -> Render:
    return rasterizer(g, camera, pose, BACKGROUND.to(g.means), options)


def images(r: Render) -> list[Tensor]:
    return [r.rgb, r.alpha, r.depth]


def gradients(rasterizer, g: Gaussians, camera: Camera, pose: Tensor, options: RasterSettings) -> dict[str, Tensor]:
    """Of a fixed random weighting of everything drawn, by every input; and what backward leaves in the render."""
    g = oracles.leaves(g)
    pose, background = pose.clone().requires_grad_(), BACKGROUND.to(g.means).clone().requires_grad_()
    r = rasterizer(g, camera, pose, background, options)
    rng = seeded(5)
    sum((torch.randn(t.shape, generator=rng).to(t) * t).sum() for t in images(r)).backward()
    found = {name: t.grad for name, t in oracles.fields(g).items()}
    found |= {"pose": pose.grad, "background": background.grad, "means2d": r.means2d.grad}
    if r.absgrad is not None:
        found["absgrad"] = r.absgrad
    return found


CASES = [
    # mode, degree, used degree, (width, height), focal
    ("classic", 0, None, (71, 53), 60.0),
    ("classic", 1, None, (64, 48), 200.0),  # most lie outside, where the Jacobian is clamped
    ("classic", 2, 1, (33, 17), 30.0),
    ("classic", 3, None, (40, 90), 70.0),
    ("antialiased", 0, None, (16, 16), 14.0),
    ("antialiased", 1, 0, (50, 31), 40.0),
    ("antialiased", 3, None, (71, 53), 200.0),
    ("antialiased", 2, None, (1, 1), 3.0),
]


@pytest.mark.parametrize("mode,degree,used,size,focal", CASES)
def test_image_and_every_gradient_agree_with_the_reference(mode, degree, used, size, focal):
    g, pose = scene(degree=degree), oracles.random_pose(seeded(degree + 3))
    camera = oracles.random_camera(*size, focal)
    options = RasterSettings(mode=mode, sh_degree=used, absgrad=True)
    truth, mine = draw(REFERENCE, g, camera, pose, options), draw(NATIVE, g.to(torch.float32), camera, pose, options)
    for a, b in zip(images(truth), images(mine)):
        assert (a - b).abs().max() < 1e-4
    assert (truth.radii - mine.radii).abs().max() <= 1 and ((truth.radii > 0) == (mine.radii > 0)).all()
    assert (truth.radii > 0).sum() > 10
    expected = gradients(REFERENCE, g, camera, pose, options)
    found = gradients(NATIVE, g.to(torch.float32), camera, pose, options)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert value.abs().sum() > 0 or size == (1, 1), name
        assert oracles.relative_error(found[name], value) < 1e-3, name


@pytest.mark.parametrize("least", [1 / 255, 0.1])
def test_pixels_may_stop_earlier_and_gradients_know_it(least):
    g, camera, pose = scene(400, scale=0.4), oracles.random_camera(64, 48, 60.0), oracles.random_pose(seeded(1))
    options = RasterSettings(min_transmittance=least, absgrad=True)
    truth, mine = draw(REFERENCE, g, camera, pose, options), draw(NATIVE, g.to(torch.float32), camera, pose, options)
    whole = draw(NATIVE, g.to(torch.float32), camera, pose)
    for a, b in zip(images(truth), images(mine)):
        assert (a - b).abs().max() < 1e-4
    assert 1e-5 < (mine.alpha - whole.alpha).abs().max() < least
    expected = gradients(REFERENCE, g, camera, pose, options)
    found = gradients(NATIVE, g.to(torch.float32), camera, pose, options)
    for name, value in expected.items():
        assert oracles.relative_error(found[name], value) < 1e-3, name


def test_long_thin_footprints_keep_their_digits():
    """1000 : 1 at 45 degrees: the conic's entries are large and cancel, its Cholesky factor does not."""
    g = scene(25, seed=4)
    shape = torch.tensor([1.0, -6.0, -6.0], dtype=torch.float64)
    g = replace(g, log_scales=shape.expand_as(g.log_scales).contiguous(), logit_opacities=g.logit_opacities - 1)
    camera, pose = oracles.random_camera(100, 75, 75.0), oracles.random_pose(seeded(1))
    truth, mine = draw(REFERENCE, g, camera, pose), draw(NATIVE, g.to(torch.float32), camera, pose)
    near_threshold = (truth.rgb - mine.rgb).abs().amax(2) > 1e-4
    assert near_threshold.float().mean() < 1e-3
    expected = gradients(REFERENCE, g, camera, pose, CLASSIC)
    found = gradients(NATIVE, g.to(torch.float32), camera, pose, CLASSIC)
    for name in expected:
        assert oracles.relative_error(found[name], expected[name]) < 1e-3, name


def test_drawing_the_visible_rows_alone_changes_nothing():
    camera, pose = oracles.random_camera(64, 48, 220.0), oracles.random_pose(seeded(2))
    for mode in ("classic", "antialiased"):
        options = RasterSettings(mode=mode)
        g = scene(2000, seed=8, scale=0.02).to(torch.float32)
        ids = NATIVE.visible(g, camera, pose, options)
        whole, part = draw(NATIVE, g, camera, pose, options), draw(NATIVE, g[ids], camera, pose, options)
        assert ids.dtype == torch.int64 and (ids.diff() > 0).all() and 0 < len(ids) < len(g)
        assert set((whole.radii > 0).nonzero()[:, 0].tolist()) <= set(ids.tolist())
        assert all(torch.equal(a, b) for a, b in zip(images(whole), images(part)))


def test_near_plane_removes_what_is_nearer():
    camera, pose = oracles.random_camera(64, 48, 40.0), oracles.random_pose(seeded(2))
    g = scene(300, seed=8).to(torch.float32)
    z = g.means @ pose[2, :3].float() + pose[2, 3].float()
    options = RasterSettings(near=4.0)
    assert (z[NATIVE.visible(g, camera, pose, options)] >= 3.99).all()
    radii = draw(NATIVE, g, camera, pose, options).radii
    assert (radii[z < 4.0] == 0).all() and (radii[z > 4.0] > 0).any()


def test_no_gaussians_leave_the_background():
    camera = oracles.random_camera(20, 30)
    g = scene(3)[torch.zeros(3, dtype=torch.bool)].to(torch.float32)
    assert len(NATIVE.visible(g, camera, torch.eye(4), CLASSIC)) == 0
    r = draw(NATIVE, g, camera, torch.eye(4))
    assert torch.equal(r.rgb, BACKGROUND.float().expand(30, 20, 3)) and not r.alpha.any() and not r.depth.any()
    found = gradients(NATIVE, g, camera, torch.eye(4), CLASSIC)
    assert not found["pose"].any() and found["background"].abs().min() > 0


def test_one_gaussian_has_the_opacity_of_the_formula():
    camera = Camera(50.0, 50.0, 16.5, 16.5, 33, 33)
    g = Gaussians(
        means=torch.tensor([[0.0, 0.0, 2.0]]),
        quats_wxyz=torch.tensor([[2.0, 0.0, 0.0, 0.0]]),
        log_scales=torch.tensor([[0.1, 0.05, 0.2]]).log(),
        logit_opacities=torch.tensor([1.0]),
        sh=torch.zeros(1, 1, 3),
    )
    r = draw(NATIVE, g, camera, torch.eye(4))
    opacity = torch.tensor(1.0).sigmoid()
    # Three pixels to the right of the centre; sigma = 50 * 0.1 / 2 px, blurred.
    torch.testing.assert_close(r.alpha[16, 16], opacity)
    torch.testing.assert_close(r.alpha[16, 19], opacity * torch.tensor(-9 / 2 / (2.5**2 + 0.3)).exp())
    torch.testing.assert_close(r.depth[16, 16], 2 * opacity)


POISON = [float("nan"), float("inf"), -float("inf"), 1e-40, -1e-40, 3e38, -3e38, 1e20, -1e20, 0.0, 88.0]


@pytest.mark.parametrize("field", ["means", "quats_wxyz", "log_scales", "logit_opacities", "sh"])
def test_poison_stays_in_its_row(field):
    """Rows with values that are not numbers, or far from any, are drawn or not; what is not drawn changes no pixel
    and no other row's gradient, and its own gradient is zero."""
    camera, pose = oracles.random_camera(40, 30, 30.0), oracles.random_pose(seeded(6))
    clean = scene(60, degree=1, seed=9).to(torch.float32)
    for value in POISON:
        bad = clean.clone()
        rows = getattr(bad, field).reshape(len(bad), -1)
        rows[7, 0] = value
        rows[20] = value
        with torch.no_grad():
            radii = draw(NATIVE, bad, camera, pose).radii
        left_out = torch.tensor([i for i in (7, 20) if radii[i] == 0], dtype=torch.int64)
        keep = torch.ones(len(bad), dtype=torch.bool)
        keep[left_out] = False
        if not torch.isfinite(torch.tensor(value)):
            assert len(left_out) == 2
        assert torch.equal(draw(NATIVE, bad, camera, pose).rgb, draw(NATIVE, bad[keep], camera, pose).rgb)
        found = gradients(NATIVE, bad, camera, pose, CLASSIC)
        expected = gradients(NATIVE, bad[keep], camera, pose, CLASSIC)
        for name in oracles.fields(bad):
            assert not found[name][left_out].any(), (value, name)
            # A finite colour of 1e38 is drawn, and overflows in whatever it meets.
            assert torch.equal(found[name][keep].nan_to_num(), expected[name].nan_to_num()), (value, name)
        if len(left_out) == 2:
            assert found["pose"].isfinite().all()


numbers = st.one_of(
    st.floats(width=32, allow_nan=True, allow_infinity=True),
    st.floats(-5, 5, width=32),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(numbers, min_size=14, max_size=14), min_size=1, max_size=5))
def test_no_bits_crash_it_and_the_image_is_finite(rows):
    t = torch.tensor(rows, dtype=torch.float32)
    g = Gaussians(t[:, :3], t[:, 3:7], t[:, 7:10], t[:, 10], t[:, None, 11:14]).map(torch.clone)
    camera, pose = oracles.random_camera(20, 20, 10.0), torch.eye(4)
    kept = set(NATIVE.visible(g, camera, pose, CLASSIC).tolist())
    for mode in ("classic", "antialiased"):
        r = draw(NATIVE, g, camera, pose, RasterSettings(mode=mode))
        # Colours may be as large as a float can be, and then overflow; everything else stays a number.
        assert r.alpha.isfinite().all() and not r.rgb.isnan().any()
        assert set((r.radii > 0).nonzero()[:, 0].tolist()) <= kept
        gradients(NATIVE, g, camera, pose, RasterSettings(mode=mode, absgrad=True))


def everything(g: Gaussians, camera: Camera, pose: Tensor) -> list[Tensor]:
    options = RasterSettings(absgrad=True)
    return [*images(draw(NATIVE, g, camera, pose)), *gradients(NATIVE, g, camera, pose, options).values()]


def test_same_bits_every_time_and_with_any_number_of_threads():
    g = scene(4000, degree=2, seed=3, scale=0.05).to(torch.float32)
    camera, pose = oracles.random_camera(130, 90, 100.0), oracles.random_pose(seeded(7))
    before = bindings.get_threads()
    try:
        results = []
        for threads in (1, 2, 5, 2):
            bindings.set_threads(threads)
            results.append(everything(g, camera, pose))
    finally:
        bindings.set_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))


def test_callers_on_several_threads_do_not_disturb_each_other():
    g = scene(1500, seed=3, scale=0.05).to(torch.float32)
    camera, pose = oracles.random_camera(100, 80, 100.0), oracles.random_pose(seeded(7))
    alone = everything(g, camera, pose)
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(3):
            if not all(torch.equal(a, b) for a, b in zip(alone, everything(g, camera, pose))):
                wrong.append(number)

    callers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for c in callers:
        c.start()
    for c in callers:
        c.join()
    assert not wrong


def test_permuting_gaussians_changes_nothing():
    g = scene(800, seed=12).to(torch.float32)
    camera, pose = oracles.random_camera(60, 50, 50.0), oracles.random_pose(seeded(4))
    order = torch.randperm(len(g), generator=seeded(1))
    first, second = draw(NATIVE, g, camera, pose), draw(NATIVE, g[order], camera, pose)
    assert all(torch.equal(a, b) for a, b in zip(images(first), images(second)))
    a, b = (gradients(NATIVE, x, camera, pose, CLASSIC) for x in (g, g[order]))
    assert all(torch.equal(a[name][order], b[name]) for name in oracles.fields(g))


def test_equal_depths_are_composited_in_order_of_their_index():
    n = 30
    g = scene(n, degree=0, seed=2)
    g = replace(g, means=g.means * torch.tensor([0.3, 0.3, 0.0], dtype=torch.float64), log_scales=g.log_scales - 0.5)
    pose = torch.eye(4, dtype=torch.float64)
    pose[2, 3] = 3.0
    camera = oracles.random_camera(40, 30, 40.0)
    a, b = draw(REFERENCE, g, camera, pose), draw(NATIVE, g.to(torch.float32), camera, pose)
    assert (a.rgb - b.rgb).abs().max() < 1e-4
    reverse = torch.arange(n - 1, -1, -1)
    assert (draw(NATIVE, g[reverse].to(torch.float32), camera, pose).rgb - b.rgb).abs().max() > 1e-2


def test_gradients_of_one_output_alone():
    """Losses on depth or alpha alone reach the kernels without a gradient of the colours."""
    g, pose = scene(80), oracles.random_pose(seeded(3))
    camera = oracles.random_camera(40, 30, 35.0)
    for pick in ("depth", "alpha", "rgb"):
        values = []
        for rasterizer, dtype in ((REFERENCE, torch.float64), (NATIVE, torch.float32)):
            rows = oracles.leaves(g.to(dtype))
            getattr(draw(rasterizer, rows, camera, pose), pick).square().sum().backward()
            values.append(oracles.fields(rows))
        for name in values[0]:
            truth, mine = values[0][name].grad, values[1][name].grad
            if truth is None:  # depth and alpha do not depend on colour
                assert name == "sh" and not mine.any()
            else:
                assert oracles.relative_error(mine, truth) < 1e-3, (pick, name)


def test_a_loss_on_centres_reaches_the_means():
    g, pose = scene(80), oracles.random_pose(seeded(3))
    camera = oracles.random_camera(40, 30, 35.0)
    found = []
    for rasterizer, dtype in ((REFERENCE, torch.float64), (NATIVE, torch.float32)):
        rows = oracles.leaves(g.to(dtype))
        r = draw(rasterizer, rows, camera, pose)
        (r.rgb.sum() + r.means2d.square().sum()).backward()
        found.append(rows.means.grad)
    assert oracles.relative_error(found[1], found[0]) < 1e-3


def test_only_the_background_may_want_a_gradient():
    g, camera = scene(20).to(torch.float32), oracles.random_camera(20, 20)
    pose = oracles.random_pose(seeded(3))
    background = torch.zeros(3, requires_grad=True)
    r = NATIVE(g, camera, pose, background, CLASSIC)
    r.rgb.sum().backward()
    torch.testing.assert_close(background.grad, (1 - r.alpha).sum().expand(3))


def test_every_contributing_pixel_finds_its_gaussian_in_its_tile():
    """The exact test of tiles against ellipses never loses a pair, and lists are front to back."""
    g = scene(300, seed=5).to(torch.float32)
    g = replace(g, log_scales=g.log_scales * torch.tensor([1.0, 2.0, 0.5]))
    camera, pose = oracles.random_camera(100, 70, 90.0), oracles.random_pose(seeded(3))
    from splat.raster.native import _Project

    fields = oracles.fields(g).values()
    splats, _, _ = _Project.apply(*fields, pose, camera, 0, CLASSIC)
    bins = bin_tiles(splats, camera)
    x, y, a, b, c, log2_opacity, _, _, depth = splats[:, :9].double().unbind(1)
    pixels = camera.pixel_centres().reshape(-1, 2).double()
    dx, dy = pixels[:, :1] - x, pixels[:, 1:] - y
    power = log2_opacity - (a * dx + b * dy).square() - (c * dy).square()
    pixel, row = ((power >= torch.tensor(1 / 255).log2()) & (depth > 0)).nonzero().unbind(1)
    columns = -(-camera.width // bindings.TILE)
    tile = (pixel // camera.width) // bindings.TILE * columns + (pixel % camera.width) // bindings.TILE
    needed = set(zip(tile.tolist(), row.tolist()))
    starts = bins.tile_start.tolist()
    listed = [(t, int(i)) for t in range(len(starts) - 1) for i in bins.entries[starts[t] : starts[t + 1], 0]]
    assert needed <= set(listed) and len(listed) == len(set(listed))
    assert len(listed) < 1.1 * len(needed) + 10
    for t in range(len(starts) - 1):
        assert (depth[bins.entries[starts[t] : starts[t + 1], 0].long()].diff() >= 0).all()
    slots = bins.entries[:, 1].long()
    assert torch.equal(slots.sort().values, torch.arange(len(listed)))
    assert (bins.first[bins.entries[:, 0].long()] <= slots).all()
    assert (slots < bins.first[bins.entries[:, 0].long() + 1]).all()


def test_it_says_why_it_cannot_draw():
    assert NATIVE.unavailable(torch.device("cpu")) is None
    assert "CUDA" in (NATIVE.unavailable(torch.device("cuda")) or "")


@pytest.mark.parametrize("degree", [1, 3])
def test_the_constant_harmonics_gradient_alone_is_that_of_all(degree):
    g, camera = scene(degree=degree).to(torch.float32), oracles.random_camera(50, 40, 50.0)
    pose = oracles.random_pose(seeded(degree))
    results = []
    for constant in (False, True):
        leaves = oracles.leaves(g)
        r = draw(NATIVE, leaves, camera, pose, RasterSettings(factored_sh=constant))
        (r.rgb**2).sum().backward()
        results.append((leaves, r))
    (full, _), (part, r) = results
    assert part.sh.grad is None and r.sh0_gradient is not None and full.sh.grad is not None
    assert torch.equal(r.sh0_gradient, full.sh.grad[:, :1]) and r.sh0_gradient.abs().max() > 0
    for a, b in zip(list(oracles.fields(full).values())[:4], list(oracles.fields(part).values())[:4], strict=True):
        assert a.grad is not None and b.grad is not None and torch.equal(a.grad, b.grad)
