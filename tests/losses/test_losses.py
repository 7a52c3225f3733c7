"""Terms add up with their weights, and those of weight 0 are never evaluated."""

import math
from dataclasses import fields, replace

import oracles
import pytest
import torch

import splat.losses as losses_module
from splat.core.slots import Item, Render, Step
from splat.losses import Losses
from splat.losses.photometric import torch_photometric

H, W = 20, 24


@pytest.fixture
def step() -> Step:
    rng = torch.Generator().manual_seed(0)
    rgb = torch.rand(H, W, 3, generator=rng)
    target = torch.rand(H, W, 3, generator=rng)
    weight = torch.randint(0, 256, (H, W), generator=rng, dtype=torch.uint8)
    gaussians = oracles.leaves(oracles.random_gaussians(30, rng, dtype=torch.float32))
    flat = torch.zeros(H, W)
    render = Render(rgb, flat, flat, torch.zeros(30, 2), torch.zeros(30, dtype=torch.int64))
    camera = oracles.random_camera(W, H)
    item = Item(camera, torch.eye(4), (255 * target).to(torch.uint8), weight=weight)
    return Step(1, item, render, rgb, None, target, gaussians, None, scene_extent=2.0)


OFF = Losses(**{f.name: 0.0 for f in fields(Losses) if f.name not in ("longest", "pearson_patch", "normal_every")})


def expected(step: Step) -> dict[str, float]:
    loss = torch_photometric(step.rgb, step.target, step.item.weight, 1.0, 1.0)
    g = step.gaussians.detach()
    ratio = g.scales.amax(1) / g.scales.amin(1)
    return {
        "l1": loss.l1,
        "dssim": loss.dssim,
        "opacity": float(g.opacities.mean()),
        "scale": float(g.scales.mean()) / 2,
        "anisotropy": float((ratio.log() - math.log(2)).clamp_min(0).mean()),
    }


@pytest.mark.parametrize("name", ["l1", "dssim", "opacity", "scale", "anisotropy"])
def test_one_term_alone_is_its_weight_times_its_value(step, name):
    total, figures = replace(OFF, longest=2.0, **{name: 0.3})(step)
    assert float(total.detach()) == pytest.approx(0.3 * expected(step)[name], rel=1e-5)
    assert figures[name] == pytest.approx(expected(step)[name], rel=1e-5)


def test_all_terms_add_up(step):
    weights = {"l1": 0.8, "dssim": 0.2, "opacity": 0.01, "scale": 0.02, "anisotropy": 0.5}
    total, figures = Losses(**weights, longest=2.0)(step)
    truth = expected(step)
    assert float(total.detach()) == pytest.approx(sum(w * truth[k] for k, w in weights.items()), rel=1e-5)
    assert set(figures) == {*weights, "psnr"}


def test_terms_of_weight_zero_are_never_evaluated(step, monkeypatch):
    for name in ("photometric", "mean_opacity", "mean_scale", "mean_stretch"):
        monkeypatch.setattr(losses_module, name, lambda *a: pytest.fail("evaluated"))
    total, figures = OFF(step)
    assert float(total) == 0 and figures == {}


@pytest.mark.parametrize("name", ["l1", "dssim", "opacity", "scale", "anisotropy"])
def test_a_term_that_does_not_count_for_an_item_is_never_evaluated(step, name, monkeypatch):
    weights = {"l1": 0.8, "dssim": 0.2, "opacity": 0.01, "scale": 0.02, "anisotropy": 0.5}
    losses = Losses(**weights, longest=2.0)
    others = frozenset(weights) - {name}
    some = replace(step, item=replace(step.item, terms=others))
    total, figures = losses(some)
    without, same_figures = replace(losses, **{name: 0.0})(step)
    assert float(total.detach()) == float(without.detach()) and figures == same_figures
    assert set(figures) - {"psnr"} == others | ({"l1"} if name == "l1" else set())  # which dssim comes with
    compute = {"opacity": "mean_opacity", "scale": "mean_scale", "anisotropy": "mean_stretch"}
    if name in compute:
        monkeypatch.setattr(losses_module, compute[name], lambda *a: pytest.fail("evaluated"))
        losses(some)


def test_an_item_for_which_nothing_counts_evaluates_nothing(step, monkeypatch):
    for name in ("photometric", "mean_opacity", "mean_scale", "mean_stretch"):
        monkeypatch.setattr(losses_module, name, lambda *a: pytest.fail("evaluated"))
    total, figures = Losses(opacity=1.0, scale=1.0, anisotropy=1.0)(
        replace(step, item=replace(step.item, terms=frozenset()))
    )
    assert float(total) == 0 and figures == {}


def test_regularizers_pull_the_right_way(step):
    total, _ = replace(OFF, opacity=1.0, scale=1.0, anisotropy=1.0, longest=2.0)(step)
    total.backward()
    g = step.gaussians
    assert g.logit_opacities.grad is not None and (g.logit_opacities.grad > 0).all()
    assert g.log_scales.grad is not None
    needles = (g.log_scales.amax(1) - g.log_scales.amin(1)) > math.log(2)
    longest = g.log_scales.argmax(1, keepdim=True)
    assert needles.any() and (g.log_scales.grad.gather(1, longest)[needles] > 0).all()
    assert g.means.grad is None


def test_no_gaussians_is_no_loss(step):
    none = replace(step, gaussians=step.gaussians[:0])
    total, _ = replace(OFF, opacity=1.0, scale=1.0, anisotropy=1.0)(none)
    assert float(total.detach()) == 0
