"""Depth, normal and confidence per pixel of posed photos, without learned weights: PatchMatch over slanted planes.

Each photo's depth map is searched from coarse to fine against a few others (`neighbours`): fronto-parallel planes at
equal steps of inverse depth first, then planes spread over a chessboard of pixels and are varied (Bleyer et al. 2011,
Galliani et al. 2015), judged by correlation in the photos that see them best (`native/shared/stereo.h`). What two depth
maps agree on is kept.
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
    """A photo to match: its grey values [h w] in 0 ... 255, camera and pose."""

    camera: Camera
    world_from_cam: Rigid
    grey: Float[Tensor, "h w"]
    depths: tuple[float, float]
    """Nearest and farthest depth to look at."""

    @cached_property
    def texels(self) -> Int[Tensor, "h w"]:
        return texels_of(self.grey)


@dataclass(frozen=True, eq=False)
class Planes:
    """A searched depth map: per pixel an inverse depth, its slopes per pixel, and the mean cost of the best photos."""

    planes: Float[Tensor, "3 h w"]
    cost: Float[Tensor, "h w"]

    @property
    def depth(self) -> Float[Tensor, "h w"]:
        return 1 / self.planes[0].clamp_min(1e-12)

    def normals(self, camera: Camera) -> Float[Tensor, "h w 3"]:
        """Of the planes, in the camera's frame, towards the camera."""
        return normals_of_slopes(camera, self.planes[0], self.planes[1:])


@dataclass(frozen=True)
class Stereo:
    """Dense stereo between posed photos."""

    sources: int = 4
    """Photos that each photo is matched with, at most 8."""
    best: int = 2
    """How many of them must like a plane, at most 4: what is hidden in some is seen in others."""
    hypotheses: int = 64
    """Depths tried at every pixel of the coarsest photo."""
    rounds: tuple[int, int, int] = (4, 2, 2)
    """Rounds of search at a quarter, half and the whole of the photos' size."""
    most_cost: float = 0.5
    """1 - correlation above which a pixel is not believed."""
    most_shift: float = 1.5
    """Pixels by which a point may miss where it came from, there and back through another photo's depth."""
    most_difference: float = 0.02
    """Relative difference of depths that counts as agreement."""
    least_parallax: float = 0.5
    """Degrees between the rays of two photos that agree: with less they would agree on any depth."""
    support: int = 1
    """Other photos that must agree."""
    smallest: int = 60
    """Connected pixels of similar depth, fewer of which are not believed."""

    def __call__(self, capture: Capture, report: Reporter, seed: int = 0) -> list[DepthMap]:
        """A metric depth map per view of the capture at its working size, in its order.

        Raises SplatError where there are no compiled kernels or views have no pose.
        """
        if not 1 <= self.best <= min(4, self.sources) or self.sources > 8:
            raise SplatError(
                f"--stereo.sources {self.sources} and --stereo.best {self.best} cannot be: at most 8 photos, the best "
                "1 to 4 of them."
            )
        found = overlap(capture)
        views = []
        for i, view in enumerate(capture.views):
            assert view.world_from_cam is not None
            near, far = found.depths[i].tolist()
            views.append(StereoView(view.camera, view.world_from_cam, grey_of(view.rgb()), (near, far)))
        return self.match(views, self.pairs(found), report, seed)

    def pairs(self, found: Overlap) -> list[list[int]]:
        """For each view those that it is matched with."""
        return [found.neighbours(i, self.sources) for i in range(len(found.score))]

    def match(
        self, views: Sequence[StereoView], pairs: Sequence[Sequence[int]], report: Reporter, seed: int = 0
    ) -> list[DepthMap]:
        """The same for photos in memory; `pairs[i]` are the views that view i is matched with."""
        if reason := build.unavailable():
            raise SplatError(f"Dense stereo needs the compiled kernels: {reason}")
        pyramids = [_pyramid(v, len(self.rounds)) for v in views]
        maps = []
        for i, others in enumerate(pairs):
            generator = torch.Generator().manual_seed(seed * 1_000_003 + i)
            maps.append(self._search(pyramids, i, others, generator))
            report.progress(i + 1, len(views), what="stereo")
        depths = [m.depth for m in maps]
        return [self._believe(views, maps, depths, i, others) for i, others in enumerate(pairs)]

    # ---------------------------------------------------------------------------------------------------- searching

    def _search(
        self, pyramids: list[list[StereoView]], i: int, others: Sequence[int], generator: torch.Generator
    ) -> Planes:
        """Coarse to fine; all pixels are the middle of the range and as bad as can be where there is nobody to ask."""
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
                planes = search.judged(_finer(planes, view.camera))
                spread, turn = spread / 2, turn / 2
            for k in range(self.rounds[levels - 1 - level]):
                planes = search.round(planes, spread * 0.5**k, turn * 0.5**k, generator)
        if planes is None:
            c = pyramids[i][0].camera
            flat = torch.zeros(3, c.height, c.width)
            flat[0] = 0.5 * (low + high)
            return Planes(flat, torch.full((c.height, c.width), 2.0))
        return planes

    # ---------------------------------------------------------------------------------------------------- believing

    def _believe(
        self, views: Sequence[StereoView], maps: list[Planes], depths: list[Tensor], i: int, others: Sequence[int]
    ) -> DepthMap:
        """Confidence of a depth map: 0 where too few others agree, else 1 - cost, more with more agreement."""
        depth = depths[i]
        agreeing = torch.zeros_like(depth)
        for o in others:
            agreeing += check_consistency(
                *(views[i].camera, views[i].world_from_cam, depth),
                *(views[o].camera, views[o].world_from_cam, depths[o]),
                *(self.most_shift, self.most_difference, self.least_parallax),
            ).consistent
        fine = (agreeing >= min(self.support, max(1, len(others)))) & (maps[i].cost < self.most_cost)
        low, high = views[i].depths
        fine &= (depth > low) & (depth < high)
        fine &= large_enough(depth, fine, self.smallest)
        share = agreeing / max(1, len(others))
        confidence = torch.where(fine, (1 - maps[i].cost) * (0.5 + 0.5 * share), 0).clamp(0, 1)
        return DepthMap(depth, confidence, "metric", maps[i].normals(views[i].camera), tuple(others))


class _Search:
    """One photo's search at one size."""

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

    def judged(self, planes: Tensor) -> Planes:
        """Planes as they are, with their costs."""
        out = Planes(planes.contiguous(), torch.empty(planes.shape[1:]))
        self._run("splat_stereo_search", 0.0, 0.0, None, 0, out.planes, out.cost)
        return out

    def sweep(self, hypotheses: int) -> Planes:
        """The best of planes that face the camera, at equal steps of inverse depth."""
        h, w = self.view.grey.shape
        out = Planes(torch.empty(3, h, w), torch.empty(h, w))
        self._run("splat_stereo_sweep", hypotheses, out.planes, out.cost)
        return out

    def round(self, planes: Planes, spread: float, turn: float, generator: torch.Generator) -> Planes:
        """Both halves of the chessboard once."""
        out = Planes(planes.planes.clone(), planes.cost.clone())
        noise = torch.empty_like(out.planes).uniform_(-1, 1, generator=generator)
        for parity in (0, 1):
            self._run("splat_stereo_search", spread, turn, noise, parity, out.planes, out.cost)
        return out


def grey_of(rgb: Float[Tensor, "h w 3"]) -> Float[Tensor, "h w"]:
    """Luma of Rec. 601 in 0 ... 255."""
    return 255 * (rgb @ rgb.new_tensor([0.299, 0.587, 0.114]))


def texels_of(grey: Float[Tensor, "h w"]) -> Int[Tensor, "h w"]:
    """Per pixel the bytes of itself and its right, lower and lower right neighbours: one read per interpolation."""
    g = grey.round().clamp(0, 255).to(torch.int32)
    right, down = torch.cat([g[:, 1:], g[:, -1:]], 1), torch.cat([g[1:], g[-1:]], 0)
    corner = torch.cat([down[:, 1:], down[:, -1:]], 1)
    return g | right << 8 | down << 16 | corner << 24


def _pyramid(view: StereoView, levels: int) -> list[StereoView]:
    """Full size first, each level half of the one before."""
    out = [view]
    for _ in range(levels - 1):
        last = out[-1]
        camera = last.camera.resized(max(1, last.camera.width // 2), max(1, last.camera.height // 2))
        grey = torch.nn.functional.interpolate(last.grey[None, None], (camera.height, camera.width), mode="area")
        out.append(StereoView(camera, view.world_from_cam, grey[0, 0].contiguous(), view.depths))
    return out


def _finer(planes: Planes, camera: Camera) -> Float[Tensor, "3 h w"]:
    """Each pixel of the finer photo takes the plane of the coarser one that it lies in, at its own place."""
    h, w = planes.cost.shape
    sy, sx = h / camera.height, w / camera.width
    y = ((torch.arange(camera.height) + 0.5) * sy)[:, None].expand(-1, camera.width)
    x = ((torch.arange(camera.width) + 0.5) * sx)[None].expand(camera.height, -1)
    row, column = y.floor().long().clamp(0, h - 1), x.floor().long().clamp(0, w - 1)
    at, gx, gy = planes.planes[:, row, column]
    return torch.stack([at + gx * (x - column - 0.5) + gy * (y - row - 0.5), gx * sx, gy * sy])


def large_enough(depth: Float[Tensor, "h w"], fine: Tensor, smallest: int) -> Tensor:
    """Without islands of fewer than `smallest` pixels whose depths are alike (within 2 % of their neighbours')."""
    import cv2
    import numpy as np

    if smallest <= 1:
        return fine
    # Speckles are found on logarithms, in steps of a tenth of a percent, of which a neighbour may differ by twenty.
    levels = (1000 * depth.clamp_min(1e-9).log()).round()
    levels = (levels - levels[fine].min() + 1 if bool(fine.any()) else levels).clamp(0, 32_000)
    image = np.ascontiguousarray(torch.where(fine, levels, 0).numpy().astype(np.int16))
    cv2.filterSpeckles(image, 0, smallest, 20)
    return fine & torch.from_numpy(image > 0)
