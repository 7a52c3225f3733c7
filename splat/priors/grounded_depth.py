"""Depth of the ground that a scene stands on, where stereo cannot match it: lawns, gravel, floors, table tops.

Such ground has little texture and is seen at grazing angles, and much of it by one photo alone, so stereo refuses it
and depth completion has nothing to continue. But points lie on it (`ground_plane`), and where a second photo sees it
too, its shadows and edges must fall onto those of the first when the plane takes the pixels of one into the other
(plane sweeping, Collins 1996; with normalized cross-correlation, NCC). A plane at a wrong height or tilt fails that at
once, so the NCC chooses among planes, refines the best one, and decides whether there is a ground at all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample, interpolate, normalize

from splat.core.capture import Capture, View
from splat.core.slots import DepthMap, DepthPrior, Reporter
from splat.priors.ground_plane import Plane, Standing
from splat.priors.plane_scores import HIDDEN, PATCH, PhotoPairs, Texture

_SIZE = 128
"""Long side, px, of the photos by which planes are compared."""
_SOURCES = 2
"""Other photos that each is compared with to choose a plane."""
_MIN_ALIKE = 0.75
"""Of the textured pixels that a plane may explain, the share that must be alike."""
_WORTH_REFINING = 0.4
"""The same share from which a plane is refined."""
_SAME = 0.06
"""Mean difference of three channels, 0 to 1, up to which a pixel is explained."""
_PROBABLE = 0.7
"""Probability of a depth on the ground; below that of what counts as measured."""
_CANDIDATES, _REFINED = 8, 2
"""Planes to compare from each set of points; of these to refine at most."""
_STEPS, _MOVES, _FINEST = (0.2, 0.2, 0.1, 0.05), 40, 0.004
"""First steps of searches, one after the other, in heights of the cameras above the plane; the tries of each; and its
last step."""


@dataclass(frozen=True)
class GroundedDepth:
    """A `slots.DepthPrior`: the depth of `matched`, and that of the ground where matching is in doubt."""

    matched: DepthPrior

    def __call__(self, capture: Capture, report: Reporter, seed: int = 0) -> list[DepthMap]:
        """The maps of matching; those of scenes that stand on a plane have its depth as `predicted`, where the plane
        explains what the photo shows and matching measured nothing."""
        maps = self.matched(capture, report, seed)
        photos = [_SmallPhoto.of(v, m) for v, m in zip(capture.views, maps, strict=True)]
        ground = find_ground(capture, photos, seed)
        if ground is None:
            return maps
        out = [_with_ground(m, v, photos, i, ground) for i, (v, m) in enumerate(zip(capture.views, maps))]
        share = sum(float(m.predicted.float().mean()) for m in out if m.predicted is not None) / len(out)
        report.info(f"The scene stands on a plane, which stands in at {100 * share:.0f} % of all pixels.")
        return out


@dataclass(frozen=True, eq=False)
class _SmallPhoto:
    view: View
    """At the small size."""
    rgb: Float[Tensor, "3 h w"]
    measured: Float[Tensor, "h w"]
    """Depth, 0 where none was measured."""
    neighbours: tuple[int, ...]
    """Indices of the photos to compare it with."""

    @staticmethod
    def of(view: View, found: DepthMap) -> _SmallPhoto:
        camera = view.camera
        factor = min(1.0, _SIZE / max(camera.width, camera.height))
        h, w = (max(PATCH, round(n * factor)) for n in (camera.height, camera.width))
        rgb = interpolate(view.rgb().permute(2, 0, 1)[None].float(), (h, w), mode="area")[0]
        known = interpolate(found.known[None, None].float(), (h, w), mode="nearest")[0, 0]
        return _SmallPhoto(replace(view, camera=camera.resized(w, h)), rgb, known, found.neighbours)

    def measured_points(self) -> Float[Tensor, "n 3"]:
        """World positions of the measured pixels."""
        return self.points(self.measured, self.measured > 0)

    def points(self, depth: Float[Tensor, "h w"], which: Bool[Tensor, "h w"]) -> Float[Tensor, "n 3"]:
        pixels = self.view.camera.pixel_centres()[which].double()
        return self.view.pose.apply(self.view.camera.unproject(pixels, depth[which].double()))

    def may_show(self, plane: Plane) -> tuple[Float[Tensor, "h w"], Bool[Tensor, "h w"]]:
        """z of the plane, and the pixels that it may explain: nothing in front of it was measured there, and it is no
        farther than nearly all that was measured in the photo."""
        z, known = plane.depth(self.view), self.measured > 0
        if not bool(known.any()):
            return z, torch.zeros_like(known)
        farthest = self.measured[known].quantile(0.98)
        return z, (z > 0) & (z < farthest) & (~known | (self.measured > (1 - HIDDEN) * z))


@dataclass(frozen=True, eq=False)
class _Comparison:
    """Every pixel of a photo with another photo, into which a plane takes it."""

    rgb: Float[Tensor, "3 h w"]
    warped: Float[Tensor, "3 h w"]
    """The other photo there."""
    seen: Bool[Tensor, "h w"]
    """In the other's frame, and nothing that the other measured is in front of it."""
    past: Bool[Tensor, "h w"]
    """The other sees past the plane."""

    @staticmethod
    def of(z: Float[Tensor, "h w"], a: _SmallPhoto, b: _SmallPhoto) -> _Comparison:
        """With z of the plane, of the photos a and b."""
        camera = a.view.camera
        world = a.view.pose.apply(camera.unproject(camera.pixel_centres().float(), z.clamp_min(1e-9)))
        in_b = b.view.pose.inverse().apply(world)
        at = b.view.camera.project(in_b)
        inside = (z > 0) & (in_b[..., 2] > 0) & b.view.camera.contains(at)
        size = at.new_tensor([b.view.camera.width, b.view.camera.height])
        grid = torch.where(inside[..., None], 2 * at / size - 1, 2.0)[None].float()
        warped = grid_sample(b.rgb[None], grid, align_corners=False)[0]
        theirs = grid_sample(b.measured[None, None], grid, mode="nearest", align_corners=False)[0, 0]
        hidden = (theirs > 0) & (theirs < (1 - HIDDEN) * in_b[..., 2])
        past = theirs > (1 + HIDDEN) * in_b[..., 2]
        return _Comparison(a.rgb, warped, inside & ~hidden, past)

    def difference(self) -> Float[Tensor, "h w"]:
        """Mean difference of colours, once brightness is equal; infinite where the other sees past the plane."""
        gain = torch.ones(3)
        if bool(self.seen.any()):
            means = self.warped[:, self.seen].mean(1), self.rgb[:, self.seen].mean(1)
            gain = (means[0] / means[1].clamp_min(1e-3)).clamp(0.8, 1.25)
        difference = (self.warped - gain[:, None, None] * self.rgb).abs().mean(0)
        return torch.where(self.past, math.inf, difference)


def find_ground(capture: Capture, photos: Sequence[_SmallPhoto], seed: int) -> Plane | None:
    """The plane that the scene stands on, if the photos agree that it does."""
    if not any(p.neighbours for p in photos):
        return None
    generator = torch.Generator().manual_seed(seed)
    clouds = [torch.cat([p.measured_points() for p in photos])]
    if capture.points is not None:  # fewer, and surer
        clouds.insert(0, capture.points.positions)
    pairs = PhotoPairs.of(
        [p.view for p in photos],
        [p.rgb for p in photos],
        [p.measured for p in photos],
        [p.neighbours[:_SOURCES] for p in photos],
    )

    def explained(plane: Plane) -> Texture:
        return pairs.explained_by(plane, [p.may_show(plane)[1] for p in photos])

    tried: list[tuple[Texture, Plane, Standing]] = []
    for cloud in clouds:
        standing = Standing.of(cloud, [v.pose for v in capture.views], generator)
        tried += [(explained(p), p, standing) for p in standing.planes(_CANDIDATES, generator)]
    tried.sort(key=lambda t: -t[0].gain)
    best, most = None, 0.0
    for texture, first, standing in tried[:_REFINED]:
        if texture.alike < _WORTH_REFINING:
            continue
        plane = _refined(first, photos, pairs)
        texture = explained(plane)
        same = standing.allows(plane) and 2 * standing.support(plane) >= standing.support(first)
        if same and texture.alike >= _MIN_ALIKE and texture.gain > most:
            best, most = plane, texture.gain
    return best


def _refined(plane: Plane, photos: Sequence[_SmallPhoto], pairs: PhotoPairs) -> Plane:
    """The plane nearby that explains most texture of the pixels that it may explain at first: another would be better
    for having more of them to explain. Then again, with those that it may explain now."""
    for step in _STEPS:
        before, plane = plane, _searched(plane, photos, pairs, step)
        if plane is before:
            break
    return plane


def _searched(plane: Plane, photos: Sequence[_SmallPhoto], pairs: PhotoPairs, step: float) -> Plane:
    """Pattern search (Hooke & Jeeves 1961) over height (first by `step` of itself) and two tilts, about the middle of
    what the plane may explain."""
    centres = torch.stack([p.view.pose.translation.double() for p in photos])
    height = float(plane.below(centres).mean())
    shown = [p.may_show(plane) for p in photos]
    where = [which for _, which in shown]
    middle = torch.cat([p.points(*s) for p, s in zip(photos, shown, strict=True)])
    foot = middle.median(0).values if len(middle) else centres.mean(0)
    foot = foot + plane.below(foot) * plane.normal
    axes = torch.linalg.svd(plane.normal[None]).Vh[1:]

    def moved(x: Tensor) -> Plane:
        normal = normalize(plane.normal + x[1:] @ axes, dim=0)
        return Plane(normal, normal @ foot + height * x[0])

    enough = 0.9 * pairs.explained_by(plane, where).pixels  # neither more nor fewer in common is better

    def score(x: Tensor) -> float:
        return pairs.explained_by(moved(x), where).per_pixel(enough)

    x, steps = torch.zeros(3, dtype=torch.float64), step * torch.tensor([1, 0.2, 0.2], dtype=torch.float64)
    best, moves = score(x), 0
    while steps[0] > _FINEST and moves < _MOVES:
        before = x
        for k in range(3):
            for sign in (1, -1):
                y = x.clone()
                y[k] += sign * steps[k]
                value, moves = score(y), moves + 1
                if value > best:
                    x, best = y, value
                    break
        if x is before:
            steps = steps / 2
            continue
        y = 2 * x - before
        value, moves = score(y), moves + 1
        if value > best:
            x, best = y, value
    return moved(x) if bool(x.any()) else plane


def _explained(ground: Plane, photos: Sequence[_SmallPhoto], i: int) -> Float[Tensor, "h w"]:
    """1 at the pixels of photo i that the ground explains: another photo shows the same there; or no other photo sees
    it, and the ground explains most of what others see too."""
    photo = photos[i]
    z, which = photo.may_show(ground)
    best = torch.full_like(z, math.inf)
    seen = torch.zeros_like(which)
    for o in photo.neighbours:
        other = _Comparison.of(z, photo, photos[o])
        smooth = avg_pool2d(other.difference()[None, None], 3, 1, 1, count_include_pad=False)[0, 0]
        best = torch.where(other.seen, torch.minimum(best, smooth), best)
        seen |= other.seen
    same, tried = best < _SAME, which & seen
    likely = bool(tried.any()) and float(same[tried].float().mean()) > 0.5
    return (which & torch.where(seen, same, likely)).float()


def _with_ground(found: DepthMap, view: View, photos: Sequence[_SmallPhoto], i: int, ground: Plane) -> DepthMap:
    size = found.depth.shape
    explained = interpolate(_explained(ground, photos, i)[None, None], size, mode="bilinear", align_corners=False)
    z = ground.depth(view)
    beneath = found.measured & (found.depth > (1 + HIDDEN) * z)
    on = (explained[0, 0] > 0.7) & (z > 0) & (~found.measured | beneath)
    normals = found.normals_cam
    if normals is not None:
        up = -(view.pose.rotation.double().T @ ground.normal).to(normals)
        normals = torch.where(on[..., None], up, normals)
    return replace(
        found,
        depth=torch.where(on, z, found.depth),
        confidence=torch.where(on, _PROBABLE, found.confidence),
        normals_cam=normals,
        predicted=on if found.predicted is None else on | found.predicted,
    )
