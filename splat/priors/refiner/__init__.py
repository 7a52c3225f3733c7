"""Refiners: renders of cameras between the photos, corrected so that training may take them as targets."""

from splat.priors.refiner.feedback import FeedbackWeight
from splat.priors.refiner.scene_refiner import FittedRefiner, SceneRefiner

__all__ = ["FeedbackWeight", "FittedRefiner", "SceneRefiner"]
