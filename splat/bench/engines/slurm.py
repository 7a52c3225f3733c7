"""Tasks as jobs of SLURM, through submitit. The machines share the disk that the tasks' folders are on."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from splat.bench.engines.local import CORES_OF_A_TASK
from splat.bench.engines.remote import Remote, StallNotice
from splat.bench.engines.schedule import run_tasks
from splat.bench.engines.shipping import Assignment, Returned, markers, run_assigned
from splat.bench.engines.task import Ended, Outcome, Task
from splat.core.errors import SplatError
from splat.core.machine import available_cores

_MEMORY_MARGIN, _TIME_MARGIN = 1.3, 3.0
"""Requests over the predicted need: SLURM ends a job that takes more."""
_MIN_MINUTES = 10
_QUEUE_SECONDS = 2.0
"""Between two looks at the queue."""
_GONE_SECONDS = 15.0
"""What a shared disk may take to show the result of a job that is no more."""


@dataclass(frozen=True)
class Slurm(Remote):
    """Each task is a job that asks for cores, GPUs, memory and time. `cores` by default: 8; where jobs are processes of
    this machine, its share."""

    partition: str = ""
    account: str = ""
    cluster: Literal["slurm", "local"] = "slurm"
    """`local`: jobs are processes of this machine, one at a time unless `workers` says more."""

    def checked(self) -> Slurm:
        """Itself. Raises SplatError where submitit, or SLURM, is not installed."""
        submitit = _library()
        if self.cluster == "slurm" and submitit.SlurmExecutor.affinity() < 0:
            raise SplatError(
                "there is no SLURM here (srun is not on PATH): run this where jobs are submitted, or try it on this "
                "machine with --cluster.submit local."
            )
        return self

    def __call__(self, tasks: Sequence[Task], ended: Ended) -> None:
        if not tasks:
            return
        self.checked()
        with markers(tasks) as marker:
            run_tasks(tasks, _Jobs(self, _library(), marker), ended)


class _Jobs:
    def __init__(self, settings: Slurm, submitit: Any, marker: str) -> None:
        self.settings, self.submitit, self.marker = settings, submitit, marker
        local = settings.cluster == "local"
        self.workers = settings.workers or (1 if local else None)
        self.cores = settings.cores or (max(1, available_cores() // (self.workers or 1)) if local else CORES_OF_A_TASK)
        self.jobs: list[tuple[Any, Task, Assignment, int]] = []
        """(job, its task, assignment, attempts before this one)."""
        self.gone: dict[str, float] = {}
        """When each job was first found to be no more, without a result."""
        self.looked = 0.0
        self.stall = StallNotice(settings.notify)

    def admits(self, task: Task, running: Sequence[Task]) -> bool:
        return self.workers is None or len(running) < self.workers

    def start(self, task: Task) -> None:
        self._submit(task, self.settings.assign(task, self.marker, self.cores), 0)
        self.stall.progress()

    def _submit(self, task: Task, a: Assignment, attempt: int) -> None:
        executor = self.submitit.AutoExecutor(folder=a.task.log.parent / "jobs", cluster=self.settings.cluster)
        executor.update_parameters(**self._request(task, a))
        with _deaf_to_interrupts() if self.settings.cluster == "local" else nullcontext():
            job = executor.submit(_run, a)
        self.jobs.append((job, task, a, attempt))

    def _request(self, task: Task, a: Assignment) -> dict[str, Any]:
        s, needs = self.settings, task.needs
        predicted = None if needs.minutes is None else max(_MIN_MINUTES, _TIME_MARGIN * needs.minutes)
        minutes = s.limit_minutes or predicted
        if minutes is not None:
            minutes += s.grace_seconds / 60 + 1
        request: dict[str, Any] = {"name": task.name[:60], "cpus_per_task": a.cores}
        request["timeout_min"] = 7 * 24 * 60 if minutes is None else int(minutes + 1)
        if needs.memory_mb is not None:
            request["mem_gb"] = max(1, round(needs.memory_mb * _MEMORY_MARGIN / 1024, 1))
        if gpus := needs.gpus or s.gpus:
            request["gpus_per_node"] = max(1, round(gpus))
        if s.partition:
            request["slurm_partition"] = s.partition
        if s.account:
            request["slurm_account"] = s.account
        if s.cluster == "local":
            request.pop("mem_gb", None)
        return request

    def ended(self) -> list[tuple[Task, Outcome]]:
        if self.settings.cluster == "slurm":
            if time.monotonic() - self.looked < _QUEUE_SECONDS:
                return []
            self.looked = time.monotonic()
        queue = self._queue()
        found, done = [], [entry for entry in self.jobs if self._is_done(entry[0], queue)]
        self.jobs = [entry for entry in self.jobs if all(entry is not d for d in done)]
        if done:
            self.stall.progress()
        where = "`squeue --me` says why" if self.settings.cluster == "slurm" else "processes of this machine"
        self.stall.check([task for _, task, *_ in self.jobs], lambda: where)
        for job, task, assigned, attempt in done:
            outcome = self._outcome(job)
            if outcome is None and attempt < self.settings.retries:
                self._submit(task, assigned, attempt + 1)
            else:
                lost = f"its job was lost {attempt + 1} times (the last one: {job.job_id}, {job.state})"
                found.append((task, outcome or Outcome(1, lost, 0.0, None)))
        return found

    def _is_done(self, job: Any, queue: set[str] | None) -> bool:
        """Whether a job left a result, or will not any more. `queue`: see `_queue`."""
        if Path(job.paths.result_pickle).exists():
            return True
        if job.job_id in queue if queue is not None else not job.done():
            self.gone.pop(job.job_id, None)
            return False
        seconds = _GONE_SECONDS if self.settings.cluster == "slurm" else 1.0
        return time.monotonic() - self.gone.setdefault(job.job_id, time.monotonic()) > seconds

    def _queue(self) -> set[str] | None:
        """The jobs that SLURM has in its queue, running ones included; None where it does not say."""
        if self.settings.cluster == "local":
            return None
        command = ["squeue", "--noheader", "--me", "--format=%A"]  # `sacct`, which submitit asks, many clusters lack
        with suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
            return set(done.stdout.split())
        return None

    def _outcome(self, job: Any) -> Outcome | None:
        """None where the job was lost. Raises SplatError where the machine does not see this one's disk."""
        if not Path(job.paths.result_pickle).exists():  # `result` would wait for one where there is no accounting
            return None
        try:
            returned: Returned = job.result()
        except self.submitit.core.utils.FailedJobError as e:
            return Outcome(1, str(e).strip().splitlines()[-1][:300], 0.0, None)
        except self.submitit.core.utils.UncompletedJobError:
            return None
        if returned.outcome is None:
            raise SplatError(
                f"the machine of job {job.job_id} does not see {returned.missing[0]} as it is here: keep photos and "
                "--out on a disk that all machines share, or use --engine ray."
            )
        if returned.files is not None:
            raise SplatError("the machines of SLURM do not see the folder of --out: choose one on a shared disk.")
        return returned.outcome

    def stop(self) -> None:
        """Jobs see that the file that asks for them is gone, and have their processes save their work."""
        for _, _, assigned, _ in self.jobs:
            with suppress(OSError):
                (assigned.task.folder.parent / self.marker).unlink()
        until = time.monotonic() + self.settings.grace_seconds + 5
        while self.jobs and time.monotonic() < until:
            queue = self._queue()
            self.jobs = [entry for entry in self.jobs if not self._is_done(entry[0], queue)]
            waiting = [job for job, _, a, _ in self.jobs if not Path(job.paths.stdout).exists()]
            for job in waiting if self.settings.cluster == "slurm" else ():  # it has not begun
                job.cancel(check=False)
            time.sleep(0.5)
        for job, *_ in self.jobs:
            with suppress(Exception):
                self._cancel(job)

    def _cancel(self, job: Any) -> None:
        if self.settings.cluster == "local":
            os.kill(int(job.job_id), signal.SIGTERM)  # `cancel` sends an interrupt, to which it is deaf
        else:
            job.cancel(check=False)


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Processes that are started meanwhile never hear Ctrl-C. In the terminal it reaches all of them, and submitit
    kills a job a second later, before its process has saved its work: `stop` asks for that in time."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # for us it only waits
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _run(a: Assignment) -> Returned:
    """In the job."""
    from splat.bench.engines.process import terminate_as_interrupt

    with terminate_as_interrupt():
        folder = a.task.folder.parent
        if not (folder / a.marker).is_file():
            return Returned(None, (folder,))
        return run_assigned(a)


def _library() -> Any:
    try:
        import submitit
    except ImportError:
        raise SplatError('--engine slurm needs submitit: pip install "splat3d[slurm]".') from None
    logging.getLogger("submitit").setLevel(logging.ERROR)  # it would warn of a cluster without accounting
    return submitit
