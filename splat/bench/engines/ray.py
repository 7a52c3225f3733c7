"""Tasks on a Ray cluster: one that runs, or one that is started here. Ray runs a task again whose worker was lost."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from splat.bench.engines.local import CORES_OF_A_TASK
from splat.bench.engines.schedule import run_tasks
from splat.bench.engines.shipping import Assignment, Returned, assignment, markers, pack, run_assigned, take
from splat.bench.engines.task import Ended, Outcome, Task, this_splat
from splat.core.errors import SplatError
from splat.core.machine import available_cores

_MEMORY_MARGIN = 1.2
"""A request over the predicted need."""


@dataclass(frozen=True)
class Ray:
    """Each task asks for CPUs, GPUs and memory; Ray finds the place."""

    program: tuple[str, ...] = field(default_factory=this_splat)
    limit_minutes: float | None = None
    grace_seconds: float = 60.0
    workers: int | None = None
    """Tasks at a time, at most (default: as many as the cluster has place for; on one started here as `Local`)."""
    address: str = ""
    """`auto`, or host:port; empty: the cluster that RAY_ADDRESS names, else one is started on this machine."""
    cores: int | None = None
    """Of a task (default: 8, or as many as the smallest machine has; on a cluster started here its share)."""
    gpus: float = 0.0
    retries: int = 3
    """How often a task is run again whose worker was lost."""
    shared: bool = True
    """False: carry everything through Ray's objects, even where a worker sees the same disk."""

    def checked(self) -> Ray:
        """Itself. Raises SplatError where Ray is not installed."""
        _library()
        return self

    def __call__(self, tasks: Sequence[Task], ended: Ended) -> None:
        if not tasks:
            return
        ray = _library()
        own = _connect(ray, self.address)
        try:
            with markers(tasks) as marker:
                run_tasks(tasks, _RayTasks(self, ray, marker, own), ended)
        finally:
            if own is not None:
                ray.shutdown()


class _RayTasks:
    """`own`: whether the cluster was started here; None: somebody else had connected before."""

    def __init__(self, settings: Ray, ray: Any, marker: str, own: bool | None) -> None:
        self.settings, self.ray, self.marker = settings, ray, marker
        nodes = [n["Resources"] for n in ray.nodes() if n["Alive"]]
        self.cores_there = int(min((n.get("CPU", 1) for n in nodes if n.get("CPU", 0) >= 1), default=1))
        self.memory_there = max((n.get("memory", 0.0) for n in nodes), default=0.0)
        workers = settings.workers or (max(1, available_cores() // CORES_OF_A_TASK) if own else None)
        self.workers = workers
        share = max(1, self.cores_there // workers) if own and workers else min(CORES_OF_A_TASK, self.cores_there)
        self.cores = settings.cores or share
        self.running: dict[Any, tuple[Task, Assignment]] = {}
        self.packed: dict[tuple[Path, str], Any] = {}

    def admits(self, task: Task, running: Sequence[Task]) -> bool:
        return self.workers is None or len(running) < self.workers

    def start(self, task: Task) -> None:
        s = self.settings
        cores = task.needs.cores or self.cores
        assigned = assignment(
            task,
            self.marker,
            cores=cores,
            limit_minutes=s.limit_minutes,
            grace_seconds=s.grace_seconds,
            shared=s.shared,
        )
        self._submit(task, assigned, None)

    def _submit(self, task: Task, a: Assignment, contents: dict[Path, list[Any]] | None) -> None:
        memory = (task.needs.memory_mb or 0.0) * 2**20 * _MEMORY_MARGIN
        request = {"num_cpus": a.cores, "num_gpus": task.needs.gpus or self.settings.gpus, "name": task.name}
        if memory and self.memory_there:
            request["memory"] = int(min(memory, 0.9 * self.memory_there))
        remote = self.ray.remote(_run).options(**request, max_retries=self.settings.retries)
        self.running[remote.remote(a, contents)] = (task, a)

    def ended(self) -> list[tuple[Task, Outcome]]:
        if not self.running:
            return []
        done, _ = self.ray.wait(list(self.running), num_returns=1, timeout=0.1)
        found = []
        for ref in done:
            task, assigned = self.running.pop(ref)
            returned = self._get(ref)
            if returned.outcome is None:
                prints = dict(assigned.fingerprints)
                # in lists: Ray would fetch what stands by itself, needed or not
                contents = {p: [self._object(p, prints[p])] for p in returned.missing}
                self._submit(task, assigned, contents)
                continue
            take(task, returned)
            found.append((task, returned.outcome))
        return found

    def _object(self, path: Path, found: str) -> Any:
        """A file or folder in Ray's store, put there once."""
        if (path, found) not in self.packed:
            self.packed[path, found] = self.ray.put(pack(path))
        return self.packed[path, found]

    def _get(self, ref: Any) -> Returned:
        errors = self.ray.exceptions
        try:
            returned: Returned = self.ray.get(ref)
            return returned
        except errors.TaskCancelledError:
            return _failed("it was cancelled")
        except (errors.WorkerCrashedError, errors.NodeDiedError, errors.OutOfMemoryError, errors.ObjectLostError) as e:
            reason = str(e).strip().splitlines()[0]
            return _failed(f"its worker was lost {self.settings.retries + 1} times ({type(e).__name__}: {reason})")
        except errors.RayTaskError as e:
            cause = e.cause if isinstance(e.cause, BaseException) else e
            if isinstance(cause, ModuleNotFoundError):
                raise SplatError(
                    f"the machines of the Ray cluster have no {cause.name}: install this version of splat3d there."
                ) from None
            return _failed(f"{type(cause).__name__}: {str(cause).strip().splitlines()[-1]}")

    def stop(self) -> None:
        for ref in self.running:
            with suppress(Exception):
                self.ray.cancel(ref, force=False)
        until = time.monotonic() + self.settings.grace_seconds + 5
        while self.running and time.monotonic() < until:
            done, _ = self.ray.wait(list(self.running), num_returns=1, timeout=0.1)
            for ref in done:
                self.running.pop(ref)


def _run(a: Assignment, contents: dict[Path, list[Any]] | None) -> Returned:
    """In a worker of the cluster."""
    import ray

    if contents is None:
        return run_assigned(a)

    def fetch(held: list[Any]) -> bytes:
        content: bytes = ray.get(held[0])
        return content

    return run_assigned(a, {path: partial(fetch, held) for path, held in contents.items()})


def _failed(message: str) -> Returned:
    return Returned(Outcome(1, message[:300], 0.0, None))


def _library() -> Any:
    try:
        import ray
    except ImportError:
        raise SplatError('--engine ray needs Ray: pip install "splat3d[ray]".') from None
    return ray


def _connect(ray: Any, address: str) -> bool | None:
    """Connect to a cluster, or start one. Returns whether one was started here; None where this process was connected
    before, which it then stays."""
    if ray.is_initialized():
        return None
    named = address or os.environ.get("RAY_ADDRESS", "")
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if not named:
            os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
            ray.init(address="local", num_cpus=available_cores(), include_dashboard=False, **quiet)
            return True
        ray.init(address=named, **quiet)
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as e:
        said = (str(e).strip().splitlines() or [type(e).__name__])[0]
        raise SplatError(
            f"no Ray cluster at {named or 'this machine'} ({said}): start one with `ray start --head`, or name its "
            "address with --cluster.address."
        ) from None
    return False
