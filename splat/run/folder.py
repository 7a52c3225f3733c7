"""A run folder: one sub-folder per stage, each with the key that made it, so that the same command resumes.

A stage's key is a hash of its configuration, its inputs and the code version. A finished stage whose key agrees is
loaded; one that disagrees is renamed to `<stage>.old-<n>`, never overwritten; one that was cut off starts again
(training continues from its checkpoint).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import splat
from splat.core.errors import SplatError
from splat.core.files import write_json

T = TypeVar("T")


def plain(value: Any) -> Any:
    """A JSON-able picture of a configuration: dataclasses become dictionaries that carry their class's name."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"class": type(value).__name__, **fields}
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, Path):
        return str(value)
    return value


def hash_of(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(plain(parts), sort_keys=True).encode()).hexdigest()[:16]


def fingerprint(paths: Iterable[Path]) -> str:
    """A hash of files by name, size and their first and last 64 KiB: enough to notice an edited or replaced photo."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        size = path.stat().st_size
        digest.update(f"{path.name}:{size}:".encode())
        with path.open("rb") as f:
            digest.update(f.read(65536))
            if size > 131072:
                f.seek(-65536, os.SEEK_END)
            digest.update(f.read(65536))
    return digest.hexdigest()[:16]


class RunFolder:
    """The folder of one run. Opening it takes a lock that dies with the process."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            probe = self.root / ".lock"
            self._lock = probe.open("a+")
        except OSError as e:
            raise SplatError(f"{self.root} cannot be written ({e.strerror}): choose another --out folder.") from None
        self._take_lock()
        self.seconds: dict[str, float] = {}

    def _take_lock(self) -> None:
        try:
            import fcntl
        except ImportError:  # not POSIX: two writers in one folder are the user's to avoid
            return
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SplatError(f"{self.root} is in use by another run: wait for it or choose another --out.") from None

    def close(self) -> None:
        self._lock.close()

    def stage(
        self,
        name: str,
        key: str,
        config: Any,
        make: Callable[[Path], T],
        load: Callable[[Path], T],
        extent: int | None = None,
    ) -> T:
        """Load stage `name` if it was finished with this key, else make it in its folder and mark it finished.

        `extent` marks a stage that can be continued (training steps): an attempt that was cut off, or that finished
        with a smaller extent, is left in place for `make` to go on from; the seconds spent on it add up.
        """
        folder = self.root / name
        mark = folder / "stage.json"
        found = _read_json(mark)
        same = found.get("key") == key
        if same and found.get("finished") and found.get("extent") == extent:
            self.seconds[name] = found.get("seconds", 0.0)
            return load(folder)
        continues = same and extent is not None and (found.get("extent") or 0) <= extent
        if folder.exists() and any(folder.iterdir()) and not continues:
            _move_aside(folder, "old" if found and not same else "cut-off")
        record = {"key": key, "config": plain(config), "code": splat.__version__, "extent": extent}
        record["seconds"] = spent = found.get("seconds", 0.0) if continues else 0.0
        write_json(mark, record)
        started = time.monotonic()

        def elapsed() -> float:
            return round(spent + time.monotonic() - started, 3)

        try:
            result = make(folder)
        except BaseException:
            if extent is not None:  # what was spent before an interrupt counts; other stages start afresh
                write_json(mark, record | {"seconds": elapsed()})
            raise
        self.seconds[name] = elapsed()
        write_json(mark, record | {"seconds": self.seconds[name], "finished": True})
        return result

    def log(self, record: dict[str, Any]) -> None:
        """Append one line to `log.jsonl`."""
        with (self.root / "log.jsonl").open("a") as f:
            f.write(json.dumps(record) + "\n")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return {}


def _move_aside(folder: Path, word: str) -> None:
    n = 1
    while (aside := folder.with_name(f"{folder.name}.{word}-{n}")).exists():
        n += 1
    folder.rename(aside)
