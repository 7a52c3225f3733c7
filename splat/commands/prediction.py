"""What a run of `splat reconstruct` will take, before it is started: read from the photos' sizes alone."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from splat import ingest
from splat.bench.cells import Cell
from splat.bench.prediction import Prediction
from splat.commands.reconstruct import Reconstruct
from splat.core.capture import Capture, View
from splat.core.errors import SplatError
from splat.core.machine import available_cores
from splat.core.settings import replace_at, setting_at
from splat.core.slots import ReadOptions
from splat.stages.calibration import calibrated
from splat.stages.forecast import Limits, sizes_of
from splat.stages.memory import BYTES_BASE, expected_memory
from splat.stages.timing import REFERENCE_SPEED, Speed, stage_seconds
from splat.stages.work import Sizes

_SIZES = (
    *("preset", "iterations", "max_resolution", "downscale", "cap", "test_every", "train_photos", "heldout", "images"),
    *("ignore_poses", "max_frames", "renders", "memory", "threads", "figures", "lpips"),
    *("train_ids", "test_ids", "ground", "sh_degree"),
)
_PARTS = ("losses", "train", "search")
"""Settings, and groups of them, that decide what a run takes; it is predicted as if all others had their defaults."""


def known_speed() -> Speed:
    """Of this machine where it has been measured, else of the one the defaults are from."""
    found = calibrated()
    return REFERENCE_SPEED if found is None else found.speed


@dataclass
class Predictor:
    """Predicts cells; the photos of each scene are looked at once."""

    cores: int = field(default_factory=available_cores)
    """Of a cell."""
    here: bool = True
    """Whether cells run on this machine, whose memory then bounds them."""
    speed: Speed = field(default_factory=known_speed)
    _captures: dict[tuple[Path, ReadOptions], Capture] = field(default_factory=dict)

    def __call__(self, cell: Cell, source: Path) -> Prediction | None:
        """None where it is not known what the cell will take: photos that cannot be read, other programs."""
        try:
            return self.predict(settings_of(cell, source))
        except SplatError:
            return None

    def predict(self, settings: Reconstruct) -> Prediction:
        """What a run with these settings takes. Raises SplatError where its photos cannot be read."""
        sizes = self.sizes(settings)
        threads = settings.threads or self.cores
        memory = expected_memory(sizes, threads, self._spare(settings))
        megabytes = {stage: b / 2**20 for stage, b in memory.stages.items()}
        posing = max(megabytes.pop("ingest"), megabytes.pop("poses"))
        return Prediction(stage_seconds(sizes, threads, self.speed), posing, max(megabytes.values()))

    def sizes(self, settings: Reconstruct) -> Sizes:
        """What decides how much a run with these settings has to do. Raises SplatError as `predict`."""
        capture, held_out = self._capture(settings.photos, settings.read_options), tuple[View, ...]()
        if settings.heldout == "strict":
            capture, held_out = capture.training(), capture.test_views
        train = len(capture.train_views)
        settled, _ = settings.resolved(min(train, settings.train_photos or train))
        sizes, _ = sizes_of(
            capture,
            settled.limits,
            settled.chosen,
            settled.choices(capture.posed),
            budget=self._budget(settled),
            threads=settled.threads or self.cores,
            held_out=held_out,
        )
        return sizes

    def _budget(self, settings: Reconstruct) -> float | None:
        """GB that a run may fill; None: any number."""
        return Limits("", 0, 0, memory=settings.memory).memory_gb() if self.here else settings.memory

    def _spare(self, settings: Reconstruct) -> float | None:
        budget = self._budget(settings)
        return None if budget is None else 1e9 * budget - BYTES_BASE

    def _capture(self, photos: Path, options: ReadOptions) -> Capture:
        if (photos, options) not in self._captures:
            self._captures[photos, options] = ingest.expected(photos, options)
        return self._captures[photos, options]


def settings_of(cell: Cell, source: Path) -> Reconstruct:
    """The settings of a cell as far as they decide what it takes. Raises SplatError for values that are none."""
    given = {k.replace("-", "_"): v for k, v in cell.overrides.items()}
    kinds: Mapping[str, Any] = {f.name: f.type for f in fields(Reconstruct)}
    values = {name: _value(name, given[name], str(kinds[name])) for name in _SIZES if name in given}
    found = replace(Reconstruct(source), method=cell.method, **values)
    for name, value in given.items():
        if name.partition(".")[0] in _PARTS and "." in name:
            with suppress(AttributeError):
                kind = type(setting_at(found, name)).__name__
                found = replace_at(found, name, _value(name, value, kind))
    return replace(found, explicit=tuple(sorted(n for n in given if n in _SIZES or n.partition(".")[0] in _PARTS)))


def _value(name: str, value: Any, kind: str) -> Any:
    if isinstance(value, list):
        return tuple(value)
    if not isinstance(value, str) or kind.startswith(("str", "Literal", "Path", "tuple")):
        return value
    try:
        return int(value) if kind.startswith("int") else float(value)
    except ValueError:
        raise SplatError(f"--{name.replace('_', '-')} {value!r} is not a number: give one.") from None
