"""What stages decide before they work: sizes, devices, and what fits; the same again when a run goes on."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from noting import Noting

from splat.commands.reconstruct import Reconstruct
from splat.core.camera import Camera
from splat.core.capture import Capture, View
from splat.core.errors import SplatError
from splat.core.slots import RasterSettings
from splat.init import DenseSurfaces
from splat.methods import Edgs, Points
from splat.priors import FlowMatcher, RomaMatcher
from splat.raster import choose
from splat.run.folder import RunFolder
from splat.stages import forecast
from splat.stages.context import Context, open_context
from splat.stages.forecast import Choices, Limits
from splat.stages.init import _planned
from splat.stages.priors import PriorSettings

LIMITS = Limits("default", 6000, 800)


def context(folder: Path) -> Context:
    device = torch.device("cpu")
    return Context(RunFolder(folder / "run"), Noting(), device, choose(device), RasterSettings(), threads=1)


def capture(n: int = 30, width: int = 800, height: int = 600) -> Capture:
    camera = Camera(float(width), float(width), width / 2, height / 2, width, height)
    return Capture(tuple(View(f"{i}.jpg", Path(f"{i}.jpg"), (width, height), camera) for i in range(n)))


def test_flow_is_found_at_its_own_size_where_one_is_given(tmp_path: Path) -> None:
    c, sized = context(tmp_path), Edgs(DenseSurfaces(matching_size=300))
    _, priors = _planned(c, capture(), sized, PriorSettings("flow"), LIMITS, 20_000)
    assert isinstance(priors.matches, FlowMatcher) and priors.matches.matching_size == 300
    settings = PriorSettings("flow", flow=FlowMatcher(matching_size=200))
    for method, expected in ((sized, 300), (Edgs(), 200)):
        plan, priors = _planned(c, capture(), method, settings, LIMITS, 20_000)
        assert priors.matches.matching_size == 200 and plan.matching_size == expected
        assert method.initializer(capture(), plan).matching_size == expected


def test_the_learned_matcher_runs_where_everything_else_does(tmp_path: Path) -> None:
    c = context(tmp_path)
    assert _planned(c, capture(), Edgs(), PriorSettings("roma"), LIMITS, 20_000)[1].matches.device == "cpu"
    settings = PriorSettings("roma", roma=RomaMatcher(device="cuda"))
    assert _planned(c, capture(), Edgs(), settings, LIMITS, 20_000)[1].matches.device == "cuda"


def test_a_method_that_matches_nothing_is_given_no_priors(tmp_path: Path) -> None:
    plan, priors = _planned(context(tmp_path), capture(), Points(), PriorSettings(), LIMITS, 20_000)
    assert priors is None and plan.max_gaussians == 20_000


def test_the_time_of_matching_is_announced(tmp_path: Path) -> None:
    minutes = {}
    for method in (Points(), Edgs(DenseSurfaces(matching_size=640))):
        c = context(tmp_path / method.name)
        limits = replace(LIMITS, iterations=1, cap=1000)
        forecast.announce(c, "photos", capture(300), limits, method, Choices())
        minutes[method.name] = int(re.findall(r"about (\d+) min", c.report.lines[-1])[0])  # type: ignore[attr-defined]
    assert minutes["edgs"] > minutes["points"] + 2


def test_a_run_keeps_to_what_fitted_when_it_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    c, many = context(tmp_path), capture(200, 1600, 1200)

    def with_free(gigabytes: float, c: Context = c, limits: Limits = LIMITS) -> tuple[int, int]:
        monkeypatch.setattr(forecast, "available_memory_gb", lambda: gigabytes)
        working, cap = forecast.fit_to_memory(c, many, limits, Points())
        return cap, working.views[0].camera.width

    little = with_free(1.0)
    assert little[0] < with_free(64.0, replace(c, run=RunFolder(tmp_path / "other")))[0]
    assert with_free(64.0) == little == with_free(0.9)
    asked = with_free(1.0, limits=replace(LIMITS, memory=64.0))
    assert asked[0] > little[0], "who says how much there is gets it"
    other = with_free(64.0, limits=replace(LIMITS, max_resolution=400))
    assert other[1] == 400, "another size is judged anew"


def test_a_device_that_is_not_there_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SplatError, match="--device cuda"):
        open_context(RunFolder(tmp_path), Noting(), device="cuda")


def test_stages_report_to_whom_a_script_passes(posed_photos: Path, tmp_path: Path) -> None:
    mine = Noting()
    run = Reconstruct(posed_photos, tmp_path, method="points", iterations=20, cap=800, renders=False)
    metrics = run(mine)
    assert any("registered 10 of 10" in line for line in mine.lines) and mine.lines[-2].startswith("done in")
    assert metrics["warnings"] == mine.warnings
    assert "registered 10 of 10" in (tmp_path / "log.jsonl").read_text(), "the log is kept whoever is told"
