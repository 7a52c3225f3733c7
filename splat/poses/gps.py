"""GPS positions of photos in a local metric frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from splat.core.capture import View


def enu_positions(views: Sequence[View]) -> np.ndarray:
    """float64 [n 3]: east, north, up in metres from the first of n views, all of which have a GPS position (WGS84)."""
    import pycolmap

    positions = np.array([v.gps for v in views], dtype=np.float64).reshape(-1, 3)
    if not len(positions):
        return positions
    return pycolmap.GPSTransform(pycolmap.GPSTransformEllipsoid.WGS84).ellipsoid_to_enu(positions, *positions[0])
