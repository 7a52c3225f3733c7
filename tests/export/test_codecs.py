"""Compressed formats: what comes back differs by no more than the bits allow, and other programs' files agree."""

import gzip
import importlib.util
import json
import struct
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import oracles
import pytest
import torch

from splat.core.camera import Camera
from splat.core.errors import SplatError
from splat.core.gaussians import Gaussians
from splat.core.geometry import Rigid
from splat.core.metrics import psnr
from splat.core.slots import Codec, RasterSettings, Silent
from splat.export import CODECS, codec_for, load_splat, save_splat
from splat.export.packing import codebook, from_smallest_three, palette, smallest_three
from splat.raster.reference import Reference

COMPRESSED = [c for c in CODECS if c.name not in ("ply", "glb", "sog-levels")]
KEEPS_HARMONICS = [c for c in COMPRESSED if c.name != "splat"]
EACH = pytest.mark.parametrize("codec", COMPRESSED, ids=lambda c: c.name)


def scene(n: int = 700, degree: int = 3) -> Gaussians:
    g = oracles.random_gaussians(n, torch.Generator().manual_seed(7), degree, dtype=torch.float32)
    return replace(g, sh=torch.cat([g.sh[:, :1].clamp(-1.5, 1.5), 0.5 * g.sh[:, 1:]], 1))


def round_trip(codec: Codec, g: Gaussians, folder: Path) -> Gaussians:
    path = folder / f"scene{codec.suffixes[0]}"
    save_splat(path, g)
    return load_splat(path)


def matched(loaded: Gaussians, original: Gaussians) -> Gaussians:
    """`loaded` in the order of `original`: formats sort."""
    distance = torch.cdist(original.means.double(), loaded.means.double())
    ids = distance.argmin(1)
    assert len(ids.unique()) == len(original) == len(loaded)
    return loaded[ids]


def picture(g: Gaussians) -> torch.Tensor:
    camera = Camera(60.0, 60.0, 32.0, 24.0, 64, 48)
    pose = Rigid.look_at(torch.tensor([4.0, 1, 1]), torch.zeros(3), torch.tensor([0.0, 0, 1]))
    return Reference()(g, camera, pose.inverse().matrix(), torch.zeros(3), RasterSettings()).rgb


@EACH
def test_a_round_trip_stays_within_the_quantization(codec: Codec, tmp_path: Path):
    g = scene()
    back = matched(round_trip(codec, g, tmp_path), g)
    # half a step of the coarsest axis: 10 bits over a chunk's extent, 12 fraction bits, 16 bits of a logarithm, exact
    extent = float((g.means.amax(0) - g.means.amin(0)).max())
    steps = {"compressed-ply": extent / 1023, "spz": 2.0**-12, "sog": extent / 65535 * 2, "splat": 1e-12}
    assert (back.means - g.means).abs().max() <= 0.51 * steps[codec.name]
    steps = {"compressed-ply": 6 / 1023, "spz": 1 / 16, "sog": 0.15, "splat": 1e-5}
    assert (back.log_scales - g.log_scales).abs().max() <= 0.51 * steps[codec.name]
    assert (back.opacities - g.opacities).abs().max() <= 0.51 / 255 + 1e-6
    steps = {"compressed-ply": 3 / 255, "spz": 1 / (255 * 0.15), "sog": 0.1, "splat": 1 / (255 * 0.2820948)}
    assert (back.sh[:, 0] - g.sh[:, 0]).abs().max() <= 0.51 * steps[codec.name]
    unit = torch.nn.functional.normalize
    turn = 2 * torch.acos((unit(back.quats_wxyz, dim=1) * unit(g.quats_wxyz, dim=1)).sum(1).abs().clamp(max=1))
    assert torch.rad2deg(turn).max() < {"compressed-ply": 0.3, "spz": 0.3, "sog": 1.0, "splat": 1.0}[codec.name]


@pytest.mark.parametrize("codec", KEEPS_HARMONICS, ids=lambda c: c.name)
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_harmonics_come_back_in_their_places(codec: Codec, degree: int, tmp_path: Path):
    g = scene(300, degree)
    back = matched(round_trip(codec, g, tmp_path), g)
    assert back.sh.shape == g.sh.shape
    step = {"compressed-ply": 8 / 256, "spz": 16 / 128, "sog": 0.01}[codec.name]
    if degree > 0:
        assert (back.sh[:, 1:] - g.sh[:, 1:]).abs().max() <= 0.51 * step


@EACH
def test_the_picture_survives(codec: Codec, tmp_path: Path):
    g = scene(degree=0 if codec.name == "splat" else 3)
    assert psnr(picture(round_trip(codec, g, tmp_path)), picture(g)) > 35


@EACH
def test_saving_twice_gives_the_same_bytes_and_once_packed_loses_little_more(codec: Codec, tmp_path: Path):
    g = scene(300)
    once = round_trip(codec, g, tmp_path)
    path = tmp_path / f"scene{codec.suffixes[0]}"
    first = path.read_bytes()
    save_splat(path, g)
    assert path.read_bytes() == first
    twice = matched(round_trip(codec, once, tmp_path), once)
    assert (twice.opacities - once.opacities).abs().max() < 1e-4


@EACH
def test_one_gaussian_and_a_chunk_and_a_bit_are_fine(codec: Codec, tmp_path: Path):
    for n in (1, 256, 257):
        g = scene(n, 1)
        back = matched(round_trip(codec, g, tmp_path), g)
        assert (back.means - g.means).abs().max() < 0.02


@EACH
def test_extreme_values_stay_finite(codec: Codec, tmp_path: Path):
    g = scene(20, 1)
    g.logit_opacities[:4] = torch.tensor([80.0, -80.0, 200.0, -200.0])
    g.log_scales[0] = torch.tensor([-30.0, 5.0, 2.0])
    g.means[3] = torch.tensor([300.0, -500.0, 900.0])
    back = round_trip(codec, g, tmp_path)
    assert all(v.isfinite().all() for v in oracles.fields(back).values())
    far = back.means[back.means.norm(dim=1).argmax()]
    assert (far - g.means[3]).norm() < 1.0


@EACH
def test_a_damaged_file_is_one_sentence(codec: Codec, tmp_path: Path):
    round_trip(codec, scene(200, 2), tmp_path)
    data = (tmp_path / f"scene{codec.suffixes[0]}").read_bytes()
    cut = tmp_path / f"cut{codec.suffixes[0]}"
    for content in (b"", data[:10], data[: len(data) // 2 + 1], b"\x00" * 100 + b"nothing of the kind"):
        cut.write_bytes(content)
        with pytest.raises(SplatError, match="cut") as e:
            load_splat(cut)
        assert "\n" not in str(e.value)
    with pytest.raises(SplatError, match="gone"):
        load_splat(tmp_path / f"gone{codec.suffixes[0]}")


@pytest.mark.parametrize("codec", KEEPS_HARMONICS, ids=lambda c: c.name)
def test_flipped_bits_are_an_error_or_other_gaussians_but_never_a_crash(codec: Codec, tmp_path: Path):
    round_trip(codec, scene(60, 1), tmp_path)
    path = tmp_path / f"scene{codec.suffixes[0]}"
    data, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(40):
        broken = bytearray(data)
        for at in rng.integers(0, len(data), 3):
            broken[at] ^= int(rng.integers(1, 256))
        path.write_bytes(bytes(broken))
        try:
            loaded = load_splat(path, Silent())
        except SplatError:
            continue
        assert all(v.isfinite().all() for v in oracles.fields(loaded).values())


def test_the_longest_suffix_chooses_the_format():
    assert codec_for(Path("a.compressed.ply")).name == "compressed-ply"
    assert codec_for(Path("a.ply")).name == "ply" and codec_for(Path("A.SPZ")).name == "spz"


def test_a_compressed_ply_is_read_whatever_its_name_and_a_plain_one_too(tmp_path: Path):
    g = scene(100, 1)
    save_splat(tmp_path / "a.compressed.ply", g)
    (tmp_path / "a.compressed.ply").rename(tmp_path / "b.ply")
    assert len(load_splat(tmp_path / "b.ply")) == 100
    save_splat(tmp_path / "c.ply", g)
    (tmp_path / "c.ply").rename(tmp_path / "d.compressed.ply")
    assert torch.equal(load_splat(tmp_path / "d.compressed.ply").means, g.means)


def test_spz_is_written_as_its_specification_says(tmp_path: Path):
    """Right-up-back axes, version 3, the antialiasing flag."""
    g = scene(1, 0)
    g.means[0] = torch.tensor([1.0, 2.0, -3.0])
    save_splat(tmp_path / "a.spz", g, {"SplatRenderMode": "mip"})
    data = gzip.decompress((tmp_path / "a.spz").read_bytes())
    magic, version, n, degree, bits, flags, reserved = struct.unpack_from("<IIIBBBB", data)
    assert (magic, version, n, degree, bits, flags, reserved) == (0x5053474E, 3, 1, 0, 12, 1, 0)
    xyz = [int.from_bytes(data[16 + 3 * i : 19 + 3 * i], "little", signed=True) / 4096 for i in range(3)]
    assert xyz == [1.0, -2.0, 3.0] and len(data) == 16 + 9 + 1 + 3 + 3 + 4


def test_an_unpacked_sog_is_read_from_its_folder_and_no_further(tmp_path: Path):
    g = scene(50, 1)
    save_splat(tmp_path / "a.sog", g)
    with zipfile.ZipFile(tmp_path / "a.sog") as z:
        z.extractall(tmp_path / "a")
    packed, folder = load_splat(tmp_path / "a.sog"), load_splat(tmp_path / "a")
    assert torch.equal(packed.sh, folder.sh) and torch.equal(
        load_splat(tmp_path / "a" / "meta.json").means, packed.means
    )
    meta = json.loads((tmp_path / "a" / "meta.json").read_text())
    meta["scales"]["files"] = ["../a.sog"]
    (tmp_path / "a" / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(SplatError, match="not a plain file name"):
        load_splat(tmp_path / "a")


# ------------------------------------------------------------------------------------------------------------- packing


def test_smallest_three_is_undone_up_to_sign():
    q = torch.nn.functional.normalize(torch.randn(500, 4, dtype=torch.float64), dim=1).numpy()
    largest, others = smallest_three(q)
    assert np.abs(others).max() <= np.sqrt(0.5) + 1e-12
    back = from_smallest_three(largest, others)
    assert np.abs(np.abs((back * q).sum(1)) - 1).max() < 1e-12


def test_the_codebook_is_near_the_best_and_exact_for_few_values():
    few = np.repeat([0.25, -3.0, 17.5], 50)
    book, ids = codebook(few)
    assert np.array_equal(book[ids], few)
    values = np.random.default_rng(0).normal(size=20_000)
    book, ids = codebook(values)
    best = np.sqrt(np.pi * np.sqrt(3) / 2) / 256  # Panter and Dite 1951: the least error of 256 levels on a normal law
    assert np.sqrt(np.mean((book[ids] - values) ** 2)) < 1.1 * best
    assert (np.diff(book) >= 0).all()
    assert np.abs(values - book[ids]).max() <= np.abs(values[:, None] - book).min(1).max() + 1e-9


def test_the_palette_is_exact_when_it_fits_and_close_when_not():
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(40, 9)).astype(np.float32) * 5
    vectors = (centres[rng.integers(0, 40, 3000)] + rng.normal(size=(3000, 9)) * 0.05).astype(np.float32)
    book, ids = palette(vectors, 5000)
    assert np.array_equal(book[ids], vectors)
    book, ids = palette(vectors, 256)
    assert len(book) <= 256 and ids.max() < len(book)
    assert np.sqrt(np.mean((book[ids] - vectors) ** 2)) < 0.06


# ----------------------------------------------------------------------------------------------- other people's files

FOREIGN = [
    *("playbot_5_0.compressed.ply", "playbot_5_0_gsplatjs.splat", "playbot_5_0_v3.spz", "playbot_5_0.sog"),
    *("playbot_5_0_sog_unpacked", "guitar.compressed.ply", "guitar_gsplatjs.splat", "guitar.sog"),
    *("guitar_v3.spz", "playbot_5_0_v4.spz"),
]


@pytest.mark.data
@pytest.mark.parametrize("name", FOREIGN)
def test_formats_of_one_scene_written_elsewhere_agree(name: str, data_root: Path):
    """Each against the uncompressed .ply of the same scene, by nearest centre."""
    path = data_root / "splats" / name
    version_4 = path.suffix == ".spz" and path.read_bytes()[:4] == b"NGSP"
    if version_4 and importlib.util.find_spec("zstandard") is None:
        with pytest.raises(SplatError, match=r"version 4, whose zstd streams need `pip install splat3d\[spz\]`"):
            load_splat(path)
        pytest.skip("the message is right; its streams need zstandard")
    from scipy.spatial import cKDTree

    report = Silent()
    plain = "playbot_5_0.ply" if name.startswith("playbot") else "guitar.ply"
    truth, loaded = load_splat(data_root / "splats" / plain), load_splat(path, report)
    assert len(loaded) == len(truth) and not report.warnings
    distance, ids = cKDTree(truth.means.double().numpy()).query(loaded.means.double().numpy())
    assert np.median(distance) < 5e-4
    near = truth[torch.from_numpy(ids)]
    shape = (near.covariances - loaded.covariances).norm(dim=(1, 2)) / near.covariances.norm(dim=(1, 2))
    assert shape.median() < 0.05
    assert (near.opacities - loaded.opacities).abs().median() < 0.01
    assert (near.sh[:, 0] - loaded.sh[:, 0]).abs().median() < 0.02
    if loaded.sh_degree > 0:
        assert loaded.sh_degree == truth.sh_degree == 2
        error = (near.sh[:, 1:] - loaded.sh[:, 1:]).abs().mean()
        assert error < 0.25 * near.sh[:, 1:].abs().mean()


@pytest.mark.data
def test_every_splat_of_the_collection_is_read(data_root: Path):
    report, rows = Silent(), {}
    for path in sorted((data_root / "splats").iterdir()):
        version_4 = path.name.endswith("_v4.spz") and importlib.util.find_spec("zstandard") is None
        if path.suffix != ".txt" and not version_4:
            rows[path.name] = len(load_splat(path, report))
    assert len(rows) >= 14 and not report.warnings
    assert {n for name, n in rows.items() if name.startswith("playbot")} == {3000}
    assert {n for name, n in rows.items() if name.startswith("guitar")} == {90854}
