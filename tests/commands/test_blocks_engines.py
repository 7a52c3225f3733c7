"""`splat reconstruct --blocks` in processes of its own, as people run it: on every engine, and interrupted in the
middle."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from signals import takes_ctrl_c
from street import QUICK, write_transforms

pytestmark = pytest.mark.slow

ARGUMENTS = (*QUICK, "--threads", "1", "--test-every", "4", "--blocks", "2", "--workers", "1", "--cap", "2000")
ARGUMENTS += ("--train.checkpoint-every", "10")
MAX_SECONDS = 3600
"""Of a command that takes some seconds on an idle machine."""
ENGINES = {
    "local": ((), "os"),
    "ray": (("--engine", "ray", "--cluster.cores", "1"), "ray"),
    "submitit": (("--engine", "slurm", "--cluster.submit", "local", "--cluster.cores", "1"), "submitit"),
}
"""Name -> arguments, and the library it needs."""


@contextmanager
def started(photos: Path, out: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    """The command in a process group of its own, as a terminal starts it; ended with the block."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        [sys.executable, "-m", "splat", "reconstruct", str(photos), "--out", str(out), *ARGUMENTS, *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        start_new_session=True,
        preexec_fn=takes_ctrl_c,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def run(photos: Path, out: Path, *more: str) -> str:
    with started(photos, out, *more) as process:
        text = process.communicate(timeout=MAX_SECONDS)[0]
    assert process.returncode == 0, text
    return text


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Photos, and the run folder that the local engine made of them."""
    root = tmp_path_factory.mktemp("blocks")
    write_transforms(root / "photos")
    run(root / "photos", root / "run")
    return root / "photos", root / "run"


def with_poses_of(run_folder: Path, out: Path) -> Path:
    """A folder of the same poses: found again they may differ in the last digit."""
    for stage in ("ingest", "poses"):
        shutil.copytree(run_folder / stage, out / stage)
    return out


def arrays(run_folder: Path) -> dict[str, np.ndarray]:
    with np.load(run_folder / "train" / "gaussians.npz") as found:
        return {k: found[k] for k in found.files}


def assert_same_scene(a: Path, b: Path) -> None:
    for part in ("blocks/0", "blocks/1", "."):
        one, other = arrays(a / part), arrays(b / part)
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[k], other[k]) for k in one), f"{part} differs"
    assert (a / "export" / "splat.ply").read_bytes() == (b / "export" / "splat.ply").read_bytes()


def processes_of(out: Path) -> list[str]:
    """Command lines that name the folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has ended meanwhile
            continue
        if str(out) in line:
            found.append(line)
    return found


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + MAX_SECONDS
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for processes in /proc")
@pytest.mark.parametrize("engine", ENGINES)
def test_ctrl_c_in_the_second_block_loses_nothing(
    engine: str, uninterrupted: tuple[Path, Path], tmp_path: Path
) -> None:
    """Ctrl-C reaches the whole process group. The same command goes on, to the splat that the local engine makes when
    nobody interrupts it, bit for bit."""
    more, library = ENGINES[engine]
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    photos, whole = uninterrupted
    out = with_poses_of(whole, tmp_path / "run")
    saved = out / "blocks" / "1" / "train" / "checkpoint"
    with started(photos, out, *more) as process:
        wait_until(lambda: saved.is_dir() and any(not p.name.startswith(".") for p in saved.iterdir()), process)
        first = (out / "blocks" / "0" / "train" / "stage.json").read_bytes()
        os.killpg(process.pid, signal.SIGINT)
        text = process.communicate(timeout=MAX_SECONDS)[0]
    assert process.returncode == 130, text
    assert text.strip().splitlines()[-1] == "splat: stopped; run the same command again to go on from where it stopped."
    assert "Traceback" not in text
    assert not processes_of(out)
    assert not [p for p in out.rglob("*") if ".partial-" in p.name or ".part" in p.suffixes or p.name[:7] == ".asked-"]
    assert not (out / "train" / "stage.json").exists(), "nothing is merged of blocks that are not done"
    assert any(saved.iterdir()), "what the second block has done is kept"
    again = run(photos, out, *more)
    assert "block 0 is done: not run again" in again
    assert (out / "blocks" / "0" / "train" / "stage.json").read_bytes() == first
    assert_same_scene(out, whole)
