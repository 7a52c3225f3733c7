"""Renders larger than their photos."""

from __future__ import annotations

from dataclasses import replace

import oracles
import pytest
import torch

from splat.core.camera import Camera
from splat.core.schedules import Background, Schedules
from splat.core.slots import Item, Phase, RasterSettings
from splat.losses import Losses
from splat.raster import choose
from splat.train.density import NoDensity
from splat.train.models.free import FreeGaussians
from splat.train.models.view_model import ViewModel
from splat.train.step import StepState, background_of, draw_item, pooled
from splat.train.supersampling import SupersampledSource, Supersampling

CAMERA = Camera(40.0, 40.0, 24.0, 16.0, 48, 32)


class One:
    """The same item in every step, with its number as the view."""

    def items(self, step: int, steps: int):  # type: ignore[no-untyped-def]
        yield Item(CAMERA, torch.eye(4), torch.zeros(32, 48, 3, dtype=torch.uint8), view_id=step)

    def state(self) -> dict:
        return {}

    def load_state(self, state: dict) -> None: ...


def factors(source: SupersampledSource, steps: range) -> list[int]:
    return [next(iter(source.items(k, 130))).supersample for k in steps]


def test_factors_are_of_one_to_the_largest_after_the_start_and_one_before() -> None:
    source = Supersampling(4).of(One())
    assert isinstance(source, SupersampledSource)
    drawn = factors(source, range(130))
    assert set(drawn[:50]) == {1} and set(drawn[50:]) == {1, 2, 3, 4}


def test_an_item_that_asks_for_more_gets_it() -> None:
    class Larger(One):
        def items(self, step: int, steps: int):  # type: ignore[no-untyped-def]
            yield from (replace(i, supersample=3) for i in super().items(step, steps))

    assert set(factors(Supersampling(4, start=0.0).of(Larger()), range(130))) == {3, 4}  # type: ignore[arg-type]


def test_off_changes_nothing_about_the_source() -> None:
    one = One()
    assert Supersampling().of(one) is one


def test_the_factors_go_on_where_they_were() -> None:
    settings = Supersampling(4, start=0.0)
    whole = factors(settings.of(One()), range(40))  # type: ignore[arg-type]
    first, second = settings.of(One()), settings.of(One(), seed=9)
    assert factors(first, range(20)) == whole[:20]  # type: ignore[arg-type]
    second.load_state(first.state())
    assert factors(second, range(20, 40)) == whole[20:]  # type: ignore[arg-type]


def state_of(model: FreeGaussians, losses: Losses) -> StepState:
    schedules = Schedules(background=Background("fixed", (1.0, 1.0, 1.0)))
    phase = Phase(10, One(), losses, NoDensity(), schedules, RasterSettings())
    cpu = torch.device("cpu")
    density = NoDensity()(10, 1.0)
    return StepState(
        *(0, phase, 0, 0.0, model, ViewModel(1), density, choose(cpu, "auto"), 1.0, torch.Generator(), cpu)
    )


@pytest.mark.parametrize("k", [1, 3])
def test_a_step_renders_larger_and_compares_at_the_size_of_the_photo(k: int) -> None:
    g = torch.Generator().manual_seed(0)
    gaussians = oracles.random_gaussians(80, g, dtype=torch.float32)
    gaussians = replace(gaussians, means=gaussians.means + torch.tensor([0, 0, 5.0]))
    state = state_of(FreeGaussians(gaussians), Losses(l1=1.0, dssim=0.0))
    item = Item(CAMERA, torch.eye(4), torch.full((32, 48, 3), 99, dtype=torch.uint8), supersample=k)
    found = draw_item(state, item, torch.tensor(background_of(state, item)), factored=False)
    assert found is not None
    large = CAMERA.resized(k * 48, k * 32)
    with torch.no_grad():
        render = state.raster(gaussians, large, torch.eye(4), torch.ones(3), RasterSettings())
    small = pooled(render, k)
    assert small.rgb.shape == (32, 48, 3) and small.alpha.shape == small.depth.shape == (32, 48)
    assert torch.equal(small.means2d, render.means2d)
    assert float(small.rgb[4, 7, 1]) == pytest.approx(
        float(render.rgb[4 * k : 5 * k, 7 * k : 8 * k, 1].mean()), rel=1e-5
    )
    assert float(found.loss) == pytest.approx(float((small.rgb - 99 / 255).abs().mean()), rel=1e-4)
    assert float(found.rows.fields.means.abs().max()) > 0
