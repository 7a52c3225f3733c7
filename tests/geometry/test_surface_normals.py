"""Normals, slopes of inverse depth, and planes seen exactly."""

import torch

from splat.core.camera import Camera
from splat.geometry.surface_normals import normals_of_depth, normals_of_slopes, slopes_of_normals

CAMERA = Camera(70.0, 75.0, 33.0, 22.0, 64, 48)
NORMAL = torch.nn.functional.normalize(torch.tensor([0.4, -0.3, -0.9]), dim=0)


def depth_of_plane() -> torch.Tensor:
    """Of the plane NORMAL . X = -3."""
    x, y = CAMERA.pixel_centres().float().unbind(2)
    rays = torch.stack([(x - CAMERA.cx) / CAMERA.fx, (y - CAMERA.cy) / CAMERA.fy, torch.ones_like(x)], 2)
    return -3 / (rays @ NORMAL)


def test_differences_of_inverse_depth_give_a_planes_normal() -> None:
    normals = normals_of_depth(CAMERA, depth_of_plane())
    assert torch.allclose(normals, NORMAL.expand_as(normals), atol=1e-3)


def test_slopes_of_a_plane_are_the_change_of_its_inverse_depth_and_lead_back_to_its_normal() -> None:
    depth = depth_of_plane()
    slopes = slopes_of_normals(CAMERA, depth, NORMAL.expand(*depth.shape, 3))
    inverse = 1 / depth
    assert torch.allclose(slopes[0, :, :-1], inverse[:, 1:] - inverse[:, :-1], atol=1e-5)
    assert torch.allclose(slopes[1, :-1], inverse[1:] - inverse[:-1], atol=1e-5)
    assert torch.allclose(normals_of_slopes(CAMERA, inverse, slopes), NORMAL.expand(*depth.shape, 3), atol=1e-4)


def test_a_surface_seen_from_its_edge_has_slopes_of_a_size() -> None:
    depth = torch.full((48, 64), 2.0)
    sideways = torch.tensor([1.0, 0.0, 0.0]).expand(48, 64, 3)
    assert bool(slopes_of_normals(CAMERA, depth, sideways).isfinite().all())
    assert float(slopes_of_normals(CAMERA, depth, sideways).abs().max()) < 0.08
