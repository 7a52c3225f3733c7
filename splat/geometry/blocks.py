"""A capture in blocks: cells of the ground plane, who owns what lies in them, and which views show them.

The ideas are VastGaussian's (Lin et al. 2024, section 4.1): cells of equal content by recursive splits, boundaries that
are widened for training, views chosen by what they see of a block. A cell's own part, its core, is half-open, and the
outermost cells reach to infinity: every point of space belongs to exactly one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

OVERLAP = 0.2
"""How far a block trains beyond its core, as a fraction of the core's size (VastGaussian, section 5.1)."""
MIN_SHARE = 0.25
"""Of what a view sees, inside a block, for it to be trained on there (VastGaussian, section 5.1)."""
MIN_COVERED = 0.98
"""Of the points of a core that enough of its block's views must see."""
MIN_OBSERVERS = 3
"""So many of a point's views, where there are as many, take part in the block that owns it."""


_BALANCING = 10
"""Corrections of the shares of blocks, at most."""


@dataclass(frozen=True, eq=False)
class Partition:
    """b cells of the ground plane, in coordinates of its own."""

    axes: Float[Tensor, "2 3"]
    """Two unit vectors that span the ground plane: a position's coordinates are its products with them."""
    low: Float[Tensor, "b 2"]
    """Of the cores, included; -inf at the outside."""
    high: Float[Tensor, "b 2"]
    """Of the cores, not included; inf at the outside."""
    margin: Float[Tensor, "b 2"]
    """What blocks train on beyond their cores."""

    def __len__(self) -> int:
        return len(self.low)

    def coordinates(self, positions: Float[Tensor, "n 3"]) -> Float[Tensor, "n 2"]:
        return positions.double() @ self.axes.T

    def owner(self, positions: Float[Tensor, "n 3"]) -> Int[Tensor, "n"]:
        """The one block whose core holds each position; -1 for those that are not finite."""
        at = self.coordinates(positions)
        found = torch.full((len(at),), -1, dtype=torch.int64)
        for k in range(len(self)):
            found[((at >= self.low[k]) & (at < self.high[k])).all(1)] = k
        return found

    def inside(self, block: int, positions: Float[Tensor, "n 3"]) -> Bool[Tensor, "n"]:
        """Which positions lie in the core of a block or within its margin."""
        at, margin = self.coordinates(positions), self.margin[block]
        return ((at >= self.low[block] - margin) & (at < self.high[block] + margin)).all(1)


def ground_axes(positions: Float[Tensor, "n 3"], up: Float[Tensor, "3"]) -> Float[Tensor, "2 3"]:
    """Unit vectors of the ground plane along which positions spread most and least. They turn with the scene. Of
    positions, those count that are not further out than 95 % of them."""
    up = torch.nn.functional.normalize(up.double(), dim=0)
    axis = torch.eye(3, dtype=torch.float64)[int(up.abs().argmin())]
    first = torch.nn.functional.normalize(torch.linalg.cross(up, axis), dim=0)
    plane = torch.stack([first, torch.linalg.cross(up, first)])
    at = positions.double() @ plane.T
    at = at[torch.isfinite(at).all(1)]
    middle = at.mean(0)
    for _ in range(3):
        distance = (at - middle).norm(dim=1)
        near = at[distance <= _quantile(distance, 0.95)]
        middle = near.mean(0)
    at = near - middle
    return torch.linalg.eigh(at.T @ at)[1].flip(1).T @ plane


def partition(
    positions: Float[Tensor, "n 3"],
    weights: Float[Tensor, "n"],
    up: Float[Tensor, "3"],
    count: int,
    overlap: float = OVERLAP,
    shares: Sequence[float] | None = None,
) -> Partition:
    """`count` cells that hold equal shares, or these, of the weights of n positions. A cell is split across its longer
    side, as often as it takes; the sizes of cells are those of what lies in them, without the outermost percent.

    Raises ValueError where so few positions differ that there is nothing to split.
    """
    axes = ground_axes(positions, up)
    at = positions.double() @ axes.T
    lows, highs, margins = list[Tensor](), list[Tensor](), list[Tensor]()

    def split(rows: Tensor, low: Tensor, high: Tensor, parts: Sequence[float]) -> None:
        own = at[rows]
        if len(parts) == 1:
            size = _quantiles(own, 0.99) - _quantiles(own, 0.01)
            lows.append(low)
            highs.append(high)
            margins.append(overlap * size)
            return
        size = _quantiles(own, 0.95) - _quantiles(own, 0.05)
        left = len(parts) // 2
        for axis in size.argsort(descending=True).tolist():
            edge = _weighted_quantile(own[:, axis], weights[rows].double(), sum(parts[:left]) / sum(parts))
            if edge is not None:
                break
        else:
            raise ValueError("too few positions differ")
        below = own[:, axis] < edge
        middle_high, middle_low = high.clone(), low.clone()
        middle_high[axis] = middle_low[axis] = edge
        split(rows[below], low, middle_high, parts[:left])
        split(rows[~below], middle_low, high, parts[left:])

    infinite = torch.full((2,), torch.inf, dtype=torch.float64)
    split(torch.isfinite(at).all(1).nonzero()[:, 0], -infinite, infinite, shares or [1 / count] * count)
    return Partition(axes, torch.stack(lows), torch.stack(highs), torch.stack(margins))


def balanced_partition(
    positions: Float[Tensor, "n 3"],
    weights: Float[Tensor, "n"],
    up: Float[Tensor, "3"],
    count: int,
    overlap: float = OVERLAP,
) -> Partition:
    """`partition` by shares such that what blocks train on is equal, not what they own: a cell between others has
    margins on more sides than one at the end, and the largest block decides how much memory a worker needs. Shares are
    corrected by what blocks hold with their margins, a few times; the division whose largest block is smallest counts.

    Raises ValueError as `partition`.
    """
    shares, best, least = [1 / count] * count, None, float("inf")
    weights = weights.double()
    for _ in range(max(1, min(_BALANCING, 2000 // count))):
        cells = partition(positions, weights, up, count, overlap, shares)
        held = [float(weights[cells.inside(k, positions)].sum()) for k in range(count)]
        if max(held) < least:
            best, least = cells, max(held)
        mean = sum(held) / count
        shares = [s * (mean / max(h, 1e-3 * mean)) ** 0.7 for s, h in zip(shares, held)]
    assert best is not None
    return best


def _quantile(values: Float[Tensor, "n"], share: float) -> Float[Tensor, ""]:
    """As torch.quantile, which refuses more than 2^24 values, but of the nearest row."""
    return values.sort().values[round(share * (len(values) - 1))]


def _quantiles(rows: Float[Tensor, "n 2"], share: float) -> Float[Tensor, "2"]:
    return torch.stack([_quantile(rows[:, 0], share), _quantile(rows[:, 1], share)])


def _weighted_quantile(values: Float[Tensor, "n"], weights: Float[Tensor, "n"], share: float) -> float | None:
    """A number between two different values, with as near as can be `share` of the weight below it; None where all are
    the same."""
    values, order = values.sort()
    below = weights[order].cumsum(0)
    between = (values[1:] > values[:-1]).nonzero()[:, 0]
    if len(between) == 0:
        return None
    i = int(between[(below[between] - share * below[-1]).abs().argmin()])
    middle = float((values[i] + values[i + 1]) / 2)
    return middle if middle > float(values[i]) else float(values[i + 1])


@dataclass(frozen=True, eq=False)
class Observed:
    """m observations of n points in v views."""

    positions: Float[Tensor, "n 3"]
    view_ids: Int[Tensor, "m"]
    point_ids: Int[Tensor, "m"]
    centres: Float[Tensor, "v 3"]
    """Of the cameras."""


def views_of_blocks(
    cells: Partition, seen: Observed, min_share: float = MIN_SHARE, min_covered: float = MIN_COVERED
) -> Bool[Tensor, "b v"]:
    """Which views each block is trained on: those that see at least `min_share` of their points in it or within its
    margin; the one that holds most of what a view sees, whatever that is; and so many more that MIN_OBSERVERS views (or
    all) of `min_covered` of the points of its core are among them. A view that sees no point goes where its camera
    stands."""
    views, points, total = seen.view_ids.long(), seen.point_ids.long(), len(seen.centres)
    everything = torch.bincount(views, minlength=total).double()
    owner = cells.owner(seen.positions)
    chosen = torch.zeros(len(cells), total, dtype=torch.bool)
    core = torch.zeros(len(cells), total, dtype=torch.float64)
    for k in range(len(cells)):
        inside = cells.inside(k, seen.positions)
        chosen[k] = torch.bincount(views[inside[points]], minlength=total) >= min_share * everything.clamp_min(1)
        core[k] = torch.bincount(views[owner[points] == k], minlength=total).double()
    home = torch.where(everything > 0, core.argmax(0), cells.owner(seen.centres).clamp_min(0))
    chosen[home, torch.arange(total)] = True
    for k in range(len(cells)):
        mine = owner[points] == k
        chosen[k] = _covering(chosen[k], views[mine], points[mine], min_covered)
    return chosen


def _covering(
    chosen: Bool[Tensor, "v"], views: Int[Tensor, "m"], points: Int[Tensor, "m"], min_covered: float
) -> Bool[Tensor, "v"]:
    """`chosen` and further views, each time the one that sees most of the points that too few of them see."""
    chosen = chosen.clone()
    rows, points = points.unique(return_inverse=True)
    missing = torch.bincount(points, minlength=len(rows)).clamp_max(MIN_OBSERVERS)
    missing -= torch.bincount(points[chosen[views]], minlength=len(rows))
    allowed = (1 - min_covered) * len(rows)
    while int((missing > 0).sum()) > allowed:
        open_ = (missing[points] > 0) & ~chosen[views]
        gain = torch.bincount(views[open_], minlength=len(chosen))
        best = int(gain.argmax())
        if int(gain[best]) == 0:
            break
        chosen[best] = True
        missing[points[views == best]] -= 1
    return chosen


def points_of_block(cells: Partition, block: int, seen: Observed, chosen: Bool[Tensor, "v"]) -> Bool[Tensor, "n"]:
    """The points a block starts from: those inside, its margin included, and all that its views see beside them: what
    lies behind a block must be drawn too, or the photos would be explained by something nearer."""
    found = cells.inside(block, seen.positions)
    found[seen.point_ids.long()[chosen[seen.view_ids.long()]]] = True
    return found


def common_gains(gains: Sequence[dict[str, Float[Tensor, "3"]]]) -> Float[Tensor, "b 3"]:
    """By what the colours of each of b blocks are to be multiplied, so that all are as bright.

    `gains`: per block, by how much each photo is brighter than the block, by name. A photo of two blocks has one
    brightness: log gain(block, photo) = log f(photo) + log g(block), solved by least squares, with the mean of log f
    over photos at 0. Blocks that share no photos with others, directly or over others, stay as they are.
    """
    names = {n: i for i, n in enumerate(sorted({n for g in gains for n in g}))}
    blocks, photos = len(gains), len(names)
    rows = [(b, names[n], v.double().clamp_min(1e-3).log()) for b, g in enumerate(gains) for n, v in g.items()]
    if not rows:
        return torch.ones(blocks, 3, dtype=torch.float64)
    b, f = torch.tensor([r[0] for r in rows]), torch.tensor([r[1] for r in rows])
    values = torch.stack([r[2] for r in rows])
    # without the photos, each of which is the mean of what its blocks leave: a system of blocks alone
    seen = torch.bincount(f, minlength=photos).double()
    member = torch.zeros(blocks, photos, dtype=torch.float64)
    member[b, f] = 1
    share = member / seen
    system = torch.diag(member.sum(1)) - share @ member.T
    mean = torch.zeros(photos, 3, dtype=torch.float64).index_add_(0, f, values) / seen[:, None]
    right = torch.zeros(blocks, 3, dtype=torch.float64).index_add_(0, b, values - mean[f])
    g = torch.linalg.lstsq(system, right, driver="gelsd").solution
    left = torch.zeros(photos, 3, dtype=torch.float64).index_add_(0, f, values - g[b]) / seen[:, None]
    return (g + left.mean(0)).exp()
