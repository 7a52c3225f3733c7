"""Checks that losses are finite and computes a running PSNR. On a GPU, values are read only now and then."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from splat.core.errors import SplatError
from splat.core.slots import Reporter
from splat.train.step import StepResult


class LossMonitor:
    """The losses of a run. It is not an observer, as training stops when losses are not finite."""

    READ_EVERY = 50
    """Steps between two reads on a GPU, where reading blocks."""
    MAX_FAILURES = 50

    def __init__(self, report: Reporter) -> None:
        self.report = report
        self.failures = 0
        """Number of consecutive steps with a loss that is not finite."""
        self.psnr = math.nan
        """Running mean PSNR, dB."""
        self._unread: list[tuple[Tensor, float | Tensor, int | None]] = []

    def add(self, result: StepResult, step: int) -> None:
        """Store the losses of a step, to be read later. Skipped items are counted at once."""
        for view_id in result.skipped:
            self._skip(view_id, step)
        self._unread += result.losses

    @property
    def overdue(self) -> bool:
        return len(self._unread) >= self.READ_EVERY

    def read(self, step: int) -> None:
        """Read the losses and PSNRs since the last call. (On a GPU, losses that are not finite are thus found late;
        their gradients counted as zero.) Raises SplatError when losses stay not finite."""
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
