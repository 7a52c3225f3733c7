"""Photos tell each other what they found: surfaces of one photo, projected into another, as planes for it to try.

The search of one photo fails where a surface is seen at a grazing angle or from far aside, though a second and a third
photo that see it alike agree about it. Their planes are then better than its own, or at least a start for its search.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import pad

from splat.geometry.surface_normals import slopes_of_normals
from splat.priors.stereo_search import Planes, PlaneSearch, StereoView

_AROUND = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0))


def transferred(
    view: StereoView, other: StereoView, theirs: Planes, which: Bool[Tensor, "ho wo"]
) -> Float[Tensor, "3 h w"]:
    """Planes of the pixels `which` of `other` as `view` sees them, the nearest where several fall into a pixel. Gaps of
    a pixel are closed from beside; elsewhere inverse depth is 0: nothing was found there."""
    h, w = view.grey.shape
    view_from_other = view.world_from_cam.inverse() @ other.world_from_cam
    pixels = other.camera.pixel_centres().float()[which]
    points = view_from_other.apply(other.camera.unproject(pixels, theirs.depth[which])).float()
    normals = theirs.normals(other.camera)[which] @ view_from_other.rotation.float().T
    at = view.camera.project(points)
    seen = (points[:, 2] > 0) & ((normals * points).sum(1) < 0) & view.camera.contains(at)
    column, row = at[seen].floor().long().unbind(1)
    ids = (row.clamp(0, h - 1) * w + column.clamp(0, w - 1)).numpy()
    inverse = (1 / points[seen, 2]).numpy()
    by_pixel = np.lexsort((inverse, ids))
    nearest = torch.from_numpy(by_pixel[np.flatnonzero(np.diff(ids[by_pixel], append=-1))])
    places = torch.from_numpy(ids)[nearest]
    points, normals = points[seen][nearest], normals[seen][nearest]
    # inverse depth where the ray of the pixel's centre meets the plane: n.x / (n.ray)
    rays = view.camera.unproject(view.camera.pixel_centres().float(), torch.ones(h, w)).reshape(-1, 3)[places]
    on_plane = (normals * rays).sum(1) / (normals * points).sum(1)
    plain = 1 / points[:, 2]
    steep = ((on_plane / plain - 1).abs() > 0.05) | (on_plane <= 0)
    found = torch.zeros(h * w)
    found[places] = torch.where(steep, plain, on_plane)
    facing = torch.tensor([0.0, 0.0, -1.0]).repeat(h * w, 1)
    facing[places] = normals
    found, facing = found.reshape(h, w), facing.reshape(h, w, 3)
    slopes = slopes_of_normals(view.camera, 1 / found.clamp_min(1e-12), facing)
    return _closed(torch.cat([found[None], slopes]))


def _closed(planes: Float[Tensor, "3 h w"]) -> Float[Tensor, "3 h w"]:
    """Gaps (inverse depth 0) get the nearest plane of the eight pixels around."""
    h, w = planes.shape[1:]
    wide = pad(planes, (1, 1, 1, 1))
    out = planes.clone()
    gap = planes[0] == 0
    for dy, dx in _AROUND:
        beside = wide[:, 1 + dy : 1 + dy + h, 1 + dx : 1 + dx + w]
        there = torch.where(beside[0] > 0, beside[0] - beside[1] * dx - beside[2] * dy, 0)
        better = gap & (there > out[0])
        out = torch.where(better, torch.stack([there, beside[1], beside[2]]), out)
    return out


def with_theirs(
    search: PlaneSearch,
    planes: Planes,
    confidence: Float[Tensor, "h w"],
    theirs: list[Float[Tensor, "3 h w"]],
    margin: float,
) -> Planes:
    """Each pixel's best plane, its own or one of `theirs` (`transferred`). `margin`: by how much a plane of theirs may
    cost more where the confidence in one's own is 0."""
    best, allowed = planes, margin * (1 - confidence)
    for candidate in theirs:
        inside = (candidate[0] > search.low) & (candidate[0] < search.high)
        tried = search.with_costs(torch.where(inside, candidate, best.planes))
        better = inside & (tried.cost < best.cost + allowed)
        best = Planes(
            torch.where(better, tried.planes, best.planes).contiguous(), torch.where(better, tried.cost, best.cost)
        )
    return best
