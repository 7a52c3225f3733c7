"""What the network reads of a render: its colours, alpha and depth, and the nearest photos warped into it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d

from splat.core.slots import ReferencePhoto, RefinerPair, RenderedView
from splat.geometry.warping import warp_photo

PHOTOS = 2
_PHOTO_CHANNELS = ("red", "green", "blue", "mask", "agreement")
NAMES = (
    *("render red", "render green", "render blue", "alpha", "inverse depth"),
    *(f"photo {k + 1} {c}" for k in range(PHOTOS) for c in _PHOTO_CHANNELS),
)
"""Of the channels. Those of a warped photo's colours are its difference from the render, 0 outside of the mask."""
CHANNELS = len(NAMES)
COLOURS = (0, 1, 2)
DIFFERENCES = tuple(i for i, n in enumerate(NAMES) if n.startswith("photo") and n.endswith(("red", "green", "blue")))
_ALPHA = NAMES.index("alpha")
PHOTO_MASKS = tuple(i for i, n in enumerate(NAMES) if n.endswith("mask"))
AGREEMENTS = tuple(i for i, n in enumerate(NAMES) if n.endswith("agreement"))
_MIDDLE = 0.5
"""Subtracted from the render's colours."""
_COVERED = 0.5
_OPAQUE = 0.8
"""Alpha from which a pixel may be corrected fully."""


@dataclass(frozen=True, eq=False)
class Example:
    """A render as the network reads it, and what it should have been."""

    inputs: Float[Tensor, "c h w"]
    target: Float[Tensor, "3 h w"]
    weight: Float[Tensor, "h w"]
    """0 where the photo has nothing to say (a mask), else 1."""
    photo: str = ""
    """Whose photo the target is: examples of one photo are held out together."""

    @property
    def render(self) -> Float[Tensor, "3 h w"]:
        return self.inputs[:3] + _MIDDLE


def channels(view: RenderedView, references: tuple[ReferencePhoto, ...]) -> Float[Tensor, "c h w"]:
    """The channels `NAMES` of a render. `references`, nearest first; those beyond `PHOTOS` are not read, and missing
    ones are 0."""
    rgb, depth = view.rgb.float().clamp(0, 1), torch.where(view.alpha > _COVERED, view.depth, 0)
    known = depth > 0
    middle = depth[known].median() if bool(known.any()) else depth.new_tensor(1.0)
    inverse = torch.where(known, (middle / depth.clamp_min(1e-9)).clamp(0, 4) - 1, -1)
    rows = [*(rgb - _MIDDLE).permute(2, 0, 1), view.alpha, inverse]
    for photo in references[:PHOTOS]:
        warped = warp_photo(
            view.camera,
            view.world_from_cam,
            depth,
            photo.camera,
            photo.world_from_cam,
            photo.rgb,
            photo.depth,
        )
        rows += [*((warped.rgb - rgb) * warped.mask[..., None]).permute(2, 0, 1), warped.mask, warped.agreement]
    rows += [torch.zeros_like(view.alpha)] * (CHANNELS - len(rows))
    return torch.stack([r.float() for r in rows])


def informed(inputs: Float[Tensor, "*b c h w"]) -> Float[Tensor, "*b h w"]:
    """In [0, 1]: where the scene is opaque and a photo shows the same place, by its own depth too. Elsewhere a network
    could only tell what scenes look like in general, and what a photo shows there is of another place, so nothing is
    corrected: without the agreement it drew textures into dark backgrounds (`scripts/results/refiner`)."""
    alpha, agreement = inputs[..., _ALPHA, :, :], inputs[..., list(AGREEMENTS), :, :]
    seen = ((alpha - _COVERED) / (_OPAQUE - _COVERED)).clamp(0, 1) * agreement.amax(-3)
    h, w = seen.shape[-2:]
    smooth = avg_pool2d(seen.reshape(-1, 1, h, w), 5, 1, 2, count_include_pad=False)
    return seen * smooth.reshape(seen.shape)


def example(pair: RefinerPair) -> Example:
    """A pair as the network reads it."""
    target = pair.target.float().permute(2, 0, 1)
    weight = torch.ones_like(target[0]) if pair.weight is None else pair.weight.float()
    return Example(channels(pair.view, pair.references), target, weight, pair.photo)
