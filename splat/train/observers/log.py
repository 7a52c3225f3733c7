"""The log of a run: a line every 50 steps, and progress for the user."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from splat.core.slots import Reporter, Snapshot


class TrainingLog:
    """Keeps lines (JSON-serializable dicts) and passes them on; shows progress twice a second. Part of checkpoints, so
    that a resumed run has all lines."""

    EVERY = 50
    """Steps between two lines. Changes by density control and the last step get a line too."""
    SHOW_SECONDS = 0.5

    def __init__(self, report: Reporter, write: Callable[[dict[str, Any]], None] | None = None) -> None:
        self.report = report
        self.history: list[dict[str, Any]] = []
        """All lines of the run."""
        self._write = write
        self._shown = time.monotonic()

    def wants_gaussians(self, step: int, total: int) -> bool:
        return False

    def __call__(self, snapshot: Snapshot) -> None:
        s = snapshot
        if s.step == 0:
            return
        now = time.monotonic()
        if now - self._shown >= self.SHOW_SECONDS or s.step == s.total:
            self._shown = now
            f = s.figures
            loss, psnr = f.get("loss", math.nan), f.get("psnr", math.nan)
            self.report.progress(s.step, s.total, loss=loss, psnr=psnr, gaussians=s.count, rate=s.steps_per_second)
        if s.step % self.EVERY == 0 or s.step == s.total or "density" in s.figures:
            figures = dict(s.figures)
            first = {"psnr": figures.pop("psnr")} if "psnr" in figures else {}
            head = {"step": s.step, "phase": s.phase, **first, "gaussians": s.count}
            tail = {"seconds": round(s.seconds, 3), "steps_per_second": round(s.steps_per_second, 2)}
            self.add({**head, **figures, **tail})

    def add(self, line: dict[str, Any]) -> None:
        """Add a line."""
        self.history.append(line)
        if self._write is not None:
            self._write(line)

    def state(self) -> dict[str, Any]:
        return {"history": list(self.history)}

    def load_state(self, state: dict[str, Any]) -> None:
        self.history = list(state["history"])
