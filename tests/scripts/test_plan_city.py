"""The plan of a city from numbers alone: photos that look where they should, and a division that fits."""

import argparse
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def plan_city() -> ModuleType:
    spec = importlib.util.spec_from_file_location("plan_city", ROOT / "scripts" / "plan_city.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["plan_city"] = module  # its dataclass looks itself up there
    spec.loader.exec_module(module)
    return module


def arguments(**changes: object) -> argparse.Namespace:
    settings = {"preset": "fast", "method": "points", "memory": 1.0, "cores": 2, "workers": 3, "blocks": "auto"}
    return argparse.Namespace(**(settings | {"gaussians": 2_000_000, "overlap": 0.2} | changes))


def test_a_small_town_is_divided_to_fit(plan_city: ModuleType) -> None:
    found, lines = plan_city.plan(plan_city.City(300, 400, 300), arguments())
    assert len(found.blocks) >= 3 and found.peak <= 1.0e9
    assert sum(b.core_points for b in found.blocks) == found.points
    assert sum(b.cap for b in found.blocks) > 2_000_000, "blocks overlap"
    text = "\n".join(lines)
    assert "tasks" in text and "GB" in text and " h on 3 workers" in text
    found, lines = plan_city.plan(plan_city.City(300, 400, 300), arguments(memory=64.0))
    assert found is None and "one block" in lines[-1]


def test_photos_of_the_flight_see_the_ground_below_them(plan_city: ModuleType) -> None:
    capture = plan_city.City(100, 400, 300).capture()
    assert len(capture.views) == 100 and capture.tracks is not None and capture.points is not None
    down = capture.views[50]
    seen = capture.points.positions[capture.tracks.point_ids[capture.tracks.view_ids == 50]]
    assert len(seen) > 5
    assert (seen[:, [0, 2]].double().mean(0) - down.pose.translation[[0, 2]]).norm() < 0.5
