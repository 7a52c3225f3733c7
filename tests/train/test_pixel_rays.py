"""Gaussians that are the pixels of photos."""

from __future__ import annotations

from pathlib import Path

import planes
import pytest
import torch
from torch import Tensor

from splat.core.camera import Camera
from splat.core.capture import View
from splat.core.gaussians import Gaussians, rgb_to_sh
from splat.core.geometry import Rigid
from splat.core.schedules import LearningRates
from splat.core.slots import DepthMap, Init, RasterSettings, RayRows, RowGradients
from splat.geometry.drawing import draw_view
from splat.raster import choose
from splat.train.models.pixel_rays import PixelRays, PixelSettings
from splat.train.models.ray_fields import FieldSettings

CAMERA = Camera(50.0, 50.0, 24.0, 18.0, 48, 36)
SCENE, POSES = planes.PlaneScene.make(0.0), planes.walk(3)
N = 3 * 48 * 36
STEPS = 130


def start() -> tuple[Init, list[View]]:
    views = [View(f"{i}.png", Path(f"{i}.png"), (48, 36), CAMERA, p) for i, p in enumerate(POSES)]
    depths = [SCENE.depth(CAMERA, p).float() for p in POSES]
    pixels = CAMERA.pixel_centres().reshape(-1, 2)
    means = [p.apply(CAMERA.unproject(pixels, d.reshape(-1)).double()) for p, d in zip(POSES, depths)]
    z = torch.cat([d.reshape(-1) for d in depths])
    gaussians = Gaussians(
        means=torch.cat(means).float(),
        quats_wxyz=torch.tensor([1.0, 0, 0, 0]).repeat(N, 1),
        log_scales=(0.6 * z / 50).log()[:, None].repeat(1, 3),
        logit_opacities=torch.zeros(N),
        sh=rgb_to_sh(torch.rand(N, 3, generator=torch.Generator().manual_seed(0))),
    )
    layers = (pixels[:, 0] > 24).long().repeat(3)
    one = torch.ones(N)
    maps = tuple(DepthMap(d, torch.ones_like(d)) for d in depths)
    return Init(
        gaussians, torch.arange(3).repeat_interleave(48 * 36), pixels.repeat(3, 1), RayRows(layers, one, one, one), maps
    ), views


SMALL = FieldSettings(depth_width=2, opacity_width=2)


def model_of(settings: PixelSettings | None = None) -> PixelRays:
    init, views = start()
    return PixelRays(init.gaussians, init, views, settings or PixelSettings(SMALL, flow_weight=0.0), STEPS, 3.0)


def gradient(seed: int, ids: Tensor | None = None, **fields: Tensor) -> RowGradients:
    m = N if ids is None else len(ids)
    g = torch.Generator().manual_seed(seed)
    shapes = {"means": (m, 3), "quats_wxyz": (m, 4), "log_scales": (m, 3), "logit_opacities": (m,), "sh": (m, 1, 3)}
    random = {name: 1e-3 * torch.randn(*shape, generator=g) for name, shape in shapes.items()}
    return RowGradients(ids, Gaussians(**(random | fields)))


def rates(step: int):  # type: ignore[no-untyped-def]
    return LearningRates(sh0=5e-4, scales=1e-4, quats=1e-5).at(step / STEPS, 1.0)


def test_however_it_is_trained_a_gaussian_stays_on_the_ray_of_its_pixel() -> None:
    init, _ = start()
    model = model_of()
    for step in range(20):
        model.gaussians()
        model.update(gradient(step, means=torch.randn(N, 3) + 0.5), rates(step))
    means = model.gaussians().means.double()
    assert len(model) == N
    moved = []
    for i, pose in enumerate(POSES):
        inside = pose.inverse().apply(means[init.view_ids == i])
        assert float((CAMERA.project(inside) - init.pixels[init.view_ids == i]).abs().max()) < 1e-3
        moved.append(inside[:, 2] / 4)
    assert float(torch.cat(moved).log().abs().max()) > 0.01


def test_depth_stays_in_front_of_the_camera_and_comes_back() -> None:
    init, _ = start()
    model = model_of(PixelSettings(FieldSettings("free", free_rate=0.3), flow_weight=0.0))
    ahead = torch.stack([p.rotation[:, 2] for p in POSES]).float()[init.view_ids]
    for step in range(30):
        model.update(gradient(0, means=ahead), rates(step))  # towards the camera
    nearest = model.z.min()
    assert float(nearest) == pytest.approx(0.2 * 3.0, rel=1e-4)
    for step in range(40):
        model.update(gradient(0, means=-ahead), rates(step))
    model.gaussians()
    assert float(model.z.min()) > 0.3 * 3.0


def test_sizes_are_six_tenths_of_a_pixel_after_every_reset() -> None:
    model = model_of(PixelSettings(FieldSettings("grid", grid_rate=0.01), flow_weight=0.0))
    assert model.every == 1
    for step in range(int(STEPS * 8 / 13)):
        model.update(gradient(step, means=torch.randn(N, 3), log_scales=torch.randn(N, 3)), rates(step))
    g = model.gaussians()
    assert float((g.scales * 50 / model.z[:, None] - 0.6).abs().max()) < 0.006
    before = model.gaussians().log_scales.clone()
    for step in range(int(STEPS * 8 / 13) + 1, STEPS):  # then they are free
        model.update(gradient(0, log_scales=torch.full((N, 3), 1.0)), rates(step))
    assert bool((model.gaussians().log_scales < before).all())


def test_colour_stays_that_of_the_pixel_unless_it_is_to_be_learned() -> None:
    for learn in (False, True):
        model = model_of(PixelSettings(SMALL, train_colour=learn, flow_weight=0.0))
        before = model.gaussians().sh.clone()
        model.update(gradient(0), rates(0))
        assert torch.equal(model.gaussians().sh, before) is not learn


def test_matches_teach_depth_alone_and_need_no_photo() -> None:
    for flow, weight in (("world", 1.0), ("reprojection", 1.0)):
        settings = PixelSettings(FieldSettings("free", free_rate=0.01), flow=flow, flow_weight=weight)  # type: ignore[arg-type]
        init, views = start()
        wrong = Init(init.gaussians, init.view_ids, init.pixels, init.rays, init.depths)
        model = PixelRays(wrong.gaussians, wrong, views, settings, STEPS, 3.0)
        assert isinstance(model.field.values()[0], Tensor)
        model.field.values_of[0].mul_(1.1)  # type: ignore[attr-defined]
        before = [t.clone() for t in vars(model.gaussians()).values()]
        nothing = torch.zeros(0, dtype=torch.int64)
        zero = Gaussians(*(torch.zeros(0, *s) for s in ((3,), (4,), (3,), (), (1, 3))))
        far = float((model.z / 4.4 - 1).abs().median())
        assert far < 0.01
        for _ in range(100):
            model.update(RowGradients(nothing, zero), LearningRates().at(1.0, 1.0))
        after = model.gaussians()
        assert float((model.z / 4 - 1).abs().median()) < 0.05
        for name, old in zip(vars(after), before):
            assert (name == "means") is not torch.equal(getattr(after, name), old), name


@pytest.mark.parametrize(
    "kind, flow", [("decoder", "world"), ("decoder", "reprojection"), ("grid", "world"), ("free", "world")]
)
def test_training_goes_on_bit_for_bit(kind: str, flow: str) -> None:
    settings = PixelSettings(FieldSettings(kind, depth_width=2, opacity_width=2), flow=flow)  # type: ignore[arg-type]

    def run(model: PixelRays, steps: range) -> PixelRays:
        for step in steps:
            model.gaussians()
            ids = torch.arange(step % 5, N, 2)
            model.update(gradient(step, ids), rates(step))
            model.shift(None, logit_opacities=-0.01)
        return model

    whole = run(model_of(settings), range(8))
    half = run(model_of(settings), range(4))
    half.gaussians()  # looking changes nothing
    again = model_of(settings)
    again.load_state(half.state())
    run(again, range(4, 8))
    for a, b in zip(vars(whole.gaussians()).values(), vars(again.gaussians()).values()):
        assert torch.equal(a, b)


def test_rows_are_pixels_and_are_neither_added_nor_removed_nor_sorted() -> None:
    model = model_of()
    before = model.gaussians().means.clone()
    model.rearrange(torch.randperm(N))
    model.edit(torch.ones(N, dtype=torch.bool), None)
    assert torch.equal(model.gaussians().means, before) and len(model) == N
    for wrong in (
        lambda: model.edit(torch.arange(N) > 0, None),
        lambda: model.edit(torch.ones(N, dtype=torch.bool), model.gaussians()[:1]),
        lambda: model.assign(torch.arange(1), model.gaussians()[:1]),
        lambda: model.shift(torch.arange(1), means=torch.ones(1, 3)),
    ):
        with pytest.raises(ValueError, match="pixels"):
            wrong()


def test_a_plane_is_covered_as_published_and_less_so_from_near() -> None:
    """One photo's share of three hides 0.91 of the background, and 0.75 of it at four times the size: 0.3 px^2 are
    added to every footprint whatever the size."""
    init, _ = start()
    layer = init.gaussians[init.view_ids == 1]
    raster = choose(torch.device("cpu"), "auto")
    covered = []
    for k in (1, 4):
        camera = CAMERA.resized(48 * k, 36 * k)
        alpha = draw_view(layer, camera, POSES[1], raster, RasterSettings(), torch.ones(3)).alpha
        covered.append(float(alpha[8 * k : -8 * k, 8 * k : -8 * k].mean()))
    assert covered == pytest.approx([0.91, 0.75], abs=0.012)


def test_opacities_stay_finite_where_the_decoder_saturates() -> None:
    model = model_of(PixelSettings(FieldSettings("free", logit_rate=50.0), flow_weight=0.0))
    for step in range(5):
        model.update(gradient(0, logit_opacities=torch.full((N,), -1.0)), rates(step))
    g = model.gaussians()
    assert all(bool(t.isfinite().all()) for t in vars(g).values()) and float(g.opacities.min()) > 0.999


def test_a_photo_more_or_less_needs_no_table() -> None:
    init, views = start()
    for count in (2, 3):
        rows = init.rows((init.view_ids < count).nonzero()[:, 0])
        rows = Init(rows.gaussians, rows.view_ids, rows.pixels, rows.rays, init.depths[:count])
        model = PixelRays(rows.gaussians, rows, views[:count], PixelSettings(SMALL), STEPS, 3.0)
        assert len(model) == count * 48 * 36 and bool(model.gaussians().means.isfinite().all())
    five = [
        *views,
        *(
            View(f"x{i}", Path("x"), (48, 36), CAMERA, Rigid(p.rotation, p.translation + 0.1))
            for i, p in enumerate(POSES[:2])
        ),
    ]
    ids = torch.cat([init.view_ids, torch.arange(3, 5).repeat_interleave(48 * 36)])
    rays = RayRows(*(torch.cat([t, t[: 2 * 48 * 36]]) for t in vars(init.rays).values()))
    gaussians = Gaussians.cat([init.gaussians, init.gaussians[: 2 * 48 * 36]])
    more = Init(gaussians, ids, torch.cat([init.pixels, init.pixels[: 2 * 48 * 36]]), rays, ())
    assert len(PixelRays(gaussians, more, five, PixelSettings(SMALL), STEPS, 3.0)) == 5 * 48 * 36
