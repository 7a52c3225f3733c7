"""Capture -> posed Capture: `Known` uses the poses of the dataset, `Sfm` finds them by structure from motion, `Fewer`
reduces what one of them posed to a few training photos."""

from splat.poses.fewer import Fewer
from splat.poses.known import Known
from splat.poses.sfm import Sfm

__all__ = ["Fewer", "Known", "Sfm"]
