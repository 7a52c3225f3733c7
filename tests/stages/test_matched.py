"""Depth that is matched for a finished run: at which size, in which photos, and where it is left alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import planes
import pytest
from PIL import Image

from splat.core.camera import Camera
from splat.core.capture import Capture
from splat.core.slots import DepthMap, Reporter, Silent
from splat.run.completed import CompletedRun
from splat.stages import matched
from splat.stages.matched import matched_depths

CAMERA = Camera(110.0, 110.0, 60.0, 45.0, 120, 90)
SCENE, POSES = planes.PlaneScene.make(20.0), planes.walk(3)


class Noted:
    """The true depth as a prior, which notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[Capture] = []

    def __call__(self, capture: Capture, report: Reporter, seed: int = 0) -> list[DepthMap]:
        self.asked.append(capture)
        return planes.TrueDepth(SCENE)(capture, report, seed)


class Run(CompletedRun):
    """A finished run of which no more is known than is asked."""

    def __init__(self, kept: tuple[DepthMap, ...] = (), lost: dict[str, str] | None = None) -> None:
        vars(self).update(kept=kept, lost=lost or {})

    def matched_depths(self) -> tuple[DepthMap, ...]:
        kept: tuple[DepthMap, ...] = vars(self)["kept"]
        return kept


@pytest.fixture
def capture(tmp_path: Path) -> Capture:
    """Photos of 120 x 90, trained at 60 x 45."""
    return planes.capture_of(SCENE, CAMERA, POSES, tmp_path).resized(60)


def found(run: Run, capture: Capture, size: int = 640, prior: Noted | None = None) -> tuple[DepthMap | None, ...]:
    return matched_depths(run, capture, size, Silent(), prior or Noted())


def test_photos_are_matched_finer_than_they_were_trained_but_no_finer_than_they_are(capture: Capture) -> None:
    assert [m.depth.shape for m in found(Run(), capture, 96) if m is not None] == [(72, 96)] * 3
    assert [m.depth.shape for m in found(Run(), capture, 640) if m is not None] == [(90, 120)] * 3


def test_depth_that_the_run_kept_is_used_where_it_is_as_fine(capture: Capture) -> None:
    kept = tuple(planes.TrueDepth(SCENE)(capture, Silent()))
    fresh = Noted()
    assert [m.depth.shape for m in found(Run(kept), capture, 60, fresh) if m is not None] == [(45, 60)] * 3
    assert not fresh.asked
    found(Run(kept), capture, 120, fresh)
    assert fresh.asked


def test_of_many_photos_some_are_matched(capture: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matched, "MAX_PHOTOS", 2)
    prior = Noted()
    maps = found(Run(), capture, prior=prior)
    assert [m is None for m in maps] == [False, True, False]
    assert [v.name for v in prior.asked[0].views] == [v.name for v in capture.views[::2]]


def test_nothing_is_known_of_what_is_masked(capture: Capture, tmp_path: Path) -> None:
    mask = np.full((90, 120), 255, np.uint8)
    mask[:, :60] = 0
    Image.fromarray(mask).save(tmp_path / "mask.png")
    views = [replace(v, mask_path=tmp_path / "mask.png") for v in capture.views]
    first = found(Run(), capture.with_views(tuple(views)))[0]
    assert first is not None
    assert not bool(first.confidence[:, :59].any()) and bool((first.confidence[:, 61:] > 0).all())


def test_nothing_is_matched_where_photos_are_gone_or_nobody_wants_it(capture: Capture) -> None:
    prior = Noted()
    assert found(Run(lost={capture.views[1].name: "gone"}), capture, prior=prior) == ()
    assert found(Run(), capture, 0, prior) == ()
    assert found(Run(), capture.select([True, False, False]), prior=prior) == ()
    assert not prior.asked
