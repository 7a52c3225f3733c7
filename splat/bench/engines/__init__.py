"""Where tasks run: in a pool on this machine, on a Ray cluster, or as jobs of SLURM. Each in a process of its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from splat.bench.engines.local import CORES_OF_A_TASK, Local, cores_of_a_task
from splat.bench.engines.ray import Ray
from splat.bench.engines.remote import to_stderr
from splat.bench.engines.slurm import Slurm
from splat.bench.engines.task import Engine, Needs, Outcome, Task, this_splat

EngineName = Literal["local", "ray", "slurm"]


@dataclass(frozen=True)
class Cluster:
    """What --engine ray and slurm ask for."""

    address: str = ""
    """Ray: address of a cluster that runs, or `auto` (default: the one RAY_ADDRESS names, else one started here)."""
    partition: str = ""
    """SLURM: the partition (default: the cluster's own)."""
    account: str = ""
    """SLURM: the account that is charged."""
    cores: int | None = None
    """Cores of a task (default: up to 8)."""
    gpus: float = 0.0
    """GPUs of a task."""
    retries: int = 3
    """How often a task is run again whose worker was lost."""
    submit: Literal["slurm", "local"] = "slurm"
    """SLURM: `local` runs the jobs as processes of this machine, to try the settings."""


def open_engine(
    name: EngineName,
    cluster: Cluster | None = None,
    *,
    workers: int | None = None,
    limit_minutes: float | None = None,
    program: tuple[str, ...] | None = None,
    notify: Callable[[str], None] = to_stderr,
) -> Engine:
    """The engine that settings name. `workers`: tasks at a time, at most. `program`: what runs `splat`. `notify`:
    called with a sentence where nothing ends on a cluster for long.

    Raises SplatError where its library is missing.
    """
    c, command = cluster or Cluster(), program or this_splat()
    remote: dict[str, Any] = {"workers": workers, "cores": c.cores, "gpus": c.gpus, "retries": c.retries}
    remote["notify"] = notify
    if name == "ray":
        return Ray(command, limit_minutes, address=c.address, **remote).checked()
    if name == "slurm":
        where: dict[str, Any] = {"partition": c.partition, "account": c.account, "cluster": c.submit}
        return Slurm(command, limit_minutes, **where, **remote).checked()
    return Local(command, limit_minutes, workers=workers)


def cores_of_cells(name: EngineName, cluster: Cluster, workers: int | None) -> tuple[int, bool]:
    """How many cores each task will have, and whether that is of this machine."""
    elsewhere = (name == "ray" and bool(cluster.address or os.environ.get("RAY_ADDRESS"))) or (
        name == "slurm" and cluster.submit == "slurm"
    )
    own = None if name == "local" else cluster.cores
    if name == "slurm" and not elsewhere:
        workers = workers or 1
    return own or (CORES_OF_A_TASK if elsewhere else cores_of_a_task(workers)), not elsewhere


__all__ = [
    "Cluster",
    "Engine",
    "EngineName",
    "Local",
    "Needs",
    "Outcome",
    "Ray",
    "Slurm",
    "Task",
    "cores_of_cells",
    "open_engine",
]
