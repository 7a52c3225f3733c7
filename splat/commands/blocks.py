"""`splat reconstruct --blocks`: a capture beyond one machine as blocks, each an ordinary run and task of an engine."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from splat.bench.engines import Engine, Needs, Outcome, Task, open_engine
from splat.commands.settings import ReconstructSettings
from splat.core.capture import Capture
from splat.core.errors import SplatError
from splat.core.files import write_json
from splat.core.foreign import read_json
from splat.core.machine import available_cores
from splat.core.settings import changed_settings, setting_at
from splat.core.slots import Method
from splat.methods import METHODS
from splat.run.code import code_hash
from splat.run.folder import hash_of
from splat.run.outputs import damage_to
from splat.run.record import StageRecord
from splat.stages.blocks import Block, Blocks, Demands, block_capture, describe, divide, divide_to_fit, write_block
from splat.stages.context import Context
from splat.stages.forecast import Limits

FOLDER = "blocks"
"""In the run folder: `0/`, `1/`, ... are the runs of the blocks, `inputs/` what each goes on from, `logs/` what they
print."""
_OF_THE_WHOLE = frozenset({
    *("photos", "out", "blocks", "block_overlap", "engine", "workers", "cluster", "dry_run", "until", "methods"),
    *("view", "view_port", "quiet", "renders", "fill", "clean", "heldout", "search", "test_every", "train_photos"),
    *("images", "ignore_poses", "masks", "invert_masks", "mask_mode", "object", "max_frames", "max_pixels", "up"),
    *("scale", "sfm", "known", "lpips", "explicit"),
})  # fmt: skip
"""Settings that decide about the photos, their poses or what is delivered: blocks are given the outcome."""
_DECIDED = frozenset({"preset", "method", "iterations", "max_resolution", "downscale", "sh_degree", "cap"})
"""Settings that every block is given as the whole has settled them."""
_SURROUNDINGS = "train.surroundings.count"
"""Blocks have none: those of each would lie before what its neighbours own."""
_CODE = tuple(f"splat.{n}" for n in ("ingest", "poses", "init", "priors", "stages.train", "stages.poses"))
"""What makes a block, beside its method: one made by other code is made again."""


def check_blocks(s: ReconstructSettings, processes: int) -> None:
    """Raises SplatError for values that mean nothing. `processes`: that torchrun started."""
    if s.blocks is None:
        if s.dry_run:
            raise SplatError("--dry-run plans blocks: add --blocks auto or a number.")
        return
    if s.blocks != "auto" and s.blocks < 1:
        raise SplatError(f"--blocks {s.blocks} is too few: give at least 1, or auto.")
    if not 0 <= s.block_overlap <= 2:
        raise SplatError(f"--block-overlap {s.block_overlap} is not from 0 to 2.")
    if s.workers is not None and s.workers < 1:
        raise SplatError(f"--workers {s.workers} is too few: give at least 1.")
    if s.view:
        raise SplatError("--view watches one training, and blocks are several: `splat view` the result.")
    if s.train.surroundings.count > 0:
        raise SplatError(f"--{_SURROUNDINGS} is of one training, and blocks are several: leave it out.")
    if processes > 1:
        raise SplatError("--blocks starts its processes itself: run it without torchrun.")


def workers_at_once(s: ReconstructSettings) -> int:
    """Blocks that are expected to run at a time."""
    return s.workers or (max(1, available_cores() // 8) if s.engine == "local" else 1)


@dataclass(frozen=True, eq=False)
class WholeRun:
    """A settled run that is to be done in blocks."""

    settings: ReconstructSettings
    """Resolved."""
    method: Method
    limits: Limits
    matching_size: int
    given: frozenset[str]
    """Dotted names of the settings that somebody chose."""
    out: Path


def division(whole: WholeRun, posed: Capture) -> Blocks | None:
    """Which blocks there are; None where the whole is to be done at once. Raises SplatError where the capture cannot be
    divided so, or nobody says how much memory a worker has."""
    s, limits = whole.settings, whole.limits
    workers = workers_at_once(s)
    cores = limits.threads or (max(1, available_cores() // workers) if s.engine == "local" else s.cluster.cores or 8)
    free = replace(limits, cap=None)
    demands = Demands(free, whole.method, limits.cap, cores, whole.matching_size)
    if s.blocks != "auto":
        return None if s.blocks == 1 else divide(posed, s.blocks or 1, demands, s.block_overlap)
    gigabytes = limits.memory
    if gigabytes is None and s.engine == "local" and (there := limits.memory_gb()) is not None:
        gigabytes = there / workers
    if gigabytes is None:
        raise SplatError("--blocks auto divides by memory: say with --memory how many GB a worker has.")
    return divide_to_fit(posed, demands, s.block_overlap, gigabytes, workers)


def plan_lines(whole: WholeRun, plan: Blocks) -> Iterator[str]:
    """What a dry run prints: the division, and every block (of many the first and last)."""
    yield from describe(plan, workers_at_once(whole.settings), whole.limits.cap)
    blocks = plan.blocks if len(plan.blocks) <= 24 else (*plan.blocks[:12], *plan.blocks[-12:])
    for b in blocks:
        yield (
            f"  block {b.number}: {len(b.views)} photos, {len(b.points)} points ({b.core_points} its own), up to "
            f"{b.cap} Gaussians, {b.memory / 1e9:.2f} GB, {b.minutes:.0f} min"
        )


def run_blocks(c: Context, whole: WholeRun, posed: Capture, plan: Blocks, engine: Engine | None = None) -> list[Path]:
    """Run the blocks that are not done yet; returns their run folders. Raises SplatError that names the blocks that
    failed; what was done is kept."""
    s = whole.settings
    workers = workers_at_once(s) if s.engine == "local" else s.workers
    engine = engine or open_engine(s.engine, s.cluster, workers=workers, notify=c.report.info)
    c.report.begin("blocks")
    code = code_hash(*_CODE, type(whole.method).__module__)
    blocks = [_run_of(whole, posed, b, engine.program, code) for b in plan.blocks]
    waiting = {b.task.name: b for b in blocks if not _is_done(b.task.folder, b.mark)}
    for b in blocks:
        if b.task.name not in waiting:
            c.report.info(f"{b.title} is done: not run again")
    failed = list[str]()
    done, started = 0, time.monotonic()

    def ended(task: Task, outcome: Outcome) -> None:
        nonlocal done
        done += 1
        b = waiting[task.name]
        trained = StageRecord.read(task.folder / "train" / "stage.json")
        if outcome.code == 0 and trained is not None and trained.complete:
            peak = outcome.peak_memory_mb
            write_json(task.folder / "block.json", b.mark | {"train": trained.digest, "peak_memory_mb": peak})
            memory = "" if peak is None else f", {peak / 1024:.2f} GB"
            c.report.info(f"{b.title} is done: {outcome.seconds:.0f} s{memory}")
        else:
            why = outcome.message or ("it left no scene" if outcome.code == 0 else f"code {outcome.code}")
            failed.append(f"{b.title}: {why} (log: {task.log})")
            c.report.info(failed[-1])
        c.report.progress(done, len(waiting), failed=len(failed))

    if waiting:
        engine([b.task for b in waiting.values()], ended)
        c.report.info(f"{len(waiting)} blocks in {time.monotonic() - started:.0f} s")
    if failed:
        more = "" if len(failed) == 1 else f"; and {len(failed) - 1} more"
        raise SplatError(
            f"{len(failed)} of {len(plan.blocks)} blocks failed: {failed[0]}{more}. What is done is kept: run the same "
            "command again."
        )
    return [b.task.folder for b in blocks]


@dataclass(frozen=True)
class _BlockRun:
    """A block as a task."""

    title: str
    task: Task
    mark: dict[str, Any]
    """What the run was made from: kept in its `block.json` once it has ended well."""


def _run_of(whole: WholeRun, posed: Capture, b: Block, program: Sequence[str], code: str) -> _BlockRun:
    """Writes what the block goes on from. `program`: what runs `splat`; `code`: hash of what makes blocks."""
    root = whole.out.absolute() / FOLDER
    folder, given = root / str(b.number), root / "inputs" / str(b.number)
    content = write_block(given, block_capture(posed, b))
    own = flags(whole, b.cap)
    argv = (*program, "reconstruct", str(given), "--out", str(folder), *own)
    needs = Needs(memory_mb=b.memory / 2**20, minutes=b.minutes, gpus=whole.settings.cluster.gpus)
    log = root / "logs" / f"{b.number}.log"
    task = Task(f"block-{b.number}", argv, folder, log, (given, *_read_beside(whole)), needs=needs)
    return _BlockRun(f"block {b.number}", task, {"given": content, "flags": hash_of(own), "code": code})


def _is_done(folder: Path, mark: dict[str, Any]) -> bool:
    """Whether the run of a block has ended, from this input, with these flags and this code, and nothing is damaged."""
    trained = StageRecord.read(folder / "train" / "stage.json")
    if trained is None or not trained.complete or not (folder / "metrics.json").is_file():
        return False
    try:
        found = read_json(folder / "block.json")
    except SplatError:
        return False
    if not isinstance(found, dict) or any(found.get(k) != v for k, v in (mark | {"train": trained.digest}).items()):
        return False
    poses = StageRecord.read(folder / "poses" / "stage.json")
    records = ((folder / "train", trained), (folder / "poses", poses))
    return all(r is not None and damage_to(f, r.outputs or {}) is None for f, r in records)


def figures_of(folders: Sequence[Path], plan: Blocks) -> list[dict[str, Any]]:
    """What `metrics.json` has of each block."""
    out = []
    for b, folder in zip(plan.blocks, folders, strict=True):
        m, mark = read_json(folder / "metrics.json"), read_json(folder / "block.json")
        row = {"photos": len(b.views), "points": len(b.points), "expected_mb": round(b.memory / 2**20, 1)}
        row |= {"num_gaussians": m["num_gaussians"], "seconds": m["seconds"]["total"]}
        peaks = filter(None, (mark.get("peak_memory_mb"), m["peak_memory_mb"]))  # as the engine and the run saw it
        peak = max(peaks, default=None)  # macOS and Windows say neither
        out.append(row | {"peak_memory_mb": peak, "train_psnr": m["train_psnr"]})
    return out


# ------------------------------------------------------------------------------------------------ settings as arguments


def flags(whole: WholeRun, cap: int) -> list[str]:
    """The command line of a block: the settings of the whole that are about making Gaussians."""
    s, limits = whole.settings, whole.limits
    found = ["--preset", limits.preset, "--method", whole.method.name, "--iterations", str(limits.iterations)]
    found += ["--max-resolution", str(limits.max_resolution), "--downscale", str(limits.downscale)]
    found += ["--sh-degree", str(setting_at(s, "sh_degree"))]
    if limits.cap is not None:
        found += ["--cap", str(cap)]
    # poses were judged in the whole, whose frame has -y up
    found += ["--test-every", "0", "--up=-y", "--known.no-check", "--no-renders", "--quiet"]
    found += [f"--{_SURROUNDINGS}=0"]
    for name in sorted(whole.given - {_SURROUNDINGS}):
        head = name.partition(".")[0]
        if head not in _OF_THE_WHOLE | _DECIDED and head not in METHODS:
            found += flag(name, setting_at(s, name))
    own = whole.method
    changed: set[str] = set()
    if is_dataclass(own):
        changed = {f"{own.name}.{n}" for n in changed_settings(own, type(own)())}
    for name in sorted(changed | {n for n in whole.given if n.startswith(f"{own.name}.")}):
        found += flag(name, setting_at(own, name.partition(".")[2]))
    return found


def flag(name: str, value: Any) -> list[str]:
    """The arguments that say that the setting at a dotted path has a value. Raises SplatError where no flag can."""
    head, dot, last = name.replace("_", "-").rpartition(".")
    text = f"--{head}{dot}{last}"
    if isinstance(value, bool):
        return [text if value else f"--{head}{dot}no-{last}"]
    if isinstance(value, tuple | list):
        return [text, *map(str, value)]
    if isinstance(value, Path):
        return [text, str(value.absolute() if value.exists() else value)]
    if is_dataclass(value):
        found = []
        for f in fields(value):
            found += flag(f"{name}.{f.name}", getattr(value, f.name))
        return found
    if value is None or isinstance(value, str | int | float):
        return [f"{text}={value}"]
    raise SplatError(f"{name} is a {type(value).__name__}, which cannot be passed on to blocks: leave it out.")


def _read_beside(whole: WholeRun) -> tuple[Path, ...]:
    """Folders of the user's that blocks read: depth maps."""
    depth = setting_at(whole.settings, "depth")
    return (Path(depth).absolute(),) if depth is not None and Path(depth).is_dir() else ()
