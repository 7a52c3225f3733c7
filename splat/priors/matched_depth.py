"""Depth maps from a dense matcher, by multi-view triangulation of its matches."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from splat.core.camera import Camera
from splat.core.capture import Capture
from splat.core.errors import SplatError
from splat.core.slots import DenseMatch, DenseMatcher, DepthMap, Reporter
from splat.core.triangulate import Gates, triangulate
from splat.priors.matching import StereoMatcher
from splat.priors.neighbours import overlap


@dataclass(frozen=True)
class MatchedDepth:
    """A `slots.DepthPrior`: each photo is matched with a few others, and its pixels are triangulated from all."""

    matcher: DenseMatcher = field(default_factory=StereoMatcher)
    sources: int = 3
    """Number of photos that each photo is matched with."""
    gates: Gates = field(default_factory=Gates)
    """What a triangulated point must pass."""

    def __call__(self, capture: Capture, report: Reporter, seed: int = 0) -> list[DepthMap]:
        """A metric depth map per view, at the working size. Raises SplatError where views have no pose."""
        if not capture.posed:
            raise SplatError("Dense matching needs photos with poses: run the poses stage.")
        found = overlap(capture)
        others = [found.neighbours(i, self.sources) for i in range(len(capture.views))]
        matches = iter(self.matcher(capture, [(i, o) for i, row in enumerate(others) for o in row], report, seed))
        return [self._depth(capture, i, [next(matches) for _ in row]) for i, row in enumerate(others)]

    def _depth(self, capture: Capture, number: int, matches: list[DenseMatch]) -> DepthMap:
        views = [capture.views[number], *(capture.views[m.view_b] for m in matches)]
        camera = views[0].camera
        h, w = camera.height, camera.width
        depth, confidence = torch.ones(h, w), torch.zeros(h, w)
        if matches:
            certainty = torch.stack([m.certainty for m in matches], -1).reshape(h * w, -1)
            matched = (certainty > 0).any(1).nonzero()[:, 0]
            pixels_a = camera.pixel_centres().double().reshape(-1, 1, 2)
            pixels_b = torch.stack([m.pixels_b.double() for m in matches], 2).reshape(h * w, -1, 2)
            valid = torch.cat([torch.ones(len(matched), 1, dtype=torch.bool), certainty[matched] > 0], 1)
            poses = [v.world_from_cam for v in views if v.world_from_cam is not None]
            pixels = torch.cat([pixels_a, pixels_b], 1)[matched]
            points = triangulate(pixels, valid, [v.camera for v in views], poses, self.gates)
            accepted = points.accepted & points.support[:, 0]
            support = points.support[:, 1:]
            mean = (certainty[matched] * support).sum(1) / support.sum(1).clamp_min(1)
            share = support.sum(1) / len(matches)
            depth.reshape(-1)[matched[accepted]] = points.depths[accepted, 0].float()
            confidence.reshape(-1)[matched[accepted]] = (mean * (0.5 + 0.5 * share))[accepted].float()
        normals = normals_from_depth(depth, confidence > 0, camera)
        return DepthMap(depth, confidence, "metric", normals, tuple(m.view_b for m in matches))


def normals_from_depth(
    depth: Float[Tensor, "h w"], known: Bool[Tensor, "h w"], camera: Camera
) -> Float[Tensor, "h w 3"]:
    """Unit normals in the camera frame, facing the camera, from central differences of depth where it is `known`;
    the direction to the camera where a neighbour is unknown."""
    points = camera.unproject(camera.pixel_centres().to(depth), depth)
    rays = torch.nn.functional.normalize(points, dim=2)
    normals = -rays
    inner = (slice(1, -1), slice(1, -1))
    across, down = points[1:-1, 2:] - points[1:-1, :-2], points[2:, 1:-1] - points[:-2, 1:-1]
    crossed = torch.nn.functional.normalize(torch.linalg.cross(down, across), dim=2)
    crossed = torch.where((crossed * rays[inner]).sum(2, keepdim=True) > 0, -crossed, crossed)
    all_known = known[1:-1, 2:] & known[1:-1, :-2] & known[2:, 1:-1] & known[:-2, 1:-1]
    normals[inner] = torch.where(all_known[..., None], crossed, normals[inner])
    return normals
