"""Depth and dense correspondence of posed photos. The defaults need no learned weights."""

from splat.priors.matched_depth import MatchedDepth
from splat.priors.matching import FlowMatcher, StereoMatcher
from splat.priors.roma import RomaMatcher
from splat.priors.stereo import Stereo

__all__ = ["FlowMatcher", "MatchedDepth", "RomaMatcher", "Stereo", "StereoMatcher"]
