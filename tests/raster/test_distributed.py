"""Gaussians spread over processes look, and learn, as in one."""

from dataclasses import replace
from pathlib import Path

import oracles
import pytest
import together
import torch

from splat.core.camera import Camera
from splat.core.gaussians import Gaussians
from splat.core.process_group import ALONE, ProcessGroup
from splat.core.slots import Rasterizer, RasterSettings
from splat.native import build
from splat.raster.distributed import Distributed
from splat.raster.native import Native

pytestmark = pytest.mark.skipif(build.unavailable() is not None, reason="no compiled kernels")
SETTINGS = RasterSettings(absgrad=True)
BACKGROUND = torch.tensor([0.2, 0.5, 0.9])


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def share(rank: int) -> Gaussians:
    """Of unlike sizes; some Gaussians are far off."""
    g = oracles.random_gaussians(90 + 40 * rank, seeded(rank), 1, 0.2, torch.float32)
    return g[:0] if rank == 2 else g


def photo(rank: int) -> tuple[Camera, torch.Tensor]:
    """Of unlike sizes; the second looks past almost everything."""
    pose = oracles.random_pose(seeded(7 + rank), torch.float32)
    return oracles.random_camera(60 + 20 * rank, 50, 60.0 * (1 + 4 * (rank == 1))), pose


def some_features(rank: int) -> torch.Tensor:
    return torch.randn(len(share(rank)), 5, generator=seeded(20 + rank))


def loss(rank: int, image) -> torch.Tensor:
    weights = torch.randn(image.rgb.shape, generator=seeded(50 + rank)).to(image.rgb)
    total = (weights * image.rgb).sum() + (image.alpha**2).sum() + 0.1 * image.depth.sum()
    return total if image.features is None else total + (weights * image.normals).sum() + image.features.square().sum()


def shown(image) -> list[torch.Tensor]:
    parts = image.rgb, image.alpha, image.depth, image.normals, image.features
    return [t.detach() for t in parts if t is not None]


def draw_channels(group: ProcessGroup, device: str = "cpu") -> dict[str, object]:
    return draw(group, device, True)


def draw(group: ProcessGroup, device: str = "cpu", channels: bool = False) -> dict[str, object]:
    rows, (camera, pose) = oracles.leaves(share(group.rank).to(device)), photo(group.rank)
    features = some_features(group.rank).to(device).requires_grad_() if channels else None
    pose, background = pose.to(device).requires_grad_(), BACKGROUND.to(device, copy=True).requires_grad_()
    raster = Distributed(group)
    image = raster(rows, camera, pose, background, replace(SETTINGS, normals=channels), features)
    loss(group.rank, image).backward()
    with torch.no_grad():
        ids = raster.visible(rows, camera, pose, SETTINGS)
    shares = [(c.width, s.means2d.grad, s.radii, s.absgrad) for c, s in image.per_photo]
    gradients = [t.grad for t in oracles.fields(rows).values()] + ([] if features is None else [features.grad])
    return {
        "image": shown(image),
        "gradients": gradients,
        "pose": pose.grad,
        "background": background.grad,
        "radii": image.radii,
        "shares": shares,
        "ids": ids,
    }


@pytest.mark.parametrize("channels", [False, True])
def test_images_and_gradients_are_those_of_one_process_with_all_gaussians(tmp_path: Path, channels: bool) -> None:
    world = 3
    found = together.run(world, draw_channels if channels else draw, tmp_path)
    features = torch.cat([some_features(r) for r in range(world)]).requires_grad_() if channels else None
    every = oracles.leaves(Gaussians.cat([share(r) for r in range(world)]))
    sizes = [len(share(r)) for r in range(world)]
    seen, drawn = [torch.zeros(len(every), dtype=torch.bool) for _ in range(2)]
    for rank in range(world):
        (camera, pose), background = photo(rank), BACKGROUND.clone().requires_grad_()
        pose = pose.requires_grad_()
        image = Native()(every, camera, pose, background, replace(SETTINGS, normals=channels), features)
        loss(rank, image).backward()
        for a, b in zip(found[rank]["image"], shown(image), strict=True):
            assert torch.equal(a, b), "bit for bit"
        assert oracles.relative_error(found[rank]["pose"], pose.grad) < 1e-6
        assert oracles.relative_error(found[rank]["background"], background.grad) < 1e-6
        expected = (image.means2d.grad.split(sizes), image.radii.split(sizes), image.absgrad.split(sizes))
        for other in range(world):  # what this photo says of everyone's Gaussians, where they live
            width, *statistics = found[other]["shares"][rank]
            assert width == camera.width
            for a, b in zip(statistics, (part[other] for part in expected), strict=True):
                assert torch.equal(a, b)
        seen[Native().visible(every.detach(), camera, pose.detach(), SETTINGS)] = True
        drawn |= image.radii > 0
    for rank in range(world):
        sources = [*oracles.fields(every).values(), *([] if features is None else [features])]
        for a, b in zip(found[rank]["gradients"], sources, strict=True):
            assert oracles.relative_error(a, b.grad.split(sizes)[rank]) < 1e-6
        assert torch.equal(found[rank]["ids"], seen.split(sizes)[rank].nonzero()[:, 0])
        assert torch.equal(found[rank]["radii"] > 0, drawn.split(sizes)[rank])


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two GPUs")
def test_two_gpus_draw_what_two_processes_draw_on_the_cpu(tmp_path: Path) -> None:
    for folder in ("gpu", "cpu"):
        (tmp_path / folder).mkdir()
    there = together.run(2, draw, tmp_path / "gpu", "cuda")
    for a, b in zip(there, together.run(2, draw, tmp_path / "cpu"), strict=True):
        assert all(torch.allclose(x.cpu(), y, atol=1e-4) for x, y in zip(a["image"], b["image"], strict=True))
        assert all(
            oracles.relative_error(x.cpu(), y) < 1e-3 for x, y in zip(a["gradients"], b["gradients"], strict=True)
        )


def exchanged(group: ProcessGroup) -> list[object]:
    rank, world = group.rank, group.world
    sent = [(rank + 2 * i) % 3 for i in range(world)]
    received = [(i + 2 * rank) % 3 for i in range(world)]
    rows = torch.cat([torch.full((n, 2), 10.0 * rank + i) for i, n in enumerate(sent)])
    ways = [group, ProcessGroup(rank, world, direct=False)]
    return [
        [way.all_to_all(rows, sent, received) for way in ways],
        [way.all_gather_rows(torch.arange(rank + 1) + 10 * rank) for way in ways],
        group.all_gather(torch.tensor([rank])),
        group.all_reduce(1.0, rank),
        group.broadcast({"of": rank}),
        group.gather(rank),
    ]


def test_rows_arrive_where_they_were_sent_whatever_the_backend_has(tmp_path: Path) -> None:
    world = 3
    for rank, (rows, joined, stacked, sums, told, collected) in enumerate(together.run(world, exchanged, tmp_path)):
        expected = torch.cat([torch.full(((i + 2 * rank) % 3, 2), 10.0 * i + rank) for i in range(world)])
        assert all(torch.equal(r, expected) for r in rows)
        assert all(j.tolist() == [0, 10, 11, 20, 21, 22] for j in joined)
        assert stacked.tolist() == [[0], [1], [2]] and sums == [3.0, 3.0] and told == {"of": 0}
        assert collected == ([0, 1, 2] if rank == 0 else None)


def test_a_world_of_one_is_the_plain_rasterizer() -> None:
    mine, rows = draw(ALONE), oracles.leaves(share(0))
    image = Native()(rows, *photo(0), BACKGROUND, SETTINGS)
    loss(0, image).backward()
    assert torch.equal(mine["image"][0], image.rgb)
    assert all(torch.equal(a, t.grad) for a, t in zip(mine["gradients"], oracles.fields(rows).values(), strict=True))
    assert isinstance(Distributed(ALONE), Rasterizer)
