"""What a stage's `stage.json` says: what made the stage, what it wrote, and what it was computed from."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from splat.core.errors import SplatError
from splat.core.foreign import read_json
from splat.run.outputs import Outputs


@dataclasses.dataclass(frozen=True)
class StageRecord:
    """What a stage's `stage.json` says."""

    key: str
    """Settings and inputs."""
    code: str
    """The code that began the stage."""
    version: str
    """Of the package; empty in folders of version 0.1.0, whose `code` is that version."""
    extent: int | None
    seconds: float
    complete: bool
    outputs: Outputs | None = None
    """The files of the result. Of a stage that is being continued: those of the result that is there meanwhile. None:
    the version that made the stage did not note them."""
    inputs: dict[str, str] = dataclasses.field(default_factory=dict)
    """Stages made before this one -> `digest` of what they had written then."""
    processor_seconds: float | None = None
    """Of the process, all its threads together, while it made the stage; None: not noted, or not for all of it."""

    @staticmethod
    def read(path: Path) -> StageRecord | None:
        """None where there is no record, or none that can be understood."""
        try:
            found = read_json(path)
            record = StageRecord(
                key=found["key"],
                code=found.get("code", ""),
                version=found.get("version", ""),
                extent=found.get("extent"),
                seconds=found.get("seconds", 0.0),
                complete=found.get("complete", found.get("finished", False)) is True,
                outputs=None if found.get("outputs") is None else _outputs(found["outputs"]),
                inputs={str(k): str(v) for k, v in found.get("inputs", {}).items()},
                processor_seconds=found.get("processor_seconds"),
            )
        except (SplatError, OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError):
            return None
        texts = isinstance(record.key, str) and isinstance(record.code, str) and isinstance(record.version, str)
        numbers = isinstance(record.extent, int | None) and isinstance(record.seconds, int | float)
        numbers = numbers and isinstance(record.processor_seconds, int | float | None)
        return record if texts and numbers else None

    @property
    def older_layout(self) -> bool:
        """Made by version 0.1.0, which hashed no code."""
        return not self.version

    @property
    def digest(self) -> str:
        """A hash of what the stage wrote; empty where that was not noted."""
        return "" if self.outputs is None else digest_of(self.outputs)


def digest_of(outputs: Outputs) -> str:
    return hashlib.sha256(json.dumps(sorted(outputs.items())).encode()).hexdigest()[:16]


def _outputs(found: Any) -> Outputs:
    return {str(name): (int(size), str(hash_)) for name, (size, hash_) in found.items()}
