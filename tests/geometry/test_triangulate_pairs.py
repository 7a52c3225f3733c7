"""Which pair of views says where a point is."""

from __future__ import annotations

import torch

from splat.core.camera import Camera
from splat.core.geometry import Rigid
from splat.geometry.triangulate import triangulate

CAMERA = Camera(800.0, 810.0, 371.0, 205.0, 640, 480)


def at(x: float) -> Rigid:
    return Rigid(torch.eye(3, dtype=torch.float64), torch.tensor([x, 0.0, 0.0], dtype=torch.float64))


def test_of_contradicting_pairs_the_one_with_parallax_is_believed_though_another_fits_better():
    """Two photos from nearly one place agree on any point along their rays; how well says nothing of its depth."""
    poses = [at(0.0), at(0.004), at(0.5)]
    generator = torch.Generator().manual_seed(0)
    across = torch.tensor([0.6, 0.5, 0.6])
    points = (torch.rand(200, 3, generator=generator) - 0.5) * across + torch.tensor([0.0, 0.1, 4.0])
    points = points.double()
    pixels = torch.stack([CAMERA.project(p.inverse().apply(points)) for p in poses], 1)
    pixels[:, 1, 0] -= 4.5  # along the narrow baseline: still on the ray's plane, so those two fit exactly
    pixels[:, 0, 1] += 0.5  # across the wide one: those two do not quite
    pixels[:, 1, 1] += 0.5
    pixels[:, 2, 1] -= 0.5
    result = triangulate(pixels, torch.ones(200, 3, dtype=torch.bool), [CAMERA] * 3, poses)
    assert bool(result.accepted.all())
    assert result.support.tolist() == [[True, False, True]] * 200
    assert float((result.positions - points).norm(dim=1).max()) < 0.02
