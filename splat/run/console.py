"""What the user sees while a run works: a bar on a terminal, plain lines elsewhere; what `log.jsonl` keeps of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from splat.core.foreign import shown
from splat.core.machine import stage_peak_mb
from splat.core.slots import Reporter


class Console:
    """A Reporter for the command line. Use as a context manager."""

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._stage = ""
        self._bar: Any = None
        self._task: Any = None
        self._last_line = 0.0
        self._started = time.monotonic()

    def __enter__(self) -> Console:
        if sys.stderr.isatty() and not self._quiet:
            from rich.console import Console as RichConsole
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("[bold]{task.description}"),
                BarColumn(),
                TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[figures]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=RichConsole(stderr=True),
            )
            self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def begin(self, stage: str) -> None:
        """Name the stage that starts now."""
        self._stage, self._started, self._last_line = stage, time.monotonic(), 0.0
        if self._bar is not None:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._task = self._bar.add_task(stage, total=None, figures="")

    def info(self, message: str) -> None:
        self._print(message)

    def warn(self, message: str) -> None:
        self._print(f"warning: {message}")

    def progress(self, done: int, total: int, **figures: float | int | str) -> None:
        text = " ".join(f"{k}={_short(v)}" for k, v in figures.items())
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total, figures=text)
            return
        now = time.monotonic()
        if self._quiet or (now - self._last_line < 15 and done < total):
            return
        self._last_line = now
        elapsed = now - self._started
        left = f", {elapsed / done * (total - done):.0f} s left" if 0 < done < total else ""
        print(f"  {self._stage} {done}/{total} {text} ({elapsed:.0f} s{left})", file=sys.stderr, flush=True)

    def _print(self, text: str) -> None:
        if self._quiet:
            return
        text = "\n".join(map(shown, text.split("\n")))  # names of files may hold escape sequences
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=sys.stderr, flush=True)


class Logged:
    """A Reporter that passes everything on to another, keeps the warnings, and logs what is said."""

    def __init__(self, report: Reporter, log: Callable[[dict[str, Any]], None]) -> None:
        self.warnings: list[str] = []
        self._report, self._log, self._stage = report, log, ""

    @property
    def stage(self) -> str:
        """The one that was begun last; empty before the first and after the last."""
        return self._stage

    def begin(self, stage: str) -> None:
        self.end_stage()
        self._stage = stage
        self._report.begin(stage)

    def end_stage(self) -> None:
        """Log the peak memory of the stage that was begun last."""
        peak = stage_peak_mb()
        if self._stage:
            self._log({"kind": "memory", "stage": self._stage, "peak_mb": round(peak, 1)})
        self._stage = ""

    def info(self, message: str) -> None:
        self._log({"kind": "info", "stage": self._stage, "message": message})
        self._report.info(message)

    def warn(self, message: str) -> None:
        self.warnings.append(message)
        self._log({"kind": "warning", "stage": self._stage, "message": message})
        self._report.warn(message)

    def progress(self, done: int, total: int, **figures: float | int | str) -> None:
        self._report.progress(done, total, **figures)


def _short(value: float | int | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
