"""Runs a table: plans what is still to do, says what it will cost, runs it, and writes table and plots."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean
from typing import Any

import splat
from splat.bench.cells import COPIED, Cell, Record, Records
from splat.bench.engines import Engine, Local, Outcome, Task
from splat.bench.job import Job
from splat.bench.prediction import POSE_STAGES, Prediction, alike_cells, corrected, seconds_of
from splat.core.slots import Reporter
from splat.run.record import StageRecord

_GUESS_MINUTES = {"fast": 3.0, "default": 9.0, "quality": 60.0}
"""Until a cell has been measured: two cores, about ten to fifty photos."""


@dataclass(frozen=True)
class Plan:
    """What a table still needs."""

    to_run: tuple[Cell, ...]
    done: int
    failed: tuple[Record, ...]
    """Failed before and not to be tried again."""
    minutes: float
    measured: bool
    """The minutes come from finished cells; else they are predicted from the photos, or a guess."""
    predicted: Mapping[str, Prediction] = field(default_factory=dict)
    """Of the cells that are to run, by name, where they can be predicted."""

    def describe(self) -> str:
        total = len(self.to_run) + self.done + len(self.failed)
        parts = [f"{total} cells: {self.done} done"]
        if self.failed:
            parts.append(f"{len(self.failed)} failed (--retry-failed runs them again)")
        parts.append(f"{len(self.to_run)} to run")
        if self.to_run:
            how = "predicted" if self.predicted else "a guess"
            how = "as measured on finished cells" if self.measured else how
            each = self.minutes / len(self.to_run)
            parts.append(f"about {self.minutes:.0f} min ({len(self.to_run)} x {each:.1f} min, {how})")
        return ", ".join(parts)


@dataclass(frozen=True)
class Table:
    """Cells, the sources of their scenes, and where everything goes:

    `out/runs/<cell>/` run folders, `out/poses/<scene>-s<seed>/` those of poses that several cells start from,
    `out/cells/<cell>.json` numbers, `out/logs/<cell>.log`, and at the end `out/table.md`, `out/table.json`,
    `out/*.png`.
    """

    title: str
    cells: tuple[Cell, ...]
    sources: Mapping[str, Path]
    """Scene -> what is reconstructed."""
    out: Path
    results: Path | None = None
    """A folder of numbers that is kept: cells found there are not run, cells done here are written there too."""
    predict: Callable[[Cell, Path], Prediction | None] | None = None
    """What a cell of a source will take, from the sizes of its photos."""

    @property
    def records(self) -> Records:
        return Records(self.out / "cells", self.results)

    def plan(self, retry_failed: bool = False) -> Plan:
        known = {r.cell.name: r for r in self.records.of(self.cells)}
        failed = () if retry_failed else tuple(r for r in known.values() if r.failed)
        settled = {r.cell.name for r in failed} | {name for name, r in known.items() if not r.failed}
        to_run = tuple(c for c in self.cells if c.name not in settled)
        history = [r for r in self.records.everything() if not r.failed]
        predicted = self._predicted(to_run, history)
        estimates = [
            (p.minutes, bool(p.factors)) if (p := predicted.get(c.name)) is not None else _minutes(c, history)
            for c in to_run
        ]
        return Plan(
            to_run=to_run,
            done=sum(not r.failed for r in known.values()),
            failed=failed,
            minutes=float(sum(m for m, _ in estimates)),
            measured=bool(estimates) and all(measured for _, measured in estimates),
            predicted=predicted,
        )

    def _predicted(self, cells: Sequence[Cell], history: Sequence[Record]) -> dict[str, Prediction]:
        if self.predict is None:
            return {}
        found = {c.name: (c, self.predict(c, self.sources[c.scene])) for c in cells}
        return {name: corrected(c, p, history) for name, (c, p) in found.items() if p is not None}

    def run(self, report: Reporter, engine: Engine | None = None, retry_failed: bool = False) -> list[Record]:
        """Run what is missing; returns the records of all cells that have ended, in the order of `cells`."""
        plan = self.plan(retry_failed)
        report.info(f"{self.title}: {plan.describe()}")
        engine = engine or Local()
        jobs = {c.name: self._job(c, plan.predicted.get(c.name)) for c in plan.to_run}
        before = [r for r in self.records.everything() if not r.failed]
        done: list[tuple[float, Record]] = []

        def ended(task: Task, outcome: Outcome) -> None:
            job = jobs.get(task.name)
            if job is None:
                report.info(f"{task.name}: {outcome.message or f'found in {outcome.seconds / 60:.1f} min'}")
                return
            now = time.monotonic()
            known = [*before, *(r for at, r in done if not r.failed and at <= now - outcome.seconds)]  # when it began
            record = record_of(_predicted_again(job, known, _seconds_there(task)), outcome, _peak_of_poses(task))
            done.append((now, record))
            self.records.put(record)
            report.info(
                f"[{len(done)}/{len(jobs)}] {job.cell.scene} {job.cell.method} seed {job.cell.seed}: {_line(record)}"
            )

        if jobs:
            engine(self.tasks(tuple(jobs.values()), engine.program), ended)
        return self.records.of(self.cells)

    def tasks(self, jobs: Sequence[Job], program: Sequence[str]) -> list[Task]:
        """The tasks of jobs. Where several share scene and seed, they start from the same poses: those of a run that
        has them, else of a task of their own that all of them wait for."""
        groups: dict[tuple[str, int], list[Job]] = {}
        for job in jobs:
            groups.setdefault((job.cell.scene, job.cell.seed), []).append(job)
        tasks: list[Task] = []
        for (scene, seed), group in groups.items():
            run = self.out / "poses" / f"{scene}-s{seed}"
            alike = [c for c in self.cells if (c.scene, c.seed) == (scene, seed)]
            posed = next((r for r in (run, *(self._job(c).run for c in alike)) if _has_poses(r)), None)
            after: tuple[str, ...] = ()
            first = next((j for j in group if not j.cell.is_program), None)  # another program finds none for others
            if posed is None and len(group) > 1 and first is not None:
                tasks.append(first.posing(program, run))
                posed, after = run, (tasks[-1].name,)
            tasks += [job.task(program, posed if posed != job.run else None, after) for job in group]
        return tasks

    def _job(self, cell: Cell, prediction: Prediction | None = None) -> Job:
        log = self.out / "logs" / f"{cell.name}.log"
        return Job(cell, self.sources[cell.scene], self.out / "runs" / cell.name, log, prediction)


def _predicted_again(job: Job, known: Sequence[Record], there: Mapping[str, float]) -> Job:
    """The job with its prediction as the records `known` correct it, and stages that are `there` already."""
    if job.prediction is None:
        return job
    return replace(job, prediction=replace(corrected(job.cell, job.prediction, known), known=there))


def _seconds_there(task: Task) -> dict[str, float]:
    """Seconds of the stages that a task begins with: the poses of another run."""
    found = {source.name: StageRecord.read(source / "stage.json") for source, _ in task.copies}
    return {stage: r.seconds for stage, r in found.items() if r is not None and r.complete}


def _has_poses(run: Path) -> bool:
    record = StageRecord.read(run / "poses" / "stage.json")
    return record is not None and record.complete


def _peak_of_poses(task: Task) -> float | None:
    """Peak memory in MB of the run whose poses a task started from."""
    found: list[float] = []
    for source, _ in task.copies[:1]:
        with suppress(OSError, ValueError, LookupError):
            lines = (source.parent / "log.jsonl").read_text().splitlines()
            marks = [r for r in map(json.loads, lines) if r.get("kind") == "memory" and r["stage"] in POSE_STAGES]
            found += [float(r["peak_mb"]) for r in marks]
    return max(found, default=None)


def record_of(job: Job, outcome: Outcome, poses_mb: float | None = None) -> Record:
    """The record of a job that has just ended; a run that ended well but left no figures has failed too. `poses_mb`:
    peak memory of the run that found its poses, if that was another."""
    metrics: dict[str, Any] | None = None
    message = outcome.message
    if outcome.code == 0:
        try:
            found = json.loads((job.run / "metrics.json").read_text())
            metrics = {k: found[k] for k in COPIED if k in found}
        except (OSError, ValueError) as e:
            message = f"it ended well but left no figures: metrics.json: {type(e).__name__}"
    return Record(
        cell=job.cell,
        metrics=metrics,
        message=message or ("" if metrics is not None else f"it ended with code {outcome.code}"),
        wall_seconds=outcome.seconds,
        peak_memory_mb=max(filter(None, (outcome.peak_memory_mb, poses_mb)), default=None),
        version=splat.__version__,
        commit=outcome.source.commit,
        code=outcome.source.code,
        predicted=None if job.prediction is None else job.prediction.plain(),
    )


def _minutes(cell: Cell, history: Sequence[Record]) -> tuple[float, bool]:
    """Expected minutes of a cell: the mean of the finished cells most like it, else a guess by its preset."""
    for alike in alike_cells(cell, history):
        seconds = [seconds_of(r) for r in alike]
        if seconds:
            return mean(seconds) / 60, True
    preset = cell.overrides.get("preset", "default")
    return _GUESS_MINUTES.get(str(preset), _GUESS_MINUTES["default"]), False


def _line(record: Record) -> str:
    if record.metrics is None:
        return f"failed: {record.message}"
    m = record.metrics
    psnr = m.get("psnr")
    registered = m.get("registered") or ["?", "?"]
    quality = "no held-out photos" if psnr is None else f"{psnr:.2f} dB"
    return f"{quality}, {registered[0]}/{registered[1]} photos, {seconds_of(record) / 60:.1f} min"
