"""`splat program`: another program sees the training photos and our poses alone, and is measured as a run of ours."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import street
from noting import Noting

from splat.commands.evaluate import Evaluate
from splat.commands.program import Program
from splat.core.errors import SplatError
from splat.poses.known import Known

STAND_IN = Path(__file__).with_name("stand_in_program.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run folder: poses are found once."""
    root = tmp_path_factory.mktemp("program")
    street.write_photos(root / "photos" / "images")
    street.write_colmap(root / "photos", [f"{i}.jpg" for i in range(8)])
    return root


def program(root: Path, how: str = "well", **changes: object) -> Program:
    command = f"{sys.executable} {STAND_IN} {{colmap}} {{ply}} {{iterations}} {how}"
    settings = {"iterations": 70, "max_resolution": 120, "test_every": 4, "threads": 1, "quiet": True}
    settings |= {"known": Known(check=False)}
    settings |= {"command": command, "name": "stand-in", "figures": ("psnr-8bit",)} | changes
    return Program(root / "photos", root / "run", **settings)  # type: ignore[arg-type]


def test_a_program_is_measured_on_photos_it_never_saw(folder: Path) -> None:
    figures = program(folder)()
    log = (folder / "run" / "program.log").read_text()
    assert "steps 70" in log
    held_out = {v["name"] for v in figures["views"]}
    assert held_out == {"0.jpg", "4.jpg"}
    assert not any(name in log for name in held_out)
    assert figures["method"] == "stand-in" and figures["num_gaussians"] > 50
    assert figures["psnr"] > 10, "its splat lies where the photos are"
    assert figures["figures"]["psnr-8bit"] == pytest.approx(figures["psnr"], abs=0.1)
    made = figures["program"]
    assert 0.4 < made["seconds"] < 60 and made["peak_memory_mb"] > 240
    assert figures["seconds"]["train"] >= made["seconds"]
    assert figures["peak_memory_mb"] == made["peak_memory_mb"]
    assert json.loads((folder / "run" / "metrics.json").read_text()) == figures
    again = Evaluate(folder / "run")()
    assert again["psnr"] == pytest.approx(figures["psnr"], abs=1e-3)
    (folder / "run" / "program.log").unlink()
    report = Noting()
    assert program(folder)(report)["psnr"] == figures["psnr"]
    assert not any("running" in line for line in report.lines), "what is done is not run again"


@pytest.mark.parametrize("how,said", [("fails", "code 3: CUDA is not there"), ("silent", "wrote no splat")])
def test_a_program_that_fails_is_named_with_its_words(folder: Path, how: str, said: str) -> None:
    with pytest.raises(SplatError, match=said):
        program(folder, how)()


@pytest.mark.parametrize(
    "command,said",
    [("", "empty"), ("true {ply}", "neither"), ("no-such-program {colmap}", "is not a program"), ("a 'b", "quotes")],
)
def test_commands_that_cannot_be_run_are_refused_before_anything_is_read(
    tmp_path: Path, command: str, said: str
) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(SplatError, match=said):
        program(tmp_path, command=command)()
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_places_are_filled_in_and_files_named_from_here_are_found(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder with a space stays one word, other braces stay, and the program runs elsewhere than it was named."""
    (folder / "tools").mkdir()
    script = folder / "tools" / "my trainer.sh"
    script.write_text(f'#!/bin/sh\necho "$3"\n{sys.executable} "$1" "$2" "$PWD/made.ply" "$4" well\n')
    script.chmod(0o755)
    monkeypatch.chdir(folder)
    command = f"'./tools/my trainer.sh' {STAND_IN} {{colmap}} {{other}} {{iterations}}"
    figures = program(folder, command=command, iterations=33)()
    log = (folder / "run" / "program.log").read_text()
    assert log.startswith("{other}") and "steps 33" in log
    assert figures["num_gaussians"] > 50, "the newest .ply of its folder, as it wrote no {ply}"
