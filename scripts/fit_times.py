"""The constants of the forecast of seconds (`splat.stages.timing.Speed`): fitted to cells, and checked on others.

    python scripts/fit_times.py --data DIR --fit FOLDER ... [--check FOLDER ...] [--every 2] [--scene NAME=FOLDER ...]

Folders hold records of tables (`scripts/results/...`, or `OUT/cells`). Of those of `--fit`, every second cell (by name)
is fitted to, stage by stage and with processor seconds where they were noted; the others, and all of `--check`, are
not: the table of errors has them apart. Relative errors count by their square up to 30 % and by their size
beyond (Huber), so that a few cells that a busy machine slowed down move little; no constant is negative. Kinds of work
that no cell had keep their value. `--skip export`: stages whose code has changed since are left out of the fit and of
the errors.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from splat.bench.cells import Record, Records  # noqa: E402
from splat.bench.prediction import MAX_ERROR, POSE_STAGES  # noqa: E402
from splat.commands.prediction import Predictor, settings_of  # noqa: E402
from splat.core.errors import SplatError  # noqa: E402
from splat.stages.timing import REFERENCE_SPEED, Speed  # noqa: E402
from splat.stages.work import Work, stage_work  # noqa: E402

OLDER_CORES = 2
"""Of cells that do not say how many they had."""
LEAST_SECONDS = 1.0
"""Stages that took less are not fitted to."""
PULL = 1e-2
"""How much a constant that changes by its own size weighs against the error of a stage: kinds of work that always come
together are not told apart by these cells, and stay as they are."""


@dataclass(frozen=True, eq=False)
class Finished:
    """A cell, what it had to do, and what that took, by stage."""

    record: Record
    work: dict[str, Work]
    seconds: dict[str, float]
    """Processor seconds where they are known."""
    cores: int
    memory_mb: float
    """As predicted."""

    def predicted(self, speed: Speed) -> dict[str, float]:
        return {stage: speed.seconds(self.work[stage], self.cores) for stage in self.seconds}


def source_of(scene: str, data: Path, named: dict[str, str]) -> Path | None:
    """Where the photos of a scene are; NAME8 is NAME with eight photos (`lm_ablation`)."""
    names = (named.get(scene, scene), scene.removesuffix("8"))
    return next((data / n for n in names if (data / n).exists()), None)


def finished(folder: Path, data: Path, named: dict[str, str], skip: Sequence[str]) -> list[Finished]:
    """The cells of a folder whose photos are there."""
    out = []
    predictors: dict[int, Predictor] = {}
    for record in Records(folder).everything():
        source = source_of(record.cell.scene, data, named)
        if record.metrics is None or record.cell.is_program or source is None:
            continue
        cores = int(record.metrics.get("machine", {}).get("cores", OLDER_CORES))
        predictor = predictors.setdefault(cores, Predictor(cores, here=False, speed=REFERENCE_SPEED))
        try:
            settings = settings_of(record.cell, source)
            work, memory = stage_work(predictor.sizes(settings)), predictor.predict(settings).memory_mb
        except SplatError as e:
            print(f"{record.cell.name}: {e}", file=sys.stderr)
            continue
        spent = {**record.metrics["seconds"], **record.metrics.get("processor_seconds", {})}
        seconds = {stage: float(spent[stage]) for stage in work if stage in spent and stage not in skip}
        shared_by = 1 if "processor_seconds" in record.metrics else cores
        out.append(Finished(record, work, seconds, shared_by, memory))
    return out


def fitted(cells: Sequence[Finished], rounds: int = 60) -> Speed:
    """Huber's loss of relative errors by least squares that are weighted anew, no constant negative."""
    names = [f.name for f in fields(Speed)]
    rows, seen = list[list[float]](), set[tuple[str, str, float]]()
    for c in cells:
        for stage, took in c.seconds.items():
            key = (c.record.cell.scene, stage, took)
            if took < LEAST_SECONDS or (stage in POSE_STAGES and key in seen):
                continue  # poses that several cells share count once
            seen.add(key)
            rows.append([c.work[stage].get(n, 0.0) / (c.cores * took) for n in names])
    a = np.array(rows)
    start = np.array([getattr(REFERENCE_SPEED, n) for n in names])
    used = a.max(0) > 0
    scaled = a * start  # factors on the constants that are there now
    x, weights = np.ones(len(names)), np.ones(len(a))
    for _ in range(rounds):
        x[used] = _not_negative(scaled[:, used] * weights[:, None], weights, x[used])
        weights = 1 / np.sqrt(np.maximum(np.abs(scaled @ x - 1), MAX_ERROR))
    return Speed(**{n: float(f"{v:.3g}") for n, v in zip(names, x * start)})


def _not_negative(a: np.ndarray, b: np.ndarray, x: np.ndarray, rounds: int = 2000) -> np.ndarray:
    """Least squares with x >= 0 by coordinate descent (the problem is convex), pulled a little to 1."""
    pull = PULL * len(a)
    gram, right, x = a.T @ a + pull * np.eye(a.shape[1]), a.T @ b + pull, x.copy()
    for _ in range(rounds):
        for j in range(len(x)):
            x[j] = max(0.0, x[j] + (right[j] - gram[j] @ x) / gram[j, j])
    return x


def errors(name: str, cells: Sequence[Finished], speed: Speed) -> str:
    """A row: how many totals are within 30 %, as they are before anything has run, when a cell begins with poses that
    are there, and of the stages after the poses; how many peaks of memory; and the median ratio of each stage."""
    totals = [(sum(c.seconds.values()), sum(c.predicted(speed).values())) for c in cells]
    later = []
    for c in cells:
        after = [s for s in c.seconds if s not in POSE_STAGES]
        later.append((sum(c.seconds[s] for s in after), sum(c.predicted(speed)[s] for s in after)))
    known = [(t[0], t[0] - a[0] + a[1]) for t, a in zip(totals, later)]

    def right(pairs: list[tuple[float, float]]) -> str:
        good = sum(abs(real - predicted) <= MAX_ERROR * predicted for real, predicted in pairs)
        return f"{good} of {len(pairs)}"

    stages = []
    for stage in dict.fromkeys(s for c in cells for s in c.seconds):
        ratios = [c.predicted(speed)[stage] / c.seconds[stage] for c in cells if c.seconds.get(stage, 0) >= 1]
        stages.append(f"{stage} {np.median(ratios):.2f}" if ratios else "")
    memory = [(c.record.peak_memory_mb, c.memory_mb) for c in cells if c.record.peak_memory_mb is not None]
    told = f"{right(totals)} | {right(known)} | {right(later)} | {right(memory)}"
    return f"| {name} | {told} | {', '.join(filter(None, stages))} |"


HEAD = (
    "| cells | minutes within 30 % | with poses known | without poses | MB within 30 % "
    "| median of predicted over real, by stage |\n| --- | --- | --- | --- | --- | --- |"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("SPLAT_DATA", "data")))
    parser.add_argument("--fit", type=Path, nargs="*", default=[])
    parser.add_argument("--check", type=Path, nargs="*", default=[])
    parser.add_argument("--every", type=int, default=2)
    parser.add_argument("--scene", nargs="*", default=[])
    parser.add_argument("--skip", nargs="*", default=[])
    parser.add_argument("--cells", action="store_true", help="also a line for each cell")
    args = parser.parse_args()
    named = dict(s.split("=", 1) for s in args.scene)
    fit, groups = list[Finished](), list[tuple[str, list[Finished]]]()
    for folder in args.fit:
        cells = finished(folder, args.data, named, args.skip)
        fit += cells[:: args.every]
        groups += [(f"{folder.name}, fitted to", cells[:: args.every])]
        rest = [c for i, c in enumerate(cells) if i % args.every]
        groups += [(f"{folder.name}, the others", rest)]
    groups += [(f.name, finished(f, args.data, named, args.skip)) for f in args.check]
    speed = fitted(fit) if fit else REFERENCE_SPEED
    if fit:
        for f in fields(Speed):
            print(f"{f.name} = {getattr(speed, f.name):g}  (was {getattr(REFERENCE_SPEED, f.name):g})")
    print(HEAD)
    for name, cells in groups:
        print(errors(name, cells, speed))
    if args.cells:
        for name, cells in groups:
            for c in cells:
                p = c.predicted(speed)
                parts = " ".join(f"{s} {p[s]:.0f}/{c.seconds[s]:.0f}" for s in c.seconds)
                print(f"{name}: {c.record.cell.scene} {c.record.cell.method}: {parts}")


if __name__ == "__main__":
    main()
