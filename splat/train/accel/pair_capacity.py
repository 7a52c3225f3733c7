"""A fixed capacity of (tile, Gaussian) pairs of an image, so that no step of training blocks to count them."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from splat.core.camera import Camera


class PairCapacity:
    """The capacity for renders; None: count the pairs, which blocks.

    Overflows are recorded on the GPU and read rarely; meanwhile the farthest Gaussians are left out. After the first
    image of a size it is read at once, since larger images have more pairs.
    """

    GROWTH = 1.5
    MAX = 2**31 - 2**16
    """Indices of pairs are 32-bit."""
    READ_EVERY = 50
    """Images between two reads."""

    def __init__(self, capacity: int | None, device: torch.device | str = "cpu") -> None:
        self.capacity = capacity
        self.missing: Int[Tensor, "1"] = torch.zeros(1, dtype=torch.int32, device=device)
        """Largest overflow since the last read."""
        self.unread = 0
        self.sizes: set[tuple[int, int]] = set()

    def record(self, overflow: Int[Tensor, "1"] | None) -> None:
        """Record, on the device, the `Render.overflow` of an image rendered with `capacity`."""
        if overflow is not None:
            torch.maximum(self.missing, overflow, out=self.missing)

    def check(self, camera: Camera) -> str | None:
        """Called after an image of this camera was rendered and recorded. Returns a line for the log if the capacity
        has grown."""
        size = camera.width, camera.height
        self.unread += 1
        if size in self.sizes and self.unread < self.READ_EVERY:
            return None
        self.sizes.add(size)
        return self.read()

    def read(self) -> str | None:
        """Read the overflow (blocks), and grow to 1.5 times the need. Returns a line for the log."""
        if not self.unread or self.capacity is None:
            return None
        missing, self.unread = int(self.missing), 0
        self.missing.zero_()
        if missing <= 0:
            return None
        before, needed = self.capacity, self.capacity + missing
        self.capacity = min(self.MAX, round(self.GROWTH * needed))
        return (
            f"capacity grows to {self.capacity} (tile, Gaussian) pairs: {needed} were needed, and the farthest "
            f"Gaussians beyond {before} were left out"
        )
