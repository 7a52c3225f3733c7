"""Which device a setting names, whether it is asynchronous, and copies to its memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def named(name: str = "auto") -> torch.device:
    """The device that a setting names; auto: the GPU where there is one, else the CPU."""
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)


def is_asynchronous(device: torch.device) -> bool:
    """Whether work on `device` is queued (a GPU): reading a value from it blocks until all queued work is done."""
    return device.type != "cpu"


def to_device(numbers: Sequence[float], device: torch.device | str, into: Tensor | None = None) -> Tensor:
    """Copy numbers to a device as float32, without blocking. `into`: copy into this tensor there."""
    host = torch.tensor(numbers, dtype=torch.float32)
    if torch.device(device).type == "cuda":
        host = host.pin_memory()  # torch keeps this memory until the copy is done
    return host.to(device, non_blocking=True) if into is None else into.copy_(host, non_blocking=True)
