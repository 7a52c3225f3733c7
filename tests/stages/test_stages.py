"""What stages decide before they work: sizes, devices, and what fits; the same again when a run goes on."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from splat.commands.reconstruct import Reconstruct
from splat.core.camera import Camera
from splat.core.capture import Capture, View
from splat.core.errors import SplatError
from splat.core.ranks import Ranks
from splat.core.slots import RasterSettings
from splat.init import DenseSurfaces
from splat.priors import FlowMatcher, RomaMatcher
from splat.raster import choose
from splat.run.console import Console
from splat.run.folder import RunFolder
from splat.stages import first as stages
from splat.stages import train as training


class Said(Console):
    """Keeps what is said."""

    def __init__(self, run: RunFolder) -> None:
        super().__init__(run.log, True)
        self.said: list[str] = []

    def info(self, message: str) -> None:
        self.said.append(message)


def context(folder: Path, **settings: Any) -> stages.Context:
    run = RunFolder(folder / "run")
    device = torch.device("cpu")
    config = Reconstruct(folder / "photos", **settings)
    return stages.Context(config, run, Said(run), device, choose(device), RasterSettings())


def capture(n: int = 30, width: int = 800, height: int = 600) -> Capture:
    camera = Camera(float(width), float(width), width / 2, height / 2, width, height)
    return Capture(tuple(View(f"{i}.jpg", Path(f"{i}.jpg"), (width, height), camera) for i in range(n)))


def test_flow_is_found_at_its_own_size_where_one_is_given(tmp_path):
    c = context(tmp_path, matcher="flow", edgs=DenseSurfaces(matching_size=300))
    _, priors = stages._planned(c, c.config.edgs, capture(), 20_000)
    assert isinstance(priors.matches, FlowMatcher) and priors.matches.matching_size == 300
    for edgs, expected in ((DenseSurfaces(matching_size=300), 300), (DenseSurfaces(), 200)):
        c = replace(c, config=replace(c.config, flow=FlowMatcher(matching_size=200), edgs=edgs))
        made, priors = stages._planned(c, c.config.edgs, capture(), 20_000)
        assert priors.matches.matching_size == 200 and made.matching_size == expected


def test_the_learned_matcher_runs_where_everything_else_does(tmp_path):
    c = context(tmp_path, matcher="roma")
    assert stages._planned(c, c.config.edgs, capture(), 20_000)[1].matches.device == "cpu"
    c = replace(c, config=replace(c.config, roma=RomaMatcher(device="cuda")))
    assert stages._planned(c, c.config.edgs, capture(), 20_000)[1].matches.device == "cuda"


def test_the_time_of_matching_is_announced(tmp_path):
    minutes = {}
    for method in ("points", "edgs"):
        c = context(tmp_path / method, method=method, edgs=DenseSurfaces(matching_size=640), iterations=1, cap=1000)
        stages.announce(c, capture(300))
        minutes[method] = int(re.findall(r"about (\d+) min", c.report.said[-1])[0])  # type: ignore[attr-defined]
    assert minutes["edgs"] > minutes["points"] + 2


def test_a_run_keeps_to_what_fitted_when_it_began(tmp_path, monkeypatch):
    c, many = context(tmp_path), capture(200, 1600, 1200)

    def with_free(gigabytes: float, c: stages.Context = c) -> tuple[int | None, int]:
        monkeypatch.setattr(stages, "available_memory_gb", lambda: gigabytes)
        working, fitted = stages.fit_to_memory(c, many)
        return fitted.config.cap, working.views[0].camera.width

    little = with_free(1.0)
    assert little[0] is not None and little[0] < with_free(64.0, replace(c, run=RunFolder(tmp_path / "other")))[0]
    assert with_free(64.0) == little == with_free(0.9)
    asked = replace(c, config=replace(c.config, memory=64.0))
    assert with_free(1.0, asked)[0] > little[0], "who says how much there is gets it"
    other = replace(c, config=replace(c.config, max_resolution=400))
    assert with_free(64.0, other)[1] == 400, "another size is judged anew"


def test_what_goes_wrong_in_a_helping_process_is_said_by_it(monkeypatch):
    def broken(*arguments: Any) -> None:
        raise SplatError("the loss is not a number.")

    monkeypatch.setattr(training, "optimize", broken)
    monkeypatch.setattr(Ranks, "told", lambda self, message: "a job")
    with pytest.raises(SplatError, match="process 1 of 2: the loss"):
        training.help_out(Ranks(1, 2))

    def gone(self: Ranks, message: Any) -> Any:
        raise ConnectionError("rank 0 has ended.")

    monkeypatch.setattr(Ranks, "told", gone)
    training.help_out(Ranks(1, 2))
