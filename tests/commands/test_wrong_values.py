"""Values and names that mean nothing: one sentence that says which, and the exit code 2."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from splat.__main__ import main
from splat.commands.checks import check
from splat.commands.init import InitOnly
from splat.commands.program import Program
from splat.commands.reconstruct import Reconstruct
from splat.core.errors import SplatError
from splat.core.gaussians import Gaussians
from splat.export import save_splat
from splat.losses import Losses
from splat.methods import Lm
from splat.stages.deliver import Shaping
from splat.train.point_views import PointViews
from splat.train.refined_views import RefinedViews
from splat.train.settings import Training
from splat.viewer.access import listen

NAN = math.nan


@pytest.mark.parametrize(
    ("flag", "settings"),
    [
        ("--seed -1 ", {"seed": -1}),
        ("--seed 4294967296 ", {"seed": 2**32}),
        ("--threads -2 ", {"threads": -2}),
        ("--test-every -3 ", {"test_every": -3}),
        ("--memory -1 ", {"memory": -1.0}),
        ("--memory ", {"memory": NAN}),
        ("--downscale ", {"downscale": NAN}),
        ("--up ", {"up": "sideways"}),
        ("--max-frames 0 ", {"max_frames": 0}),
        ("--max-pixels -5 ", {"max_pixels": -5}),
        ("--train.free-space ", {"train": Training(free_space=NAN)}),
        ("--losses.pearson-patch 0 ", {"losses": Losses(pearson_patch=0)}),
        ("--lm.points.size 8 ", {"methods": (Lm(points=PointViews(size=8)),)}),
        ("--lm.refined.per-pair 0 ", {"methods": (Lm(refined=RefinedViews(per_pair=0)),)}),
        ("--lm.points.weight ", {"methods": (Lm(points=PointViews(weight=NAN)),)}),
    ],
)
def test_a_value_that_means_nothing_is_named_with_its_flag(flag: str, settings: Any, tmp_path: Path) -> None:
    with pytest.raises(SplatError) as error:
        check(Reconstruct(photos=tmp_path, **settings))
    assert str(error.value).startswith(flag)


@pytest.mark.parametrize("flags", [{"blocks": 4}, {"dry_run": True}])
def test_what_reconstruct_alone_does_is_not_passed_over(flags: Any, tmp_path: Path) -> None:
    for command in (InitOnly(tmp_path, **flags), Program(tmp_path, command="sh {colmap}", **flags)):
        with pytest.raises(SplatError, match="is of `splat reconstruct` alone"):
            command()


def test_usual_values_pass(tmp_path: Path) -> None:
    check(Reconstruct(photos=tmp_path, seed=2**31 - 1, threads=0, test_every=0, memory=math.inf))


@pytest.mark.parametrize("words", ["reconstruct X", "view X", "evaluate X", "export X a.ply", "convert X a.ply"])
def test_a_name_that_no_file_can_have_is_one_sentence(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words.replace("X", "x" * 300).split()) == 2
    said = capsys.readouterr().err
    assert "xxx" in said and len(said.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("port", [None, 0])
def test_an_unknown_host_is_named_rather_than_the_port(port: int | None) -> None:
    with pytest.raises(SplatError, match=r"--host no\.such\.host\.invalid is no address"):
        listen("no.such.host.invalid", port)


def test_what_is_no_number_in_a_crop_is_said() -> None:
    with pytest.raises(SplatError, match=r"--crop nan 0\.0 0\.0 1\.0 must be finite"):
        Shaping(crop=(NAN, 0.0, 0.0, 1.0)).check()


def test_names_with_line_breaks_take_one_line_of_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = Gaussians(torch.zeros(1, 3), torch.eye(4)[:1], torch.zeros(1, 3), torch.zeros(1), torch.zeros(1, 1, 3))
    save_splat(tmp_path / "a.ply", few)
    assert main(["convert", str(tmp_path / "a.ply"), str(tmp_path / "b\nc.ply")]) == 0
    said = capsys.readouterr().err
    assert r"b\x0ac.ply: 1 Gaussians" in said and len(said.strip().splitlines()) == 1
