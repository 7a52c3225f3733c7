"""Charts are drawn where their numbers are."""

import math
import re

import pytest
import torch
from report_samples import full, ring

from splat.report import ReportData, ViewScore
from splat.report.camera_map import camera_map
from splat.report.charts import curve_chart, stage_bars
from splat.report.templating import duration, environment, short


def test_a_chart_draws_the_curve_it_was_given():
    chart = curve_chart("PSNR", {"training": ((0, 10.0), (50, 15.0), (100, 20.0))})
    assert chart is not None
    (x0, y0), (x1, y1), (x2, y2) = chart.lines[0].points
    assert x1 == pytest.approx((x0 + x2) / 2) and y1 == pytest.approx((y0 + y2) / 2)
    assert y2 < y0 and x2 > x0  # up and to the right
    svg = environment().get_template("charts.html").module.curves(chart)
    drawn = [tuple(map(float, p.split(","))) for p in re.findall(r'points="([^"]+)"', svg)[0].split()]
    assert drawn == pytest.approx([pytest.approx(p, abs=0.06) for p in chart.lines[0].points])


def test_a_curve_needs_two_finite_points():
    assert curve_chart("x", {"a": ((0, math.nan), (1, 2.0))}) is None
    assert curve_chart("x", {"a": ((0, -1.0), (1, 2.0))}, log=True) is None


def test_curves_of_one_chart_share_their_axes():
    chart = curve_chart("x", {"long": ((0, 1.0), (100, 2.0)), "short": ((50, 2.0), (100, 1.0))})
    assert chart is not None
    long, brief = (line.points for line in chart.lines)
    assert brief[0][0] == pytest.approx((long[0][0] + long[1][0]) / 2)
    assert brief[0][1] == pytest.approx(long[1][1]) and brief[1] == pytest.approx((long[1][0], long[0][1]))


def test_ticks_lie_where_a_value_of_their_label_would():
    chart = curve_chart("x", {"a": ((0, 10.0), (100, 20.0))}, log=True)
    assert chart is not None
    (_, y0), (_, y1) = chart.lines[0].points
    assert {t.label: t.at for t in chart.y_ticks} == {"10": pytest.approx(y0), "20": pytest.approx(y1)}


def test_long_curves_are_thinned_but_keep_their_end():
    chart = curve_chart("Loss", {"training": tuple((s, 1.0 + s) for s in range(10_000))}, log=True)
    assert chart is not None and len(chart.lines[0].points) <= 240
    assert chart.lines[0].title.endswith("at step 9,999")


def test_bars_are_as_long_as_their_stages():
    bars = stage_bars({"poses": 50.0, "train": 200.0, "total": 260.0})
    assert bars is not None and [b.percent for b in bars.bars] == [25.0, 100.0] and bars.total == 260.0
    assert stage_bars({"a": 1.0, "b": 2.0}).total == 3.0 and stage_bars({"total": 3.0}) is None


def test_the_map_keeps_the_shape_of_a_ring_of_cameras():
    eight = ring([i * 45.0 for i in range(8)])
    drawn = camera_map(ReportData("t", (8, 8), capture=eight))
    assert drawn is not None and len(drawn.cameras) == 8
    eyes = torch.tensor([c.corners[0] for c in drawn.cameras])
    radii = (eyes - eyes.mean(0)).norm(dim=1)
    assert float(radii.max() / radii.min()) < 1.01
    middles = torch.tensor([c.corners[1:] for c in drawn.cameras]).mean(1)  # of the triangles' far sides
    assert bool(((middles - eyes.mean(0)).norm(dim=1) < radii).all()), "they look inward"
    assert all(0 < x < drawn.width and 0 < y < drawn.height for x, y in eyes.tolist())


def test_cameras_are_shaded_from_the_lowest_psnr_to_the_highest():
    capture = ring([0.0, 90.0, 180.0, 270.0])
    scores = tuple(ViewScore(f"{i:02d}.jpg", "train", p) for i, p in enumerate([20.0, 30.0, math.inf]))
    drawn = camera_map(ReportData("t", (4, 4), views=scores, capture=capture))
    assert drawn is not None and drawn.psnr_range == (20.0, 30.0)
    assert [c.shade for c in drawn.cameras] == [0, 100, None, None]
    assert camera_map(ReportData("t", (0, 0))) is None and camera_map(full()) is not None


def test_numbers_are_short_and_durations_plain():
    assert [short(v) for v in (1234567, 25300, 412, 24.06, 0.0312, 0)] == [
        "1.23M",
        "25.3k",
        "412",
        "24.1",
        "0.031",
        "0",
    ]
    assert [duration(s) for s in (3.21, 59.6, 75, 3723)] == ["3.2 s", "1 min 0 s", "1 min 15 s", "1 h 2 min"]
