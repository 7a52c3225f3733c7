"""The losses of a run: whether they are finite, and a running PSNR. On a GPU they are read rarely."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from splat.core.errors import SplatError
from splat.core.slots import Reporter
from splat.train.step import StepResult


class LossMonitor:
    """What a run found out about its losses. That they are finite is part of training, not of watching it."""

    READ_EVERY = 50
    """Steps after which losses are read, where reading them waits for a GPU."""
    MAX_FAILURES = 50

    def __init__(self, report: Reporter) -> None:
        self.report = report
        self.failures = 0
        """Steps in a row whose loss had no finite value."""
        self.psnr = math.nan
        """Running mean, dB."""
        self._unread: list[tuple[Tensor, float | Tensor, int | None]] = []

    def add(self, result: StepResult, step: int) -> None:
        """Keep a step's losses to be read later; skipped items count at once."""
        for view_id in result.skipped:
            self._skip(view_id, step)
        self._unread += result.losses

    @property
    def overdue(self) -> bool:
        return len(self._unread) >= self.READ_EVERY

    def read(self, step: int) -> None:
        """Losses and PSNRs since the last time. (On a GPU a loss without a value is found late; its gradient counted
        as zero.) Raises SplatError when losses stay without a value."""
        for loss, psnr, view_id in self._unread:
            if not math.isfinite(float(loss)):
                self._skip(view_id, step)
                continue
            self.failures = 0
            if not math.isnan(db := float(psnr)):
                self.psnr = db if math.isnan(self.psnr) else 0.98 * self.psnr + 0.02 * db
        self._unread.clear()

    def _skip(self, view_id: int | None, step: int) -> None:
        self.failures += 1
        self.report.warn(f"The loss of step {step} (view {view_id}) has no finite value: the step is skipped.")
        if self.failures >= self.MAX_FAILURES:
            raise SplatError(
                f"The loss has had no finite value for {self.failures} steps (now step {step}): "
                "lower the learning rates, or check the photos and poses."
            )

    def state(self) -> dict[str, Any]:
        return {"failures": self.failures, "psnr": self.psnr}

    def load_state(self, state: dict[str, Any]) -> None:
        self.failures, self.psnr = state["failures"], state["psnr"]
