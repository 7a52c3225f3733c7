"""`splat reconstruct --blocks` on a small street: runs and tasks of its own, one scene with one owner each."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from noting import Noting
from street import write_transforms

from splat.bench.engines import Outcome, Task
from splat.cli import parse
from splat.commands import blocks
from splat.commands.reconstruct import Reconstruct
from splat.core.errors import SplatError
from splat.export import load_splat
from splat.geometry.blocks import Partition
from splat.losses import Losses
from splat.methods import METHODS, Edgs, Points
from splat.run.capture_io import load_capture
from splat.run.completed import CompletedRun
from splat.stages.blocks import block_capture, write_block
from splat.train.settings import Training
from splat.train.surroundings import SurroundingsSettings


@dataclasses.dataclass
class Inside:
    """An engine that runs tasks in this process, and keeps their names; those of `failing` fail."""

    names: list[str] = dataclasses.field(default_factory=list)
    failing: tuple[str, ...] = ()
    program = ("splat",)

    def __call__(self, tasks: Sequence[Task], ended: Callable[[Task, Outcome], None]) -> None:
        for task in tasks:
            self.names.append(task.name)
            if task.name in self.failing:
                ended(task, Outcome(1, "the disk is full", 0.1, None))
                continue
            command: Any = parse(Reconstruct, task.argv[2:], "splat reconstruct")
            command(Noting())
            ended(task, Outcome(0, "", 1.0, 500.0))


def command(photos: Path, out: Path, **changes: Any) -> Reconstruct:
    settings: dict[str, Any] = {"preset": "fast", "iterations": 10, "max_resolution": 96, "renders": False}
    settings |= {"method": "points", "quiet": True, "blocks": 2, "threads": 1, "cap": 2000, "test_every": 4}
    return Reconstruct(photos=photos, out=out, **(settings | changes))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any], Inside]:
    root = tmp_path_factory.mktemp("blocks")
    write_transforms(root / "photos")
    engine = Inside()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "open_engine", lambda *_, **__: engine)
        metrics = command(root / "photos", root / "run", losses=Losses(opacity=0.01))(Noting())
    return root / "photos", root / "run", metrics, engine


def test_a_block_whose_poses_and_points_are_known_does_not_load_colmap(
    done: tuple[Path, Path, dict[str, Any], Inside], tmp_path: Path
) -> None:
    """It would fill 55 MB of every worker."""
    script = f"""
import sys
from splat.commands.reconstruct import Reconstruct
from splat.poses.known import Known
Reconstruct(
    {str(done[1] / "blocks" / "inputs" / "0")!r}, {str(tmp_path / "run")!r}, method="points", iterations=2, cap=500,
    max_resolution=96, renders=False, test_every=0, known=Known(check=False), up="-y", threads=1, quiet=True,
)()
print("loaded:", "pycolmap" in sys.modules)
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "loaded: False" in found.stdout, found.stderr


def test_the_merged_run_is_a_run_whose_gaussians_have_one_owner_each(
    done: tuple[Path, Path, dict[str, Any], Inside],
) -> None:
    photos, out, metrics, engine = done
    assert engine.names == ["block-0", "block-1"]
    run = CompletedRun.open(out, photos=photos)
    about = json.loads((out / "train" / "stage.json").read_text())["config"]
    edges = {k: torch.tensor(about[k], dtype=torch.float64) for k in ("axes", "low", "high")}
    cells = Partition(**edges, margin=edges["low"])
    owner = cells.owner(run.trained.gaussians.means)
    assert set(owner.tolist()) == {0, 1}
    kept = 0
    for k in range(2):
        block = CompletedRun.open(out / "blocks" / f"{k}")
        whole_from_block = run.capture.world_from_source @ block.capture.world_from_source.inverse()
        mine = cells.owner(block.trained.gaussians.transformed(whole_from_block).means) == k
        assert int(mine.sum()) == int((owner == k).sum()) < len(mine)
        kept += int(mine.sum())
        assert block.config["losses"]["opacity"] == 0.01 and block.config["cap"] < 2000
    assert kept == len(owner) == metrics["num_gaussians"] == len(load_splat(out / "export" / "splat.ply"))
    assert len(metrics["views"]) == 2, "the whole is measured on the photos that the whole holds out"
    assert all(b["peak_memory_mb"] >= 500 for b in metrics["blocks"]), "as the engine saw it, or the run"
    assert set(run.trained.exposures) == {v.name for v in run.capture.train_views}


def test_the_blocks_stand_where_the_whole_stands(done: tuple[Path, Path, dict[str, Any], Inside]) -> None:
    """What a block exports lies in the frame of the photos' poses, as what the whole exports does."""
    _, out, _, _ = done
    whole = load_splat(out / "export" / "splat.ply").means
    for k in range(2):
        part = load_splat(out / "blocks" / f"{k}" / "export" / "splat.ply").means
        distance = torch.cdist(part.double(), whole.double()).min(1).values
        assert float((distance < 1e-4).double().mean()) > 0.2, "those that it owns are there again"


def test_blocks_that_are_done_are_not_run_again_and_others_are(
    done: tuple[Path, Path, dict[str, Any], Inside], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, before, metrics, _ = done
    out = tmp_path / "run"
    shutil.copytree(before, out)
    engine = Inside()
    monkeypatch.setattr(blocks, "open_engine", lambda *_, **__: engine)
    again = command(photos, out, losses=Losses(opacity=0.01))
    same = again(Noting())
    assert engine.names == [] and same["num_gaussians"] == metrics["num_gaussians"]
    gaussians = out / "blocks" / "1" / "train" / "gaussians.npz"
    gaussians.write_bytes(gaussians.read_bytes()[:-100])
    engine.failing = ("block-1",)
    with pytest.raises(SplatError, match=r"1 of 2 blocks failed: block 1: the disk is full.*logs/1\.log"):
        again(Noting())
    assert engine.names == ["block-1"]
    engine.failing = ()
    assert again(Noting())["psnr"] == pytest.approx(metrics["psnr"], abs=1e-3)
    assert engine.names == ["block-1", "block-1"]


def test_a_dry_run_says_what_blocks_take_and_runs_none(
    done: tuple[Path, Path, dict[str, Any], Inside], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, before, _, _ = done
    for stage in ("ingest", "poses"):
        shutil.copytree(before / stage, tmp_path / "run" / stage)
    monkeypatch.setattr(blocks, "open_engine", lambda *_, **__: pytest.fail("nothing is to be run"))
    noted = Noting()
    assert command(photos, tmp_path / "run", dry_run=True)(noted) == {}
    text = "\n".join(noted.lines)
    assert "2 blocks of" in text and "GB for a block" in text and "h on 1 workers" in text and "block 1: " in text
    assert not (tmp_path / "run" / "blocks").exists()


def test_auto_divides_only_what_does_not_fit(done: tuple[Path, Path, dict[str, Any], Inside], tmp_path: Path) -> None:
    photos, out, _, _ = done
    posed = load_capture(out / "poses", photos)

    def plan(**changes: Any) -> Any:
        return blocks.division(order_of(command(photos, tmp_path, blocks="auto", **changes)), posed)

    assert plan(memory=8.0) is None
    found = plan(memory=0.9, cap=400_000)
    assert len(found.blocks) >= 2 and found.peak <= 0.9e9
    assert len(plan(memory=0.9, cap=400_000, workers=3).blocks) == 3, "one for each worker, at least"
    with pytest.raises(SplatError, match=r"fits into 0\.20 GB.*--memory"):
        plan(memory=0.2)
    with pytest.raises(SplatError, match="--memory how many GB a worker has"):
        plan(engine="slurm")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"blocks": 0}, "--blocks 0"),
        ({"blocks": 4000}, r"--blocks 4000 is too many for \d+ sparse points"),
        ({"blocks": None, "dry_run": True}, "add --blocks"),
        ({"view": True}, "--view"),
        ({"workers": 0}, "--workers 0"),
        ({"block_overlap": -1.0}, "--block-overlap"),
        ({"train": Training(surroundings=SurroundingsSettings(500))}, "--train.surroundings.count is of one training"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    done: tuple[Path, Path, dict[str, Any], Inside], tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    photos, before, _, _ = done
    for stage in ("ingest", "poses"):
        shutil.copytree(before / stage, tmp_path / "run" / stage)
    with pytest.raises(SplatError, match=said):
        command(photos, tmp_path / "run", **changes)(Noting())


def order_of(settings: Reconstruct) -> blocks.WholeRun:
    settled, _ = settings.resolved(100)
    size = settled.priors.matching_size
    return blocks.WholeRun(settled, settled.chosen, settled.limits, size, frozenset(settled.explicit), Path("run"))


def test_blocks_are_given_the_settings_of_the_whole(tmp_path: Path) -> None:
    training = Training()
    training = dataclasses.replace(training, views=dataclasses.replace(training.views, exposure=False))
    edgs = Edgs(dataclasses.replace(Edgs().init, budget=777))
    whole = command(
        tmp_path, tmp_path, train=training, losses=Losses(opacity=0.02), seed=7, method="edgs", memory=3.0, cap=None,
        methods=tuple(edgs if n == "edgs" else m() for n, m in METHODS.items()),
    )  # fmt: skip
    whole = order_of(whole)
    found: Any = parse(Reconstruct, ["photos", *blocks.flags(whole, 123)], "splat reconstruct")
    settled, _ = found.resolved(100)
    assert settled.train == whole.settings.train and settled.losses == whole.settings.losses
    assert settled.chosen == whole.method and settled.chosen.init.budget == 777
    assert (settled.seed, settled.memory, settled.threads, settled.sh_degree) == (7, 3.0, 1, 3)
    assert settled.limits == dataclasses.replace(whole.limits, memory=3.0)
    assert settled.test_every == 0 and not settled.renders and settled.cap is None
    assert "--cap" in blocks.flags(order_of(command(tmp_path, tmp_path)), 123)
    with_object = command(tmp_path, tmp_path, method=Points(), methods=(Points(),))
    assert "points" in blocks.flags(order_of(with_object), 1)


def test_what_a_block_is_given_can_be_taken_to_another_machine(
    done: tuple[Path, Path, dict[str, Any], Inside], tmp_path: Path
) -> None:
    photos, out, _, _ = done
    posed = load_capture(out / "poses", photos)
    one = posed.select([v.role == "train" for v in posed.views])
    mask = tmp_path / "mask.png"
    shutil.copy(one.views[0].image_path, mask)
    one = one.with_views((dataclasses.replace(one.views[0], mask_path=mask), *one.views[1:]))
    first = write_block(tmp_path / "here", one)
    assert write_block(tmp_path / "here", one) == first, "the same capture is the same input"
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    shutil.rmtree(tmp_path / "here")
    found = load_capture(tmp_path / "there", tmp_path / "there")
    assert [v.name for v in found.views] == [v.name for v in one.views]
    assert all(v.image_path.is_relative_to(tmp_path / "there") for v in found.views)
    assert found.views[0].mask_path == tmp_path / "there" / "masks" / "00000.png"
    assert found.views[0].image_path.read_bytes() == one.views[0].image_path.read_bytes()
    assert one.points is not None and found.points is not None and found.tracks is not None and one.tracks is not None
    assert torch.equal(found.points.positions, one.points.positions)
    assert torch.equal(found.tracks.point_ids, one.tracks.point_ids)


def test_the_tracks_of_a_block_name_its_own_points(done: tuple[Path, Path, dict[str, Any], Inside]) -> None:
    photos, out, _, _ = done
    posed = load_capture(out / "poses", photos)
    assert posed.points is not None and posed.tracks is not None
    rows = torch.arange(5, len(posed.points), 3)
    views = (1, 3, 5)
    about = {"core_points": 0, "cap": 1, "memory": 0.0, "minutes": 0.0}
    part = block_capture(posed, blocks_block(0, views, rows, about))
    assert [v.name for v in part.views] == [posed.views[i].name for i in views]
    assert part.points is not None and part.tracks is not None
    assert torch.equal(part.points.positions, posed.points.positions[rows])
    expected = {
        (posed.views[int(v)].name, *posed.points.positions[int(p)].tolist())
        for v, p in zip(posed.tracks.view_ids, posed.tracks.point_ids)
        if int(v) in views and int(p) in set(rows.tolist())
    }
    found = {
        (part.views[int(v)].name, *part.points.positions[int(p)].tolist())
        for v, p in zip(part.tracks.view_ids, part.tracks.point_ids)
    }
    assert found == expected and found


def blocks_block(number: int, views: tuple[int, ...], points: torch.Tensor, about: dict[str, Any]) -> Any:
    from splat.stages.blocks import Block

    return Block(number, views, points, **about)
