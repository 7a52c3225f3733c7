"""The network: a small residual U-Net that starts as the identity."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, pad

WIDTHS = (24, 48, 64)
"""Channels of the three levels."""
MAX_PARAMETERS = 300_000


class RefinerNet(nn.Module):
    """Three levels of two 3x3 convolutions, joined by skips (Ronneberger et al. 2015), without normalization:
    statistics of crops are not those of whole images. The last layer starts at zero, so the correction does too.

    Input: [b c h w] of any size (padded to a multiple of four inside). Output: the correction of the colours
    [b 3 h w], and the logarithm of the expected error over `unet.ERROR_UNIT` [b h w].
    """

    def __init__(self, inputs: int, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        a, b, c = self.widths = tuple(widths)
        self.down_1, self.down_2, self.down_3 = _block(inputs, a), _block(a, b), _block(b, c)
        self.up_2, self.up_1 = _block(b + c, b), _block(a + b, a)
        self.last = nn.Conv2d(a, 4, 3, padding=1)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b 3 h w"], Float[Tensor, "b h w"]]:
        h, w = x.shape[-2:]
        x = pad(x, (0, -w % 4, 0, -h % 4), mode="replicate")
        one = self.down_1(x)
        two = self.down_2(avg_pool2d(one, 2))
        three = self.down_3(avg_pool2d(two, 2))
        two = self.up_2(torch.cat([two, _larger(three)], 1))
        out = self.last(self.up_1(torch.cat([one, _larger(two)], 1)))[..., :h, :w]
        return out[:, :3], out[:, 3].clamp(-6, 6)


ERROR_UNIT = 0.05
"""Error, in values of [0, 1], at which the network's fourth output is 0."""


def _block(inputs: int, outputs: int) -> nn.Sequential:
    layers = [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.Conv2d(outputs, outputs, 3, padding=1), nn.ReLU()]
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)


def _larger(x: Tensor) -> Tensor:
    return interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def seeded_net(inputs: int, widths: Sequence[int], seed: int) -> RefinerNet:
    """A network before training; leaves torch's own random numbers as they are."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return RefinerNet(inputs, widths)


def count_parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())
