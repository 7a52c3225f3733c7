"""A method from outside the package: its own file and one line, then it runs from Python and the command line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from splat.__main__ import main
from splat.commands.reconstruct import Reconstruct
from splat.core.capture import Capture
from splat.core.gaussians import Gaussians
from splat.core.slots import Budget, Init, Initializer, InitPlan, Phase, Priors, Reporter
from splat.losses import Losses
from splat.methods import METHODS
from splat.methods.base import OnePhase


@dataclass(frozen=True)
class Cloud:
    """Random Gaussians in the unit ball of the normalized frame: an initializer."""

    count: int = 600

    def __call__(
        self, capture: Capture, sh_degree: int, seed: int, report: Reporter, priors: Priors | None = None
    ) -> Init:
        generator = torch.Generator().manual_seed(seed)
        n, k = self.count, (sh_degree + 1) ** 2
        means = torch.rand(n, 3, generator=generator) * 2 - 1
        quats = torch.tensor([1.0, 0, 0, 0]).repeat(n, 1)
        return Init(Gaussians(means, quats, torch.full((n, 3), -2.5), torch.zeros(n), torch.zeros(n, k, 3)))


@dataclass(frozen=True)
class Toy(OnePhase):
    """Method `toy`: a random cloud, trained in two phases."""

    name: ClassVar[str] = "toy"
    summary: ClassVar[str] = "a random cloud in two phases"

    init: Cloud = field(default_factory=Cloud)

    def defaults(self, preset: str) -> Mapping[str, Any]:
        return {"train.density": "none"}

    def initializer(self, capture: Capture, plan: InitPlan | None = None) -> Initializer:
        return self.init

    def phases(self, capture: Capture, init: Init, budget: Budget) -> tuple[Phase, ...]:
        half = budget.steps // 2
        first = replace(budget.photo_phase, steps=half, name="coarse")
        return first, replace(budget.photo_phase, steps=budget.steps - half, losses=Losses(dssim=0.5), name="fine")


def phases_logged(run: Path) -> set[str]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return {line["phase"] for line in lines if "phase" in line}


def test_it_runs_from_python(posed_photos: Path, tmp_path: Path) -> None:
    toy = Toy(Cloud(300))
    metrics = Reconstruct(posed_photos, tmp_path, method=toy, iterations=120, renders=False, quiet=True)()
    assert metrics["method"] == "toy" and metrics["iterations"] == 120 and metrics["num_gaussians"] <= 300
    assert phases_logged(tmp_path) == {"coarse", "fine"}


def test_it_runs_from_the_command_line(posed_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "toy", Toy)
    flags = ["--method", "toy", "--toy.init.count", "200", "--iterations", "60", "--no-renders", "--quiet"]
    assert main(["reconstruct", str(posed_photos), "--out", str(tmp_path), *flags]) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["method"] == "toy" and metrics["num_gaussians"] <= 200
    assert json.loads((tmp_path / "config.json").read_text())["train"]["density"] == "none"


def test_its_first_gaussians_come_from_splat_init(
    posed_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METHODS, "toy", Toy)
    assert main(["init", str(posed_photos), "--out", str(tmp_path), "--method", "toy", "--quiet"]) == 0
    assert (tmp_path / "export" / "init.ply").exists()


def test_the_help_lists_it(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "toy", Toy)
    with pytest.raises(SystemExit):
        main(["reconstruct", "--help-all"])
    assert "--toy.init.count" in capsys.readouterr().out
