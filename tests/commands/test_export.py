"""`splat export` and `splat convert`: what is asked for by names, judged before anything is read or written."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import oracles
import pytest
import torch
from small_runs import reconstruct

from splat.__main__ import main
from splat.core.gaussians import Gaussians
from splat.core.geometry import Similarity, needs_local_origin
from splat.core.slots import Silent
from splat.export import DELIVERABLES, read_splat, save_splat
from splat.export.deliverable import Deliverable, Scene, chosen
from splat.export.header import OFFSET, UP
from splat.run.arrays_io import save_gaussians
from splat.run.completed import CompletedRun
from splat.stages.deliver import Shaping
from splat.viewer.edits import Box, Frame, Recipe, write_recipe


@pytest.fixture
def splat(tmp_path: Path) -> Path:
    g = oracles.random_gaussians(300, torch.Generator().manual_seed(3), 1, dtype=torch.float32)
    path = tmp_path / "scene.ply"
    save_splat(path, g, {UP: "z", "SplatRenderMode": "mip"})
    return path


@pytest.fixture(scope="module")
def posed_run(posed_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("exported") / "run"
    reconstruct(posed_photos, run)
    return run


def test_the_longest_suffix_chooses() -> None:
    @dataclasses.dataclass(frozen=True)
    class Mesh(Deliverable):
        suffixes: tuple[str, ...] = (".other.ply", "meshes")
        about: str = "another mesh"

    many = (*DELIVERABLES, Mesh())
    assert chosen(Path("a.other.ply"), many) is many[-1] and chosen(Path("x/meshes/"), many) is many[-1]
    assert chosen(Path("A.PLY"), many).suffixes == (".ply",)
    assert chosen(Path("a.compressed.ply"), many).suffixes == (".compressed.ply",)


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        (["a.ply", "a.foo"], "a.foo"),
        (["a.ply", "a.ply"], "twice"),
        (["a.ply", "--crop", "0", "1"], "--crop has 2"),
        (["a.ply", "--crop", "0", "0", "0", "1", "-1", "1"], "empty"),
        (["a.ply", "--scale", "0"], "--scale"),
        (["a.ply", "--min-opacity", "2"], "--min-opacity"),
        (["a.ply", "--up=w"], "up"),
        (["a.ply", "--sh-degree", "-1"], "--sh-degree"),
        (["a.ply", "--frame", "world"], "world"),
        ([], "name what to write"),
    ],
)
def test_what_cannot_be_written_is_one_sentence_and_nothing_is_written(
    outputs: list[str], said: str, splat: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert main(["export", str(splat), *outputs]) == 2
    error = capsys.readouterr().err
    assert said in error and len(error.strip().splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_deliverable_that_needs_a_run_refuses_a_file(splat: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    from splat.stages import deliver

    @dataclasses.dataclass(frozen=True)
    class Cameras(Deliverable):
        suffixes: tuple[str, ...] = ("cameras.txt",)
        about: str = "cameras"
        needs_run: bool = True

        def write(self, path: Path, scene: Scene, report: object) -> list[Path]:
            raise AssertionError

    @dataclasses.dataclass(frozen=True)
    class Missing(Cameras):
        suffixes: tuple[str, ...] = (".xyz",)
        needs_run: bool = False

        def unavailable(self) -> str | None:
            return "install it."

    monkeypatch.setattr(deliver, "DELIVERABLES", (*DELIVERABLES, Cameras(), Missing()))
    assert main(["export", str(splat), str(tmp_path / "cameras.txt")]) == 2
    assert "give the run" in capsys.readouterr().err
    assert main(["export", str(splat), str(tmp_path / "a.xyz")]) == 2
    assert "install it" in capsys.readouterr().err


def read(path: Path) -> Gaussians:
    return read_splat(path).gaussians


def test_options_select_and_place(splat: Path, tmp_path: Path) -> None:
    g, out = read(splat), tmp_path / "out.ply"
    assert main(["convert", str(splat), str(out), "--min-opacity", "0.5", "--sh-degree", "0"]) == 0
    assert len(read(out)) == int((g.opacities >= 0.5).sum()) and read(out).sh_degree == 0
    assert main(["convert", str(splat), str(out), "--crop", "0", "0", "0", "1", "--scale", "2"]) == 0
    kept = g.means.norm(dim=1) <= 0.5
    assert 0 < int(kept.sum()) < len(g) and torch.allclose(read(out).means, 2 * g.means[kept], atol=1e-6)
    assert torch.allclose(read(out).log_scales, g.log_scales[kept] + math.log(2), atol=1e-6)
    assert main(["convert", str(splat), str(out), "--crop", "-1", "-1", "-1", "0", "1", "1"]) == 0
    assert len(read(out)) == int(((g.means <= torch.tensor([0.0, 1, 1])) & (g.means >= -1)).all(1).sum())


def test_y_up_turns_what_is_up_in_the_file_to_y(splat: Path, tmp_path: Path) -> None:
    """And the harmonics with it; the header says so from then on."""
    g, out = read(splat), tmp_path / "out.ply"
    assert main(["export", str(splat), str(out), "--frame", "y-up"]) == 0
    turned = read(out)
    assert torch.allclose(turned.means[:, 1], g.means[:, 2], atol=1e-6)
    assert read_splat(out).header[UP] == "y" and read_splat(out).header["SplatRenderMode"] == "mip"
    turn = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]], dtype=torch.float64)
    expected = g.transformed(Similarity(1.0, turn, torch.zeros(3, dtype=torch.float64)))
    assert torch.allclose(turned.sh, expected.sh, atol=1e-5)
    assert main(["export", str(splat), str(out), "--frame", "y-up", "--up=-y"]) == 0
    assert torch.allclose(read(out).means[:, 1], -g.means[:, 1], atol=1e-6)


def test_a_local_origin_turns_and_scales_along(splat: Path, tmp_path: Path) -> None:
    far, out = tmp_path / "far.ply", tmp_path / "out.ply"
    save_splat(far, read(splat), {UP: "z", OFFSET: "500000 5700000 300"})
    assert main(["export", str(far), str(out), "--frame", "y-up", "--scale", "2"]) == 0
    assert read_splat(out).header[OFFSET] == "1000000 600 -11400000"


def test_a_recipe_is_applied_to_another_format_of_the_splat(splat: Path, tmp_path: Path) -> None:
    g, out, recipe = read(splat), tmp_path / "out.ply", tmp_path / "a.edits.json"
    half = Frame(scale=0.5, translation=(1.0, 0.0, 0.0))
    box = Box("box", (1.0, 0.0, 0.0), (0.25, 10.0, 10.0))
    write_recipe(recipe, Recipe((box,), half))
    assert main(["convert", str(splat), str(out), "--edits", str(recipe)]) == 0
    kept = g.means[:, 0].abs() <= 0.5
    assert 0 < int(kept.sum()) < len(g) and torch.allclose(read(out).means, g.means[kept], atol=1e-5)


def test_a_run_is_written_in_every_frame_and_the_file_beside_it_leads_back(posed_run: Path, tmp_path: Path) -> None:
    assert main(["export", str(posed_run), str(tmp_path / "a.ply"), str(tmp_path / "b.splat")]) == 0
    source = read(posed_run / "export" / "splat.ply")
    assert (tmp_path / "a.ply").read_bytes() == (posed_run / "export" / "splat.ply").read_bytes()
    assert main(["export", str(posed_run), str(tmp_path / "up.ply"), "--frame", "y-up", "--scale", "3"]) == 0
    said = json.loads((tmp_path / "up.frame.json").read_text())
    matrix = torch.tensor(said["source_from_file"]["matrix"])
    means = read(tmp_path / "up.ply").means
    assert said["frame"] == "y-up"
    assert torch.allclose(means @ matrix[:3, :3].T + matrix[:3, 3], source.means, atol=1e-4)
    assert not needs_local_origin(float(means.norm(dim=1).max()), 1.0)
    assert main(["export", str(posed_run)]) == 0
    assert (posed_run / "export" / "splat.ply").read_bytes() == (tmp_path / "a.ply").read_bytes()


def test_a_mesh_is_matched_anew_except_where_part_of_the_scene_was_cut_away(posed_run: Path) -> None:
    """What was cut away is in the photos still."""
    opened = CompletedRun.open(posed_run)
    whole, part = (Shaping(crop=crop).of_run(opened).trained for crop in (None, (0.0, 0.0, 0.0, 100.0)))
    assert whole is not None and part is not None
    maps = whole.matched(64, Silent())
    assert len(maps) == len(whole.capture.train_views) > 1
    assert all(m is not None and max(m.depth.shape) == 64 for m in maps)
    assert part.matched(64, Silent()) == ()


def test_surroundings_are_written_last_and_are_no_surface(posed_run: Path) -> None:
    opened = CompletedRun.open(posed_run)
    n = len(opened.trained.gaussians)
    around = opened.trained.gaussians[: n // 2]
    around = replace(around, means=50 * torch.nn.functional.normalize(around.means, dim=1)).with_sh_degree(0)
    run = replace(opened, trained=replace(opened.trained, surroundings=around))
    scene = Shaping().of_run(run)
    assert scene.trained is not None and scene.trained.surroundings is not None
    assert len(scene.gaussians) == n + n // 2 and len(scene.surfaces) == n == len(scene.trained.gaussians)
    assert torch.equal(scene.surfaces.means, Shaping().of_run(opened).gaussians.means)
    fewer = Shaping(max_gaussians=60).of_run(run)
    assert len(fewer.gaussians) == 60 and len(fewer.surfaces) == 40, "both to the same share"
    centre = opened.capture.world_from_source.inverse().apply(torch.zeros(3, dtype=torch.float64)).tolist()
    radius = 25 / float(opened.capture.world_from_source.scale)
    cropped = Shaping(crop=(*centre, radius)).of_run(run)
    assert cropped.trained is not None and cropped.trained.surroundings is None and 0 < len(cropped.gaussians) <= n


def test_surroundings_are_left_out_where_that_is_asked_for(
    posed_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(posed_run, run)
    whole = CompletedRun.open(run).trained
    save_gaussians(run / "train" / "surroundings.npz", whole.gaussians[:7].with_sh_degree(0))
    names = [str(tmp_path / name) for name in ("with.ply", "without.ply")]
    assert main(["export", str(run), names[0]]) == 0
    assert main(["export", str(run), names[1], "--no-surroundings"]) == 0
    assert [len(read(Path(name))) - len(whole.gaussians) for name in names] == [7, 0]
    assert main(["export", names[0], str(tmp_path / "x.ply"), "--no-surroundings"]) == 2
    assert "give the run" in capsys.readouterr().err and not (tmp_path / "x.ply").exists()


def test_the_file_beside_a_glb_leads_from_its_turned_coordinates_back(posed_run: Path, tmp_path: Path) -> None:
    source = read(posed_run / "export" / "splat.ply")
    for arguments in ([], ["--frame", "world"], ["--scale", "2"]):
        assert main(["export", str(posed_run), str(tmp_path / "a.glb"), *arguments]) == 0
        data = (tmp_path / "a.glb").read_bytes()
        start = 28 + int.from_bytes(data[12:16], "little")  # POSITION comes first
        stored = torch.frombuffer(bytearray(data[start : start + 12 * len(source)]), dtype=torch.float32).reshape(-1, 3)
        matrix = torch.tensor(json.loads((tmp_path / "a.frame.json").read_text())["source_from_file"]["matrix"])
        assert torch.allclose(stored @ matrix[:3, :3].T + matrix[:3, 3], source.means, atol=1e-4)


def test_the_help_names_every_suffix(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    said = "".join(capsys.readouterr().out.split())
    assert all(s in said for d in DELIVERABLES for s in d.suffixes)


def test_a_run_is_written_as_pictures_and_cameras(posed_run: Path, tmp_path: Path) -> None:
    names = ("a.mp4", "frames", "colmap", "transforms.json")
    outputs = [str(tmp_path / n) for n in names]
    options = ["--video.frames", "3", "--video.size", "64"]
    assert main(["export", str(posed_run), *outputs, *options]) == 0
    assert all((tmp_path / n).exists() for n in names) and (tmp_path / "colmap" / "images.bin").is_file()
    assert len(json.loads((tmp_path / "transforms.json").read_text())["frames"]) > 2
    assert len(list((tmp_path / "frames").glob("*.png"))) == 3


def test_a_bare_file_has_no_cameras(splat: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.obj", "a.mp4", "colmap", "transforms.json"):
        assert main(["export", str(splat), str(tmp_path / name)]) == 2
        assert "give the run" in capsys.readouterr().err
    assert main(["export", str(splat), str(tmp_path / "a.las")]) == 0
    for wrong in (["--mesh.voxel", "0"], ["--mesh.matching-size", "8"], ["--points", "0"]):
        assert main(["export", str(splat), str(tmp_path / "b.las"), *wrong]) == 2
