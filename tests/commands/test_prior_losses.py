"""Losses that teach what a prior of depth knows are off where there is none."""

from __future__ import annotations

from noting import Noting

from splat.cli import parse
from splat.commands.reconstruct import Reconstruct, without_prior_losses


def settled(*flags: str) -> Reconstruct:
    found: Reconstruct = parse(Reconstruct, ["p", *flags], "splat").resolved(8)[0]
    return found


def test_they_are_off_and_all_others_stay() -> None:
    note = Noting()
    found = without_prior_losses(settled("--method", "lm"), note)
    assert (found.losses.pearson, found.losses.pearson_patches) == (0, 0) and found.losses.normal_l1 == 0.01
    assert "--losses.pearson and --losses.pearson-patches turn them on" in note.lines[-1]


def test_weights_that_were_given_stay() -> None:
    found = without_prior_losses(settled("--method", "lm", "--losses.pearson", "0.1"), Noting())
    assert (found.losses.pearson, found.losses.pearson_patches) == (0.1, 0)
    other = settled("--method", "edgs", "--losses.pearson", "0.2")
    assert without_prior_losses(other, Noting()) is other
