"""What an initializer may ask about the photos, as the settings say."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from splat.core.capture import Capture
from splat.core.slots import DepthPrior, Priors
from splat.ingest.depth_files import find_depth_files
from splat.priors import (
    AlignedDepth,
    DepthAnything,
    DepthFiles,
    FlowMatcher,
    GroundedDepth,
    MatchedDepth,
    RomaMatcher,
    Stereo,
    StereoMatcher,
)
from splat.run.folder import fingerprint

ANYTHING = "anything"
"""In the place of a folder of depth maps: a network predicts them."""


@dataclass(frozen=True)
class PriorSettings:
    """The flags --matcher, --stereo, --flow and --roma, and what --depth found."""

    matcher: Literal["stereo", "flow", "roma"] = "stereo"
    stereo: Stereo = field(default_factory=Stereo)
    flow: FlowMatcher = field(default_factory=FlowMatcher)
    roma: RomaMatcher = field(default_factory=RomaMatcher)
    depth: DepthFiles | DepthAnything | None = None
    """Depth that stands in where matching is in doubt."""
    min_right: float = 0.5
    """See `AlignedDepth`."""
    ground: bool = False
    """See `GroundedDepth`."""

    @property
    def matching_size(self) -> int:
        """Long side in px at which the chosen matcher was told to work; 0: it is left open."""
        return self.flow.matching_size if self.matcher == "flow" else 0

    def priors(self, size: int) -> Priors:
        """Dense depth and matches of photos matched at `size` px (0: left open, as in a stage's key)."""
        if self.matcher == "stereo":
            return Priors(self._aligned(self.stereo), StereoMatcher(self.stereo, size))
        if self.matcher == "flow":
            flow = replace(self.flow, matching_size=self.flow.matching_size or size)
            return Priors(self._aligned(MatchedDepth(flow)), flow)
        return Priors(self._aligned(MatchedDepth(self.roma)), self.roma)

    def _aligned(self, matched: DepthPrior) -> DepthPrior:
        if self.ground:
            matched = GroundedDepth(matched)
        return matched if self.depth is None else AlignedDepth(matched, self.depth, self.min_right)

    def for_key(self) -> PriorSettings:
        """The same without the places of files, whose contents count."""
        return replace(self, depth=self.depth.without_places()) if isinstance(self.depth, DepthFiles) else self

    def on(self, device: str) -> PriorSettings:
        """The same, with learned priors where everything else runs unless they were told otherwise."""
        settings = self
        if self.roma.device == "auto":
            settings = replace(settings, roma=replace(self.roma, device=device))
        if isinstance(self.depth, DepthAnything) and self.depth.device == "auto":
            settings = replace(settings, depth=replace(self.depth, device=device))
        return settings


def depth_source(
    folder: Path | None,
    photos: Path,
    kind: Literal["auto", "depth", "disparity"],
    anything: DepthAnything,
    capture: Capture,
) -> DepthFiles | DepthAnything | None:
    """What --depth asks for. `folder`: of maps, itself or inside `photos`; or `ANYTHING`.

    Raises SplatError where no map belongs to a photo, or the network cannot run.
    """
    if folder is None:
        return None
    if folder == Path(ANYTHING):
        anything.check()
        return anything
    files = find_depth_files(next((f for f in (folder, photos / folder) if f.is_dir()), folder), capture)
    return DepthFiles(tuple(sorted(files.items())), kind, fingerprint(files.items()))
