"""The refiner: what it is before training, what it learns of a scene, and when it is not used."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import refining
import torch

from splat.core.errors import SplatError
from splat.core.metrics import psnr
from splat.core.slots import Silent, ViewRefiner
from splat.geometry.virtual_path import nearest_first
from splat.priors.refiner import FittedRefiner, SceneRefiner
from splat.priors.refiner.fitting import Fit, Recipe
from splat.priors.refiner.inputs import CHANNELS, NAMES, channels, example
from splat.priors.refiner.unet import MAX_PARAMETERS, WIDTHS, RefinerNet, count_parameters, seeded_net
from splat.priors.refiner.weights import FILE, LICENCE, MAX_BYTES, load_weights, save_weights

QUICK = SceneRefiner(Recipe(steps=100, batch=4, crop=40, rate=3e-3), (12, 16, 24), pretrained=False)


@pytest.fixture(scope="module")
def pairs() -> list:
    return refining.pairs()


@pytest.fixture(scope="module")
def fitted(pairs: list) -> FittedRefiner:
    return QUICK.start(seed=0).fit(pairs[:-1], seed=1)


def test_before_training_it_is_the_identity(pairs: list) -> None:
    p = pairs[2]
    net = seeded_net(CHANNELS, WIDTHS, 0)
    assert count_parameters(net) <= MAX_PARAMETERS
    refiner = SceneRefiner(pretrained=False).start()
    assert isinstance(refiner, ViewRefiner)
    assert torch.equal(refiner.refine(p.view, p.references).rgb, p.view.rgb)
    correction, _ = net(channels(p.view, p.references)[None, :, :57, :83])
    assert correction.shape == (1, 3, 57, 83) and not correction.any()


def test_it_repairs_floaters_and_blur_of_a_view_it_has_not_seen(pairs: list, fitted: FittedRefiner) -> None:
    assert fitted.accepted and fitted.held_out in {p.photo for p in pairs[:-1]}
    p = pairs[-1]
    refined = fitted.refine(p.view, p.references)
    assert psnr(refined.rgb, p.target) >= psnr(p.view.rgb, p.target) + 1
    error = [(i.diff(dim=1) - p.target.diff(dim=1)).abs().mean() for i in (p.view.rgb, refined.rgb)]
    assert error[1] < error[0]
    assert float(refined.confidence.min()) >= 0 and float(refined.confidence.max()) <= 1
    assert torch.equal(fitted.refine(p.view, p.references, strength=0.0).rgb, p.view.rgb)


def test_it_is_sure_where_it_is_right(pairs: list, fitted: FittedRefiner) -> None:
    p = pairs[-1]
    refined = fitted.refine(p.view, p.references)
    error, sure = (refined.rgb - p.target).abs().mean(-1), refined.confidence > refined.confidence.median()
    assert error[sure].mean() < 0.9 * error[~sure].mean()


def test_nothing_is_made_up_where_no_photo_shows_anything(pairs: list, fitted: FittedRefiner) -> None:
    p = pairs[-1]
    alone = fitted.refine(p.view, ())
    assert torch.equal(alone.rgb, p.view.rgb) and not alone.confidence.any()
    thin = replace(p.view, alpha=0.3 * p.view.alpha)
    assert torch.equal(fitted.refine(thin, p.references).rgb, p.view.rgb)


def test_the_same_seed_gives_the_same_refiner(pairs: list) -> None:
    dark = [replace(p, view=replace(p.view, rgb=0.7 * p.target)) for p in pairs]  # learned at once
    torch.manual_seed(5)
    one = QUICK.start(seed=3).fit(dark[:3], budget=8, seed=3)
    torch.manual_seed(6)
    two, other = (QUICK.start(seed=s).fit(dark[:3], budget=8, seed=s) for s in (3, 4))
    assert one.accepted and one.scores["fitted"].psnr > one.scores["start"].psnr
    p = dark[4]
    assert torch.equal(one.refine(p.view, p.references).rgb, two.refine(p.view, p.references).rgb)
    assert not torch.equal(one.refine(p.view, p.references).rgb, other.refine(p.view, p.references).rgb)


def test_a_fit_that_was_interrupted_goes_on_bit_for_bit(pairs: list) -> None:
    recipe, examples = Recipe(steps=6, batch=2, crop=32), [example(p) for p in pairs[:2]]
    whole = Fit(seeded_net(CHANNELS, (8, 8, 8), 0), examples, recipe, 0)
    losses = [whole.advance() for _ in range(6)]
    first = Fit(seeded_net(CHANNELS, (8, 8, 8), 0), examples, recipe, 0)
    assert [first.advance() for _ in range(3)] == losses[:3]
    second = Fit(RefinerNet(CHANNELS, (8, 8, 8)), examples, recipe, 9)
    second.load_state(first.state())
    assert [second.advance() for _ in range(3)] == losses[3:]


def test_renders_that_have_nothing_in_common_with_their_photos_teach_nothing(pairs: list) -> None:
    rng = np.random.default_rng(0)
    noise = [torch.from_numpy(rng.random((*p.target.shape,), np.float32)) for p in pairs]
    report = Silent()
    refiner = QUICK.start().fit(refining.with_targets(pairs, noise), seed=0, report=report)
    assert not refiner.accepted and len(report.warnings) == 1
    p = pairs[0]
    refined = refiner.refine(p.view, p.references)
    assert torch.equal(refined.rgb, p.view.rgb) and not refined.confidence.any()


def test_what_it_learned_elsewhere_is_not_used_where_it_does_not_help(pairs: list) -> None:
    """Pairs of another kind of mistake, a tint, beside a photo whose render is right."""
    tinted = [replace(p, view=replace(p.view, rgb=(p.target * torch.tensor([0.7, 1, 0.7])))) for p in pairs]
    few = replace(QUICK, recipe=replace(QUICK.recipe, steps=16))
    held = few.start().fit(tinted[:3], budget=1, seed=0).held_out
    clean = [replace(p, view=replace(p.view, rgb=p.target)) if p.photo == held else p for p in tinted[:3]]
    refiner = few.start().fit(clean, seed=0)
    assert refiner.held_out == held and not refiner.accepted


def test_of_three_photos_none_chooses_the_weights_that_it_judges(pairs: list) -> None:
    class Noted(Silent):
        figures: ClassVar[list[dict[str, Any]]] = []

        def progress(self, done: int, total: int, **figures: Any) -> None:
            self.figures.append(figures)

    QUICK.start().fit(pairs[:3], budget=8, seed=0, report=Noted())
    assert Noted.figures and not any("psnr" in f for f in Noted.figures)
    Noted.figures.clear()
    QUICK.start().fit(pairs[:4], budget=8, seed=0, report=Noted())
    assert Noted.figures and all("psnr" in f for f in Noted.figures)


def test_one_photo_is_not_enough(pairs: list) -> None:
    assert not QUICK.start().fit([pairs[0], pairs[0]], seed=0).accepted


def test_the_nearest_photos_come_first() -> None:
    photos = refining.photos()
    assert nearest_first(photos[2].world_from_cam, photos)[0] is photos[2]
    assert set(map(id, nearest_first(photos[0].world_from_cam, photos[::-1])[:2])) == {id(photos[0]), id(photos[1])}


def test_missing_photos_are_channels_of_zero(pairs: list) -> None:
    p = pairs[0]
    values = channels(p.view, p.references[:1])
    assert values.shape == (CHANNELS, *p.view.alpha.shape)
    assert not values[[i for i, n in enumerate(NAMES) if n.startswith("photo 2")]].any()


def test_weights_come_back_as_they_were_saved(tmp_path: Path) -> None:
    net = seeded_net(CHANNELS, (8, 12, 16), 4)
    save_weights(net, (8, 12, 16), tmp_path / "w.safetensors", seed=4, recipe={"steps": 1})
    found = load_weights(tmp_path / "w.safetensors")
    assert found is not None and found.widths == (8, 12, 16)
    assert found.record["licence"] == LICENCE and found.record["seed"] == 4
    assert all(torch.equal(t, net.state_dict()[n]) for n, t in found.tensors.items())
    assert load_weights(tmp_path / "none.safetensors") is None


def test_weights_that_are_not_those_of_the_record_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(seeded_net(CHANNELS, (8, 8, 8), 0), (8, 8, 8), path, seed=0)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(SplatError, match="is not the file of its record"):
        load_weights(path)
    save_weights(seeded_net(CHANNELS, (8, 8, 8), 0), (8, 8, 8), path, seed=0)
    record = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps(record | {"widths": [8, 8, 12]}))
    with pytest.raises(SplatError, match="another network"):
        load_weights(path)


def test_the_weights_of_the_package_are_those_of_their_record() -> None:
    if not FILE.exists():
        pytest.skip("the package has no weights of the refiner")
    found = load_weights()
    assert found is not None and found.record["licence"] == LICENCE and FILE.stat().st_size <= MAX_BYTES
    assert SceneRefiner().start().summary == "starts from the weights of the package"
