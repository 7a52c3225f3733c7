"""`.ksplat`: the three levels of one scene against its .ply, and files built by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hostile import ksplat

from splat.core.errors import SplatError
from splat.export import codec_for, read_splat


@pytest.mark.parametrize("level", [0, 1, 2])
def test_buckets_sections_and_harmonics_have_their_places(level: int, tmp_path: Path) -> None:
    path = tmp_path / "a.ksplat"
    path.write_bytes(ksplat([(1, 3, [2, 3]), (0, 1, [1])], level))
    g = read_splat(path).gaussians
    owner = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2, 2, 0] if level else [0] * 10)
    assert torch.equal(g.means[:, 0], 100.0 * owner + torch.tensor([*range(9), 0.0]))
    assert torch.allclose(g.log_scales.exp(), torch.tensor([0.5, 1.0, 2.0]))
    assert torch.equal(g.quats_wxyz[0], torch.tensor([1.0, 0, 0, 0]))
    assert torch.allclose(g.opacities, torch.tensor(0.4)) and torch.allclose(
        g.base_rgb[0], torch.tensor([1.0, 0, 0.2]), atol=1e-6
    )
    values = torch.arange(9.0).reshape(3, 3).T
    assert torch.allclose(g.sh[0, 1:], values if level < 2 else -2 + values / 255 * 4)


@pytest.mark.parametrize("change", ["level", "version", "count", "buckets", "cut", "short", "degree"])
def test_a_damaged_file_is_one_sentence(change: str, tmp_path: Path) -> None:
    data = bytearray(ksplat([(1, 3, [2, 3])], 1))
    places = {"level": (20, 7), "version": (0, 3), "count": (16, 200), "buckets": (4096 + 36, 9), "degree": (4136, 9)}
    if change in places:
        at, value = places[change]
        data[at] = value
    path = tmp_path / "bad.ksplat"
    path.write_bytes(bytes(data[: -100 if change == "cut" else 50 if change == "short" else None]))
    with pytest.raises(SplatError, match=r"bad\.ksplat") as e:
        read_splat(path)
    assert "\n" not in str(e.value)


def test_it_is_read_and_not_written() -> None:
    with pytest.raises(SplatError, match=r"a\.ksplat has no suffix"):
        codec_for(Path("a.ksplat"))


@pytest.mark.data
@pytest.mark.parametrize(("level", "step"), [(0, 0.0), (1, 1e-4), (2, 1e-4)])
def test_the_levels_of_one_scene_agree_with_its_ply(level: int, step: float, data_root: Path) -> None:
    folder = data_root / "splats"
    truth = read_splat(folder / "playbot_5_0.ply").gaussians
    g = read_splat(folder / f"playbot_5_0_c{level}.ksplat").gaussians
    distance, ids = torch.cdist(truth.means.double(), g.means.double()).min(1)
    g = g[ids]
    assert len(ids.unique()) == len(truth) and float(distance.max()) <= step
    assert (g.log_scales - truth.log_scales).abs().max() < 1e-3
    assert (g.opacities - truth.opacities).abs().max() < 1.01 / 255
    unit = torch.nn.functional.normalize
    assert ((unit(g.quats_wxyz, dim=1) * unit(truth.quats_wxyz, dim=1)).sum(1).abs() > 1 - 1e-5).all()
    assert (g.sh[:, 1:] - truth.sh[:, 1:4]).abs().max() <= (0.0, 1e-3, 0.014)[level]
