"""LPIPS: the distance of two images in the features of a classification network (Zhang et al. 2018, eq. 1).

Two files of weights are needed and never downloaded: the backbone in torchvision's layout (`features.0.weight`, ...:
vgg16 528 MB, alexnet 233 MB) and the linear heads in the lpips package's layout (`lin0.model.1.weight`, ...: 6-11 KB).
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d, max_pool2d, relu

from splat.core.errors import SplatError

Backbone = Literal["vgg", "alex"]
REPORTED: Backbone = "vgg"
"""The default, as in most papers."""


@dataclass(frozen=True)
class _Conv:
    """A convolution followed by a ReLU. `index` is its number in torchvision's `features`."""

    index: int
    stride: int = 1
    padding: int = 1
    tap: bool = False
    """Its output is one of the five compared."""


@dataclass(frozen=True)
class _Pool:
    size: int
    stride: int


_VGG16 = (
    _Conv(0), _Conv(2, tap=True), _Pool(2, 2),
    _Conv(5), _Conv(7, tap=True), _Pool(2, 2),
    _Conv(10), _Conv(12), _Conv(14, tap=True), _Pool(2, 2),
    _Conv(17), _Conv(19), _Conv(21, tap=True), _Pool(2, 2),
    _Conv(24), _Conv(26), _Conv(28, tap=True),
)  # fmt: skip
_ALEXNET = (
    _Conv(0, stride=4, padding=2, tap=True), _Pool(3, 2),
    _Conv(3, padding=2, tap=True), _Pool(3, 2),
    _Conv(6, tap=True), _Conv(8, tap=True), _Conv(10, tap=True),
)  # fmt: skip
_LAYERS: dict[str, tuple[_Conv | _Pool, ...]] = {"vgg": _VGG16, "alex": _ALEXNET}
_FILES = {
    "vgg": ("vgg16*.pth", "lpips_vgg*.pth", "vgg.pth"),
    "alex": ("alexnet*.pth", "lpips_alex*.pth", "alex.pth"),
}
"""Backbone file as torch.hub names it; heads under our name; heads as the lpips package names them."""

# Statistics of ImageNet for images in [-1, 1], as the heads were trained with.
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)


@dataclass(frozen=True, eq=False)
class Lpips:
    """The metric: 0 = equal, larger = more different. Report `variant` with every value."""

    backbone: Backbone
    weights: dict[str, Tensor]
    """torchvision's `features.*`."""
    heads: dict[str, Tensor]
    """`lin<i>.model.1.weight`, [1 c 1 1], not negative."""
    input_range: Literal["[-1,1]", "[0,1]"] = "[-1,1]"
    """Range of the input of the network, which was trained with [-1, 1]. Use [0, 1] only to compare with published 3DGS
    code that does."""

    @property
    def variant(self) -> str:
        return f"lpips-{self.backbone}" + ("" if self.input_range == "[-1,1]" else "-01")

    def features(self, image: Float[Tensor, "h w 3"]) -> list[Float[Tensor, "1 _ _ _"]]:
        """Outputs of the five compared layers, after ReLU, for an image in [0, 1]."""
        x = image.permute(2, 0, 1)[None]
        if self.input_range == "[-1,1]":
            x = 2 * x - 1
        x = (x - x.new_tensor(_SHIFT)[:, None, None]) / x.new_tensor(_SCALE)[:, None, None]
        taps = []
        for layer in _LAYERS[self.backbone]:
            if isinstance(layer, _Pool):
                x = max_pool2d(x, layer.size, layer.stride)
                continue
            weight, bias = (self.weights[f"features.{layer.index}.{k}"].to(x) for k in ("weight", "bias"))
            x = relu(conv2d(x, weight, bias, layer.stride, layer.padding))
            if layer.tap:
                taps.append(x)
        return taps

    def __call__(self, image: Float[Tensor, "h w 3"], target: Float[Tensor, "h w 3"]) -> float:
        """The distance of two images in [0, 1] (clipped). Images must be at least 32 px (vgg: 16) on each side."""
        with torch.no_grad():
            return feature_distance(self.features(image.clamp(0, 1)), self.features(target.clamp(0, 1)), self.heads)


def feature_distance(
    first: list[Float[Tensor, "1 _ _ _"]], second: list[Float[Tensor, "1 _ _ _"]], heads: dict[str, Tensor]
) -> float:
    """Equation 1 of Zhang et al. 2018: squared differences of features with unit length along the channels, weighted by
    channel (`lin<i>.model.1.weight`, [1 c 1 1]), averaged over the pixels of each layer and summed over the layers."""
    total = 0.0
    for i, (a, b) in enumerate(zip(first, second)):
        a, b = (t / (t.square().sum(1, keepdim=True).sqrt() + 1e-10) for t in (a, b))
        head = heads[f"lin{i}.model.1.weight"].to(a)
        total += float(((a - b).square() * head.reshape(1, -1, 1, 1)).sum(1).mean())
    return total


def metric_title(variant: str | None) -> str:
    """What a figure of this variant (`lpips_variant` in metrics.json) is called in tables."""
    return "ST-LPIPS" if variant is not None and variant.startswith("stlpips") else "LPIPS"


def load_lpips(backbone: Backbone = "vgg", folder: Path | None = None) -> tuple[Lpips | None, str]:
    """The metric and a list of its files; or None and one sentence that says which file is missing and where to put it.

    Searches `folder` if given, else `$SPLAT_WEIGHTS`, torch.hub's cache and, for the heads, an installed lpips package.
    Raises SplatError for a file with wrong contents.
    """
    network, heads = find_weights(backbone, folder)
    name = {"vgg": "vgg16-397923af.pth", "alex": "alexnet-owt-7be5be79.pth"}[backbone]
    if network is None or heads is None:
        missing = [f"{name} (torchvision)"] * (network is None) + [f"{backbone}.pth (lpips heads)"] * (heads is None)
        place = folder or os.environ.get("SPLAT_WEIGHTS") or "a folder named by SPLAT_WEIGHTS"
        return None, f"weights not found: put {' and '.join(missing)} into {place}."
    metric = Lpips(backbone, _read(network), _read(heads))
    for layer in _LAYERS[backbone]:
        if isinstance(layer, _Conv) and f"features.{layer.index}.bias" not in metric.weights:
            raise SplatError(f"{network} is not torchvision's {backbone}: it has no features.{layer.index}.bias.")
    for i in range(5):
        if f"lin{i}.model.1.weight" not in metric.heads:
            raise SplatError(f"{heads} does not hold the linear heads of LPIPS: it has no lin{i}.model.1.weight.")
    return metric, f"{network}, {heads}"


def find_weights(backbone: Backbone, folder: Path | None = None) -> tuple[Path | None, Path | None]:
    """The files of the backbone and of the heads, each None where it is not on this machine."""
    if folder is not None:
        places = [Path(folder)]
    else:
        named = os.environ.get("SPLAT_WEIGHTS")
        places = [Path(named)] if named else []
        places.append(Path(torch.hub.get_dir()) / "checkpoints")
    network_name, *head_names = _FILES[backbone]
    network = _first(places, [network_name])
    heads = _first(places, head_names)
    if heads is None and folder is None and (package := importlib.util.find_spec("lpips")) is not None:
        heads = _first([Path(p) / "weights" / "v0.1" for p in package.submodule_search_locations or []], head_names)
    return network, heads


def _first(places: list[Path], names: list[str]) -> Path | None:
    found = (path for place in places if place.is_dir() for name in names for path in sorted(place.rglob(name)))
    return next(found, None)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:
        raise SplatError(f"{path} cannot be read as weights ({type(e).__name__}): copy the file again.") from None
