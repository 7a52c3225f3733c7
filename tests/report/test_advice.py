"""Advice rests on what happened in the run."""

from dataclasses import replace

import pytest
import torch
from report_samples import Page, picture, ring

from splat.core.capture import Tracks
from splat.core.geometry import Rigid
from splat.report import ReportData, ViewScore
from splat.report.advice import advice, measured_sharpness
from splat.report.report import report_html


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


@pytest.mark.parametrize("turn", range(0, 360, 45))
def test_a_side_without_photos_is_noticed_wherever_it_lies(turn: int):
    text = todo(ReportData("t", (12, 12), capture=ring([turn + i * 24.0 for i in range(12)])))
    assert "96 degrees" in text and "00.jpg" in text and "11.jpg" in text


def test_photos_from_one_height_are_noticed():
    flat = ring(EVEN)
    level = tuple(
        replace(v, world_from_cam=Rigid.look_at(v.world_from_cam.translation * torch.tensor([1.0, 1, 0]),
                                                torch.zeros(3), torch.tensor([0.0, 0, 1])))
        for v in flat.views if v.world_from_cam is not None
    )  # fmt: skip
    assert "higher or lower" in todo(ReportData("t", (15, 15), capture=flat.with_views(level)))
    assert "higher or lower" not in todo(ReportData("t", (15, 15), capture=flat))


def test_an_unregistered_photo_is_bridged_to_its_neighbours_and_a_broken_file_is_not():
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


@pytest.mark.parametrize(("span", "advised"), [(0.4, False), (2.5, True)])
def test_exposure_that_drifts_is_reported_in_stops(span: float, advised: bool):
    data = ReportData("t", (3, 3), exposure_ev={"a": 0.0, "b": span, "c": 0.1})
    assert ("2.5 stops between a" in todo(data)) == advised == ("Lock exposure" in todo(data))


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
