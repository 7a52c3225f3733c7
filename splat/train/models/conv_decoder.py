"""The decoder of CoherentGS: a small convolutional network from the number of a photo to maps over its pixels.

After X-Fields (Bemana et al. 2020): what a network like this can express changes smoothly from pixel to pixel, and that
is all the regularization there is. Layers and numbers of parameters are those of the paper's code at its size.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

DEPTH_WIDTHS = {2: 10, 3: 15, 4: 18}
OPACITY_WIDTHS = {2: 6, 3: 10, 4: 12}
"""By the number of photos, as published."""
_FACTORS = (4, 4, 8, 8, 8, 16)
"""Channels of the levels over the width, from the finest; all coarser ones have the last number."""
_OCTAVES = 10
_LEVELS, _PER_LEVEL = 8, 0.4


def width_for(table: dict[int, int], photos: int) -> int:
    """The published width, and beyond it one whose number of parameters grows with that of the photos."""
    last = max(table)
    return table[photos] if photos in table else round(table[last] * math.sqrt(photos / last))


class ConvDecoder(nn.Module):
    """Maps [views maps height width] of all photos at once.

    From the number of a photo, as sines and cosines of 10 octaves at one pixel, each level doubles the size (bilinear)
    and convolves. The size of each level is that of the map without its last binary digits, a missing row or column
    being reflected, so the result has exactly the size wanted. Corner coordinates (-1, 1) enter after the first level.

    Reflection needs two pixels: where one side of a level is a single pixel (maps more than twice as wide as high) it
    is repeated instead. Weights are N(0, 0.02), so that all maps of photos of the published size start near 0; with
    fewer levels they would not, so the last convolution's are smaller, by 0.4 for each level below the published 8.
    """

    code: Tensor
    corners: Tensor

    def __init__(self, views: int, maps: int, height: int, width: int, channels: int, seed: int = 0) -> None:
        """`channels`: the width g of the network, with 4 g channels at the finest level and 16 g at coarse ones."""
        super().__init__()
        levels = max(1, int(math.log2(max(height, width))))
        factors = [_FACTORS[min(k, len(_FACTORS) - 1)] for k in range(levels)][::-1]
        self.sizes = [(max(1, height >> k), max(1, width >> k)) for k in range(levels, -1, -1)]
        t = torch.linspace(0, 1, views)[:, None] * 2.0 ** torch.arange(_OCTAVES)
        self.register_buffer("code", torch.cat([t.sin(), t.cos()], 1)[:, :, None, None], persistent=False)
        y, x = torch.meshgrid(torch.tensor([-1.0, 1.0]), torch.tensor([-1.0, 1.0]), indexing="ij")
        self.register_buffer("corners", torch.stack([x, y])[None], persistent=False)
        incoming, convolutions = 2 * _OCTAVES, []
        for k, factor in enumerate(factors):
            convolutions.append(nn.Conv2d(incoming + 2 * (k == 1), factor * channels, 1 if k == 0 else 3))
            incoming = factor * channels
        convolutions.append(nn.Conv2d(incoming + 2 * (levels == 1), maps, 3))
        self.convolutions = nn.ModuleList(convolutions)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for c in convolutions:
                c.weight.normal_(0, 0.02, generator=generator)
                assert c.bias is not None
                c.bias.zero_()
                c.weight.data = c.weight.contiguous(memory_format=torch.channels_last)  # half as fast again on a CPU
            convolutions[-1].weight.mul_(_PER_LEVEL ** max(0, _LEVELS - levels))

    def forward(self) -> Float[Tensor, "views maps h w"]:
        x = self.code
        for k, size in enumerate(self.sizes[1:]):
            before = self.sizes[k]
            doubled = (min(size[0], 2 * before[0]), min(size[1], 2 * before[1]))
            x = nn.functional.interpolate(x, doubled, mode="bilinear", align_corners=True)
            x = _padded(x, size[0] - doubled[0], size[1] - doubled[1], 0 if k == 0 else 1)
            x = nn.functional.leaky_relu(self.convolutions[k](x), 0.2)
            if k == 0:
                corners = self.corners[..., : size[0], : size[1]]
                corners = _padded(corners, size[0] - corners.shape[2], size[1] - corners.shape[3], 0)
                x = torch.cat([x, corners.expand(len(x), -1, -1, -1)], 1)
        return self.convolutions[-1](_padded(x, 0, 0, 1))


def _padded(x: Tensor, rows: int, columns: int, around: int) -> Tensor:
    """With `rows` below, `columns` on the right, and `around` pixels for a convolution, all reflected."""
    pad = (around, around + columns, around, around + rows)
    if not any(pad):
        return x
    enough = x.shape[2] > around + rows and x.shape[3] > around + columns
    return nn.functional.pad(x, pad, mode="reflect" if enough else "replicate")
