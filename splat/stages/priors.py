"""What an initializer may ask about the photos, as the settings say."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from splat.core import devices, licences
from splat.core.capture import Capture
from splat.core.errors import SplatError
from splat.core.slots import DepthPrior, Priors
from splat.ingest.depth_files import find_depth_files
from splat.priors import (
    AlignedDepth,
    DepthAnything,
    DepthFiles,
    FlowMatcher,
    GroundedDepth,
    Marigold,
    MatchedDepth,
    PriorCommand,
    RomaMatcher,
    Stereo,
    StereoMatcher,
)
from splat.priors.depth_anything import LICENCE as ANYTHING_LICENCE
from splat.priors.marigold import LICENCE as MARIGOLD_LICENCE
from splat.run.fingerprint import fingerprint

ANYTHING, MARIGOLD = "anything", "marigold"
"""In the place of a folder of depth maps: a network predicts them."""

Learned = DepthFiles | DepthAnything | Marigold | PriorCommand
"""Depth that does not come from matching."""


@dataclass(frozen=True)
class PriorSettings:
    """The flags --matcher, --stereo, --flow and --roma, and what --depth found."""

    matcher: Literal["stereo", "flow", "roma"] = "stereo"
    stereo: Stereo = field(default_factory=Stereo)
    flow: FlowMatcher = field(default_factory=FlowMatcher)
    roma: RomaMatcher = field(default_factory=RomaMatcher)
    depth: Learned | None = None
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
        if isinstance(self.depth, DepthAnything | Marigold) and self.depth.device == "auto":
            settings = replace(settings, depth=replace(self.depth, device=device))
        return settings


def depth_source(
    folder: Path | None,
    photos: Path,
    kind: Literal["auto", "depth", "disparity"],
    anything: DepthAnything,
    capture: Capture,
    marigold: Marigold | None = None,
    command: PriorCommand | None = None,
) -> Learned | None:
    """What --depth, or --prior.command, asks for. `folder`: of maps, itself or inside `photos`; or `ANYTHING` or
    `MARIGOLD`.

    Raises SplatError where no map belongs to a photo, or the network or the program cannot run, or may not.
    """
    if command is not None and command.command:
        if folder is not None:
            raise SplatError("--depth and --prior.command both give depth: leave one of them out.")
        command.check()
        return command
    if folder is None:
        return None
    if folder == Path(ANYTHING):
        anything.check()
        return anything
    if folder == Path(MARIGOLD):
        chosen = marigold or Marigold()
        chosen.check()
        return chosen
    files = find_depth_files(next((f for f in (folder, photos / folder) if f.is_dir()), folder), capture)
    return DepthFiles(tuple(sorted(files.items())), kind, fingerprint(files.items()))


def automatic_depth(anything: DepthAnything, marigold: Marigold) -> tuple[Learned | None, dict[str, str]]:
    """Of the priors that nobody asked for the first that can and may run here, for methods that want one; and why the
    others are not used. Marigold, which also gives normals, comes first on a GPU; on a CPU it takes minutes a photo."""
    skipped: dict[str, str] = {}
    chosen: Learned | None = None
    networks: tuple[tuple[str, DepthAnything | Marigold, str], ...] = (
        ("Marigold", marigold, MARIGOLD_LICENCE),
        ("Depth Anything", anything, ANYTHING_LICENCE),
    )
    if devices.named(marigold.device).type == "cpu":
        networks = networks[::-1]
    for title, prior, licence in networks:
        reason = prior.unavailable()
        if reason is None and not licences.allowed(licence):
            reason = f"--license commercial does not allow {licence}"
        if reason is None and chosen is not None:
            reason = "another one is used"
        if reason is None:
            chosen = prior
        else:
            skipped[title] = reason
    return chosen, skipped
