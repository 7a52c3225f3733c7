"""Which network gives depth to a method that wants it, where nobody asked for one."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from splat.core import devices, licences
from splat.priors import DepthAnything, Marigold
from splat.stages.priors import automatic_depth


@dataclass(frozen=True)
class HereAnything(DepthAnything):
    def unavailable(self) -> str | None:
        return None


@dataclass(frozen=True)
class HereMarigold(Marigold):
    def unavailable(self) -> str | None:
        return None


def test_what_takes_minutes_a_photo_on_a_cpu_comes_first_on_a_gpu_only(monkeypatch: pytest.MonkeyPatch) -> None:
    networks = HereAnything(), HereMarigold(device="cpu")
    chosen, skipped = automatic_depth(*networks)
    assert chosen is networks[0] and skipped["Marigold"] == "another one is used"
    monkeypatch.setattr(devices, "named", lambda name: torch.device("cuda"))
    chosen, skipped = automatic_depth(*networks)
    assert chosen is networks[1] and skipped["Depth Anything"] == "another one is used"


def test_the_one_that_is_there_is_used_and_the_reason_is_said_for_the_other() -> None:
    chosen, skipped = automatic_depth(DepthAnything(), HereMarigold(device="cpu"))
    assert isinstance(chosen, Marigold) and "not found" in skipped["Depth Anything"]


def test_a_licence_that_is_not_allowed_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(licences, "allowed", lambda licence: "RAIL" not in licence)
    chosen, skipped = automatic_depth(DepthAnything(), HereMarigold(device="cpu"))
    assert chosen is None and "--license commercial" in skipped["Marigold"]
