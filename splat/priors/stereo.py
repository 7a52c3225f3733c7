"""Depth, normal and confidence per pixel of posed photos, without learned weights: PatchMatch stereo.

The depth map of each photo is computed coarse to fine against a few source photos (`neighbours`). At the coarsest size
a plane sweep over inverse depth initializes it; then slanted planes are propagated in a checkerboard pattern and
perturbed at random (Bleyer et al. 2011, Galliani et al. 2015). The cost of a plane is 1 - NCC, averaged over the best
source photos (`native/shared/stereo.h`). Depths that are consistent with those of other photos get a confidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from splat.core.camera import Camera
from splat.core.capture import Capture
from splat.core.errors import SplatError
from splat.core.geometry import Rigid
from splat.core.slots import DepthMap, Reporter
from splat.geometry.reproject import check_consistency, pixel_transfer
from splat.geometry.surface_normals import normals_of_slopes
from splat.native import bindings, build
from splat.priors.neighbours import Overlap, overlap


@dataclass(frozen=True, eq=False)
class StereoView:
    """A photo to match: grey values in 0 ... 255, camera and pose."""

    camera: Camera
    world_from_cam: Rigid
    grey: Float[Tensor, "h w"]
    depths: tuple[float, float]
    """Range of the search: nearest and farthest depth (z, world units)."""

    @cached_property
    def texels(self) -> Int[Tensor, "h w"]:
        return texels_of(self.grey)


@dataclass(frozen=True, eq=False)
class Planes:
    """A plane per pixel: inverse depth and its derivatives by x and y per pixel; and the cost, averaged over the best
    source photos."""

    planes: Float[Tensor, "3 h w"]
    cost: Float[Tensor, "h w"]

    @property
    def depth(self) -> Float[Tensor, "h w"]:
        return 1 / self.planes[0].clamp_min(1e-12)

    def normals(self, camera: Camera) -> Float[Tensor, "h w 3"]:
        """Unit normals of the planes in the camera frame, facing the camera."""
        return normals_of_slopes(camera, self.planes[0], self.planes[1:])


@dataclass(frozen=True)
class Stereo:
    """PatchMatch stereo between posed photos."""

    sources: int = 4
    """Number of source photos for each photo, at most 8."""
    best: int = 2
    """The cost is the mean over this many best source photos, at most 4: robust to occlusion in the others."""
    hypotheses: int = 64
    """Depths of the plane sweep at the coarsest size."""
    rounds: tuple[int, int, int] = (4, 2, 2)
    """Rounds of PatchMatch at a quarter, half and full size."""
    max_cost: float = 0.5
    """Largest cost (1 - NCC) of a reliable pixel."""
    max_shift: float = 1.5
    """Largest forward-backward reprojection error through the depth map of another photo, px."""
    max_difference: float = 0.02
    """Largest relative difference between consistent depths."""
    min_parallax: float = 0.5
    """Smallest angle between the rays of two consistent photos, degrees: below it every depth would be consistent."""
    support: int = 1
    """Number of other photos that must be consistent."""
    smallest: int = 60
    """Smallest connected region of similar depth, px: smaller ones are removed as speckles."""

    def __call__(self, capture: Capture, report: Reporter, seed: int = 0) -> list[DepthMap]:
        """A metric depth map per view of the capture, at the working size.

        Raises SplatError without compiled kernels, ValueError where a view has no pose.
        """
        if not 1 <= self.best <= min(4, self.sources) or self.sources > 8:
            raise SplatError(
                f"--stereo.sources {self.sources} and --stereo.best {self.best} are invalid: give at most 8 sources "
                "and 1 to 4 best of them."
            )
        found = overlap(capture)
        views = []
        for i, view in enumerate(capture.views):
            assert view.world_from_cam is not None
            near, far = found.depths[i].tolist()
            views.append(StereoView(view.camera, view.world_from_cam, grey_of(view.rgb()), (near, far)))
        return self.match(views, self.pairs(found), report, seed)

    def pairs(self, found: Overlap) -> list[list[int]]:
        """For each view the indices of its source views."""
        return [found.neighbours(i, self.sources) for i in range(len(found.score))]

    def match(
        self, views: Sequence[StereoView], pairs: Sequence[Sequence[int]], report: Reporter, seed: int = 0
    ) -> list[DepthMap]:
        """`__call__` for photos in memory; `pairs[i]` are the indices of the source views of view i."""
        if reason := build.unavailable():
            raise SplatError(f"Dense stereo needs the compiled kernels: {reason}")
        pyramids = [_pyramid(v, len(self.rounds)) for v in views]
        maps = []
        for i, others in enumerate(pairs):
            generator = torch.Generator().manual_seed(seed * 1_000_003 + i)
            maps.append(self._search(pyramids, i, others, generator))
            report.progress(i + 1, len(views), what="stereo")
        depths = [m.depth for m in maps]
        return [self._depth_map(views, maps, depths, i, others) for i, others in enumerate(pairs)]

    # ---------------------------------------------------------------------------------------------------- search

    def _search(
        self, pyramids: list[list[StereoView]], i: int, others: Sequence[int], generator: torch.Generator
    ) -> Planes:
        """The planes of view i, coarse to fine. Without source views: mid-range depth and the largest cost."""
        levels = len(self.rounds)
        low, high = (1 / d for d in reversed(pyramids[i][0].depths))
        planes: Planes | None = None
        for level in reversed(range(levels)):
            view = pyramids[i][level]
            if not others:
                continue
            search = _Search(view, [pyramids[o][level] for o in others], min(self.best, len(others)), low, high)
            if planes is None:
                planes = search.sweep(self.hypotheses)
                spread, turn = 1.0 / self.hypotheses, 1.0
            else:
                planes = search.with_costs(_upsampled(planes, view.camera))
                spread, turn = spread / 2, turn / 2
            for k in range(self.rounds[levels - 1 - level]):
                planes = search.round(planes, spread * 0.5**k, turn * 0.5**k, generator)
        if planes is None:
            c = pyramids[i][0].camera
            flat = torch.zeros(3, c.height, c.width)
            flat[0] = 0.5 * (low + high)
            return Planes(flat, torch.full((c.height, c.width), 2.0))
        return planes

    # ---------------------------------------------------------------------------------------------------- consistency

    def _depth_map(
        self, views: Sequence[StereoView], maps: list[Planes], depths: list[Tensor], i: int, others: Sequence[int]
    ) -> DepthMap:
        """The depth map of view i. Confidence is 0 where too few others are consistent, else (1 - cost) x (0.5 + 0.5 x
        the fraction of consistent ones)."""
        depth = depths[i]
        consistent = torch.zeros_like(depth)
        for o in others:
            consistent += check_consistency(
                *(views[i].camera, views[i].world_from_cam, depth),
                *(views[o].camera, views[o].world_from_cam, depths[o]),
                *(self.max_shift, self.max_difference, self.min_parallax),
            ).consistent
        reliable = (consistent >= min(self.support, max(1, len(others)))) & (maps[i].cost < self.max_cost)
        low, high = views[i].depths
        reliable &= (depth > low) & (depth < high)
        reliable &= without_speckles(depth, reliable, self.smallest)
        share = consistent / max(1, len(others))
        confidence = torch.where(reliable, (1 - maps[i].cost) * (0.5 + 0.5 * share), 0).clamp(0, 1)
        return DepthMap(depth, confidence, "metric", maps[i].normals(views[i].camera), tuple(others))


class _Search:
    """PatchMatch of one photo at one size."""

    def __init__(self, view: StereoView, sources: list[StereoView], best: int, low: float, high: float) -> None:
        self.view, self.best, self.low, self.high = view, best, low, high
        self.texels = [s.texels for s in sources]
        sizes = [(t.data_ptr(), s.camera.width, s.camera.height) for t, s in zip(self.texels, sources, strict=True)]
        self.table = bindings.int64s(x for row in sizes for x in row)
        world_from_view = view.world_from_cam
        transfers = [
            pixel_transfer(view.camera, s.camera, s.world_from_cam.inverse() @ world_from_view) for s in sources
        ]
        self.warps = bindings.doubles(x for t in transfers for x in t.tolist())
        self.grey = view.grey.contiguous()

    def _run(self, name: str, *arguments: float | int | Tensor | None) -> None:
        c = self.view.camera
        bindings.call(
            name,
            *(c.height, c.width, self.grey, c.fx, c.fy, c.cx, c.cy, len(self.texels), self.table, self.warps),
            *(self.best, self.low, self.high),
            *arguments,
        )

    def with_costs(self, planes: Tensor) -> Planes:
        """Unchanged planes with their costs."""
        out = Planes(planes.contiguous(), torch.empty(planes.shape[1:]))
        self._run("splat_stereo_search", 0.0, 0.0, None, 0, out.planes, out.cost)
        return out

    def sweep(self, hypotheses: int) -> Planes:
        """The plane sweep: the best of `hypotheses` fronto-parallel planes at equal steps of inverse depth."""
        h, w = self.view.grey.shape
        out = Planes(torch.empty(3, h, w), torch.empty(h, w))
        self._run("splat_stereo_sweep", hypotheses, out.planes, out.cost)
        return out

    def round(self, planes: Planes, spread: float, turn: float, generator: torch.Generator) -> Planes:
        """One round of propagation and perturbation, over both colours of the checkerboard."""
        out = Planes(planes.planes.clone(), planes.cost.clone())
        noise = torch.empty_like(out.planes).uniform_(-1, 1, generator=generator)
        for parity in (0, 1):
            self._run("splat_stereo_search", spread, turn, noise, parity, out.planes, out.cost)
        return out


def sweep(view: StereoView, sources: Sequence[StereoView], best: int, hypotheses: int) -> Planes:
    """The best of `hypotheses` fronto-parallel planes for each pixel, at equal steps of inverse depth over the view's
    range; costs are means over the `best` source photos."""
    near, far = view.depths
    return _Search(view, list(sources), best, 1 / far, 1 / near).sweep(hypotheses)


def grey_of(rgb: Float[Tensor, "h w 3"]) -> Float[Tensor, "h w"]:
    """Luma (Rec. 601) in 0 ... 255 of colours in [0, 1]."""
    return 255 * (rgb @ rgb.new_tensor([0.299, 0.587, 0.114]))


def texels_of(grey: Float[Tensor, "h w"]) -> Int[Tensor, "h w"]:
    """The grey values of each pixel and its right, lower and lower right neighbours, packed into 32 bits: a bilinear
    interpolation reads memory once."""
    g = grey.round().clamp(0, 255).to(torch.int32)
    right, down = torch.cat([g[:, 1:], g[:, -1:]], 1), torch.cat([g[1:], g[-1:]], 0)
    corner = torch.cat([down[:, 1:], down[:, -1:]], 1)
    return g | right << 8 | down << 16 | corner << 24


def _pyramid(view: StereoView, levels: int) -> list[StereoView]:
    """The view at full size first, each level half the size of the one before."""
    out = [view]
    for _ in range(levels - 1):
        last = out[-1]
        camera = last.camera.resized(max(1, last.camera.width // 2), max(1, last.camera.height // 2))
        grey = torch.nn.functional.interpolate(last.grey[None, None], (camera.height, camera.width), mode="area")
        out.append(StereoView(camera, view.world_from_cam, grey[0, 0].contiguous(), view.depths))
    return out


def _upsampled(planes: Planes, camera: Camera) -> Float[Tensor, "3 h w"]:
    """Planes at the size of `camera`: each pixel takes the plane of the coarser pixel that contains it."""
    h, w = planes.cost.shape
    sy, sx = h / camera.height, w / camera.width
    y = ((torch.arange(camera.height) + 0.5) * sy)[:, None].expand(-1, camera.width)
    x = ((torch.arange(camera.width) + 0.5) * sx)[None].expand(camera.height, -1)
    row, column = y.floor().long().clamp(0, h - 1), x.floor().long().clamp(0, w - 1)
    at, gx, gy = planes.planes[:, row, column]
    return torch.stack([at + gx * (x - column - 0.5) + gy * (y - row - 0.5), gx * sx, gy * sy])


def without_speckles(depth: Float[Tensor, "h w"], mask: Tensor, smallest: int) -> Tensor:
    """`mask` [h w] without connected regions of fewer than `smallest` pixels. Neighbours are connected where their
    depths differ by less than 2 %."""
    import cv2
    import numpy as np

    if smallest <= 1:
        return mask
    # cv2.filterSpeckles works on integers: logarithms of depth in steps of 0.1 %, of which neighbours may differ by 20.
    levels = (1000 * depth.clamp_min(1e-9).log()).round()
    levels = (levels - levels[mask].min() + 1 if bool(mask.any()) else levels).clamp(0, 32_000)
    image = np.ascontiguousarray(torch.where(mask, levels, 0).numpy().astype(np.int16))
    cv2.filterSpeckles(image, 0, smallest, 20)
    return mask & torch.from_numpy(image > 0)
