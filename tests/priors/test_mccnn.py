"""MC-CNN's descriptors: unit vectors of 11x11 pixels; with the published weights they match better than NCC."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from splat.core.errors import SplatError
from splat.priors import mccnn, weights


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> nn.Sequential:
    """Random weights of four channels, in place of the published ones."""
    layers: list[nn.Module] = []
    for a in (1, 4, 4, 4, 4):
        layers += [nn.Conv2d(a, 4, 3), nn.ReLU()]
    net = nn.Sequential(*layers[:-1])
    path = tmp_path / "mc_cnn_fast_mb_weights.pt"
    torch.save({"model": {f"conv_blocks.{k}": v for k, v in net.state_dict().items()}}, path)
    data = path.read_bytes()
    row = replace(weights.MCCNN_FAST, size=len(data), sha256=hashlib.sha256(data).hexdigest())
    monkeypatch.setitem(weights.TABLE, "mccnn-fast", row)
    monkeypatch.setenv("SPLAT_WEIGHTS", str(tmp_path))
    return net


def test_descriptors_are_the_layers_normalized(network: nn.Sequential) -> None:
    image = torch.rand(20, 30, 3)
    found = mccnn.describe(image)
    assert found.shape == (20, 30, 4) and not found.requires_grad
    assert torch.allclose(found.norm(dim=2), torch.ones(20, 30), atol=1e-5)
    grey = image @ torch.tensor([0.299, 0.587, 0.114])
    with torch.no_grad():
        inner = network(((grey - grey.mean()) / grey.std())[None, None])[0]
    expected = (inner / inner.norm(dim=0)).permute(1, 2, 0)
    assert torch.allclose(found[5:-5, 5:-5], expected, atol=1e-4)


def test_brightness_and_contrast_do_not_matter(network: nn.Sequential) -> None:
    grey = torch.rand(15, 18)
    assert torch.allclose(mccnn.describe(grey), mccnn.describe(100 * grey + 7), atol=1e-3)
    assert mccnn.describe(torch.full((15, 18), 0.3)).isfinite().all()


def test_a_descriptor_sees_its_radius_and_no_further(network: nn.Sequential) -> None:
    grey = torch.rand(31, 31)
    other = grey.clone()
    other[15, 15], other[0, 0] = grey[0, 0], grey[15, 15]  # mean and deviation stay
    differs = (mccnn.describe(grey) - mccnn.describe(other)).abs().amax(2) > 1e-5
    rows, columns = torch.nonzero(differs[8:, 8:], as_tuple=True)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (2, 12, 2, 12)


def test_small_images_and_missing_weights_are_one_sentence(
    network: nn.Sequential, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SplatError, match="too small"):
        mccnn.describe(torch.rand(5, 40))
    monkeypatch.delenv("SPLAT_WEIGHTS")
    monkeypatch.setattr(weights, "_installed", lambda w: ())
    assert "mccnn==1.4.1" in (mccnn.unavailable() or "")
    with pytest.raises(SplatError, match=r"mccnn==1\.4\.1"):
        mccnn.describe(torch.rand(20, 20))


def wrong(cost: Tensor, truth: Tensor) -> float:
    """Share of the known pixels whose cheapest disparity is off by more than 2."""
    known = truth.isfinite() & (truth > 0)
    return float(((cost.argmin(0) - truth).abs() > 2)[known].float().mean())


@pytest.mark.slow
def test_published_weights_are_better_than_ncc(data_root: Path) -> None:
    """Winner takes all on Middlebury's motorcycle."""
    if (reason := mccnn.unavailable()) is not None:
        pytest.skip(reason)
    folder = data_root / "stereo_motorcycle"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    names = [str(folder / f"motorcycle_{side}.png") for side in ("left", "right")]
    left, right = (cv2.imread(name, cv2.IMREAD_GRAYSCALE) for name in names)
    truth = torch.from_numpy(np.load(folder / "motorcycle_disp.npz")["arr_0"])
    a, b = (mccnn.describe(torch.from_numpy(x).float()) for x in (left, right))

    def patches(x: np.ndarray) -> Tensor:
        flat = nn.functional.unfold(torch.from_numpy(x).float()[None, None], 9, padding=4)[0]
        flat = flat - flat.mean(0)
        return (flat / flat.norm(dim=0).clamp_min(1e-6)).T.reshape(*x.shape, 81)

    def costs(a: Tensor, b: Tensor) -> Tensor:
        out = torch.full((62, *a.shape[:2]), 9.0)
        for d in range(62):
            out[d, :, d:] = 1 - (a[:, d:] * b[:, : b.shape[1] - d]).sum(2)
        return out

    network, ncc = wrong(costs(a, b), truth), wrong(costs(patches(left), patches(right)), truth)
    assert network < 0.155 and network < ncc - 0.025
