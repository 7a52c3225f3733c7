"""Gaussians and first Gaussians on disk inside a run folder (the exchange formats are in `export/`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from splat.core.files import atomic_path
from splat.core.foreign import regular_file
from splat.core.gaussians import Gaussians
from splat.core.slots import Init

_FIELDS = ("means", "quats_wxyz", "log_scales", "logit_opacities", "sh")


def save_init(path: Path, init: Init) -> None:
    arrays: dict[str, Any] = {k: getattr(init.gaussians, k).detach().cpu().numpy() for k in _FIELDS}
    if init.view_ids is not None and init.pixels is not None:
        arrays |= {"view_ids": init.view_ids.numpy(), "pixels": init.pixels.numpy()}
    with atomic_path(path) as part, part.open("wb") as f:
        np.savez(f, **arrays)


def load_init(path: Path) -> Init:
    regular_file(path)
    with np.load(path) as z:
        arrays = {k: torch.from_numpy(z[k]) for k in z.files}
    gaussians = Gaussians(**{k: arrays[k] for k in _FIELDS})
    return Init(gaussians, arrays.get("view_ids"), arrays.get("pixels"))


def save_gaussians(path: Path, gaussians: Gaussians) -> None:
    save_init(path, Init(gaussians))


def load_gaussians(path: Path) -> Gaussians:
    return load_init(path).gaussians
