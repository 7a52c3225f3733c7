"""A sphere of flat Gaussians, and cameras around it."""

from __future__ import annotations

import math

import torch

from splat.core.camera import Camera
from splat.core.gaussians import Gaussians, rgb_to_sh
from splat.core.geometry import Rigid, quats_on_one_side, rotation_between
from splat.core.slots import PathCamera

RADIUS = 0.5


def around(count: int, distance: float = 2.0, side: int = 120) -> list[PathCamera]:
    """Cameras on a sphere (a Fibonacci lattice) that look at its centre."""
    camera = Camera(float(side), float(side), side / 2, side / 2, side, side)
    out = []
    for i in range(count):
        z = 1 - (2 * i + 1) / count
        turn = i * math.pi * (3 - 5**0.5)
        at = distance * torch.tensor([math.cos(turn) * (1 - z * z) ** 0.5, math.sin(turn) * (1 - z * z) ** 0.5, z])
        out.append(PathCamera(camera, Rigid.look_at(at, torch.zeros(3), torch.tensor([0.1, 0.2, 1.0]))))
    return out


def sphere_of_gaussians(count: int) -> Gaussians:
    i = torch.arange(count, dtype=torch.float64)
    z = 1 - (2 * i + 1) / count
    turn = i * math.pi * (3 - 5**0.5)
    normals = torch.stack([turn.cos() * (1 - z * z).sqrt(), turn.sin() * (1 - z * z).sqrt(), z], 1)
    up = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    quats = quats_on_one_side(torch.stack([rotation_between(up, n) for n in normals]))
    spacing = RADIUS * (4 * math.pi / count) ** 0.5
    scales = torch.tensor([0.6 * spacing, 0.6 * spacing, spacing / 20]).log().expand(count, 3)
    colours = torch.where(normals[:, :1] > 0, torch.tensor([[0.9, 0.2, 0.1]]), torch.tensor([[0.1, 0.2, 0.9]]))
    return Gaussians(
        (RADIUS * normals).float(),
        quats.float(),
        scales.contiguous(),
        torch.full((count,), 4.0),
        rgb_to_sh(colours.float()),
    )
