"""The measures of enhanced flights: what is steady counts as steady, what flickers by as much as it does."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from flights import flight
from scripted import script


@pytest.fixture(scope="module")
def gain() -> ModuleType:
    return script("enhance_gain")


def test_flicker_is_how_much_consecutive_frames_differ_and_warping_adds_little(gain: ModuleType) -> None:
    frames = flight(5)
    steady = gain.flicker(frames, [f.rgb for f in frames])
    blinking = gain.flicker(frames, [0.9 * f.rgb + 0.05 * (i % 2) for i, f in enumerate(frames)])
    assert steady[1] < steady[0] < 1.5
    assert blinking[1] == pytest.approx(0.05 * 255, rel=0.05) and blinking[0] >= blinking[1]


def test_sharpness_falls_when_a_picture_is_blurred(gain: ModuleType) -> None:
    sharp = flight(1)[0].rgb
    soft = torch.nn.functional.avg_pool2d(sharp.permute(2, 0, 1)[None], 3, 1, 1)[0].permute(1, 2, 0)
    assert gain.sharpness([soft]) < gain.sharpness([sharp])


def test_the_table_has_a_row_for_each_run_and_names_the_metric(gain: ModuleType) -> None:
    both = {f"{k}_{which}": 1.0 for which in ("plain", "enhanced") for k in ("psnr", "ssim", "lpips", "sharpness")}
    both |= {f"{k}_{which}": 1.0 for which in ("plain", "enhanced") for k in ("flicker", "coarse_flicker")}
    row = {"size": 480, "photos": 8, "views": 3, "worst_gain": -0.25, "seconds_per_frame": 1.0}
    text = gain.table({"a": row | both | {"lpips_variant": "stlpips-alex"}})
    assert "| a | 8 | 3 | 480 | 1.00 -> 1.00 | +0.000 | -0.250 |" in text and "ST-LPIPS" in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1 and len(lines) == 3
