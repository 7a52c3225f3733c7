"""`splat bench`: a table of scenes and methods, from the command line."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from splat.bench.cells import PROGRAM, Cell, Value
from splat.bench.engines import Cluster, Engine, EngineName, cores_of_cells, open_engine
from splat.bench.gate import fallen
from splat.bench.outputs import write_outputs
from splat.bench.programs import OtherProgram, programs_of
from splat.bench.protocols import PROTOCOLS, Protocol
from splat.bench.runner import Table
from splat.bench.tables import rows_of
from splat.commands.checks import MAX_SEED
from splat.commands.prediction import Predictor
from splat.core.errors import SplatError
from splat.methods import METHODS
from splat.run.console import Console
from splat.stages.calibration import calibrate

NAMES = Literal[tuple(PROTOCOLS)]  # type: ignore[valid-type]


@dataclass(frozen=True)
class Bench:
    """Run a table of scenes and methods. Finished cells are not run again, so the same command goes on where it
    stopped; --out receives the run folders, the table (Markdown, CSV, LaTeX and JSON) beside published numbers, its
    plots, and a page of pictures. --check says what a protocol fixes and what is missing of its data."""

    protocol: NAMES
    """What is run on which scenes: captures is every capture under --data from its photos alone; the others are those
    of publications (--check describes each)."""
    out: Path = Path("runs/bench")
    """Folder of the table: cells, their run folders, table and plots. Tables that share it share their cells."""
    data: Path | None = None
    """Folder that holds one folder per scene (default: the one named by SPLAT_DATA, else ../shared/data)."""
    methods: str = "auto"
    """Comma-separated methods of `splat reconstruct`, each with flags of its own where wanted:
    points,edgs+preset=quality+cap=500000."""
    program: tuple[str, ...] = ()
    """Other programs as methods, NAME=COMMAND; the command turns a COLMAP model into a PLY and is run as by `splat
    program --command`, which explains {colmap} {images} {ply} {work} {iterations} {threads} {seed}. For example
    --program 'opensplat=opensplat {colmap} --output {ply} --num-iters {iterations} --keep-crs'. With --methods "" they
    are run alone."""
    programs: Path | None = None
    """More of them: a TOML file of name = 'command'."""
    preset: Literal["fast", "default", "quality"] = "default"
    """As in `splat reconstruct`."""
    scenes: str = ""
    """Comma-separated names of scenes (default: all)."""
    seeds: str = "0"
    """How many seeds (3: 0, 1 and 2), or which, with a comma (7, or 0,5); the table shows mean and standard deviation
    over them."""
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
    check: bool = False
    """Say what the protocol fixes, what is missing or damaged of its data, and where its authors publish them."""
    gate: Path | None = None
    """A table.json of an earlier run: exit with code 1, and a sentence for each, where figures are worse by more than a
    tolerance (its "tolerances", else 0.3 dB, 0.01 SSIM and LPIPS, 20 % Gaussians and memory, 50 % time)."""
    json: Path | None = None
    """Also write the table's numbers to this file."""

    @property
    def folder(self) -> Path:
        """Of the data."""
        return self.data or Path(os.environ.get("SPLAT_DATA", "../shared/data"))

    def table(self) -> Table:
        """The cells this command stands for."""
        protocol = PROTOCOLS[self.protocol]
        scenes = protocol.select(self.folder, _names(self.scenes))
        rows = [*map(_method, _names(self.methods)), *map(_of_program, programs_of(self.program, self.programs))]
        seeds = _seeds(self.seeds)
        if not rows or not seeds:
            raise SplatError("--methods and --seeds need at least one entry each.")
        overrides = dict(_override(s, "--set") for s in self.set)
        cells = tuple(
            Cell(
                *(scene.name, row.method),
                {"preset": self.preset, **scene.overrides, **overrides, **row.overrides},
                seed,
                row.command,
            )
            for scene in scenes
            for row in rows
            for seed in seeds
        )
        title = f"{self.protocol}, preset {self.preset}"
        predict = Predictor(*cores_of_cells(self.engine, self.cluster, self.workers))
        return Table(title, cells, {s.name: s.source for s in scenes}, self.out, self.results, predict)

    def __call__(self, engine: Engine | None = None) -> int:
        """0 when every cell is done, 1 when one failed, the gate is closed, or --check misses something."""
        protocol = PROTOCOLS[self.protocol]
        if self.check:
            return self._check(protocol)
        if self.workers is not None and self.workers < 1:
            raise SplatError(f"--workers {self.workers} is too few: give at least 1.")
        if self.limit_minutes is not None and not self.limit_minutes > 0:
            raise SplatError(f"--limit-minutes {self.limit_minutes:g} must be above 0.")
        protocol.select(self.folder, _names(self.scenes))  # what is wrong with the folder itself
        absent = protocol.absent(self.folder)
        faults = [m for m in protocol.check(self.folder, _names(self.scenes)) if m.scene not in absent]
        if faults:
            more = f" (and {len(faults) - 1} more: --check lists them)" if len(faults) > 1 else ""
            raise SplatError(f"{faults[0].scene}: {faults[0].what}{more}: correct the data, or name other --scenes.")
        if self.gate is not None:
            fallen([], self.gate)  # a mistake in it is said before hours of work, not after
        with Console() as report:
            if self.calibrate:
                speed = calibrate()
                report.info(
                    f"this machine takes {speed.training:.2f} times the seconds of the reference machine to train, and "
                    f"{speed.features:.2f} times to find features"
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
                *(self.engine, self.cluster),
                workers=self.workers,
                limit_minutes=self.limit_minutes,
                notify=report.info,
            )
            try:
                records = table.run(report, engine, self.retry_failed)
            finally:
                done = table.records.of(table.cells)
                run = {c.scene for c in table.cells}
                left = [*absent, *(s.name for s in protocol.scenes if s.name not in run and s.name not in absent)]
                text = write_outputs(table, done, self.json, report, protocol, left)
        print(text, end="")
        sys.stdout.flush()
        worse = fallen(rows_of(records), self.gate) if self.gate is not None else []
        for sentence in worse:
            print(sentence, file=sys.stderr)
        return int(any(r.failed for r in records) or bool(worse))

    def _check(self, protocol: Protocol) -> int:
        missing = protocol.check(self.folder, _names(self.scenes))
        print(protocol.describe())
        for m in missing:
            print(f"missing: {m.scene + ': ' if m.scene else ''}{m.what}.")
        if not missing:
            there = [s.name for s in protocol.select(self.folder, _names(self.scenes))]
            print(f"complete: {', '.join(there)}.")
        elif protocol.where:
            print(f"The authors publish it at {protocol.where}.")
        sys.stdout.flush()
        return int(bool(missing))


@dataclass(frozen=True)
class _Row:
    """What a table runs on every scene."""

    method: str
    overrides: Mapping[str, Value]
    command: str = ""


def _method(text: str) -> _Row:
    name, *own = text.split("+")
    if name not in ("auto", *METHODS):
        raise SplatError(f"--methods {name} does not exist: choose among auto, {', '.join(METHODS)}.")
    return _Row(name, dict(_override(s, "--methods") for s in own))


def _of_program(program: OtherProgram) -> _Row:
    return _Row(program.name, {PROGRAM: program.identity}, program.command)


_MAX_SEEDS = 1000
"""Of a cell, where their number is given."""


def _names(text: str) -> list[str]:
    return list(dict.fromkeys(filter(None, (part.strip() for part in text.split(",")))))


def _seeds(text: str) -> list[int]:
    """One number above 0 is how many; a list says which."""
    try:
        found = [int(part) for part in _names(text)]
    except ValueError:
        raise SplatError(f"--seeds {text!r} are not whole numbers: write 3, or 0,1,2.") from None
    if any(not 0 <= seed <= MAX_SEED for seed in found):
        raise SplatError(f"--seeds {text!r} must be from 0 to {MAX_SEED}: write 3, or 0,1,2.")
    if len(found) == 1 and found[0] > 0 and "," not in text:
        if found[0] > _MAX_SEEDS:
            raise SplatError(f"--seeds {text} would run every cell so often: for that seed alone write {text},")
        return list(range(found[0]))
    return found


def _override(text: str, flag: str) -> tuple[str, Value]:
    key, found, value = text.partition("=")
    if not found or not key:
        raise SplatError(f"{flag} {text!r} is not of the form key=value: write for example cap=100000.")
    key = key.lstrip("-").replace("_", "-")
    if value.lower() in {"true", "false"}:
        return key, value.lower() == "true"
    return key, value
