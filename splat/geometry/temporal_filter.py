"""Frames of a flight made steady: each is compared with the frames around it, warped into it by rendered depth.

The motion is known exactly, so there is no optical flow: a pixel's ray meets what a neighbouring frame shows at a depth
that is found by going back and forth between the two depth maps. Where the neighbours show the same surface, colours
become their robust mean (temporal anti-aliasing as in Yang et al. 2020, with exact motion and frames on both sides);
where they look through what a frame alone shows, it takes what they agree is behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float

from splat.core.slots import RenderedView
from splat.geometry.pixel_warp import MaskedBlur, Transfer, inside, nearest, pixel_grid, smooth

SOLID = 0.5
"""Depth counts where at least this much of the ray is stopped."""
_STEPS = 3
"""Of going back and forth."""
_AROUND = 5
"""Px: what a frame shows at a place is sought in a square of this side."""
_MAX_SHIFT, _SAME_DEPTH, _BEHIND = 0.75, 0.02, 0.05
"""Px, and relative differences of depth: a neighbour's surface lies on the ray, it is the same one, it is behind."""
_COLOUR_SCALE = 0.08
"""Colours that differ by this from the median count 1 / sqrt(e)."""
_KEPT = 0.2
"""Weight that a frame's own colour has at least; 1: that of a colour that is the median."""
_RESAMPLING, _ROUNDING = 0.05, 0.5 / 255
"""Share of the range of colours around a pixel that cubic interpolation may be wrong by, and the rounding of frames:
differences up to their sum change nothing. Errors of interpolation have either sign, and where a neighbourhood differs
in one direction, which is flicker, only the rounding is left."""
_NEIGHBOURHOOD = 3.0
"""Px, sigma."""
_CLEAR = 0.05
"""Colour that a pixel must lie outside of what its neighbours show around it to be replaced altogether."""
_ROWS = 32
"""Rows whose colours are sorted at once, to save memory."""
_MAJORITY = 2 / 3
"""Share of the frames whose view includes a place that have to agree before a pixel is replaced."""


@dataclass(frozen=True, eq=False)
class RaySurface:
    """What another frame shows on the rays of a view."""

    depth: Float[np.ndarray, "h w"]
    """z in the view, world units."""
    pixels: tuple[np.ndarray, np.ndarray]
    """x and y of it in the other frame, float32 [h w]."""
    known: Bool[np.ndarray, "h w"]
    """False: out of the other's frame, nothing there, or its surface does not lie on the ray (an occlusion)."""
    in_frame: Bool[np.ndarray, "h w"]
    """The view's own point is in the other's frame, hidden there or not."""
    edge: Bool[np.ndarray, "h w"]
    """The other frame's depth jumps next to it: its pixel may mix two surfaces."""
    clear: Bool[np.ndarray, "h w"]
    """Nothing near the view's own depth is next to where the other frame would show it: it looks through the view's
    pixel. Where the view shows nothing: the other frame has no hole there."""


def surface_on_rays(view: RenderedView, other: RenderedView) -> RaySurface:
    """Where the rays of `view` meet the surface that `other` shows, starting at the view's own depth: fixed-point
    iteration between the two depth maps, checked by forward-backward reprojection at its end."""
    forward = Transfer.between(view.camera, view.world_from_cam, other.camera, other.world_from_cam)
    backward = Transfer.between(other.camera, other.world_from_cam, view.camera, view.world_from_cam)
    x, y = pixel_grid(view.camera)
    own, theirs = solid_depth(view), solid_depth(other)
    known = theirs > 0
    if not known.any():
        no = np.zeros(own.shape, bool)
        return RaySurface(np.zeros_like(own), (x, y), no, no, no, no)
    z = np.where(own > 0, own, np.float32(np.median(theirs[known])))
    for _ in range(_STEPS):
        u, v, _w = forward(x, y, z)
        depth = nearest(theirs, u, v)
        _, _, back = backward(u, v, depth)
        z = np.where((depth > 0) & (back > 0), back, z)
    # its own depth where that is the same surface: it is exact at this pixel, the other's was read at the nearest one
    z = np.where((own > 0) & (np.abs(z - own) < _SAME_DEPTH * own), own, z)
    u, v, w = forward(x, y, z)
    depth = nearest(theirs, u, v)
    bx, by, back = backward(u, v, depth)
    on_ray = np.hypot(bx - x, by - y) < _MAX_SHIFT
    at_depth = np.abs(back / np.maximum(z, 1e-9) - 1) < _SAME_DEPTH
    known = inside(other.camera, u, v) & (w > 0) & (depth > 0) & (back > 0) & on_ray & at_depth
    edge = nearest(depth_edges(theirs), u, v)
    # the nearest thing around where the pixel would be, were it there; a hole counts as such a thing
    around = cv2.erode(theirs, np.ones((_AROUND, _AROUND), np.uint8))
    su, sv, sw = forward(x, y, np.where(own > 0, own, z))
    clear = nearest(around, su, sv) > np.where(own > 0, (1 + _BEHIND) * sw, 0)
    in_frame = inside(other.camera, su, sv) & (sw > 0)
    return RaySurface(back, (u, v), known, in_frame, edge, clear)


def depth_edges(depth: Float[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Pixels whose depth, or whether there is any, differs from that of one of the eight around."""
    box = np.ones((3, 3), np.uint8)
    return cv2.erode(depth, box) * (1 + 2 * _SAME_DEPTH) < cv2.dilate(depth, box)


def solid_depth(view: RenderedView) -> Float[np.ndarray, "h w"]:
    """The view's depth, 0 where less than half of the ray is stopped."""
    return np.where(view.alpha.numpy() >= SOLID, view.depth.numpy(), np.float32(0))


@dataclass(frozen=True, eq=False)
class Steadied:
    """A view in agreement with the frames around it."""

    rgb: Float[np.ndarray, "h w 3"]
    """In [0, 1]."""
    used: tuple[int, ...]
    """Which of the frames before, and then of those after, have a say anywhere."""


def steadied(
    view: RenderedView,
    before: Sequence[RenderedView],
    after: Sequence[RenderedView],
    added: Sequence[Float[np.ndarray, "h w 3"]] = (),
) -> Steadied:
    """The view's colours in agreement with those of the frames before and after it; unchanged where none of them shows
    the place. `added`: what is to be added to the view and then to each of these frames; of this the mean over the
    frames that show the place is."""
    rgb, own = view.rgb.numpy(), solid_depth(view)
    neighbours = [*before, *after]
    found = {i: f for i, f in enumerate(surface_on_rays(view, n) for n in neighbours) if f.known.any()}
    if not found:
        return Steadied(np.clip(rgb + added[0], 0, 1) if added else rgb, ())
    depths, known, in_frame, edge, clear = (
        np.stack([getattr(f, name) for f in found.values()]) for name in ("depth", "known", "in_frame", "edge", "clear")
    )
    ratio = depths / np.maximum(own, 1e-9)
    same = known & (own > 0) & (np.abs(ratio - 1) < _SAME_DEPTH) & ~edge & ~depth_edges(own)
    behind = _in_agreement(depths, known & clear & ((ratio > 1 + _BEHIND) | (own <= 0)))
    alone = _looked_through(behind, in_frame, np.array([i < len(before) for i in found]))
    alone = _with_core(alone, own)
    used = np.where(alone, behind, same)
    any_used = np.asarray(used.any(0))
    colours = np.stack([np.clip(smooth(neighbours[i].rgb.numpy(), *f.pixels), 0, 1) for i, f in found.items()])
    mean = _robust_mean(rgb, ~alone, colours, used)
    changed = np.where(alone[..., None], _replaced(rgb, mean, any_used), _averaged(rgb, mean, any_used))
    out = np.where(any_used[..., None], changed, rgb)
    if added:
        total = added[0] * ~alone[..., None]
        for (i, f), u in zip(found.items(), used):
            total += smooth(added[i + 1], *f.pixels) * u[..., None]
        out = np.clip(out + total / np.maximum(used.sum(0) + ~alone, 1)[..., None], 0, 1)
    saying = tuple(i for i, u in zip(found, used) if u.any())
    return Steadied(out.astype(np.float32), saying)


def _averaged(rgb: np.ndarray, mean: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The mean, except for differences that interpolation may have made."""
    difference = mean - rgb
    everywhere = np.ones(known.shape, bool)
    dead = _RESAMPLING * np.minimum(_range_around(mean, known), _range_around(rgb, everywhere))
    dead = dead * (1 - _common_sign(difference / (np.abs(difference) + dead + _ROUNDING), known)) + _ROUNDING
    return rgb + np.sign(difference) * np.maximum(np.abs(difference) - dead, 0)


def _replaced(rgb: np.ndarray, mean: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The mean where the colour lies outside of those around it; at the edges of things, whose pixels mix two depths,
    it lies between them, and stays (Karis 2014)."""
    low, high = _bounds_around(mean, known)
    outside = np.maximum(np.maximum(low - rgb, rgb - high), 0).max(-1, keepdims=True)
    return rgb + np.clip(outside / _CLEAR, 0, 1) * (mean - rgb)


def _looked_through(behind: np.ndarray, in_frame: np.ndarray, is_before: np.ndarray) -> Bool[np.ndarray, "h w"]:
    """Pixels where most of the neighbours whose frame they are in look through to one common surface, and frames before
    and after among them: past the edge of what hides something, frames on one side look as well."""
    votes, sides = behind.sum(0), (behind[is_before].any(0), behind[~is_before].any(0))
    return (votes >= _MAJORITY * in_frame.sum(0)) & sides[0] & sides[1]


def _with_core(alone: np.ndarray, own: np.ndarray) -> Bool[np.ndarray, "h w"]:
    """Those of the connected regions that have a pixel beside nothing that is nearer: at the edges of things rendered
    depth lies between two surfaces, where there is nothing, and every other frame looks through that."""
    nearest_around = cv2.erode(np.where(own > 0, own, np.float32(1e30)), np.ones((_AROUND, _AROUND), np.uint8))
    core = alone & ((own <= 0) | (own < (1 + _BEHIND) * nearest_around))
    _, regions = cv2.connectedComponents(alone.astype(np.uint8))
    return alone & np.isin(regions, np.unique(regions[core]))


def _in_agreement(depths: np.ndarray, among: np.ndarray) -> Bool[np.ndarray, "n h w"]:
    """Those of `among` whose depth is the median one of them."""
    middle = _median(depths, among)
    return among & (np.abs(depths / np.maximum(middle, 1e-9)[None] - 1) < 2 * _SAME_DEPTH)


def _median(values: np.ndarray, among: np.ndarray) -> np.ndarray:
    """The median over the first axis of the values marked in `among`; 0 where none is."""
    ranked = np.sort(np.where(among, values, np.inf), axis=0)
    count = among.sum(0)
    low, high = (np.maximum(n, 0)[None] for n in ((count - 1) // 2, count // 2))
    high = np.minimum(high, len(values) - 1)
    pair = np.take_along_axis(ranked, low, 0)[0] / 2 + np.take_along_axis(ranked, high, 0)[0] / 2
    return np.where(count > 0, pair, 0)


def _robust_mean(rgb: np.ndarray, use_own: np.ndarray, colours: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Mean of the colours used, the view's own among them where `use_own`, weighted by likeness to their median. Where
    no two are alike it stays near the view's own."""
    out = np.empty_like(rgb)
    for top in range(0, len(rgb), _ROWS):
        rows = slice(top, top + _ROWS)
        out[rows] = _robust_mean_of(rgb[rows], use_own[rows], colours[:, rows], used[:, rows])
    return out


def _robust_mean_of(rgb: np.ndarray, use_own: np.ndarray, colours: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Of a part of the picture."""
    values, among = np.concatenate([rgb[None], colours]), np.concatenate([use_own[None], used])
    middle = np.stack([_median(values[..., c], among) for c in range(3)], -1)
    away = np.square(values - middle[None]).sum(-1)
    weight = among * np.exp(-away / (2 * _COLOUR_SCALE**2))
    weight[0] += _KEPT * use_own
    total = weight.sum(0)[..., None]
    mean = np.einsum("nhw,nhwc->hwc", weight, values) / np.maximum(total, 1e-6)
    return np.where(total > 1e-6, mean, middle).astype(np.float32)


def _common_sign(votes: np.ndarray, known: np.ndarray) -> np.ndarray:
    """In [0, 1]: 1 where what is known around a pixel has one sign."""
    weight = known.astype(np.float32)
    blur = MaskedBlur(weight)
    net, all_of_it = (blur(t.astype(np.float32), _NEIGHBOURHOOD) for t in (votes, np.abs(votes)))
    return np.square(net) / np.maximum(np.square(all_of_it), 1e-12)


def _bounds_around(image: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest of the known colours among each pixel and its eight neighbours."""
    box = np.ones((3, 3), np.uint8)
    low = cv2.erode(np.where(known[..., None], image, np.float32(2)).astype(np.float32), box)
    high = cv2.dilate(np.where(known[..., None], image, np.float32(-1)).astype(np.float32), box)
    return low, high


def _range_around(image: np.ndarray, known: np.ndarray) -> np.ndarray:
    low, high = _bounds_around(image, known)
    return np.maximum(high - low, 0)
