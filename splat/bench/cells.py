"""A table is a list of cells; a cell is one run of `splat reconstruct` and ends as one small JSON of numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from splat.bench.quantities import values_of
from splat.core.files import write_json

Value = str | int | float | bool | list[int] | list[str]

COPIED = (
    "psnr", "ssim", "lpips", "cc_psnr", "lpips_variant", "views", "num_gaussians", "seconds", "processor_seconds",
    "peak_memory_mb", "registered", "resolution", "iterations", "method", "seed", "heldout", "timeline",
    "displacement", "floaters", "figures", "program", "machine", "versions",
)  # fmt: skip
"""What a cell's JSON takes from `RUN/metrics.json`: numbers and names, no path of the machine that ran it."""


PROGRAM = "program"
"""Override of cells that another program trains."""


@dataclass(frozen=True)
class Cell:
    """What is run. Equal cells have equal numbers (on one machine and one version), so a cell is its own key."""

    scene: str
    method: str
    overrides: Mapping[str, Value] = field(default_factory=dict)
    """Flags of `splat reconstruct` without their dashes: {"preset": "fast", "ignore-poses": True}."""
    seed: int = 0
    command: str = field(default="", compare=False)
    """Another program's, as this machine runs it; what `overrides` has of it as "program" names no place."""

    def plain(self) -> dict[str, Any]:
        overrides = {k.replace("_", "-"): self.overrides[k] for k in sorted(self.overrides)}
        return {"scene": self.scene, "method": self.method, "overrides": overrides, "seed": self.seed}

    @property
    def name(self) -> str:
        """A file name that is readable and differs where any setting differs."""
        digest = hashlib.sha256(json.dumps(self.plain(), sort_keys=True).encode()).hexdigest()[:8]
        return f"{self.scene}-{self.method}-s{self.seed}-{digest}"

    @property
    def is_program(self) -> bool:
        """Whether another program makes its splat."""
        return PROGRAM in self.overrides

    def arguments(self, source: Path, run: Path) -> list[str]:
        """The arguments after `splat`."""
        places, seed = [str(source), "--out", str(run)], ["--seed", str(self.seed)]
        overrides = self.plain()["overrides"]
        program = overrides.pop(PROGRAM, None)
        if program is None:
            return ["reconstruct", *places, "--method", self.method, *seed, *flags_of(overrides)]
        own = ["--name", self.method, "--command", self.command or program]
        return ["program", *places, *own, *seed, *flags_of(overrides)]


def flags_of(overrides: Mapping[str, Value]) -> list[str]:
    """Command-line flags: {"a.b": True} becomes `--a.b`, {"a.b": False} becomes `--a.no-b`, {"a.b": [1, 2]}
    `--a.b 1 2`, others `--a.b value`."""
    flags = []
    for key, value in overrides.items():
        if isinstance(value, bool):
            head, dot, last = key.rpartition(".")
            flags.append(f"--{key}" if value else f"--{head}{dot}no-{last}")
        elif isinstance(value, list):
            flags += [f"--{key}", *map(str, value)]
        else:
            flags += [f"--{key}", str(value)]
    return flags


@dataclass(frozen=True, eq=False)
class Record:
    """How a cell ended."""

    cell: Cell
    metrics: dict[str, Any] | None
    """See COPIED; None when it failed."""
    message: str = ""
    """Why it failed, in one line."""
    wall_seconds: float = 0.0
    """From start to end of the process, loading of libraries included; of the last attempt, when it was resumed."""
    peak_memory_mb: float | None = None
    """Of the process, and of the one that found its poses, as the operating system counted it."""
    version: str = ""
    """Of the package."""
    commit: str = ""
    """See `source.SourceVersion`; empty where it was not recorded."""
    code: str = ""
    predicted: dict[str, Any] | None = None
    """`Prediction.plain` of the cell; None where it was not predicted."""

    @property
    def failed(self) -> bool:
        return self.metrics is None

    def plain(self) -> dict[str, Any]:
        return {
            "cell": self.cell.plain(),
            "status": "failed" if self.failed else "done",
            "message": self.message,
            "values": values_of(self.metrics),
            "metrics": self.metrics,
            "wall_seconds": round(self.wall_seconds, 1),
            "peak_memory_mb": None if self.peak_memory_mb is None else round(self.peak_memory_mb, 1),
            "version": self.version,
            "commit": self.commit,
            "code": self.code,
            "predicted": self.predicted,
        }

    @staticmethod
    def from_plain(d: dict[str, Any]) -> Record:
        return Record(
            cell=Cell(**d["cell"]),
            metrics=d["metrics"],
            message=d["message"],
            wall_seconds=d["wall_seconds"],
            peak_memory_mb=d["peak_memory_mb"],
            version=d["version"],
            commit=d.get("commit", ""),
            code=d.get("code", ""),
            predicted=d.get("predicted"),
        )


@dataclass(frozen=True)
class Records:
    """Cells that have ended, one JSON each. `kept`, where given, is read first and receives what is done: committed, it
    lets one table span several sittings or machines. Failures stay in `folder`."""

    folder: Path
    kept: Path | None = None

    def get(self, cell: Cell) -> Record | None:
        for place in filter(None, (self.kept, self.folder)):
            record = _read(place / f"{cell.name}.json")
            if record is not None and record.cell.plain() == cell.plain():
                return record
        return None

    def put(self, record: Record) -> None:
        places = [self.folder] if record.failed or self.kept is None else [self.folder, self.kept]
        for place in places:
            write_json(place / f"{record.cell.name}.json", record.plain())

    def of(self, cells: Iterable[Cell]) -> list[Record]:
        """The records of those cells that have ended, in order."""
        return [r for r in map(self.get, cells) if r is not None]

    def everything(self) -> list[Record]:
        """All records, of this table and of others kept in the same places."""
        places = [p for p in (self.kept, self.folder) if p is not None and p.is_dir()]
        found = {path.name: _read(path) for place in reversed(places) for path in sorted(place.glob("*.json"))}
        return [r for r in found.values() if r is not None]


def _read(path: Path) -> Record | None:
    """None where there is no record, or none that can be read (a file cut off, or not ours)."""
    try:
        return Record.from_plain(json.loads(path.read_text()))
    except (OSError, ValueError, KeyError, TypeError):
        return None
