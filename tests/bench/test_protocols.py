"""Protocols: what they fix reaches the run, what is missing is said, and a dry run needs but the shape of the data."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from shaped_data import write_data

from splat import ingest
from splat.bench.protocols import PROTOCOLS
from splat.cli import parse
from splat.commands.bench import Bench
from splat.commands.reconstruct import Reconstruct
from splat.core.capture import Capture
from splat.core.errors import SplatError
from splat.poses.fewer import evenly_spread
from splat.stages.figures import check_names

FEW = {
    n: int(n.rpartition("-")[2]) for n in PROTOCOLS if n.startswith(("llff-", "mipnerf360-", "tandt-")) and n[-1] != "b"
}


def run(name: str, data: Path, **changes: object) -> Bench:
    return Bench(name, data.parent / "out", data=data, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", PROTOCOLS)
def test_data_of_the_published_shape_are_complete_and_planned_whole(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    protocol = PROTOCOLS[name]
    write_data(tmp_path / "data", protocol)
    assert run(name, tmp_path / "data", check=True)() == 0, capsys.readouterr().out
    assert "complete" in capsys.readouterr().out
    assert run(name, tmp_path / "data", dry_run=True, methods="points,edgs", seeds="3")() == 0
    said = capsys.readouterr().err
    assert f"{max(1, len(protocol.scenes)) * 6} cells" in said
    assert not (tmp_path / "out").exists(), "a dry run leaves nothing"


def read_as(name: str, data: Path) -> tuple[Reconstruct, Capture]:
    """The first scene, as the process of its cell reads it."""
    table = run(name, data, methods="points").table()
    cell = table.cells[0]
    command = parse(Reconstruct, cell.arguments(table.sources[cell.scene], data / "run")[1:], "splat reconstruct")
    check_names(command.figures)
    return command, ingest.read(command.photos, command.read_options)


@pytest.mark.parametrize("name", ["mipnerf360", "tandt-db", "llff-3", "mipnerf360-12", "tandt-6"])
def test_every_eighth_photo_is_held_out_and_few_others_are_spread_evenly(name: str, tmp_path: Path) -> None:
    write_data(tmp_path / "data", PROTOCOLS[name], scenes=1)
    command, capture = read_as(name, tmp_path / "data")
    names = sorted(v.name for v in capture.views)
    assert sorted(v.name for v in capture.test_views) == names[::8]
    assert all(v.world_from_cam is not None for v in capture.views), "poses are those that the dataset brings"
    assert command.train_photos == FEW.get(name, 0)
    if (count := FEW.get(name, 0)) and count < len(capture.train_views):
        pool = len(capture.train_views)
        rule = [round(float(x)) for x in np.linspace(0, pool - 1, count)]  # Python rounds halves to even
        assert evenly_spread(pool, count) == rule


def test_photos_of_fern_are_those_of_the_published_split(tmp_path: Path) -> None:
    write_data(tmp_path / "data", PROTOCOLS["llff-3"], scenes=1)
    _, capture = read_as("llff-3", tmp_path / "data")
    numbers = {v.name: i for i, v in enumerate(sorted(capture.views, key=lambda v: v.name))}
    train = sorted(numbers[v.name] for v in capture.train_views)
    assert [train[i] for i in evenly_spread(len(train), 3)] == [1, 10, 19]
    assert capture.views[0].photo_size == (504, 378)


def test_scans_are_trained_on_three_photos_and_measured_within_masks(tmp_path: Path) -> None:
    write_data(tmp_path / "data", PROTOCOLS["dtu-3"], scenes=1)
    _, capture = read_as("dtu-3", tmp_path / "data")
    names = {f"shot_{i:02d}.png": i for i in range(49)}
    assert {names[v.name] for v in capture.train_views} == {22, 25, 28}
    test = {names[v.name] for v in capture.test_views}
    assert len(test) == 25 and not test & {3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 36, 37, 38, 39, 40, 44, 48, 0, 8, 13}
    assert all(v.mask_path for v in capture.test_views) and not any(v.mask_path for v in capture.train_views)


def test_rendered_objects_keep_their_own_split(tmp_path: Path) -> None:
    write_data(tmp_path / "data", PROTOCOLS["nerf-synthetic"], scenes=1, photos=9)
    _, capture = read_as("nerf-synthetic", tmp_path / "data")
    assert {v.image_path.parent.name for v in capture.train_views} == {"train"} and len(capture.train_views) == 3
    assert {v.image_path.parent.name for v in capture.test_views} == {"test"} and len(capture.test_views) == 6


def test_what_is_missing_or_damaged_is_said_with_where_to_get_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    write_data(data, PROTOCOLS["llff-3"], scenes=4)
    (data / "fern" / "poses_bounds.npy").unlink()
    (data / "flower" / "images_8" / "shot_03.png").unlink()
    photo = data / "fortress" / "images_8" / "shot_05.png"
    photo.unlink()
    photo.write_bytes(b"\x89PNG")
    (data / "horns" / "split.json").write_text('{"test": ["shot_01.png"]}')
    assert run("llff-3", data, check=True)() == 1
    said = capsys.readouterr().out
    assert "missing: fern: poses_bounds.npy is missing or damaged." in said
    assert "missing: flower: images_8/ has 33 photos, not 34." in said
    assert "missing: fortress: 1 photos cannot be read (first: shot_05.png)." in said
    assert "missing: horns: split.json holds out other photos" in said
    assert "missing: trex: its folder is not there." in said
    assert "https://www.matthewtancik.com/nerf" in said
    with pytest.raises(SplatError, match=r"fern: poses_bounds.npy is missing or damaged \(and 4 more"):
        run("llff-3", data, methods="points")()
    assert run("llff-3", data, check=True, scenes="room")() == 1
    assert "fern" not in capsys.readouterr().out.partition("missing")[2]


def test_published_numbers_are_plausible_and_say_where_they_stand() -> None:
    for p in PROTOCOLS.values():
        names = {s.name for s in p.scenes} | set(p.groups) | {""}
        for row in p.published:
            assert row.source and row.scene in names, row
            assert 9 < row.values["psnr"] < 40, row
            assert 0 < row.values.get("ssim", 0.5) < 1 and 0 < row.values.get("lpips", 0.5) < 1, row
        check_names([*p.compare.values()])


def test_methods_may_have_flags_of_their_own_and_seeds_a_number(tmp_path: Path) -> None:
    write_data(tmp_path / "data", PROTOCOLS["captures"])
    b = run("captures", tmp_path / "data", methods="points,edgs+preset=quality+cap=500", seeds="7,")
    points, edgs = b.table().cells
    assert points.overrides["preset"] == "default" and points.seed == edgs.seed == 7
    assert edgs.overrides["preset"] == "quality" and edgs.overrides["cap"] == "500"
    assert [c.seed for c in run("captures", tmp_path / "data", seeds="3").table().cells] == [0, 1, 2]


def test_a_folder_without_data_is_one_sentence_that_begins_with_it(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    for name, fault in (("nowhere", "is not a folder: give --data"), ("file", "is not a folder"), ("empty", "has no")):
        with pytest.raises(SplatError) as error:
            run("captures", tmp_path / name)()
        assert str(error.value).startswith(f"{tmp_path / name} {fault}")


@pytest.mark.parametrize("changes", [{"seeds": "-1"}, {"seeds": "1000000000"}, {"workers": 0}, {"limit_minutes": -1.0}])
def test_counts_that_mean_nothing_are_refused_before_anything_is_read(changes: dict, tmp_path: Path) -> None:
    write_data(tmp_path / "data", PROTOCOLS["captures"], photos=3)
    flag = f"--{next(iter(changes)).replace('_', '-')}"
    with pytest.raises(SplatError, match=flag):
        run("captures", tmp_path / "data", dry_run=True, **changes)()
    assert not (tmp_path / "out").exists()


def test_files_that_numpy_cannot_open_are_damaged_and_no_crash(tmp_path: Path) -> None:
    dtu, llff = PROTOCOLS["dtu-3"], PROTOCOLS["llff-3"]
    write_data(tmp_path, dtu, scenes=1, photos=3)
    write_data(tmp_path, llff, scenes=1, photos=3)
    cameras, poses = tmp_path / "scan8" / "cameras_sphere.npz", tmp_path / "fern" / "poses_bounds.npy"
    whole = cameras.read_bytes()
    for content in (b"", whole[: len(whole) // 2], poses.read_bytes()):
        cameras.write_bytes(content)
        assert "cameras_sphere.npz is damaged" in [m.what for m in dtu.check(tmp_path, ["scan8"])]
    for content in (b"", whole, b"\x93NUMPY"):
        poses.write_bytes(content)
        assert "poses_bounds.npy is missing or damaged" in [m.what for m in llff.check(tmp_path, ["fern"])]
    (tmp_path / "fern" / "split.json").write_text('{"test": 5}')
    assert "split.json is damaged" in [m.what for m in llff.check(tmp_path, ["fern"])]


def test_scenes_of_one_name_in_two_folders_stay_two(tmp_path: Path) -> None:
    for name in ("tandt/train", "mine/train", "tandt/truck"):
        (tmp_path / name / "sparse").mkdir(parents=True)
    assert {s.name for s in PROTOCOLS["tandt-3"].found(tmp_path)} == {"tandt_train", "mine_train", "truck"}


@pytest.mark.parametrize("name", ["captures", "tandt-3", "nvs-rgbd"])
def test_a_table_can_hold_the_name_of_any_folder(name: str, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9\n1")
    write_data(tmp_path / "data", PROTOCOLS[name], photos=3)
    (tmp_path / "data" / "first").rename(folder)
    (scene,) = PROTOCOLS[name].found(tmp_path)
    assert scene.name == r"caf\xe9\x0a1" and scene.name.encode()
    assert folder in (scene.source, scene.source.parent)
