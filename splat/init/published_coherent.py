"""The published first Gaussians of CoherentGS (Paliwal et al. 2024): one for every pixel of every photo, on its ray.

Written from a description of the method. Depth comes from the depth prior (dense stereo, completed where it has none)
in place of a network; it is relative until it is aligned, as a network's. What differs from the released code:

- rays go through the centres of pixels; the released code's go through their corners, so that every Gaussian is half a
  pixel off in its own photo;
- the constants belong to a scene whose nearest depth is 1.33: any other is measured in that unit, not moved;
- opacity and widths of the decoders go on beyond four photos, and with two or more there is no table that ends;
- layers cover all disparities, so that a sky takes part (`geometry.depth_layers.disparity_layers`);
- the edge filter leaves pixels at the frame alone (`geometry.depth_edges`);
- depth that would be at or behind the camera is put before it;
- masked pixels, which have no colour, get no Gaussian.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from splat.core.capture import Capture, View
from splat.core.errors import SplatError
from splat.core.gaussians import Gaussians, rgb_to_sh
from splat.core.slots import DepthMap, Init, Priors, RayRows, Reporter
from splat.geometry.align_depth import Alignment
from splat.geometry.align_views import align_by_disparity, align_by_world
from splat.geometry.depth_edges import normalized_disparity, sharpen_edges
from splat.geometry.depth_flow import match_views
from splat.geometry.depth_layers import disparity_layers
from splat.init.dense_surfaces import MAX_MATCHING_SIZE
from splat.init.view_surfaces import ViewSurface

NEAREST = 4 / 3
"""Nearest depth of a scene in units of the published constants."""
FOOTPRINT = 0.6
"""px: standard deviation of a Gaussian in its own photo."""
OPACITIES = {2: 0.6, 3: 0.5, 4: 0.35}
"""By the number of photos, as published."""
MIN_DEPTH = 0.2
"""In the same unit: the near plane of the published renders."""
FARTHEST = 50.0
"""Times the nearest depth: what is farther, or infinitely far, is there."""


def opacity_for(photos: int) -> float:
    """The published opacity at the start; of more than four photos, the one at which so many Gaussians in a row let as
    much light through as four do."""
    return OPACITIES[photos] if photos in OPACITIES else 1 - (1 - OPACITIES[4]) ** (4 / photos)


def depth_unit(views: Sequence[View], maps: Sequence[DepthMap]) -> float:
    """World units of one unit of the published constants: three quarters of the nearest depth that the dataset states
    for any photo, or else of the nearest known one (the first percentile of each photo)."""
    bounds = [v.bounds[0] for v in views if v.bounds is not None and v.bounds[0] > 0]
    if len(bounds) < len(views):
        known = [m.depth[m.measured] for m in maps if bool(m.measured.any())]
        bounds = [
            float(d.quantile(0.01) if len(d) < 1 << 24 else d[:: 1 + (len(d) >> 23)].quantile(0.01)) for d in known
        ]
    return min(bounds, default=NEAREST) / NEAREST


@dataclass(frozen=True)
class PublishedCoherent:
    """A `slots.Initializer`, the published CoherentGS: one Gaussian per pixel of all photos."""

    layers: int = 5
    """Depth layers of a photo."""
    alignment: Literal["published", "robust", "none"] = "published"
    """How relative depth is made that of the world. published: a scale and an offset of depth for each photo, by
    distances in the world (`align_views.align_by_world`). robust: of disparity, by errors in pixels
    (`align_views.align_by_disparity`). none: depth is taken as the prior has it."""
    opacity: float = 0.0
    """Opacity at the start; 0: as published for so many photos."""
    matching_size: int = 0
    """Long side of the photos that are matched for depth, px; 0: as large as is planned to take at most an eighth of
    the run, and at most 640."""

    def __call__(
        self, capture: Capture, sh_degree: int, seed: int, report: Reporter, priors: Priors | None = None
    ) -> Init:
        """Reads `priors.depth`.

        Raises SplatError where there are fewer than two photos, one has no pose, there is no depth prior, or it finds
        no depth in any photo.
        """
        if priors is None or priors.depth is None:
            raise SplatError("The published CoherentGS needs a depth prior.")
        views = capture.views
        if len(views) < 2 or not capture.posed:
            raise SplatError(
                f"coherent_published needs two photos with poses or more, and has {len(views)}: give more photos, or "
                "run the poses stage."
            )
        small = capture.resized(self.matching_size or MAX_MATCHING_SIZE).in_memory(torch.get_num_threads())
        maps = dense_maps(small, priors.depth(small, report, seed), report)
        unit = depth_unit(views, maps)
        disparities = [self._cleaned(i, v, m, unit, seed) for i, (v, m) in enumerate(zip(views, maps))]
        alignments = self._align(views, maps, [d for d, _ in disparities], unit, seed, report)
        parts, view_ids, pixels, rays = [], [], [], []
        clamped = 0
        for i, (view, found, (disparity, scale)) in enumerate(zip(views, maps, disparities)):
            depth = self._depth(disparity, scale, alignments[i])
            outside = ~((depth >= MIN_DEPTH * unit) & (depth <= FARTHEST * NEAREST * unit))
            clamped += int((depth < MIN_DEPTH * unit).sum())
            depth = torch.where(outside, depth.clamp(MIN_DEPTH * unit, FARTHEST * NEAREST * unit), depth)
            gaussians, ids = self._rows(view, depth, sh_degree, len(views))
            parts.append(gaussians)
            view_ids.append(torch.full((len(ids),), i))
            pixels.append(view.camera.pixel_centres().reshape(-1, 2)[ids].float())
            size = (view.camera.height, view.camera.width)
            confidence = interpolate(found.confidence[None, None], size, mode="nearest-exact").reshape(-1)[ids]
            layers = disparity_layers(disparity, self.layers).reshape(-1)[ids]
            rays.append(RayRows(layers, confidence, torch.ones(len(ids)), torch.ones(len(ids))))
        if clamped:
            report.warn(f"{clamped} aligned depths lay at or behind their cameras and were put before them")
        gaussians = Gaussians.cat(parts)
        report.info(f"{len(gaussians):,} Gaussians, one for each pixel of {len(views)} photos.")
        rows = RayRows(*(torch.cat([getattr(r, n) for r in rays]) for n in vars(rays[0])))
        return Init(gaussians, torch.cat(view_ids), torch.cat(pixels), rows, tuple(maps))

    # ----------------------------------------------------------------------------------------------------------- depth

    def relative_depth(self, index: int, depth: Float[Tensor, "h w"], unit: float, seed: int) -> Float[Tensor, "h w"]:
        """The depth of photo `index` before alignment; what a variant may change."""
        return depth

    def _cleaned(self, index: int, view: View, found: DepthMap, unit: float, seed: int) -> tuple[Tensor, float]:
        """Normalized disparity at the photo's size, edges sharpened; and the disparity that its 1.2 stands for."""
        relative = self.relative_depth(index, found.depth, unit, seed)
        size = (view.camera.height, view.camera.width)
        disparity = interpolate((1 / relative)[None, None], size, mode="bilinear", align_corners=False)[0, 0]
        return sharpen_edges(normalized_disparity(disparity)), float(disparity.amax())

    def _align(
        self,
        views: Sequence[View],
        maps: Sequence[DepthMap],
        disparities: Sequence[Tensor],
        unit: float,
        seed: int,
        report: Reporter,
    ) -> list[Alignment | None]:
        """For each photo the map from its values (disparity, or depth where it was aligned in the world) to depth;
        None: taken as it is."""
        cameras, poses = [v.camera for v in views], [v.pose for v in views]
        nothing: list[Alignment | None] = [None] * len(views)
        if self.alignment == "none":
            return nothing
        pairs = match_views(views, maps)
        if not pairs:
            report.warn("no pixel of any photo matches in another: depth is not aligned")
            return nothing
        if self.alignment == "published":
            aligned = list(align_by_world([1 / d for d in disparities], cameras, poses, pairs, unit, seed))
            return [a if a.scale > 0 else None for a in aligned]
        found = align_by_disparity(disparities, cameras, poses, pairs)
        left = [v.name for v, a in zip(views, found) if a is None]
        if left:
            names = ", ".join(left[:3]) + (" ..." if len(left) > 3 else "")
            report.warn(f"too few pixels match to align the depth of {len(left)} photos: {names}")
        return found

    def _depth(self, disparity: Tensor, scale: float, alignment: Alignment | None) -> Float[Tensor, "h w"]:
        """World units; may be anything."""
        if alignment is None:
            return 1 / ((disparity - 0.2) * scale).clamp_min(1e-12)
        if alignment.disparity:
            return 1 / (alignment.scale * disparity + alignment.offset).clamp_min(1e-12)
        return alignment.scale / disparity + alignment.offset

    def _rows(self, view: View, depth: Float[Tensor, "h w"], sh_degree: int, photos: int) -> tuple[Gaussians, Tensor]:
        """The Gaussians of the usable pixels of a photo, and their pixel ids."""
        photo, camera = view.load(), view.camera
        ids = torch.from_numpy(photo.usable()).reshape(-1).nonzero()[:, 0]
        z = depth.reshape(-1)[ids]
        points = camera.unproject(camera.pixel_centres().reshape(-1, 2)[ids].double(), z.double())
        n = len(ids)
        rgb = torch.from_numpy(photo.rgb).reshape(-1, 3)[ids].float() / 255
        gaussians = Gaussians(
            means=view.pose.apply(points).float(),
            quats_wxyz=torch.tensor([1.0, 0, 0, 0]).repeat(n, 1),
            log_scales=(FOOTPRINT / camera.fy * z).log()[:, None].repeat(1, 3).float(),
            logit_opacities=torch.logit(torch.full((n,), self.opacity or opacity_for(photos))),
            sh=rgb_to_sh(rgb, sh_degree),
        )
        return gaussians, ids


def dense_maps(small: Capture, maps: Sequence[DepthMap], report: Reporter) -> list[DepthMap]:
    """The maps with a depth at every pixel: completed where none was measured (`depth_completion`). Raises SplatError
    where no photo has any."""
    known = [m.depth[m.measured] for m in maps]
    if not any(len(k) for k in known):
        raise SplatError(
            "Dense matching found no depth in any photo: they must overlap, from different places. --method points "
            "starts from sparse points instead."
        )
    middle = torch.cat(known).median()
    out, without = [], []
    for view, found, own in zip(small.views, maps, known):
        if len(own):
            depth = ViewSurface(view, found, (view.camera.width, view.camera.height)).completed().depth
        else:
            without.append(view.name)
            depth = torch.full_like(found.depth, float(middle))
        usable = depth.isfinite() & (depth > 0)
        depth = torch.where(usable, depth, middle)
        out.append(replace(found, depth=depth, confidence=found.confidence.clamp(2 / 255, 1), min_probability=0.0))
    if without:
        names = ", ".join(without[:3]) + (" ..." if len(without) > 3 else "")
        report.warn(f"dense matching found no depth in {len(without)} photos, which start flat: {names}")
    return out
