"""A fixed capacity of (tile, Gaussian) pairs of an image, so that no step of training waits for a GPU to count them."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from splat.core.camera import Camera


class PairCapacity:
    """The capacity that images are drawn with; None: pairs are counted, which waits.

    What an image had no space for is recorded on the GPU and read rarely: the farthest Gaussians are left out
    meanwhile. The first image of a size is asked about at once, since larger ones have more pairs.
    """

    GROWTH = 1.5
    MAX = 2**31 - 2**16
    """Slots are 32-bit numbers."""
    READ_EVERY = 50
    """Images between two times that the GPU is asked."""

    def __init__(self, capacity: int | None, device: torch.device | str = "cpu") -> None:
        self.capacity = capacity
        self.missing: Int[Tensor, "1"] = torch.zeros(1, dtype=torch.int32, device=device)
        """The largest overflow of an image since it was last read."""
        self.unread = 0
        self.sizes: set[tuple[int, int]] = set()

    def record(self, overflow: Int[Tensor, "1"] | None) -> None:
        """Keep, on the device, the `Render.overflow` of an image drawn with `capacity`."""
        if overflow is not None:
            torch.maximum(self.missing, overflow, out=self.missing)

    def check(self, camera: Camera) -> str | None:
        """An image of this camera was drawn and recorded. Returns a line for the log when the capacity has grown."""
        size = camera.width, camera.height
        self.unread += 1
        if size in self.sizes and self.unread < self.READ_EVERY:
            return None
        self.sizes.add(size)
        return self.read()

    def read(self) -> str | None:
        """Wait for what was recorded, and grow to half as much again as was needed. Returns a line for the log."""
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
