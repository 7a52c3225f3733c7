"""Room for the (tile, Gaussian) pairs of an image, so that no step of training waits for a GPU to count them."""

from __future__ import annotations

import torch
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

    def __init__(self, capacity: int | None) -> None:
        self.capacity = capacity
        self.unread: list[Tensor] = []
        self.sizes: set[tuple[int, int]] = set()

    def note(self, render: Render, camera: Camera) -> str | None:
        """Remember what an image drawn with `capacity` had no room for. Returns a line when the capacity has grown."""
        if render.overflow is None:
            return None
        self.unread.append(render.overflow)
        size = camera.width, camera.height
        if size in self.sizes:
            return None
        self.sizes.add(size)
        return self.read()

    def read(self) -> str | None:
        """Wait for what was noted, and make room for half as much again as was needed. Returns a line for the log."""
        if not self.unread or self.capacity is None:
            return None
        missing = int(torch.cat(self.unread).max())
        self.unread.clear()
        if missing <= 0:
            return None
        before, needed = self.capacity, self.capacity + missing
        self.capacity = min(self.MOST, round(self.GROWTH * needed))
        return (
            f"room for {self.capacity} (tile, Gaussian) pairs: {needed} were needed, and the farthest Gaussians "
            f"beyond {before} were left out"
        )
