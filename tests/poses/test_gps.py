"""GPS positions in metres."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from splat.core.camera import Camera
from splat.core.capture import View
from splat.poses.gps import enu_positions


def at(latitude: float, longitude: float, altitude: float) -> View:
    camera = Camera(50.0, 50.0, 20.0, 15.0, 40, 30)
    return View("a", Path("a"), (40, 30), camera, gps=(latitude, longitude, altitude))


def test_positions_are_metres_east_north_and_up_of_the_first() -> None:
    enu = enu_positions([at(-33.85, -70.6, 500.0), at(-33.849, -70.6, 510.0), at(-33.85, -70.599, 490.0)])
    assert enu.dtype == np.float64 and np.abs(enu[0]).max() < 1e-6
    # 0.001 degrees of the meridian and of the parallel, by the radii of curvature of WGS84
    a, e2, s = 6378137.0, 0.00669437999014, math.sin(math.radians(33.85))
    north = math.radians(0.001) * (a * (1 - e2) / (1 - e2 * s * s) ** 1.5 + 500)
    east = math.radians(0.001) * (a / math.sqrt(1 - e2 * s * s) + 500) * math.cos(math.radians(33.85))
    assert enu[1] == pytest.approx((0, north, 10), abs=0.02)
    assert enu[2] == pytest.approx((east, 0, -10), abs=0.02)


def test_no_positions_are_an_empty_array() -> None:
    assert enu_positions([]).shape == (0, 3)
