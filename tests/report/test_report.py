"""The page: whole, self-contained, and everything known is on it."""

import math
import re
from dataclasses import replace
from pathlib import Path

from report_samples import Page, full, picture, ring

from splat.core.image import write_png
from splat.report import ReportData, ViewScore, write_report
from splat.report.report import report_html


def test_the_page_is_well_formed_and_fetches_nothing(tmp_path: Path):
    write_report(tmp_path / "report.html", full())
    page = Page((tmp_path / "report.html").read_text())
    assert page.images > 3
    assert all(f.startswith("data:image/jpeg;base64,") for f in page.fetches)
    assert not re.search(r"url\(|@import|https?://", (tmp_path / "report.html").read_text())
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_every_unregistered_photo_warning_and_figure_is_there():
    data, words = full(), Page(report_html(full())).words
    for text in [
        *data.unregistered,
        *data.unregistered.values(),
        *data.warnings,
        data.title,
        "27.12 dB",
        "123,456",
        "15 of 17",
    ]:
        assert text in words, text
    for text in (
        "ST-LPIPS, held-out photos",
        "800 x 600",
        "4000 x 3000",
        "4 min 22 s",
        "2.0 GB",
        "points",
        "splat reconstruct <photos>",
    ):
        assert text in words, text
    assert "export/my%20splat.ply" in Page(report_html(data)).links


def test_held_out_photos_come_worst_first():
    scores = tuple(ViewScore(f"v{i}", "test", p) for i, p in enumerate([31.0, 18.5, 25.0]))
    words = Page(report_html(ReportData("t", (3, 3), views=scores))).words
    assert words.index("v1") < words.index("v2") < words.index("v0")


def test_many_photos_are_all_listed_though_not_all_pictured():
    scores = tuple(
        ViewScore(f"name{i:03d}", "test", 20.0 + i / 10, photo=picture(0), render=picture(1)) for i in range(90)
    )
    page = Page(report_html(ReportData("t", (90, 90), views=scores)))
    assert all(f"name{i:03d}" in page.words for i in range(90)) and page.images == 3 * 48


def test_almost_nothing_known_is_still_a_page():
    page = Page(report_html(ReportData("empty", (0, 0))))
    assert "0 of 0" in page.words and page.images == 0
    Page(report_html(replace(full(), capture=None, views=(), loss=(), seconds={})))
    one = replace(full(), capture=ring([0.0]), views=(ViewScore("00.jpg", "test", math.inf),))
    assert "exact" in Page(report_html(one)).words


def test_a_picture_that_is_gone_costs_only_itself(tmp_path: Path):
    write_png(tmp_path / "a.png", picture(3))
    scores = (
        ViewScore("a", "test", 20.0, photo=tmp_path / "a.png", render=tmp_path / "a.png"),
        ViewScore("b", "test", 21.0, photo=tmp_path / "gone.png", render=tmp_path / "a.png"),
    )
    page = Page(report_html(ReportData("t", (2, 2), views=scores)))
    assert page.images == 3 and "b" in page.words


def test_a_file_name_that_is_not_unicode_does_not_cost_the_page(tmp_path: Path):
    name = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    write_report(tmp_path / "report.html", ReportData("t", (0, 1), unregistered={name: "cannot be read"}))
    assert "caf?.jpg" in Page((tmp_path / "report.html").read_text(encoding="utf-8")).words
