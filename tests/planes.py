"""Photos of a textured plane whose depth and normal are known at every pixel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from splat.core.camera import Camera
from splat.core.capture import Capture, PointCloud, View
from splat.core.geometry import Rigid
from splat.core.image import write_png
from splat.core.slots import DepthMap, Reporter
from splat.geometry.surface_normals import normals_of_depth


@dataclass(frozen=True, eq=False)
class PlaneScene:
    """A plane through `origin` with unit `normal` (world), painted with smooth noise."""

    origin: Tensor
    normal: Tensor
    texture: Tensor

    @staticmethod
    def make(tilt_degrees: float = 0.0, distance: float = 4.0, seed: int = 0) -> PlaneScene:
        angle = torch.tensor(tilt_degrees, dtype=torch.float64).deg2rad()
        normal = torch.stack([angle.sin(), torch.zeros_like(angle), -angle.cos()])
        noise = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(seed))
        texture = torch.nn.functional.interpolate(noise, (768, 768), mode="bicubic", align_corners=True).clamp(0, 1)
        return PlaneScene(torch.tensor([0.0, 0.0, distance], dtype=torch.float64), normal, texture)

    def depth(self, camera: Camera, world_from_cam: Rigid) -> Tensor:
        """z-depth at pixel centres [h w], float64."""
        rays = camera.unproject(camera.pixel_centres().double(), torch.ones(camera.height, camera.width).double())
        turned = rays @ world_from_cam.rotation.T
        return ((self.origin - world_from_cam.translation) @ self.normal) / (turned @ self.normal)

    def photo(self, camera: Camera, world_from_cam: Rigid) -> Tensor:
        """uint8 [h w 3]."""
        depth = self.depth(camera, world_from_cam)
        points = world_from_cam.apply(camera.unproject(camera.pixel_centres().double(), depth)) - self.origin
        along = torch.linalg.cross(self.normal, torch.tensor([0.0, 1, 0], dtype=torch.float64))
        along = along / along.norm()
        st = torch.stack([points @ along, points[..., 1]], -1) / 6  # the texture covers 12 x 12 units
        sampled = torch.nn.functional.grid_sample(self.texture, st.float()[None], align_corners=True)
        return (255 * sampled[0].permute(1, 2, 0)).round().byte()


def walk(count: int, step: float = 0.35) -> list[Rigid]:
    """Cameras side by side, each turned a little towards the middle."""
    poses = []
    for i in range(count):
        x = (i - (count - 1) / 2) * step
        eye = torch.tensor([x, 0.1 * (i % 2), 0.0], dtype=torch.float64)
        poses.append(Rigid.look_at(eye, torch.tensor([0.3 * x, 0, 4.0]), torch.tensor([0.0, -1.0, 0.0])))
    return poses


def capture_of(scene: PlaneScene, camera: Camera, poses: list[Rigid], folder: Path) -> Capture:
    """With photos on disk, and sparse points on the plane."""
    folder.mkdir(parents=True, exist_ok=True)
    views, points = [], []
    for i, pose in enumerate(poses):
        path = folder / f"{i}.png"
        write_png(path, scene.photo(camera, pose).numpy())
        views.append(View(path.name, path, (camera.width, camera.height), camera, pose))
        d = scene.depth(camera, pose)[::16, ::16].reshape(-1)
        points.append(pose.apply(camera.unproject(camera.pixel_centres().double()[::16, ::16].reshape(-1, 2), d)))
    cloud = torch.cat(points).float()
    return Capture(tuple(views), PointCloud(cloud, torch.full_like(cloud, 0.5)))


@dataclass(frozen=True, eq=False)
class TrueDepth:
    """A depth prior that knows the plane: depths times `factor`, all of one confidence."""

    scene: PlaneScene
    factor: float = 1.0
    confidence: float = 0.9

    def __call__(self, capture: Capture, report: Reporter, seed: int = 0) -> list[DepthMap]:
        maps = []
        for i, view in enumerate(capture.views):
            depth = self.factor * self.scene.depth(view.camera, view.pose).float()
            others = tuple(j for j in range(len(capture.views)) if j != i)
            confidence = torch.full_like(depth, self.confidence)
            maps.append(DepthMap(depth, confidence, "metric", normals_of_depth(view.camera, depth), others))
        return maps
