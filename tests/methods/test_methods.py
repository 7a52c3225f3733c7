"""Methods are objects in one list: what each changes about the settings of a run, and that explicit values win."""

from dataclasses import replace
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from splat.cli import parse
from splat.commands.reconstruct import Reconstruct
from splat.core.settings import setting_at
from splat.core.slots import DenseMatcher, Method
from splat.init import DenseSurfaces
from splat.methods import METHODS, Edgs, EdgsPublished, Points
from splat.methods.edgs import DEFAULTS as EDGS
from splat.methods.edgs_published import DEFAULTS as PUBLISHED
from splat.methods.presets import PRESETS
from splat.stages.priors import PriorSettings
from splat.train.settings import Training

BASE = Reconstruct(Path("photos"))


@pytest.mark.parametrize("name", METHODS)
def test_a_method_keeps_the_promises_of_its_protocol(name: str) -> None:
    method = METHODS[name]()
    assert isinstance(method, Method) and method.name == name and method.summary
    assert METHODS[name].__doc__
    for preset in PRESETS:
        for setting in method.defaults(preset):
            setting_at(BASE, setting)  # every default is of a setting that exists


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_means_the_same_on_the_command_line_and_in_python(preset: str) -> None:
    typed = parse(Reconstruct, ["photos", "--preset", preset], "splat").resolved(30)[0]
    written = Reconstruct(Path("photos"), preset=preset).resolved(30)[0]
    assert (typed.iterations, typed.max_resolution) == (PRESETS[preset].iterations, PRESETS[preset].max_resolution)
    assert replace(typed, explicit=()) == replace(written, explicit=())


def test_explicit_values_win_over_preset_and_method_alike() -> None:
    typed = parse(
        Reconstruct, ["p", "--preset=fast", "--max_resolution", "100", "--train.decay.factor", "1.0"], "splat"
    )
    settled, _ = typed.resolved(30)
    assert settled.max_resolution == 100 and settled.iterations == PRESETS["fast"].iterations
    assert settled.train.decay.factor == 1.0, "though it equals the default that the method would have changed"
    assert settled.train.resolution.full_at == EDGS["train.resolution.full_at"]
    written = Reconstruct(Path("p"), train=replace(Training(), decay=replace(Training().decay, factor=0.9)))
    assert written.resolved(30)[0].train.decay.factor == 0.9
    kept = Reconstruct(Path("p"), explicit=("train.decay.factor",))
    assert kept.resolved(30)[0].train.decay.factor == Training().decay.factor


def test_what_was_explicit_is_recorded() -> None:
    typed = parse(Reconstruct, ["p", "--train.views.no-exposure", "--seed", "0"], "splat").resolved(30)[0]
    assert {"train.views.exposure", "seed", "photos"} <= set(typed.explicit)
    assert "iterations" not in typed.explicit
    recorded = typed.as_json()
    assert recorded["explicit"] == list(typed.explicit) and recorded["method"] == "edgs"
    assert recorded["method_settings"]["init"]["class"] == "DenseSurfaces"


def test_a_method_may_bring_settings_of_its_own() -> None:
    mine = Edgs(init=DenseSurfaces(budget=1234))
    settled, why = Reconstruct(Path("p"), method=mine).resolved(30)
    assert settled.chosen is mine and why == "as asked"
    typed = parse(Reconstruct, ["p", "--method", "edgs", "--edgs.init.budget", "1234"], "splat")
    assert typed.resolved(30)[0].chosen == mine
    automatic = parse(Reconstruct, ["p", "--edgs.init.budget", "1234"], "splat")
    assert automatic.resolved(30)[0].chosen == mine, "auto takes the method with the settings that were given"


def test_points_change_nothing_about_the_settings() -> None:
    settled = Reconstruct(Path("p"), method=Points()).resolved(30)[0]
    assert settled.train == Training()


def test_the_published_edgs_is_trained_as_published() -> None:
    made = Reconstruct(Path("p"), method=EdgsPublished(), iterations=30_000).resolved(30)[0].train
    assert made.density == "none" and made.none.prune_opacity == 0.005
    assert round(made.none.prune_every * 30_000) == 100
    rates = made.rates
    for step in (0, 4_000, 8_000):  # flat at 0.2929 of the start's rate, then 3DGS's own line
        assert rates.at(step / 30_000, 1.0).means == pytest.approx(0.2929 * 1.6e-4, rel=1e-3)
    assert rates.at(15_000 / 30_000, 1.0).means == pytest.approx(1.6e-5, rel=1e-3)
    logit, step = 0.0, 0
    while 1 / (1 + 2.718281828**-logit) >= 0.005:  # what no photo supports
        logit += made.decay.amount(step, 30_000)
        step += 1
    assert abs(step - 5_270) <= 20
    assert made.decay.amount(14_999, 30_000) < 0 == made.decay.amount(15_009, 30_000)
    assert PUBLISHED["train.views.exposure"] is False is made.views.exposure


def test_every_matcher_can_be_asked_for() -> None:
    asked = get_args(get_type_hints(Reconstruct)["matcher"])
    assert asked == get_args(get_type_hints(PriorSettings)["matcher"])
    for matcher in asked:
        assert isinstance(PriorSettings(matcher).priors(320).matches, DenseMatcher)
