"""Frames of a flight past a textured wall with a card before it: exact depth and colours."""

from __future__ import annotations

from dataclasses import replace

import cv2
import torch
from planes import PlaneScene, walk

from splat.core.camera import Camera
from splat.core.geometry import Rigid
from splat.core.slots import ReferencePhoto, RenderedView
from splat.geometry.photo_detail import NamedPhoto

CAMERA = Camera(200.0, 200.0, 80.0, 60.0, 160, 120)
WALL = PlaneScene.make(25.0)
CARD_Z, CARD_HALF = 2.5, 0.35
"""The card faces the cameras of `walk`, in the world's plane z."""


def frame(pose: Rigid, card: bool = False) -> RenderedView:
    """A render without any mistake."""
    depth, rgb = WALL.depth(CAMERA, pose), WALL.photo(CAMERA, pose).float() / 255
    if card:
        rays = CAMERA.unproject(CAMERA.pixel_centres().double(), torch.ones(CAMERA.height, CAMERA.width).double())
        turned = rays @ pose.rotation.T
        z = (CARD_Z - pose.translation[2]) / turned[..., 2]
        at = pose.translation + z[..., None] * turned
        hit = (at[..., :2].abs() < CARD_HALF).all(-1)
        depth = torch.where(hit, z, depth)
        paint = 0.5 + 0.3 * torch.stack([(9 * at[..., 0]).sin(), (7 * at[..., 1]).cos(), (5 * at[..., 0]).cos()], -1)
        rgb = torch.where(hit[..., None], (255 * paint).round() / 255, rgb.double()).float()
    return RenderedView(CAMERA, pose, rgb, torch.ones(CAMERA.height, CAMERA.width), depth.float())


def softened(view: RenderedView, sigma: float = 2.0) -> RenderedView:
    """As Gaussians draw it: colours and depths of the card and the wall go over into each other at its edges."""
    card = (view.depth < CARD_Z + 0.1).float()
    share = torch.from_numpy(cv2.GaussianBlur(card.numpy(), (0, 0), sigma))
    near_rgb = torch.where(card[..., None] > 0, view.rgb, torch.tensor([0.2, 0.7, 0.2]))
    far_rgb = torch.where(card[..., None] > 0, torch.tensor([0.1, 0.1, 0.15]), view.rgb)
    rgb = share[..., None] * near_rgb + (1 - share[..., None]) * far_rgb
    near, far = view.depth[card > 0].mean(), view.depth[card == 0].mean()
    depth = share * torch.where(card > 0, view.depth, near) + (1 - share) * torch.where(card > 0, far, view.depth)
    return replace(view, rgb=rgb, depth=depth)


def flight(count: int, step: float = 0.05, card: bool = False) -> list[RenderedView]:
    return [frame(pose, card) for pose in walk(count, step)]


def disc(x: int, y: int, radius: int) -> torch.Tensor:
    """bool [h w]."""
    rows, columns = torch.meshgrid(torch.arange(CAMERA.height), torch.arange(CAMERA.width), indexing="ij")
    return (columns - x) ** 2 + (rows - y) ** 2 < radius**2


def with_floater(view: RenderedView, where: torch.Tensor, z: float = 1.0) -> RenderedView:
    """A red thing in this frame alone, at that depth."""
    red = torch.tensor([1.0, 0.1, 0.1])
    return replace(
        view, rgb=torch.where(where[..., None], red, view.rgb), depth=torch.where(where, torch.tensor(z), view.depth)
    )


def photo_of(view: RenderedView, name: str, exposure: float = 1.0) -> NamedPhoto:
    """A photo of the same place as a render without mistakes."""
    rgb = (view.rgb * exposure).clamp(0, 1)
    return NamedPhoto(name, ReferencePhoto(view.camera, view.world_from_cam, rgb, view.depth))
