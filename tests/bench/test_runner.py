"""The table runner: every cell once, whatever happens to it, and every number where it belongs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from noting import Noting

from splat.bench import Cell, Local, Record, Records, Table
from splat.bench.prediction import Prediction
from splat.bench.scenes import load_scenes
from splat.bench.source import COMMAND, commit_of
from splat.commands.bench import Bench
from splat.core.errors import SplatError
from splat.core.slots import Silent
from splat.run.code import code_hash

FAKE = (sys.executable, str(Path(__file__).with_name("fake_splat.py")))


def table(tmp_path: Path, *scenes: str, methods: tuple[str, ...] = ("points",), seeds: tuple[int, ...] = (0,)) -> Table:
    cells = tuple(Cell(s, m, {"preset": "fast"}, seed) for s in scenes for m in methods for seed in seeds)
    sources = {s: tmp_path / "data" / s for s in scenes}
    for source in sources.values():
        source.mkdir(parents=True, exist_ok=True)
    return Table("test", cells, sources, tmp_path / "out")


def behave(t: Table, scene: str, how: str) -> None:
    (t.sources[scene] / "behaviour").write_text(how)


def attempts(t: Table, cell: Cell) -> int:
    path = t.out / "runs" / cell.name / "attempts"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_methods_of_a_scene_start_from_the_same_poses(tmp_path: Path) -> None:
    t = table(tmp_path, "a", "b", methods=("points", "edgs"))
    t.run(Silent(), Local(FAKE))
    found = {c.scene + c.method: (t.out / "runs" / c.name / "poses" / "found").read_text() for c in t.cells}
    assert found == {"apoints": "a points", "aedgs": "a points", "bpoints": "b points", "bedgs": "b points"}


def test_cells_that_join_a_table_later_start_from_the_poses_found_before(tmp_path: Path) -> None:
    t = table(tmp_path, "a", methods=("points",))
    t.run(Silent(), Local(FAKE))
    more = table(tmp_path, "a", methods=("points", "edgs"))
    more.run(Silent(), Local(FAKE))
    assert (more.out / "runs" / more.cells[1].name / "poses" / "found").read_text() == "a points"


def test_poses_are_found_by_a_method_of_ours_though_another_program_comes_first(tmp_path: Path) -> None:
    t = table(tmp_path, "a", methods=("points", "edgs"))
    other = Cell("a", "theirs", {"program": "theirs {ply}"}, command="theirs {ply}")
    mixed = replace(t, cells=(other, *t.cells))
    jobs = [mixed._job(c) for c in mixed.cells]
    posing, *rest = mixed.tasks(jobs, ("splat",))
    assert posing.argv[1] == "reconstruct" and posing.argv[-2:] == ("--until", "poses")
    assert [r.after for r in rest] == [(posing.name,)] * 3 and rest[0].argv[1] == "program"
    alone = mixed.tasks(jobs[:1] * 2, ("splat",))
    assert [a.after for a in alone] == [(), ()]


def test_every_cell_is_run_once_with_its_flags(tmp_path: Path) -> None:
    t = table(tmp_path, "a", "b", methods=("points", "edgs"), seeds=(0, 7))
    records = t.run(Silent(), Local(FAKE))
    assert [r.cell for r in records] == list(t.cells)
    said = (t.out / "runs" / t.cells[3].name / "attempts").read_text().split()
    assert said[:2] == ["reconstruct", str(t.sources["a"])]
    assert said[said.index("--method") + 1] == "edgs"
    assert said[said.index("--seed") + 1] == "7"
    assert said[said.index("--preset") + 1] == "fast"
    assert records[3].metrics is not None and records[3].metrics["psnr"] == 20 + 7 + 4


def test_finished_cells_are_not_run_again(tmp_path: Path) -> None:
    t = table(tmp_path, "a", "b")
    first = t.run(Silent(), Local(FAKE))
    second = t.run(Silent(), Local(FAKE))
    assert [attempts(t, c) for c in t.cells] == [1, 1]
    assert [r.metrics for r in first] == [r.metrics for r in second]


def test_a_wider_table_runs_only_what_is_new(tmp_path: Path) -> None:
    table(tmp_path, "a").run(Silent(), Local(FAKE))
    wider = table(tmp_path, "a", "b", seeds=(0, 1))
    assert wider.plan().done == 1 and len(wider.plan().to_run) == 3
    assert len(wider.run(Silent(), Local(FAKE))) == 4
    assert attempts(wider, wider.cells[0]) == 1


def test_changed_settings_are_another_cell() -> None:
    base = Cell("a", "points", {"preset": "fast"})
    others = [
        Cell("b", "points", {"preset": "fast"}),
        Cell("a", "edgs", {"preset": "fast"}),
        Cell("a", "points", {"preset": "default"}),
        Cell("a", "points", {"preset": "fast", "cap": 5}),
        Cell("a", "points", {"preset": "fast"}, seed=1),
    ]
    assert len({c.name for c in [base, *others]}) == 6
    assert Cell("a", "points", {"x-y": 1, "b": 2}).name == Cell("a", "points", {"b": 2, "x_y": 1}).name


def test_switches_become_flags() -> None:
    cell = Cell("a", "points", {"ignore-poses": True, "renders": False, "train.absgrad": False, "cap": 9})
    arguments = cell.arguments(Path("in"), Path("out"))
    assert arguments[-5:] == ["--cap", "9", "--ignore-poses", "--no-renders", "--train.no-absgrad"]


def test_a_failed_cell_does_not_stop_the_table_and_says_why(tmp_path: Path) -> None:
    t = table(tmp_path, "good", "bad", "last")
    behave(t, "bad", "mistake")
    good, bad, last = t.run(Silent(), Local(FAKE))
    assert not good.failed and not last.failed
    assert bad.failed and bad.message == "bad is empty: give photos."


@pytest.mark.parametrize("how,said", [("killed", "SIGKILL"), ("silent", "left no figures")])
def test_a_crash_and_a_run_without_figures_are_failures(tmp_path: Path, how: str, said: str) -> None:
    t = table(tmp_path, "a")
    behave(t, "a", how)
    (record,) = t.run(Silent(), Local(FAKE))
    assert record.failed and said in record.message


def test_failed_cells_are_tried_again_only_on_request(tmp_path: Path) -> None:
    t = table(tmp_path, "a")
    behave(t, "a", "mistake")
    t.run(Silent(), Local(FAKE))
    t.run(Silent(), Local(FAKE))
    assert attempts(t, t.cells[0]) == 1
    behave(t, "a", "well")
    (record,) = t.run(Silent(), Local(FAKE), retry_failed=True)
    assert attempts(t, t.cells[0]) == 2
    assert not record.failed


def test_a_cell_over_its_limit_is_asked_to_save_and_counts_as_failed(tmp_path: Path) -> None:
    t = table(tmp_path, "a")
    behave(t, "a", "slow")
    (record,) = t.run(Silent(), Local(FAKE, limit_minutes=2 / 60))
    assert record.failed and "limit" in record.message
    assert (t.out / "runs" / t.cells[0].name / "saved").exists()


def test_an_interrupted_table_tells_the_running_cell_and_goes_on_next_time(tmp_path: Path) -> None:
    """SIGTERM to the table: the cell saves, no failure is recorded, and nothing stays behind."""
    t = table(tmp_path, "a", "b")
    behave(t, "b", "slow")
    script = (
        "import sys; from pathlib import Path; from splat.bench import *; from splat.core.slots import Silent\n"
        f"cells = tuple(Cell(s, 'points', {{'preset': 'fast'}}) for s in 'ab')\n"
        f"root = Path({str(tmp_path)!r})\n"
        "t = Table('test', cells, {s: root / 'data' / s for s in 'ab'}, root / 'out')\n"
        f"t.run(Silent(), Local({FAKE!r}))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen([sys.executable, "-c", script], env=environment, stderr=subprocess.PIPE, text=True)
    running = t.out / "runs" / t.cells[1].name
    deadline = time.monotonic() + 30
    while not (running / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert "KeyboardInterrupt" in errors
    assert (running / "saved").exists()
    plan = t.plan()
    assert (plan.done, plan.failed, plan.to_run) == (1, (), (t.cells[1],))


def test_time_and_memory_are_those_of_the_cell(tmp_path: Path) -> None:
    t = table(tmp_path, "small", "large")
    behave(t, "large", "memory")
    small, large = t.run(Silent(), Local(FAKE))
    assert small.peak_memory_mb is not None and large.peak_memory_mb is not None
    assert large.peak_memory_mb - small.peak_memory_mb == pytest.approx(286, abs=30)
    assert 0 < small.wall_seconds < 30


def test_kept_numbers_span_two_sittings_and_name_no_machine(tmp_path: Path) -> None:
    kept = tmp_path / "results"
    t = table(tmp_path, "a", "bad")
    behave(t, "bad", "mistake")
    first = Table(t.title, t.cells, t.sources, tmp_path / "out1", kept)
    first.run(Silent(), Local(FAKE))
    elsewhere = Table(t.title, t.cells, t.sources, tmp_path / "out2", kept)
    assert elsewhere.plan().done == 1
    assert [p.stem for p in kept.iterdir()] == [t.cells[0].name], "failures are not kept"
    text = next(kept.iterdir()).read_text()
    assert str(tmp_path) not in text
    assert json.loads(text)["metrics"]["registered"] == [10, 11]


def test_a_record_cut_off_or_of_another_cell_is_not_taken(tmp_path: Path) -> None:
    cell = Cell("a", "points")
    records = Records(tmp_path)
    records.put(Record(cell, {"psnr": 1.0}))
    path = tmp_path / f"{cell.name}.json"
    assert records.get(cell) is not None
    path.write_text(path.read_text()[:40])
    assert records.get(cell) is None
    records.put(Record(Cell("a", "edgs"), {"psnr": 1.0}))
    (tmp_path / f"{Cell('a', 'edgs').name}.json").rename(path)
    assert records.get(cell) is None


def test_records_name_the_code_that_their_cell_was_started_with(tmp_path: Path) -> None:
    t = table(tmp_path, "a", "b")
    behave(t, "b", "mistake")
    done, failed = t.run(Silent(), Local(FAKE))
    assert done.code == failed.code == code_hash(COMMAND)
    assert done.commit == commit_of()
    assert Record.from_plain(json.loads(json.dumps(done.plain()))).plain() == done.plain()


def test_records_from_before_code_was_recorded_are_read(tmp_path: Path) -> None:
    old = {k: v for k, v in Record(Cell("a", "points"), {"psnr": 1.0}).plain().items() if k not in ("commit", "code")}
    (tmp_path / f"{Cell('a', 'points').name}.json").write_text(json.dumps(old))
    record = Records(tmp_path).get(Cell("a", "points"))
    assert record is not None and record.commit == record.code == ""


def test_a_table_of_cells_of_different_code_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    b = bench(tmp_path, scenes="photos,folder", seeds="0")
    assert b(Local(FAKE)) == 0
    assert "versions of the code" not in capsys.readouterr().out
    cell = b.table().cells[0]
    path = tmp_path / "out" / "cells" / f"{cell.name}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"code": "other", "commit": "abc1234" + 33 * "0"}))
    assert b(Local(FAKE)) == 0
    note = capsys.readouterr().out.splitlines()[2]
    assert "cells of 2 versions of the code: 1 of " in note and "abc1234" in note


def test_the_scenes_of_the_checkout_are_found() -> None:
    assert {"SCENES", "make", "load_truth"} <= set(dir(load_scenes()))


def test_the_cost_is_said_before_and_learns_from_finished_cells(tmp_path: Path) -> None:
    t = table(tmp_path, "a", "b", "c")
    guess = t.plan()
    assert guess.minutes > 0 and not guess.measured
    said = Noting()
    Table(t.title, t.cells[:1], t.sources, t.out).run(said, Local(FAKE))
    assert "1 to run" in said.lines[0] and "min" in said.lines[0]
    plan = t.plan()
    assert plan.measured
    assert plan.minutes == pytest.approx(2.0), "two cells like the finished one, which says it took 60 s"


def test_a_cell_is_predicted_by_what_had_ended_when_it_began(tmp_path: Path) -> None:
    t = replace(table(tmp_path, "a", "b", "c"), predict=lambda cell, source: Prediction({"train": 600.0}, 1.0, 1.0))
    records = t.run(Silent(), Local(FAKE))
    taken = [r.metrics["seconds"]["train"] for r in records]
    assert records[0].predicted["minutes"] == 10
    assert records[1].predicted["minutes"] == pytest.approx(taken[0] / 60, abs=1e-3)
    assert records[2].predicted["minutes"] == pytest.approx((taken[0] + taken[1]) / 120, abs=1e-3)
    assert all(r.predicted["seconds"] == {"train": 600} for r in records)  # uncorrected


def scene(folder: Path, name: str, *files: str) -> None:
    for file in files:
        path = folder / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def bench(tmp_path: Path, **settings: object) -> Bench:
    data = tmp_path / "data"
    scene(data, "photos", "1.jpg", "2.jpg", "3.JPG")
    scene(data, "folder", *(f"images/{i}.png" for i in range(4)))
    scene(data, "clip", "clip.mp4")
    scene(data, "lego", "transforms_train.json", *(f"train/{i}.png" for i in range(4)))
    scene(data, "pair", "left.png", "right.png")
    scene(data, "splats", "a.ply", *(f"unpacked/{i}.webp" for i in range(5)))
    scene(data, ".hidden", *(f"{i}.png" for i in range(4)))
    return Bench("captures", tmp_path / "out", data=data, **settings)  # type: ignore[arg-type]


def test_captures_are_photos_and_videos_posed_only_where_rendered(tmp_path: Path) -> None:
    cells = {c.scene: c for c in bench(tmp_path).table().cells}
    assert list(cells) == ["clip", "folder", "lego", "photos"]
    assert {s for s, c in cells.items() if c.overrides.get("ignore-poses")} == {"clip", "folder", "photos"}


def test_the_real_captures_are_found(data_root: Path, tmp_path: Path) -> None:
    cells = {c.scene: c for c in Bench("captures", tmp_path, data=data_root).table().cells}
    assert {"kermit", "sceaux_castle", "fountain_P11", "llff_fern", "fox", "banana", "horse16"} <= set(cells)
    assert {"monstree_exif", "video_fruits", "nerfstudio_export", "lego_100", "lego_400"} <= set(cells)
    assert not {"splats", "gsplat_garden", "stereo_motorcycle"} & set(cells)


def test_the_command_crosses_scenes_methods_and_seeds(tmp_path: Path) -> None:
    b = bench(tmp_path, scenes="photos, lego", methods="points,edgs", seeds="0,1,2", set=("cap=500", "renders=false"))
    cells = b.table().cells
    assert len(cells) == 2 * 2 * 3 == len({c.name for c in cells})
    assert cells[0].overrides == {"preset": "default", "ignore-poses": True, "cap": "500", "renders": False}


@pytest.mark.parametrize(
    "settings,said",
    [
        ({"scenes": "nowhere"}, "nowhere"),
        ({"seeds": "one"}, "one"),
        ({"methods": ","}, "--methods"),
        ({"set": ("cap",)}, "key=value"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, settings: dict, said: str) -> None:
    with pytest.raises(SplatError, match=said):
        bench(tmp_path, **settings).table()


def test_a_missing_data_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SplatError, match="gone"):
        Bench("captures", tmp_path, data=tmp_path / "gone").table()
    monkeypatch.setenv("SPLAT_DATA", str(tmp_path / "moved"))
    with pytest.raises(SplatError, match=r"moved.*--data"):
        Bench("captures", tmp_path).table()


def test_a_dry_run_runs_nothing(tmp_path: Path) -> None:
    assert bench(tmp_path, dry_run=True)(Local(FAKE)) == 0
    assert not (tmp_path / "out").exists()


def test_the_command_writes_table_plots_and_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    b = bench(tmp_path, scenes="photos,folder", methods="points,edgs", seeds="0,1", json=tmp_path / "t.json")
    assert b(Local(FAKE)) == 0
    out = tmp_path / "out"
    text = (out / "table.md").read_text()
    assert capsys.readouterr().out == text
    numbers = json.loads((tmp_path / "t.json").read_text())
    assert json.loads((out / "table.json").read_text()) == numbers
    assert len(numbers["rows"]) == 4 and len(numbers["cells"]) == 8
    for plot in ("psnr.png", "psnr.svg", "psnr_vs_minutes.png", "psnr_vs_minutes.svg"):
        assert (out / plot).stat().st_size > 1000, plot
    assert str(tmp_path) not in text


def test_without_matplotlib_the_table_is_written_and_one_line_says_why_there_are_no_plots(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert bench(tmp_path, scenes="photos", methods="points")(Local(FAKE)) == 0
    out, said = tmp_path / "out", capsys.readouterr()
    assert (out / "table.md").read_text() == said.out
    assert not list(out.glob("*.png")) and not list(out.glob("*.svg"))
    assert (said.out + said.err).count('pip install "splat3d[bench]"') == 1
    assert "plots beside it" not in said.err


def test_a_table_with_a_failure_ends_with_code_one_and_shows_it(tmp_path: Path) -> None:
    b = bench(tmp_path, scenes="photos,folder")
    (b.data / "folder" / "behaviour").write_text("mistake")
    assert b(Local(FAKE)) == 1
    text = (tmp_path / "out" / "table.md").read_text()
    assert "folder is empty: give photos." in text
    assert "mean of 1 (of 2)" in text
