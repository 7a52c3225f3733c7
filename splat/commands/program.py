"""`splat program`: another program's splat, trained on our poses and measured by our evaluation."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch

from splat.commands.checks import check_whole
from splat.commands.reconstruct import Prepared, Reconstruct
from splat.core.capture import PointCloud
from splat.core.errors import SplatError
from splat.core.files import write_json
from splat.core.foreign import read_json, shown
from splat.core.slots import Reporter
from splat.export import read_splat
from splat.export.colmap_model import write_colmap
from splat.export.header import MODE
from splat.export.sidecar import drawn_as_said, from_original_frame
from splat.run.code import code_hash
from splat.run.folder import hash_of
from splat.run.trained import Trained, load_trained, save_trained
from splat.run.watched import run_watched
from splat.stages import evaluate, export, metrics, train
from splat.stages.context import Context
from splat.train.views import scene_extent

_RECORD = "program.json"


@dataclass(frozen=True)
class Program(Reconstruct):
    """Photos -> poses -> the splat of another program, measured on the held-out photos as every other run.

    Photos, hold-out and poses are those of `splat reconstruct` with the same flags. The training photos are written as
    a COLMAP model with undistorted photos (JPEG at quality 95), --command turns it into a PLY, and its seconds and peak
    memory count as those of training. `splat bench --program NAME='COMMAND'` does this for a table. For example

    opensplat {colmap} --output {ply} --num-iters {iterations} --downscale-factor 1 --keep-crs

    or, for the trainer of gsplat, which leaves out its first photo,

    sh -c 'python simple_trainer.py default --data_dir {colmap} --data_factor 1 --result_dir {work}/gsplat --max_steps
    {iterations} --save_ply --ply_steps {iterations} --no-normalize-world-space --test_every 1000000 --disable_viewer'
    """

    common: ClassVar[tuple[str, ...]] = (
        *("photos", "out", "command", "name", "preset", "iterations", "max_resolution", "test_every", "train_photos"),
        *("images", "ignore_poses", "masks", "mask_mode", "device", "threads", "memory", "seed", "quiet"),
    )

    command: str = ""
    """The program and its arguments, run without a shell in a folder of its own. {colmap}: a folder with sparse/0/ and
    images/; {images}: that folder of photos; {ply}: the splat to be written, in the frame of the model (without it: the
    newest .ply below the program's folder {work}); {iterations}, {threads} and {seed}: as the flags say."""
    name: str = "program"
    """What it is called in tables."""

    def __call__(self, report: Reporter | None = None) -> dict[str, Any]:
        """Run what is not done yet. Returns what `metrics.json` holds; raises SplatError where the program fails."""
        check_command(self.command)
        check_whole("program", self.blocks, self.dry_run)
        with replace(self, method="points").opened(report) as (c, warnings):
            p = replace(self, method="points").until_init(c)
            trained, record = self._train(c, p)
            if record["mode"] is not None:
                c = replace(c, settings=replace(c.settings, mode=record["mode"]))
            k = p.settings
            protocol = evaluate.Protocol(k.heldout, k.search, k.lpips, k.figures)
            result = evaluate.evaluate(c, p.capture, p.posed, p.held_out, trained, protocol)
            export.export(c, p.capture, trained, result, renders=False, fill=False, clean=False)
            about = {"method": self.name, "heldout": k.heldout, "program": record}
            figures = metrics.gather_metrics(c, p.capture, p.posed, trained, result, warnings, about)
            figures["peak_memory_mb"] = record["peak_memory_mb"]
            write_json(c.run.root / "metrics.json", figures)
        return figures

    def as_json(self) -> dict[str, Any]:
        return super().as_json() | {"command": "program", "method": self.name, "program": self.command}

    def _train(self, c: Context, p: Prepared) -> tuple[Trained, dict[str, Any]]:
        """What the program made, and how: seconds, peak memory, and whether its splat is anti-aliased."""
        c.report.begin("train")
        k = p.settings
        steps = k.limits.iterations
        background = train.fitted_to(k.train, p.capture).background.rgb
        sizes = [(v.camera.width, v.camera.height) for v in p.capture.train_views]
        key = hash_of("program", c.run.identity("init"), self.command, steps, sizes, c.seed, background)

        def make(folder: Path) -> Trained:
            record, trained = self._run_command(c, p, folder, steps, torch.tensor(background))
            save_trained(folder, trained)
            write_json(folder / _RECORD, record)
            return trained

        code = code_hash("splat.commands.program")
        trained = c.run.stage("train", key, self.command, make, load_trained, code=code)
        record = read_json(c.run.root / "train" / _RECORD)
        said = f"{record['seconds']:.0f} s, {record['peak_memory_mb'] or 0:.0f} MB"
        c.report.info(f"{self.name}: {len(trained.gaussians)} Gaussians, {said}")
        return trained, record

    def _run_command(
        self, c: Context, p: Prepared, folder: Path, steps: int, background: torch.Tensor
    ) -> tuple[dict[str, Any], Trained]:
        work = (folder / "work").absolute()
        shutil.rmtree(work, ignore_errors=True)
        capture = p.capture.training()
        if capture.points is None or not len(capture.points.positions):
            first = p.init.gaussians  # programs start from points: those that ours would start from
            cloud = PointCloud(first.means, first.base_rgb.clamp(0, 1))
            capture = replace(capture, points=cloud, tracks=None)
        write_colmap(capture, work / "colmap")
        ply = work / "splat.ply"
        places = {"colmap": work / "colmap", "images": work / "colmap" / "images", "ply": ply, "work": work}
        values = {**places, "iterations": steps, "threads": c.threads, "seed": c.seed}
        filled = [_filled(word, values) for word in _from_anywhere(words(self.command))]
        c.report.info(f"running {self.name}")
        done = run_watched(filled, work, c.run.root / "program.log", c.threads)
        if done.code != 0:
            raise SplatError(f"{self.name} ended with code {done.code}: {shown(done.last_line)[:300]}")
        found = ply if ply.is_file() else _newest(work)
        if found is None:
            raise SplatError(f"{self.name} ended well but wrote no splat: its command must write {{ply}}.")
        splat = read_splat(found, c.report)
        extent = scene_extent(p.capture.train_views, None if capture.points is None else capture.points.positions)
        gaussians = from_original_frame(splat, p.capture)
        record = {
            "name": self.name,
            "seconds": round(done.seconds, 2),
            "peak_memory_mb": None if done.peak_memory_mb is None else round(done.peak_memory_mb, 1),
            "mode": drawn_as_said(splat, c.settings).mode if MODE in splat.header else None,
        }
        shutil.rmtree(work, ignore_errors=True)
        return record, Trained(gaussians, {}, {}, background, extent, steps, [])


def check_command(command: str) -> None:
    """Raises SplatError for a command that cannot be run."""
    parts = words(command)
    if not parts:
        raise SplatError(
            "--command is empty: give the program and its arguments, for example 'opensplat {colmap} -o {ply}'."
        )
    if "{colmap}" not in command and "{images}" not in command:
        raise SplatError(
            f"--command {shown(command)!r} names neither {{colmap}} nor {{images}}: it would not see the scene."
        )
    if shutil.which(parts[0]) is None:
        raise SplatError(f"{shown(parts[0])} is not a program here: correct the beginning of --command.")


def words(command: str) -> list[str]:
    """The words of a command, as a shell would split them."""
    try:
        return shlex.split(command)
    except ValueError as e:
        raise SplatError(f"--command {shown(command)!r} has quotes that do not match ({e}).") from None


def _from_anywhere(parts: Sequence[str]) -> list[str]:
    """The same words for another working folder: the program, and files that are named relative to this one, in full.
    Links stay: the python of an environment is one."""
    program = Path(shutil.which(parts[0]) or parts[0]).absolute()
    rest = [str(Path(p).absolute()) if os.sep in p and Path(p).is_file() else p for p in parts[1:]]
    return [str(program), *rest]


def _filled(word: str, values: Mapping[str, object]) -> str:
    """With values in place of their names in braces. Other braces stay as they are."""
    for name, value in values.items():
        word = word.replace(f"{{{name}}}", str(value))
    return word


def _newest(folder: Path) -> Path | None:
    found = [p for p in folder.rglob("*.ply") if p.is_file() and "colmap" not in p.relative_to(folder).parts]
    return max(found, key=lambda p: p.stat().st_mtime, default=None)
