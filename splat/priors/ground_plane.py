"""Planes that a scene may stand on: many points lie on them, few below, all cameras are above.

Found by trying planes through three points each (RANSAC, Fischler & Bolles 1981), fitted to the points near them by
least squares of distances relative to the nearest camera: what is far is less well known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from splat.core.capture import View
from splat.core.geometry import Rigid

_TRIES, _AT_A_TIME = 20_000, 2000
_MAX_POINTS, _MAX_SCORED = 6000, 3000
"""Points, drawn at random, that are looked at, and by which planes are scored."""
_MIN_COS = math.cos(math.radians(45))
"""Of the angle between a plane's normal and the mean of the photos' downward axes."""
_NEAR = 0.01
"""Distance from a plane, over that from the nearest camera, up to which a point is on it; beyond three times as much
below it, the point contradicts it."""
_MIN_SHARE, _MAX_BELOW = 0.02, 0.03
"""Of the points: the least share on a plane, and the most below it."""
_MIN_POINTS = 20


@dataclass(frozen=True, eq=False)
class Plane:
    """The points x of the world with normal . x = offset. The unit normal points down. float64."""

    normal: Float[Tensor, "3"]
    offset: Float[Tensor, ""]

    def depth(self, view: View) -> Float[Tensor, "h w"]:
        """z of the plane at every pixel of a view; 0 where its ray does not meet it."""
        pixels = view.camera.pixel_centres().double()
        rays = view.camera.unproject(pixels, pixels.new_ones(pixels.shape[:2]))
        rate = rays @ (view.pose.rotation.double().T @ self.normal)
        z = self.below(view.pose.translation.double()) / rate
        return torch.where((rate > 1e-6) & (z > 0), z, 0).float()

    def below(self, points: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n"]:
        """How far the plane is below points, world units; negative where they are below it."""
        return self.offset - points @ self.normal

    def is_like(self, other: Plane, height: float) -> bool:
        """Within 2.5 degrees and a fiftieth of `height` of the other."""
        same = float(self.normal @ other.normal) > math.cos(math.radians(2.5))
        return same and abs(float(self.offset - other.offset)) < 0.02 * height


@dataclass(frozen=True, eq=False)
class Standing:
    """Points and cameras: which planes they may stand on."""

    points: Float[Tensor, "n 3"]
    distance: Float[Tensor, "n"]
    """Of every point from the nearest camera."""
    centres: Float[Tensor, "v 3"]
    down: Float[Tensor, "3"]

    @staticmethod
    def of(points: Float[Tensor, "n 3"], poses: Sequence[Rigid], generator: torch.Generator) -> Standing:
        """Of at most `_MAX_POINTS` of the points, in random order."""
        points = points[torch.randperm(len(points), generator=generator)[:_MAX_POINTS]].double()
        centres = torch.stack([p.translation.double() for p in poses])
        down = normalize(torch.stack([p.rotation[:, 1].double() for p in poses]).mean(0), dim=0)
        return Standing(points, torch.cdist(points, centres).amin(1).clamp_min(1e-12), centres, down)

    def allows(self, plane: Plane) -> bool:
        """Whether all cameras are above the plane, and it does not stand upright."""
        return float(plane.normal @ self.down) > _MIN_COS and bool((plane.below(self.centres) > 0).all())

    def support(self, plane: Plane) -> int:
        """Number of points on the plane."""
        return int(self._on(plane).sum())

    def _on(self, plane: Plane) -> Tensor:
        return (plane.below(self.points) / self.distance).abs() < _NEAR

    def planes(self, count: int, generator: torch.Generator) -> list[Plane]:
        """At most `count` planes that are not alike, those with most points on them and fewest below first."""
        if len(self.points) < 3 * _MIN_POINTS:
            return []
        normals, offsets = self._through_points(generator)
        score = self._scores(normals, offsets)
        found: list[Plane] = []
        for k in score.argsort(descending=True)[:1000].tolist():
            if score[k] < 0 or len(found) == count:
                break
            plane = self._fitted(Plane(normals[k], offsets[k]))
            height = float(plane.below(self.centres).mean())
            new = not any(plane.is_like(other, height) for other in found)
            if new and self.allows(plane) and self.support(plane) >= _MIN_POINTS:
                found.append(plane)
        return found

    def _through_points(self, generator: torch.Generator) -> tuple[Float[Tensor, "m 3"], Float[Tensor, "m"]]:
        triples = torch.randint(len(self.points), (_TRIES, 3), generator=generator)
        a, b, c = self.points[triples].unbind(1)
        normals = normalize(torch.linalg.cross(b - a, c - a), dim=1)
        normals = normals * (normals @ self.down).sign()[:, None]
        offsets = (normals * a).sum(1)
        allowed = (normals @ self.down > _MIN_COS) & (self.centres @ normals.T < offsets).all(0)
        return normals[allowed], offsets[allowed]

    def _scores(self, normals: Float[Tensor, "m 3"], offsets: Float[Tensor, "m"]) -> Float[Tensor, "m"]:
        """Share of points on a plane, less twice that below it; -1 for planes that cannot be meant."""
        points, distance = self.points[:_MAX_SCORED], self.distance[:_MAX_SCORED, None]
        scores = [offsets.new_zeros(0)]
        for normal, offset in zip(normals.split(_AT_A_TIME), offsets.split(_AT_A_TIME)):
            below = (points @ normal.T - offset) / distance
            on, past = (below.abs() < _NEAR).double().mean(0), (below > 3 * _NEAR).double().mean(0)
            scores.append(torch.where((past <= _MAX_BELOW) & (on >= _MIN_SHARE), on - 2 * past, -1))
        return torch.cat(scores)

    def _fitted(self, plane: Plane) -> Plane:
        """To the points on it, three times."""
        for _ in range(3):
            on = self._on(plane)
            if on.sum() < 3:
                return plane
            points, weight = self.points[on], 1 / self.distance[on, None]
            mean = (weight**2 * points).sum(0) / (weight**2).sum()
            normal = torch.linalg.svd((points - mean) * weight, full_matrices=False).Vh[2]
            normal = normal * (normal @ plane.normal).sign()
            plane = Plane(normal, normal @ mean)
        return plane
