"""A method of two phases: the second has targets, losses and rates of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from splat.core.geometry import Rigid
from splat.core.schedules import Background, Dropout, LearningRates, OpacityDecay, Schedules, ShSchedule
from splat.core.slots import Init, Item, Phase, RasterSettings, Round, Step
from splat.losses import Losses
from splat.train.density import DefaultDensity, MCMCDensity, NoDensity
from splat.train.loop import TrainResult, TrainSettings
from splat.train.models.view_model import ViewModel, ViewSettings
from splat.train.views import PhotoSource

STEPS = 60, 70


@dataclass(eq=False)
class VirtualViews:
    """Items between the photos, which the scene itself renders when the phase begins and on rounds; every other step
    takes a photo. A `TargetSource`, and the hook that fills it."""

    photos: PhotoSource
    between: list[Item]
    rendered: list[Item] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)

    def __call__(self, round: Round) -> None:
        """The hook."""
        self.rounds.append(round.step)
        self.rendered = []
        for item in self.between:
            rgb = round.draw(item).rgb.clamp(0, 1)
            self.rendered.append(replace(item, rgb=(255 * rgb + 0.5).byte()))

    def items(self, step: int, steps: int) -> Iterator[Item]:
        if step % 2:
            yield self.rendered[step // 2 % len(self.rendered)]
        else:
            yield from self.photos.items(step, steps)

    def state(self) -> dict[str, Any]:
        rgb = [item.rgb for item in self.rendered]
        return {"photos": self.photos.state(), "rendered": rgb, "rounds": list(self.rounds)}

    def load_state(self, state: dict[str, Any]) -> None:
        self.photos.load_state(state["photos"])
        self.rendered = [replace(i, rgb=rgb) for i, rgb in zip(self.between, state["rendered"], strict=True)]
        self.rounds = list(state["rounds"])


@dataclass
class Watched:
    """Losses that note what they were asked, and may fail at a step."""

    losses: Losses
    steps: list[tuple[int, int | None, set[str]]] = field(default_factory=list)
    fails_at: int = -1

    def __call__(self, step: Step) -> tuple[Tensor, dict[str, float | Tensor]]:
        if step.number == self.fails_at:
            raise KeyboardInterrupt  # as kill -9: nothing is saved on the way out
        total, figures = self.losses(step)
        self.steps.append((step.number, step.item.view_id, set(figures)))
        return total, figures


def between(world) -> list[Item]:
    """Cameras that no photo was taken from; only two terms count for them."""
    up, found = torch.tensor([0.0, 0.0, 1.0]), []
    for angle in (0.25, 0.75, 1.25):
        eye = torch.tensor([4 * torch.cos(torch.tensor(angle)), 4 * torch.sin(torch.tensor(angle)), 0.6])
        pose = Rigid.look_at(eye, torch.zeros(3), up).inverse().matrix().float()
        empty = torch.zeros(36, 48, 3, dtype=torch.uint8)
        found.append(Item(world.camera, pose, empty, loss_weight=0.5, terms=frozenset({"l1", "opacity"})))
    return found


def phases_of(world, first: Watched, second: Watched) -> tuple[Phase, Phase]:
    photos = PhotoSource(world.photos(), seed=1)
    virtual = VirtualViews(PhotoSource(world.photos(), seed=2), between(world))
    reconstruct = Phase(
        STEPS[0],
        photos,
        first,
        DefaultDensity(cap=70, every=0.2, threshold=1e-6),
        Schedules(
            rates=LearningRates(means_final=1e-5, others_final=0.1),
            sh=ShSchedule(0.5),
            opacity_decay=OpacityDecay(0.98, 0.1),
            background=Background("random"),
        ),
        name="reconstruct",
    )
    refine = Phase(
        STEPS[1],
        virtual,
        second,
        MCMCDensity(cap=80, every=0.1, start=0.0, noise=1e3),
        Schedules(
            rates=LearningRates(means=1e-3, means_hold=0.3, opacities=0.02),
            sh=ShSchedule(degree_every=0.0),
            dropout=Dropout(0.2),
        ),
        RasterSettings(min_transmittance=1e-3),
        name="refine",
        on_start=virtual,
        round_every=25,
        on_round=virtual,
    )
    return reconstruct, refine


def two_phases(
    world, folder: Path | None = None, every: int = 0, fails_at: int = -1
) -> tuple[TrainResult, tuple[Phase, ...]]:
    first = Watched(Losses(l1=1.0, dssim=0.0), fails_at=fails_at)
    second = Watched(Losses(opacity=0.01, scale=0.01, anisotropy=0.1, longest=2.0), fails_at=fails_at)
    phases = phases_of(world, first, second)
    centres = torch.stack([-p[:3, :3].T @ p[:3, 3] for p in world.poses])
    views = ViewModel(6, ViewSettings(exposure=True, poses=True), centres, 4.0)
    settings = TrainSettings(scene_extent=4.0, checkpoint_every=every)
    init = Init(world.start().gaussians.with_sh_degree(2))
    return world.run(phases, init, views, settings, checkpoint_dir=folder), phases


def same(a: TrainResult, b: TrainResult) -> bool:
    pairs = [*zip(vars(a.gaussians).values(), vars(b.gaussians).values(), strict=True)]
    pairs.append((a.view_model.exposures(), b.view_model.exposures()))
    pairs.append((a.view_model.poses.values, b.view_model.poses.values))
    return all(torch.equal(x, y) for x, y in pairs)


def timeless(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if "second" not in k} for line in lines]


@pytest.mark.parametrize("fails_at", [60, 83, 111, 129])
def test_a_run_that_dies_in_its_second_phase_goes_on_bit_for_bit(world, tmp_path: Path, fails_at: int) -> None:
    straight, _ = two_phases(world)
    history = timeless(world.history)
    with pytest.raises(KeyboardInterrupt):
        two_phases(world, tmp_path, 17, fails_at)
    resumed, phases = two_phases(world, tmp_path, 17)
    assert same(straight, resumed) and resumed.steps == sum(STEPS)
    assert timeless(world.history) == history
    assert phases[1].source.rounds == [60, 85, 110], "rendered when the phase begins and on rounds, once each"


def test_each_phase_has_its_own_losses_and_terms_count_for_their_items(world) -> None:
    _, (reconstruct, refine) = two_phases(world)
    assert [n for n, *_ in reconstruct.losses.steps] == list(range(60))
    assert all(figures == {"psnr", "l1"} and view is not None for _, view, figures in reconstruct.losses.steps)
    assert [n for n, *_ in refine.losses.steps] == list(range(60, 130))
    for number, view, figures in refine.losses.steps:
        if number % 2:
            assert view is None and figures == {"psnr", "l1", "opacity"}
        else:
            assert view is not None and figures == {"psnr", "l1", "dssim", "opacity", "scale", "anisotropy"}


def test_schedules_count_in_the_horizon_of_their_phase(world, monkeypatch) -> None:
    """The rate of the second phase begins at its own start, is held, and ends at its own end."""
    from splat.train.models.free import FreeGaussians

    found = []
    update = FreeGaussians.update

    def noted(self, gradient, rates):
        found.append((rates, self.sh_degree))
        update(self, gradient, rates)

    monkeypatch.setattr(FreeGaussians, "update", noted)
    _, (reconstruct, refine) = two_phases(world)
    one, two = reconstruct.schedules.rates, refine.schedules.rates
    first, second = [r.means / 4 for r, _ in found[:60]], [r.means / 4 for r, _ in found[60:]]
    assert first[0] == pytest.approx(one.means) and first[59] < 1.3 * one.means_final
    assert second[0] == second[20] > 5 * first[59], "heated up, and held for 0.3 x 70 steps"
    assert second[0] == pytest.approx(two.means * (two.means_final / two.means) ** 0.3)
    assert second[69] == pytest.approx(two.means_final, rel=0.2)
    opacities = [r.opacities for r, _ in found]
    assert opacities[59] < 0.2 * one.opacities and opacities[60] == two.opacities == opacities[129]
    degrees = [degree for _, degree in found]
    assert degrees[0] == 0 and degrees[30] == degrees[59] == 1 and set(degrees[60:]) == {2}


def test_harmonics_never_shrink_from_phase_to_phase(world) -> None:
    source, degrees = PhotoSource(world.photos()), []

    def losses(step: Step):
        degrees.append(step.gaussians.sh_degree)
        return (step.rgb - step.target).abs().mean(), {}

    every = [Schedules(sh=ShSchedule(x)) for x in (0.0, 0.5)]
    phases = tuple(Phase(4, source, losses, NoDensity(), s) for s in every)
    world.run(phases, Init(world.start().gaussians.with_sh_degree(2)))
    assert degrees == [2] * 8


def test_two_phases_that_are_one_do_what_it_does(world) -> None:
    """Where nothing depends on the horizon, cutting a phase in two changes nothing: the model goes on as it is, moments
    and all."""
    rates = LearningRates(means=1e-3, means_final=1e-3)
    schedules = Schedules(rates=rates, sh=ShSchedule(0.0), background=Background("random"))

    def l1(step: Step):
        return (step.rgb - step.target).abs().mean(), {}

    results = []
    for lengths in ((50,), (20, 30)):
        source = PhotoSource(world.photos(), seed=1)
        phases = tuple(Phase(n, source, l1, NoDensity(), schedules) for n in lengths)
        results.append(world.run(phases))
    assert same(*results)


def test_a_phase_may_change_the_parameterization(world) -> None:
    """The wrapped model holds positions; it is made again before a checkpoint is loaded."""
    from splat.core.slots import Parameterization

    class Held(Parameterization):
        takes_factored_sh = True

        def __init__(self, inner: Parameterization, init: Init) -> None:
            self.inner = inner

        def __len__(self) -> int:
            return len(self.inner)

        def gaussians(self):
            return self.inner.gaussians()

        def update(self, gradient, rates) -> None:
            self.inner.update(gradient, replace(rates, means=0.0))

        def edit(self, keep, append, parents=None) -> None:
            self.inner.edit(keep, append, parents)

        def assign(self, ids, rows, parents=None) -> None:
            self.inner.assign(ids, rows, parents)

        def shift(self, ids, **deltas) -> None:
            self.inner.shift(ids, **deltas)

        def state(self):
            return self.inner.state()

        def load_state(self, state) -> None:
            self.inner.load_state(state)

    source = PhotoSource(world.photos())

    def l1(step: Step):
        return (step.rgb - step.target).abs().mean(), {}

    means = []

    def note(round: Round) -> None:
        means.append(round.model.gaussians().means.clone())

    phases = (
        Phase(5, source, l1, NoDensity()),
        Phase(5, source, l1, NoDensity(), parameterize=Held, on_start=note, round_every=5, on_round=note),
    )
    result = world.run(phases)
    assert torch.equal(means[0], means[1]) and torch.equal(result.gaussians.means, means[0])
    assert not torch.equal(means[0], world.start().gaussians.means)


def test_a_finished_run_of_two_phases_goes_on_in_its_last(world, tmp_path: Path) -> None:
    """Its schedules then count in the longer horizon; what is done stays."""
    two_phases(world, tmp_path)
    watched = Watched(Losses())
    first, second = phases_of(world, Watched(Losses(), fails_at=0), watched)
    centres = torch.stack([-p[:3, :3].T @ p[:3, 3] for p in world.poses])
    views = ViewModel(6, ViewSettings(exposure=True, poses=True), centres, 4.0)
    init = Init(world.start().gaussians.with_sh_degree(2))
    result = world.run((first, replace(second, steps=90)), init, views, checkpoint_dir=tmp_path)
    steps = [n for n, *_ in watched.steps]
    assert steps == list(range(130, 150)) and result.steps == 150
