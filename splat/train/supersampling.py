"""Renders at several times the size of the photo, averaged before the loss (the multisampling of CoherentGS).

Gaussians of 0.6 px leave gaps that the 0.3 px^2 added to every footprint hides at the size of the photos, and that open
when a camera comes nearer; rendered at 2 to 4 times the size they are seen, and close.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from splat.core.slots import Item, TargetSource


@dataclass(frozen=True)
class Supersampling:
    """When, and by how much, renders are larger than their photos."""

    max_factor: int = 1
    """Each step draws the factor evenly from 1 to this; 1: off. (4 as published)"""
    start: float = 5_000 / 13_000
    """Fraction of the phase's steps before which it is 1."""

    def of(self, source: TargetSource, seed: int = 0) -> TargetSource:
        """The source with factors drawn for its items; as it is where this is off."""
        return source if self.max_factor <= 1 else SupersampledSource(source, self, seed)


class SupersampledSource:
    """A `slots.TargetSource`: the items of another one, those of a step at the same factor, or at a larger one of their
    own."""

    def __init__(self, source: TargetSource, settings: Supersampling, seed: int = 0) -> None:
        self.source, self.settings = source, settings
        self.generator = torch.Generator().manual_seed(seed + 2)

    def items(self, step: int, steps: int) -> Iterator[Item]:
        factor = 1
        if step >= self.settings.start * steps:
            factor = int(torch.randint(1, self.settings.max_factor + 1, (1,), generator=self.generator))
        for item in self.source.items(step, steps):
            yield item if factor <= item.supersample else replace(item, supersample=factor)

    def state(self) -> dict[str, Any]:
        return {"source": self.source.state(), "generator": self.generator.get_state()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.source.load_state(state["source"])
        self.generator.set_state(state["generator"])
