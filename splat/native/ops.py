"""Kernels as functions of tensors, each with a fallback in plain torch for machines without a compiler.

Tests check the kernels against the fallbacks. Nothing here is differentiable: `splat.losses` and `splat.raster` define
the autograd functions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from splat.native import bindings, build, build_cuda


def compiled(*tensors: Tensor | None) -> bool:
    """Whether the compiled kernels can take these tensors: all are on one device (CPU or CUDA) whose kernels are built,
    and none is float64."""
    given = [t for t in tensors if t is not None]
    devices = {t.device.type for t in given}
    if devices <= {"cpu"}:
        ready = build.unavailable() is None
    else:
        ready = devices == {"cuda"} and build_cuda.unavailable() is None
    return ready and all(t.dtype != torch.float64 for t in given)


# ---------------------------------------------------------------------------------------------------------------- Adam


@dataclass(frozen=True, eq=False)
class AdamTensor:
    """One tensor of an Adam step: rows along the first axis, everything else is columns."""

    parameter: Tensor
    gradient: Tensor
    """One row per updated row. A row may have fewer columns than the parameter's, but all that are updated."""
    first_moment: Tensor
    second_moment: Tensor
    rate: float = 0.0
    """Learning rate; ignored where the step's constants are given."""
    columns: tuple[int, int | None] = (0, None)
    """Range of columns of the flattened rows that are updated. SH degree 0 and the higher degrees share a tensor and
    have different rates."""


def adam_constants(rates: Sequence[float], step: int, beta1: float = 0.9, beta2: float = 0.999) -> list[float]:
    """The numbers of an Adam step that change with the step: 1 / sqrt(1 - beta2^step), then each rate divided by
    1 - beta1^step."""
    if step < 1:
        raise ValueError(f"step {step}: Adam's steps count from 1.")
    correct1 = 1 / (1 - beta1**step)
    return [1 / math.sqrt(1 - beta2**step), *(rate * correct1 for rate in rates)]


def fused_adam(
    tensors: Sequence[AdamTensor],
    step: int,
    ids: Int[Tensor, "m"] | None = None,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-15,
    visibility: Int[Tensor, "m"] | None = None,
    constants: Float[Tensor, "one_plus_tensors"] | None = None,
) -> None:
    """One Adam step (Kingma & Ba 2015, algorithm 1), in place, of tensors that share their rows.

    `ids`: the rows to update, each at most once (None: all). Rows with `visibility` (int32) 0 are skipped. Skipped rows
    keep their moments. The bias correction uses the global `step`, counted from 1, as in the sparse Adam of 3DGS. A
    gradient that is not finite counts as zero. `constants`: `adam_constants` of the step, on the tensors' device; they
    replace the rates and `step`.
    """
    everything = [x for t in tensors for x in (t.parameter, t.gradient, t.first_moment, t.second_moment)]
    for t in tensors:
        if t.parameter.shape != t.first_moment.shape or t.parameter.shape != t.second_moment.shape:
            raise ValueError(f"moments must have the parameter's shape {tuple(t.parameter.shape)}.")
        rows = len(t.parameter) if ids is None else len(ids)
        end = slice(*t.columns).indices(math.prod(t.parameter.shape[1:]))[1]
        if len(t.gradient) != rows or math.prod(t.gradient.shape[1:]) < end:
            raise ValueError(f"the gradient is {tuple(t.gradient.shape)}; {rows} rows of the parameter's are needed.")
    if not tensors or not len(tensors[0].gradient):
        return
    if compiled(*everything) and all(x.is_contiguous() for x in everything):
        if constants is None:
            now = adam_constants([t.rate for t in tensors], step, beta1, beta2)
            constants = torch.tensor(now, dtype=torch.float32, device=tensors[0].parameter.device)
        _native_adam(tensors, constants, ids, visibility, beta1, beta2, eps)
    else:
        torch_adam(tensors, step, ids, beta1, beta2, eps, visibility, constants)


def _native_adam(
    tensors: Sequence[AdamTensor],
    constants: Tensor,
    ids: Tensor | None,
    visibility: Tensor | None,
    beta1: float,
    beta2: float,
    eps: float,
) -> None:
    table: list[int] = []
    for t in tensors:
        row = math.prod(t.parameter.shape[1:])
        begin, end, _ = slice(*t.columns).indices(row)
        four = (t.parameter, t.gradient, t.first_moment, t.second_moment)
        table.extend([*(x.data_ptr() + 4 * begin for x in four), end - begin, row, math.prod(t.gradient.shape[1:])])
    rows, numbers = len(tensors[0].gradient), bindings.int64s(table)
    bindings.call("splat_adam", len(tensors), rows, ids, visibility, numbers, constants, beta1, beta2, eps)


def torch_adam(
    tensors: Sequence[AdamTensor],
    step: int,
    ids: Tensor | None,
    beta1: float,
    beta2: float,
    eps: float,
    visibility: Tensor | None = None,
    constants: Tensor | None = None,
) -> None:
    """`fused_adam` in plain torch."""
    correct2, *rates = adam_constants([t.rate for t in tensors], step, beta1, beta2) if constants is None else constants
    among: Tensor | slice = slice(None)
    if visibility is not None:
        among = visibility.nonzero()[:, 0]
        ids = among if ids is None else ids[among]
    for t, rate in zip(tensors, rates, strict=True):
        p, m, v = (
            x.detach().reshape(len(x), -1)[:, slice(*t.columns)] for x in (t.parameter, t.first_moment, t.second_moment)
        )
        g = t.gradient.detach().reshape(len(t.gradient), -1)[among, slice(*t.columns)].nan_to_num(0, 0, 0)
        rows: Tensor | slice = slice(None) if ids is None else ids
        m[rows] = mean = beta1 * m[rows] + (1 - beta1) * g
        v[rows] = square = beta2 * v[rows] + (1 - beta2) * g * g
        p[rows] -= rate * mean / (square.sqrt() * correct2 + eps)


def adam_harmonics(
    sh: Float[Tensor, "n k 3"],
    first_moment: Float[Tensor, "n k 3"],
    second_moment: Float[Tensor, "n k 3"],
    means: Float[Tensor, "n 3"],
    camera_centre: Float[Tensor, "3"],
    constant_gradient: Float[Tensor, "m 1 3"],
    rates: tuple[float, float] = (0.0, 0.0),
    step: int = 0,
    ids: Int[Tensor, "m"] | None = None,
    constant_too: bool = True,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-15,
    visibility: Int[Tensor, "m"] | None = None,
    constants: Float[Tensor, "3"] | None = None,
) -> None:
    """`fused_adam` for spherical harmonics, in place, from the gradient of SH degree 0 alone.

    All rows were rendered from one camera centre. So the gradient of coefficient k is that of degree 0 times
    basis_k / basis_0 in the view direction, and the kernel computes it instead of reading it from memory. `rates`: of
    degree 0 and of the higher degrees, used with `step`; or `constants`: `adam_constants` of these two rates.
    `constant_too`: also update degree 0. Contiguous float32 tensors only. `splat.train.models.harmonics` is the
    fallback, which expands the gradient.
    """
    m = len(sh) if ids is None else len(ids)
    if constant_gradient.shape != (m, 1, 3):
        raise ValueError(f"the constant's gradient is {tuple(constant_gradient.shape)}; {m} rows are needed.")
    if constants is None:
        now = adam_constants(rates, step, beta1, beta2)
        constants = torch.tensor(now, dtype=torch.float32, device=sh.device)
    begin = 0 if constant_too else 3
    bindings.call(
        "splat_adam_harmonics",
        *(m, ids, visibility, sh.shape[1], means, camera_centre.float().contiguous(), constant_gradient, begin),
        *(sh, first_moment, second_moment, constants, beta1, beta2, eps),
    )


# ------------------------------------------------------------------------------------------------------ rows by index


def gather(tensors: Sequence[Tensor], ids: Int[Tensor, "m"]) -> list[Tensor]:
    """Rows `ids` of each of at most 16 tensors."""
    if not compiled(*tensors) or not all(t.is_contiguous() and t.dtype == torch.float32 for t in tensors):
        return [t.index_select(0, ids) for t in tensors]
    gathered = [t.new_empty(len(ids), *t.shape[1:]) for t in tensors]
    table = [x for t, g in zip(tensors, gathered) for x in (t.data_ptr(), g.data_ptr(), math.prod(t.shape[1:]))]
    bindings.call("splat_gather", len(tensors), len(ids), ids, bindings.int64s(table))
    return gathered


def add_density_statistics(
    ids: Int[Tensor, "m"] | None,
    gradient: Float[Tensor, "m 2"],
    radii: Int[Tensor, "m"],
    size: tuple[int, int],
    grad2d: Float[Tensor, "n"],
    draw_counts: Float[Tensor, "n"],
    radius: Float[Tensor, "n"],
) -> None:
    """Update the statistics of density control, in place, for rows `ids` (unique; None: the first m) of an image of
    `size` (width, height).

    `grad2d` grows by the norm of `gradient` (dL/d pixel position) times half the image's width and height; by 0 where
    that is not finite. `draw_counts` grows by 1 where the radius is not 0. `radius` is the largest radius so far,
    divided by the long side of the image.
    """
    width, height = size
    gradient = gradient.detach().contiguous()
    if compiled(gradient, radii, grad2d, draw_counts, radius) and radii.dtype == torch.int32:
        bindings.call(
            "splat_density_statistics",
            len(radii),
            ids,
            gradient,
            radii.contiguous(),
            width,
            height,
            grad2d,
            draw_counts,
            radius,
        )
        return
    ids = torch.arange(len(radii), device=radii.device) if ids is None else ids
    half = gradient.new_tensor([width / 2, height / 2])
    grad2d.index_add_(0, ids, (gradient * half).norm(dim=1).nan_to_num(0, 0, 0))
    draw_counts.index_add_(0, ids, (radii > 0).to(draw_counts))
    radius.index_copy_(0, ids, torch.maximum(radius[ids], radii.to(radius) / max(width, height)))


# -------------------------------------------------------------------------------------------------- nearest neighbours


def nearest_neighbours(positions: Float[Tensor, "n 3"], k: int) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
    """Distances (ascending) and int32 ids of the k nearest other points, exactly; coincident points are at distance 0.

    Infinity and -1 where there are fewer than k others. A point that is not finite gets NaN and is no neighbour of
    others.
    """
    positions = positions.detach()
    if not compiled(positions):
        return torch_nearest_neighbours(positions, k)
    n = len(positions)
    positions = positions.float().contiguous()
    distances = positions.new_empty(n, k)
    ids = torch.empty(n, k, dtype=torch.int32, device=positions.device)
    workspace = bindings.workspace("splat_knn_workspace", n, device=positions.device)
    bindings.call("splat_knn", n, positions, k, distances, ids, workspace, len(workspace))
    return distances, ids


def torch_nearest_neighbours(
    positions: Float[Tensor, "n 3"], k: int
) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
    """`nearest_neighbours` in plain torch, by all pairwise distances, a block of rows at a time."""
    n, dtype = len(positions), positions.dtype
    distances = positions.new_full((n, k), torch.inf)
    ids = torch.full((n, k), -1, dtype=torch.int32, device=positions.device)
    usable = (positions.abs() < 1e18).all(1)
    found = min(k, max(0, int(usable.sum()) - 1))
    everyone = torch.where(usable[:, None], positions, 0).double()
    for rows in torch.arange(n, device=positions.device).split(max(1, 20_000_000 // max(1, n))):
        d = torch.cdist(everyone[rows], everyone, compute_mode="donot_use_mm_for_euclid_dist")
        d[:, ~usable] = torch.inf
        d[torch.arange(len(rows)), rows] = torch.inf
        d, nearest = d.sort(dim=1, stable=True)
        distances[rows, :found] = d[:, :found].to(dtype)
        ids[rows, :found] = nearest[:, :found].int()
    distances[~usable] = torch.nan
    ids[~usable] = -1
    return distances, ids


def mean_knn_distance(positions: Float[Tensor, "n 3"], k: int = 3) -> Float[Tensor, "n"]:
    """Mean distance to the k nearest other points, or to as many as there are; 0 for a lone point, NaN for a point that
    is not finite."""
    distances, _ = nearest_neighbours(positions, k)
    exists = ~distances.isinf()
    return torch.where(exists, distances, 0).sum(1) / exists.sum(1).clamp_min(1)
