"""Targets for cameras between the photos: renders of the scene as it is, corrected by a refiner (the iterative
refinement of LM-Gaussian, Yu et al. 2024).

The refiner learns first which mistakes such renders make, from scenes made without some of the photos
(`left_out.pairs`). Then, and again in later rounds, every camera is rendered and refined anew. A refiner that is of no
use on a photo that it has not seen leaves training as it would have been without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from splat.core.camera import Camera
from splat.core.geometry import Rigid
from splat.core.slots import (
    Hook,
    Init,
    Item,
    Phase,
    RefinedView,
    RenderedView,
    Round,
    Stateful,
    TargetSource,
    ViewRefiner,
)
from splat.geometry.virtual_path import Between, between_photos, nearest_first
from splat.train.left_out import LeftOut, reference_of, refiner_pairs
from splat.train.views import RandomTurns, smaller, target_fields, target_state

Weigh = Callable[[RenderedView, RefinedView, Sequence[Rigid]], Float[Tensor, "h w"]]
"""How much each pixel of a refined render counts, in [0, 1], given `world_from_cam` of the photos."""

_MIN_COUNTING = 0.02
"""Mean weight from which a refined render is used."""


@dataclass(frozen=True)
class RefinedViews:
    """Which refined renders there are, and what they count."""

    every: int = 2
    """A refined render is a target in every so many steps, beside the photo, and then takes as long as it; 0: no
    refiner."""
    per_pair: int = 10
    """Steps of the way between two neighbouring photos."""
    max_views: int = 24
    """Of more cameras than these, so many are taken, spread over all ways."""
    size: int = 252
    """Long side, px, at most."""
    weight: float = 1.0
    """Weight of their L1 error where they count fully."""
    left_out: LeftOut = field(default_factory=LeftOut)
    """The scenes that the refiner learns from."""
    fit_steps: int = 0
    """Steps in which it learns from them; 0: as many as the refiner asks for (scene: 300, diffusion: 1800)."""


class RefinedSource:
    """A `slots.TargetSource`: the items of another one, and a refined render beside them, at random."""

    def __init__(
        self,
        source: TargetSource,
        photos: Sequence[Item],
        poses: Sequence[Rigid],
        names: Sequence[str],
        refiner: ViewRefiner,
        weigh: Weigh,
        settings: RefinedViews,
        seed: int = 0,
    ) -> None:
        """`photos`, `poses` (`world_from_cam`) and `names` of the training views. `settings.weight` is multiplied by
        that of L1 among the losses."""
        self.source, self.poses, self.names, self.weigh, self.settings = (
            source,
            list(poses),
            list(names),
            weigh,
            settings,
        )
        self.photos = [smaller(p, settings.size) for p in photos]
        # A scene is as sharp as the photos that it learns from, and drawn smaller it is another one: thin Gaussians
        # are spread over whole pixels. So what is drawn at once is as large as these, and averaged.
        self.supersample = [max(1, round(p.camera.width / s.camera.width)) for p, s in zip(photos, self.photos)]
        self.refiner, self.fitted = refiner, False
        self.seed = seed
        self.turns = RandomTurns(seed + 4)
        self.refined: list[Item] = []
        self.path = between_photos(self.poses, settings.per_pair, settings.max_views)

    def items(self, step: int, steps: int) -> Iterator[Item]:
        yield from self.source.items(step, steps)
        if self.refined and self.settings.every and step % self.settings.every == 0:
            yield self.refined[self.turns.next(len(self.refined))]

    def renew(self, now: Round, init: Init, phase: Phase, steps: int) -> None:
        """Render and refine every camera by the scene as it is; before the first time, fit the refiner. `steps`: those
        of the whole run."""
        if not self.fitted:
            self._fit(now, init, phase, steps)
        self.refined = []
        self.turns.start_over()
        if now.train_apart is None:  # the refiner has not learned anything: see `_fit`
            return
        references = [
            reference_of(p, pose, now.draw(replace(p, supersample=k)))
            for p, pose, k in zip(self.photos, self.poses, self.supersample, strict=True)
        ]
        for k, between in enumerate(self.path):
            camera = self.photos[between.nearer].camera
            pose = between.world_from_cam.inverse().matrix().float()
            blank = Item(
                camera,
                pose.to(self.photos[0].rgb.device),
                torch.zeros_like(self.photos[between.nearer].rgb),
                supersample=self.supersample[between.nearer],
            )
            view = RenderedView.of(now.draw(blank), camera, between.world_from_cam)
            nearest = nearest_first(between.world_from_cam, references)
            item = self._item(camera, between, self.refiner.refine(view, nearest, seed=self.seed + k), view)
            if item is not None:
                self.refined.append(item)
        counting = sum(float(i.weight.float().mean()) for i in self.refined if i.weight is not None)
        if self.refined:
            share = counting / (255 * len(self.refined))
            now.report.info(
                f"refiner: {len(self.refined)} of {len(self.path)} renders between the photos are targets from step "
                f"{now.step} on, at {100 * share:.0f} % of the weight of a photo."
            )

    def _fit(self, now: Round, init: Init, phase: Phase, steps: int) -> None:
        self.fitted = True
        if now.train_apart is None:
            now.report.info("refiner: not used, for several processes train together")
            return
        pairs = refiner_pairs(
            self.photos, self.poses, self.names, init, phase, now, self.settings.left_out, steps, self.seed
        )  # fmt: skip
        self.refiner = self.refiner.fit(pairs, self.settings.fit_steps, self.seed, now.report)

    def _item(self, camera: Camera, between: Between, refined: RefinedView, view: RenderedView) -> Item | None:
        weight = self.weigh(view, refined, self.poses)
        if float(weight.mean()) < _MIN_COUNTING:
            return None
        device = self.photos[0].rgb.device
        return self._target(
            camera,
            between.world_from_cam.inverse().matrix().float().to(device),
            (255 * refined.rgb.clamp(0, 1)).round().byte().to(device),
            (255 * weight.clamp(0, 1)).round().byte().to(device),
            self.supersample[between.nearer],
        )

    def _target(self, camera: Camera, pose: Tensor, rgb: Tensor, weight: Tensor, supersample: int) -> Item:
        terms, counts = frozenset({"l1"}), self.settings.weight
        return Item(camera, pose, rgb, weight=weight, supersample=supersample, loss_weight=counts, terms=terms)

    def state(self) -> dict[str, Any]:
        return {
            "source": self.source.state(),
            **self.turns.state(),
            "refined": [target_state(i) | {"supersample": i.supersample} for i in self.refined],
            "refiner": self.refiner.state() if self.fitted else None,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.source.load_state(state["source"])
        self.turns.load_state(state)
        device = self.photos[0].rgb.device
        self.refined = [self._target(*target_fields(m, device), m["supersample"]) for m in state["refined"]]
        if state["refiner"] is not None:
            self.refiner, self.fitted = self.refiner.restored(state["refiner"]), True


class RefinedRounds:
    """A hook of all phases of a run: renews the refined renders when the shares `rounds` of its steps are done, and
    calls the hook that was there before."""

    def __init__(self, source: RefinedSource, init: Init, phase: Phase, steps: int, rounds: Sequence[float]) -> None:
        """`phase`: as it is without refined renders; of its settings those scenes are made that the refiner learns
        from."""
        self.source, self.init, self.phase, self.steps, self.rounds = source, init, phase, steps, tuple(rounds)
        self.before: Hook | None = phase.on_round
        self.every = phase.round_every
        self.renewed = 0

    @property
    def edits_rows(self) -> bool:
        """See `slots.Hook`."""
        return self.before is not None

    def __call__(self, now: Round) -> None:
        if self.before is not None and self.every and now.phase_step % self.every == 0:
            self.before(now)
        due = sum(now.step >= share * self.steps for share in self.rounds)
        if due > self.renewed and now.step < self.steps:
            self.renewed = due
            self.source.renew(now, self.init, self.phase, self.steps)

    def state(self) -> dict[str, Any]:
        before = self.before.state() if isinstance(self.before, Stateful) else None
        return {"renewed": self.renewed, "before": before}

    def load_state(self, state: dict[str, Any]) -> None:
        self.renewed = int(state["renewed"])
        if isinstance(self.before, Stateful):
            self.before.load_state(state["before"])


def with_refined_views(phase: Phase, source: RefinedSource, init: Init, steps: int, rounds: Sequence[float]) -> Phase:
    """The phase with refined renders beside its items from the first of `rounds` on (shares of the run's `steps`)."""
    every = phase.round_every or max(1, steps // 20)
    hook = RefinedRounds(source, init, phase, steps, rounds)
    return replace(phase, source=source, round_every=every, on_round=hook)
