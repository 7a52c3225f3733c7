"""What is seen of a run where there is no terminal."""

from __future__ import annotations

import pytest

from splat.run import console
from splat.run.console import Console


class Clock:
    """Stands for `time`: goes on when it is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


def test_the_time_left_is_that_of_what_remains_at_the_speed_so_far(monkeypatch, capsys: pytest.CaptureFixture):
    clock = Clock()
    monkeypatch.setattr(console, "time", clock)
    with Console() as report:
        report.begin("train")
        clock.now += 20
        report.progress(100, 400, psnr=21.5)
        clock.now += 40
        report.progress(300, 400, psnr=22.5)
        clock.now += 20
        report.progress(400, 400, psnr=23.5)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "  train 100/400 psnr=21.5 (20 s, 60 s left)",
        "  train 300/400 psnr=22.5 (60 s, 20 s left)",
        "  train 400/400 psnr=23.5 (80 s)",
    ]
