"""Rasterizers: Gaussians + Camera -> Render. The first of `RASTERIZERS` that runs on a device draws there; where
several processes share the Gaussians, `distributed.Distributed` does."""

from __future__ import annotations

import torch

from splat.core.errors import SplatError
from splat.core.slots import Rasterizer
from splat.raster.gsplat import Gsplat
from splat.raster.native import Native
from splat.raster.reference import Reference

RASTERIZERS: tuple[Rasterizer, ...] = (Gsplat(), Native(), Reference())
"""Fastest first where it runs; the reference runs anywhere."""


def reasons(device: torch.device | str) -> dict[str, str | None]:
    """Each rasterizer's name and why it cannot run on `device`; None: it can."""
    return {r.name: r.unavailable(torch.device(device)) for r in RASTERIZERS}


def choose(device: torch.device | str, name: str = "auto") -> Rasterizer:
    """The rasterizer to use on `device`: the named one, or the first that can run there.

    A rasterizer asked for by name is used, or is a `SplatError` that says why it cannot be.
    """
    device = torch.device(device)
    if name == "auto":
        return next(r for r in RASTERIZERS if r.unavailable(device) is None)
    for rasterizer in RASTERIZERS:
        if rasterizer.name == name:
            reason = rasterizer.unavailable(device)
            if reason is not None:
                raise SplatError(f'The rasterizer "{name}" cannot run on {device}: {reason}')
            return rasterizer
    names = ", ".join(["auto", *(r.name for r in RASTERIZERS)])
    raise SplatError(f'There is no rasterizer "{name}": choose one of {names}.')
