"""What a method changes about training, and that flags win over it."""

from dataclasses import replace
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from splat.commands.reconstruct import Reconstruct
from splat.core.schedules import LearningRates
from splat.methods.recipes import EDGS, PUBLISHED_EDGS, replaced, with_recipe
from splat.priors import MATCHERS


def test_the_published_edgs_is_trained_as_published() -> None:
    base = Reconstruct(Path("photos"))
    made = with_recipe(replace(base, iterations=30_000), "edgs_published").train
    assert made.density == "none" and made.none.prune_opacity == 0.005
    assert round(made.none.prune_every * 30_000) == 100
    rates = made.rates
    for step in (0, 4_000, 8_000):  # flat at 0.2929 of the start's rate, then 3DGS's own line
        assert rates.means_at(step / 30_000, 1.0) == pytest.approx(0.2929 * 1.6e-4, rel=1e-3)
    assert rates.means_at(15_000 / 30_000, 1.0) == pytest.approx(1.6e-5, rel=1e-3)
    logit, step = 0.0, 0
    while 1 / (1 + 2.718281828**-logit) >= 0.005:  # what no photo supports
        logit += made.decay.amount(step, 30_000)
        step += 1
    assert abs(step - 5_270) <= 20
    assert made.decay.amount(14_999, 30_000) < 0 == made.decay.amount(15_009, 30_000)


def test_flags_that_were_given_win_over_the_recipe() -> None:
    base = Reconstruct(Path("photos"))
    config = replace(base, explicit_flags=("train.density", "seed"))
    made = with_recipe(config, "edgs_published").train
    assert made.density == base.train.density and made.decay.factor == PUBLISHED_EDGS["train.decay.factor"]


def test_what_was_set_in_python_wins_over_the_recipe() -> None:
    base = Reconstruct(Path("photos"))
    own = replace(base, train=replace(base.train, decay=replace(base.train.decay, factor=0.9)))
    assert with_recipe(own, "edgs").train.decay.factor == 0.9


def test_methods_without_a_recipe_are_left_alone() -> None:
    base = Reconstruct(Path("photos"))
    assert with_recipe(base, "points") == base != with_recipe(base, "edgs")


def test_a_recipe_can_only_name_fields_that_exist() -> None:
    base = Reconstruct(Path("photos"))
    for flag, value in [*EDGS.items(), *PUBLISHED_EDGS.items()]:
        found = replaced(base, flag, value)
        for part in flag.split("."):
            found = getattr(found, part)
        assert found == value
    with pytest.raises(AttributeError, match="no field steps"):
        replaced(base, "train.steps", 3)


def test_every_matcher_can_be_asked_for() -> None:
    hints = get_type_hints(Reconstruct)
    assert set(get_args(hints["matcher"])) == set(MATCHERS)


def test_held_rates_are_those_of_the_line_later_on() -> None:
    plain, held = LearningRates(), LearningRates(means_hold=0.4)
    assert held.means_at(0.0, 2.0) == held.means_at(0.4, 2.0) == plain.means_at(0.4, 2.0)
    assert held.means_at(0.7, 2.0) == plain.means_at(0.7, 2.0)
