"""The report: whole, self-contained, escaped, and its advice rests on what happened."""

import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from splat.core.camera import Camera
from splat.core.capture import Capture, PointCloud, Tracks, View
from splat.core.geometry import Rigid
from splat.core.image import write_png
from splat.export.advice import advice, measured_sharpness
from splat.export.report import difference, report_html, write_report
from splat.export.report_charts import curve_chart, duration, short
from splat.export.report_data import ReportData, ViewScore

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Checks that every tag is closed in order, and collects what a reader sees and a browser fetches."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.text: list[str] = []
        self.fetches: list[str] = []
        self.links: list[str] = []
        self.images = 0
        self.feed(html)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.images += tag == "img"
        for key, value in attrs:
            if key in {"src", "srcset", "data"} or (key == "href" and tag == "link"):
                self.fetches.append(value or "")
            elif key == "href":
                self.links.append(value or "")
            assert not key.startswith("on"), "no scripts"
        assert tag not in {"script", "iframe", "object"}
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open and self.open[-1] == tag, f"</{tag}> closes <{self.open[-1:]}>"
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(self.text)


def ring(azimuths: list[float], height: float = 1.0) -> Capture:
    camera = Camera(500.0, 500.0, 320.0, 240.0, 640, 480)
    up, views = torch.tensor([0.0, 0, 1]), []
    for i, degrees in enumerate(azimuths):
        a = math.radians(degrees)
        eye = torch.tensor([3 * math.cos(a), 3 * math.sin(a), height + 0.9 * (i % 2)])
        pose = Rigid.look_at(eye, torch.zeros(3), up)
        views.append(View(f"{i:02d}.jpg", Path("x"), (640, 480), camera, pose, "test" if i % 8 == 7 else "train"))
    return Capture(tuple(views), points=PointCloud(torch.randn(40, 3) * 0.3, torch.rand(40, 3)))


def picture(seed: int, blur: float = 0.0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (48, 64, 3)).astype(np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), blur) if blur else noise


def full() -> ReportData:
    capture = ring([i * 24.0 for i in range(15)])
    scores = tuple(
        ViewScore(v.name, v.role, 30.0 - i / 4, 0.9, 31.0, None, picture(i), picture(i + 50))
        for i, v in enumerate(capture.views)
    )
    return ReportData(
        title="a <b>garden</b> & more",
        registered=(15, 17),
        dropped={'x"><script>.jpg': "only 12 matches <with> others", "99.jpg": "this file cannot be read"},
        warnings=("Resolution lowered to <800> px.",),
        views=scores,
        psnr=27.123,
        ssim=0.8,
        lpips=0.2,
        cc_psnr=28.0,
        method="points",
        num_gaussians=123456,
        seconds={"poses": 61.0, "train": 200.5, "total": 261.5},
        peak_memory_mb=2048,
        resolution=(800, 600),
        photo_size=(4000, 3000),
        loss=tuple((s, 0.3 / (1 + s)) for s in range(0, 3000, 10)),
        train_psnr=tuple((s, 10 + s / 300) for s in range(0, 3000, 10)),
        heldout_psnr=((1000, 15.0), (2990, 18.0)),
        gaussian_counts=((0, 1000), (2990, 123456)),
        capture=capture,
        stills=(("orbit", picture(7)),),
        files=(("the splat", "export/my splat.ply"),),
        settings={"command": "splat reconstruct <photos>", "seed": 0},
    )


def test_the_page_is_well_formed_and_fetches_nothing(tmp_path: Path):
    write_report(tmp_path / "report.html", full())
    page = Page((tmp_path / "report.html").read_text())
    assert page.images > 3
    assert all(f.startswith("data:image/jpeg;base64,") for f in page.fetches)
    assert not re.search(r"url\(|@import|https?://", (tmp_path / "report.html").read_text())
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_every_dropped_photo_warning_and_figure_is_there():
    data, words = full(), Page(report_html(full())).words
    for text in [*data.dropped, *data.dropped.values(), *data.warnings, data.title, "27.12 dB", "123,456", "15 of 17"]:
        assert text in words, text
    for text in ("800 x 600", "4000 x 3000", "4 min 22 s", "2.0 GB", "points", "splat reconstruct <photos>"):
        assert text in words, text
    assert "export/my%20splat.ply" in Page(report_html(data)).links


def test_text_of_the_run_cannot_become_markup():
    assert "<script" not in report_html(full()) and "<b>garden" not in report_html(full())


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


def test_the_difference_is_black_where_equal_and_bright_where_far_off():
    a = np.full((4, 4, 3), 100, np.uint8)
    b = a.copy()
    b[0, 0] = 200
    d = difference(a, b).astype(int)
    assert d[2, 2].sum() < 10 and d[0, 0].sum() > 400


# ------------------------------------------------------------------------------------------------------------- advice


def todo(data: ReportData) -> str:
    return "\n".join(f"{a.todo} | {a.because}" for a in advice(data))


EVEN = [i * 24.0 for i in range(15)]


def test_a_good_capture_gets_no_advice():
    capture = ring(EVEN)
    scores = tuple(ViewScore(v.name, v.role, 30.0, photo=picture(i)) for i, v in enumerate(capture.views))
    data = ReportData("t", (15, 15), views=scores, capture=capture, resolution=(800, 600), photo_size=(800, 600))
    assert advice(data) == []
    assert "Nothing stands out" in Page(report_html(data)).words


def test_a_side_without_photos_is_named_by_its_neighbours():
    text = todo(ReportData("t", (12, 12), capture=ring([i * 24.0 for i in range(12)])))  # 264 degrees, 96 open
    assert "96 degrees" in text and "00.jpg" in text and "11.jpg" in text
    text = todo(ReportData("t", (9, 9), capture=ring([i * 12.0 for i in range(9)])))  # one side only, on purpose
    assert "degrees around" not in text


def test_photos_from_one_height_are_told():
    flat = ring(EVEN)
    level = tuple(
        replace(v, world_from_cam=Rigid.look_at(v.world_from_cam.translation * torch.tensor([1.0, 1, 0]),
                                                torch.zeros(3), torch.tensor([0.0, 0, 1])))
        for v in flat.views if v.world_from_cam is not None
    )  # fmt: skip
    assert "higher or lower" in todo(ReportData("t", (15, 15), capture=flat.with_views(level)))
    assert "higher or lower" not in todo(ReportData("t", (15, 15), capture=flat))


def test_a_dropped_photo_is_bridged_to_its_neighbours_and_a_broken_file_is_not():
    capture = ring(EVEN)
    text = todo(ReportData("t", (15, 17), {"04b.jpg": "12 matches", "09x.jpg": "cannot be read"}, capture=capture))
    assert "from 04.jpg to 05.jpg" in text and "04b.jpg" in text and "09x" not in text


def test_a_weak_held_out_view_asks_for_photos_nearby():
    scores = [ViewScore(f"{i}.jpg", "test", 28.0) for i in range(6)] + [ViewScore("dark corner.jpg", "test", 19.0)]
    text = todo(ReportData("t", (7, 7), views=tuple(scores)))
    assert "close to dark corner.jpg" in text and "19.0 dB there, 28.0 dB" in text


def test_a_photo_of_another_exposure_is_not_called_badly_seen():
    scores = [ViewScore(f"{i}.jpg", "test", 27.0, cc_psnr=32.0) for i in range(6)]
    scores.append(ViewScore("brighter.jpg", "test", 19.0, cc_psnr=32.0))
    scores += [ViewScore(f"t{i}.jpg", "train", 33.0, cc_psnr=34.0) for i in range(6)]
    text = todo(ReportData("t", (13, 13), views=tuple(scores)))
    assert "close to" not in text and "is guessed" not in text
    assert "Lock exposure" in text and "that costs 6.1 dB" in text


def test_a_blurred_photo_is_found_among_sharp_ones():
    scores = [ViewScore(f"{i}.jpg", "train", 28.0, photo=picture(i)) for i in range(8)]
    scores.append(ViewScore("shaken.jpg", "train", 28.0, photo=picture(9, blur=2.0)))
    data = ReportData("t", (9, 9), views=tuple(scores))
    sharpness = measured_sharpness(data)
    assert sharpness["shaken.jpg"] < 0.35 * min(s for n, s in sharpness.items() if n != "shaken.jpg")
    assert "shaken.jpg" in todo(data) and "holding still" in todo(data)


@pytest.mark.parametrize(("span", "told"), [(0.4, False), (2.5, True)])
def test_exposure_that_drifts_is_told_in_stops(span: float, told: bool):
    data = ReportData("t", (3, 3), exposure_ev={"a": 0.0, "b": span, "c": 0.1})
    assert ("2.5 stops between a" in todo(data)) == told == ("Lock exposure" in todo(data))


def test_points_seen_by_two_photos_only_ask_for_overlap():
    def tracks(per_point: int) -> Tracks:
        m = 50 * per_point
        return Tracks(torch.arange(m) % per_point, torch.arange(m) // per_point, torch.zeros(m, 2))

    capture = ring(EVEN)
    assert "100 % of the points" in todo(ReportData("t", (15, 15), capture=replace(capture, tracks=tracks(2))))
    assert "overlap" not in todo(ReportData("t", (15, 15), capture=replace(capture, tracks=tracks(3))))


def test_photos_learned_by_heart_ask_for_more_photos():
    scores = tuple(ViewScore(f"{r}{i}", r, p) for r, p in (("train", 34.0), ("test", 21.0)) for i in range(3))
    assert "34.0 dB, photos it never saw at 21.0 dB" in todo(ReportData("t", (6, 6), views=scores))


# ------------------------------------------------------------------------------------------------------------- charts


def test_a_chart_draws_the_curve_it_was_given():
    svg = curve_chart("PSNR", {"training": ((0, 10.0), (50, 15.0), (100, 20.0))})
    points = [tuple(map(float, p.split(","))) for p in re.findall(r'points="([^"]+)"', svg)[0].split()]
    assert len(points) == 3
    (x0, y0), (x1, y1), (x2, y2) = points
    assert x1 == pytest.approx((x0 + x2) / 2, abs=0.1) and y1 == pytest.approx((y0 + y2) / 2, abs=0.1)
    assert y2 < y0 and x2 > x0  # up and to the right
    assert "NaN" not in svg and curve_chart("x", {"a": ((0, math.nan), (1, 2.0))}) == ""


def test_long_curves_are_thinned_but_keep_their_end():
    svg = curve_chart("Loss", {"training": tuple((s, 1.0 + s) for s in range(10_000))}, log=True)
    assert svg.count(",") < 700 and "10,000" not in svg and "at step 9,999" in svg


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
