"""Dense matching of posed photos without learned weights: by stereo depth, or by optical flow along epipolar lines.

`priors/roma.py` is the learned matcher.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from splat.core.camera import Camera
from splat.core.capture import Capture, View
from splat.core.errors import SplatError
from splat.core.slots import DenseMatch, Reporter
from splat.geometry.reproject import check_consistency
from splat.priors.neighbours import visibility
from splat.priors.stereo import Stereo
from splat.priors.stereo_search import grey_of

MAX_DISTANCES = 2_000_000
"""Distances between grid nodes and sparse points that are computed at a time (16 bytes each)."""


@dataclass(frozen=True)
class StereoMatcher:
    """Matches by stereo depth: pixels are reprojected with their depth and checked against the depth of the other view
    (forward-backward consistency)."""

    stereo: Stereo = field(default_factory=Stereo)
    """Computes the depth maps."""
    matching_size: int = 640
    """Long side at which photos are matched, px."""
    max_shift: float = 1.5
    """Largest forward-backward reprojection error, px at the matching size."""
    max_difference: float = 0.02
    """Largest relative difference between the two depths."""

    def __call__(
        self, capture: Capture, pairs: Sequence[tuple[int, int]], report: Reporter, seed: int = 0
    ) -> Iterator[DenseMatch]:
        """Computes all depth maps before the first match. Raises SplatError as `Stereo` does."""
        small = _posed(capture).resized(self.matching_size)
        maps = self.stereo(small, report, seed)
        for a, b in pairs:
            one, two = small.views[a], small.views[b]
            depth_b = maps[b].known  # unreliable depth may agree by chance
            seen = check_consistency(
                *(one.camera, one.pose, maps[a].depth, two.camera, two.pose, depth_b),
                *(self.max_shift, self.max_difference),
                pixels=True,
            )
            certainty = torch.where(seen.consistent & maps[a].measured, maps[a].confidence, 0)
            assert seen.pixels is not None
            yield upsampled(DenseMatch(a, b, seen.pixels, certainty), two.camera, capture)


@dataclass(frozen=True)
class FlowMatcher:
    """Matches by DIS optical flow (Kroeger et al. 2016).

    Photo b is warped to photo a by a coarse depth from the sparse points, the residual flow is computed and projected
    onto epipolar lines, and matches are checked for forward-backward consistency.
    """

    matching_size: int = 0
    """Long side at which photos are matched, px. 0: the working size (--method edgs: that of --edgs.matching-size)."""
    preset: Literal["ultrafast", "fast", "medium"] = "medium"
    """OpenCV's preset: medium is the most accurate, ultrafast the fastest."""
    max_error: float = 1.5
    """Largest distance from the epipolar line and largest forward-backward error, px."""
    min_texture: float = 2.0
    """Smallest image gradient along the epipolar line, in grey levels (of 255) per pixel, rms over 9 x 9 pixels. Below
    it matches are ambiguous."""

    def __call__(
        self, capture: Capture, pairs: Sequence[tuple[int, int]], report: Reporter, seed: int = 0
    ) -> Iterator[DenseMatch]:
        small = _posed(capture).resized(self.matching_size)
        greys: dict[int, np.ndarray] = {}
        inverse_depths = coarse_inverse_depths(small)
        search = cv2.DISOpticalFlow.create(
            {
                "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
                "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
                "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
            }[self.preset]
        )
        for k, (a, b) in enumerate(pairs):
            for i in (a, b):
                if i not in greys:
                    greys[i] = grey_of(small.views[i].rgb()).round().clamp(0, 255).byte().numpy()
            one = _Side(small.views[a], greys[a], inverse_depths(a))
            two = _Side(small.views[b], greys[b], inverse_depths(b))
            yield upsampled(self._match(search, one, two, a, b), two.camera, capture)
            report.progress(k + 1, len(pairs), what="flow")

    def _match(self, search: cv2.DISOpticalFlow, one: _Side, two: _Side, a: int, b: int) -> DenseMatch:
        zero = torch.zeros(one.camera.height, one.camera.width)
        if float((one.pose.translation - two.pose.translation).norm()) == 0:
            return DenseMatch(a, b, one.camera.pixel_centres(), zero)  # there is no epipolar line
        target, distance = _along_epipolar_lines(one, two, _flow(search, one, two))
        back, _ = _along_epipolar_lines(two, one, _flow(search, two, one))
        inside = two.camera.contains(target)
        returned = sampled(back, target)
        round_trip = (returned - one.camera.pixel_centres()).norm(dim=2)
        error = torch.maximum(round_trip, distance).nan_to_num(torch.inf)
        gradient = _gradient_along(two.grey, target, _epipolar_lines(one, two)[..., :2])
        valid = inside & (error <= self.max_error) & (gradient >= self.min_texture)
        # 1 without error, 0.5 at the largest error.
        certainty = torch.where(valid, 1 - 0.5 * error / self.max_error, 0)
        return DenseMatch(a, b, target.float(), certainty.float())


# ---------------------------------------------------------------------------------------------------------------- sizes


def upsampled(match: DenseMatch, camera_b: Camera, capture: Capture) -> DenseMatch:
    """A match at a smaller size, upsampled to the working size of the capture. camera_b: view b's camera at that size.

    Offsets are interpolated bilinearly, only where all four pixels have a match and their offsets agree within a pixel:
    never across a depth discontinuity.
    """
    a, b = capture.views[match.view_a].camera, capture.views[match.view_b].camera
    h, w = match.certainty.shape
    size_b = match.pixels_b.new_tensor([camera_b.width, camera_b.height])
    full_b = match.pixels_b.new_tensor([b.width, b.height])
    if (h, w) == (a.height, a.width):
        return DenseMatch(match.view_a, match.view_b, match.pixels_b * (full_b / size_b), match.certainty)
    # In fractions of the image size, offsets are smooth even where the two images differ in size or aspect ratio.
    y, x = torch.meshgrid((torch.arange(h) + 0.5) / h, (torch.arange(w) + 0.5) / w, indexing="ij")
    offset = match.pixels_b / size_b - torch.stack([x, y], 2)
    (top, down), (left, right) = _linear_weights(h, a.height), _linear_weights(w, a.width)
    corners = [(r, c) for r in (top, top + 1) for c in (left, left + 1)]
    weights = [v[:, None] * u[None] for v in (1 - down, down) for u in (1 - right, right)]

    def around(image: Tensor) -> list[Tensor]:
        return [image[r.clamp(max=h - 1)[:, None], c.clamp(max=w - 1)[None]] for r, c in corners]

    offsets, sure = around(offset), around(match.certainty)
    smooth = sum((k[..., None] * o for k, o in zip(weights, offsets)), torch.zeros(()))
    mean = torch.stack(offsets).mean(0)
    spread = torch.stack([((o - mean) * size_b).norm(dim=2) for o in offsets]).amax(0)
    kept = (torch.stack(sure).amin(0) > 0) & (spread < 1.0)
    share = a.pixel_centres() / torch.tensor([a.width, a.height])
    pixels = torch.where(kept[..., None], (share + smooth) * full_b, 0.0)
    certainty = sum((k * c for k, c in zip(weights, sure)), torch.zeros(())).clamp(0, 1)
    certainty = torch.where(kept & b.contains(pixels), certainty, 0.0)
    return DenseMatch(match.view_a, match.view_b, pixels, certainty)


def _linear_weights(source: int, target: int) -> tuple[Int[Tensor, "m"], Float[Tensor, "m"]]:
    """Linear interpolation from `source` to m = `target` pixels over the same length.

    For each target pixel the index of the source pixel before it, and the weight of the next one (below 0 or above 1 at
    the borders: extrapolation).
    """
    at = (torch.arange(target) + 0.5) * (source / target) - 0.5
    before = at.floor().clamp(0, max(0, source - 2))
    return before.long(), at - before


def sampled(image: Float[Tensor, "h w c"], pixels: Float[Tensor, "*n 2"]) -> Float[Tensor, "*n c"]:
    """Bilinear samples at pixel coordinates (centres at .5), border pixels repeated outside; arbitrary at nan."""
    h, w, c = image.shape
    grid = 2 * pixels.nan_to_num(0.0).reshape(1, 1, -1, 2).to(image) / image.new_tensor([w, h]) - 1
    rows = torch.nn.functional.grid_sample(
        image.permute(2, 0, 1)[None], grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    return rows[0, :, 0].T.reshape(*pixels.shape[:-1], c)


def _posed(capture: Capture) -> Capture:
    if not capture.posed:
        raise SplatError("Dense matching needs photos with poses: run the poses stage.")
    return capture


# ----------------------------------------------------------------------------------------------------------------- flow


class _Side:
    """One of the two views of a match."""

    def __init__(self, view: View, grey: np.ndarray, inverse_depth: Float[Tensor, "h w"]) -> None:
        self.camera, self.pose, self.grey, self.inverse_depth = view.camera, view.pose, grey, inverse_depth


def coarse_inverse_depths(capture: Capture, cell: int = 16) -> Callable[[int], Float[Tensor, "h w"]]:
    """A function from the index of a view to its coarse inverse depth, float64, 1 / world units.

    Interpolates the inverse depths of visible sparse points on a grid of `cell` px (Shepard: inverse squared distance).
    Inverse depth, because that of a plane is linear in the image.
    """
    visible, depth, _, points = visibility(capture)

    def guess(i: int) -> Float[Tensor, "h w"]:
        view = capture.views[i]
        c = view.camera
        mine = visible[i] & (depth[i] > 0)
        if not bool(mine.any()):
            mine = depth[i] > 0
        at = c.project(view.pose.inverse().apply(points[mine]))
        value = 1 / depth[i][mine]
        if not len(value):
            at, value = torch.zeros(1, 2).double(), torch.ones(1).double()
        if len(value) >= 8:  # robust to single outliers close to the camera
            value = value.clamp(value.quantile(0.02), value.quantile(0.98))
        grid = c.resized(max(2, c.width // cell), max(2, c.height // cell))
        scale = torch.tensor([c.width / grid.width, c.height / grid.height])
        places = (grid.pixel_centres() * scale).double().reshape(-1, 2)
        means = []
        for some in places.split(max(1, MAX_DISTANCES // len(value))):
            weight = 1 / (torch.cdist(some, at.double()).square() + (0.5 * cell) ** 2)
            means.append((weight @ value) / weight.sum(1))
        mean = torch.cat(means).reshape(1, 1, grid.height, grid.width)
        return torch.nn.functional.interpolate(mean, (c.height, c.width), mode="bilinear", align_corners=False)[0, 0]

    return guess


def _flow(search: cv2.DISOpticalFlow, one: _Side, two: _Side) -> Float[Tensor, "h w 2"]:
    """Pixels of `two` that match those of `one`, before projection onto epipolar lines; nan out of frame."""
    c = one.camera
    coarse = _reprojected(one, two, one.inverse_depth)
    inside = two.camera.contains(coarse)
    at = (coarse.nan_to_num(-1e4, -1e4, -1e4).clamp(-1e4, 1e5) - 0.5).float().numpy()  # OpenCV has centres at integers
    warped = cv2.remap(two.grey, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    residual = torch.from_numpy(search.calc(one.grey, warped, np.zeros((c.height, c.width, 2), np.float32))).double()
    moved = c.pixel_centres().double() + residual
    target = sampled(torch.where(inside[..., None], coarse, torch.nan), moved)
    return torch.where(c.contains(moved)[..., None], target, torch.nan)


def _reprojected(one: _Side, two: _Side, inverse_depth: Float[Tensor, "h w"]) -> Float[Tensor, "h w 2"]:
    """The pixels of `one`, with its inverse depth, reprojected into `two`; nan behind the camera."""
    pixels = one.camera.pixel_centres().double()
    inside = (two.pose.inverse() @ one.pose).apply(one.camera.unproject(pixels, 1 / inverse_depth))
    return torch.where((inside[..., 2] > 0)[..., None], two.camera.project(inside), torch.nan)


def _epipolar_lines(one: _Side, two: _Side) -> Float[Tensor, "h w 3"]:
    """Epipolar lines in `two` of the pixels of `one`, with unit normals: (x, y, 1) . line is the distance in pixels."""
    two_from_one = two.pose.inverse() @ one.pose
    rays = one.camera.unproject(one.camera.pixel_centres().double(), torch.ones(one.grey.shape, dtype=torch.float64))
    turned = rays @ two_from_one.rotation.T
    # The plane through the baseline and the ray, as a line of pixels.
    planes = torch.linalg.cross(two_from_one.translation.expand_as(turned), turned)
    lines = planes @ torch.linalg.inv(two.camera.matrix())
    return lines / lines[..., :2].norm(dim=2, keepdim=True)


def _along_epipolar_lines(
    one: _Side, two: _Side, target: Float[Tensor, "h w 2"]
) -> tuple[Float[Tensor, "h w 2"], Float[Tensor, "h w"]]:
    """`target` projected onto the epipolar lines, and its distance from them in pixels."""
    lines = _epipolar_lines(one, two)
    off = (target * lines[..., :2]).sum(2) + lines[..., 2]
    return target - off[..., None] * lines[..., :2], off.abs()


def _gradient_along(
    grey: np.ndarray, pixels: Float[Tensor, "h w 2"], normals: Float[Tensor, "h w 2"]
) -> Float[Tensor, "h w"]:
    """Image gradient along lines with these unit normals: root mean square over 9 x 9 pixels around `pixels`."""
    smooth = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), 1.0)  # so that noise does not count as texture
    dx = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8)
    dy = cv2.Sobel(smooth, cv2.CV_32F, 0, 1, ksize=3, scale=1 / 8)
    tensor = cv2.boxFilter(np.stack([dx * dx, dx * dy, dy * dy], 2), -1, (9, 9))
    xx, xy, yy = sampled(torch.from_numpy(tensor), pixels).double().unbind(2)
    y, x = normals.unbind(2)
    y = -y
    return (xx * x * x + 2 * xy * x * y + yy * y * y).clamp_min(0).sqrt()
