"""Tasks on a Ray cluster: one that runs, or one that is started here. Ray runs a task again whose worker was lost."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from splat.bench.engines.local import CORES_OF_A_TASK
from splat.bench.engines.remote import Remote, StallNotice
from splat.bench.engines.schedule import run_tasks
from splat.bench.engines.shipping import Assignment, Returned, markers, pack, run_assigned, take
from splat.bench.engines.task import Ended, Outcome, Task
from splat.core.errors import SplatError
from splat.core.machine import available_cores

_MEMORY_MARGIN = 1.2
"""A request over the predicted need."""
_RESULT_SECONDS = 60.0
"""What a result that is ready may take to arrive before it is waited for beside all others again."""
_CONTENT_SECONDS = 3600.0
"""What photos may take to reach a worker."""
_PLACE_SECONDS = 600.0
"""What a cluster that grows may take to get a machine that a task fits on; one that was started here does not grow."""
_LOOK_SECONDS = 5.0
"""Between two looks at the machines of the cluster."""
_REGISTER_SECONDS = 600
"""What a worker may take to start. Ray allows 60 s, and then starts another that takes as long on a busy machine."""


@dataclass(frozen=True)
class Ray(Remote):
    """Each task asks for CPUs, GPUs and memory; Ray finds the place. `cores` by default: 8, or as many as the smallest
    machine has; on a cluster started here its share. `workers` by default: as many as the cluster has place for; on one
    started here as `Local`."""

    address: str = ""
    """`auto`, or host:port; empty: the cluster that RAY_ADDRESS names, else one is started on this machine."""
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
        with _signals_kept():
            own = _connect(ray, self.address, self.retries)
            try:
                with markers(tasks) as marker:
                    run_tasks(tasks, _RayTasks(self, ray, marker, own), ended)
            finally:
                if own is not None:
                    ray.shutdown()


Contents = dict[Path, list[Any]]
"""Path -> [reference to what lies there, packed]. In a list, as Ray fetches what stands by itself, needed or not."""


class _RayTasks:
    """`own`: whether the cluster was started here; None: somebody else had connected before."""

    def __init__(self, settings: Ray, ray: Any, marker: str, own: bool | None) -> None:
        self.settings, self.ray, self.marker = settings, ray, marker
        nodes = self._machines()
        self.cores_there = int(min((n.get("CPU", 1) for n in nodes if n.get("CPU", 0) >= 1), default=1))
        self.memory_there = max((n.get("memory", 0.0) for n in nodes), default=0.0)
        workers = settings.workers or (max(1, available_cores() // CORES_OF_A_TASK) if own else None)
        self.workers = workers
        share = max(1, self.cores_there // workers) if own and workers else min(CORES_OF_A_TASK, self.cores_there)
        self.cores = settings.cores or share
        self.running: dict[Any, tuple[Task, Assignment, Contents]] = {}
        self.packed: dict[tuple[Path, str], Any] = {}
        self.stall = StallNotice(settings.notify)
        self.max_unplaced_seconds = 0.0 if own else _PLACE_SECONDS
        self.looked = 0.0
        self.unplaced_since: float | None = None

    def admits(self, task: Task, running: Sequence[Task]) -> bool:
        return self.workers is None or len(running) < self.workers

    def start(self, task: Task) -> None:
        self._submit(task, self.settings.assign(task, self.marker, self.cores, self.settings.shared), {})
        self.stall.progress()

    def _request(self, task: Task, cores: int | None) -> dict[str, float]:
        """What a task asks one machine for, as Ray names it."""
        memory = (task.needs.memory_mb or 0.0) * 2**20 * _MEMORY_MARGIN
        asked = {"CPU": float(cores or 1), "GPU": task.needs.gpus or self.settings.gpus}
        if memory and self.memory_there:
            asked["memory"] = float(int(min(memory, 0.9 * self.memory_there)))
        return asked

    def _submit(self, task: Task, a: Assignment, contents: Contents) -> None:
        asked = self._request(task, a.cores)
        options: dict[str, Any] = {"num_cpus": int(asked["CPU"]), "num_gpus": asked["GPU"], "name": task.name}
        if "memory" in asked:
            options["memory"] = int(asked["memory"])
        remote = self.ray.remote(_run).options(**options, max_retries=self.settings.retries)
        self.running[remote.remote(a, contents)] = (task, a, contents)

    def ended(self) -> list[tuple[Task, Outcome]]:
        if not self.running:
            return []
        self._look()
        done, _ = self.ray.wait(list(self.running), num_returns=1, timeout=0.1)
        found = []
        for ref in done:
            returned = self._get(ref)
            if returned is None:
                continue
            self.stall.progress()
            task, assigned, contents = self.running.pop(ref)
            if returned.outcome is None:
                prints = dict(assigned.fingerprints)
                more = {p: [self._object(p, prints[p])] for p in returned.missing}
                self._submit(task, assigned, contents | more)
                continue
            take(task, returned)
            found.append((task, returned.outcome))
        return found

    def _machines(self) -> list[dict[str, float]]:
        return [n["Resources"] for n in self.ray.nodes() if n["Alive"]]

    def _look(self) -> None:
        """Ray waits for ever, without a word, for a machine that does not exist.

        Raises SplatError where none has had what a task asks for, for as long as one may take to come.
        """
        now = time.monotonic()
        if now - self.looked < _LOOK_SECONDS:
            return
        self.looked = now
        machines = self._machines()
        requests = [(task, self._request(task, a.cores)) for task, a, _ in self.running.values()]
        misfit = next(((t, r) for t, r in requests if not any(_fits(r, m) for m in machines)), None)
        if misfit is None:
            self.unplaced_since = None
        else:
            since = self.unplaced_since = now if self.unplaced_since is None else self.unplaced_since
            if now - since >= self.max_unplaced_seconds:
                task, request = misfit
                raise SplatError(
                    f"no machine of the Ray cluster has {_described(request)} for {task.name}: lower --cluster.cores "
                    "or --cluster.gpus, or add a machine."
                )
        self.stall.check([t for t, *_ in self.running.values()], self._free)

    def _free(self) -> str:
        free, there = self.ray.available_resources(), self.ray.cluster_resources()
        return f"Ray has {free.get('CPU', 0):g} of {there.get('CPU', 0):g} CPUs free"

    def _object(self, path: Path, found: str) -> Any:
        """A file or folder in Ray's store, put there once."""
        if (path, found) not in self.packed:
            self.packed[path, found] = self.ray.put(pack(path))
        return self.packed[path, found]

    def _get(self, ref: Any) -> Returned | None:
        """None: it has not arrived, and is to be waited for again."""
        errors = self.ray.exceptions
        try:
            returned: Returned = self.ray.get(ref, timeout=_RESULT_SECONDS)
            return returned
        except errors.GetTimeoutError:
            return None
        except errors.TaskCancelledError:
            return _failed("it was cancelled")
        except (errors.WorkerCrashedError, errors.NodeDiedError, errors.OutOfMemoryError, errors.ObjectLostError) as e:
            return _failed(f"its worker was lost {self.settings.retries + 1} times ({type(e).__name__}: {_first(e)})")
        except errors.RayTaskError as e:
            cause = e.cause if isinstance(e.cause, BaseException) else e
            if isinstance(cause, ModuleNotFoundError):
                raise SplatError(
                    f"the machines of the Ray cluster have no {cause.name}: install this version of splat3d there."
                ) from None
            return _failed(f"{type(cause).__name__}: {(str(cause).strip().splitlines() or [''])[-1]}")
        except errors.RayError as e:  # the disk of Ray's objects is full, say: the others may still end well
            return _failed(f"{type(e).__name__}: {_first(e)}")

    def stop(self) -> None:
        for ref in self.running:
            with suppress(Exception):
                self.ray.cancel(ref, force=False)
        until = time.monotonic() + self.settings.grace_seconds + 5
        while self.running and time.monotonic() < until:
            done, _ = self.ray.wait(list(self.running), num_returns=1, timeout=0.1)
            for ref in done:
                self.running.pop(ref)
        for ref in self.running:  # a worker that does not listen: its process ends with it
            with suppress(Exception):
                self.ray.cancel(ref, force=True)


def _fits(request: dict[str, float], machine: dict[str, float]) -> bool:
    return all(machine.get(what, 0.0) >= amount for what, amount in request.items())


def _described(request: dict[str, float]) -> str:
    parts = [f"{request['CPU']:g} CPUs"]
    if request["GPU"]:
        parts.append(f"{request['GPU']:g} GPUs")
    if "memory" in request:
        parts.append(f"{request['memory'] / 1e9:.1f} GB")
    return " and ".join(parts)


def _first(e: BaseException) -> str:
    return (str(e).strip().splitlines() or [""])[0]


def _run(a: Assignment, contents: Contents) -> Returned:
    """In a worker of the cluster."""
    import ray

    def fetch(held: list[Any]) -> bytes:
        content: bytes = ray.get(held[0], timeout=_CONTENT_SECONDS)
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


@contextmanager
def _signals_kept() -> Iterator[None]:
    """`ray.init` makes SIGTERM its own: afterwards it does again what it did before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


def _connect(ray: Any, address: str, retries: int) -> bool | None:
    """Connect to a cluster, or start one. Returns whether one was started here; None where this process was connected
    before, which it then stays."""
    if ray.is_initialized():
        return None
    named = address or os.environ.get("RAY_ADDRESS", "")
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if not named:
        _start(ray, retries, quiet)
        return True
    try:
        ray.init(address=named, **quiet)
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as e:
        raise SplatError(
            f"no Ray cluster at {named} ({_first(e) or type(e).__name__}): start one with `ray start --head`, or name "
            "its address with --cluster.address."
        ) from None
    return False


def _start(ray: Any, retries: int, quiet: dict[str, Any]) -> None:
    """A cluster on this machine. Raises SplatError where Ray gives up."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # a task whose worker Ray ends because memory is short would otherwise be tried without end
    bounds = {"task_oom_retries": retries, "worker_register_timeout_seconds": _REGISTER_SECONDS}
    settings = {"num_cpus": available_cores(), "include_dashboard": False, "_system_config": bounds}
    try:
        ray.init(address="local", **settings, **quiet)
    except Exception as e:  # a machine that is too busy to start it in 30 s is a bare Exception
        raise SplatError(
            f"Ray did not start on this machine ({_first(e) or type(e).__name__}): try again when less runs here, or "
            "leave --engine out."
        ) from None
