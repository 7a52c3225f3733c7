"""The adapter to RoMa: coordinates, certainty, and one sentence where something is missing.

romatch needs torchvision and its weights are never fetched, so a module with its interface (0.1.2) stands in.
"""

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import planes
import pytest
import torch

from splat.core.camera import Camera
from splat.core.capture import Capture
from splat.core.errors import SplatError
from splat.core.image import write_png
from splat.core.slots import DenseMatcher, Silent
from splat.priors.roma import BACKBONE, DINOV3, RomaMatcher, forward_warp, pixels_from_normalized

CAMERA = Camera(150.0, 155.0, 83.0, 57.0, 160, 120)


def grid(h: int, w: int) -> torch.Tensor:
    """RoMa's own coordinates of pixel centres [h w 2]."""
    y = torch.linspace(-1 + 1 / h, 1 - 1 / h, h)
    x = torch.linspace(-1 + 1 / w, 1 - 1 / w, w)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), 2)


class Network:
    """What `romatch.roma_outdoor` returns, as far as it is used: b shows a moved by 0.25 of its width to the left."""

    def __init__(self, size: tuple[int, int], symmetric: bool, batched: bool = True) -> None:
        self.size, self.symmetric, self.batched = size, symmetric, batched
        self.seen: list[tuple[int, int]] = []

    def match(self, a: Any, b: Any, device: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        self.seen += [a.size, b.size]
        at = grid(*self.size)
        there = at - torch.tensor([0.5, 0.0])
        certainty = torch.full(self.size, 0.9)
        certainty[(there.abs() > 1).any(2)] = 0
        warp = torch.cat([at, there.clamp(-1, 1)], 2)
        if self.symmetric:
            warp = torch.cat([warp, torch.cat([at + torch.tensor([0.5, 0.0]), at], 2)], 1)
            certainty = torch.cat([certainty, certainty], 1)
        return (warp[None], certainty[None]) if self.batched else (warp, certainty)


@pytest.fixture
def romatch(monkeypatch, tmp_path) -> dict[str, Any]:
    """The stand-in, its weights, and what it is called with."""
    asked: dict[str, Any] = {}
    fake = types.ModuleType("romatch")

    def roma_outdoor(device, weights=None, dinov2_weights=None, coarse_res=560, symmetric=True, **others):
        asked.update(device=device, weights=weights, dinov2=dinov2_weights, **others)
        asked["network"] = Network((56, 56) if coarse_res[0] == 56 else (60, 80), symmetric)
        return asked["network"]

    fake.roma_outdoor = roma_outdoor  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "romatch", fake)
    monkeypatch.setenv("SPLAT_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    (tmp_path / "weights").mkdir()
    torch.save({"w": torch.ones(1)}, tmp_path / "weights" / "roma_outdoor.pth")
    torch.save({"b": torch.ones(2)}, tmp_path / "weights" / BACKBONE)
    return asked


def two(tmp_path: Path) -> Capture:
    return planes.capture_of(planes.PlaneScene.make(0.0), CAMERA, planes.walk(2), tmp_path / "photos")


def test_coordinates_convert_exactly():
    for size in (1, 7, 560):
        i = torch.arange(size, dtype=torch.float64)
        x = -1 + (2 * i + 1) / size
        found = pixels_from_normalized(torch.stack([x, x], 1), size, 2 * size)
        assert torch.allclose(found[:, 0], i + 0.5) and torch.allclose(found[:, 1], 2 * i + 1)


def test_both_ways_or_one_and_batches_are_understood():
    for size in ((56, 56), (60, 81), (3, 4)):
        results = []
        for symmetric in (True, False):
            for batched in (True, False):
                results.append(
                    forward_warp(*Network(size, symmetric, batched).match(*[types.SimpleNamespace(size=size)] * 2))
                )
        assert all(warp.shape == (*size, 2) and certainty.shape == size for warp, certainty in results)
        assert all(torch.equal(warp, results[0][0]) for warp, _ in results)


def test_matches_are_in_pixels_of_the_working_photos(romatch, tmp_path):
    matcher = RomaMatcher(size=56, device="cpu")
    assert isinstance(matcher, DenseMatcher)
    capture = two(tmp_path)
    (match,) = matcher(capture, [(0, 1)], Silent())
    true = CAMERA.pixel_centres() - torch.tensor([0.25 * CAMERA.width, 0.0])
    certain = match.certainty > 0
    assert match.certainty.shape == (120, 160) and torch.allclose(match.certainty[certain], torch.tensor(0.9))
    assert float((match.pixels_b - true)[certain].abs().max()) < 1e-3
    assert not bool(certain[true[..., 0] < 0].any()), "the target is outside"
    assert float(certain[true[..., 0] > 3].float().mean()) == 1
    assert romatch["network"].seen == [(160, 120)] * 2 and not romatch["network"].symmetric
    assert set(romatch["weights"]) == {"w"} and set(romatch["dinov2"]) == {"b"}
    assert romatch["upsample_preds"] is False and romatch["use_custom_corr"] is False


def test_the_network_is_loaded_once_for_all_pairs_and_only_when_asked(romatch, tmp_path):
    matches = RomaMatcher(device="cpu")(two(tmp_path), [(0, 1), (1, 0)], Silent())
    assert "network" not in romatch
    assert [(m.view_a, m.view_b) for m in matches] == [(0, 1), (1, 0)]
    assert len(romatch["network"].seen) == 4


def test_missing_weights_are_named_with_size_and_licence(romatch, tmp_path):
    (tmp_path / "weights" / BACKBONE).unlink()
    with pytest.raises(SplatError, match=r"dinov2_vitl14_pretrain\.pth \(1\.2 GB, Apache-2\.0\) into .*weights") as e:
        list(RomaMatcher()(two(tmp_path), [(0, 1)], Silent()))
    assert "roma_outdoor" not in str(e.value), "which is there"
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save({"b": torch.ones(2)}, tmp_path / "hub" / "checkpoints" / BACKBONE)
    assert len(list(RomaMatcher(device="cpu")(two(tmp_path), [(0, 1)], Silent()))) == 1


@pytest.mark.parametrize(("model", "package"), [("outdoor", "romatch"), ("v2", "romav2")])
def test_a_missing_package_is_named_with_its_licence_and_how_to_install_it(monkeypatch, tmp_path, model, package):
    monkeypatch.setitem(sys.modules, "romatch", None)
    monkeypatch.setitem(sys.modules, "romav2", None)
    with pytest.raises(SplatError, match=rf"MIT.*`pip install {package}`.*torchvision"):
        list(RomaMatcher(model=model)(two(tmp_path), [(0, 1)], Silent()))


def test_version_two_reads_torchs_cache_alone_and_never_downloads(monkeypatch, tmp_path):
    """romav2 2.0.1's `match` returns a dictionary of warp_AB [1 h w 2] and overlap_AB [1 h w 1]."""
    fake = types.ModuleType("romav2")

    class RoMaV2:
        class Cfg:
            def __init__(self, setting: str, compile: bool) -> None:
                assert setting == "fast" and not compile

        def __init__(self, cfg: Any) -> None: ...

        def match(self, a: Any, b: Any) -> dict[str, torch.Tensor]:
            assert a.shape == (120, 160, 3) and str(a.dtype) == "uint8"
            return {"warp_AB": grid(60, 80)[None], "overlap_AB": torch.full((1, 60, 80, 1), 0.5)}

    fake.RoMaV2 = RoMaV2  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "romav2", fake)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    matcher, capture = RomaMatcher(model="v2"), two(tmp_path)
    with pytest.raises(SplatError, match="DINOv3"):
        list(matcher(capture, [(0, 1)], Silent()))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "hub" / "checkpoints" / "romav2.0.1.pt").touch()
    (tmp_path / "hub" / DINOV3).mkdir()
    (match,) = matcher(capture, [(0, 1)], Silent())
    assert torch.allclose(match.pixels_b, CAMERA.pixel_centres(), atol=1e-3)
    assert bool((match.certainty == 0.5).all())


@pytest.mark.skipif(importlib.util.find_spec("romatch") is None, reason="romatch is not installed")
def test_the_real_package_has_the_interface_that_is_used():
    import inspect

    import romatch

    taken = set(inspect.signature(romatch.roma_outdoor).parameters)
    used = {"device", "weights", "dinov2_weights", "coarse_res", "symmetric", "upsample_preds", "amp_dtype"}
    assert used | {"use_custom_corr"} <= taken


def test_photos_are_read_at_their_working_size(romatch, tmp_path):
    capture = two(tmp_path)
    write_png(capture.views[1].image_path, torch.zeros(240, 320, 3).byte().numpy())
    list(RomaMatcher(device="cpu")(capture, [(0, 1)], Silent()))
    assert romatch["network"].seen == [(160, 120)] * 2
