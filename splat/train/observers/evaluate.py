"""Evaluation during training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from splat.core.gaussians import Gaussians
from splat.core.slots import Snapshot


class Evaluate:
    """Evaluates the Gaussians after some steps (0: before the first), and adds a line with the results to a log."""

    def __init__(
        self,
        steps: tuple[int, ...],
        measure: Callable[[int, Gaussians], dict[str, Any]] | None = None,
        add: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        """`measure`: (step, Gaussians) -> JSON-serializable values. `add`: receives a line, as `TrainingLog.add`. With
        several processes, only rank 0 needs these two."""
        self.steps, self.measure, self.add = frozenset(steps), measure, add

    def wants_gaussians(self, step: int, total: int) -> bool:
        return step in self.steps

    def __call__(self, snapshot: Snapshot) -> None:
        s = snapshot
        if s.gaussians is None or self.measure is None or self.add is None:
            return
        figures = self.measure(s.step, s.gaussians)
        self.add({"step": s.step, "evaluation": figures, "gaussians": s.count, "seconds": round(s.seconds, 3)})
