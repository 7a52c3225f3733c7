"""A run folder: one sub-folder per stage, each with what made it, so that the same command resumes.

A stage's key is a hash of its settings and inputs. A stage that is complete, and whose key agrees, is loaded; one that
disagrees is renamed to `<stage>.old-<n>`, never overwritten; one that was cut off starts again (training continues from
its checkpoint).

Beside the key stands the code that made the stage, as `run.code.code_hash` describes it. A stage of other code is made
again like one of other settings, saying so, unless the folder was opened with `keep_stages`: then it is used, with a
warning. Key and code together are the stage's identity, `RunFolder.identity(name)`. It belongs into the key of every
stage that reads the result (and of training's checkpoint): a stage that newer code made again has another identity, so
that what was computed from it is made again too, while one that was kept has the identity it always had, so that what
was computed from it stays valid, with or without `keep_stages`.

    code = code_hash("splat.stages.init")
    key = hash_of("init", run.identity("poses"), settings)
    init = run.stage("init", key, settings, make, load, code=code)
    ...run.identity("init")   # known from the call of `make` on

Folders of version 0.1.0 say neither what code made them nor, by today's recipe, what settings. Their stages count as
made by other code: they are made again, or with `keep_stages` used as they are.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, TypeVar

import splat
from splat.core.errors import SplatError
from splat.core.files import write_json
from splat.core.slots import Reporter, Silent

T = TypeVar("T")

OLDER_NAMES = {"ingest": "capture"}
"""Stage -> what its folder was called in version 0.1.0."""


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


def fingerprint(files: Iterable[tuple[str, Path]]) -> str:
    """A hash of (name, file) pairs by name, size and the files' first and last 64 KiB: enough to notice an edited or
    replaced photo. A file that may not be read counts by its name."""
    digest = hashlib.sha256()
    for name, path in sorted(files, key=lambda f: os.fsencode(f[0])):
        digest.update(os.fsencode(name) + b":" + file_fingerprint(path).encode() + b"\n")
    return digest.hexdigest()[:16]


def file_fingerprint(path: Path) -> str:
    """A hash of one file's size, first and last 64 KiB; "unreadable" where it may not be read."""
    digest = hashlib.sha256()
    try:
        size = path.stat().st_size
        digest.update(f"{size}:".encode())
        with path.open("rb") as f:
            digest.update(f.read(65536))
            if size > 131072:
                f.seek(-65536, os.SEEK_END)
            digest.update(f.read(65536))
    except OSError:
        return "unreadable"
    return digest.hexdigest()[:16]


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

    @staticmethod
    def read(path: Path) -> StageRecord | None:
        """None where there is no record, or none that can be understood."""
        try:
            found = json.loads(path.read_text())
            record = StageRecord(
                key=found["key"],
                code=found.get("code", ""),
                version=found.get("version", ""),
                extent=found.get("extent"),
                seconds=found.get("seconds", 0.0),
                complete=found.get("complete", found.get("finished", False)) is True,
            )
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return None
        texts = isinstance(record.key, str) and isinstance(record.code, str) and isinstance(record.version, str)
        numbers = isinstance(record.extent, int | None) and isinstance(record.seconds, int | float)
        return record if texts and numbers else None

    @property
    def older_layout(self) -> bool:
        """Made by version 0.1.0, which hashed no code."""
        return not self.version


class RunFolder:
    """The folder of one run. Opening it takes a lock that dies with the process.

    `keep_stages`: use stages that other code made. Set `report` once there is a console: it hears which stages are made
    again because of their code.
    """

    def __init__(self, root: Path, keep_stages: bool = False) -> None:
        self.root = Path(root)
        self.keep_stages = keep_stages
        self.report: Reporter = Silent()
        self.seconds: dict[str, float] = {}
        self._identities: dict[str, str] = {}
        self._named_older = False
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            probe = self.root / ".lock"
            self._lock = probe.open("a+")
        except OSError as e:
            raise SplatError(f"{self.root} cannot be written ({e.strerror}): choose another --out folder.") from None
        self._take_lock()

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
        code: str = "",
    ) -> T:
        """Load stage `name` if it is complete and key and code agree, else make it in its folder and mark it complete.

        `key`: settings and inputs, of which the identities of other stages are part. `code`: see `run.code.code_hash`.
        `extent` marks a stage that can be continued (training steps): an attempt that was cut off, or that is complete
        with a smaller extent, is left in place for `make` to go on from; the seconds spent on it add up. Continued with
        `keep_stages`, it stays a stage of the code that began it.
        """
        folder = self._folder_of(name)
        record = StageRecord.read(folder / "stage.json")
        state = _compared(record, key, extent)
        if record is None or state in ("other", "cut off"):
            used = False
        elif state == "older":
            used = self._takes_older(name, record, extent)
        else:
            used = record.code == code or self._takes_other_code(name, state)
        if record is not None and used and state != "begun":
            self.seconds[name] = float(record.seconds)
            self._identities[name] = hash_of(record.key, record.code)
            return load(folder)
        spent = 0.0
        if record is not None and used:
            code, spent = record.code, float(record.seconds)
        else:
            _move_aside(folder, "cut-off" if state == "cut off" else "old")
        self._identities[name] = hash_of(key, code)
        return self._make(name, make, {"key": key, "code": code, "config": plain(config), "extent": extent}, spent)

    def _make(self, name: str, make: Callable[[Path], T], marks: dict[str, Any], spent: float) -> T:
        """Make the stage, its `stage.json` true at every moment. `spent`: seconds of the attempt it continues."""
        folder = self.root / name
        marks = {**marks, "version": splat.__version__, "seconds": spent}
        write_json(folder / "stage.json", marks)
        started = time.monotonic()

        def elapsed() -> float:
            return round(spent + time.monotonic() - started, 3)

        try:
            result = make(folder)
        except BaseException:
            if marks["extent"] is not None:  # what was spent before an interrupt counts; other stages start afresh
                write_json(folder / "stage.json", marks | {"seconds": elapsed()})
            raise
        self.seconds[name] = elapsed()
        write_json(folder / "stage.json", marks | {"seconds": self.seconds[name], "complete": True})
        return result

    def identity(self, name: str) -> str:
        """The hash of key and code of a stage as it was loaded, or is being made. KeyError: it is neither yet."""
        return self._identities[name]

    def _folder_of(self, name: str) -> Path:
        """Where the stage is, or will be made."""
        folder, older = self.root / name, self.root / OLDER_NAMES.get(name, name)
        return older if older.exists() and not folder.exists() else folder

    def _takes_older(self, name: str, record: StageRecord, extent: int | None) -> bool:
        """Whether a stage of version 0.1.0 is used."""
        version = record.code or "unknown"
        if not self.keep_stages:
            if not self._named_older:
                self.report.info(
                    f"{self.root} is of an older version ({version}): its stages are made again, the old ones are "
                    "renamed to NAME.old-N; --keep-stages keeps what is complete"
                )
            self._named_older = True
            return False
        if not record.complete or record.extent != extent:
            done = "has other steps than are asked for" if record.complete else "was cut off"
            self.report.info(f"{name} is of an older version ({version}), {done}, and is made again")
            return False
        self.report.warn(
            f"{name} is of an older version ({version}) and is used as it is: whether it has the settings of this run "
            "cannot be known"
        )
        return True

    def _takes_other_code(self, name: str, state: State) -> bool:
        """Whether a stage with the key of this run, but of other code, is used or continued."""
        if self.keep_stages:
            use = "was made by other code and is used" if state == "complete" else "goes on from where other code ended"
            self.report.warn(f"{name} {use}, as --keep-stages asks")
        elif state == "complete":
            self.report.info(f"{name} was made by other code and is made again; --keep-stages keeps it")
        else:
            self.report.info(f"{name} was begun by other code and starts again; --keep-stages goes on with it")
        return self.keep_stages

    def log(self, record: dict[str, Any]) -> None:
        """Append one line to `log.jsonl`."""
        with (self.root / "log.jsonl").open("a") as f:
            f.write(json.dumps(record) + "\n")


State = Literal["complete", "begun", "cut off", "other", "older"]


def _compared(record: StageRecord | None, key: str, extent: int | None) -> State:
    """What a stage folder is, to a run that wants this key and extent; `begun`: can be continued."""
    if record is None:
        return "cut off"
    if record.older_layout:
        return "older"
    if record.key != key:
        return "other"
    if record.complete and record.extent == extent:
        return "complete"
    return "begun" if extent is not None and (record.extent or 0) <= extent else "cut off"


def _move_aside(folder: Path, word: str) -> None:
    """Rename what is there, if anything is, to a name that is free."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    n = 1
    while (aside := folder.with_name(f"{folder.name}.{word}-{n}")).exists():
        n += 1
    folder.rename(aside)
