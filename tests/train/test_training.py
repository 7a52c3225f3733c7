"""The whole loop on a small world with a known answer."""

from __future__ import annotations

import json
import math
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from splat.core.errors import Interrupted, SplatError
from splat.core.gaussians import Gaussians
from splat.core.image import Photo
from splat.core.schedules import Background, Dropout, OpacityDecay, ResolutionSchedule, Schedules, ShSchedule
from splat.core.slots import DensityControl, Init, Phase, Round, Silent, Step
from splat.train.density import DefaultDensity, MCMCDensity, NoDensity
from splat.train.loop import TrainSettings
from splat.train.models.view_model import ViewModel, ViewSettings
from splat.train.run import TrainingRun
from splat.train.views import PhotoSource, Posed

FIELDS = ("means", "quats_wxyz", "log_scales", "logit_opacities", "sh")


def same(a: Gaussians, b: Gaussians) -> bool:
    return all(torch.equal(getattr(a, f), getattr(b, f)) for f in FIELDS)


def test_a_disturbed_scene_is_recovered(world) -> None:
    assert world.psnr(world.start().gaussians) < 28
    assert world.psnr(world.train(400).gaussians) > 35


def test_masked_pixels_change_nothing(world) -> None:
    photos = world.photos()
    weight = torch.full((36, 48), 255, dtype=torch.uint8).numpy()
    weight[8:20, 10:30] = 0
    results = []
    for fill in (0, 200):
        masked = []
        for p in photos:
            rgb = p.photo.rgb.copy()
            rgb[weight == 0] = fill
            masked.append(Posed(Photo(rgb=rgb, weight=weight), p.camera, p.cam_from_world))
        # 36 px: a level whose pixels straddle the mask's edge
        results.append(world.train(25, photos=masked, resolution=ResolutionSchedule(0.5, 0.5, 36)).gaussians)
    assert same(*results)
    assert not same(results[0], world.train(25, resolution=ResolutionSchedule(0.5, 0.5, 36)).gaussians)


def everything_on(world, steps: int, folder: Path | None, every: int = 0, **arguments: Any):
    """A run in which every part that has a state is at work."""
    schedules = Schedules(
        opacity_decay=OpacityDecay(0.99, 0.05),
        dropout=Dropout(0.2),
        background=Background("random"),
        sh=ShSchedule(0.2),
    )
    settings = TrainSettings(scene_extent=4.0, checkpoint_every=every)
    centres = torch.stack([-p[:3, :3].T @ p[:3, 3] for p in world.poses])
    view_model = ViewModel(6, ViewSettings(exposure=True, poses=True), centres, 4.0)
    start = world.start()
    start = Init(start.gaussians.with_sh_degree(1))
    density = arguments.pop("density", DefaultDensity(cap=70, every=0.1, threshold=1e-6))
    return world.train(
        steps,
        init=start,
        view_model=view_model,
        settings=settings,
        resolution=ResolutionSchedule(0.5, 0.4, 24),
        checkpoint_dir=folder,
        density=density,
        schedules=schedules,
        **arguments,
    )


class StopAt(Silent):
    """Sends this process a signal when training has come to a step."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def losses(self, step: Step):
        if step.number == self.number:
            os.kill(os.getpid(), signal.SIGTERM)
        error = (step.rgb - step.target).abs().mean()
        return error, {"psnr": -20 * math.log10(float(error.detach()))}


@pytest.mark.parametrize("density", [DefaultDensity(cap=70, every=0.1, threshold=1e-6), MCMCDensity(cap=70, every=0.1)])
def test_a_stopped_run_goes_on_bit_for_bit(world, tmp_path: Path, density) -> None:
    lines: list[dict[str, Any]] = []
    straight = everything_on(world, 140, tmp_path / "a", every=31, density=density, losses=StopAt(-1).losses)
    log = world.history
    assert len(straight.gaussians) > 40  # the density control did work
    for stop in (34, 77):
        with pytest.raises(Interrupted, match=f"step {stop + 1} of 140"):
            everything_on(world, 140, tmp_path / "b", density=density, losses=StopAt(stop).losses)
    resumed = everything_on(world, 140, tmp_path / "b", density=density, losses=StopAt(-1).losses, log=lines.append)
    assert same(straight.gaussians, resumed.gaussians)
    assert torch.equal(straight.view_model.exposures(), resumed.view_model.exposures())
    assert torch.equal(straight.view_model.poses.values, resumed.view_model.poses.values)
    timeless = [
        [{k: v for k, v in line.items() if "second" not in k} for line in lines] for lines in (log, world.history)
    ]
    assert timeless[0] == timeless[1]
    assert all("psnr" in line for line in log)  # a running mean, which goes on as well
    assert all(line["step"] > 78 for line in lines)  # no line is written twice


def test_a_killed_run_goes_on_from_its_last_checkpoint(world, tmp_path: Path) -> None:
    def die(step: Step):
        if step.number == 47:
            raise KeyboardInterrupt  # as kill -9: nothing is saved on the way out
        return (step.rgb - step.target).abs().mean(), {}

    straight = everything_on(world, 70, None)
    with pytest.raises(KeyboardInterrupt):
        everything_on(world, 70, tmp_path, every=20, losses=die)
    assert same(straight.gaussians, everything_on(world, 70, tmp_path, every=20).gaussians)


def test_a_finished_run_is_not_repeated_and_can_be_prolonged(world, tmp_path: Path) -> None:
    first = world.train(30, checkpoint_dir=tmp_path)
    again = world.train(30, checkpoint_dir=tmp_path, losses=lambda step: pytest.fail("nothing is left to do"))
    assert same(first.gaussians, again.gaussians)
    longer = world.train(90, checkpoint_dir=tmp_path)
    assert longer.steps == 90
    assert world.psnr(longer.gaussians) > world.psnr(first.gaussians)


def test_the_result_has_no_gaussian_that_nobody_draws(world) -> None:
    start = world.start().gaussians
    start.logit_opacities[4] = -9.0
    start.means[7, 1] = torch.nan
    result = world.train(5, init=Init(start)).gaussians
    assert len(result) == 38
    assert all(bool(getattr(result, f).isfinite().all()) for f in FIELDS)


def test_what_a_killed_run_left_half_written_is_removed(world, tmp_path: Path) -> None:
    (tmp_path / ".training.pt.123.part.pt").write_bytes(b"half")
    world.train(2, checkpoint_dir=tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["training.pt"]


def test_a_checkpoint_of_other_settings_is_refused(world, tmp_path: Path) -> None:
    world.train(2, checkpoint_dir=tmp_path, settings=TrainSettings(key="a"))
    with pytest.raises(SplatError, match="other settings"):
        world.train(2, checkpoint_dir=tmp_path, settings=TrainSettings(key="b"))


def test_steps_without_a_finite_loss_are_skipped(world) -> None:
    def sometimes(step: Step):
        return (step.rgb - step.target).abs().mean() * (float("nan") if step.number % 2 else 1.0), {}

    report = Silent()
    result = world.train(40, losses=sometimes, report=report)
    assert len(report.warnings) == 20
    assert all(bool(getattr(result.gaussians, f).isfinite().all()) for f in FIELDS)
    with pytest.raises(SplatError, match="no finite value for 50 steps"):
        world.train(60, losses=lambda step: (step.rgb.mean() * float("nan"), {}))


def test_phases_follow_each_other_with_their_own_hooks(world) -> None:
    calls: list[str] = []

    def note(name: str):
        return lambda r: calls.append(f"{name}@{r.step},{r.phase_step}")

    def grow(r: Round) -> None:
        r.model.edit(torch.ones(len(r.model), dtype=torch.bool), world.truth[:3])

    def l1(step: Step):
        return (step.rgb - step.target).abs().mean(), {}

    source, none = PhotoSource(world.photos()), NoDensity()
    phases = (
        Phase(10, source, l1, none, name="a", on_start=note("a"), round_every=4, on_round=note("round")),
        Phase(0, source, l1, none, name="empty"),
        Phase(6, source, l1, DefaultDensity(cap=60, every=0.5, start=0.0), name="b", on_start=grow),
    )
    lines: list[dict[str, Any]] = []
    result = world.run(phases, log=lines.append)
    assert calls == ["a@0,0", "round@4,4", "round@8,8"]
    assert len(result.gaussians) >= 43 and result.steps == 16
    assert lines[-1]["phase"] == "b" and json.dumps(lines)


def test_several_items_in_a_step_add_their_gradients(world) -> None:
    """Two items with half the weight each are one item with all of it."""

    class Twice:
        def __init__(self, copies: int) -> None:
            self.copies, self.inner = copies, PhotoSource(world.photos(), seed=1)

        def items(self, step: int, steps: int):
            for item in self.inner.items(step, steps):
                for _ in range(self.copies):
                    yield replace(item, loss_weight=1 / self.copies)

        def state(self):
            return self.inner.state()

        def load_state(self, state) -> None:
            self.inner.load_state(state)

    def l1(step: Step):
        return (step.rgb - step.target).abs().mean(), {}

    results = [world.run((Phase(20, Twice(copies), l1, NoDensity()),)) for copies in (1, 2)]
    assert torch.allclose(results[0].gaussians.means, results[1].gaussians.means, atol=1e-5)


def test_a_loss_that_does_not_look_at_the_image_moves_no_colour(world) -> None:
    start = world.start()
    start = Init(start.gaussians.with_sh_degree(1))
    schedules = Schedules(sh=ShSchedule(degree_every=0.0))
    result = world.train(3, init=start, losses=lambda s: (s.gaussians.opacities.mean(), {}), schedules=schedules)
    assert torch.equal(result.gaussians.sh, start.gaussians.sh)
    assert not torch.equal(result.gaussians.logit_opacities, start.gaussians.logit_opacities)


class ChangesAlways(DensityControl):
    """Says that it changed rows."""

    def after_update(self, *arguments: Any) -> str:
        return "changed"


def test_counts_of_changes_go_on_where_they_were(world, tmp_path: Path, monkeypatch) -> None:
    """Every eighth change sorts the rows: a count that starts again sorts them at other times."""
    counts: list[int] = []
    arrange = TrainingRun._arrange

    def noted(run: TrainingRun) -> None:
        counts.append(run.density_changes)
        arrange(run)

    def run(stop: int) -> Any:
        density: Any = lambda steps, extent: ChangesAlways()  # noqa: E731
        return world.train(20, checkpoint_dir=tmp_path, density=density, losses=StopAt(stop).losses)

    monkeypatch.setattr(TrainingRun, "_arrange", noted)
    with pytest.raises(Interrupted):
        run(10)
    assert 0 < len(counts) < 20
    run(-1)
    assert counts == list(range(20))
