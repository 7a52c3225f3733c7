"""What an initializer may ask about the photos, as the settings say."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from splat.core.slots import Priors
from splat.priors import FlowMatcher, MatchedDepth, RomaMatcher, Stereo, StereoMatcher


@dataclass(frozen=True)
class PriorSettings:
    """The flags --matcher, --stereo, --flow and --roma."""

    matcher: Literal["stereo", "flow", "roma"] = "stereo"
    stereo: Stereo = field(default_factory=Stereo)
    flow: FlowMatcher = field(default_factory=FlowMatcher)
    roma: RomaMatcher = field(default_factory=RomaMatcher)

    @property
    def matching_size(self) -> int:
        """Long side in px at which the chosen matcher was told to work; 0: it is left open."""
        return self.flow.matching_size if self.matcher == "flow" else 0

    def priors(self, size: int) -> Priors:
        """Dense depth and matches of photos matched at `size` px (0: left open, as in a stage's key)."""
        if self.matcher == "stereo":
            return Priors(self.stereo, StereoMatcher(self.stereo, size))
        if self.matcher == "flow":
            flow = replace(self.flow, matching_size=self.flow.matching_size or size)
            return Priors(MatchedDepth(flow), flow)
        return Priors(MatchedDepth(self.roma), self.roma)

    def on(self, device: str) -> PriorSettings:
        """The same, with learned matchers where everything else runs unless they were told otherwise."""
        if self.roma.device != "auto":
            return self
        return replace(self, roma=replace(self.roma, device=device))
