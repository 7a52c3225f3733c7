"""ST-LPIPS on tiny random weights: its layers written a second way, and what the published weights give."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from splat.core.errors import SplatError
from splat.core.lpips import Lpips, metric_title
from splat.core.stlpips import _STRIP, StLpips
from splat.priors import weights

CHANNELS = [4, 5, 6, 7, 8]


def random_weights() -> dict[str, Tensor]:
    a, b, c, d, e = CHANNELS
    out = {"scaling_layer.shift": torch.rand(1, 3, 1, 1), "scaling_layer.scale": torch.rand(1, 3, 1, 1) + 0.5}
    for name, o, i, k in (("1.0", a, 3, 11), ("2.5", b, a, 5), ("3.9", c, b, 3), ("4.11", d, c, 3), ("5.13", e, d, 3)):
        out[f"net.slice{name}.weight"] = torch.randn(o, i, k, k) / (i * k * k) ** 0.5
        out[f"net.slice{name}.bias"] = 0.1 * torch.randn(o)
    line = torch.tensor([0.25, 0.5, 0.25])
    for name, n in (("1.1", a), ("2.4", a), ("3.8", b)):
        out[f"net.slice{name}.filt"] = torch.outer(line, line).expand(n, 1, 3, 3).clone()
    return out | {f"lin{i}.model.1.weight": torch.rand(1, n, 1, 1) for i, n in enumerate(CHANNELS)}


class Halved(nn.Module):
    """Pixel by pixel weighted sums of neighbours, every second one."""

    def forward(self, x: Tensor) -> Tensor:
        for axis in (2, 3):
            n = x.shape[axis]
            index = torch.arange(-2, n + 2).abs()
            x = x.index_select(axis, torch.where(index >= n, 2 * (n - 1) - index, index))
            m = x.shape[axis] - 2
            x = 0.25 * x.narrow(axis, 0, m) + 0.5 * x.narrow(axis, 1, m) + 0.25 * x.narrow(axis, 2, m)
            x = x.index_select(axis, torch.arange(0, m, 2))
        return x


@torch.no_grad()
def second_way(w: dict[str, Tensor], image: Tensor, target: Tensor) -> float:
    a, b, c, d, e = CHANNELS
    layers = [
        nn.Conv2d(3, a, 11, padding=2), Halved(), nn.ReLU(),
        nn.MaxPool2d(3, 1), Halved(), nn.Conv2d(a, b, 5, padding=2), nn.ReLU(),
        nn.MaxPool2d(3, 1), Halved(), nn.Conv2d(b, c, 3, padding=1), nn.ReLU(),
        nn.Conv2d(c, d, 3, padding=1), nn.ReLU(), nn.Conv2d(d, e, 3, padding=1), nn.ReLU(),
    ]  # fmt: skip
    names = iter(["1.0", "2.5", "3.9", "4.11", "5.13"])
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            name = next(names)
            layer.load_state_dict({k: w[f"net.slice{name}.{k}"] for k in ("weight", "bias")})
    pair = torch.stack([image, target]).permute(0, 3, 1, 2)
    x = (2 * pair - 1 - w["scaling_layer.shift"]) / w["scaling_layer.scale"]
    total = 0.0
    for i, layer in enumerate(layers):
        x = layer(x)
        if i in (2, 6, 10, 12, 14):
            first, second = nn.functional.normalize(x, dim=1)
            head = w[f"lin{(2, 6, 10, 12, 14).index(i)}.model.1.weight"][0]
            total += float(((first - second) ** 2 * head).sum(0).mean())
    return total


@pytest.mark.parametrize("size", [(24, 24), (67, 83), (2 * _STRIP + 7, 40), (2 * _STRIP + 8, 41), (300, 30)])
def test_it_is_its_layers_at_every_size(size: tuple[int, int]) -> None:
    w = random_weights()
    a = torch.rand(*size, 3)
    b = (a + 0.2 * torch.randn_like(a)).clamp(0, 1)
    assert StLpips(w)(a, b) == pytest.approx(second_way(w, a, b), rel=1e-4)


def test_equal_images_have_no_distance_and_order_does_not_matter() -> None:
    metric = StLpips(random_weights())
    a, b = torch.rand(2, 40, 50, 3)
    assert metric(a, a) == 0
    assert metric(a, b) == pytest.approx(metric(b, a))
    assert metric(a, b) > 0


def test_it_is_never_called_lpips() -> None:
    metric = StLpips(random_weights())
    assert metric.variant == "stlpips-alex"
    assert metric_title(metric.variant) == "ST-LPIPS"
    assert metric_title("vgg") == metric_title(Lpips("vgg", {}, {}).variant) == metric_title(None) == "LPIPS"


def test_other_weights_are_refused_by_the_name_that_is_missing() -> None:
    w = random_weights()
    del w["net.slice3.8.filt"]
    with pytest.raises(SplatError, match=r"net\.slice3\.8\.filt"):
        StLpips(w)


def test_published_weights_give_the_published_figures() -> None:
    """Reference values: the authors' package, run on the same picture."""
    if weights.find("stlpips-alex") is None:
        pytest.skip(weights.missing("stlpips-alex") or "")
    metric = StLpips(weights.load("stlpips-alex"))
    y, x = np.mgrid[:96, :112].astype(np.float32)
    picture = np.stack([0.5 + 0.4 * np.sin(x / 5 + y / 9), (x + y) % 24 / 24, (x // 8 + y // 8) % 2], 2)
    a = torch.from_numpy(picture.astype(np.float32))
    blurred = torch.from_numpy(cv2.GaussianBlur(a.numpy(), (0, 0), 2))
    assert metric(a, a) == 0
    assert metric(a[:, :-2], a[:, 2:]) == pytest.approx(0.0175962411, rel=1e-4)
    assert metric(a, blurred.clamp(0, 1)) == pytest.approx(0.425838172, rel=1e-4)
