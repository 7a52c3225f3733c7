"""Depth completion: edge-aware weighted least squares guided by the photo, for pixels without a measured depth."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate


def complete_depth(
    depth: Float[Tensor, "h w"],
    confidence: Float[Tensor, "h w"],
    rgb: Float[Tensor, "h w 3"],
    slopes: Float[Tensor, "2 h w"] | None = None,
    measured: Bool[Tensor, "h w"] | None = None,
    smoothness: float = 4.0,
    contrast: float = 0.03,
    iterations: int = 150,
) -> Float[Tensor, "h w"]:
    """A depth for every pixel: the inverse depths x that minimize

        sum_p c_p (x_p - depth_p^-1)^2 + smoothness * sum_pq w_pq (x_q - x_p - s_pq)^2,
        w_pq = exp(-|I_p - I_q| / contrast),

    over neighbouring pixels p, q of the photo at half its size (weighted least squares, Farbman et al. 2008).

    depth: z, world units. confidence: c, the probability that it is right, 0 where there is none. measured: where depth
    is kept as it is; wherever c is above 0 unless given. The other depths with c above 0 are weak evidence: they count
    by the square of their odds (at most as measured ones), and less the more they differ from the solution
    (`weights_of_doubtful`), so that wrong ones lose; those that agree with it in the end are kept.
    rgb: the photo I, in [0, 1].
    slopes: change of inverse depth per pixel to the right and downwards, where depth was measured. The inverse depth
    of a plane is linear in the image, so with slopes (s_pq) floors and walls continue beyond what was measured;
    without them s = 0. contrast: difference of colour (sum over channels) across which the smoothness falls to 1/e.

    A completed depth is never more than twice as near or as far as anything measured. Where nothing is measured at
    all, the depth is returned as it is.
    """
    known = confidence > 0 if measured is None else measured
    if bool(known.all()) or not bool(known.any()):
        return depth
    h, w = depth.shape
    inverse = torch.where(confidence > 0, 1 / depth.clamp_min(1e-12), 0)
    unit = inverse[known].median()
    lowest, highest = inverse[known].aminmax()
    doubtful = (confidence > 0) & ~known & (inverse >= 0.5 * lowest) & (inverse <= 2 * highest)
    sx, sy = torch.zeros(2, h, w) if slopes is None else torch.where(known, slopes, 0)
    # Of the plane at each pixel: its inverse depth at the photo's corner, and its slopes.
    y, x = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij")
    weight = confidence * known
    plane = torch.stack([inverse - sx * x - sy * y, sx, sy]) * weight / unit
    # Half the size, odd rows and columns repeated: means over what was measured.
    edge = (0, w % 2, 0, h % 2)

    def halved(stack: Tensor) -> Tensor:
        return avg_pool2d(torch.nn.functional.pad(stack[None], edge), 2)[0]

    means = halved(torch.cat([weight[None], (weight * inverse / unit)[None], plane]))
    c, cx = means[:2]
    image = torch.nn.functional.pad(rgb.permute(2, 0, 1)[None], edge, mode="replicate")
    image = avg_pool2d(image, 2)[0]
    right = smoothness * torch.exp(-(image[:, :, 1:] - image[:, :, :-1]).abs().sum(0) / contrast).clamp_min(1e-4)
    down = smoothness * torch.exp(-(image[:, 1:] - image[:, :-1]).abs().sum(0) / contrast).clamp_min(1e-4)
    joined = torch.zeros_like(c)
    joined[:, :-1] += right
    joined[:, 1:] += right
    joined[:-1] += down
    joined[1:] += down
    at_corner, sx, sy = pull_push(means[2:] / c.clamp_min(1e-9), c > 0)
    to_right, downwards = right * (sx[:, 1:] + sx[:, :-1]), down * (sy[1:] + sy[:-1])  # two pixels at a time
    bend = torch.zeros_like(c)
    bend[:, 1:] += to_right
    bend[:, :-1] -= to_right
    bend[1:] += downwards
    bend[:-1] -= downwards

    def solved(c: Tensor, cx: Tensor, start: Tensor) -> Tensor:
        """The solution at half the size for evidence of weights c, times inverse depths cx."""
        diagonal = joined + c

        def apply(x: Tensor) -> Tensor:
            out = diagonal * x
            out[:, :-1] -= right * x[:, 1:]
            out[:, 1:] -= right * x[:, :-1]
            out[:-1] -= down * x[1:]
            out[1:] -= down * x[:-1]
            return out

        return conjugate_gradients(apply, cx + bend, diagonal, start, iterations)

    def full(half: Tensor) -> Tensor:
        out = interpolate(half[None, None], scale_factor=2.0, mode="bilinear", align_corners=False)[0, 0, :h, :w] * unit
        return out.clamp(0.5 * lowest, 2 * highest)

    y, x = torch.meshgrid(2 * torch.arange(len(c)) + 1.0, 2 * torch.arange(c.shape[1]) + 1.0, indexing="ij")
    start = (at_corner + sx * x + sy * y).clamp(0.5 * lowest / unit, 2 * highest / unit)
    start = torch.where(c > 0, cx / c.clamp_min(1e-9), start)
    if not bool(doubtful.any()):
        fine = full(solved(c, cx, start))
        return torch.where(known, depth, 1 / fine)
    odds = torch.where(doubtful, (confidence / (1 - confidence).clamp_min(0.05)).square().clamp_max(1), 0)
    start = solved(c, cx, start)  # what was measured has the first word
    fine = full(start)
    for scale in SCALES:
        weak = odds * weights_of_doubtful(inverse, fine, scale)
        extra = halved(torch.stack([weak, weak * inverse / unit]))
        start = solved(c + extra[0], cx + extra[1], start)
        fine = full(start)
    agree = doubtful & ((inverse / fine - 1).abs() < SCALES[-1])
    return torch.where(known | agree, depth, 1 / fine)


SCALES = (0.1, 0.05, 0.03)
"""Relative differences of inverse depth at which a doubtful depth counts a quarter, from one round to the next."""


def weights_of_doubtful(
    inverse: Float[Tensor, "h w"], solution: Float[Tensor, "h w"], scale: float
) -> Float[Tensor, "h w"]:
    """Weights of an M-estimator (Geman & McClure 1987): 1 for no difference, 1/4 at the relative difference `scale`."""
    return (1 + ((inverse / solution - 1) / scale).square()).square().reciprocal()


def conjugate_gradients(
    apply: Callable[[Tensor], Tensor], right: Tensor, diagonal: Tensor, start: Tensor, iterations: int
) -> Tensor:
    """Solves apply(x) = right, `apply` positive definite, preconditioned by its diagonal (Hestenes & Stiefel 1952).
    Stops early where the residual has fallen to a thousandth of the right side."""
    x = start.clone()
    r = right - apply(x)
    z = r / diagonal
    p, rz = z.clone(), (r * z).sum()
    enough = 1e-6 * right.square().sum()
    for _ in range(iterations):
        if r.square().sum() <= enough:
            break
        ap = apply(p)
        step = rz / (p * ap).sum()
        x += step * p
        r -= step * ap
        z = r / diagonal
        rz, before = (r * z).sum(), rz
        p = z + rz / before * p
    return x


def pull_push(values: Float[Tensor, "*k h w"], known: Bool[Tensor, "h w"]) -> Float[Tensor, "*k h w"]:
    """Pull-push interpolation (Gortler et al. 1996): where values are not known, the mean of the known ones in the
    smallest block of 2, 4, ... pixels that has any, blended between blocks."""
    if bool(known.all()) or not bool(known.any()):
        return values
    h, w = known.shape
    layers = torch.where(known, values, 0).reshape(-1, h, w)
    padded = torch.nn.functional.pad(torch.cat([layers, known[None].to(layers)]), (0, w % 2, 0, h % 2))
    sums = 4 * avg_pool2d(padded[None], 2)[0]
    coarse = pull_push(sums[:-1] / sums[-1].clamp_min(1e-9), sums[-1] > 0)
    size = (2 * coarse.shape[1], 2 * coarse.shape[2])
    fine = interpolate(coarse[None], size, mode="bilinear", align_corners=False)[0, :, :h, :w]
    return torch.where(known, values, fine.reshape(values.shape))
