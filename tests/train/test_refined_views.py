"""Refined renders between the photos as targets: when they start, what they weigh, and that they can do no harm."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from torch import Tensor

from splat.core.camera import Camera
from splat.core.errors import Interrupted
from splat.core.geometry import Rigid
from splat.core.metrics import psnr
from splat.core.slots import (
    Init,
    Item,
    Phase,
    RasterSettings,
    RefinedView,
    RefinerPair,
    RenderedView,
    Step,
    ViewRefiner,
)
from splat.priors.refiner import FeedbackWeight
from splat.train.density import NoDensity
from splat.train.left_out import LeftOut, left_out_photos
from splat.train.models.view_model import ViewModel
from splat.train.refined_views import RefinedSource, RefinedViews, with_refined_views
from splat.train.views import PhotoSource, smaller

STEPS, ROUNDS = 40, (0.5, 0.75)
SETTINGS = RefinedViews(every=1, per_pair=4, max_views=8, size=48, left_out=LeftOut(3, 0.2), fit_steps=1)


@dataclass
class Fake:
    """A refiner that makes of a render what it is told to, and keeps what it was given."""

    change: Callable[[RenderedView], Tensor]
    pairs: list[RefinerPair] | None = None
    refined: int = 0

    def fit(self, pairs: Sequence[RefinerPair], budget: int, seed: int, report: Any) -> Fake:
        self.pairs = list(pairs)
        return self

    def refine(self, view: RenderedView, references: Any, strength: float = 1.0, seed: int = 0) -> RefinedView:
        self.refined += 1
        return RefinedView(self.change(view), torch.ones_like(view.alpha))

    def state(self) -> dict[str, Any]:
        return {}

    def restored(self, state: dict[str, Any]) -> Fake:
        return self


def l1(step: Step) -> tuple[Tensor, dict[str, float]]:
    error = (step.rgb - step.target).abs().mean(2)
    weight = 1.0 if step.item.weight is None else step.item.weight.float() / 255
    return (error * weight).mean(), {}


def fully(view: RenderedView, refined: RefinedView, photos: Sequence[Rigid]) -> Tensor:
    return torch.ones_like(view.alpha)


def not_at_all(view: RenderedView, refined: RefinedView, photos: Sequence[Rigid]) -> Tensor:
    return torch.zeros_like(view.alpha)


def phase_of(world, refiner: ViewRefiner | None, weigh=fully, losses=None, init: Init | None = None) -> Phase:  # type: ignore[no-untyped-def]
    photos = PhotoSource(world.photos(), seed=1)
    phase = Phase(STEPS, photos, losses or l1, NoDensity(), raster=RasterSettings())
    if refiner is None:
        return phase
    poses = [Rigid.from_matrix(torch.linalg.inv(p.double())) for p in world.poses]
    names = [f"{i}.png" for i in range(len(poses))]
    items = [levels[-1] for levels in photos.levels]
    source = RefinedSource(photos, items, poses, names, refiner, weigh, SETTINGS)
    return with_refined_views(phase, source, init or world.start(), STEPS, ROUNDS)


def trained(world, phase: Phase, **arguments: Any) -> Tensor:  # type: ignore[no-untyped-def]
    return world.run((phase,), view_model=ViewModel(len(world.poses)), **arguments).gaussians


def test_they_begin_at_the_first_round_and_are_renewed_at_the_next(world) -> None:  # type: ignore[no-untyped-def]
    seen: list[tuple[int, bool]] = []

    def losses(step: Step) -> tuple[Tensor, dict[str, float]]:
        seen.append((step.number, step.item.view_id is None))
        return (step.rgb - step.target).abs().mean(), {}

    fake = Fake(lambda view: view.rgb)
    trained(world, phase_of(world, fake, losses=losses))
    between = sorted({n for n, b in seen if b})
    assert between[0] == 20 and between[-1] == STEPS - 1
    count = fake.refined
    assert count and count % 2 == 0  # every camera, twice


def test_it_learns_from_scenes_without_the_photo(world) -> None:  # type: ignore[no-untyped-def]
    """Each photo is left out of one scene, with the Gaussians that come from it."""
    init = replace(world.start(), view_ids=torch.arange(len(world.start().gaussians)) % len(world.poses))
    shown: list[set[int]] = []
    fake = Fake(lambda view: view.rgb)
    phase = phase_of(world, fake, init=init)
    hook, counts = phase.on_round, []

    def on_round(now):  # type: ignore[no-untyped-def]
        def apart(start: Init, part: Phase):  # type: ignore[no-untyped-def]
            counts.append(set(start.view_ids.tolist()))
            shown.append({i.view_id for i in part.source.all})
            assert part.steps == 8 and part.on_round is None
            return now.train_apart(start, part)

        hook(replace(now, train_apart=apart))

    trained(world, replace(phase, on_round=on_round), init=init)
    assert fake.pairs is not None and sorted(p.photo for p in fake.pairs) == [f"{i}.png" for i in range(6)]
    assert len(shown) == 3 and shown == counts
    for kept in shown:
        assert len(kept) == 4
    for pair in fake.pairs:
        centre = pair.view.world_from_cam.translation
        assert len(pair.references) == 4
        assert all((r.world_from_cam.translation - centre).norm() > 0.1 for r in pair.references)


def test_left_out_photos_are_spread_in_space() -> None:
    poses = [Rigid(torch.eye(3).double(), torch.tensor([x, 0.0, 0.0]).double()) for x in (0, 5, 1, 4, 2, 3)]
    groups = left_out_photos(poses, 3)
    assert sorted(i for group in groups for i in group) == list(range(6))
    for group in groups:
        xs = [float(poses[i].translation[0]) for i in group]
        assert max(xs) - min(xs) == 3
    assert left_out_photos(poses[:2], 4) == [[0], [1]]


def test_refined_renders_of_no_weight_change_nothing(world) -> None:  # type: ignore[no-untyped-def]
    """Neither do the scenes that the refiner learns from: bit for bit as without a refiner."""
    plain = trained(world, phase_of(world, None))
    fake = Fake(lambda view: torch.rand_like(view.rgb))
    with_it = trained(world, phase_of(world, fake, not_at_all))
    assert fake.pairs and fake.refined
    assert torch.equal(plain.means, with_it.means) and torch.equal(plain.sh, with_it.sh)


def test_a_better_picture_of_a_place_between_photos_makes_the_scene_better_there(world) -> None:  # type: ignore[no-untyped-def]
    """The refiner gives the truth; photos that know two sides only are not enough without it."""

    def truth(view: RenderedView) -> Tensor:
        pose = view.world_from_cam.inverse().matrix().float()
        return world.draw(world.truth, pose).clamp(0, 1)

    start = world.start(0.2)
    plain, better = (
        trained(world, phase_of(world, refiner, init=start), init=start) for refiner in (None, Fake(truth))
    )
    gains = []
    for pose in between(world):
        target = world.draw(world.truth, pose).clamp(0, 1)
        gains.append(psnr(world.draw(better, pose), target) - psnr(world.draw(plain, pose), target))
    assert sum(gains) / len(gains) > 0.2


def test_noise_and_inverted_pictures_instead_of_refined_renders_cost_next_to_nothing(world) -> None:  # type: ignore[no-untyped-def]
    """Where a refiner changes all of a picture it is not believed (`FeedbackWeight`)."""

    def noise(view: RenderedView) -> Tensor:
        return torch.rand(view.rgb.shape, generator=torch.Generator().manual_seed(3))

    def inverted(view: RenderedView) -> Tensor:
        return 1 - view.rgb

    def score(refiner: Fake | None, weigh: Any = fully) -> float:
        start = world.start(0.2)
        g = trained(world, phase_of(world, refiner, weigh, init=start), init=start)
        return fmean(psnr(world.draw(g, p), world.draw(world.truth, p).clamp(0, 1)) for p in between(world))

    plain = score(None)
    assert score(Fake(noise), FeedbackWeight()) > plain - 0.1
    assert score(Fake(inverted), FeedbackWeight()) > plain - 0.1
    assert score(Fake(inverted)) < plain - 0.2


def between(world) -> list[Tensor]:  # type: ignore[no-untyped-def]
    """`cam_from_world` of the cameras that renders are refined for."""
    poses = [Rigid.from_matrix(torch.linalg.inv(p.double())) for p in world.poses]
    source = RefinedSource(
        PhotoSource(world.photos()), [_item(world)] * 6, poses, [""] * 6, Fake(lambda v: v.rgb), fully, SETTINGS
    )
    return [view.world_from_cam.inverse().matrix().float() for view in source.path]


def _item(world) -> Item:  # type: ignore[no-untyped-def]
    return PhotoSource(world.photos()).levels[0][-1]


def test_it_goes_on_bit_for_bit_after_an_interruption(world, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    stop_at = -1

    def losses(step: Step) -> tuple[Tensor, dict[str, float]]:
        if step.number == stop_at and step.item.view_id is not None:
            os.kill(os.getpid(), signal.SIGTERM)
        error = (step.rgb - step.target).abs().mean()
        return error, {}

    def phase() -> Phase:
        return phase_of(world, Fake(lambda view: 0.9 * view.rgb), losses=losses)

    straight = trained(world, phase())
    stop_at = 25  # the scenes apart have steps of their own, all below
    with pytest.raises(Interrupted):
        trained(world, phase(), checkpoint_dir=tmp_path)
    stop_at = -1
    resumed = trained(world, phase(), checkpoint_dir=tmp_path)
    assert torch.equal(straight.means, resumed.means) and torch.equal(straight.sh, resumed.sh)


def test_a_smaller_item_averages_colours_and_keeps_depths() -> None:
    rgb = torch.zeros(4, 8, 3, dtype=torch.uint8)
    rgb[:, ::2] = 200
    depth = torch.arange(32.0).reshape(4, 8)
    item = Item(Camera(8.0, 8.0, 4.0, 2.0, 8, 4), torch.eye(4), rgb, inverse_depth=depth, view_id=3)
    small = smaller(item, 4)
    assert (small.camera.width, small.camera.height, small.camera.fx) == (4, 2, 4.0)
    assert bool((small.rgb == 100).all()) and small.view_id == 3
    assert small.inverse_depth is not None
    assert set(small.inverse_depth.flatten().tolist()) <= set(depth.flatten().tolist())
    assert smaller(item, 8) is item


def test_several_processes_use_no_refiner_also_after_a_checkpoint(world) -> None:  # type: ignore[no-untyped-def]
    """Nothing can be trained apart there, so the refiner never learns; what has not learned is not used."""
    state: dict[str, Any] | None = None
    for _ in range(2):
        fake = Fake(lambda view: view.rgb)
        phase = phase_of(world, fake)
        hook, source = phase.on_round, phase.source
        if state is not None:
            source.load_state(state)
        trained(world, replace(phase, on_round=lambda now, hook=hook: hook(replace(now, train_apart=None))))
        assert fake.refined == 0 and fake.pairs is None
        state = source.state()
