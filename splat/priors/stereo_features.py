"""What matching knows about each depth that it found, as numbers from which `stereo_confidence` tells how probably the
depth is right. All of them are free of scale: costs, pixels, ratios of depths, counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import interpolate, pad

from splat.geometry.reproject import pixel_transfer
from splat.priors.stereo_search import Planes, PlaneSearch, StereoView

OWN = (
    *("cost", "lowest cost", "next cost", "cost nearer", "cost farther", "runner-up", "runner-up's lead"),
    *("shift", "next shift", "difference", "next difference", "agreeing closely", "agreeing", "agreeing roughly"),
    *("share agreeing", "in frame", "seen past", "occluded", "their cost", "pixels per depth", "contrast", "gradient"),
    *("island", "off the median", "neighbours agreeing", "like neighbours agreeing", "slant"),
    *("from the range's ends", "sources"),
)
AVERAGED = (
    *("cost", "next cost", "runner-up's lead", "shift", "next shift", "difference", "agreeing", "agreeing roughly"),
    *("seen past", "their cost", "off the median", "neighbours agreeing"),
)
"""Of these also the mean around a pixel: what is wrong is rarely wrong alone."""
NAMES = (*OWN, *(f"mean {name}" for name in AVERAGED))
MAX_SHIFT = 20.0
"""Pixels: larger shifts count as this."""
STEP = 1.5
"""Pixels in the source photos by which a plane is moved to see how much worse it fits."""
ISLANDS = (10, 30, 100, 300, 1000)
"""Sizes in px with which connected regions of similar depth are compared."""
WINDOW = 9
"""Side of the square of these means, px."""
AROUND = tuple((dy, dx) for r in (2, 5, 9) for dy, dx in ((-r, 0), (r, 0), (0, -r), (0, r), (-r, -r), (r, r)))


@dataclass(frozen=True, eq=False)
class Against:
    """A depth map projected into a source photo and back by the source's depth map, per pixel."""

    in_frame: Bool[Tensor, "h w"]
    shift: Float[Tensor, "h w"]
    """Distance between where a pixel starts and where it returns to, px."""
    ratio: Float[Tensor, "h w"]
    """Logarithm of the point's depth in the source over the source's own: below 0 the source sees past the point."""
    cost: Float[Tensor, "h w"]
    """Of the source's plane there."""
    speed: Float[Tensor, "h w"]
    """Pixels that the point moves in the source when its depth changes by e (natural units of the logarithm)."""


def against(view: StereoView, planes: Tensor, other: StereoView, theirs: Planes) -> Against:
    """`planes` [3 h w] of a view against the planes of another."""
    there_from_here = other.world_from_cam.inverse() @ view.world_from_cam
    forth = pixel_transfer(view.camera, other.camera, there_from_here).tolist()
    back = pixel_transfer(other.camera, view.camera, there_from_here.inverse()).tolist()
    h, w = planes.shape[1:]
    x, y = torch.arange(w)[None] + 0.5, torch.arange(h)[:, None] + 0.5
    inverse = planes[0]

    def mapped(m: list[float], x: Tensor, y: Tensor, inverse: Tensor) -> list[Tensor]:
        return [m[3 * k] * x + m[3 * k + 1] * y + m[3 * k + 2] + m[9 + k] * inverse for k in range(3)]

    px, py, pz = mapped(forth, x, y, inverse)
    u, v = px / pz, py / pz
    ch, cw = other.camera.height, other.camera.width
    in_frame = (pz > 0) & (u > 0) & (u < cw) & (v > 0) & (v < ch)
    column, row = u.nan_to_num().clamp(0, cw - 1).long(), v.nan_to_num().clamp(0, ch - 1).long()
    at = row * cw + column
    flat = theirs.planes.reshape(3, -1)
    dx, dy = (u - column - 0.5).clamp(-0.5, 0.5), (v - row - 0.5).clamp(-0.5, 0.5)
    their_inverse = (flat[0][at] + flat[1][at] * dx + flat[2][at] * dy).clamp_min(1e-12)
    qx, qy, qz = mapped(back, u, v, their_inverse)
    shift = ((qx / qz - x).square() + (qy / qz - y).square()).sqrt()
    shift = torch.where(in_frame & (qz > 0), shift.nan_to_num(MAX_SHIFT), MAX_SHIFT).clamp_max(MAX_SHIFT)
    ratio = (pz.clamp_min(1e-9) / inverse * their_inverse).log().clamp(-1, 1)
    speed = ((forth[9] - u * forth[11]).square() + (forth[10] - v * forth[11]).square()).sqrt() / pz * inverse
    return Against(
        in_frame,
        shift,
        torch.where(in_frame, ratio, 1.0),
        torch.where(in_frame, theirs.cost.reshape(-1)[at], 2.0),
        torch.where(in_frame, speed.nan_to_num(0), 0).clamp(0, 1e4),
    )


def features(
    view: StereoView,
    found: Planes,
    search: PlaneSearch,
    volume: Float[Tensor, "k hc wc"],
    others: Sequence[tuple[StereoView, Planes]],
    min_parallax: float,
) -> Float[Tensor, "f h w"]:
    """`NAMES` of the planes that were found for a view with at least one source photo.

    `volume`: the costs of the sweep, planes at equal steps of inverse depth, at a coarser size. `min_parallax`:
    degrees; sources with less do not count."""
    h, w = found.cost.shape
    inverse, planes = found.planes[0], found.planes
    pairs = [against(view, planes, o, theirs) for o, theirs in others]
    shifts = torch.stack([p.shift for p in pairs])
    ratios = torch.stack([p.ratio for p in pairs])
    # A ray turns by the parallax when the depth of its point changes by e.
    least = [math.radians(min_parallax) * 0.5 * (o.camera.fx + o.camera.fy) for o, _ in others]
    in_frame = torch.stack([p.in_frame & (p.speed >= s) for p, s in zip(pairs, least, strict=True)])
    shifts = torch.where(in_frame, shifts, MAX_SHIFT)
    ratios = torch.where(in_frame, ratios, 1.0)
    speed = torch.stack([p.speed for p in pairs]).amax(0)
    off = ratios.abs()

    def agreeing(max_shift: float, max_ratio: float) -> Tensor:
        return in_frame & (shifts < max_shift) & (off < max_ratio)

    close, fair, rough = agreeing(0.7, 0.01), agreeing(1.5, 0.03), agreeing(4.0, 0.08)
    their_cost = torch.stack([p.cost for p in pairs])
    their_cost = torch.where(fair, their_cost, 2.0).amin(0)
    # One kernel call each: the lowest cost of a single source, and the costs a little nearer and farther.
    lowest = search.with_costs(planes, best=1).cost
    following = 2 * found.cost - lowest if search.best >= 2 else torch.full_like(lowest, 2.0)
    step = STEP / speed.clamp_min(1e-3)  # of the logarithm of inverse depth
    step = step.clamp_max(0.2)
    nearer = search.with_costs(planes * (1 + step)).cost
    farther = search.with_costs(planes * (1 - step)).cost
    runner_up, near = runners_up(volume, inverse, search.low, search.high)
    shift2, ratio2 = (_two_smallest(t) for t in (shifts, off))
    mean = box_mean(view.grey, WINDOW)
    spread = (box_mean(view.grey.square(), WINDOW) - mean.square()).clamp_min(0).sqrt()
    padded = pad(view.grey[None, None], (1, 1, 1, 1), mode="replicate")[0, 0]
    slope = (padded[1:-1, 2:] - padded[1:-1, :-2]).abs() + (padded[2:, 1:-1] - padded[:-2, 1:-1]).abs()
    slope = box_mean(slope, 5)
    logs = inverse.clamp_min(1e-12).log()
    median = torch.from_numpy(cv2.medianBlur(np.ascontiguousarray(logs.numpy()), 5))
    plain, alike = neighbours_agreeing(planes, view.grey)
    place = ((inverse - search.low) / (search.high - search.low)).clamp(0, 1)
    normals = found.normals(view.camera)
    pixels = view.camera.pixel_centres().float()
    rays = torch.nn.functional.normalize(view.camera.unproject(pixels, torch.ones(h, w)), dim=2)
    count = len(pairs)
    table = [
        *(found.cost, lowest, following.clamp(0, 2), nearer - found.cost, farther - found.cost),
        *(runner_up, runner_up - near),
        *(_log(shift2[0], 0.1), _log(shift2[1], 0.1), _log(ratio2[0], 0.002), _log(ratio2[1], 0.002)),
        *(close.sum(0).clamp_max(4) / 2, fair.sum(0).clamp_max(4) / 2, rough.sum(0).clamp_max(4) / 2),
        *(fair.sum(0) / in_frame.sum(0).clamp_min(1), in_frame.sum(0).clamp_max(4) / 2),
        *(((ratios < -0.04) & in_frame & (shifts > 1.5)).sum(0) / 2, ((ratios > 0.04) & in_frame).sum(0) / 2),
        *(their_cost, _log(0.05 * speed, 0.1), _log(spread, 1.0), _log(slope, 1.0)),
        *(islands(logs), _log((logs - median).abs(), 0.002), plain, alike),
        *(-(normals * rays).sum(2), torch.minimum(place, 1 - place).clamp_max(0.1) * 10),
        torch.full((h, w), min(count, 4) / 2),
    ]
    own = [t.float() for t in table]
    means = [box_mean(own[OWN.index(name)], WINDOW) for name in AVERAGED]
    return torch.stack([*own, *means])


def box_mean(values: Float[Tensor, "h w"], side: int) -> Float[Tensor, "h w"]:
    """Means over squares of `side` px; beyond the border the outermost pixels are repeated."""
    blurred = cv2.blur(np.ascontiguousarray(values.numpy()), (side, side), borderType=cv2.BORDER_REPLICATE)
    return torch.from_numpy(blurred)


def _log(values: Tensor, unit: float) -> Tensor:
    """log(1 + values / unit): near 0 steps of a unit matter, far from it factors."""
    return (values / unit).clamp_min(0).log1p()


def _two_smallest(values: Float[Tensor, "s h w"]) -> tuple[Tensor, Tensor]:
    """The two smallest over the first axis; the largest possible value where there is but one."""
    if len(values) == 1:
        return values[0], torch.full_like(values[0], MAX_SHIFT)
    two = values.sort(0).values
    return two[0], two[1]


def runners_up(
    volume: Float[Tensor, "k hc wc"], inverse: Float[Tensor, "h w"], low: float, high: float
) -> tuple[Tensor, Tensor]:
    """Of the sweep's costs: the lowest more than two steps and more than 6 % of inverse depth away from the found
    depth, and the lowest within that distance; [h w] both."""
    k, hc, wc = volume.shape
    coarse = interpolate(inverse[None, None], (hc, wc), mode="nearest")[0, 0]
    steps = low + (high - low) * ((torch.arange(k) + 0.5) / k)
    reach = torch.maximum(0.06 * coarse, torch.tensor(2.01 * (high - low) / k))
    near = (steps[:, None, None] - coarse).abs() <= reach
    away = torch.where(near, 2.0, volume).amin(0)
    here = torch.where(near, volume, 2.0).amin(0)
    both = interpolate(torch.stack([away, here])[None], inverse.shape, mode="bilinear", align_corners=False)[0]
    return both[0], both[1]


def islands(logs: Float[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    """How many of the sizes `ISLANDS` the region of similar depth (2 % between neighbours) of each pixel reaches, as a
    share."""
    # cv2.filterSpeckles works on integers: logarithms in steps of 0.1 %, of which neighbours may differ by 20.
    levels = (1000 * (logs - logs.amin())).round().clamp(0, 32_000) + 1
    start = levels.numpy().astype(np.int16)
    out = torch.zeros(logs.shape)
    for size in ISLANDS:
        image = start.copy()
        cv2.filterSpeckles(image, 0, size, 20)
        out += torch.from_numpy(image > 0)
    return out / len(ISLANDS)


def neighbours_agreeing(planes: Float[Tensor, "3 h w"], grey: Float[Tensor, "h w"]) -> tuple[Tensor, Tensor]:
    """The share of pixels around (`AROUND`) whose inverse depth the pixel's plane foretells up to 2 %; and the same
    weighted by likeness of grey value."""
    h, w = grey.shape
    reach = max(max(abs(dy), abs(dx)) for dy, dx in AROUND)
    wide = pad(planes[:1][None], (reach,) * 4, mode="replicate")[0, 0]
    photo = pad(grey[None, None], (reach,) * 4, mode="replicate")[0, 0]
    inverse, gx, gy = planes
    limit = 0.02 * inverse
    plain, alike, total = torch.zeros(3, h, w)
    for dy, dx in AROUND:
        rows, columns = slice(reach + dy, reach + dy + h), slice(reach + dx, reach + dx + w)
        same = ((wide[rows, columns] - inverse - gx * dx - gy * dy).abs() < limit).float()
        like = (-(photo[rows, columns] - grey).abs() / 10).exp() + 1e-3
        plain += same
        alike += like * same
        total += like
    return plain / len(AROUND), alike / total
