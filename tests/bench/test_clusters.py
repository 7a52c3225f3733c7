"""Ray and SLURM make the table that this machine makes alone, also where a worker is lost."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from signals import takes_ctrl_c

from splat.bench import Cell, Local, Table
from splat.bench.engines import Needs, Ray, Slurm
from splat.bench.engines.task import Engine
from splat.core.slots import Silent

FAKE = (sys.executable, str(Path(__file__).with_name("fake_splat.py")))
NO_RAY = "Ray is not installed: pip install 'splat3d[ray]'"
NO_SUBMITIT = "submitit is not installed: pip install 'splat3d[slurm]'"
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason=NO_RAY)
needs_submitit = pytest.mark.skipif(importlib.util.find_spec("submitit") is None, reason=NO_SUBMITIT)


def slurm_answers() -> bool:
    """Whether jobs can be submitted here."""
    sinfo = shutil.which("sinfo")
    return sinfo is not None and subprocess.run([sinfo], capture_output=True, timeout=60, check=False).returncode == 0


def table(tmp_path: Path, out: str) -> Table:
    """Two scenes with three methods each, and one that is a mistake of the user's; the cells of scene `b` take a
    second."""
    sources = {s: tmp_path / "data" / s for s in ("a", "b", "bad")}
    for name, behaviour in (("a", "well"), ("b", "second"), ("bad", "mistake")):
        sources[name].mkdir(parents=True, exist_ok=True)
        (sources[name] / "behaviour").write_text(behaviour)
    cells = tuple(Cell(s, m, {"preset": "fast"}) for s in sources for m in ("points", "edgs", "coherent"))
    return Table("test", cells, sources, tmp_path / out)


def numbers(t: Table, engine: Engine) -> list[Any]:
    """What a table's cells came to, without their times."""
    records = t.run(Silent(), engine)
    assert [r.cell for r in records] == list(t.cells)
    poses = [t.out / "runs" / c.name / "poses" / "found" for c in t.cells]
    return [(r.metrics, r.message, p.read_text() if p.exists() else None) for r, p in zip(records, poses)]


class KillsOneWorker:
    """An engine that kills the parent of the first process of scene `b` that it sees, by its process id."""

    def __init__(self, engine: Any, out: Path) -> None:
        self.engine, self.out, self.killed, self.ended = engine, out, 0, False
        self.program = engine.program

    def __call__(self, tasks: Any, ended: Any) -> None:
        thread = threading.Thread(target=self.kill, daemon=True)
        thread.start()
        try:
            self.engine(tasks, ended)
        finally:
            self.ended = True
            thread.join(1)

    def kill(self) -> None:
        while not self.ended:
            for path in self.out.glob("runs/b-*/parent"):
                if text := path.read_text():
                    self.killed = int(text)
                    os.kill(self.killed, signal.SIGKILL)
                    return
            time.sleep(0.02)


def attempts(t: Table) -> int:
    return max(len((t.out / "runs" / c.name / "attempts").read_text().splitlines()) for c in t.cells[:6])


@needs_ray
@pytest.mark.slow
def test_two_ray_workers_of_which_one_is_killed_make_the_table_of_this_machine(tmp_path: Path) -> None:
    alone = numbers(table(tmp_path, "alone"), Local(FAKE))
    t = table(tmp_path, "ray")
    engine = KillsOneWorker(Ray(FAKE, workers=2, cores=1), t.out)
    assert numbers(t, engine) == alone
    assert engine.killed and attempts(t) == 2, "the cell of the killed worker was run again"


@needs_ray
@pytest.mark.slow
def test_results_come_through_rays_objects_where_no_disk_is_shared(tmp_path: Path) -> None:
    alone = numbers(table(tmp_path, "alone"), Local(FAKE))
    t = table(tmp_path, "ray")
    strip = [(m and {k: v for k, v in m.items() if k != "photos"}, *rest) for m, *rest in alone]
    assert numbers(t, Ray(FAKE, workers=2, cores=1, shared=False)) == strip
    source = (t.out / "runs" / t.cells[0].name / "attempts").read_text().split()[1]
    assert source.endswith("/a") and source != str(t.sources["a"]), "it read a copy"


@needs_submitit
@pytest.mark.slow
def test_jobs_of_submitit_make_the_table_of_this_machine_also_where_one_is_lost(tmp_path: Path) -> None:
    alone = numbers(table(tmp_path, "alone"), Local(FAKE))
    t = table(tmp_path, "jobs")
    engine = KillsOneWorker(Slurm(FAKE, workers=2, cores=1, cluster="local"), t.out)
    assert numbers(t, engine) == alone
    assert engine.killed and attempts(t) == 2


@needs_submitit
@pytest.mark.slow
def test_jobs_of_slurm_make_the_table_of_this_machine_also_where_one_is_lost(tmp_path: Path) -> None:
    if not slurm_answers():
        pytest.skip("no SLURM answers here: sinfo is missing or fails")
    alone = numbers(table(tmp_path, "alone"), Local(FAKE))
    t = table(tmp_path, "jobs")
    engine = KillsOneWorker(Slurm(FAKE, cores=1), t.out)
    assert numbers(t, engine) == alone
    assert engine.killed and attempts(t) == 2


STOPPED = """
import sys
from pathlib import Path
from splat.bench.engines import Ray, Slurm, Task

saves = "import pathlib, signal, sys, time; p = pathlib.Path(sys.argv[1]); p.mkdir(exist_ok=True)\\n"
saves += "def saved(*_): time.sleep(2); (p / 'saved').touch(); sys.exit(130)\\n"
saves += "signal.signal(signal.SIGTERM, saved); (p / 'started').touch(); time.sleep(600)"
root = Path(sys.argv[1])
argv = (sys.executable, "-Sc", saves, str(root / "slow"))
if __name__ == "__main__":
    engine = {"ray": Ray(cores=1), "submitit": Slurm(cores=1, cluster="local")}[sys.argv[2]]
    try:
        engine([Task("slow", argv, root / "slow", root / "log")], lambda task, outcome: (root / "ended").touch())
    except KeyboardInterrupt:
        sys.exit(130)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "engine", [pytest.param("ray", marks=needs_ray), pytest.param("submitit", marks=needs_submitit)]
)
def test_ctrl_c_in_a_terminal_lets_tasks_save_their_work(engine: str, tmp_path: Path) -> None:
    """It reaches the whole process group, what the engine started included. Saving takes two seconds: longer than
    submitit leaves to a job that it ends."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED, str(tmp_path), engine],
        env=environment,
        start_new_session=True,
        preexec_fn=takes_ctrl_c,
    )
    deadline = time.monotonic() + 600
    while not (tmp_path / "slow" / "started").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(120) == 130
    assert (tmp_path / "slow" / "saved").exists()
    assert not (tmp_path / "ended").exists(), "what was stopped has not ended, so that it runs again"
    assert not list(tmp_path.glob(".asked-*"))


@needs_submitit
def test_what_a_job_asks_for_comes_from_the_prediction(tmp_path: Path) -> None:
    from splat.bench.engines.shipping import assignment
    from splat.bench.engines.slurm import _Jobs, _library

    t = table(tmp_path, "jobs")
    task = t.tasks([t._job(t.cells[0])], FAKE)[0]
    jobs = _Jobs(Slurm(FAKE, partition="gpu", account="us", gpus=1.0), _library(), "m")
    task = replace(task, needs=Needs(memory_mb=2048.0, minutes=30.0))
    a = assignment(task, "m", cores=8, limit_minutes=None, grace_seconds=60.0)
    request = jobs._request(task, a)
    assert request["cpus_per_task"] == 8 and request["mem_gb"] == 2.6 and 90 <= request["timeout_min"] <= 95
    assert request["gpus_per_node"] == 1 and (request["slurm_partition"], request["slurm_account"]) == ("gpu", "us")
