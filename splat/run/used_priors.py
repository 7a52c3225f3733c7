"""What weights and programs the stages of a run were made with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from splat.core.files import write_json
from splat.core.foreign import read_json

_FILE = "priors.json"
_STAGES = ("init", "train")


def note_priors(folder: Path, used: list[dict[str, Any]]) -> None:
    """Beside what a stage made: `licences.recorded`."""
    write_json(folder / _FILE, {"used": used})


def used_priors(run: Path) -> list[dict[str, Any]]:
    """Of the stages of a run that are done: name, licence, SHA-256 and seconds of each."""
    found: list[dict[str, Any]] = []
    for path in (run / stage / _FILE for stage in _STAGES):
        used = read_json(path).get("used", []) if path.is_file() else []
        found += used if isinstance(used, list) else []
    return found
