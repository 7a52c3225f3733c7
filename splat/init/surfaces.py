"""What each photo knows of the surfaces it sees: the ground that dense initializers sample."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from functools import cached_property, lru_cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from splat.core.camera import Camera
from splat.core.capture import View
from splat.core.filling import filled
from splat.core.reproject import Agreement, Witness, agreement
from splat.core.slots import DepthMap
from splat.core.tangents import normals_of_depth, slopes_of_normals
from splat.native import bindings
from splat.native.ops import compiled


class Surface:
    """What one photo knows of the surfaces it sees, at its matching size."""

    def __init__(self, view: View, found: DepthMap, working_size: tuple[int, int]) -> None:
        """`view` at the size of the depth map; `working_size`: (width, height) it has for everyone else."""
        self.working_size, self.matched_size = working_size, (view.camera.width, view.camera.height)
        self.offset = (0, 0)
        """Pixels to the left and above that are not the photo's."""
        self.view, self.pose, self.neighbours = view, view.pose, found.neighbours
        photo = view.load()
        self.photo = torch.from_numpy(photo.rgb)
        """uint8 [h w 3]."""
        self.depth, self.confidence = found.depth, found.confidence
        self.usable = torch.from_numpy(photo.usable())
        self.rays = camera_rays(view.camera)
        """Unit directions of pixel centres in the camera's frame."""
        self.covered = self.usable & (found.confidence > 0)
        self.known = torch.where(self.covered, self.depth, 0)
        """Depth, 0 where it is not covered."""
        self.witness = Witness(view.camera, self.pose, self.known)
        assert found.normals_cam is not None
        self.normals = smoothed_normals(found.normals_cam, self.known)
        self.footprint = self.depth * (2 / (view.camera.fx + view.camera.fy))
        """World units per pixel across the ray."""
        cos = -(self.normals * self.rays).sum(2)
        self.resolution = cos.clamp(0.05, 1) / self.footprint
        """How finely the photo shows the surface: edge-on or far away less than from the front or near."""
        self.gain = torch.ones(3)
        """By which the photo is brighter than the mean of all, per channel."""

    @property
    def rgb(self) -> Float[Tensor, "h w 3"]:
        return self.photo.float() / 255

    @cached_property
    def sums(self) -> Int[Tensor, "h1 w1 3"]:
        """Of all pixels above and to the left: four of them tell the mean over any rectangle."""
        import cv2

        depth = cv2.CV_32S if self.photo.shape[:2].numel() < 2**31 // 255 else cv2.CV_64F
        return torch.from_numpy(cv2.integral(self.photo.numpy(), sdepth=depth))

    def seen_by(
        self, other: Surface, most_shift: float, most_difference: float, known: bool = True, pixels: bool = False
    ) -> Agreement:
        """What of this photo's depths another's agree with; of guessed ones too where not just what is `known`."""
        mine, theirs = (self.known, other.known) if known else (self.depth, other.depth)
        return agreement(
            *(self.view.camera, self.pose, mine, other.view.camera, other.pose, theirs),
            *(most_shift, most_difference),
            pixels=pixels,
        )

    def pixels(self, chosen: Int[Tensor, "k"]) -> Float[Tensor, "k 2"]:
        """Flat numbers of pixels -> pixels of the photo at its working size."""
        mine = self.view.camera.pixel_centres().reshape(-1, 2)[chosen].float() - torch.tensor(self.offset).float()
        return mine * mine.new_tensor(self.working_size) / mine.new_tensor(self.matched_size)

    def points(self, chosen: Int[Tensor, "k"]) -> Float[Tensor, "k 3"]:
        """World positions of pixels (flat numbers)."""
        pixels = self.view.camera.pixel_centres().float().reshape(-1, 2)[chosen]
        return self.pose.apply(self.view.camera.unproject(pixels, self.depth.reshape(-1)[chosen])).float()

    def sees(
        self, points: Float[Tensor, "k 3"]
    ) -> tuple[Float[Tensor, "k"], Int[Tensor, "k"], Int[Tensor, "k"], Bool[Tensor, "k"]]:
        """Of world points: the pixel's depth over theirs, its row and column (the nearest where they are outside), and
        whether they fall on a pixel whose depth is known."""
        inside = self.pose.inverse().apply(points)
        pixels = self.view.camera.project(inside)
        size = self.depth.shape[::-1]
        column, row = (t.nan_to_num().clamp(0, n - 1).long() for t, n in zip(pixels.unbind(1), size, strict=True))
        seen = (inside[:, 2] > 0) & self.view.camera.contains(pixels) & self.covered[row, column]
        return self.depth[row, column] / inside[:, 2], row, column, seen

    def unexplained(self, points: Float[Tensor, "n 3"], usual: float, cell: int = 16) -> Float[Tensor, "h w"]:
        """1 at pixels without a depth of their own, in cells of the photo into which fewer points of all photos fall
        than half the `usual` number per pixel; else 0."""
        h, w = self.depth.shape
        inside = self.pose.inverse().apply(points)
        pixels = self.view.camera.project(inside)
        seen = (inside[:, 2] > 0) & self.view.camera.contains(pixels)
        x, y = pixels.unbind(1)
        columns = math.ceil(w / cell)
        count = torch.zeros(math.ceil(h / cell) * columns)
        cells = (y[seen] / cell).long() * columns + (x[seen] / cell).long()
        count.index_add_(0, cells, torch.ones(len(cells)))
        taken = count > 0.5 * usual * cell**2
        grid = taken.reshape(-1, columns).repeat_interleave(cell, 0).repeat_interleave(cell, 1)[:h, :w]
        return (self.usable & ~self.covered & ~grid).float()

    def guessed(self, margin: float = 0.0) -> Surface:
        """The same photo with a depth everywhere: floors and walls go on where nothing was measured, and beyond its
        frame by `margin` times its size on every side, in the colours of its border."""
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
        other.confidence = framed(self.confidence * self.covered)
        slopes = framed(slopes_of_normals(old, self.depth, self.normals))
        other.depth = filled(framed(self.depth, 1.0), other.confidence, other.rgb, slopes)
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
        """Of the photo around each pixel, averaged over about the area its Gaussian stands for, at the photos' mean
        exposure."""
        reach = 2 ** spacing.clamp_min(1).log2().round().long().clamp(0, 4) // 2
        h, w = self.photo.shape[:2]
        top, left = (row - reach).clamp_min(0), (column - reach).clamp_min(0)
        down, right = (row + reach + 1).clamp_max(h), (column + reach + 1).clamp_max(w)
        area = ((down - top) * (right - left))[:, None]
        sums = self.sums
        total = sums[down, right] - sums[top, right] - sums[down, left] + sums[top, left]
        return (total / (255 * area)).float() / self.gain


def log_ratio(a: Float[Tensor, "n 3"], b: Float[Tensor, "n 3"], fewest: int = 200) -> Float[Tensor, "3"] | None:
    """The median of log(a / b) per channel over pixels that are neither dark nor burnt out; None where too few are."""
    fine = (torch.minimum(a, b).amin(1) > 0.08) & (torch.maximum(a, b).amax(1) < 0.92)
    ids = fine.nonzero()[:, 0]
    if len(ids) < fewest:
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
    normals: Float[Tensor, "h w 3"], known: Float[Tensor, "h w"], window: int = 9, most_difference: float = 0.03
) -> Float[Tensor, "h w 3"]:
    """Averages over every second row and column of windows, of pixels of known depth (not 0) at about that of the
    middle one."""
    h, w = known.shape
    reach = window // 2
    if compiled(normals, known):
        out = torch.empty(h, w, 3)
        bindings.call("splat_smooth_normals", h, w, normals.contiguous(), known, reach, most_difference, out)
        return out
    total = torch.zeros_like(normals)
    padded = torch.nn.functional.pad(normals, (0, 0, reach, reach, reach, reach))
    near = torch.nn.functional.pad(known, (reach, reach, reach, reach))
    for dy in range(0, window, 2):
        for dx in range(0, window, 2):
            depth = near[dy : dy + h, dx : dx + w]
            like = (depth > 0) & ((depth / known - 1).abs() < most_difference)
            total += torch.where(like[..., None], padded[dy : dy + h, dx : dx + w], 0)
    total = torch.where((total.norm(dim=2) > 1e-6)[..., None], total, normals)
    return torch.nn.functional.normalize(total, dim=2)
