"""What training says: losses, read rarely; lines of the log; evaluations."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from splat.core.errors import SplatError
from splat.core.gaussians import Gaussians
from splat.core.slots import Reporter
from splat.train.progress import Meter


class Telling:
    """The voice of one run, and what it has said."""

    LOG_EVERY = 50
    MOST_FAILURES = 50

    def __init__(self, report: Reporter, log: Callable[[dict[str, Any]], None] | None, total: int) -> None:
        self.report, self.log, self.total = report, log, total
        self.history: list[dict[str, Any]] = []
        self.seconds = 0.0
        """Of training alone, summed over resumed runs."""
        self.failures, self.psnr = 0, float("nan")
        self._unread: list[tuple[Tensor, float | Tensor, int | None]] = []

    def note(self, loss: Tensor, psnr: float | Tensor, view_id: int | None) -> None:
        """To be read later: on a GPU reading them means waiting for it, and is done rarely."""
        self._unread.append((loss, psnr, view_id))

    @property
    def overdue(self) -> bool:
        return len(self._unread) >= self.LOG_EVERY

    def read(self, step: int) -> None:
        """Losses and PSNRs since the last time. (On a GPU a loss without a value is found late; its gradient counted
        as zero.)"""
        for loss, psnr, view_id in self._unread:
            if not math.isfinite(float(loss)):
                self.skip(view_id, step)
                continue
            self.failures = 0
            if not math.isnan(db := float(psnr)):
                self.psnr = db if math.isnan(self.psnr) else 0.98 * self.psnr + 0.02 * db
        self._unread.clear()

    def skip(self, view_id: int | None, step: int) -> None:
        """A loss had no value. Raises SplatError when that goes on."""
        self.failures += 1
        self.report.warn(f"The loss of step {step} (view {view_id}) has no finite value: the step is skipped.")
        if self.failures >= self.MOST_FAILURES:
            raise SplatError(
                f"The loss has had no finite value for {self.failures} steps (now step {step}): "
                "lower the learning rates, or check the photos and poses."
            )

    def logs(self, step: int, line: dict[str, Any]) -> bool:
        """Whether the line of this step belongs into the log."""
        return step % self.LOG_EVERY == 0 or step == self.total or "density" in line

    def say(self, step: int, phase: str, line: dict[str, Any], count: int, meter: Meter, due: bool) -> None:
        """Show how far training is (where `due`), and log what belongs there. What was noted has been read."""
        line = {k: float(v) if isinstance(v, Tensor) else v for k, v in line.items()}
        if due:
            self.report.progress(
                step, self.total, loss=line.get("loss", math.nan), psnr=self.psnr, gaussians=count, rate=meter.rate
            )
        if self.logs(step, line):
            psnr = {} if math.isnan(self.psnr) else {"psnr": self.psnr}
            head = {"step": step, "phase": phase, **psnr, "gaussians": count}
            self.write({**head, **line, "seconds": round(self.seconds, 3), "steps_per_second": round(meter.rate, 2)})

    def write(self, line: dict[str, Any]) -> None:
        self.history.append(line)
        if self.log is not None:
            self.log(line)

    def evaluate(
        self, step: int, gaussians: Gaussians, evaluate: Callable[[int, Gaussians], dict[str, Any]] | None
    ) -> None:
        """Measure the Gaussians, and log the figures."""
        if evaluate is not None:
            figures, seconds = evaluate(step, drawable(gaussians)), round(self.seconds, 3)
            self.write({"step": step, "evaluation": figures, "gaussians": len(gaussians), "seconds": seconds})

    def state(self) -> dict[str, Any]:
        return {"history": self.history, "seconds": self.seconds, "failures": self.failures, "psnr": self.psnr}

    def load_state(self, state: dict[str, Any]) -> None:
        self.history, self.seconds = state["history"], state["seconds"]
        self.failures, self.psnr = state["failures"], state["psnr"]


class Stopwatch:
    """Seconds of training since it was made, on top of earlier ones, without those spent inside `paused`."""

    def __init__(self, before: float) -> None:
        self._started = time.monotonic() - before

    def seconds(self) -> float:
        return time.monotonic() - self._started

    @contextmanager
    def paused(self) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self._started += time.monotonic() - began


def drawable(gaussians: Gaussians) -> Gaussians:
    """A copy without the rows that no rasterizer draws: fainter than 1/255, or with a value that is not finite."""
    finite = torch.stack([t.isfinite().reshape(len(gaussians), -1).all(1) for t in vars(gaussians).values()]).all(0)
    return gaussians[finite & (gaussians.opacities >= 1 / 255)]
