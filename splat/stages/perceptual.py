"""Which perceptual metric a run reports: LPIPS where its weights are found, else ST-LPIPS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from splat.core.errors import SplatError
from splat.core.lpips import REPORTED, Backbone, Lpips, find_weights, load_lpips
from splat.core.stlpips import StLpips
from splat.priors import weights

Metric = Lpips | StLpips


def perceptual_metric(folder: Path | None) -> tuple[Metric | None, str]:
    """The metric and a list of its files; or None and one sentence that says what is missing.

    `folder`: searched for weights (default: that of SPLAT_WEIGHTS and what is installed). Raises SplatError for files
    of LPIPS with wrong contents; those of ST-LPIPS, which nobody asked for, are a reason.
    """
    lpips, note = load_lpips(REPORTED, folder)
    if lpips is not None:
        return lpips, note
    path = weights.find(weights.STLPIPS_ALEX.name, folder)
    if path is None:
        return None, note
    try:
        return StLpips(weights.load(weights.STLPIPS_ALEX.name, folder)), str(path)
    except SplatError as e:
        return None, str(e)


def reported_variant(metric: Metric | None) -> str | None:
    """`lpips_variant` of metrics.json."""
    return metric.backbone if isinstance(metric, Lpips) else None if metric is None else metric.variant


@dataclass(frozen=True)
class Networks:
    """Names of the networks that photos are compared with their renders by, once for each figure: `vgg`, `alex` (LPIPS)
    or `stlpips`."""

    test: tuple[str, ...] = ()
    """Held-out photos."""
    train: tuple[str, ...] = ()


def expected_networks(folder: Path | None, figures: Sequence[str]) -> Networks:
    """Those whose files are there, for the metric that every run reports and for more `figures` (`stages.figures`).
    Contents are not looked at."""

    def there(backbone: Backbone) -> bool:
        return None not in find_weights(backbone, folder)

    asked: list[Backbone] = ["alex" if "alex" in f.split("-") else "vgg" for f in figures if f.startswith("lpips")]
    more = [b for b in asked if there(b)]
    if there(REPORTED):
        return Networks((REPORTED, *more), (REPORTED,))
    shift_tolerant = weights.find(weights.STLPIPS_ALEX.name, folder) is not None
    return Networks(("stlpips", *more) if shift_tolerant else tuple(more))
