"""Depth that a prior predicts (the user's own maps, a learned network), aligned to what dense matching is sure of.

A prior knows the shape of blank walls and of what a single photo shows, but no scale, and it is wrong in its own way in
every photo. For each photo it is aligned to the trusted depths of matching and to the sparse points (`align_depth`),
then corrected smoothly by what is left (`bilateral_grid`). How often it is right where depth is known, away from where
it was corrected, is the probability that it is right where depth is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from splat.core.capture import Capture, View
from splat.core.foreign import some_of
from splat.core.slots import DepthMap, DepthPrior, Reporter
from splat.geometry.align_depth import Alignment, align_depth
from splat.geometry.bilateral_grid import BilateralGrid
from splat.geometry.reproject import pixel_indices, project_points
from splat.geometry.surface_normals import normals_of_depth
from splat.priors.neighbours import visibility

Family = Literal["metric", "up-to-scale", "disparity"]

_MAX_SAMPLES = 4000
"""Of a photo's trusted pixels for alignment; as many sparse points at most."""
_MIN_SAMPLES = 30
_MIN_POINTS = 8
_POINT_WEIGHT = 25.0
"""A sparse point stands for so many pixels around it."""
_RIGHT = 0.05
"""Relative error of a depth that counts as right, as in the confidence of dense stereo."""
_MAX_OF_FLAT = 0.8
"""An aligned prior's median error may be at most this fraction of that of one depth for all pixels."""
_OUTLIER = 0.3
"""With a larger relative error a pixel does not say how the prior is to be corrected."""
_EDGE = 0.1
"""Relative change of depth to a neighbour beyond which a pixel is of an edge, where priors are blurred."""
_DISCOUNT = 0.9
"""Where matching is in doubt priors are right less often than where it is not, on ray-traced scenes by a tenth."""
_LIKELY = 0.5
"""Least probability with which a prior stands in for completion; one below it is weak evidence."""


@dataclass(frozen=True)
class AlignedDepth:
    """A `slots.DepthPrior`: the depth of matching, and that of a prior where matching is in doubt."""

    matched: DepthPrior
    """Metric depth of posed photos."""
    prior: DepthPrior
    """Depth up to scale, or disparity, of the same photos."""
    min_right: float = 0.5
    """The least share of a photo's trusted pixels at which the aligned prior must be right to be used there."""

    def __call__(self, capture: Capture, report: Reporter, seed: int = 0) -> list[DepthMap]:
        """The maps of matching: what it trusts stays. Where it does not, and the prior is probably right, depth is
        `predicted`; else the more probable of both is weak evidence. A doubtful depth that the prior agrees with gains
        by it. Photos in which the prior does not fit are named in a warning and left as they are."""
        maps = self.matched(capture, report, seed)
        priors = self.prior(capture, report, seed)
        points = _points_in(capture)
        scenes = [_Known.of(v, m, p, i) for i, (v, m, p) in enumerate(zip(capture.views, maps, points, strict=True))]
        family = _family(scenes, priors)
        if family is None:
            report.warn("no depth map fits the scene: they are not used.")
            return maps
        out, misfits, shares, used = [], dict[str, Fitted | None](), [], 0.0
        for view, found, known, prior in zip(capture.views, maps, scenes, priors, strict=True):
            fitted = known.fit(prior, family) if bool((prior.confidence > 0).any()) else None
            if fitted is not None and fitted.right >= self.min_right:
                fused = fuse(found, fitted.depth, fitted.probability)
                normals = prior.normals_cam  # of a prior of its own
                if normals is None:
                    normals = normals_of_depth(view.camera, torch.where(fitted.depth > 0, fitted.depth, found.depth))
                found = _with_normals(fused, found, normals)
                shares.append(fitted.right)
                used += float(found.predicted.float().mean()) if found.predicted is not None else 0.0
            elif bool((prior.confidence > 0).any()):
                misfits[view.name] = fitted
            out.append(found)
        if misfits:
            first = next(iter(misfits.values()))
            reason = (
                "explains what is known no better than one depth for all pixels"
                if first is None
                else f"is within 5 % at {100 * first.right:.0f} % of the pixels whose depth is known, and at least "
                f"{100 * self.min_right:.0f} % are needed (--depth-min-right)"
            )
            report.warn(
                f"the depth maps of {len(misfits)} photos ({some_of(list(misfits))}) do not fit the scene and are not "
                f"used: the first {reason}."
            )
        if shares:
            report.info(
                f"Depth maps of {len(shares)} of {len(maps)} photos fit as {_TITLES[family]}: right at "
                f"{100 * sum(shares) / len(shares):.0f} % of the pixels whose depth is known; they stand in at "
                f"{100 * used / len(shares):.0f} % of all pixels."
            )
        return out


_TITLES: dict[Family, str] = {"metric": "metric depth", "up-to-scale": "depth", "disparity": "disparity"}


@dataclass(frozen=True, eq=False)
class Fitted:
    """A prior in one photo."""

    depth: Float[Tensor, "h w"]
    """z, world units; 0 where it is unknown."""
    probability: Float[Tensor, "h w"]
    """That the depth is right; 0 where it is unknown."""
    right: float
    """Share of the known depths at which it is right."""


@dataclass(frozen=True, eq=False)
class _Known:
    """What is known of one photo's depth."""

    depth: Float[Tensor, "h w"]
    """z, world units, of matching where it is trusted, else of sparse points; 0 where nothing is known."""
    weight: Float[Tensor, "h w"]
    ids: Tensor
    """Pixels (row x width + column) that alignment looks at."""

    @staticmethod
    def of(view: View, found: DepthMap, points: Float[Tensor, "n 3"], seed: int) -> _Known:
        """`points`: the sparse points that the view observes, world."""
        usable = torch.from_numpy(view.load().usable())
        trusted = found.measured & usable
        depth, weight = torch.where(trusted, found.depth, 0), found.confidence * trusted
        h, w = depth.shape
        seen = project_points(view.camera, view.pose, points)
        row, column = pixel_indices(seen.pixels, w, h)
        free = seen.in_frame & ~trusted[row, column] & usable[row, column]
        at = (row * w + column)[free]
        depth.view(-1).scatter_reduce_(0, at, seen.depth[free].float(), "amin", include_self=False)
        weight.view(-1)[at] = _POINT_WEIGHT
        generator = torch.Generator().manual_seed(seed)
        ids = [
            some[torch.randperm(len(some), generator=generator)[:_MAX_SAMPLES]]
            for some in (trusted.view(-1).nonzero()[:, 0], at.unique())
        ]
        return _Known(depth, weight, torch.cat(ids))

    def align(self, prior: DepthMap, family: Family) -> Alignment | None:
        """None where too little is known, or the prior explains it no better than one depth for all pixels."""
        ids = self.ids[prior.confidence.view(-1)[self.ids] > 0]
        if len(ids) < _MIN_SAMPLES:
            return None
        known, weight = self.depth.view(-1)[ids], self.weight.view(-1)[ids].clamp_max(1)
        found = align_depth(prior.depth.view(-1)[ids], known, family, weight)
        flat = float((known.median() / known - 1).abs().median())
        return None if found is None or found.error > _MAX_OF_FLAT * flat else found

    def fit(self, prior: DepthMap, family: Family) -> Fitted | None:
        """The prior, aligned and corrected; None where it does not align at all."""
        found = self.align(prior, family)
        if found is None:
            return None
        depth = torch.where(prior.confidence > 0, found.depth(prior.depth), 0)
        known = self.depth[self.depth > 0]
        inside = (depth >= 0.5 * known.min()) & (depth <= 2 * known.max())
        depth = torch.where(inside & ~_is_edge(depth), depth, 0)
        both = (depth > 0) & (self.depth > 0)
        weight = self.weight * both
        if int(both.sum()) < _MIN_SAMPLES:
            return None
        grid = BilateralGrid(depth)
        off = torch.where(both, (self.depth.clamp_min(1e-12) / depth.clamp_min(1e-12)).log(), 0)
        counts = weight * (off.abs() < _OUTLIER)
        right = torch.zeros_like(depth)
        for fold in _folds(depth.shape[0], depth.shape[1], 2 * grid.cell):  # judged where it was not corrected
            left = (off - grid.means(off, counts * ~fold, 0.0)).abs()
            right = torch.where(fold, (left < _RIGHT).float(), right)
        share = float((right * weight).sum() / weight.sum())
        probability = _DISCOUNT * grid.means(right, weight, share).clamp(0, 1) * (depth > 0)
        return Fitted(depth * grid.means(off, counts, 0.0).exp(), probability, share)


def _points_in(capture: Capture) -> list[Float[Tensor, "n 3"]]:
    """For each view the sparse points that it observes."""
    cloud = capture.points
    if cloud is None or len(cloud) < _MIN_POINTS:  # `visibility` would take others in their place
        return [torch.zeros(0, 3, dtype=torch.float64) for _ in capture.views]
    return [cloud.positions[v].double() for v in visibility(capture)[0]]


def _family(scenes: Sequence[_Known], priors: Sequence[DepthMap]) -> Family | None:
    """The family of the priors: the one that they say, else the one whose maps fit better over all photos (geometric
    mean of the median errors). None where nothing fits."""
    errors: dict[Family, list[float]] = {"disparity": [], "up-to-scale": []}
    for known, prior in zip(scenes, priors, strict=True):
        if not bool((prior.confidence > 0).any()):
            continue
        if prior.family != "unknown":
            return prior.family
        for family, errors_of in errors.items():
            found = known.align(prior, family)
            errors_of.append(1.0 if found is None else min(1.0, max(found.error, 1e-4)))
    means = [(float(torch.tensor(e).log().mean()), f) for f, e in errors.items() if e]
    return min(means, key=lambda m: m[0])[1] if means else None


def _is_edge(depth: Float[Tensor, "h w"]) -> Bool[Tensor, "h w"]:
    """Pixels on either side of a jump between known depths."""
    edge = torch.zeros_like(depth, dtype=torch.bool)
    for axis in (0, 1):
        n = depth.shape[axis]
        a, b = depth.narrow(axis, 0, n - 1), depth.narrow(axis, 1, n - 1)
        jump = (a > 0) & (b > 0) & ((a - b).abs() > _EDGE * torch.minimum(a, b))
        edge.narrow(axis, 0, n - 1).logical_or_(jump)
        edge.narrow(axis, 1, n - 1).logical_or_(jump)
    return edge


def _folds(height: int, width: int, side: float) -> tuple[Bool[Tensor, "h w"], Bool[Tensor, "h w"]]:
    """Two halves of an image, in squares like those of a chess board."""
    y, x = torch.arange(height)[:, None], torch.arange(width)[None]
    white = ((y / side).floor() + (x / side).floor()) % 2 == 0
    return white, ~white


def fuse(found: DepthMap, depth: Float[Tensor, "h w"], probability: Float[Tensor, "h w"]) -> DepthMap:
    """A map of matching with the aligned depth (0: unknown) of a prior and the probability that this is right."""
    own, least = found.confidence, found.min_probability
    doubtful = ~found.measured & (depth > 0)
    agree = doubtful & (own > 0) & ((found.depth / depth.clamp_min(1e-12) - 1).abs() < _RIGHT)
    together = 1 - (1 - own) * (1 - probability)
    confirmed = agree & (together >= max(least, _LIKELY))
    taken = doubtful & ~confirmed & (probability > own)
    if not least:  # any confidence counts as measured: there is no weak evidence
        taken &= probability >= _LIKELY
    confidence = torch.where(agree, together, torch.where(taken, probability, own))
    predicted = taken & (probability >= _LIKELY)
    if found.predicted is not None:  # by an earlier prior
        predicted |= found.predicted & ~taken
    return replace(found, depth=torch.where(taken, depth, found.depth), confidence=confidence, predicted=predicted)


def _with_normals(fused: DepthMap, found: DepthMap, normals: Float[Tensor, "h w 3"]) -> DepthMap:
    """The normals of matching where its depth was kept, else those of the prior."""
    if found.normals_cam is None:
        return fused
    kept = (fused.depth == found.depth)[..., None]
    return replace(fused, normals_cam=torch.where(kept, found.normals_cam, normals))
