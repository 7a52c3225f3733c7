"""Estimates grow with the work, and a run is made to fit."""

from dataclasses import fields
from pathlib import Path

import pytest

from splat.core.camera import Camera
from splat.core.capture import Capture, View
from splat.core.machine import available_memory_gb
from splat.core.slots import MatchingRequest
from splat.stages import forecast
from splat.stages.forecast import MATCHING_SHARE, Limits, Matching, fit_memory
from splat.stages.memory import BYTES_BASE, BYTES_LEFT_OF_POSES, training_bytes
from splat.stages.timing import PLANNING, REFERENCE_SPEED, Speed, estimate


def _capture(n: int, width: int, height: int) -> Capture:
    camera = Camera(float(width), float(width), width / 2, height / 2, width, height)
    return Capture(tuple(View(f"{i}.jpg", Path(f"{i}.jpg"), (width, height), camera) for i in range(n)))


def plan_matching(
    capture: Capture,
    iterations: int,
    cap: int,
    memory: float = 64.0,
    size: int = 0,
    photos: int = 0,
) -> Matching:
    limits = Limits("default", iterations, 800, memory=memory, threads=2)
    return forecast.plan_matching(capture, limits, cap, MatchingRequest(size, 640, photos))


def test_more_work_is_expected_to_take_longer_and_more_memory() -> None:
    small, large = _capture(10, 400, 300), _capture(10, 800, 600)
    assert estimate(large, 1000, 50_000, False).minutes > estimate(small, 1000, 50_000, False).minutes
    assert estimate(small, 2000, 50_000, False).minutes > estimate(small, 1000, 50_000, False).minutes
    assert estimate(small, 1000, 500_000, False).gigabytes > estimate(small, 1000, 50_000, False).gigabytes
    assert estimate(small, 1000, 50_000, True).minutes > estimate(small, 1000, 50_000, False).minutes


def test_what_fits_is_left_alone() -> None:
    fit = fit_memory(_capture(10, 800, 600), 100_000, budget_gb=8.0)
    assert not fit.changed and fit.cap == 100_000 and fit.max_resolution == 800


def test_counts_go_down_before_resolution_and_the_result_fits() -> None:
    capture = _capture(200, 1600, 1200)
    fit = fit_memory(capture, 1_000_000, budget_gb=4.0)
    assert fit.changed and fit.cap < 1_000_000 and fit.max_resolution == 1600
    tight = fit_memory(capture, 1_000_000, budget_gb=1.5)
    assert tight.max_resolution < 1600
    training = training_bytes(capture.resized(tight.max_resolution), tight.cap)
    assert BYTES_BASE + BYTES_LEFT_OF_POSES + training <= 1.5e9


def test_free_memory_is_known_here_and_sane() -> None:
    free = available_memory_gb()
    assert free is None or 0 < free < 1e5


def _share(capture: Capture, planned: Matching) -> float:
    """Of a run of 6000 steps up to 100,000 Gaussians, by the seconds that sizes are planned with."""
    matching = PLANNING.matched_pixel * planned.pixels
    return matching / (matching + PLANNING.training(capture, 6000, 100_000, 2))


def test_matching_takes_at_most_its_share_of_the_run() -> None:
    few, many = _capture(8, 800, 600), _capture(150, 800, 600)
    assert plan_matching(few, 6000, 100_000).size == 640
    planned = plan_matching(many, 6000, 100_000)
    assert 240 < planned.size < 640 and _share(many, planned) <= MATCHING_SHARE
    assert planned.photos == 150
    assert plan_matching(many, 12_000, 100_000).size > planned.size


def test_of_very_many_photos_some_are_matched() -> None:
    thousands = _capture(2000, 800, 600)
    planned = plan_matching(thousands, 6000, 100_000)
    assert planned.size == 240 and 24 < planned.photos < 2000 and _share(thousands, planned) <= MATCHING_SHARE
    asked = plan_matching(thousands, 6000, 100_000, photos=50)
    assert asked.photos == 50 and asked.size > 240 and _share(thousands, asked) <= MATCHING_SHARE


def test_photos_are_matched_at_the_same_size_whatever_the_forecast_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a better forecast would change what the same command makes."""
    banana = _capture(12, 480, 319)
    limits = Limits("fast", 1500, 480, memory=64.0, threads=1)
    asked = forecast.plan_matching(banana, limits, 36_748, MatchingRequest(0, 640, 0))
    assert (asked.size, asked.photos) == (385, 12)
    slow = Speed(**{f.name: 10 * getattr(REFERENCE_SPEED, f.name) for f in fields(Speed)})
    monkeypatch.setattr(forecast, "REFERENCE_SPEED", slow)
    again = forecast.plan_matching(banana, limits, 36_748, MatchingRequest(0, 640, 0))
    assert again.size == asked.size and again.seconds == pytest.approx(10 * asked.seconds)


def test_matching_keeps_to_the_memory_there_is_and_to_what_was_asked_for() -> None:
    many = _capture(300, 800, 600)
    assert plan_matching(many, 30_000, 100_000, memory=2.0).gigabytes <= 2.0
    sized = plan_matching(many, 1, 1000, memory=0.1, size=500)
    assert (sized.size, sized.photos) == (500, 300)
    least = plan_matching(many, 1, 1000, memory=0.1)
    assert (least.size, least.photos) == (240, 24)
