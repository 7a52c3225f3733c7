"""Helpers for `slots.Snapshot`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from splat.core.gaussians import Gaussians


class Figures(Mapping[str, float | str]):
    """Values of a step. Numbers are read on access, which blocks on a GPU."""

    def __init__(self, line: dict[str, Any], read: Callable[[], float]) -> None:
        """`line`: texts, numbers and tensors. `read`: reads all losses; returns the running PSNR (dB; NaN: none)."""
        self._line, self._read = line, read
        self._values: dict[str, float | str] | None = None

    def _all(self) -> dict[str, float | str]:
        if self._values is None:
            psnr = self._read()
            self._values = {} if math.isnan(psnr) else {"psnr": psnr}
            self._values |= {k: v if isinstance(v, str) else float(v) for k, v in self._line.items()}
        return self._values

    def __getitem__(self, name: str) -> float | str:
        text = self._line.get(name)
        return text if isinstance(text, str) else self._all()[name]

    def __contains__(self, name: object) -> bool:
        return name in self._line or (name == "psnr" and name in self._all())

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())


def drawable(gaussians: Gaussians) -> Gaussians:
    """A copy without rows that are never drawn: opacity below 1/255, or a value that is not finite."""
    finite = torch.stack([t.isfinite().reshape(len(gaussians), -1).all(1) for t in vars(gaussians).values()]).all(0)
    return gaussians[finite & (gaussians.opacities >= 1 / 255)]
