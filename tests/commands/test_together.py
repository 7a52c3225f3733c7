"""The main job by two processes, started as torchrun starts them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from together import environment, free_port

from splat.export import load_splat
from splat.native import build

pytestmark = pytest.mark.skipif(build.unavailable() is not None, reason="no compiled kernels")


def run(photos: Path, out: Path, world: int, *flags: str) -> list[tuple[int, str, str]]:
    """Exit code and what was said, of each process."""
    command = [sys.executable, "-m", "splat", "reconstruct", str(photos), "--out", str(out)]
    command += ["--edgs.init.sparse.random-count", "1200", "--cap", "2000", "--no-renders", "--device", "cpu", *flags]
    port = free_port()
    started = [
        subprocess.Popen(
            command,
            env={**os.environ, **environment(rank, world, port), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]
    said = [p.communicate(timeout=180) for p in started]
    return [(p.returncode, *texts) for p, texts in zip(started, said, strict=True)]


def test_two_processes_make_one_scene_and_one_of_them_reports(posed_photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    asked = ["--iterations", "300", "--train.evaluate-at", "0", "200", "300"]
    done = run(posed_photos, out, 2, *asked)
    assert [code for code, *_ in done] == [0, 0], done
    assert "2 processes train together" in done[0][2] and done[1][1:] == ("", "")
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["psnr"] > 20 and metrics["iterations"] == 300
    written = metrics["num_gaussians"] + metrics["num_surroundings"]
    assert len(load_splat(out / "export" / "splat.ply")) == written and metrics["num_gaussians"] > 600
    assert [row["step"] for row in metrics["timeline"]] == [0, 200, 300], "as one process counts"
    again = run(posed_photos, out, 2, *asked)
    assert [code for code, *_ in again] == [0, 0], "finished: the other has nothing to do"


def test_a_mistake_is_told_once_and_nobody_waits_for_ever(tmp_path: Path) -> None:
    (code, _, mistake), (_, *others) = run(tmp_path / "none", tmp_path / "run", 2)
    assert code == 2 and "does not exist" in mistake and mistake.count("\n") == 1
    assert not any("Error" in text or "splat:" in text for text in others)
