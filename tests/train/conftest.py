"""A small world with a known answer: Gaussians, six cameras around them, and the photos that follow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
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
from splat.core.schedules import ResolutionSchedule, Schedules
from splat.core.slots import DensitySettings, Init, Observer, Phase, Rasterizer, RasterSettings, Silent, Step
from splat.raster import choose
from splat.train.density import NoDensity
from splat.train.loop import TrainResult, TrainSettings, train
from splat.train.models.view_model import ViewModel
from splat.train.observers import TrainingLog
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
    logs: list[TrainingLog] = field(default_factory=list)
    """Of the runs so far."""

    @property
    def history(self) -> list[dict[str, Any]]:
        """The lines of the last run."""
        return self.logs[-1].history

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
        density: DensitySettings | None = None,
        log: Callable[[dict[str, Any]], None] | None = None,
        observers: Sequence[Observer] = (),
        raster: RasterSettings | None = None,
        schedules: Schedules | None = None,
        **arguments: Any,
    ) -> TrainResult:
        source = PhotoSource(photos or self.photos(), resolution, seed=1)
        phase = Phase(
            steps, source, losses, density or NoDensity(), schedules or Schedules(), raster or RasterSettings()
        )
        return self.run((phase,), init, view_model, settings, log, observers, **arguments)

    def run(
        self,
        phases: tuple[Phase, ...],
        init: Init | None = None,
        view_model: ViewModel | None = None,
        settings: TrainSettings | None = None,
        log: Callable[[dict[str, Any]], None] | None = None,
        observers: Sequence[Observer] = (),
        **arguments: Any,
    ) -> TrainResult:
        report = arguments.pop("report", Silent())
        self.logs.append(TrainingLog(report, log))
        return train(
            init or self.start(),
            phases,
            self.raster,
            view_model or ViewModel(len(self.poses)),
            settings or TrainSettings(scene_extent=EXTENT),
            report,
            observers=(self.logs[-1], *observers),
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
