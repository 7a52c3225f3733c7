"""ST-LPIPS: a perceptual distance that forgives small shifts (Ghildyal & Liu, "Shift-tolerant Perceptual Similarity
Metric", ECCV 2022).

LPIPS with an AlexNet whose strides are anti-aliased (Zhang 2019): every layer computes with stride 1, a 3x3 binomial
filter follows that takes each second pixel, and the first filter comes before its ReLU. The network is trained for the
metric, from scratch. Its figures cannot be compared with those of LPIPS: report `variant` with every value.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d, max_pool2d, pad, relu

from splat.core.errors import SplatError
from splat.core.lpips import feature_distance

VARIANT = "stlpips-alex"
_STRIP = 64
"""Rows of the first layer's output at a time: its 64 channels in full resolution would take most of the memory."""
_BORDER = 2
"""Pixels by which the filters reflect."""


@dataclass(frozen=True, eq=False)
class StLpips:
    """The metric: 0 = equal, larger = more different."""

    weights: dict[str, Tensor]
    """As published: `net.slice<i>.<layer>.weight`, `.bias` and `.filt`, `lin<i>.model.1.weight`, `scaling_layer.shift`
    and `.scale`."""

    def __post_init__(self) -> None:
        missing = [k for k in _NAMES if k not in self.weights]
        if missing:
            raise SplatError(f"these are not the weights of ST-LPIPS with AlexNet: they have no {missing[0]}.")

    @property
    def variant(self) -> str:
        return VARIANT

    def features(self, image: Float[Tensor, "h w 3"]) -> list[Float[Tensor, "1 _ _ _"]]:
        """Outputs of the five compared layers, after ReLU, for an image in [0, 1]."""
        w = self.weights
        x = 2 * image.permute(2, 0, 1)[None] - 1
        x = (x - w["scaling_layer.shift"].to(x)) / w["scaling_layer.scale"].to(x)
        taps = [self._first(x)]
        for filtered, layer in (("net.slice2.4", "net.slice2.5"), ("net.slice3.8", "net.slice3.9")):
            x = pad(max_pool2d(taps[-1], 3, 1), (_BORDER,) * 4, mode="reflect")
            taps.append(relu(self._conv(layer, self._halved(filtered, x))))
        for layer in ("net.slice4.11", "net.slice5.13"):
            taps.append(relu(self._conv(layer, taps[-1])))
        return taps

    def __call__(self, image: Float[Tensor, "h w 3"], target: Float[Tensor, "h w 3"]) -> float:
        """The distance of two images in [0, 1] (clipped). Images must be at least 24 px on each side."""
        with torch.no_grad():
            return feature_distance(self.features(image.clamp(0, 1)), self.features(target.clamp(0, 1)), self.weights)

    def _first(self, x: Float[Tensor, "1 3 h w"]) -> Float[Tensor, "1 c _ _"]:
        """Convolution (11x11, zero padding of 2), filter, ReLU, in strips of rows."""
        weight, bias = (self.weights[f"net.slice1.0.{k}"].to(x) for k in ("weight", "bias"))
        size = weight.shape[2]
        x = pad(x, (2, 2, 2, 2))
        full = x.shape[2] - size + 1  # rows of the convolution
        count = (full + 2 * _BORDER - 3) // 2 + 1  # rows after the filter
        strips = []
        for start in range(0, count, _STRIP):
            end = min(start + _STRIP, count)
            rows = torch.arange(2 * start, 2 * end + 1, device=x.device) - _BORDER
            rows = full - 1 - (full - 1 - rows.abs()).abs()  # reflected at both ends
            low, high = int(rows.min()), int(rows.max())
            y = conv2d(x[:, :, low : high + size], weight, bias)[:, :, rows - low]
            y = pad(y, (_BORDER, _BORDER, 0, 0), mode="reflect")
            strips.append(relu(self._halved("net.slice1.1", y)))
        return torch.cat(strips, 2)

    def _conv(self, layer: str, x: Tensor) -> Tensor:
        weight, bias = (self.weights[f"{layer}.{k}"].to(x) for k in ("weight", "bias"))
        return conv2d(x, weight, bias, padding=weight.shape[2] // 2)

    def _halved(self, layer: str, x: Tensor) -> Tensor:
        """Low-pass filtered and subsampled by 2."""
        return conv2d(x, self.weights[f"{layer}.filt"].to(x), stride=2, groups=x.shape[1])


_NAMES = [
    *("scaling_layer.shift", "scaling_layer.scale", "net.slice1.1.filt", "net.slice2.4.filt", "net.slice3.8.filt"),
    *(f"net.slice{i}.{k}.{n}" for i, k in ((1, 0), (2, 5), (3, 9), (4, 11), (5, 13)) for n in ("weight", "bias")),
    *(f"lin{i}.model.1.weight" for i in range(5)),
]
