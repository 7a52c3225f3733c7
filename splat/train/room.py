"""Room for the (tile, Gaussian) pairs of an image, so that no step of training waits for a GPU to count them."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from splat.core.camera import Camera
from splat.core.slots import Render


class Room:
    """The capacity that images are drawn with; None: pairs are counted, which waits.

    What an image had no room for is noted on the GPU and read rarely: the farthest Gaussians are left out meanwhile.
    The first image of a size is asked about at once, since larger ones have more pairs.
    """

    GROWTH = 1.5
    MOST = 2**31 - 2**16
    """Slots are 32-bit numbers."""

    def __init__(self, capacity: int | None, device: torch.device | str = "cpu") -> None:
        self.capacity = capacity
        self.missing: Int[Tensor, "1"] = torch.zeros(1, dtype=torch.int32, device=device)
        """The most that an image had no room for since it was last read."""
        self.unread = False
        self.sizes: set[tuple[int, int]] = set()

    def note(self, render: Render) -> None:
        """Remember, on the device, what an image drawn with `capacity` had no room for."""
        if render.overflow is not None:
            torch.maximum(self.missing, render.overflow, out=self.missing)

    def noted(self, camera: Camera) -> str | None:
        """An image of this camera was drawn and noted. Returns a line when the capacity has grown."""
        size, self.unread = (camera.width, camera.height), True
        if size in self.sizes:
            return None
        self.sizes.add(size)
        return self.read()

    def read(self) -> str | None:
        """Wait for what was noted, and make room for half as much again as was needed. Returns a line for the log."""
        if not self.unread or self.capacity is None:
            return None
        missing, self.unread = int(self.missing), False
        self.missing.zero_()
        if missing <= 0:
            return None
        before, needed = self.capacity, self.capacity + missing
        self.capacity = min(self.MOST, round(self.GROWTH * needed))
        return (
            f"room for {self.capacity} (tile, Gaussian) pairs: {needed} were needed, and the farthest Gaussians "
            f"beyond {before} were left out"
        )
