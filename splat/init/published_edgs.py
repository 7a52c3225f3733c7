"""The published initialization of EDGS (Kotovenko et al. 2025) as its code has it: two-view points of pairs of photos.

`dense_surfaces` is this project's own. Written from a description of the method; what differs from the released code:

- points are solved for with the homogeneous w, where the released code takes clip space's z in its place and so misses
  by a fixed length in scene units;
- a point must be in front of both cameras and match within the tolerance; the released code does not check the
  first and keeps what fails the second, at an opacity of 4.5e-5, until the first prune;
- the released trainer means to halve all scales but loses the factor on the way to the optimizer: scales stay at 0.001
  of the distance, as they do there from the second step on;
- pixels that a matcher has no match for, and those that are masked, are never sampled; a photo from the same place is
  never a neighbour, since it says nothing about depth;
- where nothing can be triangulated the sparse points are taken, else they are dropped as there.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

import torch
from jaxtyping import Float, Int
from torch import Tensor

from splat.core.camera import Camera
from splat.core.capture import Capture
from splat.core.errors import SplatError
from splat.core.gaussians import Gaussians, rgb_to_sh
from splat.core.geometry import Rigid
from splat.core.slots import DenseMatch, Init, Priors, Reporter, Silent
from splat.geometry.reproject import project_points
from splat.geometry.triangulate import triangulate_linear
from splat.init.references import nearest_views, reference_views
from splat.init.sfm_points import SfmPoints


@dataclass(frozen=True)
class PublishedEdgs:
    """A `slots.Initializer`, the published EDGS: a fixed number of points for each reference photo, each triangulated
    with the best of a few neighbours."""

    num_refs: int = 180
    """Reference photos, chosen by k-means over camera poses; all photos where there are fewer."""
    nns_per_ref: int = 3
    """Neighbours that each reference is matched with: the nearest poses."""
    matches_per_ref: int = 15_000
    """Pixels sampled from each reference. (The authors' evaluation of Mip-NeRF 360 used 25,000.)"""
    sample_threshold: float = 0.05
    """Certainty above which all pixels are sampled alike; below, in proportion to their certainty."""
    tolerance: float = 0.01
    """Largest reprojection error |dx| + |dy| of a point in either photo, in units of half the photo's width and height
    (normalized device coordinates)."""
    scaling_factor: float = 0.001
    """Standard deviation of a Gaussian, as a fraction of its distance to the reference camera."""
    opacity: float = 0.5
    """Opacity every Gaussian starts with."""

    def __call__(
        self, capture: Capture, sh_degree: int, seed: int, report: Reporter, priors: Priors | None = None
    ) -> Init:
        """At most `num_refs` x `matches_per_ref` Gaussians, from all photos it is given. Reads `priors.matches`.

        Raises SplatError where photos have no pose, or there is no matcher.
        """
        if priors is None or priors.matches is None:
            raise SplatError("The published dense initialization needs a matcher.")
        if not capture.posed or not capture.views:
            raise SplatError("Dense initialization needs photos with poses: run the poses stage.")
        poses = [v.pose for v in capture.views]
        generator = torch.Generator().manual_seed(seed)
        references = reference_views(poses, self.num_refs, generator)
        neighbours = {r: nearest_views(poses, r, self.nns_per_ref) for r in references}
        pairs = [(r, n) for r in references for n in neighbours[r]]
        matches = iter(priors.matches(capture, pairs, report, seed))
        parts: list[Gaussians] = []
        views, pixels = [], []
        for r in references:
            found = list(islice(matches, len(neighbours[r])))
            if found:
                part, at = self._points(capture, r, found, sh_degree, generator)
                parts.append(part)
                views.append(torch.full((len(part),), r))
                pixels.append(at)
        if not any(len(p) for p in parts):
            report.warn("dense matching found nothing to triangulate: starting from the sparse points")
            return SfmPoints()(capture, sh_degree, seed, Silent())
        gaussians = Gaussians.cat(parts)
        report.info(f"{len(gaussians):,} Gaussians from {len(pairs)} pairs of {len(references)} reference photos.")
        return Init(gaussians, torch.cat(views), torch.cat(pixels))

    def _points(
        self, capture: Capture, reference: int, matches: list[DenseMatch], sh_degree: int, generator: torch.Generator
    ) -> tuple[Gaussians, Float[Tensor, "n 2"]]:
        """The Gaussians of one reference photo, and their pixels in it."""
        view = capture.views[reference]
        pose, camera, photo = view.pose, view.camera, view.load()
        weights = torch.stack([m.certainty for m in matches]).amax(0)
        weights = torch.where(weights > self.sample_threshold, 1.0, weights)
        weights = torch.where(torch.from_numpy(photo.usable()), weights, 0.0)
        chosen = weighted_sample(weights.reshape(-1), self.matches_per_ref, generator)
        pixels = camera.pixel_centres().reshape(-1, 2)[chosen]

        best_error = torch.full((len(chosen),), torch.inf, dtype=torch.float64)
        points = torch.zeros(len(chosen), 3, dtype=torch.float64)
        for m in matches:
            other = capture.views[m.view_b]
            pair = torch.stack([pixels, m.pixels_b.reshape(-1, 2)[chosen].to(pixels)], 1)
            cameras, both = (camera, other.camera), (pose, other.pose)
            matched = (m.certainty.reshape(-1)[chosen] > 0)[:, None].expand(-1, 2)
            tried = triangulate_linear(pair, matched, cameras, both)
            errors = [ndc_error(tried, pair[:, i], cameras[i], both[i]) for i in (0, 1)]
            error = torch.where(matched[:, 0], torch.maximum(*errors), torch.inf)
            points = torch.where((error < best_error)[:, None], tried, points)
            best_error = torch.minimum(best_error, error)
        kept = best_error <= self.tolerance
        points, pixels = points[kept], pixels[kept]

        n = len(points)
        # A pixel's own colour is the bilinear sample at its centre, which is where it was sampled.
        rgb = torch.from_numpy(photo.rgb).reshape(-1, 3)[chosen[kept]].float() / 255
        distance = (points - pose.translation).norm(dim=1)
        gaussians = Gaussians(
            means=points.float(),
            quats_wxyz=torch.tensor([1.0, 0, 0, 0]).repeat(n, 1),
            log_scales=(self.scaling_factor * distance).log().float()[:, None].repeat(1, 3),
            logit_opacities=torch.logit(torch.full((n,), self.opacity)),
            sh=rgb_to_sh(rgb, sh_degree),
        )
        return gaussians, pixels.float()


def ndc_error(
    points: Float[Tensor, "n 3"], pixels: Float[Tensor, "n 2"], camera: Camera, world_from_cam: Rigid
) -> Float[Tensor, "n"]:
    """|dx| + |dy| between a pixel and the point's projection, where the photo reaches from -1 to 1 both ways; infinite
    where the point is not in front of the camera."""
    projected = project_points(camera, world_from_cam, points)
    off = (projected.pixels - pixels).abs() * pixels.new_tensor([2 / camera.width, 2 / camera.height])
    return torch.where(projected.depth > 0, off.double().sum(1).nan_to_num(torch.inf), torch.inf)


def weighted_sample(weights: Float[Tensor, "n"], count: int, generator: torch.Generator) -> Int[Tensor, "m"]:
    """Up to `count` different indices, ascending, sampled without replacement in proportion to their weights.

    The largest of log w plus Gumbel noise are such a sample (Yellott 1977); `torch.multinomial` ends at 2^24 weights.
    """
    noise = torch.rand(weights.shape, generator=generator, dtype=torch.float64).clamp_min(1e-300)
    keys = weights.double().log() - (-noise.log()).log()
    count = min(count, int((weights > 0).sum()))
    return keys.topk(count).indices.sort().values
