"""Capture -> posed Capture: `Known` uses the poses of the dataset, `Sfm` finds them by structure from motion."""

from splat.poses.known import Known
from splat.poses.sfm import Sfm

__all__ = ["Known", "Sfm"]
