"""Gaussians right before a camera are removed, and nothing else is."""

import oracles
import torch

from splat.train.density import NoDensity
from splat.train.density.near_camera import NearCamera, too_near
from splat.train.models.free import FreeGaussians


def test_points_in_any_ball_are_too_near():
    centres, radii = torch.tensor([[0.0, 0, 0], [5, 0, 0]]), torch.tensor([1.0, 0.5])
    points = torch.tensor([[0.9, 0, 0], [1.1, 0, 0], [5.4, 0, 0], [5.6, 0, 0]])
    assert too_near(points, centres, radii).tolist() == [True, False, True, False]


def test_only_what_is_before_a_lens_goes_and_the_inner_control_starts_over():
    generator = torch.Generator().manual_seed(0)
    rows = oracles.random_gaussians(40, generator, dtype=torch.float32)
    rows.means[:, 2] = torch.linspace(0.1, 4, 40)
    model = FreeGaussians(rows)
    reset = []

    class Inner(NoDensity):
        def __call__(self, *arguments):
            control = super().__call__(*arguments)
            control.reset_statistics = lambda: reset.append(True)
            return control

    control = NearCamera(Inner(), torch.zeros(1, 3), torch.tensor([2.0]), every=0.5)(100, 1.0)
    near = too_near(rows.means, torch.zeros(1, 3), torch.tensor([2.0]))
    assert 0 < int(near.sum()) < 40
    assert control.after_update(0, model, 0.01, generator) is None and len(model) == 40
    line = control.after_update(49, model, 0.01, generator)
    assert line == f"pruned {int(near.sum())} near a camera" and reset == [True]
    assert torch.equal(model.gaussians().means, rows.means[~near])


def test_a_scene_that_lies_in_the_balls_altogether_is_left_alone():
    generator = torch.Generator().manual_seed(0)
    model = FreeGaussians(oracles.random_gaussians(9, generator, dtype=torch.float32))
    control = NearCamera(NoDensity(), torch.zeros(1, 3), torch.tensor([1e6]))(10, 1.0)
    for step in range(10):
        control.after_update(step, model, 0.01, generator)
    assert len(model) == 9
