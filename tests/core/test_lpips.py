"""LPIPS on tiny random weights: the metric's properties and its formula written a second way."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from splat.core.errors import SplatError
from splat.core.lpips import Lpips, load_lpips

# Channels of the five stages, tiny; kinds and order are the published networks'.
VGG_BLOCKS = [[3, 4, 4], [4, 5, 5], [5, 6, 6, 6], [6, 7, 7, 7], [7, 8, 8, 8]]
ALEX_CHANNELS = [4, 5, 6, 7, 8]


def vgg() -> tuple[nn.Sequential, list[int]]:
    """torchvision's `vgg16().features` with few channels, and the indices of the compared ReLUs."""
    layers: list[nn.Module] = []
    taps = []
    for block in VGG_BLOCKS:
        for a, b in pairwise(block):
            layers += [nn.Conv2d(a, b, 3, padding=1), nn.ReLU()]
        taps.append(len(layers) - 1)
        layers.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*layers), taps


def alex() -> tuple[nn.Sequential, list[int]]:
    """torchvision's `alexnet().features` with few channels."""
    a, b, c, d, e = ALEX_CHANNELS
    layers = [
        nn.Conv2d(3, a, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(a, b, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(b, c, 3, padding=1), nn.ReLU(),
        nn.Conv2d(c, d, 3, padding=1), nn.ReLU(),
        nn.Conv2d(d, e, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
    ]  # fmt: skip
    return nn.Sequential(*layers), [1, 4, 7, 9, 11]


NETWORKS = {"vgg": vgg, "alex": alex}


def build(backbone: str) -> tuple[nn.Sequential, list[int], dict[str, Tensor], dict[str, Tensor]]:
    network, taps = NETWORKS[backbone]()
    weights = {f"features.{k}": v.detach() for k, v in network.state_dict().items()}
    channels = [network[i - 1].out_channels for i in taps]
    heads = {f"lin{i}.model.1.weight": torch.rand(1, c, 1, 1) for i, c in enumerate(channels)}
    return network, taps, weights, heads


def images(h: int = 67, w: int = 83) -> tuple[Tensor, Tensor]:
    a = torch.rand(h, w, 3)
    return a, (a + 0.2 * torch.randn_like(a)).clamp(0, 1)


def by_formula(a: Tensor, b: Tensor, network: nn.Sequential, taps: list[int], heads: dict[str, Tensor]) -> float:
    """Zhang et al. 2018, eq. 1: sum over layers of the mean over places of |w * (unit a - unit b)|^2, w^2 = head."""
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    total = 0.0
    for i, tap in enumerate(taps):
        with torch.no_grad():
            fa, fb = (network[: tap + 1]((((x * 2 - 1) - shift) / scale).permute(2, 0, 1)) for x in (a, b))
        unit_a, unit_b = (nn.functional.normalize(f, dim=0) for f in (fa, fb))
        w = heads[f"lin{i}.model.1.weight"].flatten().sqrt()[:, None, None]
        total += float(((w * (unit_a - unit_b)) ** 2).sum(0).mean())
    return total


@pytest.mark.parametrize("backbone", ["vgg", "alex"])
def test_the_distance_is_the_published_formula(backbone: str) -> None:
    network, taps, weights, heads = build(backbone)
    a, b = images()
    expected = by_formula(a, b, network, taps, heads)
    assert expected > 1e-4
    assert Lpips(backbone, weights, heads)(a, b) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("backbone", ["vgg", "alex"])
def test_equal_images_have_no_distance_and_order_does_not_matter(backbone: str) -> None:
    _, _, weights, heads = build(backbone)
    metric = Lpips(backbone, weights, heads)
    a, b = images()
    assert metric(a, a) == 0
    assert metric(a, b) == pytest.approx(metric(b, a))
    assert metric(a, b) > 0


def test_the_variant_names_the_network_and_what_it_was_fed() -> None:
    _, _, weights, heads = build("vgg")
    correct, published = Lpips("vgg", weights, heads), Lpips("vgg", weights, heads, input_range="[0,1]")
    assert (correct.variant, published.variant) == ("lpips-vgg", "lpips-vgg-01")
    a, b = images()
    assert published((a + 0) / 1, b) == pytest.approx(correct((a + 1) / 2, (b + 1) / 2), rel=1e-4)


def save(folder: Path, backbone: str, skip: str = "") -> None:
    _, _, weights, heads = build(backbone)
    weights.pop(skip, None)
    torch.save(weights, folder / {"vgg": "vgg16-397923af.pth", "alex": "alexnet-owt-7be5be79.pth"}[backbone])
    torch.save(heads, folder / f"{backbone}.pth")


@pytest.mark.parametrize("backbone", ["vgg", "alex"])
def test_weights_are_found_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backbone: str) -> None:
    save(tmp_path, backbone)
    given, _ = load_lpips(backbone, tmp_path)
    monkeypatch.setenv("SPLAT_WEIGHTS", str(tmp_path))
    named, _ = load_lpips(backbone)
    a, b = images()
    assert given is not None and named is not None
    assert given(a, b) == named(a, b) > 0


def test_missing_weights_are_a_reason_not_an_error(tmp_path: Path) -> None:
    metric, reason = load_lpips("vgg", tmp_path)
    assert metric is None
    assert "vgg16-397923af.pth" in reason and str(tmp_path) in reason


def test_wrong_weights_are_refused_by_name(tmp_path: Path) -> None:
    save(tmp_path, "vgg", skip="features.28.bias")
    with pytest.raises(SplatError, match=r"vgg16-397923af\.pth.*features\.28\.bias"):
        load_lpips("vgg", tmp_path)
    (tmp_path / "vgg16-397923af.pth").write_bytes(b"not a checkpoint")
    with pytest.raises(SplatError, match="cannot be read"):
        load_lpips("vgg", tmp_path)
