"""The surfaces that each photo sees, by its depth map: what dense initializers sample."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from functools import cached_property, lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from splat.core.camera import Camera
from splat.core.capture import View
from splat.core.slots import DepthMap
from splat.geometry.depth_completion import complete_depth
from splat.geometry.reproject import (
    Consistency,
    DepthLookup,
    PosedDepth,
    check_consistency,
    look_up_depth,
    pixel_indices,
    project_points,
)
from splat.geometry.surface_normals import normals_of_depth, slopes_of_normals
from splat.native import bindings
from splat.native.ops import compiled


class ViewSurface:
    """The surfaces that one photo sees, per pixel at its matching size."""

    def __init__(self, view: View, found: DepthMap, working_size: tuple[int, int]) -> None:
        """`view` at the size of the depth map; `working_size`: its (width, height) in the run, which
        `pixels` refers to."""
        self.working_size, self.matched_size = working_size, (view.camera.width, view.camera.height)
        self.offset = (0, 0)
        """Columns on the left and rows at the top that extend beyond the photo's frame (see `completed`)."""
        self.view, self.pose, self.neighbours = view, view.pose, found.neighbours
        photo = view.load()
        self.photo = torch.from_numpy(photo.rgb)
        """uint8 [h w 3]."""
        self.depth, self.confidence = found.depth, found.confidence
        self.usable = torch.from_numpy(photo.usable())
        self.rays = camera_rays(view.camera)
        """Unit directions of pixel centres in the camera's frame."""
        self.covered = self.usable & found.measured
        self.predicted = None if found.predicted is None else self.usable & found.predicted
        self.known = torch.where(self.covered, self.depth, 0)
        """Depth, 0 where none was measured."""
        self.posed_depth = PosedDepth(view.camera, self.pose, self.known)
        assert found.normals_cam is not None
        self.normals = smoothed_normals(found.normals_cam, self.known)
        self.footprint = self.depth * (2 / (view.camera.fx + view.camera.fy))
        """World units per pixel across the ray."""
        cos = -(self.normals * self.rays).sum(2)
        self.resolution = cos.clamp(0.05, 1) / self.footprint
        """Pixels per world unit along the surface: fewer at grazing angles and far away."""
        self.gain = torch.ones(3)
        """By which the photo is brighter than the mean of all, per channel."""

    @property
    def rgb(self) -> Float[Tensor, "h w 3"]:
        return self.photo.float() / 255

    @cached_property
    def sums(self) -> Int[Tensor, "h1 w1 3"]:
        """Integral image of the photo: four of its values give the sum over any rectangle."""
        import cv2

        depth = cv2.CV_32S if self.photo.shape[:2].numel() < 2**31 // 255 else cv2.CV_64F
        return torch.from_numpy(cv2.integral(self.photo.numpy(), sdepth=depth))

    def consistency(
        self,
        other: ViewSurface,
        max_shift: float,
        max_depth_difference: float,
        measured_only: bool = True,
        pixels: bool = False,
    ) -> Consistency:
        """Which of this photo's depths are consistent with another's (`reproject.check_consistency`); completed depths
        too unless `measured_only`."""
        own, others = (self.known, other.known) if measured_only else (self.depth, other.depth)
        return check_consistency(
            *(self.view.camera, self.pose, own, other.view.camera, other.pose, others),
            *(max_shift, max_depth_difference),
            pixels=pixels,
        )

    def pixels(self, pixel_ids: Int[Tensor, "k"]) -> Float[Tensor, "k 2"]:
        """Pixel ids (row x width + column) -> pixel coordinates of the photo at its working size."""
        matched = self.view.camera.pixel_centres().reshape(-1, 2)[pixel_ids].float() - torch.tensor(self.offset).float()
        return matched * matched.new_tensor(self.working_size) / matched.new_tensor(self.matched_size)

    def pixel_ids(self, pixels: Float[Tensor, "k 2"]) -> Int[Tensor, "k"]:
        """The inverse of `pixels`: of the pixel that each coordinate falls into."""
        h, w = self.depth.shape
        matched = pixels * pixels.new_tensor(self.matched_size) / pixels.new_tensor(self.working_size)
        row, column = pixel_indices(matched + matched.new_tensor(self.offset), w, h)
        return row * w + column

    def points(self, pixel_ids: Int[Tensor, "k"]) -> Float[Tensor, "k 3"]:
        """World positions of pixels, float32."""
        pixels = self.view.camera.pixel_centres().float().reshape(-1, 2)[pixel_ids]
        return self.pose.apply(self.view.camera.unproject(pixels, self.depth.reshape(-1)[pixel_ids])).float()

    def look_up(self, points: Float[Tensor, "k 3"]) -> DepthLookup:
        """The photo's measured depth at world points."""
        return look_up_depth(self.view.camera, self.pose, self.known, points)

    def unexplained(self, points: Float[Tensor, "n 3"], expected: float, cell: int = 16) -> Float[Tensor, "h w"]:
        """1 at usable pixels without a measured depth, in square cells (`cell` px) of the photo into which fewer of the
        sampled `points` of all photos fall than half of `expected` per pixel; else 0."""
        h, w = self.depth.shape
        projected = project_points(self.view.camera, self.pose, points)
        seen = projected.in_frame
        x, y = projected.pixels.unbind(1)
        columns = math.ceil(w / cell)
        count = torch.zeros(math.ceil(h / cell) * columns)
        cells = (y[seen] / cell).long() * columns + (x[seen] / cell).long()
        count.index_add_(0, cells, torch.ones(len(cells)))
        taken = count > 0.5 * expected * cell**2
        grid = taken.reshape(-1, columns).repeat_interleave(cell, 0).repeat_interleave(cell, 1)[:h, :w]
        return (self.usable & ~self.covered & ~grid).float()

    def completed(self, margin: float = 0.0) -> ViewSurface:
        """The same photo with a depth at every pixel (`depth_completion.complete_depth`, except where a prior predicts
        it), its frame extended by `margin` times its size on every side, in the colours of its border."""
        other = copy.copy(self)
        other.__dict__.pop("sums", None)
        h, w = self.depth.shape
        left, top = round(margin * w), round(margin * h)
        old = self.view.camera
        camera = Camera(old.fx, old.fy, old.cx + left, old.cy + top, w + 2 * left, h + 2 * top)

        def framed(values: Tensor, around: float = 0) -> Tensor:
            out = values.new_full((*values.shape[:-2], camera.height, camera.width), around)
            out[..., top : top + h, left : left + w] = values
            return out

        rows, columns = torch.arange(-top, h + top).clamp(0, h - 1), torch.arange(-left, w + left).clamp(0, w - 1)
        other.photo = self.photo[rows][:, columns].contiguous()
        other.usable = self.usable[rows][:, columns]
        other.view, other.rays, other.offset = replace(self.view, camera=camera), camera_rays(camera), (left, top)
        other.covered, other.known = framed(self.covered), framed(self.known)
        other.confidence = framed(self.confidence * self.usable)
        slopes = framed(slopes_of_normals(old, self.depth, self.normals))
        kept = other.covered if self.predicted is None else other.covered | framed(self.predicted)
        other.depth = complete_depth(framed(self.depth, 1.0), other.confidence, other.rgb, slopes, kept)
        measured = framed(self.normals.permute(2, 0, 1)).permute(1, 2, 0)
        other.normals = torch.where(other.covered[..., None], measured, normals_of_depth(camera, other.depth))
        other.footprint = other.depth * (2 / (camera.fx + camera.fy))
        return other

    def importance(self, detail: float) -> Float[Tensor, "h w"]:
        """1 where the photo is flat, up to `detail` where it has the most edges."""
        grey = self.rgb.mean(2)
        dx = torch.nn.functional.pad((grey[:, 2:] - grey[:, :-2]).abs() / 2, (1, 1))
        dy = torch.nn.functional.pad((grey[2:] - grey[:-2]).abs() / 2, (0, 0, 1, 1))
        edges = (dx + dy)[None, None]
        edges = torch.nn.functional.avg_pool2d(edges, 5, 1, 2, count_include_pad=False)[0, 0]
        return 1 + (detail - 1) * (edges / 0.08).clamp(0, 1)

    def colours(
        self, row: Int[Tensor, "k"], column: Int[Tensor, "k"], spacing: Float[Tensor, "k"]
    ) -> Float[Tensor, "k 3"]:
        """Colours of the photo at pixels, averaged over about the area that a Gaussian there stands for (`spacing`,
        px), at the photos' mean exposure."""
        reach = 2 ** spacing.clamp_min(1).log2().round().long().clamp(0, 4) // 2
        h, w = self.photo.shape[:2]
        top, left = (row - reach).clamp_min(0), (column - reach).clamp_min(0)
        down, right = (row + reach + 1).clamp_max(h), (column + reach + 1).clamp_max(w)
        area = ((down - top) * (right - left))[:, None]
        sums = self.sums
        total = sums[down, right] - sums[top, right] - sums[down, left] + sums[top, left]
        return (total / (255 * area)).float() / self.gain


def log_ratio(a: Float[Tensor, "n 3"], b: Float[Tensor, "n 3"], min_pixels: int = 200) -> Float[Tensor, "3"] | None:
    """The median of log(a / b) per channel over pixels that are neither dark nor burnt out; None where too few are."""
    usable = (torch.minimum(a, b).amin(1) > 0.08) & (torch.maximum(a, b).amax(1) < 0.92)
    ids = usable.nonzero()[:, 0]
    if len(ids) < min_pixels:
        return None
    return (a[ids] / b[ids]).T.contiguous().median(1).values.log()


def gains(count: int, pairs: list[tuple[int, int, Float[Tensor, "3"]]]) -> Float[Tensor, "v 3"]:
    """Brightness of each of `count` photos relative to their mean, per channel, from logarithms of ratios between
    pairs: the least-squares solution (as Brown & Lowe 2007 for panoramas), held near 1 where little is known."""
    system, right = 0.1 * torch.eye(count), torch.zeros(count, 3)
    for i, j, ratio in pairs:
        system[i, i] += 1
        system[j, j] += 1
        system[i, j] -= 1
        system[j, i] -= 1
        right[i] += ratio
        right[j] -= ratio
    logs = torch.linalg.solve(system, right)
    return (logs - logs.mean(0)).exp()


@lru_cache(maxsize=4)
def camera_rays(camera: Camera) -> Float[Tensor, "h w 3"]:
    """Unit directions of pixel centres in the camera's frame; views that share a camera share them."""
    pixels = camera.pixel_centres().float()
    return torch.nn.functional.normalize(camera.unproject(pixels, torch.ones(pixels.shape[:2])), dim=2)


def smoothed_normals(
    normals: Float[Tensor, "h w 3"], known: Float[Tensor, "h w"], window: int = 9, max_depth_difference: float = 0.03
) -> Float[Tensor, "h w 3"]:
    """Averages over every second row and column of windows, of pixels of known depth (not 0) at about that of the
    middle one."""
    h, w = known.shape
    reach = window // 2
    if compiled(normals, known):
        out = torch.empty(h, w, 3)
        bindings.call("splat_smooth_normals", h, w, normals.contiguous(), known, reach, max_depth_difference, out)
        return out
    total = torch.zeros_like(normals)
    padded = torch.nn.functional.pad(normals, (0, 0, reach, reach, reach, reach))
    near = torch.nn.functional.pad(known, (reach, reach, reach, reach))
    for dy in range(0, window, 2):
        for dx in range(0, window, 2):
            depth = near[dy : dy + h, dx : dx + w]
            like = (depth > 0) & ((depth / known - 1).abs() < max_depth_difference)
            total += torch.where(like[..., None], padded[dy : dy + h, dx : dx + w], 0)
    total = torch.where((total.norm(dim=2) > 1e-6)[..., None], total, normals)
    return torch.nn.functional.normalize(total, dim=2)
