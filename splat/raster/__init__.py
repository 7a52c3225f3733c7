"""Rasterizers: Gaussians and a camera -> `slots.Render`. The first of `RASTERIZERS` that runs on a device is used
there; several processes that share the Gaussians use `distributed.Distributed`."""

from __future__ import annotations

import torch

from splat.core.errors import SplatError
from splat.core.slots import Rasterizer
from splat.raster.gsplat import Gsplat
from splat.raster.native import Native
from splat.raster.reference import Reference

RASTERIZERS: tuple[Rasterizer, ...] = (Gsplat(), Native(), Reference())
"""Fastest first. The reference runs on every device."""


def reasons(device: torch.device | str) -> dict[str, str | None]:
    """Per rasterizer: its name, and why it cannot run on `device` (None: it can)."""
    return {r.name: r.unavailable(torch.device(device)) for r in RASTERIZERS}


def choose(device: torch.device | str, name: str = "auto") -> Rasterizer:
    """The rasterizer for `device`: the named one, or for "auto" the first that can run there.

    Raises SplatError if there is none of this name, or if it cannot run on the device.
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
