"""Correlation of rendered and known depth, and rendered normals: exact values, odd inputs, gradients."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import planes
import pytest
import torch
from torch import Tensor

from splat.core.camera import Camera
from splat.core.gaussians import Gaussians
from splat.core.geometry import Rigid
from splat.core.slots import Item, Render, Silent, Step
from splat.losses import Losses
from splat.losses.correlation import (
    depth_correlation,
    patch_corners,
    patch_correlation,
    patch_count,
    pearson_distance,
)
from splat.losses.normals import normal_errors
from splat.train.views import PhotoSource, load_views

NONE = Gaussians(*(torch.zeros(0, *s) for s in ((3,), (4,), (3,), (), (1, 3))))


def step_of(z: Tensor, known: Tensor, number: int = 0) -> Step:
    h, w = z.shape
    photo = torch.full((h, w, 3), 128, dtype=torch.uint8)
    inverse = torch.where(known > 0, 1 / known.clamp_min(1e-9), 0)
    item = Item(Camera(10.0, 10.0, w / 2, h / 2, w, h), torch.eye(4), photo)
    item = replace(item, inverse_depth=inverse, probability=(known > 0).to(z))
    alpha = torch.full_like(z, 0.9)
    rgb = torch.zeros(h, w, 3, dtype=z.dtype)
    render = Render(rgb, alpha, alpha * z, torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64))
    return Step(number, item, render, rgb, None, photo, NONE, None, 1.0)


def bumps(h: int = 40, w: int = 56, seed: int = 0) -> Tensor:
    return 3 + torch.rand(h, w, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (7.5, -3.0), (1e-3, 40.0), (250.0, 1e-3)])
def test_maps_that_agree_up_to_a_positive_scale_and_an_offset_cost_nothing(scale: float, offset: float) -> None:
    a = bumps().double()
    assert abs(float(pearson_distance(a, scale * a + offset))) < 1e-5
    assert float(pearson_distance(a, offset - scale * a)) == pytest.approx(2, abs=1e-5)
    assert abs(float(pearson_distance(a.float(), a.float() * 2 + 1))) < 1e-5


def test_a_constant_map_costs_one_and_has_no_gradient() -> None:
    for a, b in ((torch.full((20, 20), 3.1), bumps(20, 20)), (bumps(20, 20), torch.full((20, 20), 3.1))):
        a.requires_grad_()
        distance = pearson_distance(a, b)
        distance.backward()
        assert float(distance.detach()) == 1 and torch.equal(a.grad, torch.zeros_like(a))


def test_the_gradient_is_that_of_finite_differences() -> None:
    a = bumps(5, 6).double().requires_grad_()
    b, w = bumps(5, 6, 1).double(), bumps(5, 6, 2).double() - 3
    assert torch.autograd.gradcheck(lambda x: pearson_distance(x, b, w), (a,))


@pytest.mark.parametrize(
    ("height", "width", "size", "count"),
    [(128, 128, 128, 1), (600, 800, 128, 12), (90, 120, 128, 1), (256, 384, 128, 3)],
)
def test_half_as_many_patches_as_tile_the_image_and_at_least_one(
    height: int, width: int, size: int, count: int
) -> None:
    assert patch_count(height, width, size) == count
    corners = patch_corners(height, width, size, 7)
    assert len(corners) == count and corners == patch_corners(height, width, size, 7)
    assert all(0 <= y <= max(0, height - size) and 0 <= x <= max(0, width - size) for y, x in corners)


def test_a_patch_larger_than_the_image_is_the_image() -> None:
    step = step_of(bumps(), bumps(seed=1))
    assert float(patch_correlation(step, 500)) == pytest.approx(float(depth_correlation(step)), abs=1e-6)


def test_offsets_of_parts_cost_the_image_and_not_its_patches() -> None:
    known = bumps(64, 64)
    rendered = known.clone()
    rendered[:, 32:] += 10
    step = step_of(rendered, known)
    inside = next(i for i in range(50) if all(x <= 16 or x >= 32 for _, x in patch_corners(64, 64, 16, i)))
    assert float(depth_correlation(step)) > 0.5
    assert abs(float(patch_correlation(replace(step, number=inside), 16))) < 1e-4


def test_unknown_depth_does_not_count() -> None:
    known = bumps()
    rendered = known * 2
    rendered[:, :20], known[:, :20] = 100 * bumps(seed=3)[:, :20], 0
    assert abs(float(depth_correlation(step_of(rendered, known)))) < 1e-4
    assert depth_correlation(step_of(rendered, torch.zeros_like(known))) is None
    assert patch_correlation(step_of(rendered, torch.zeros_like(known)), 16) is None


@pytest.mark.parametrize("field", ["weight", "alpha"])
def test_masked_pixels_do_not_count(field: str) -> None:
    known = bumps()
    rendered = known * 2
    rendered[:, :20] = 100 * bumps(seed=3)[:, :20]
    counts = torch.full(known.shape, 255, dtype=torch.uint8)
    counts[:, :20] = 0
    step = step_of(rendered, known)
    masked = replace(step, item=replace(step.item, **{field: counts}))
    assert float(depth_correlation(step)) > 0.1 > 1e-4 > abs(float(depth_correlation(masked)))
    assert abs(float(patch_correlation(masked, 16))) < 1e-4


def test_terms_of_weight_0_are_never_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise AssertionError

    for name in ("depth_correlation", "patch_correlation", "normal_errors"):
        monkeypatch.setattr(f"splat.losses.{name}", fails)
    step = step_of(bumps(), bumps(seed=1))
    Losses()(step)
    only = replace(step, item=replace(step.item, terms=frozenset({"l1"})))
    Losses(pearson=0.1, pearson_patches=0.1, normal_l1=0.01, normal_cosine=0.01)(only)
    for weight in ("pearson", "pearson_patches", "normal_l1", "normal_cosine"):
        with pytest.raises(AssertionError):
            Losses(**{weight: 0.1})(step)


def test_the_logged_terms_are_those_of_their_functions() -> None:
    step = step_of(bumps(), bumps(seed=1))
    total, figures = Losses(l1=0.0, dssim=0.0, pearson=0.1, pearson_patches=0.2, pearson_patch=20)(step)
    assert figures["pearson"] == pytest.approx(float(depth_correlation(step)))
    assert float(total) == pytest.approx(0.1 * figures["pearson"] + 0.2 * figures["pearson_patches"], rel=1e-5)


# ------------------------------------------------------------------------------------------------------------- normals


def test_a_plane_has_no_error_of_normals_and_a_flipped_axis_has(tmp_path: Path) -> None:
    """The normals of a depth map, at the size of the photo and a fraction of it, against those of the plane in OpenCV
    axes; y up or swapped channels would show."""
    camera, poses = Camera(110.0, 110.0, 60.0, 45.0, 120, 90), planes.walk(2)
    scene = planes.PlaneScene.make(25.0)
    up, target = torch.tensor([0.4, -1.0, 0.1]), torch.tensor([0.2, 0.3, 4.0])
    tilted = [Rigid.look_at(p.translation + torch.tensor([0.0, 0.8, 0.0]), target, up) for p in poses]
    capture = planes.capture_of(scene, camera, tilted, tmp_path)
    source = PhotoSource(load_views(capture.views))
    source.give_depths(planes.TrueDepth(scene)(capture, Silent()), normals=True)
    for (item,), pose in zip(source.levels, tilted, strict=True):
        true = (pose.rotation.T @ scene.normal).float().expand(90, 120, 3)
        for axis in range(4):
            flip = torch.ones(3)
            if axis < 3:
                flip[axis] = -1
            h, w = 90, 120
            rgb, alpha, none = torch.zeros(h, w, 3), torch.full((h, w), 0.7), torch.zeros(0, dtype=torch.int64)
            normals = (0.7 * true * flip).contiguous()
            render = Render(rgb, alpha, torch.ones(h, w), torch.zeros(0, 2), none, normals=normals)
            step = Step(0, item, render, render.rgb, None, item.rgb, NONE, None, 1.0)
            l1, cosine = map(float, normal_errors(step))
            if axis == 3:
                assert l1 < 1e-3 and abs(cosine) < 1e-5
            elif abs(float(true[0, 0, axis])) > 0.05:
                assert l1 > 0.09 and cosine > 0.004


def normals_step(rendered: Tensor, known: Tensor, probability: Tensor | None = None) -> Step:
    step = step_of(bumps(*rendered.shape[:2]).to(rendered), bumps(*rendered.shape[:2]).to(rendered))
    item = replace(step.item, normals_cam=known, probability=probability)
    return replace(step, item=item, render=replace(step.render, normals=rendered))


def test_errors_of_normals_and_their_gradients_are_those_of_the_formulas() -> None:
    rendered, known = (bumps(12, 15, s)[..., None].expand(12, 15, 3).double().clone() for s in (0, 1))
    rendered, known = rendered + torch.randn_like(rendered), torch.randn_like(known)
    known = torch.nn.functional.normalize(known, dim=2)
    known[:3] = 0
    sure = bumps(12, 15, 2).double() - 3
    rendered.requires_grad_()
    n = torch.nn.functional.normalize(rendered, dim=2)
    weight = sure * (known.norm(dim=2) > 0.5)
    expected = (weight * (n - known).abs().sum(2)).mean(), (weight * (1 - (n * known).sum(2))).mean()
    found = normal_errors(normals_step(rendered, known, sure))
    torch.testing.assert_close(found, expected)
    wanted = torch.autograd.grad(0.3 * expected[0] + 0.7 * expected[1], rendered)
    torch.testing.assert_close(torch.autograd.grad(0.3 * found[0] + 0.7 * found[1], rendered), wanted)


def test_normals_of_planar_memory_are_not_written_over() -> None:
    rendered = (bumps(12, 15)[None] + torch.arange(3.0)[:, None, None]).permute(1, 2, 0)
    before = rendered.clone()
    normal_errors(normals_step(rendered, torch.nn.functional.normalize(before.flip(2), dim=2)))
    assert torch.equal(rendered, before)


def test_a_normal_counts_by_the_probability_and_the_weight_of_its_pixel() -> None:
    rendered = torch.zeros(10, 10, 3)
    rendered[..., 0] = 1
    known = torch.zeros(10, 10, 3)
    known[..., 2] = -1
    whole = normal_errors(normals_step(rendered, known))
    half = normal_errors(normals_step(rendered, known, torch.full((10, 10), 0.5)))
    masked = normals_step(rendered, known)
    weight = torch.zeros(10, 10, dtype=torch.uint8)
    weight[:5] = 255
    masked = normal_errors(replace(masked, item=replace(masked.item, weight=weight)))
    for w, h, m, true in zip(whole, half, masked, (2.0, 1.0), strict=True):
        assert float(w) == pytest.approx(true) and float(h) == float(m) == pytest.approx(true / 2)


def test_normals_without_length_or_unknown_have_no_gradient() -> None:
    step = step_of(bumps(), bumps(seed=1))
    rendered = torch.zeros(40, 56, 3)
    rendered[:20] = torch.tensor([0.6, 0.0, -0.8])
    rendered.requires_grad_()
    known = torch.zeros(40, 56, 3)
    known[:, 10:] = torch.tensor([0.0, 0.0, -1.0])
    step = replace(step, item=replace(step.item, normals_cam=known), render=replace(step.render, normals=rendered))
    l1, cosine = normal_errors(step)
    (l1 + cosine).backward()
    assert bool(rendered.grad.isfinite().all()) and not bool(rendered.grad[:, :10].any())
    assert bool(rendered.grad[:20, 10:].any())
    assert normal_errors(replace(step, render=replace(step.render, normals=None))) is None
