"""`splat bench`: a table of scenes and methods, from the command line."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from splat.bench import plots
from splat.bench.cells import Cell, Record, Value, flags_of
from splat.bench.engines import Cluster, Engine, EngineName, cores_of_cells, open_engine
from splat.bench.protocols import PROTOCOLS
from splat.bench.runner import Table
from splat.bench.tables import Row, markdown, means_of, rows_of, versions_note
from splat.commands.prediction import Predictor
from splat.core.errors import SplatError
from splat.core.files import write_atomic, write_json
from splat.core.slots import Reporter
from splat.methods import METHODS
from splat.run.console import Console
from splat.stages.calibration import calibrate


@dataclass(frozen=True)
class Bench:
    """Run a table of scenes and methods. Finished cells are not run again, so the same command goes on where it
    stopped; --out receives the run folders, the table (Markdown and JSON) and its plots."""

    protocol: Literal["captures"]
    """captures: every capture under --data from its photos alone."""
    out: Path = Path("runs/bench")
    """Folder of the table: cells, their run folders, table and plots. Tables that share it share their cells."""
    data: Path | None = None
    """Folder that holds one folder per scene (default: the one named by SPLAT_DATA, else ../shared/data)."""
    methods: str = "auto"
    """Comma-separated methods of `splat reconstruct`."""
    preset: Literal["fast", "default", "quality"] = "default"
    scenes: str = ""
    """Comma-separated names of scenes (default: all)."""
    seeds: str = "0"
    """Comma-separated seeds; the table shows mean and standard deviation over them."""
    set: tuple[str, ...] = ()
    """More flags for every cell: --set max-resolution=400 train.absgrad=true."""
    results: Path | None = None
    """Folder of kept numbers: cells found there are not run, cells done now are written there."""
    retry_failed: bool = False
    """Run cells that failed before again."""
    limit_minutes: float | None = None
    """Stop a cell after this many minutes and count it as failed."""
    engine: EngineName = "local"
    """Where cells run, each in a process of its own: local (this machine), ray (a Ray cluster, or one started here;
    extra `ray`) or slurm (jobs of SLURM; extra `slurm`)."""
    workers: int | None = None
    """Cells at a time, at most; on this machine each has its share of the cores (default: one for every 8 cores as far
    as memory allows; on a cluster as many as there is place for)."""
    cluster: Cluster = field(default_factory=Cluster)
    """What --engine ray and slurm ask for."""
    calibrate: bool = False
    """Measure first how fast this machine is (ten seconds, one thread); what is predicted follows it from then on."""
    dry_run: bool = False
    """Say what would be run and what it would cost; run nothing."""
    json: Path | None = None
    """Also write the table's numbers to this file."""

    def table(self) -> Table:
        """The cells this command stands for."""
        named = self.data or Path(os.environ.get("SPLAT_DATA", "../shared/data"))
        scenes = PROTOCOLS[self.protocol].select(named, _names(self.scenes))
        methods = _names(self.methods)
        seeds = [_whole_number(s) for s in _names(self.seeds)]
        if not methods or not seeds:
            raise SplatError("--methods and --seeds need at least one entry each.")
        for method in methods:
            if method not in ("auto", *METHODS):
                raise SplatError(f"--methods {method} does not exist: choose among auto, {', '.join(METHODS)}.")
        overrides = dict(_override(s) for s in self.set)
        cells = tuple(
            Cell(scene.name, method, {"preset": self.preset, **scene.overrides, **overrides}, seed)
            for scene in scenes
            for method in methods
            for seed in seeds
        )
        title = f"{self.protocol}, preset {self.preset}"
        predict = Predictor(*cores_of_cells(self.engine, self.cluster, self.workers))
        return Table(title, cells, {s.name: s.source for s in scenes}, self.out, self.results, predict)

    def __call__(self, engine: Engine | None = None) -> int:
        """0 when every cell is done, 1 when one failed."""
        with Console() as report:
            if self.calibrate:
                found = calibrate()
                report.info(
                    f"this machine takes {found.training:.2f} times the seconds of the reference machine to train, and "
                    f"{found.features:.2f} times to find features"
                )
            table = self.table()
            if self.dry_run:
                plan = table.plan(self.retry_failed)
                report.info(f"{table.title}: {plan.describe()}")
                for cell in plan.to_run:
                    p = plan.predicted.get(cell.name)
                    expected = "" if p is None else f": {p.describe()}"
                    report.info(f"  {cell.scene} {cell.method} seed {cell.seed}{expected}")
                return 0
            engine = engine or open_engine(
                self.engine, self.cluster, workers=self.workers, limit_minutes=self.limit_minutes
            )
            try:
                records = table.run(report, engine, self.retry_failed)
            finally:
                text = write_outputs(table, table.records.of(table.cells), self.json, report)
        print(text, end="")
        sys.stdout.flush()
        return int(any(r.failed for r in records))


def write_outputs(table: Table, records: list[Record], json: Path | None, report: Reporter) -> str:
    """`table.md`, `table.json` and plots in the table's folder; returns the Markdown."""
    rows = rows_of(records)
    means = means_of(rows) if len({r.scene for r in rows}) > 1 else []
    note = _note(table, records)
    text = markdown(table.title, note, rows, means)
    write_atomic(table.out / "table.md", text)
    numbers: dict[str, Any] = {
        "title": table.title,
        "note": note,
        "rows": [r.plain() for r in rows],
        "means": [r.plain() for r in means],
        "cells": [r.plain() for r in records],
    }
    for path in filter(None, (table.out / "table.json", json)):
        write_json(path, numbers)
    with_plots = any("psnr" in r.values for r in rows)
    if with_plots and (reason := plots.unavailable()):
        report.info(reason)
        with_plots = False
    if with_plots:
        _plots(table, rows)
    report.info(f"{table.out / 'table.md'}" + ", with plots beside it" * with_plots)
    return text


def _note(table: Table, records: list[Record]) -> str:
    """What every cell of the table shares."""
    overrides = [c.plain()["overrides"] for c in table.cells]
    shared = {k: v for k, v in overrides[0].items() if all(o.get(k) == v for o in overrides)}
    flags = " ".join(flags_of(shared))
    seeds = sorted({c.seed for c in table.cells})
    heldout = sorted({(r.metrics or {}).get("heldout", "") for r in records} - {""})
    variants = sorted({(r.metrics or {}).get("lpips_variant") or "" for r in records} - {""})
    parts = [f"`{flags}`" if flags else "", f"seeds {', '.join(map(str, seeds))}"]
    parts += [f"held-out photos: {', '.join(heldout)}"] * bool(heldout) + variants
    parts.append(versions_note(records))
    missing = len(table.cells) - len(records)
    parts += [f"{missing} cells not run yet"] * bool(missing)
    return "; ".join(filter(None, parts)) + "."


def _plots(table: Table, rows: list[Row]) -> None:
    """`psnr` and `psnr_vs_minutes`, each as .png and .svg, in the table's folder."""
    scenes = list(dict.fromkeys(r.scene for r in rows))
    by_method: dict[str, dict[str, Row]] = {}
    for r in rows:
        by_method.setdefault(f"{r.method} {r.setting}".strip(), {})[r.scene] = r

    def bar(row: Row | None) -> plots.Bar | None:
        psnr = row.values.get("psnr") if row else None
        return None if psnr is None else plots.Bar(psnr.mean, psnr.std)

    psnr = {name: [bar(found.get(s)) for s in scenes] for name, found in by_method.items()}
    quality = "PSNR of held-out photos, dB"
    plots.write(plots.bars(table.title, quality, scenes, psnr), table.out / "psnr.png")
    cost = {
        name: [
            (r.seconds["total"].mean / 60, r.values["psnr"].mean, r.scene)
            for r in found.values()
            if "psnr" in r.values and "total" in r.seconds
        ]
        for name, found in by_method.items()
    }
    figure = plots.scatter(f"{table.title}: quality and time", "minutes from photos to splat", quality, cost)
    plots.write(figure, table.out / "psnr_vs_minutes.png")


def _names(text: str) -> list[str]:
    return list(dict.fromkeys(filter(None, (part.strip() for part in text.split(",")))))


def _whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise SplatError(f"--seeds {text!r} is not a whole number: write them as 0,1,2.") from None


def _override(text: str) -> tuple[str, Value]:
    key, found, value = text.partition("=")
    if not found or not key:
        raise SplatError(f"--set {text!r} is not of the form key=value: write for example --set cap=100000.")
    key = key.lstrip("-").replace("_", "-")
    if value.lower() in {"true", "false"}:
        return key, value.lower() == "true"
    return key, value
