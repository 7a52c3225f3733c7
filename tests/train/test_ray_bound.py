"""Gaussians that slide along the rays of their pixels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from splat.core.camera import Camera
from splat.core.capture import View
from splat.core.gaussians import Gaussians
from splat.core.geometry import Rigid
from splat.core.schedules import LearningRates
from splat.core.slots import Init, RayRows, RowGradients
from splat.train.models.ray_bound import RayBound, RaySettings

CAMERA = Camera(100.0, 100.0, 48.0, 36.0, 96, 72)
RATES = LearningRates().at(0.0, 1.0)


def views() -> list[View]:
    poses = [
        Rigid.look_at(torch.tensor(eye), torch.tensor([0.0, 0.0, 4.0]), torch.tensor([0.0, -1.0, 0.0]))
        for eye in ([-0.5, 0.0, 0.0], [0.6, 0.2, 0.1])
    ]
    return [View(f"{i}.png", Path(f"{i}.png"), (96, 72), CAMERA, p) for i, p in enumerate(poses)]


def start(count: int = 60, reach: float = 3.0, probability: float = 0.0) -> tuple[Init, list[View]]:
    g = torch.Generator().manual_seed(0)
    cameras = views()
    ids = torch.arange(count) % 2
    pixels = torch.rand(count, 2, generator=g) * torch.tensor([96.0, 72.0])
    depth = 2 + 3 * torch.rand(count, generator=g)
    means = torch.stack(
        [cameras[i].pose.apply(CAMERA.unproject(p, d).double()) for i, p, d in zip(ids.tolist(), pixels, depth)]
    ).float()
    gaussians = Gaussians(
        means=means,
        quats_wxyz=torch.tensor([1.0, 0, 0, 0]).repeat(count, 1),
        log_scales=torch.full((count, 3), -4.0),
        logit_opacities=torch.zeros(count),
        sh=torch.rand(count, 1, 3, generator=g),
    )
    rays = RayRows(
        layers=(pixels[:, 0] > 48).long(),
        probability=torch.full((count,), probability),
        nearest=torch.full((count,), 1 / reach),
        farthest=torch.full((count,), reach),
    )
    return Init(gaussians, ids, pixels, rays), cameras


def model_of(init: Init, cameras: list[View], settings: RaySettings | None = None) -> RayBound:
    return RayBound(init.gaussians, init, cameras, settings or RaySettings())


def gradient_of(means: torch.Tensor, log_scales: torch.Tensor | None = None, ids: torch.Tensor | None = None):
    n = len(means)
    scales = torch.zeros(n, 3) if log_scales is None else log_scales
    fields = Gaussians(means, torch.zeros(n, 4), scales, torch.zeros(n), torch.zeros(n, 1, 3))
    return RowGradients(ids, fields)


def depths(model: RayBound, init: Init, cameras: list[View]) -> torch.Tensor:
    means = model.gaussians().means.double()
    return torch.stack([cameras[i].pose.inverse().apply(m)[2] for i, m in zip(init.view_ids.tolist(), means)])


def test_a_gaussian_stays_on_the_ray_of_its_pixel_whatever_its_depth() -> None:
    init, cameras = start()
    model = model_of(init, cameras)
    before = depths(model, init, cameras)
    g = torch.Generator().manual_seed(1)
    for _ in range(200):
        model.update(gradient_of(torch.randn(60, 3, generator=g) + 0.3), RATES)
    after = depths(model, init, cameras)
    assert float((after / before).log().abs().max()) > 0.05, "they do move"
    means = model.gaussians().means.double()
    for i, m, pixel in zip(init.view_ids.tolist(), means, init.pixels):
        found = CAMERA.project(cameras[i].pose.inverse().apply(m))
        assert float((found - pixel).norm()) < 1e-3


def test_the_footprint_in_its_own_photo_stays() -> None:
    init, cameras = start()
    model = model_of(init, cameras)
    before = depths(model, init, cameras)
    for _ in range(50):
        model.update(gradient_of(torch.ones(60, 3), torch.zeros(60, 3)), replace(RATES, scales=0.0))
    ratio = depths(model, init, cameras) / before
    size = model.gaussians().log_scales.exp() / init.gaussians.log_scales.exp()
    assert torch.allclose(size.double(), ratio[:, None].expand(-1, 3), rtol=1e-4)


def test_depth_follows_the_gradient_along_the_ray() -> None:
    """d loss / d log z by finite differences of a function of means and scales has the sign of the step."""
    init, cameras = start(8)
    target = init.gaussians.means.double() * 1.2

    def loss(model: RayBound) -> float:
        g = model.gaussians()
        return float((g.means.double() - target).square().sum() + 0.1 * g.log_scales.double().sum())

    model = model_of(init, cameras, RaySettings(grid_rate=0.0))
    first = loss(model)
    for _ in range(300):
        means = 2 * (model.gaussians().means - target.float())
        model.update(gradient_of(means, torch.full((8, 3), 0.1)), replace(RATES, scales=0.0))
    assert loss(model) < 0.5 * first


@pytest.mark.parametrize("direction", [-1.0, 1.0])
def test_no_gaussian_leaves_the_space_that_it_may_slide_in(direction: float) -> None:
    init, cameras = start(reach=1.05)
    model = model_of(init, cameras, RaySettings(grid_rate=0.05, slide_rate=0.05))
    before = depths(model, init, cameras)
    ahead = torch.stack([v.pose.rotation[:, 2] for v in cameras]).float()[init.view_ids]
    for _ in range(40):
        model.update(gradient_of(direction * ahead), RATES)
    ratio = depths(model, init, cameras) / before
    assert float(ratio.max()) < 1.0501 and float(ratio.min()) > 1 / 1.0501
    assert float((ratio.log().abs() - torch.tensor(1.05).log()).abs().max()) < 1e-4, "they go to the border"


def test_a_layer_deforms_smoothly_and_alone() -> None:
    init, cameras = start(400)
    model = model_of(init, cameras, RaySettings(cells=(64,), slide_rate=0.0))
    before = depths(model, init, cameras)
    moved = init.rays.layers == 1
    ahead = torch.stack([v.pose.rotation[:, 2] for v in cameras]).float()[init.view_ids]
    noise = 1 + 3 * torch.randn(400, generator=torch.Generator().manual_seed(2))
    for _ in range(60):
        model.update(gradient_of(ahead * (noise * moved)[:, None]), RATES)
    change = (depths(model, init, cameras) / before).log()
    assert float(change[~moved].abs().max()) < 1e-6, "the other layer does not move"
    assert float(change[moved].abs().min()) > 0
    own = (init.view_ids == 0) & moved
    near = torch.cdist(init.pixels[own], init.pixels[own]) < 2
    spread = (change[own][:, None] - change[own][None])[near].abs().max()
    assert float(spread) < 0.35 * float(change[own].max() - change[own].min()), "neighbours move alike"


def test_probable_depths_are_taken_back_and_doubtful_ones_are_free() -> None:
    ahead = torch.stack([v.pose.rotation[:, 2] for v in views()]).float()
    moved = {}
    for probability in (0.0, 1.0):
        init, cameras = start(probability=probability)
        model = model_of(init, cameras, RaySettings(grid_rate=0.0))
        before = depths(model, init, cameras)
        for _ in range(100):
            model.update(gradient_of(-ahead[init.view_ids]), RATES)
        moved[probability] = float((depths(model, init, cameras) / before).log().mean())
    assert moved[0.0] > 0.01 and abs(moved[1.0]) < 1e-6


def test_rows_that_were_not_drawn_keep_their_slide() -> None:
    init, cameras = start()
    model = model_of(init, cameras, RaySettings(grid_rate=0.0))
    ids = torch.arange(0, 60, 3)
    model.update(gradient_of(torch.ones(len(ids), 3), ids=ids), RATES)
    change = (model.gaussians().means - init.gaussians.means).norm(dim=1)
    assert bool((change[ids] > 0).all()) and int((change > 1e-6).sum()) == len(ids)


def test_a_state_goes_on_where_it_was() -> None:
    init, cameras = start()
    g = torch.Generator().manual_seed(3)
    steps = [torch.randn(60, 3, generator=g) for _ in range(12)]
    whole = model_of(init, cameras)
    for s in steps[:6]:
        whole.update(gradient_of(s), RATES)
    whole.edit(torch.arange(60) % 7 != 0, None)
    kept = (torch.arange(60) % 7 != 0).nonzero()[:, 0]
    again = model_of(init, cameras)
    again.load_state(whole.state())
    for s in steps[6:]:
        for model in (whole, again):
            model.update(gradient_of(s[kept]), RATES)
    for a, b in zip(vars(whole.gaussians()).values(), vars(again.gaussians()).values()):
        assert torch.equal(a, b)


def test_permuting_the_rows_changes_nothing() -> None:
    init, cameras = start()
    order = torch.randperm(60, generator=torch.Generator().manual_seed(4))
    a, b = model_of(init, cameras), model_of(init, cameras)
    b.rearrange(order)
    g = torch.Generator().manual_seed(5)
    for _ in range(10):
        step = torch.randn(60, 3, generator=g)
        a.update(gradient_of(step), RATES)
        b.update(gradient_of(step[order]), RATES)
    assert torch.allclose(a.gaussians().means[order], b.gaussians().means, atol=1e-5)


def test_nothing_can_be_added_to_rays() -> None:
    init, cameras = start()
    model = model_of(init, cameras)
    with pytest.raises(ValueError, match="added"):
        model.edit(torch.ones(60, dtype=torch.bool), init.gaussians[:2])
