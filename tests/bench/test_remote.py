"""What the engines do where a cluster does not answer as it should: every wait ends, or is announced. No cluster is
needed: Ray is stood in for."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from splat.bench.engines import Outcome, Ray, Slurm, Task, remote
from splat.bench.engines import ray as ray_engine
from splat.bench.engines import slurm as slurm_engine
from splat.bench.engines.schedule import run_tasks
from splat.bench.engines.shipping import Returned, markers
from splat.core.errors import SplatError

HEAVY = {"torch", "numpy", "cv2", "PIL", "jaxtyping", "matplotlib", "rich", "tyro"}

WORKER = f"""
import sys
from pathlib import Path
import splat.bench.engines.ray, splat.bench.engines.slurm
from splat.bench.engines.shipping import assignment, markers, run_assigned
from splat.bench.engines.task import Task
folder = Path(sys.argv[1])
task = Task("t", (sys.executable, "-Sc", "print(1)"), folder / "t", folder / "t.log", (folder,))
with markers([task]) as marker:
    a = assignment(task, marker, cores=1, limit_minutes=None, grace_seconds=5.0)
    assert run_assigned(a).outcome.code == 0
found = {HEAVY!r} & set(sys.modules)
assert not found, found
"""


def test_a_worker_runs_a_task_without_importing_torch(tmp_path: Path) -> None:
    """Else each worker of a busy machine would import it before its task even starts."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    argv = [sys.executable, "-c", WORKER, str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


class RayError(Exception): ...


class GetTimeoutError(RayError): ...


class TaskCancelledError(RayError): ...


class WorkerCrashedError(RayError): ...


class OutOfDiskError(RayError): ...


class OutOfMemoryError(RayError): ...


class RayTaskError(RayError):
    cause: BaseException | None = None


ERRORS = (RayError, GetTimeoutError, TaskCancelledError, WorkerCrashedError, OutOfMemoryError, RayTaskError)
ENDED_WELL = Returned(Outcome(0, "", 1.0, None))


class StandIn:
    """Answers as `ray` does. `answers`: what `get` does with a task, one after the other: returns, or raises."""

    def __init__(self, answers: dict[str, list[Any]], cpus: float = 2.0) -> None:
        self.answers, self.cpus = answers, cpus
        self.cancelled: list[tuple[str, bool]] = []
        self.options_given: list[dict[str, Any]] = []
        rest = {"NodeDiedError": WorkerCrashedError, "ObjectLostError": WorkerCrashedError}
        self.exceptions = SimpleNamespace(**{e.__name__: e for e in ERRORS}, **rest)

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": {"CPU": self.cpus, "memory": 8e9}}, {"Alive": False, "Resources": {}}]

    def available_resources(self) -> dict[str, float]:
        return {"CPU": 1.0}

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": self.cpus}

    def remote(self, function: Callable[..., Any]) -> Any:
        return self

    def options(self, **given: Any) -> Any:
        self.options_given.append(given)
        return SimpleNamespace(remote=lambda *_: given["name"])

    def wait(self, refs: list[str], num_returns: int, timeout: float) -> tuple[list[str], list[str]]:
        done = [r for r in refs if self.answers.get(r)][:num_returns]
        return done, [r for r in refs if r not in done]

    def get(self, ref: str, timeout: float) -> Any:
        answer = self.answers[ref].pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def cancel(self, ref: str, force: bool) -> None:
        self.cancelled.append((ref, force))


def tasks_of(folder: Path, *names: str) -> list[Task]:
    return [Task(n, ("true",), folder / n, folder / f"{n}.log") for n in names]


def run(settings: Ray, ray: StandIn, tasks: list[Task], own: bool | None = True) -> dict[str, Outcome]:
    found: dict[str, Outcome] = {}
    with markers(tasks) as marker:
        backend = ray_engine._RayTasks(settings, ray, marker, own)
        run_tasks(tasks, backend, lambda t, o: found.update({t.name: o}))
    return found


def test_a_result_that_does_not_arrive_is_waited_for_again(tmp_path: Path) -> None:
    ray = StandIn({"a": [GetTimeoutError(), ENDED_WELL]})
    assert run(Ray(), ray, tasks_of(tmp_path, "a"))["a"].code == 0
    assert ray.answers == {"a": []}


@pytest.mark.parametrize(
    "error,said",
    [
        (WorkerCrashedError("gone\nmore"), r"lost 4 times \(WorkerCrashedError: gone\)"),
        (OutOfMemoryError("the node is full"), r"lost 4 times \(OutOfMemoryError: the node is full\)"),
        (OutOfDiskError("no space left"), "OutOfDiskError: no space left"),
        (TaskCancelledError(), "it was cancelled"),
    ],
)
def test_what_ray_raises_for_one_task_fails_that_task_alone(tmp_path: Path, error: Exception, said: str) -> None:
    ray = StandIn({"a": [error], "b": [ENDED_WELL]})
    found = run(Ray(workers=2), ray, tasks_of(tmp_path, "a", "b"))
    assert (found["a"].code, found["b"].code) == (1, 0)
    assert re.search(said, found["a"].message), found["a"].message


@pytest.mark.parametrize("settings", [{"cores": 64}, {"gpus": 1.0}])
def test_a_request_that_no_machine_can_meet_is_a_sentence(tmp_path: Path, settings: dict[str, Any]) -> None:
    ray = StandIn({})
    with pytest.raises(SplatError, match=r"no machine of the Ray cluster has .* for a: lower --cluster\.cores"):
        run(Ray(grace_seconds=-5.0, **settings), ray, tasks_of(tmp_path, "a"))
    assert ray.cancelled == [("a", False), ("a", True)], "nothing is left in Ray's queue"


def test_a_cluster_that_grows_has_time_to_get_a_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_engine, "_LOOK_SECONDS", 0.0)
    ray = StandIn({})

    def grow() -> None:
        time.sleep(0.3)
        ray.cpus = 64.0
        ray.answers["a"] = [ENDED_WELL]

    thread = threading.Thread(target=grow)
    thread.start()
    assert run(Ray(cores=64), ray, tasks_of(tmp_path, "a"), own=False)["a"].code == 0
    thread.join()


def test_a_wait_without_an_end_is_announced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue may take days: it is not an error, but somebody is to know what is waited for."""
    monkeypatch.setattr(ray_engine, "_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(remote, "QUIET_SECONDS", 0.0)
    ray = StandIn({})
    said: list[str] = []

    def notify(line: str) -> None:
        said.append(line)
        ray.answers |= {n: [ENDED_WELL] for n in "abcd"}

    run(Ray(workers=4, notify=notify), ray, tasks_of(tmp_path, *"abcd"))
    assert "waiting for a, b, c and 1 more (Ray has 1 of 2 CPUs free)" in said[0]


def test_a_worker_that_does_not_listen_is_ended(tmp_path: Path) -> None:
    tasks = tasks_of(tmp_path, "a", "b")
    ray = StandIn({"b": [ENDED_WELL]})
    with markers(tasks) as marker:
        backend = ray_engine._RayTasks(Ray(grace_seconds=-4.5, workers=2), ray, marker, True)
        for t in tasks:
            backend.start(t)
        started = time.monotonic()
        backend.stop()
    assert time.monotonic() - started < 5
    assert ray.cancelled == [("a", False), ("b", False), ("a", True)]


def test_ray_tries_nothing_without_end_in_a_cluster_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    given: dict[str, Any] = {}
    ray = SimpleNamespace(is_initialized=lambda: False, init=lambda **settings: given.update(settings))
    assert ray_engine._connect(ray, "", 3) is True
    assert given["_system_config"]["task_oom_retries"] == 3


def test_a_machine_too_busy_to_start_ray_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def init(**_: Any) -> None:
        raise Exception("The current node timed out during startup. This could happen.")

    ray = SimpleNamespace(is_initialized=lambda: False, init=init)
    with pytest.raises(SplatError, match=r"Ray did not start on this machine \(The current node timed out"):
        ray_engine._connect(ray, "", 3)


@pytest.mark.parametrize("engine", [Ray, Slurm])
def test_settings_of_the_engines_of_a_cluster_are_one_and_the_same(engine: type[remote.Remote], tmp_path: Path) -> None:
    settings = engine(("splat",), 5.0, 7.0, 2, 3, 1.0, 4)
    assert (settings.limit_minutes, settings.grace_seconds, settings.workers, settings.cores) == (5.0, 7.0, 2, 3)
    assert (settings.gpus, settings.retries) == (1.0, 4)
    a = settings.assign(tasks_of(tmp_path, "a")[0], "m", 6)
    assert (a.cores, a.limit_minutes, a.grace_seconds, a.shared) == (6, 5.0, 7.0, True)


def test_sigterm_does_after_ray_what_it_did_before() -> None:
    """`ray.init` has a handler of its own, which would end a run with Ray's exit code long after Ray is done."""
    before = signal.getsignal(signal.SIGTERM)
    with ray_engine._signals_kept():
        signal.signal(signal.SIGTERM, lambda *_: None)
    assert signal.getsignal(signal.SIGTERM) == before


def test_ctrl_c_reaches_no_job_of_submitit_on_this_machine_and_is_not_lost() -> None:
    blocked = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))"
    argv = [sys.executable, "-Sc", blocked]
    with slurm_engine._deaf_to_interrupts():
        assert subprocess.check_output(argv, text=True) == "True\n"
    assert subprocess.check_output(argv, text=True) == "False\n"
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it may be ignored
    try:
        with pytest.raises(KeyboardInterrupt), slurm_engine._deaf_to_interrupts():
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
