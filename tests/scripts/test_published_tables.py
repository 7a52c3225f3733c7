"""One thin script per published table: each runs `splat bench` with its protocol."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from splat.bench.family import psnr_by_views, run_family
from splat.bench.protocols import PROTOCOLS
from splat.core.files import write_json

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def test_every_published_protocol_has_a_script_and_each_passes_its_flags_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[list[str]] = []

    def main(argv: list[str]) -> int:
        called.append(argv)
        return int("llff-6" in argv)

    import splat.__main__

    monkeypatch.setattr(splat.__main__, "main", main)
    codes = {}
    for script in sorted(SCRIPTS.glob("table_*.py")):
        monkeypatch.setattr(sys, "argv", [script.name, "--data", "here", "--out", str(tmp_path)])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(script), run_name="__main__")
        codes[script.stem] = end.value.code
    assert {argv[1] for argv in called} == set(PROTOCOLS) - {"captures"}
    assert all("--data" in argv and "--results" in argv for argv in called)
    assert codes.pop("table_llff") == 1 and set(codes.values()) == {0}, "the worst exit code counts"


@pytest.mark.parametrize("out", [["--out", "OUT"], ["--out=OUT"]])
def test_every_protocol_of_a_family_has_a_folder_of_its_own(out: list[str], tmp_path: Path) -> None:
    called: list[list[str]] = []

    def main(argv: list[str]) -> int:
        called.append(argv)
        return 0

    given = [flag.replace("OUT", str(tmp_path)) for flag in out]
    run_family(main, "llff", (2, 3), [*given, "--check"], tmp_path / "kept")
    for argv, name in zip(called, ("llff-2", "llff-3"), strict=True):
        assert [a for a in argv if a.startswith("--out")] == ["--out"]
        assert argv[argv.index("--out") + 1] == str(tmp_path / name) and argv[-1] == "--check"


def test_the_plot_of_a_family_has_ours_and_publications_of_the_same_protocol(tmp_path: Path) -> None:
    tables = {}
    for count, psnr in ((2, 17.0), (3, 21.0)):
        tables[count] = (f"llff-{count}", tmp_path / f"{count}.json")
        row = {"method": "edgs", "setting": "", "psnr": {"mean": psnr}}
        write_json(tables[count][1], {"means": [], "rows": [row]})
    tables[4] = ("llff-4", tmp_path / "not run.json")
    eight_bits = {"method": "points", "setting": "", "psnr": {"mean": 18.0}, "psnr-8bit": {"mean": 17.9}}
    write_json(tables[2][1], {"means": [], "rows": [{**row, "psnr": {"mean": 17.0}}, eight_bits]})
    series = psnr_by_views(tables)
    assert series["points"] == [(2.0, 17.9)], "the figure that publications print"
    assert series["edgs"] == [(2.0, 17.0), (3.0, 21.0)]
    assert series["FSGS, published"] == [(2.0, 15.65), (3.0, 20.43)]
    assert not any("CoherentGS" in name for name in series), "its figures leave regions out"
    assert len(series) <= 10
