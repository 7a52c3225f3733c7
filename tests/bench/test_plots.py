"""Plots show the numbers they were given, at the place where their axes say so."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from splat.bench.plots import PALETTE, Bar, bars, curves, scatter, unavailable, write


def labels(figure) -> list[str]:
    return [t.get_text() for t in figure.axes[0].texts if t.get_text()]


def legend(figure) -> list[str]:
    return [t.get_text() for t in figure.legends[0].get_texts()]


def overlaps(boxes) -> int:
    return sum(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


def test_bars_are_as_long_as_their_values_and_the_first_scene_is_on_top() -> None:
    figure = bars("t", "PSNR, dB", ["a", "b", "c"], {"m": [Bar(20.0), Bar(30.0), Bar(25.0)]})
    axes = figure.axes[0]
    assert [p.get_width() for p in axes.patches] == [20.0, 30.0, 25.0]
    boxes = [p.get_window_extent() for p in axes.patches]
    assert boxes[0].y0 > boxes[1].y1 and boxes[1].y0 > boxes[2].y1
    assert [t.get_text() for t in axes.get_yticklabels()] == ["a", "b", "c"]
    assert labels(figure) == ["20.00", "30.00", "25.00"] and axes.get_xlabel() == "PSNR, dB"


def test_bars_start_at_half_of_the_smallest_value_or_at_zero() -> None:
    start, end = bars("t", "dB", ["a", "b"], {"m": [Bar(20.0), Bar(30.0)]}).axes[0].get_xlim()
    assert start == 10.0 and end > 30.0
    assert bars("t", "dB", ["a", "b"], {"m": [Bar(0.0), Bar(30.0)]}).axes[0].get_xlim()[0] == 0.0


def test_a_missing_value_leaves_its_place_empty() -> None:
    def places(second: Bar | None) -> list[float]:
        figure = bars("t", "dB", ["a", "b", "c"], {"m": [Bar(20.0), second, Bar(20.0)]})
        return [p.get_y() for p in figure.axes[0].patches]

    a, b, c = places(Bar(20.0))
    assert places(None) == [a, c] and a < b < c


def test_an_error_bar_reaches_as_far_as_its_error() -> None:
    figure = bars("t", "dB", ["a"], {"m": [Bar(20.0, 1.5)]})
    (ends,) = (c.get_segments()[0][:, 0].tolist() for c in figure.axes[0].collections)
    assert ends == [18.5, 21.5]
    assert not bars("t", "dB", ["a"], {"m": [Bar(20.0)]}).axes[0].collections


def test_many_series_are_told_apart() -> None:
    figure = bars("t", "dB", ["a"], {f"m{i}": [Bar(20.0 + i)] for i in range(9)})
    looks = {(p.get_facecolor(), p.get_hatch()) for p in figure.axes[0].patches}
    assert len(looks) == 9 and len(set(PALETTE)) == 7
    assert legend(figure) == [f"m{i}" for i in range(9)]


def test_the_legend_covers_no_data_and_is_inside_the_picture() -> None:
    for count in (1, 3, 9):
        series = {f"a method with a long name {i}": [Bar(20.0 + i)] for i in range(count)}
        figure = bars("t", "dB", ["a"], series)
        box = figure.legends[0].get_window_extent()
        assert not box.overlaps(figure.axes[0].get_window_extent())
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1


def test_points_stand_where_their_values_are_and_carry_their_scenes() -> None:
    figure = scatter("t", "minutes", "PSNR, dB", {"m": [(1.0, 20.0, "fox")], "n": [(9.0, 30.0, "fern")]})
    axes = figure.axes[0]
    assert [c.get_offsets().tolist() for c in axes.collections] == [[[1.0, 20.0]], [[9.0, 30.0]]]
    assert labels(figure) == ["fox", "fern"] and legend(figure) == ["m", "n"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("minutes", "PSNR, dB")
    assert axes.get_xlim()[0] == 0 and axes.get_xlim()[1] > 9


def test_labels_of_neighbouring_points_do_not_cover_each_other() -> None:
    close = [(3.0 + 0.2 * (i % 2), 20.0 + 0.3 * i, f"scene_{i}") for i in range(6)]
    figure = scatter("t", "x", "y", {"m": [*close, (9.0, 30.0, "far"), (0.1, 12.0, "low")]})
    texts = [t for t in figure.axes[0].texts if t.get_text()]
    assert overlaps([t.get_window_extent() for t in texts]) == 0
    inside = figure.axes[0].get_window_extent()
    assert all(inside.x0 <= t.get_window_extent().x0 and t.get_window_extent().x1 <= figure.bbox.x1 for t in texts)


def test_a_scene_is_joined_and_named_once_and_small_differences_stay_small() -> None:
    series = {"m": [(1.0, 20.0, "fox"), (2.0, 20.4, "fern")], "n": [(3.0, 20.1, "fox")]}
    figure = scatter("t", "x", "y", series)
    assert sorted(labels(figure)) == ["fern", "fox"]
    joined = [line.get_xydata().tolist() for line in figure.axes[0].lines]
    assert [[1.0, 20.0], [3.0, 20.1]] in joined
    low, high = figure.axes[0].get_ylim()
    assert high - low >= 1


@pytest.mark.parametrize("log", [True, False])
def test_curves_go_through_their_points_in_order(log: bool) -> None:
    points = [(100_000.0, 300.0), (1000.0, 3.0), (10_000.0, 30.0)]
    figure = curves("t", "Gaussians", "ms", {"one": points}, log=log)
    (line,) = figure.axes[0].lines
    assert line.get_xydata().tolist() == [list(p) for p in sorted(points)]
    assert labels(figure) == ["3", "30", "300"]
    pixels = line.get_transform().transform(line.get_xydata())
    steps = np.diff(pixels, axis=0)
    assert (steps > 0).all() and (abs(steps[0, 0] - steps[1, 0]) < 1) == log, "decades are equally wide on a log axis"


def test_large_numbers_on_an_axis_are_short() -> None:
    figure = curves("t", "Gaussians", "ms", {"one": [(1000.0, 3.0), (1_000_000.0, 300.0)]})
    shown = {t.get_text() for t in figure.axes[0].get_xticklabels()}
    assert {"1k", "100k", "1M"} <= shown and {"5", "200"} <= {t.get_text() for t in figure.axes[0].get_yticklabels()}


def test_names_are_shown_as_they_are() -> None:
    """A dollar starts no mathematics."""
    figure = bars("cost $x^2", "dB", ["$a_1$ \\frac"], {"m$_": [Bar(20.0)]})
    assert figure.axes[0].get_yticklabels()[0].get_text() == "$a_1$ \\frac"
    assert not figure.axes[0].get_yticklabels()[0].get_parse_math()


def test_png_and_svg_are_written_alike_for_the_same_numbers(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(bars("$", "dB", ["a", "b"], {"m": [Bar(20.0, 1.0), None]}), tmp_path / f"{name}.png")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "a.svg", "b.png", "b.svg"]
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    image = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    assert image.shape[1] > 1000
    blue = (np.abs(image.astype(int) - [0, 0x72, 0xB2]).max(-1) < 8).mean()
    assert 0.05 < blue < 0.5


def test_empty_plots_do_not_fail(tmp_path: Path) -> None:
    for figure in (bars("t", "dB", [], {}), scatter("t", "x", "y", {"m": []}), curves("t", "x", "y", {"m": []})):
        write(figure, tmp_path / "p.png")


def test_drawing_uses_no_pyplot_and_leaves_no_setting_behind(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, matplotlib\n"
        "from splat.bench.plots import curves, write\n"
        "before = dict(matplotlib.rcParams)\n"
        f"write(curves('t', 'x', 'y', {{'m': [(1.0, 2.0), (3.0, 4.0)]}}), pathlib.Path({str(tmp_path / 'p.png')!r}))\n"
        "assert dict(matplotlib.rcParams) == before\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "MPLBACKEND": "TkAgg"}  # a window system nobody has
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_without_matplotlib_the_reason_names_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    assert unavailable() is None
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert 'pip install "splat3d[bench]"' in (unavailable() or "")


def test_points_and_curves_of_many_series_are_told_apart() -> None:
    series = {f"m{i}": [(1.0, 20.0 + i), (2.0, 30.0 + i)] for i in range(15)}
    lines = curves("t", "x", "y", series).axes[0].lines
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == 15
