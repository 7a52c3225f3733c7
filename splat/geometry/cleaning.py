"""Which floaters can go without a loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

MAX_LOSS = 0.05
"""dB that the mean PSNR may fall by."""


@dataclass(frozen=True, eq=False)
class Cleaned:
    """What is left, and what it cost."""

    kept: Bool[Tensor, "n"]
    candidates: int
    """Gaussians that were thought of."""
    psnr_before: float
    """dB, mean over the photos that judge."""
    psnr_after: float

    @property
    def removed(self) -> int:
        return int((~self.kept).sum())


def clean(
    count: int,
    groups: Sequence[Int[Tensor, "_"]],
    psnr: Callable[[Bool[Tensor, "n"]], float],
    max_loss: float = MAX_LOSS,
) -> Cleaned:
    """Remove as many `groups` of rows, of `count` Gaussians, as `psnr` (of those that a mask keeps, dB) allows: it ends
    at most `max_loss` below that of all.

    All are tried first. If that loses anything, each is tried alone, then one after another goes, the one that costs
    least first, if it costs at most its share of `max_loss`: one that costs more is something that photos show, such
    as a flower before a wall whose depth was matched instead. Of those that may not go, both halves are tried.
    """
    kept = torch.ones(count, dtype=torch.bool)
    candidates = sum(len(g) for g in groups)
    before = psnr(kept)
    if candidates == 0:
        return Cleaned(kept, 0, before, before)

    def without(rows: Int[Tensor, "k"]) -> tuple[Bool[Tensor, "n"], float]:
        trial = kept.clone()
        trial[rows] = False
        return trial, psnr(trial)

    everything, after = without(torch.cat(list(groups)))
    if after >= before:
        return Cleaned(everything, candidates, before, after)
    after, share = before, max_loss / len(groups)
    cost = [before - without(rows)[1] for rows in groups]
    halves: list[Int[Tensor, "_"]] = []
    for group in sorted(range(len(groups)), key=lambda i: cost[i]):
        trial, value = without(groups[group])
        if value >= max(before - max_loss, after - share):
            kept, after = trial, value
        else:
            halves += groups[group].chunk(2)
    for rows in halves:
        trial, value = without(rows)
        if value >= max(before - max_loss, after - share):
            kept, after = trial, value
    return Cleaned(kept, candidates, before, after)
