"""Whatever happens to the files of a finished run, the same command ends in the same result or in one sentence, and so
do the commands that use the run."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from noting import Noting
from small_runs import reconstruct, timeless

from splat.core.errors import SplatError
from splat.run.completed import CompletedRun

FILES = (
    *(f"{stage}/stage.json" for stage in ("ingest", "poses", "init", "train", "evaluate", "export")),
    *("ingest/views.json", "poses/views.json", "poses/poses.json", "init/init.npz"),
    *("train/trained.json", "train/gaussians.npz", "train/checkpoint/training.pt"),
    *("evaluate/views.json", "evaluate/test/000.png.photo.png", "evaluate/train/001.png.render.png"),
    *("export/splat.ply", "export/splat.frame.json", "export/points.ply", "export/cameras.json"),
    *("config.json", "metrics.json", "memory.json", "log.jsonl", "report.html", ".lock"),
)
STAGES = ("ingest", "poses", "init", "train", "train/checkpoint", "evaluate", "export", "evaluate/test")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    if data:
        data[len(data) // 2] ^= 1
    path.write_bytes(data)


def swapped(path: Path) -> None:
    """Valid JSON of a wrong shape."""
    path.write_text(json.dumps({"views": {}, "history": 3, "key": [], "antialiased": {}, "resolution": "x"}))


def replaced_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "notes.txt").write_text("mine")


def replaced_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def replaced_by_dead_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def moved_behind_a_link(path: Path) -> None:
    elsewhere = path.parent / f".{path.name}.elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere.name)


OF_FILES: dict[str, Callable[[Path], Any]] = {
    "missing": Path.unlink,
    "empty": lambda p: p.write_bytes(b""),
    "cut": cut,
    "garbage": lambda p: p.write_bytes(bytes(range(256)) * 3),
    "list": lambda p: p.write_text("[]"),
    "object": lambda p: p.write_text("{}"),
    "deep": lambda p: p.write_text("[" * 100_000),
    "bit": flipped,
    "swapped": swapped,
    "folder": replaced_by_folder,
    "pipe": replaced_by_pipe,
    "dead link": replaced_by_dead_link,
    "link": moved_behind_a_link,
}
OF_FOLDERS: dict[str, Callable[[Path], Any]] = {
    "missing": shutil.rmtree,
    "emptied": lambda p: (shutil.rmtree(p), p.mkdir()),
    "file": lambda p: (shutil.rmtree(p), p.write_text("mine")),
    "dead link": lambda p: (shutil.rmtree(p), p.symlink_to("nowhere")),
    "link": moved_behind_a_link,
    "link to another stage": lambda p: (
        (shutil.rmtree(p), p.symlink_to(p.parent / "ingest")) if p.name != "ingest" else 0
    ),
}
CASES = [(f, kind) for f in FILES for kind in OF_FILES] + [(d, kind) for d in STAGES for kind in OF_FOLDERS]
QUICK = {
    *(("poses/stage.json", "list"), ("poses/views.json", "missing"), ("train/trained.json", "cut")),
    *(("init/init.npz", "garbage"), ("train/gaussians.npz", "folder"), ("train/checkpoint/training.pt", "bit")),
    *(("evaluate/views.json", "object"), ("export/splat.ply", "missing"), ("export/splat.ply", "cut")),
    *(("metrics.json", "object"), ("log.jsonl", "pipe"), ("train", "dead link")),
}


@pytest.fixture(scope="module")
def finished(posed_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("finished") / "run"
    return out, timeless(reconstruct(posed_photos, out))


def leftovers(run: Path) -> list[str]:
    return [p.name for p in run.iterdir() if re.search(r"\.(cut-off|damaged)-|\.part", p.name)]


@pytest.mark.parametrize(
    ("name", "kind"), [pytest.param(*c, marks=() if c in QUICK else pytest.mark.slow, id="-".join(c)) for c in CASES]
)
def test_damage_ends_in_the_same_result_or_one_sentence(
    posed_photos: Path, finished: tuple[Path, dict[str, Any]], tmp_path: Path, name: str, kind: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished[0], run, symlinks=True)
    (OF_FOLDERS if name in STAGES else OF_FILES)[kind](run / name)
    try:
        CompletedRun.open(run)
    except SplatError as e:
        assert "run" in str(e) and "\n" not in str(e)
    try:
        metrics = reconstruct(posed_photos, run)
    except SplatError as e:
        assert str(e).count("\n") == 0 and (name in str(e) or name.split("/")[0] in str(e))
        assert name in ("config.json", "metrics.json", "memory.json", "report.html"), "this can be mended"
        return
    assert timeless(metrics) == finished[1]
    for made in ("export/splat.ply", "export/points.ply"):
        assert (run / made).read_bytes() == (finished[0] / made).read_bytes()
    assert (run / "report.html").stat().st_size > 1000 and (run / "export/cameras.json").is_file()
    assert timeless(json.loads((run / "metrics.json").read_text())) == finished[1]
    assert not leftovers(run)
    CompletedRun.open(run)
    report = Noting()
    reconstruct(posed_photos, run, report)
    assert not any("made again" in line for line in report.lines), "the second call has something left to mend"
