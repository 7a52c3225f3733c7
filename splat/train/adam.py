"""One Adam step on some rows: the compiled kernel where there is one, the same arithmetic in torch elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class AdamRows:
    """A parameter and its moments, each [capacity, ...], changed in place."""

    values: Tensor
    first: Tensor
    second: Tensor


def adam_rows(
    rows: AdamRows,
    ids: Tensor,
    gradient: Tensor,
    lr: float | tuple[float, float],
    betas: tuple[float, float],
    eps: float,
    updates: int,
) -> None:
    """Kingma & Ba 2015, algorithm 1, on rows `ids` [m] (unique) with `gradient` [m, ...]; the others stand still.

    A pair of learning rates: the first for `values[:, 0]`, the second for `values[:, 1:]` (harmonics). `updates` counts
    from 1 for the bias correction. Rows whose gradient is not finite are left as they are.
    """
    b1, b2 = betas
    gradient = gradient.detach()
    finite = gradient.isfinite()
    if not bool(finite.all()):
        good = finite.reshape(len(ids), -1).all(1)
        ids, gradient = ids[good], gradient[good]
    first = rows.first[ids].lerp_(gradient, 1 - b1)
    second = rows.second[ids].mul_(b2).addcmul_(gradient, gradient, value=1 - b2)
    step = (first / (1 - b1**updates)) / ((second / (1 - b2**updates)).sqrt() + eps)
    if isinstance(lr, tuple):
        step[:, :1] *= lr[0]
        step[:, 1:] *= lr[1]
    else:
        step *= lr
    rows.first.index_copy_(0, ids, first)
    rows.second.index_copy_(0, ids, second)
    rows.values.index_add_(0, ids, step, alpha=-1.0)
