"""Which perceptual metric is reported: LPIPS first, ST-LPIPS in its place, and neither by the other's name."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from splat.core import lpips, stlpips
from splat.core.lpips import Lpips
from splat.core.stlpips import StLpips
from splat.priors import weights
from splat.stages import perceptual
from splat.stages.perceptual import perceptual_metric, reported_variant


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small file in place of the weights of ST-LPIPS, and nothing installed."""
    monkeypatch.delenv("SPLAT_WEIGHTS", raising=False)
    monkeypatch.setattr(weights, "_installed", lambda w: ())
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    path = tmp_path / "weights" / "alex_shift_tolerant.pth"
    path.parent.mkdir()
    torch.save({name: torch.zeros(1) for name in stlpips._NAMES}, path)
    data = path.read_bytes()
    row = replace(weights.STLPIPS_ALEX, size=len(data), sha256=hashlib.sha256(data).hexdigest())
    monkeypatch.setitem(weights.TABLE, "stlpips-alex", row)
    return path.parent


def test_st_lpips_stands_in_for_lpips(folder: Path) -> None:
    metric, note = perceptual_metric(folder)
    assert isinstance(metric, StLpips) and reported_variant(metric) == "stlpips-alex"
    assert "alex_shift_tolerant.pth" in note


def test_lpips_comes_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perceptual, "load_lpips", lambda *a: (Lpips("vgg", {}, {}), "files"))
    metric, _ = perceptual_metric(folder)
    assert reported_variant(metric) == lpips.REPORTED == "vgg"


def test_other_contents_are_a_reason_not_an_error(folder: Path) -> None:
    (folder / "alex_shift_tolerant.pth").write_bytes(b"another")
    metric, note = perceptual_metric(folder)
    assert metric is None and reported_variant(None) is None
    assert "is not the file of ST-LPIPS" in note


def test_without_either_the_reason_names_the_weights_of_lpips(folder: Path, tmp_path: Path) -> None:
    metric, note = perceptual_metric(tmp_path / "empty")
    assert metric is None and "vgg16" in note
