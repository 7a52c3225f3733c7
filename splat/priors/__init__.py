"""What is known about a scene besides its photos: depth, correspondence, normals. Weightless ones are the default."""

from splat.priors.matched_depth import MatchedDepth
from splat.priors.matching import FlowMatcher, StereoMatcher
from splat.priors.roma import RomaMatcher
from splat.priors.stereo import Stereo

MATCHERS = {"stereo": StereoMatcher, "flow": FlowMatcher, "roma": RomaMatcher}
"""Name -> a frozen dataclass of settings whose instances are `slots.DenseMatcher`s."""

__all__ = ["MATCHERS", "FlowMatcher", "MatchedDepth", "RomaMatcher", "Stereo", "StereoMatcher"]
