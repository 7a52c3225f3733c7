"""Depth and dense correspondence of posed photos, and refiners of renders. The defaults need no learned weights."""

from splat.priors.aligned_depth import AlignedDepth
from splat.priors.depth_anything import DepthAnything
from splat.priors.depth_files import DepthFiles
from splat.priors.diffusion_refiner import DiffusionRefiner
from splat.priors.grounded_depth import GroundedDepth
from splat.priors.marigold import Marigold
from splat.priors.matched_depth import MatchedDepth
from splat.priors.matching import FlowMatcher, StereoMatcher
from splat.priors.prior_command import EstimatedDepth, PriorCommand
from splat.priors.refiner import FeedbackWeight, SceneRefiner
from splat.priors.roma import RomaMatcher
from splat.priors.stereo import Stereo
from splat.priors.video_enhancer import VideoEnhancer

__all__ = [
    "AlignedDepth",
    "DepthAnything",
    "DepthFiles",
    "DiffusionRefiner",
    "EstimatedDepth",
    "FeedbackWeight",
    "FlowMatcher",
    "GroundedDepth",
    "Marigold",
    "MatchedDepth",
    "PriorCommand",
    "RomaMatcher",
    "SceneRefiner",
    "Stereo",
    "StereoMatcher",
    "VideoEnhancer",
]
