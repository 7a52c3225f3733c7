"""A run that is complete, opened again by the commands that come after `reconstruct`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch

from splat import raster as rasterizers
from splat.core import devices
from splat.core.capture import Capture, View
from splat.core.errors import SplatError
from splat.core.files import write_json
from splat.core.foreign import read_json, shown
from splat.core.machine import available_cores
from splat.core.slots import DepthMap, Rasterizer, RasterSettings
from splat.run.arrays_io import load_init
from splat.run.capture_io import read_capture
from splat.run.outputs import content_hash, damage_to
from splat.run.record import StageRecord
from splat.run.trained import Trained, load_trained

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class CompletedRun:
    root: Path
    config: dict[str, Any]
    """What `config.json` holds."""
    metrics: dict[str, Any]
    capture: Capture
    """At the working size that was trained at, in the normalized frame."""
    trained: Trained
    settings: RasterSettings
    raster: Rasterizer
    device: torch.device

    lost: dict[str, str]
    """Views whose photo or mask is gone or has changed -> what is wrong with it. Only drawing them is possible."""

    @staticmethod
    def open(root: Path, raster: str = "auto", photos: Path | None = None) -> CompletedRun:
        """`photos`: a folder to look for the photos in besides where they were.

        Run folders of version 0.1.0 open too. Raises SplatError when `root` holds no run that has ended, or one that is
        damaged.
        """
        root = Path(root)
        for name in ("config.json", "metrics.json", "poses", "train"):
            if not (root / name).exists():
                raise SplatError(
                    f"{shown(root)} holds no finished run ({name} is missing): give the --out folder of a "
                    "`splat reconstruct` that has ended, or run that again."
                )
        _check_stages(root)
        config = _read(root, "config.json", lambda path: _with(read_json(path), "antialiased"))
        metrics = _read(root, "metrics.json", lambda path: _with(read_json(path), "resolution"))
        mode: Literal["antialiased", "classic"] = "antialiased" if config["antialiased"] else "classic"
        capture, lost = _read(root, "poses", lambda path: read_capture(path, photos))
        capture = _read(root, "metrics.json", lambda _: capture.resized(max(metrics["resolution"])))
        trained = _read(root, "train", load_trained)
        torch.set_num_threads(available_cores())
        device = devices.named()
        return CompletedRun(
            root=root,
            config=config,
            metrics=metrics,
            capture=capture,
            trained=trained,
            settings=RasterSettings(mode=mode),
            raster=rasterizers.choose(device, raster),
            device=device,
            lost=lost,
        )

    def matched_depths(self) -> tuple[DepthMap, ...]:
        """What matching found of the depth of each training photo, in their order, in the normalized frame; nothing
        where the run kept none (a method that matches no photos, or more photos than training reads depth of), or
        where what it kept is damaged or of another training."""
        record, trained = (StageRecord.read(self.root / name / "stage.json") for name in ("init", "train"))
        if record is None or record.outputs is None or trained is None or trained.inputs.get("init") != record.digest:
            return ()
        if damage_to(self.root / "init", record.outputs) is not None:
            return ()
        depths = load_init(self.root / "init" / "init.npz").depths
        return depths if len(depths) == len(self.capture.train_views) else ()

    def require(self, views: Iterable[View]) -> None:
        """Raises SplatError unless the photos of these views are those that the run was made of."""
        for view in views:
            if view.name in self.lost:
                raise SplatError(self.lost[view.name])


def note_written(root: Path, stage: str, files: Iterable[Path]) -> None:
    """Files of a stage that a command has written anew count as its result from now on, not as damage."""
    path = root / stage / "stage.json"
    record = StageRecord.read(path)
    if record is None or not record.outputs:
        return
    folder = (root / stage).absolute()
    names = {os.path.relpath(f.absolute(), folder).replace(os.sep, "/") for f in files} & {*record.outputs}
    changed = {n: ((folder / n).stat().st_size, content_hash(folder / n)) for n in names if (folder / n).is_file()}
    if changed:
        write_json(path, read_json(path) | {"outputs": record.outputs | changed})


def _check_stages(root: Path) -> None:
    """Raises SplatError where poses or train are damaged, unfinished, or do not belong together."""
    records = {}
    for name in ("poses", "train"):
        record = StageRecord.read(root / name / "stage.json")
        if record is None:
            raise _damaged(root, f"{name}/stage.json is damaged or missing")
        if record.outputs is not None and (damage := damage_to(root / name, record.outputs)) is not None:
            raise _damaged(root, f"{name}/{damage.what}")
        if not record.complete and record.outputs is None:
            raise _damaged(root, f"its stage {name} was cut off")
        records[name] = record
    trained_on = records["train"].inputs.get("poses")
    if trained_on is not None and trained_on != records["poses"].digest:
        raise _damaged(root, "its poses have been made again since it was trained")


def _read(root: Path, name: str, read: Callable[[Path], T]) -> T:
    try:
        return read(root / name)
    except Exception as e:  # bytes that were changed can raise anything
        what = (
            str(e).rsplit(": ", 1)[0] if isinstance(e, SplatError) else f"{name}: {type(e).__name__} {shown(e)[:200]}"
        )
        raise _damaged(root, what) from None


def _with(found: dict[str, Any], key: str) -> dict[str, Any]:
    found[key]
    return found


def _damaged(root: Path, what: str) -> SplatError:
    return SplatError(
        f"{shown(root)} cannot be used ({what}): run the same `splat reconstruct` again, which makes again what is "
        "damaged."
    )
