"""Quantization shared by the compressed formats, on numpy arrays with a row per Gaussian."""

from __future__ import annotations

import numpy as np
import torch

from splat.core.gaussians import SH_C0, Gaussians


def arrays(gaussians: Gaussians) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """means, unit quats_wxyz, log_scales, opacities (0..1) and sh of degree <= 3, all float32."""
    g = gaussians.detach().to(torch.device("cpu"))
    g = g.with_sh_degree(min(g.sh_degree, 3))
    quats = torch.nn.functional.normalize(g.quats_wxyz.float(), dim=1)
    opacities = g.logit_opacities.double().sigmoid().float()
    sh = g.sh.float().clamp(-1e30, 1e30)  # colours are multiples of it, in float32
    fields = (g.means.float(), quats, g.log_scales.float(), opacities, sh)
    return tuple(f.numpy() for f in fields)  # type: ignore[return-value]


def bundle(
    means: np.ndarray, quats_wxyz: np.ndarray, log_scales: np.ndarray, opacities: np.ndarray, sh: np.ndarray
) -> Gaussians:
    """The inverse of `arrays`. Opacities of 0 and 1 become infinite logits, which `repaired` limits."""
    with np.errstate(divide="ignore"):
        logits = np.log(opacities.astype(np.float64)) - np.log1p(-opacities.astype(np.float64))
    fields = (means, quats_wxyz, log_scales, logits, sh)
    with np.errstate(over="ignore"):  # beyond float32: infinite, which `repaired` removes
        return Gaussians(*(torch.from_numpy(np.require(f, np.float32, ["C", "W"])) for f in fields))


def decoded_bytes(n: int, coefficients: int) -> int:
    """Of n Gaussians in memory, with `coefficients` of SH per channel, the constant included."""
    return 4 * n * (11 + 3 * coefficients)


def colour_from_dc(dc: np.ndarray) -> np.ndarray:
    return 0.5 + SH_C0 * dc


def dc_from_colour(colour: np.ndarray) -> np.ndarray:
    return (colour - 0.5) / SH_C0


def to_bytes(values: np.ndarray) -> np.ndarray:
    """uint8, clipped and rounded."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def smallest_three(quats: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Smallest-three encoding of unit quaternions [n 4]: the index of the largest component [n], and the other three in
    order [n 3], in +-sqrt(1/2), with the sign for which the largest is positive."""
    largest = np.abs(quats).argmax(1)
    rows = np.arange(len(quats))
    q = quats * np.where(quats[rows, largest] < 0, -1, 1)[:, None]
    others = q[np.arange(4)[None] != largest[:, None]].reshape(-1, 3)
    return largest, others


def from_smallest_three(largest: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The inverse of `smallest_three`: unit quaternions [n 4], float64."""
    quats = np.empty((len(others), 4), np.float64)
    quats[np.arange(4)[None] != largest[:, None]] = others.reshape(-1)
    quats[np.arange(len(others)), largest] = np.sqrt(np.maximum(0, 1 - np.square(others.astype(np.float64)).sum(1)))
    return quats


def codebook(values: np.ndarray, size: int = 256, rounds: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Scalar quantization with least squared error by Lloyd's algorithm: `size` ascending entries, and for every value
    the index (uint8) of its entry. Initialized half with quantiles and half with equal steps, to cover the tails."""
    flat = np.sort(values.reshape(-1).astype(np.float64))
    if len(flat) == 0:
        return np.zeros(size), np.zeros(values.shape, np.uint8)
    if len(flat) > 200_000:
        flat = flat[np.linspace(0, len(flat) - 1, 200_000).round().astype(np.int64)]
    quantiles = flat[np.linspace(0, len(flat) - 1, size // 2).round().astype(np.int64)]
    book = np.sort(np.concatenate([quantiles, np.linspace(flat[0], flat[-1], size - size // 2)]))
    sums = np.concatenate([[0.0], flat.cumsum()])
    for _ in range(rounds):
        edges = np.searchsorted(flat, (book[1:] + book[:-1]) / 2)
        start, end = np.concatenate([[0], edges]), np.concatenate([edges, [len(flat)]])
        full = end > start
        book[full] = (sums[end[full]] - sums[start[full]]) / (end - start)[full]
        book.sort()
    book = book.astype(np.float32).astype(np.float64)
    ids = np.searchsorted((book[1:] + book[:-1]) / 2, values.astype(np.float64))
    return book, ids.astype(np.uint8)


def palette(vectors: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Vector quantization of `vectors` [n d]: at most `size` entries [m d], and the index of each vector's entry [n].

    Exact where n <= size. Otherwise the entries are the means of cells that are split at the mean of the axis of
    largest variance, those with the largest squared error first (as in Wu's colour quantization).
    """
    n = len(vectors)
    if n <= size:
        return vectors.copy(), np.arange(n)
    order = np.arange(n)
    cells = [(0, n)]
    errors = [_squared_error(vectors)]
    while len(cells) < size:
        # split half of the cells, the worst, per pass: close to the greedy result in log(size) passes
        quota = min(size - len(cells), max(1, len(cells) // 2))
        worst = [i for i in np.argsort(-np.array(errors), kind="stable")[:quota].tolist() if errors[i] > 0]
        if not worst:
            break
        for i in worst:
            a, b = cells[i]
            cell = vectors[order[a:b]]
            axis = int(cell.var(0).argmax())
            upper = cell[:, axis] > cell[:, axis].mean(dtype=np.float64)
            if upper.all() or not upper.any():  # equal up to rounding
                errors[i] = 0.0
                continue
            order[a:b] = np.concatenate([order[a:b][~upper], order[a:b][upper]])
            middle = b - int(upper.sum())
            cells[i] = (a, middle)
            cells.append((middle, b))
            errors[i] = _squared_error(vectors[order[a:middle]])
            errors.append(_squared_error(vectors[order[middle:b]]))
    ids = np.empty(n, np.int64)
    book = np.empty((len(cells), vectors.shape[1]), np.float32)
    for i, (a, b) in enumerate(cells):
        ids[order[a:b]] = i
        book[i] = vectors[order[a:b]].mean(0)
    return book, ids


def _squared_error(cell: np.ndarray) -> float:
    return float(cell.var(0).sum() * len(cell))
