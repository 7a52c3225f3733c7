"""Photos with alpha composited over a background, and renders in the colours of a photo."""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from splat.core.image import Photo


def composite(
    rgb: UInt8[Tensor, "h w 3"], alpha: UInt8[Tensor, "h w"] | None, background: Float[Tensor, "3"]
) -> Float[Tensor, "h w 3"]:
    """Composite a photo (not premultiplied) over a background colour: float32 in [0, 1], sRGB. All tensors on one
    device. Without alpha: the photo as floats."""
    colour = rgb.float() / 255
    if alpha is None:
        return colour
    cover = alpha.float()[..., None] / 255
    return colour * cover + background * (1 - cover)


def exposed(image: Float[Tensor, "h w 3"], exposure: Float[Tensor, "3 4"] | None) -> Float[Tensor, "h w 3"]:
    """A render in the colours of a photo, by the colour map that training learned for it; as it is without one."""
    return image if exposure is None else image @ exposure[:, :3].T.to(image) + exposure[:, 3].to(image)


def composite_photo(photo: Photo, background: Float[Tensor, "3"]) -> Float[Tensor, "h w 3"]:
    """`composite` of a photo in memory, on the background's device."""
    device = background.device
    alpha = None if photo.alpha is None else torch.from_numpy(photo.alpha).to(device)
    return composite(torch.from_numpy(photo.rgb).to(device), alpha, background)
