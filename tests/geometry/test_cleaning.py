"""What floats goes, as long as the pictures stay as good."""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from splat.geometry.cleaning import MAX_LOSS, clean

GROUPS = list(torch.arange(40).chunk(8))


def judge(cost: Tensor, calls: list[int] | None = None):
    """PSNR that each removed row lowers by its cost."""

    def psnr(kept: Bool[Tensor, "n"]) -> float:
        if calls is not None:
            calls.append(1)
        return 30.0 - float(cost[~kept].sum())

    return psnr


def test_all_go_where_that_costs_nothing() -> None:
    calls: list[int] = []
    found = clean(100, GROUPS, judge(torch.zeros(100), calls))
    assert found.removed == found.candidates == 40 and found.psnr_after == 30 and len(calls) == 2
    assert not bool(found.kept[:40].any()) and bool(found.kept[40:].all()), "only candidates"


def test_what_costs_stays_and_the_rest_goes() -> None:
    cost = torch.zeros(100)
    cost[[7, 22]] = 1.0
    found = clean(100, GROUPS, judge(cost))
    assert bool(found.kept[[7, 22]].all()) and found.removed >= 34, "at most half a group stays with each"
    assert found.psnr_after >= 30 - MAX_LOSS


def test_what_helps_does_not_pay_for_what_photos_show() -> None:
    cost = torch.zeros(100)
    cost[:5], cost[5:10], cost[10:40] = 0.009, -0.001, 0.001
    found = clean(100, GROUPS, judge(cost))
    assert bool(found.kept[:5].all()) and not bool(found.kept[5:40].any()), "0.045 dB of 0.05 for an eighth of them"
    assert found.psnr_after >= 30 - MAX_LOSS


def test_a_loss_of_nothing_is_kept_to() -> None:
    cost = torch.full((100,), 0.001)
    found = clean(100, GROUPS, judge(cost), max_loss=0.0)
    assert found.removed == 0 and found.psnr_after == found.psnr_before
    assert clean(100, [], judge(cost)).removed == 0
