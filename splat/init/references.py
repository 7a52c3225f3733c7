"""Reference photos that stand for all, and the nearest neighbours of a photo: by their poses alone."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from splat.core.geometry import Rigid


def pose_features(poses: list[Rigid]) -> Float[Tensor, "v 16"]:
    """cam_from_world [4 4] by rows: rotation and translation in one vector, as the paper's code compares poses."""
    return torch.stack([p.inverse().matrix().reshape(-1) for p in poses]).double()


def nearest_views(poses: list[Rigid], view: int, count: int) -> list[int]:
    """The others with the most similar features, nearest first, without those at the same place; fewer where there are
    no more."""
    features = pose_features(poses)
    distance = (features - features[view]).norm(dim=1)
    centres = torch.stack([p.translation for p in poses]).double()
    apart = (centres - centres[view]).norm(dim=1)
    distance[apart <= 1e-9 * float(apart.max())] = torch.inf  # itself among them
    order = distance.argsort(stable=True)[:count].tolist()
    return [i for i in order if bool(distance[i].isfinite())]


def reference_views(
    poses: list[Rigid], count: int, generator: torch.Generator, restarts: int = 20, rounds: int = 100
) -> list[int]:
    """Ascending; all where there are no more than `count`, else the nearest to each centre of the best of some k-means.

    Twenty restarts are what the released code gets from SciPy by default. Fewer than `count` where views coincide.
    """
    v = len(poses)
    if count >= v:
        return list(range(v))
    features = pose_features(poses)
    best, references = torch.inf, list(range(count))
    for _ in range(restarts):
        centres = _spread(features, count, generator)
        cost = torch.inf
        for _ in range(rounds):
            distance = _squared(features, centres)
            nearest, cluster = distance.min(1)
            now = float(nearest.sum())
            if now >= cost * (1 - 1e-6):
                break
            cost = now
            centres = _means(features, cluster, centres)
        if cost < best:
            distance = _squared(features, centres)
            owner = distance.argmin(1)
            # The nearest of a cluster's own views: a cluster that nobody belongs to has none.
            best, references = cost, sorted({int(distance[:, k].argmin()) for k in owner.unique().tolist()})
    return references


def _spread(features: Float[Tensor, "v d"], count: int, generator: torch.Generator) -> Float[Tensor, "k d"]:
    """k-means++ (Arthur & Vassilvitskii 2007)."""
    chosen = [int(torch.randint(len(features), (), generator=generator))]
    nearest = _squared(features, features[chosen])[:, 0]
    while len(chosen) < count and float(nearest.max()) > 0:
        chosen.append(int(torch.multinomial(nearest, 1, generator=generator)))
        nearest = torch.minimum(nearest, _squared(features, features[chosen[-1:]])[:, 0])
    return features[chosen]


def _squared(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square()


def _means(
    features: Float[Tensor, "v d"], cluster: Int[Tensor, "v"], centres: Float[Tensor, "k d"]
) -> Float[Tensor, "k d"]:
    """Of each cluster; an empty one stays."""
    total = torch.zeros_like(centres).index_add_(0, cluster, features)
    size = torch.zeros(len(centres), dtype=centres.dtype).index_add_(0, cluster, torch.ones(len(features)).double())
    taken: Bool[Tensor, "k"] = size > 0
    return torch.where(taken[:, None], total / size.clamp_min(1)[:, None], centres)
