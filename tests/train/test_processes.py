"""Two processes that train one scene do what one process does with both photos in every step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import oracles
import pytest
import together
import torch

from splat.core.camera import Camera
from splat.core.errors import Interrupted, SplatError
from splat.core.gaussians import Gaussians
from splat.core.geometry import Rigid
from splat.core.image import Photo
from splat.core.process_group import ALONE, ProcessGroup
from splat.core.schedules import LearningRates, Schedules, ShSchedule
from splat.core.slots import DensitySettings, Init, Item, Phase, RasterSettings, RowGradients, Silent
from splat.geometry.reproject import PosedDepth
from splat.losses import Losses
from splat.native import build
from splat.raster.distributed import Distributed
from splat.raster.native import Native
from splat.train import loop
from splat.train.accel import Acceleration
from splat.train.accel.processes import batch_rates, shard_density, shard_init
from splat.train.density import DefaultDensity, MCMCDensity, NoDensity
from splat.train.density.near_camera import NearCamera
from splat.train.loop import TrainSettings, train
from splat.train.models.free import FreeGaussians
from splat.train.models.view_model import ViewModel, ViewSettings
from splat.train.observers import TrainingLog
from splat.train.surroundings import SurroundingsSettings
from splat.train.views import PhotoSource, Posed

pytestmark = pytest.mark.skipif(build.unavailable() is not None, reason="no compiled kernels")
CAMERA = Camera(42.0, 42.0, 24.0, 18.0, 48, 36)
POSES = [
    Rigid.look_at(torch.tensor([4 * math.cos(a), 4 * math.sin(a), 0.5]), torch.zeros(3), torch.tensor([0.0, 0.0, 1.0]))
    .inverse().matrix().float()
    for a in (0.0, 0.5, 1.0, 1.5, 2.0)
]  # fmt: skip


def truth() -> Gaussians:
    return oracles.random_gaussians(60, torch.Generator().manual_seed(5), sh_degree=0, dtype=torch.float32)


def start() -> Init:
    generator = torch.Generator().manual_seed(3)
    disturbed = truth().map(lambda t: t + 0.05 * torch.randn(t.shape, generator=generator))
    return Init(disturbed.with_sh_degree(1))


def photos() -> list[Posed]:
    with torch.no_grad():
        images = [Native()(truth(), CAMERA, p, torch.zeros(3), RasterSettings()).rgb for p in POSES]
    return [
        Posed(Photo(rgb=((0.9 + 0.05 * i) * image.clamp(0, 1) * 255 + 0.5).byte().numpy()), CAMERA, pose)
        for i, (image, pose) in enumerate(zip(images, POSES, strict=True))
    ]


def unknown(cam_from_world: torch.Tensor) -> PosedDepth:
    """A photo of whose depth nothing is known."""
    return PosedDepth(CAMERA, Rigid.from_matrix(cam_from_world).inverse(), torch.zeros(CAMERA.height, CAMERA.width))


@dataclass(eq=False)
class InBatches:
    """Several items of another source in one step."""

    source: PhotoSource
    size: int

    def items(self, step: int, steps: int) -> Iterator[Item]:
        for _ in range(self.size):
            yield from (replace(item, loss_weight=1 / self.size) for item in self.source.items(step, steps))

    def state(self) -> dict[str, Any]:
        return self.source.state()

    def load_state(self, state: dict[str, Any]) -> None:
        self.source.load_state(state)


def trained(
    group: ProcessGroup,
    steps: int,
    folder: Path | None = None,
    density: DensitySettings | None = None,
    together: int = 1,
) -> tuple[Gaussians, torch.Tensor, torch.Tensor, list[dict[str, Any]]]:
    """By the processes of `group`, or by one that takes `together` photos in a step as they would."""
    source = PhotoSource(photos(), seed=1)
    init, world = start(), group.world * together
    if together > 1:  # rows in the order in which the shares come back
        init = Init(Gaussians.cat([shard_init(init, ProcessGroup(r, together)).gaussians for r in range(together)]))
    settings = TrainSettings(scene_extent=4.0, checkpoint_every=0 if folder is None else 7)
    rates = LearningRates() if together == 1 else batch_rates(LearningRates(), together)
    centres = torch.stack([-p[:3, :3].T @ p[:3, 3] for p in POSES])
    view_model = ViewModel(len(POSES), ViewSettings(exposure=True, poses=True, poses_from=0.0), centres, 4.0)
    phase = Phase(
        steps,
        source if together == 1 else InBatches(source, together),
        Losses(),
        density or NoDensity(),
        Schedules(rates=rates, sh=ShSchedule(0.2)),
        surroundings=SurroundingsSettings(200).around(start().gaussians.means, photos(), [unknown(p) for p in POSES]),
    )
    if together > 1:
        view_model.prepare = lambda total: ViewModel.prepare(view_model, total * together)  # type: ignore[method-assign]
    report = Silent()
    log = TrainingLog(report)
    raster, acceleration = Native(), None
    if group.world > 1:
        raster, acceleration = Distributed(group), Acceleration(init.gaussians.means.device, report, group=group)
    result = train(init, (phase,), raster, view_model, settings, report, folder, [log], acceleration)
    assert world == max(group.world, together)
    return result.gaussians, result.view_model.exposures(), result.view_model.poses.values, log.history


def closeness(a: Gaussians, b: Gaussians) -> float:
    return max(oracles.relative_error(x, y) for x, y in zip(vars(a).values(), vars(b).values(), strict=True))


def test_ten_steps_of_two_processes_are_ten_steps_of_one_that_takes_both_photos(tmp_path: Path) -> None:
    one, exposures, poses, _ = trained(ALONE, 10, together=2)
    histories = []
    for gaussians, *views, history in together.run(2, trained, tmp_path, 10):
        assert closeness(gaussians, one) < 1e-6
        assert torch.allclose(views[0], exposures, atol=1e-7) and torch.allclose(views[1], poses, atol=1e-8)
        histories.append([line["step"] for line in history])
    assert histories == [[10], []], "rank 0 alone watches"
    assert poses.abs().max() > 0 and (exposures - torch.eye(3, 4)).abs().max() > 1e-3
    assert closeness(one, trained(ALONE, 10)[0]) > 1e-3, "other photos in other steps"


class BesideTargets:
    """Each photo with the normals of a depth map, and a target without them beside it, as `lm` has both."""

    def __init__(self) -> None:
        self.photos = PhotoSource(photos(), seed=1)

    def items(self, step: int, steps: int) -> Iterator[Item]:
        (photo,) = self.photos.items(step, steps)
        normals = torch.tensor([0.0, 0.6, -0.8]).expand(CAMERA.height, CAMERA.width, 3).contiguous()
        yield replace(photo, normals_cam=normals)
        yield replace(photo, view_id=None, terms=frozenset({"l1"}))

    def state(self) -> dict[str, Any]:
        return self.photos.state()

    def load_state(self, state: dict[str, Any]) -> None:
        self.photos.load_state(state)


def with_normals(group: ProcessGroup) -> Gaussians:
    """By two processes, or by one that takes the items of both, with the rows in the order in which shares come
    back."""
    init, source, rates = start(), BesideTargets(), LearningRates()
    if group.world == 1:
        rates = batch_rates(rates, 2)
        init = Init(Gaussians.cat([shard_init(init, ProcessGroup(r, 2)).gaussians for r in range(2)]))
        source = InBatches(source, 2)  # type: ignore[assignment, arg-type]
    centres = torch.stack([-p[:3, :3].T @ p[:3, 3] for p in POSES])
    view_model = ViewModel(len(POSES), ViewSettings(exposure=False), centres, 4.0)
    phase = Phase(
        6,
        source,
        Losses(normal_l1=0.01, normal_cosine=0.01),
        NoDensity(),
        Schedules(rates=rates, sh=ShSchedule(0.2)),
        RasterSettings(normals=True),
    )
    kernels, acceleration = Native(), None
    if group.world > 1:
        kernels = Distributed(group)
        acceleration = Acceleration(init.gaussians.means.device, Silent(), group=group)
    settings = TrainSettings(scene_extent=4.0)
    return train(init, (phase,), kernels, view_model, settings, Silent(), None, [], acceleration).gaussians


def test_a_photo_with_normals_and_a_target_without_may_be_of_two_processes(tmp_path: Path) -> None:
    one = with_normals(ALONE)
    for gaussians in together.run(2, with_normals, tmp_path):
        assert closeness(gaussians, one) < 1e-5


def grown_and_resumed(group: ProcessGroup, folder: str) -> list[Any]:
    """Density control at work: straight, and stopped after 35 of 60 steps and gone on."""
    density = DefaultDensity(cap=90, threshold=1e-6, stop=0.9)  # changes once, after step 50
    straight = trained(group, 60, Path(folder) / "a", density)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop._Audience, "agreed", lambda self, overdue, stops: (False, self.run.step == 35))
        with pytest.raises(Interrupted):
            trained(group, 60, Path(folder) / "b", density)
    resumed = trained(group, 60, Path(folder) / "b", density)
    with pytest.raises(SplatError, match="same checkpoint"):  # not on a disk that both can read
        trained(group, 60, Path(folder) / ("a" if group.rank == 0 else "none"), density)
    return [straight, resumed]


def test_shares_grow_to_the_cap_and_a_stopped_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    results = together.run(2, grown_and_resumed, tmp_path / "out", str(tmp_path))
    (straight, resumed), (theirs, _) = results
    assert closeness(straight[0], theirs[0]) == 0, "both processes end with the whole scene"
    assert closeness(straight[0], resumed[0]) == 0 and torch.equal(straight[1], resumed[1])
    assert 60 < len(straight[0]) <= 90
    with pytest.raises(SplatError, match="2 processes"):
        trained(ALONE, 60, tmp_path / "a")


def test_every_gaussian_has_one_home() -> None:
    init = start()
    shares = [shard_init(init, ProcessGroup(r, 3)).gaussians for r in range(3)]
    assert sum(len(s) for s in shares) == len(init.gaussians)
    assert {float(x) for s in shares for x in s.means[:, 0]} == {float(x) for x in init.gaussians.means[:, 0]}
    assert shard_init(init, ALONE) is init
    with pytest.raises(SplatError, match="divided among"):
        shard_init(Init(init.gaussians[:2]), ProcessGroup(0, 3))


def test_density_control_is_divided() -> None:
    assert shard_density(MCMCDensity(cap=101), 2).cap == 51
    share = shard_density(DefaultDensity(cap=100), 4)
    assert share.cap == 25 and share.limit == pytest.approx(6e-4 / 4)
    assert shard_density(NoDensity(), 2) == NoDensity() and shard_density(share, 1) is share
    near = shard_density(NearCamera(MCMCDensity(cap=101), torch.zeros(1, 3), torch.ones(1)), 2)
    assert isinstance(near, NearCamera) and near.density == MCMCDensity(cap=51)


@pytest.mark.parametrize("photos", [2, 4])
def test_batches_move_as_far_as_the_photos_they_stand_for(photos: int) -> None:
    """On gradients that are noise alone, in the root mean square; and moments decay as much with every photo."""
    rates = LearningRates(means_final=3.2e-4)
    batch = batch_rates(rates, photos)
    assert batch.beta1 == pytest.approx(rates.beta1**photos) and batch.beta2 == pytest.approx(rates.beta2**photos)
    assert batch_rates(rates, 1) == rates
    g = start().gaussians
    g = Gaussians.cat([g] * 10).map(torch.zeros_like)
    moved = []
    for r, size in ((rates, 1), (batch, photos)):
        model = FreeGaussians(g)
        for step in range(600 // size):
            noise = g.map(lambda t, size=size: torch.randn(size, *t.shape).mean(0))
            model.update(RowGradients(None, noise), r.at(step / 600, 1.0))
        moved.append(float(model.gaussians().means.square().mean().sqrt()))
    assert moved[1] == pytest.approx(moved[0], rel=0.1)
