"""What a table leaves: figures with their meaning, published numbers beside them, other programs, pictures, a gate."""

from __future__ import annotations

import csv
import getpass
import io
import json
import platform
import re
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from shaped_data import write_data

from splat.bench import Cell, Local, Record, Records, plots
from splat.bench.gate import fallen
from splat.bench.page import write_page
from splat.bench.programs import programs_of
from splat.bench.protocols import PROTOCOLS
from splat.bench.published import group_means, published_rows
from splat.bench.quantities import quantity, values_of
from splat.bench.sheets import comma_separated, latex, markdown, sheet_of
from splat.bench.tables import rows_of
from splat.commands.bench import Bench
from splat.core import about
from splat.core.errors import SplatError
from splat.core.files import write_json
from splat.core.image import write_png

FAKE = (sys.executable, str(Path(__file__).with_name("fake_splat.py")))
KEPT = Path(__file__).resolve().parents[2] / "scripts" / "results"
COMMAND = "/home/someone/OpenSplat/build/opensplat {colmap} --output {ply} --num-iters {iterations} --keep-crs"


def record(scene: str, method: str = "points", seed: int = 0, **metrics: Any) -> Record:
    base = {"psnr": 20.0, "ssim": 0.8, "lpips": None, "num_gaussians": 1000, "seconds": {"train": 50.0, "total": 60.0}}
    base |= {"registered": [9, 10], "views": [{}, {}], "floaters": 0.012, "resolution": [64, 48]}
    return Record(Cell(scene, method, {"preset": "fast"}, seed), base | metrics, peak_memory_mb=512.0)


def test_every_figure_of_a_cell_has_unit_and_direction() -> None:
    metrics = {**(record("a").metrics or {}), "figures": {"ssim-uniform-8bit": 0.7, "lpips-vgg-01": None}}
    found = {v["name"]: v for v in values_of(metrics)}
    assert found["psnr"] == {"name": "psnr", "value": 20.0, "unit": "dB", "direction": "higher"}
    assert found["seconds"]["value"] == 60.0 and found["seconds"]["direction"] == "lower"
    assert found["ssim-uniform-8bit"]["direction"] == "higher" and found["floaters"]["direction"] == "lower"
    assert "lpips" not in found and "lpips-vgg-01" not in found
    assert quantity("lpips-vgg-01").direction == "lower" and "fed [0, 1]" in quantity("lpips-vgg-01").title


def test_a_machine_is_described_without_naming_it() -> None:
    text = json.dumps([about.machine(), about.versions()])
    assert about.machine()["cores"] >= 1 and about.versions()["torch"]
    assert platform.node() not in text and str(Path.home()) not in text
    assert not re.search(rf"\b{re.escape(getpass.getuser())}\b", text)


@pytest.mark.parametrize("folder", ["captures", "few", "edgs", "odd", "captures_first"])
def test_cells_of_older_versions_are_read_under_their_names(folder: str) -> None:
    paths = sorted((KEPT / folder).glob("*-s?-*.json"))
    assert paths
    for path in paths:
        kept = json.loads(path.read_text())
        cell = Cell(**kept["cell"])
        assert cell.name == path.stem
        assert Records(path.parent).get(cell) is not None
    rows = rows_of(Records(KEPT / folder).everything())
    assert rows and markdown("t", "n", rows).count("\n") > len(rows)


def protocol_rows(*scenes: str) -> list[Any]:
    asked = {"psnr-8bit": 19.9, "ssim-8bit": 0.79, "lpips-vgg-01-8bit": None}
    return rows_of([record(s, figures=asked) for s in scenes])


def test_published_numbers_stand_in_the_column_of_their_definition() -> None:
    protocol = PROTOCOLS["llff-3"]
    rows = protocol_rows("fern")
    published, footnotes = published_rows(protocol, rows, ["flower"])
    text = markdown("t", "n", rows, published, footnotes)
    lines = [line.split("|") for line in text.splitlines() if line.startswith("|")]
    column = [cell.strip() for cell in lines[0]].index("PSNR (8 bit)")
    by_method = {re.sub(r" \[.*", "", line[2].strip()): line for line in lines[2:]}
    assert by_method["points"][column].strip() == "19.90"
    assert by_method["FSGS"][column].strip() == "20.43"
    marks = [int(m) for m in re.findall(r"\[(\d+)\]", by_method["CoherentGS"][2])]
    assert any("no training photo shows" in footnotes[m - 1] for m in marks), "what differs is marked"
    assert not any("no training photo" in footnotes[int(m) - 1] for m in re.findall(r"\[(\d+)\]", by_method["FSGS"][2]))
    assert all(f"[{i}] " in text for i in range(1, len(footnotes) + 1))
    assert "without flower" in text
    assert "of published lpips there is no figure of ours" in text


def test_groups_that_are_published_apart_have_their_own_means() -> None:
    means = group_means(PROTOCOLS["tandt-db"], protocol_rows("train", "truck", "playroom", "drjohnson"))
    assert [m.scene for m in means] == ["Tanks and Temples: mean of 2", "Deep Blending: mean of 2", "mean of 4"]


def test_csv_has_every_digit_and_latex_no_character_that_breaks_it() -> None:
    rows = rows_of([record("a_b & 50 %", seed=s, psnr=20.123456 + s) for s in range(3)])
    (line,) = csv.DictReader(io.StringIO(comma_separated(rows)))
    assert float(line["psnr"]) == pytest.approx(21.123456) and float(line["psnr_std"]) == pytest.approx(1.0)
    assert line["scene"] == "a_b & 50 %" and line["seconds_train"] == "50.0" and line["registered"] == "9"
    text = latex("Ours, 50 %", "flags `--x_y`", rows, ["of {this}"])
    body = text.replace(r"\_", "").replace(r"\&", "").replace(r"\%", "").replace(r"\{", "").replace(r"\}", "")
    assert r"21.12 $\pm$ 1.00" in body and "%" not in body and "_" not in body
    widths = {line.count(" & ") for line in text.splitlines() if line.endswith(r"\\")}
    assert len(widths) == 1


def test_a_gate_names_each_cell_that_fell_and_lets_noise_pass(tmp_path: Path) -> None:
    before = rows_of([record("a"), record("b"), record("c")])
    baseline = tmp_path / "baseline.json"
    write_json(baseline, {"rows": [r.plain() for r in before]})
    assert fallen(before, baseline) == []
    worse = [record("a", psnr=19.8, num_gaussians=1100), record("b", psnr=19.0, seconds={"total": 100.0})]
    said = fallen(rows_of([*worse, Record(record("c").cell, None, "no photos")]), baseline)
    assert len(said) == 3 and said[0].startswith("b, points: PSNR went from 20.00 to 19.00 dB")
    assert "seconds went from 60 to 100 s" in said[1] and said[2].startswith("c, points") and "failed" in said[2]
    write_json(baseline, {"rows": [r.plain() for r in before], "tolerances": {"psnr": 0.1, "seconds": None}})
    said = fallen(rows_of([*worse, record("c")]), baseline)
    assert [s[:1] for s in said] == ["a", "b"] and all("PSNR" in s for s in said)
    baseline.write_text('{"rows": [1]}')
    with pytest.raises(SplatError, match="is no baseline"):
        fallen(before, baseline)


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """They have tests of their own, and take seconds."""
    monkeypatch.setattr(plots, "unavailable", lambda: "no plots here")


@pytest.mark.usefixtures("no_plots")
def test_a_closed_gate_is_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_data(tmp_path / "data", PROTOCOLS["captures"])
    kept = tmp_path / "baseline.json"
    bench = Bench("captures", tmp_path / "out", data=tmp_path / "data", methods="points", json=kept)
    assert bench(Local(FAKE)) == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} >= {"table.md", "table.csv", "table.tex", "table.json"}
    found = json.loads(kept.read_text())
    found["rows"][0]["psnr"]["mean"] += 5
    kept.write_text(json.dumps(found))
    gated = Bench("captures", tmp_path / "out", data=tmp_path / "data", methods="points", gate=kept)
    capsys.readouterr()
    assert gated(Local(FAKE)) == 1
    assert "PSNR went from 31.00 to 26.00 dB" in capsys.readouterr().err


@pytest.mark.usefixtures("no_plots")
def test_other_programs_are_rows_of_the_same_table_that_name_no_folder(tmp_path: Path) -> None:
    write_data(tmp_path / "data", PROTOCOLS["captures"])
    bench = Bench("captures", tmp_path / "out", tmp_path / "data", "points", program=(f"opensplat={COMMAND}",))
    assert bench(Local(FAKE)) == 0
    _, cell = bench.table().cells
    assert cell.method == "opensplat"
    said = (tmp_path / "out" / "runs" / cell.name / "attempts").read_text()
    assert said.startswith("program ") and COMMAND in said and "--name opensplat" in said and "--program" not in said
    for path in [*(tmp_path / "out").glob("table.*"), *(tmp_path / "out" / "cells").iterdir()]:
        assert "/home/someone" not in path.read_text()
    text = (tmp_path / "out" / "table.md").read_text()
    assert "| first | opensplat |" in text and "opensplat {colmap} --output {ply}" in text
    alone = Bench("captures", tmp_path / "out", tmp_path / "data", methods="", program=(f"opensplat={COMMAND}",))
    assert [c.name for c in alone.table().cells] == [cell.name]
    moved = programs_of([f"opensplat={COMMAND.replace('someone', 'another')}"])[0]
    assert moved.identity == programs_of([f"opensplat={COMMAND}"])[0].identity, "another place is the same cell"


def test_programs_come_from_a_file_too_and_mistakes_are_named(tmp_path: Path) -> None:
    file = tmp_path / "programs.toml"
    file.write_text("brush = 'brush {colmap} --out {work}/a/b.ply'\n")
    (found,) = programs_of([], file)
    assert found.identity == "brush {colmap} --out {work}/a/b.ply", "places in braces stay"
    for given, said in ((("x",), "NAME=COMMAND"), (("edgs=a {colmap}",), "letters"), (("a=true",), "{colmap}")):
        with pytest.raises(SplatError, match=re.escape(said)):
            programs_of(given)
    file.write_text("brush = [")
    with pytest.raises(SplatError, match="is no TOML"):
        programs_of([], file)


def test_pictures_of_methods_stand_beside_the_photo(tmp_path: Path) -> None:
    records = [record("a", m) for m in ("points", "edgs")] + [record("b")]
    for r in records[:2]:
        folder = tmp_path / "runs" / r.cell.name / "evaluate"
        rows = [{"name": f"{i} ä.jpg", "psnr": 20.0 + i, "ssim": 0.9, "photo": f"{i} ä.photo.png"} for i in range(9)]
        for row in rows:
            row["render"] = str(row["photo"]).replace("photo", "render")
            write_png(folder / "test" / str(row["photo"]), np.zeros((2, 2, 3), np.uint8))
        write_json(folder / "views.json", {"test": rows})
    page = write_page(tmp_path, "A <table>", "note", sheet_of(rows_of(records)), ["of <b>"], records)
    assert page is not None
    text = page.read_text()
    assert "A &lt;table&gt;" in text and "[1] of &lt;b&gt;." in text and text.count("<tr>") == 4
    assert "<h2>b" not in text
    assert text.count("<figcaption>photo") == 6 and "points: 28.00 dB" in text and "edgs: 20.00 dB" in text
    sources = [unquote(s) for s in re.findall(r'src="([^"]+)"', text)]
    assert len(sources) == 18 and all((tmp_path / s).exists() for s in sources if "photo" in s)
    assert write_page(tmp_path / "elsewhere", "t", "", sheet_of([]), [], records) is None
