"""A run folder: one sub-folder per stage, each with what made it, so that the same command resumes.

A stage's key is a hash of its settings and inputs. A stage that is complete, and whose key agrees, is loaded; one that
disagrees is renamed to `<stage>.old-<n>`, never overwritten; one that was cut off starts again (training continues from
its checkpoint), and what it left, `<stage>.cut-off-<n>`, is removed when it has been made.

What a stage wrote is noted by size and hash (`run.outputs`). A stage whose files are missing, cut or changed is
damaged: it is made again, saying so. If it comes out with other files than before, so are the stages that were computed
from it.

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
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

import splat
from splat.core.errors import Interrupted, SplatError
from splat.core.files import RUN_FOLDERS, write_errors, write_json
from splat.core.foreign import read_json, shown
from splat.core.slots import Reporter, Silent
from splat.run.outputs import Damage, damage_to, listing, remove_partial_files, written_since
from splat.run.record import StageRecord, digest_of

T = TypeVar("T")

FILES = ("config.json", "metrics.json", "memory.json", "report.html")
"""Files beside the stages."""
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


class RunFolder:
    """The folder of one run. Opening it takes a lock that dies with the process.

    `keep_stages`: use stages that other code made. `photos`: where the photos are, as given now: captures on disk are
    looked for there too. Set `report` once there is a console: it hears which stages are made again, and why.
    """

    def __init__(self, root: Path, keep_stages: bool = False, photos: Path | None = None) -> None:
        self.root = Path(root)
        self.keep_stages = keep_stages
        self.photos = photos
        self.report: Reporter = Silent()
        self.seconds: dict[str, float] = {}
        self.processor_seconds: dict[str, float] = {}
        """Of stages for which it is known: of the process, all its threads together. Other programs on the machine
        change it little."""
        self._identities: dict[str, str] = {}
        self._digests: dict[str, str] = {}
        self._named_older = False
        self._created = [p for p in (self.root, *self.root.parents) if not os.path.lexists(p)]
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock = self.root / ".lock"
            if lock.exists() and not lock.is_file():  # a pipe, say
                _move_aside(lock, "old")
            self._lock = lock.open("a+")
        except OSError as e:
            raise SplatError(
                f"{shown(self.root)} cannot be written ({e.strerror or e}): choose another --out folder."
            ) from None
        self._take_lock()
        remove_partial_files(self.root, FILES, RUN_FOLDERS)

    def _take_lock(self) -> None:
        try:
            import fcntl
        except ImportError:  # not POSIX: two writers in one folder are the user's to avoid
            return
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise SplatError(
                f"{shown(self.root)} is in use by another run: wait for it or choose another --out."
            ) from None

    def close(self) -> None:
        """Release the folder. One that this run created and made nothing in is removed."""
        if self._created and not self.seconds:
            self._remove_created()
        self._lock.close()

    def _remove_created(self) -> None:
        record = StageRecord.read(self.root / "ingest" / "stage.json")
        if record is not None and not record.complete:
            shutil.rmtree(self.root / "ingest", ignore_errors=True)
        try:
            if {p.name for p in self.root.iterdir()} <= {".lock", "log.jsonl"}:
                for name in ("log.jsonl", ".lock"):
                    (self.root / name).unlink(missing_ok=True)
                for folder in self._created:
                    folder.rmdir()
        except OSError:  # somebody put something there
            pass

    def stage(
        self,
        name: str,
        key: str,
        config: Any,
        make: Callable[[Path], T],
        load: Callable[[Path], T],
        extent: int | None = None,
        code: str = "",
        shared: bool = False,
    ) -> T:
        """Load stage `name` if it is complete and undamaged and key and code agree, else make it in its folder and mark
        it complete.

        `key`: settings and inputs, of which the identities of other stages are part. `code`: see `run.code.code_hash`.
        `extent` marks a stage that can be continued (training steps): an attempt that was cut off, or that is complete
        with a smaller extent, or damaged, is left in place for `make` to go on from; the seconds spent on it add up.
        Continued with `keep_stages`, it stays a stage of the code that began it. `shared`: other commands write files
        of theirs to the folder; none of these is ever deleted.
        """
        folder = self._folder_of(name)
        record = StageRecord.read(folder / "stage.json")
        state = _compared(record, key, extent)
        if record is not None and state in ("complete", "begun") and self._has_other_inputs(record):
            state = "stale" if record.complete else "cut off"
        if record is None or state in ("unknown", "other", "cut off", "stale"):
            used = False
        elif state == "older":
            used = self._takes_older(name, record, extent)
        else:
            used = record.code == code or self._takes_other_code(name, state)
        damage = None
        if record is not None and used and state != "begun":
            result, damage = _loaded(folder, record, load)
            if damage is None:
                self.seconds[name] = float(record.seconds)
                if record.processor_seconds is not None:
                    self.processor_seconds[name] = float(record.processor_seconds)
                self._identities[name], self._digests[name] = hash_of(record.key, record.code), record.digest
                self._remove_leftovers(name)
                return result[0]
        same = record is not None and not record.older_layout and record.key == key and (used or record.code == code)
        stays = used and state == "begun"
        if record is not None and same and damage is not None:
            stays = extent is not None or (shared and not damage.edited)
        elif record is not None and same and state == "cut off":
            stays = shared and extent is None
        spent: tuple[float, float | None] = (0.0, 0.0)
        before = None
        if record is not None and stays:
            if extent is not None:
                code, spent = record.code, (float(record.seconds), record.processor_seconds)
                before = record.outputs
            if damage is not None:
                self.report.info(f"{name} is damaged ({damage.what}): made again")
                for output in record.outputs or ():
                    if not (folder / output).is_file():  # a folder in the place of a file, say
                        _move_aside(folder / output, "old")
        else:
            self._set_aside(name, folder, record, state, damage, shared)
        self._identities[name] = hash_of(key, code)
        inputs = {n: digest for n, digest in self._digests.items() if n != name}
        marks = {"key": key, "code": code, "config": plain(config), "extent": extent, "inputs": inputs}
        if before is not None:
            marks["outputs"] = before
        return self._make(name, make, marks, spent)

    def _has_other_inputs(self, record: StageRecord) -> bool:
        """Whether a stage that this one was computed from has been made again since, and came out otherwise."""
        return any(self._digests.get(n, digest) != digest for n, digest in record.inputs.items())

    def _set_aside(
        self, name: str, folder: Path, record: StageRecord | None, state: State, damage: Damage | None, shared: bool
    ) -> None:
        """Rename what is in the place of a stage that is to be made, if anything is, and say what becomes of it."""
        keep = shared or record is None or record.older_layout or (record.complete if damage is None else damage.edited)
        if not keep:  # one attempt at most, and not what it needed on its way
            self._remove_leftovers(name)
            shutil.rmtree(folder / "work", ignore_errors=True)
        aside = _move_aside(folder, "old" if keep else "cut-off" if damage is None else "damaged")
        if aside is None or state == "older":  # which says so once for all stages
            return
        why = {
            "unknown": f"{name} holds no result that can be recognized and is made again",
            "other": f"{name} is made again, for other photos or settings",
            "stale": f"{name} is made again: what it was computed from has changed",
            "cut off": f"{name} was cut off and starts again",
        }.get(state)
        if damage is not None:
            why = f"{name} is damaged ({damage.what}): made again"
        kept = f"what was there is kept as {aside.name}" if keep else None
        if why or kept:
            self.report.info("; ".join(t for t in (why, kept) if t))

    def _make(
        self, name: str, make: Callable[[Path], T], marks: dict[str, Any], spent: tuple[float, float | None]
    ) -> T:
        """Make the stage, its `stage.json` true at every moment. `spent`: seconds, and processor seconds where they are
        known, of the attempt it continues."""
        folder = self.root / name
        marks = {**marks, "version": splat.__version__, "seconds": spent[0], "processor_seconds": spent[1]}
        write_json(folder / "stage.json", marks)
        started = time.monotonic(), time.process_time()
        before = listing(folder)

        def elapsed() -> dict[str, float | None]:
            busy = None if spent[1] is None else round(spent[1] + time.process_time() - started[1], 3)
            return {"seconds": round(spent[0] + time.monotonic() - started[0], 3), "processor_seconds": busy}

        try:
            result = make(folder)
        except BaseException:
            if marks["extent"] is not None:  # what was spent before an interrupt counts; other stages start afresh
                write_json(folder / "stage.json", marks | elapsed())
            raise
        outputs = written_since(folder, before)
        took = elapsed()
        self.seconds[name], self._digests[name] = took["seconds"] or 0.0, digest_of(outputs)
        if (busy := took["processor_seconds"]) is not None:
            self.processor_seconds[name] = busy
        write_json(folder / "stage.json", marks | took | {"complete": True, "outputs": outputs})
        self._remove_leftovers(name)
        return result

    def _remove_leftovers(self, name: str) -> None:
        """Delete what attempts that were cut off, or damaged stages, left of a stage that has been made since."""
        for word in ("cut-off", "damaged"):
            for folder in self.root.glob(f"{name}.{word}-*"):
                _remove(folder)

    def shorten(self, name: str, extent: int) -> None:
        """Note that a stage was ended at `extent`, before the one that was asked for: the same command goes on."""
        path = self.root / name / "stage.json"
        write_json(path, read_json(path) | {"extent": extent})

    def identity(self, name: str) -> str:
        """The hash of key and code of a stage as it was loaded, or is being made. KeyError: it is neither yet."""
        return self._identities[name]

    def _folder_of(self, name: str) -> Path:
        """Where the stage is, or will be made."""
        folder, older = self.root / name, self.root / OLDER_NAMES.get(name, name)
        return older if older.exists() and not os.path.lexists(folder) else folder

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
        path = self.root / "log.jsonl"
        if path.exists() and not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
            _move_aside(path, "old")
        with write_errors(path), path.open("a") as f:
            f.write(json.dumps(record) + "\n")


State = Literal["complete", "begun", "cut off", "other", "stale", "older", "unknown"]


def _compared(record: StageRecord | None, key: str, extent: int | None) -> State:
    """What a stage folder is, to a run that wants this key and extent; `begun`: can be continued; `other`: complete,
    for other settings; `unknown`: its record is damaged or missing, it may hold anything."""
    if record is None:
        return "unknown"
    if record.older_layout:
        return "older"
    if record.key == key:
        if record.complete and record.extent == extent:
            return "complete"
        if extent is not None and (record.extent or 0) <= extent:
            return "begun"
    return "other" if record.complete else "cut off"


def _loaded(folder: Path, record: StageRecord, load: Callable[[Path], T]) -> tuple[list[T], Damage | None]:
    """The stage, in a list, or what is wrong with it."""
    damage = None if record.outputs is None else damage_to(folder, record.outputs)
    if damage is not None:
        return [], damage
    try:
        return [load(folder)], None
    except Interrupted:
        raise
    except Exception as e:  # bytes that were changed can raise anything
        return [], Damage(shown(e).rstrip(".") if isinstance(e, SplatError) else f"{type(e).__name__}: {shown(e)}")


def _move_aside(path: Path, word: str) -> Path | None:
    """Rename what is there, if anything is, to a name that is free; returns that."""
    if not os.path.lexists(path):
        return None
    if path.is_dir() and not path.is_symlink():
        try:
            if all(p.name.startswith(".") and p.is_file() for p in path.iterdir()):
                return None
        except OSError:  # it may not be read, but may be renamed
            pass
    n = 1
    while os.path.lexists(aside := path.with_name(f"{path.name}.{word}-{n}")):
        n += 1
    with write_errors(path):
        path.rename(aside)
    return aside


def _remove(folder: Path) -> None:
    """Delete a folder that holds a stage; its record last, so that what is left of a deletion cut short is known."""
    if folder.is_symlink():
        folder.unlink()
        return
    try:
        entries = list(folder.iterdir())
        if entries and StageRecord.read(folder / "stage.json") is None:
            return  # of an earlier version, which set files of others aside under this name
        for entry in entries:
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry.name != "stage.json":
                entry.unlink()
        (folder / "stage.json").unlink(missing_ok=True)
        folder.rmdir()
    except OSError:  # it stays; the next run tries again
        pass
