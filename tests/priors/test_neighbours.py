"""Which photos are matched with which."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from splat.core.camera import Camera
from splat.core.capture import Capture, PointCloud, View
from splat.core.geometry import Rigid
from splat.priors.neighbours import overlap

CAMERA = Camera(150.0, 155.0, 83.0, 57.0, 160, 120)


def test_of_photos_from_one_place_the_better_neighbour_shows_things_at_the_same_size():
    """By the ratio of the focal lengths in pixels, whichever is longer."""
    sizes = [1.0, 1.0, 2.0, 0.5]  # the first is matched with the others, which stand side by side with it
    views = []
    for i, factor in enumerate(sizes):
        camera = CAMERA.resized(round(160 * factor), round(120 * factor))
        centre = torch.tensor([0.0 if i == 0 else 0.5, 0, 0], dtype=torch.float64)
        pose = Rigid(torch.eye(3, dtype=torch.float64), centre)
        views.append(View(f"{i}.jpg", Path(f"{i}.jpg"), (camera.width, camera.height), camera, pose))
    spread = torch.rand(60, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    points = PointCloud(spread + torch.tensor([0.25, 0.0, 4.0]), torch.ones(60, 3))
    found = overlap(Capture(tuple(views), points=points))
    same, longer, shorter = found.score[0, 1:].tolist()
    assert longer == pytest.approx(same / 2) and shorter == pytest.approx(same / 2) and same > 0
    assert found.neighbours(0, 1) == [1]
