"""What a run of `splat reconstruct` will take, before it is started: read from the photos' sizes alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from splat import ingest
from splat.bench.cells import Cell
from splat.bench.prediction import Prediction
from splat.commands.reconstruct import Reconstruct
from splat.core.capture import Capture
from splat.core.errors import SplatError
from splat.core.machine import available_cores
from splat.core.slots import ReadOptions
from splat.stages import forecast
from splat.stages.calibration import calibrated
from splat.stages.timing import REFERENCE_SPEED, Speed

_SIZES = (
    *("preset", "iterations", "max_resolution", "downscale", "cap", "test_every", "train_photos", "heldout", "images"),
    *("ignore_poses", "max_frames", "renders", "memory", "threads"),
)
"""Settings that decide what a run takes; it is predicted as if all others had their defaults."""


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
        capture = self._capture(settings.photos, settings.read_options)
        if settings.heldout == "strict":
            capture = capture.training()
        train = len(capture.train_views)
        settled, _ = settings.resolved(min(train, settings.train_photos or train))
        expected = forecast.expect(
            capture,
            settled.limits,
            settled.chosen,
            budget=settled.limits.memory_gb() if self.here else settled.memory,
            threads=settled.threads or self.cores,
            matching_size=settled.priors.matching_size,
            feature_side=settled.feature_side(capture.posed),
            renders=settled.renders,
            speed=self.speed,
        )
        megabytes = {stage: b / 2**20 for stage, b in expected.memory.stages.items()}
        posing = max(megabytes.pop("ingest"), megabytes.pop("poses"))
        return Prediction(expected.seconds, posing, max(megabytes.values()))

    def _capture(self, photos: Path, options: ReadOptions) -> Capture:
        if (photos, options) not in self._captures:
            self._captures[photos, options] = ingest.expected(photos, options)
        return self._captures[photos, options]


def settings_of(cell: Cell, source: Path) -> Reconstruct:
    """The settings of a cell as far as they decide what it takes. Raises SplatError for values that are none."""
    given = {k.replace("-", "_"): v for k, v in cell.overrides.items()}
    kinds: Mapping[str, Any] = {f.name: f.type for f in fields(Reconstruct)}
    values = {name: _value(name, given[name], str(kinds[name])) for name in _SIZES if name in given}
    return replace(Reconstruct(source), method=cell.method, **values)


def _value(name: str, value: Any, kind: str) -> Any:
    if not isinstance(value, str) or kind.startswith(("str", "Literal")):
        return value
    try:
        return int(value) if kind.startswith("int") else float(value)
    except ValueError:
        raise SplatError(f"--{name.replace('_', '-')} {value!r} is not a number: give one.") from None
