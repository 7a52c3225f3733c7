"""How well planes explain the texture of photos: normalized cross-correlation (NCC) of patches with those of other
photos, into which a plane takes them (plane sweeping, Collins 1996). All pairs of photos at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import grid_sample, pad

from splat.core.capture import View
from splat.priors.ground_plane import Plane

PATCH = 7
"""Side of a patch, px."""
ALIKE = 0.6
"""NCC from which patches show the same."""
HIDDEN = 0.05
"""Relative difference of depth from which a measured surface is another than the plane."""
_MIN_TEXTURE = 0.03
"""Standard deviation of a patch's grey from which its NCC says something."""
_MIN_TEXTURED = 0.005
"""Share of all pixels that must have texture for `Texture.alike`."""
_AT_ONCE = 24
"""Pairs, for the memory that they take."""


@dataclass(frozen=True)
class Texture:
    """How a plane explains texture."""

    gain: float
    """Sum of NCC - `ALIKE`."""
    alike: float
    """Share of the texture that it might explain and does; 0 where that is too little to say."""
    pixels: int
    """Textured pixels that it might explain and other photos see."""

    def per_pixel(self, at_least: float) -> float:
        """The gain over `pixels`, or over as many pixels as that."""
        return self.gain / max(1.0, at_least, self.pixels)


@dataclass(frozen=True, eq=False)
class PhotoPairs:
    """Photos, each beside some others. Pixels are padded to the size of the largest photo."""

    centres: Float[Tensor, "v 3"]
    """Of the cameras, in the world."""
    axes: Float[Tensor, "v 3 3"]
    """Their rotations, `world_from_cam`. float64, as `centres`."""
    grey: Float[Tensor, "v h w"]
    measured: Float[Tensor, "v h w"]
    """z, 0 where none was measured, and where there is no photo."""
    sizes: Float[Tensor, "v 2"]
    """Width and height of each photo, px."""
    rays: Float[Tensor, "v h w 3"]
    """Camera coordinates at z = 1."""
    first: Int[Tensor, "p"]
    second: Int[Tensor, "p"]
    turned: Float[Tensor, "p h w 3"]
    """The rays of the first photo in the second camera's frame; their z is that of a pixel's image at z = 1."""
    moved: Float[Tensor, "p 3"]
    """The first camera's centre there."""
    intrinsics: Float[Tensor, "p 4"]
    """fx fy cx cy of the second."""

    @staticmethod
    def of(
        views: Sequence[View],
        rgb: Sequence[Float[Tensor, "3 _ _"]],
        measured: Sequence[Float[Tensor, "_ _"]],
        others: Sequence[Sequence[int]],
    ) -> PhotoPairs:
        """Photos of the size of their views' cameras; `others[i]`: those that photo i is compared with."""
        height, width = (max(n) for n in zip(*((v.camera.height, v.camera.width) for v in views), strict=True))

        def padded(maps: Sequence[Tensor]) -> Tensor:
            return torch.stack([pad(m.float(), (0, width - m.shape[1], 0, height - m.shape[0])) for m in maps])

        centres = [replace(v.camera, width=width, height=height).pixel_centres() for v in views]
        rays = [v.camera.unproject(c, torch.ones(c.shape[:2])) for v, c in zip(views, centres, strict=True)]
        first = [i for i, o in enumerate(others) for _ in o]
        second = [j for o in others for j in o]
        a, b = ([views[i].pose for i in ids] for ids in (first, second))
        steps = [q.inverse() @ p for p, q in zip(a, b, strict=True)]
        k = [views[j].camera for j in second]
        return PhotoPairs(
            torch.stack([v.pose.translation.double() for v in views]),
            torch.stack([v.pose.rotation.double() for v in views]),
            padded([c.mean(0) for c in rgb]),
            padded(measured),
            torch.tensor([[v.camera.width, v.camera.height] for v in views]).float(),
            torch.stack(rays).float(),
            torch.tensor(first),
            torch.tensor(second),
            torch.stack([rays[i].float() @ s.rotation.float().T for i, s in zip(first, steps, strict=True)]),
            torch.stack([s.translation for s in steps]).float(),
            torch.tensor([[c.fx, c.fy, c.cx, c.cy] for c in k]),
        )

    def explained_by(self, plane: Plane, where: Sequence[Bool[Tensor, "_ _"]]) -> Texture:
        """Of the textured pixels `where` of each photo; they alone make up patches."""
        which = torch.zeros(self.grey.shape, dtype=torch.bool)
        for all_of_it, w in zip(which, where, strict=True):
            all_of_it[: w.shape[0], : w.shape[1]] = w
        rows = which.any(2).any(0).nonzero()[:, 0]
        found = torch.zeros(3, dtype=torch.float64)
        if len(rows):
            part = slice(max(0, int(rows[0]) - PATCH), int(rows[-1]) + PATCH + 1)
            for pairs in torch.arange(len(self.first)).split(_AT_ONCE):
                ncc = self._ncc(plane, which[:, part], pairs, part)
                found += torch.stack([(ncc - ALIKE).sum().double(), (ncc > ALIKE).sum(), torch.tensor(len(ncc))])
        gain, alike, textured = found.tolist()
        enough = textured > _MIN_TEXTURED * float(self.sizes.prod(1).sum())
        return Texture(gain, alike / textured if enough else 0.0, int(textured))

    def _ncc(
        self, plane: Plane, which: Bool[Tensor, "v r w"], pairs: Int[Tensor, "k"], rows: slice
    ) -> Float[Tensor, "n"]:
        """Of the pixels of some rows that the second photo of a pair sees and whose patches have texture."""
        first, second = self.first[pairs], self.second[pairs]
        below = plane.below(self.centres)
        rate = (self.rays[:, rows] @ (self.axes.transpose(1, 2) @ plane.normal).float()[:, None, :, None])[..., 0]
        z = (below.float()[:, None, None] / rate)[first]
        which = (which & (rate > 1e-6) & (below > 0)[:, None, None])[first]
        x, y, z = (z[..., None] * self.turned[pairs, rows] + self.moved[pairs, None, None]).unbind(-1)
        fx, fy, cx, cy = self.intrinsics[pairs, :, None, None].unbind(1)
        at = torch.stack([fx * x / z + cx, fy * y / z + cy], -1)
        inside = which & (z > 0) & (at >= 0).all(-1) & (at < self.sizes[second][:, None, None]).all(-1)
        canvas = at.new_tensor([self.grey.shape[2], self.grey.shape[1]])
        grid = torch.where(inside[..., None], 2 * at / canvas - 1, 2.0)
        warped = grid_sample(self.grey[second, None], grid, align_corners=False)[:, 0]
        theirs = grid_sample(self.measured[second, None], grid, mode="nearest", align_corners=False)[:, 0]
        hidden = (theirs > 0) & (theirs < (1 - HIDDEN) * z)
        ncc, textured = correlation(self.grey[first, rows], warped, inside)
        return ncc[inside & ~hidden & textured]


def correlation(
    a: Float[Tensor, "k h w"], b: Float[Tensor, "k h w"], valid: Bool[Tensor, "k h w"]
) -> tuple[Float[Tensor, "k h w"], Bool[Tensor, "k h w"]]:
    """NCC of the patches around valid pixels, and whether those of a have texture."""
    a, b = a * valid, b * valid
    n, *sums = box_sums(torch.stack([valid.float(), a, b, a * a, b * b, a * b]))
    mean_a, mean_b, aa, bb, ab = (s / n.clamp_min(1e-6) for s in sums)
    var_a, var_b = (aa - mean_a**2).clamp_min(0), (bb - mean_b**2).clamp_min(0)
    return (ab - mean_a * mean_b) / (var_a * var_b).clamp_min(1e-10).sqrt(), var_a > _MIN_TEXTURE**2


def box_sums(maps: Float[Tensor, "*n h w"]) -> Float[Tensor, "*n h w"]:
    """Sums over the patch around each pixel; 0 beyond the borders. Several times as fast as `avg_pool2d`."""
    half = PATCH // 2
    maps = pad(maps, (half, half, half, half))
    for axis in (-2, -1):
        n = maps.shape[axis] - PATCH + 1
        pairs = maps.narrow(axis, 0, n + 5) + maps.narrow(axis, 1, n + 5)
        fours = pairs.narrow(axis, 0, n) + pairs.narrow(axis, 2, n)
        maps = fours + pairs.narrow(axis, 4, n) + maps.narrow(axis, 6, n)
    return maps
