"""The recipe of the refiner's weights: what it is made of, and that it goes on where it was."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import refining
import torch
from scripted import script

from splat.priors.refiner.fitting import Recipe
from splat.priors.refiner.inputs import example
from splat.priors.refiner.weights import load_weights


@pytest.fixture(scope="module", name="script")
def train_refiner() -> ModuleType:
    return script("train_refiner")


def test_scenes_are_planned_by_their_numbers_alone(script: ModuleType) -> None:
    plans = [script.Plan.of(n) for n in range(script.SCENES)]
    assert plans == [script.Plan.of(n) for n in range(script.SCENES)]
    assert {p.method for p in plans} == {"coherent", "edgs"}
    assert min(p.photos for p in plans) == 2 and max(p.photos for p in plans) == 12
    assert sum(p.held_out for p in plans) == script.SCENES // 5


def test_virtual_cameras_are_near_the_photos(script: ModuleType) -> None:
    poses = [p.world_from_cam for p in refining.photos()]
    virtual = script.virtual_poses(poses, np.random.default_rng(0))
    centres = torch.stack([p.translation for p in poses])
    spacing = (centres[1:] - centres[:-1]).norm(dim=1).max()
    assert len(virtual) == script.VIEWS
    assert all(float((centres - v.translation).norm(dim=1).min()) < 2 * float(spacing) for v in virtual)


def test_a_sitting_goes_on_where_the_last_one_was_cut_off(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    def examples_of(plan: object, folder: Path) -> list:
        made.append(plan.number)  # type: ignore[attr-defined]
        return [replace(example(p), photo=str(len(made))) for p in refining.pairs(3)[:1]]

    monkeypatch.setattr(script, "examples_of", examples_of)
    monkeypatch.setattr(script, "RECIPE", Recipe(steps=10, batch=1, crop=8))
    monkeypatch.setattr(script, "WIDTHS", (4, 4, 4))
    arguments = ["train_refiner", "--out", str(tmp_path), "--scenes", "2"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--minutes", "-1"])
    assert script.main() == 3 and not made
    monkeypatch.setattr(sys, "argv", arguments)
    assert script.main() == 0 and made == [0, 1]
    found = load_weights(tmp_path / "refiner.safetensors")
    assert found is not None and found.widths == (4, 4, 4) and found.record["figures"]["held_out_views"] == 1
    assert script.main() == 0 and made == [0, 1]  # no scene is made again
    again = load_weights(tmp_path / "refiner.safetensors")
    assert again is not None and again.record == found.record
