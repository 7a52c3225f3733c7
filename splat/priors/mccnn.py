"""Descriptors of pixels by the fast network of MC-CNN (Zbontar & LeCun, "Stereo Matching by Training a Convolutional
Neural Network to Compare Image Patches", JMLR 2016): the cost of a match is 1 - their dot product.

Five 3x3 convolutions with ReLU between them, so that a descriptor sees 11x11 pixels. The weights come from
`priors/weights.py`; they were trained on Middlebury, with photos that differ in exposure and light.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d, normalize, pad, relu

from splat.core.errors import SplatError
from splat.priors import weights
from splat.priors.stereo_search import grey_of

RADIUS = 5
"""Pixels that a descriptor sees on each side of its own."""
_LAYERS = (0, 2, 4, 6, 8)


def unavailable() -> str | None:
    """One sentence with the command that mends it where the weights are not found; None where they are."""
    return weights.missing(weights.MCCNN_FAST.name)


def describe(image: Float[Tensor, "h w 3"] | Float[Tensor, "h w"]) -> Float[Tensor, "h w c"]:
    """Unit vectors (c = 64) of the pixels of an image, colour or grey, at any scale of its values: mean and deviation
    of the image are taken out. Beyond the border the image is reflected. At least 6 px on each side.

    Raises SplatError where the weights are missing or others.
    """
    grey = grey_of(image) if image.ndim == 3 else image
    if min(grey.shape) <= RADIUS:
        raise SplatError(f"an image of {grey.shape[1]} x {grey.shape[0]} px is too small: give at least {RADIUS + 1}.")
    with torch.no_grad():
        x = (grey - grey.mean()) / grey.std().clamp_min(1e-6)
        x = pad(x[None, None], (RADIUS,) * 4, mode="reflect")
        for layer, weight, bias in network():
            x = conv2d(x if layer == _LAYERS[0] else relu(x), weight.to(x), bias.to(x))
        return normalize(x[0], dim=0).permute(1, 2, 0)


def network() -> list[tuple[int, Tensor, Tensor]]:
    """Number, weight and bias of each layer."""
    path = weights.find(weights.MCCNN_FAST.name)
    return _read(path, 0 if path is None else path.stat().st_mtime_ns)


@lru_cache(maxsize=1)
def _read(path: Path | None, modified: int) -> list[tuple[int, Tensor, Tensor]]:
    """`path` and `modified` (ns) are there for the cache."""
    state = weights.load(weights.MCCNN_FAST.name)["model"]
    return [(i, state[f"conv_blocks.{i}.weight"].detach(), state[f"conv_blocks.{i}.bias"].detach()) for i in _LAYERS]
