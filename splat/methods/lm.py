"""LM-Gaussian (Yu et al. 2024), improved: depth and normal priors, background, and views between the photos.

First Gaussians are those of `coherent` (few photos) or `edgs`, with far background and sky behind them. Training has
the published losses: depth that correlates with that of the photos' depth maps, over the image and in patches, normals,
and targets for cameras between neighbouring photos: renders of the first points and, where a refiner is asked for,
later renders of the scene that it has corrected. The published refiner is a diffusion model; ours, a small network,
comes with the package.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar, Literal

from splat.core.capture import Capture
from splat.core.errors import SplatError
from splat.core.slots import Init, Initializer, InitPlan, Phase
from splat.geometry.reproject import posed_depths
from splat.init.background import BackgroundSurfaces
from splat.init.dense_surfaces import initial_budget
from splat.losses import Losses
from splat.methods.coherent import Coherent
from splat.methods.edgs import DEFAULTS as EDGS
from splat.priors.diffusion_refiner import DiffusionRefiner
from splat.priors.refiner import FeedbackWeight, SceneRefiner
from splat.train.point_views import Cloud, PointSource, PointViews, point_items
from splat.train.refined_views import RefinedSource, RefinedViews, with_refined_views
from splat.train.views import PhotoSource
from splat.train.virtual_views import VirtualViews


@dataclass(frozen=True)
class Layout:
    """Weights and schedule of one of the two published settings."""

    l1: float = 0.8
    dssim: float = 0.2
    pearson: float = 0.1
    pearson_patches: float = 0.1
    pearson_patch: int = 128
    normal_l1: float = 0.01
    normal_cosine: float = 0.01
    point_views: float = 0.6
    """Weight of renders of points."""
    rounds: tuple[int, ...] = (12_000, 18_000, 24_000, 30_000)
    """Steps at which the first stage, and each round of refinement, ends."""

    @property
    def first_stage(self) -> float:
        """Share of the steps."""
        return self.rounds[0] / self.rounds[-1]


LAYOUTS: dict[str, Layout] = {"360": Layout(), "forward": Layout(point_views=0.3, rounds=(3_000, 9_000, 12_000))}
"""Photos around a scene, and a few before it."""
_MIN_SIZE = 16
"""Of targets between the photos, px."""


@dataclass(frozen=True)
class Lm(Coherent):
    """Method `lm`: priors of depth and normals, background, and renders of points between the photos."""

    name: ClassVar[str] = "lm"
    wants_depth: ClassVar[bool] = True
    """Of the depth priors that nobody asked for, the first that can run here is used."""
    prior_losses: ClassVar[tuple[str, ...]] = ("pearson", "pearson_patches")
    """Losses that are off without such a prior: the depth of matching is metric, and where it is weak they let
    Gaussians grow that hide the scene (eight photos of kermit, fast: 20.3 dB without, 18.0 with)."""
    summary: ClassVar[str] = "depth and normal priors, background, and views between the photos (LM-Gaussian)"

    init: BackgroundSurfaces = field(default_factory=BackgroundSurfaces)
    """The first Gaussians."""
    layout: Literal["360", "forward"] = "360"
    """Published weights and schedule: 360 for photos around a scene, forward for a few before it."""
    points: PointViews = field(default_factory=PointViews)
    """Renders of the first points as targets between the photos."""
    virtual: VirtualViews = field(default_factory=lambda: VirtualViews(every=0))
    """Photos warped to cameras between them as targets (`coherent`); off unless `every` is above 0."""
    refiner: Literal["scene", "diffusion", "none"] = "none"
    """What corrects renders between the photos, to be targets of the rest of the run: scene (a small network that
    learns from this scene's photos; on captures it has not paid so far), diffusion (Stable Diffusion with the tile
    ControlNet, as published; needs weights), none."""
    refined: RefinedViews = field(default_factory=RefinedViews)
    """Corrected renders as targets."""
    scene: SceneRefiner = field(default_factory=SceneRefiner)
    """The small network."""
    diffusion: DiffusionRefiner = field(default_factory=DiffusionRefiner)
    """The published one."""
    feedback: FeedbackWeight = field(default_factory=FeedbackWeight)
    """What each pixel of a corrected render counts."""
    max_bound_photos: int = 4
    """Up to so many training photos Gaussians slide along rays first, as in `coherent`; with more they are free."""

    def defaults(self, preset: str) -> Mapping[str, Any]:
        published = LAYOUTS[self.layout]
        names = ("l1", "dssim", "pearson", "pearson_patches", "pearson_patch", "normal_l1", "normal_cosine")
        return {**EDGS, **{f"losses.{n}": getattr(published, n) for n in names}}

    def record(self) -> dict[str, Any]:
        """What `config.json` says of the published setting beside the settings of the run."""
        published = {"strength": self.diffusion.strength, "control": self.diffusion.control}
        return {"layout": self.layout, **asdict(LAYOUTS[self.layout]), **published, "refiner": self.refiner}

    def check(self) -> None:
        for flag, value, lowest in (
            ("points.per-pair", self.points.per_pair, 2),
            ("points.size", self.points.size, _MIN_SIZE),
            ("points.max-views", self.points.max_views, 1),
            ("refined.per-pair", self.refined.per_pair, 2),
            ("refined.size", self.refined.size, _MIN_SIZE),
            ("refined.max-views", self.refined.max_views, 1),
            ("refined.left-out.scenes", self.refined.left_out.scenes, 1),
            ("scene.recipe.steps", self.scene.recipe.steps, 1),
            ("scene.recipe.batch", self.scene.recipe.batch, 1),
            ("scene.recipe.crop", self.scene.recipe.crop, _MIN_SIZE),
            ("feedback.max-change", self.feedback.max_change, 1 / 255),
            ("diffusion.steps", self.diffusion.steps, 1),
            ("diffusion.rank", self.diffusion.rank, 1),
            ("diffusion.fit-steps", self.diffusion.fit_steps, 1),
            ("diffusion.crop", self.diffusion.crop, 64),
        ):
            if not value >= lowest:
                raise SplatError(f"--lm.{flag} {value} is too low: give at least {lowest:.3g}.")
        if not 0 < self.diffusion.strength <= 1:
            raise SplatError(
                f"--lm.diffusion.strength {self.diffusion.strength} is a share: give more than 0, at most 1."
            )

    def few(self, capture: Capture) -> bool:
        """Whether Gaussians are bound to rays first."""
        return len(capture.train_views) <= self.max_bound_photos

    def max_gaussians(self, capture: Capture) -> int | None:
        """As in `coherent` with few photos, else that of the preset."""
        return super().max_gaussians(capture) if self.few(capture) else None

    def first_count(self, capture: Capture, max_gaussians: int) -> int:
        if self.few(capture):
            return super().first_count(capture, max_gaussians)
        return initial_budget(capture, max_gaussians)

    def initializer(self, capture: Capture, plan: InitPlan | None = None) -> Initializer:
        found = super().initializer(capture, plan)
        assert isinstance(found, BackgroundSurfaces)
        along = self.few(capture) if found.along_rays is None else found.along_rays
        return replace(found, along_rays=along, keep_points=0.0 if along else found.keep_points)

    def unavailable(self) -> str | None:
        """As `coherent`; and where the refiner that was asked for lacks its weights."""
        if self.refiner == "diffusion":
            try:
                self.diffusion.check()
            except SplatError as e:
                return str(e).removesuffix(".")
        return super().unavailable()

    def training_weights(self) -> str:
        """Those of the refiner."""
        if self.refiner == "none" or not self.refined.every:
            return ""
        return self.scene.sha256() if self.refiner == "scene" else self.diffusion.sha256()

    def _with_refined_views(self, capture: Capture, init: Init, phase: Phase, photos: PhotoSource) -> Phase:
        published = LAYOUTS[self.layout]
        if self.refiner == "none" or not self.refined.every or len(capture.views) < 2:
            return phase
        source = RefinedSource(
            phase.source,
            [items[-1] for items in photos.levels],
            [v.pose for v in capture.views],
            [v.name for v in capture.views],
            self.scene.start(photos.seed) if self.refiner == "scene" else self.diffusion.start(),
            self.feedback,
            replace(self.refined, weight=_over_l1(self.refined.weight, phase)),
            photos.seed,
        )
        rounds = [step / published.rounds[-1] for step in published.rounds[:-1]]
        return with_refined_views(phase, source, init, phase.steps, rounds)

    def _with_virtual_views(self, capture: Capture, init: Init, phase: Phase) -> Phase:
        photos = phase.source
        phase = super()._with_virtual_views(capture, init, phase)
        if not isinstance(photos, PhotoSource):
            return phase
        phase = self._with_point_views(capture, init, phase, photos)
        return self._with_refined_views(capture, init, phase, photos)

    def _with_point_views(self, capture: Capture, init: Init, phase: Phase, photos: PhotoSource) -> Phase:
        published = LAYOUTS[self.layout]
        weight = published.point_views if self.points.weight is None else self.points.weight
        if not self.points.every or weight <= 0 or len(capture.views) < 2:
            return phase
        until = published.first_stage if self.points.until is None else self.points.until
        finest = [items[-1] for items in photos.levels]
        depths = posed_depths(capture.views, init.depths)
        cloud = Cloud.of_depths(depths, finest, self.points.size) if depths else Cloud.of_gaussians(init.gaussians)
        items = point_items(
            cloud,
            [i.camera for i in finest],
            [v.pose for v in capture.views],
            self.points,
            _over_l1(weight, phase),
            finest[0].rgb.device,
        )
        last = round(until * phase.steps)
        return replace(phase, source=PointSource(phase.source, items, self.points.every, last, photos.seed))


def _over_l1(weight: float, phase: Phase) -> float:
    """The weight of an item that is compared by L1 alone, which the weight of L1 among the losses is not to change."""
    l1 = phase.losses.l1 if isinstance(phase.losses, Losses) else 1.0
    return weight / l1 if l1 > 0 else 0.0
