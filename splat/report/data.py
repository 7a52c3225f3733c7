"""What the report shows: plain values that the pipeline fills in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from splat.core.capture import Capture

Picture = np.ndarray | Path
"""uint8 [h w 3] RGB, or an image file that is read when the report is written."""
Number = float | int
Curve = tuple[tuple[int, Number], ...]
"""(step, value) pairs, steps ascending."""


@dataclass(frozen=True, eq=False)
class ViewScore:
    """One photo beside its render."""

    name: str
    role: Literal["train", "test"]
    psnr: float
    """dB."""
    ssim: float | None = None
    cc_psnr: float | None = None
    """dB after the best affine colour map."""
    lpips: float | None = None
    photo: Picture | None = None
    render: Picture | None = None
    lpips_title: str = "LPIPS"
    """Which metric `lpips` is of."""
    holes_percent: float = 0.0
    """Pixels at which nothing was drawn."""

    @property
    def fit(self) -> float:
        """How well shapes and detail are explained, dB: with colours corrected where that is known, so that a photo
        that was only exposed differently does not count as badly seen."""
        return self.psnr if self.cc_psnr is None else self.cc_psnr


@dataclass(frozen=True, eq=False)
class Floaters:
    """What floats in space that photos see past, as shares of what is drawn, and where most of it is."""

    share: float
    """Over all held-out photos and places between the photos."""
    place: str = ""
    """The worst: a held-out photo, or a place between photos."""
    place_share: float = 0.0
    render: Picture | None = None
    marked: Picture | None = None
    """The same in grey, floaters red."""
    cleaned: str = ""
    """What was removed, in one sentence."""


@dataclass(frozen=True, eq=False)
class ReportData:
    """Everything `report.html` shows. What is not known stays at its default and is left out of the page."""

    title: str
    registered: tuple[int, int]
    """Photos with a pose, and photos offered."""
    unregistered: Mapping[str, str] = field(default_factory=dict)
    """Photos that got no pose or could not be read, each with the reason."""
    warnings: tuple[str, ...] = ()
    views: tuple[ViewScore, ...] = ()
    """Held-out views, and training views where they were measured; any order."""
    psnr: float | None = None
    """Mean over held-out views, as in metrics.json; likewise the next three."""
    ssim: float | None = None
    lpips: float | None = None
    cc_psnr: float | None = None
    lpips_title: str = "LPIPS"
    """Which metric `lpips` is of."""
    heldout: str = "posed"
    """How held-out photos got their poses: "posed" or "strict"."""
    method: str = ""
    num_gaussians: int = 0
    seconds: Mapping[str, Number] = field(default_factory=dict)
    """Per stage; an entry "total" is shown as the sum."""
    peak_memory_mb: Number | None = None
    resolution: tuple[int, int] | None = None
    """Width and height that were trained on, in px."""
    photo_size: tuple[int, int] | None = None
    """Width and height of the photos' files (the most common one)."""
    floaters: Floaters | None = None
    loss: Curve = ()
    train_psnr: Curve = ()
    heldout_psnr: Curve = ()
    gaussian_counts: Curve = ()
    exposure_ev: Mapping[str, Number] = field(default_factory=dict)
    """Per training photo, how much brighter than the scene's mean it was found to be, in stops."""
    sharpness: Mapping[str, Number] = field(default_factory=dict)
    """Per photo, any figure that grows with sharpness; measured on the pictures of `views` where empty."""
    capture: Capture | None = None
    """The posed capture: the map of cameras and the advice on coverage come from it."""
    stills: tuple[tuple[str, Picture], ...] = ()
    """Pictures for the top of the page, with their captions."""
    files: tuple[tuple[str, str], ...] = ()
    """(what it is, path relative to the report) of each deliverable."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """How it was made: command, preset, iterations, seed, device, ..."""

    def scores(self, role: Literal["train", "test"]) -> list[ViewScore]:
        """Worst first."""
        return sorted((v for v in self.views if v.role == role), key=lambda v: v.psnr)
