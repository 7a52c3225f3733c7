"""What a format must not lose: anti-aliasing, precision, sizes, rows. And what it says where it must."""

from __future__ import annotations

import gzip
import json
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import hostile
import numpy as np
import oracles
import pytest
import torch
from noting import Noting

from splat.commands.convert import Convert
from splat.core.errors import SplatError
from splat.core.gaussians import Gaussians
from splat.core.ply import read_ply_header
from splat.core.slots import Codec, RasterSettings, Silent, SplatFile
from splat.export import CODECS, load_splat, read_splat, save_splat
from splat.export.header import header_of, is_antialiased
from splat.export.sidecar import drawn_as_said
from splat.export.spz import SpzCodec
from splat.export.spz_limits import fraction_bits

EACH = pytest.mark.parametrize("codec", CODECS, ids=lambda c: c.name)


def scene(n: int = 400, size: float = 1.0, at: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Gaussians:
    """Gaussians in a ball of `size` about `at`, a fiftieth of it large."""
    g = oracles.random_gaussians(n, torch.Generator().manual_seed(3), dtype=torch.float32)
    means = torch.randn(n, 3, generator=torch.Generator().manual_seed(4)) * size + torch.tensor(at)
    return replace(g, means=means, log_scales=0.3 * g.log_scales - 0.3 * g.log_scales.mean() + np.log(size / 50))


def nearest(g: Gaussians, back: Gaussians) -> tuple[float, Gaussians]:
    """The largest distance from a Gaussian to the nearest of `back`, and `back` in the row order of `g`."""
    distance, ids = torch.cdist(g.means.double(), back.means.double()).min(1)
    return float(distance.max()), back[ids]


# --------------------------------------------------------------------------------------------------- anti-aliasing


@EACH
@pytest.mark.parametrize("mode", ["mip", "default"])
def test_every_format_keeps_whether_it_was_trained_with_anti_aliasing(codec: Codec, mode: str, tmp_path: Path) -> None:
    save_splat(tmp_path / "a.ply", scene(), {"SplatRenderMode": mode})
    other = tmp_path / f"b{codec.suffixes[0]}"
    Convert(tmp_path / "a.ply", (other,))()
    Convert(other, (tmp_path / "c.ply",))()
    assert is_antialiased(read_splat(other).header) == (mode == "mip")
    assert f"SplatRenderMode: {mode}" in read_ply_header(tmp_path / "c.ply").comments


@EACH
def test_every_format_keeps_which_way_is_up(codec: Codec, tmp_path: Path) -> None:
    save_splat(tmp_path / "a.ply", scene(20), {"Vertical axis": "z"})
    other = tmp_path / f"b{codec.suffixes[0]}"
    Convert(tmp_path / "a.ply", (other,))()
    assert read_splat(other).header["Vertical axis"] == "z"
    assert nearest(scene(20), load_splat(other))[0] < 0.05, "and the coordinates"


def test_version_4_of_spz_holds_what_version_3_does(tmp_path: Path) -> None:
    pytest.importorskip("zstandard", reason="zstandard (extra `spz`) is not installed")
    g, header = scene(), {"SplatRenderMode": "mip", "offset": "500000 4000000 10", "Vertical axis": "z"}
    third, fourth = tmp_path / "3.spz", tmp_path / "4.spz"
    save_splat(third, g, header)
    SpzCodec(version=4).save(fourth, g, header, Silent())
    assert fourth.read_bytes()[:8] == b"NGSP\4\0\0\0"
    a, b = read_splat(third), read_splat(fourth)
    assert a.header == b.header == header and (tmp_path / "4.spz.json").is_file()
    for name, values in oracles.fields(a.gaussians).items():
        assert torch.equal(values, oracles.fields(b.gaussians)[name]), name
    save_splat(fourth, g)
    assert not (tmp_path / "4.spz.json").exists(), "notes of the file that was there before"


def test_version_4_of_spz_without_zstandard_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(SplatError, match=r"splat3d\[spz\].*--spz-version 3"):
        SpzCodec(version=4).save(tmp_path / "4.spz", scene(), {}, Silent())


def test_the_tag_stands_where_other_programs_look_for_it(tmp_path: Path) -> None:
    names = [f"b{codec.suffixes[0]}" for codec in CODECS]
    save_splat(tmp_path / "a.ply", scene(), {"SplatRenderMode": "mip"})
    report = Noting()
    Convert(tmp_path / "a.ply", tuple(tmp_path / n for n in names))()
    assert gzip.decompress((tmp_path / "b.spz").read_bytes())[14] == 1
    with zipfile.ZipFile(tmp_path / "b.sog") as z:
        meta = json.loads(z.read("meta.json"))
    assert meta["antialias"] is True and meta["model"] == "antialiased"
    for name in ("b.ply", "b.compressed.ply"):
        assert "SplatRenderMode: mip" in read_ply_header(tmp_path / name).comments
    save_splat(tmp_path / "b.splat", scene(), {"SplatRenderMode": "mip"}, report)
    assert "b.splat cannot say that it was trained with anti-aliasing" in report.warnings[0]
    save_splat(tmp_path / "plain.sog", scene())
    with zipfile.ZipFile(tmp_path / "plain.sog") as z:
        assert not {"antialias", "model", "offset"} & set(json.loads(z.read("meta.json")))


@pytest.mark.parametrize(
    ("comments", "mode"),
    [
        (["SplatRenderMode: mip"], "mip"),
        (["  splatrendermode:MIP "], "mip"),
        (["antialiased 1"], "mip"),
        (["antialiased 0"], "default"),
        (["SplatRenderMode: mip", "antialiased 0"], "default"),
        (["SplatRenderMode: 2dgs"], "default"),
        (["Exported from Brush", "SH degree: 3", "antialiased: maybe"], None),
    ],
)
def test_the_spellings_of_other_programs_are_read(comments: list[str], mode: str | None) -> None:
    assert header_of(comments).get("SplatRenderMode") == mode


@pytest.mark.parametrize("key", [{"antialias": True}, {"model": "antialiased"}])
def test_both_keys_of_sog_are_read(key: dict[str, object], tmp_path: Path) -> None:
    meta, images = hostile.sog_parts()
    (tmp_path / "a.sog").write_bytes(hostile.sog(meta | key, images))
    assert is_antialiased(read_splat(tmp_path / "a.sog").header)


def test_a_splat_is_drawn_as_its_file_says_and_else_as_the_run() -> None:
    for run in ("antialiased", "classic"):
        settings = RasterSettings(mode=run)  # type: ignore[arg-type]
        for said, mode in (({"SplatRenderMode": "mip"}, "antialiased"), ({"SplatRenderMode": "default"}, "classic")):
            assert drawn_as_said(SplatFile(scene(2), said), settings).mode == mode
        assert drawn_as_said(SplatFile(scene(2)), settings) == settings


def test_the_vertical_axis_and_the_degree_stay(tmp_path: Path) -> None:
    g = oracles.random_gaussians(30, torch.Generator().manual_seed(3), 2, dtype=torch.float32)
    save_splat(tmp_path / "a.ply", g, {"Vertical axis": "z"})
    Convert(tmp_path / "a.ply", (tmp_path / "b.compressed.ply",))()
    Convert(tmp_path / "b.compressed.ply", (tmp_path / "c.ply",))()
    assert "Vertical axis: z" in read_ply_header(tmp_path / "c.ply").comments
    assert load_splat(tmp_path / "c.ply").sh_degree == 2


# ------------------------------------------------------------------------------------------------------ fixed point


@pytest.mark.parametrize("size", [0.01, 0.2, 1.0, 40.0])
def test_spz_keeps_positions_to_a_thousandth_of_any_scene(size: float, tmp_path: Path) -> None:
    g, report = scene(size=size), Noting()
    save_splat(tmp_path / "a.spz", g, report=report)
    assert nearest(g, load_splat(tmp_path / "a.spz"))[0] < size / 900 and not report.warnings


def test_spz_takes_fewer_bits_where_a_scene_reaches_far(tmp_path: Path) -> None:
    """Twelve fraction bits hold 2048 units; beyond, they would wrap around to the other side."""
    g = scene(size=4000.0)
    g = replace(g, log_scales=g.log_scales.clamp(max=4))
    save_splat(tmp_path / "a.spz", g)
    bits = gzip.decompress((tmp_path / "a.spz").read_bytes())[13]
    assert bits == 23 - 14 and nearest(g, load_splat(tmp_path / "a.spz"))[0] < 1.0 / (1 << bits)
    edge = torch.tensor([[2047.0, 0.0, 0.0], [-2047.0, 0.0, 0.0], [0.0, 900.0, 0.0]])
    assert fraction_bits(edge)[0] == 12 and fraction_bits(edge * 1.002)[0] == 11


def test_spz_takes_a_local_origin_where_it_is_too_coarse_so_far_away(tmp_path: Path) -> None:
    at = (30_000.0, -20_000.0, 70.0)
    g, report = scene(size=2.0, at=at), Noting()
    save_splat(tmp_path / "a.spz", g, {"offset": "1000 0 0"}, report)
    assert "relative to 31000 -20000 70" in report.warnings[0]
    splat = read_splat(tmp_path / "a.spz")
    local = replace(g, means=g.means - torch.tensor(at))
    assert splat.header["offset"] == "31000 -20000 70" and nearest(local, splat.gaussians)[0] < 2e-3


def test_spz_refuses_what_it_would_change(tmp_path: Path) -> None:
    far = scene()
    far.means[0] = torch.tensor([3e6, 0.0, 0.0])  # one, which an origin does not mend
    with pytest.raises(SplatError, match=r"a\.spz: \.spz stores coordinates of 24 bits.*use \.ply or \.sog") as e:
        save_splat(tmp_path / "a.spz", far)
    assert "\n" not in str(e.value)
    tiny = scene(size=1e-6)
    with pytest.raises(
        SplatError, match=r"a\.spz: \.spz stores sizes of 4\.5e-05 to 379 units, which 400 of 400 Gaussians"
    ):
        save_splat(tmp_path / "a.spz", tiny)
    few = scene()
    few.log_scales[:3] = 7.0
    report = Noting()
    save_splat(tmp_path / "a.spz", few, report=report)
    assert "3 of 400 Gaussians lie beyond the sizes of .spz" in report.warnings[0]
    flat = scene()
    flat.log_scales[:, 2] = -20.0  # discs are no reason
    report = Noting()
    save_splat(tmp_path / "a.spz", flat, report=report)
    assert not report.warnings


@pytest.mark.parametrize("codec", [c for c in CODECS if c.name != "spz"], ids=lambda c: c.name)
@pytest.mark.parametrize(("size", "at"), [(1e-3, 0.0), (1.0, 20_000.0), (5000.0, 0.0)])
def test_other_formats_hold_small_far_and_large_scenes(codec: Codec, size: float, at: float, tmp_path: Path) -> None:
    g = scene(size=size, at=(at, -at, at / 2))
    path = tmp_path / f"a{codec.suffixes[0]}"
    save_splat(path, g)
    splat = read_splat(path)
    offset = torch.tensor([float(v) for v in splat.header.get("offset", "0 0 0").split()])
    distance, back = nearest(g, replace(splat.gaussians, means=splat.gaussians.means + offset))
    # of the size: eleven bits of a chunk; sixteen of a logarithm; and float32 itself
    share = {"compressed-ply": 8 / 1023, "sog": 5e-3, "sog-levels": 5e-3}.get(codec.name, 1e-6)
    assert distance < share * size + at * 2e-7
    assert float((back.log_scales - g.log_scales).abs().max()) < 0.02


def test_one_gaussian_of_no_size_does_not_cost_the_others_of_its_chunk(tmp_path: Path) -> None:
    """Log scales are clipped to -20..20 before the bounds of a chunk are taken."""
    g = scene(200)
    g.log_scales[7, 1], g.log_scales[9, 0] = -300.0, 70.0
    save_splat(tmp_path / "a.compressed.ply", g)
    back = nearest(g, load_splat(tmp_path / "a.compressed.ply"))[1]
    assert back.log_scales[7, 1] == pytest.approx(-20, abs=0.05) and back.log_scales[9, 0] == pytest.approx(
        20, abs=0.05
    )
    others = torch.ones(200, dtype=torch.bool)
    others[[7, 9]] = False
    assert float((back.log_scales - g.log_scales)[others].abs().max()) < 0.51 * 40 / 1023


def test_rows_of_a_dot_splat_come_by_size_times_opacity_and_stay_whole(tmp_path: Path) -> None:
    g = scene(300)
    save_splat(tmp_path / "a.splat", g)
    back = load_splat(tmp_path / "a.splat")
    weight = g.log_scales.double().sum(1) + g.opacities.double().log()
    expected = g[weight.argsort(descending=True, stable=True)]
    assert torch.equal(back.means, expected.means)
    assert float((back.log_scales - expected.log_scales).abs().max()) < 1e-5
    assert float((back.opacities - expected.opacities).abs().max()) < 0.003
    assert float((back.sh[:, 0] - expected.sh[:, 0]).clamp(-1, 1).abs().median()) < 0.01


# --------------------------------------------------------------------------------------------------------- emptiness


@EACH
def test_a_splat_without_gaussians_is_one_sentence(codec: Codec, tmp_path: Path) -> None:
    target = tmp_path / f"b{codec.suffixes[0]}"
    with pytest.raises(SplatError, match=r"b\..* was not written: the splat has no Gaussians"):
        save_splat(target, scene(3)[torch.zeros(0, dtype=torch.int64)])
    assert not target.exists()
    meta, images = hostile.sog_parts()
    empty: dict[str, bytes] = {
        "ply": hostile.ply(0),
        "compressed-ply": hostile.ply(0).replace(
            b"element vertex", b"element chunk 0\nproperty float min_x\nelement vertex"
        ),
        "spz": hostile.spz(0, 0),
        "sog": hostile.sog(meta | {"count": 0}, images),
        "splat": b"",
    }
    if codec.name not in empty:
        return
    source = tmp_path / f"empty{codec.suffixes[0]}"
    source.write_bytes(empty[codec.name])
    with pytest.raises(SplatError, match=r"empty\..* has no Gaussians"):
        Convert(source, (tmp_path / "c.ply",))()
    with pytest.raises(SplatError, match=r"empty\..* has no Gaussians"):
        load_splat(source)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_splat_of_nothing_valid_is_one_sentence_and_others_keep_their_rows(value: float, tmp_path: Path) -> None:
    g = scene(20)
    g.means[:] = value
    save_splat(tmp_path / "a.ply", g)
    with pytest.raises(SplatError, match=r"a\.ply has no Gaussians whose values are all finite"):
        Convert(tmp_path / "a.ply", (tmp_path / "b.spz",))()
    save_splat(tmp_path / "a.splat", g)
    with pytest.raises(SplatError, match=r"a\.splat has no Gaussians whose values are all finite"):
        load_splat(tmp_path / "a.splat")
    g = scene(20)
    g.sh[4, 0, 1] = g.quats_wxyz[11, 2] = g.means[19, 0] = value
    save_splat(tmp_path / "a.ply", g)
    report = Silent()
    back = load_splat(tmp_path / "a.ply", report)
    assert "3 of 20 Gaussians" in report.warnings[0]
    assert torch.equal(back.means, g[[i for i in range(20) if i not in (4, 11, 19)]].means)
