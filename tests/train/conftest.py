"""A small world with a known answer: Gaussians, six cameras around them, and the photos that follow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import oracles
import pytest
import torch
from torch import Tensor

from splat.core.camera import Camera
from splat.core.gaussians import Gaussians
from splat.core.geometry import Rigid
from splat.core.image import Photo
from splat.core.metrics import psnr
from splat.core.schedules import ResolutionSchedule
from splat.core.slots import Init, Rasterizer, RasterSettings, Silent, Step
from splat.raster import choose
from splat.train.loop import Phase, TrainResult, TrainSettings, train
from splat.train.view_model import ViewModel
from splat.train.views import PhotoSource, Posed

EXTENT = 4.0


def l1(step: Step) -> tuple[Tensor, dict[str, float]]:
    """Mean absolute difference over the pixels that count."""
    error = (step.rgb - step.target).abs().mean(2)
    if step.item.weight is not None:
        error = error * (step.item.weight.float() / 255)
    loss = error.mean()
    return loss, {"l1": float(loss.detach())}


@dataclass(frozen=True, eq=False)
class World:
    truth: Gaussians
    camera: Camera
    poses: list[Tensor]
    raster: Rasterizer

    def draw(self, gaussians: Gaussians, pose: Tensor, background: float = 0.0) -> Tensor:
        with torch.no_grad():
            return self.raster(gaussians, self.camera, pose, torch.full((3,), background), RasterSettings()).rgb

    def photos(self, gains: list[float] | None = None) -> list[Posed]:
        made = []
        for i, pose in enumerate(self.poses):
            rgb = self.draw(self.truth, pose) * (gains[i] if gains else 1.0)
            made.append(Posed(Photo(rgb=(rgb.clamp(0, 1) * 255 + 0.5).byte().numpy()), self.camera, pose))
        return made

    def start(self, noise: float = 0.05) -> Init:
        generator = torch.Generator().manual_seed(3)
        return Init(self.truth.map(lambda t: t + noise * torch.randn(t.shape, generator=generator)))

    def psnr(self, gaussians: Gaussians) -> float:
        """Worst view against the truth."""
        return min(psnr(self.draw(gaussians, p), self.draw(self.truth, p).clamp(0, 1)) for p in self.poses)

    def train(
        self,
        steps: int,
        init: Init | None = None,
        photos: list[Posed] | None = None,
        view_model: ViewModel | None = None,
        resolution: ResolutionSchedule | None = None,
        losses: Callable[[Step], tuple[Tensor, dict[str, float]]] = l1,
        settings: TrainSettings | None = None,
        phase: dict[str, Any] | None = None,
        **arguments: Any,
    ) -> TrainResult:
        source = PhotoSource(photos or self.photos(), steps, resolution, seed=1)
        phases = (Phase(steps, source, losses, **(phase or {})),)
        return train(
            init or self.start(),
            phases,
            self.raster,
            view_model or ViewModel(len(self.poses)),
            settings or TrainSettings(scene_extent=EXTENT),
            arguments.pop("report", Silent()),
            **arguments,
        )


@pytest.fixture(scope="session")
def world() -> World:
    generator = torch.Generator().manual_seed(5)
    truth = oracles.random_gaussians(40, generator, sh_degree=0, dtype=torch.float32)
    eyes = [torch.tensor([4 * torch.cos(a), 4 * torch.sin(a), 0.5 + 0.3 * a]) for a in torch.arange(6) * 0.5]
    up = torch.tensor([0.0, 0.0, 1.0])
    poses = [Rigid.look_at(e, torch.zeros(3), up).inverse().matrix().float() for e in eyes]
    return World(truth, Camera(42.0, 42.0, 24.0, 18.0, 48, 36), poses, choose("cpu"))
