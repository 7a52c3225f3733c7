"""Other programs read what is written here, and what they make of it is the same picture.

Run with `-m slow`: gsply and gaussforge from PyPI, splat-transform from npm (on PATH, or its path in SPLAT_TRANSFORM).
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import struct
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
import torch

from splat.core.camera import Camera
from splat.core.gaussians import Gaussians
from splat.core.geometry import Rigid, Similarity
from splat.core.metrics import psnr
from splat.core.slots import RasterSettings, Silent
from splat.export import load_splat, save_splat
from splat.export.header import UP
from splat.export.spz import SpzCodec
from splat.raster.reference import Reference

pytestmark = pytest.mark.slow
CAMERA = Camera(60.0, 60.0, 32.0, 24.0, 64, 48)
FORMATS = ("ply", "compressed.ply", "spz", "sog", "splat")


def scene(n: int = 3000) -> Gaussians:
    g = oracles.random_gaussians(n, torch.Generator().manual_seed(7), 2, dtype=torch.float32)
    sh = torch.cat([g.sh[:, :1].clamp(-1.5, 1.5), 0.3 * g.sh[:, 1:]], 1)
    return replace(g, sh=sh, log_scales=g.log_scales - 1)


def picture(g: Gaussians) -> torch.Tensor:
    pose = Rigid.look_at(torch.tensor([4.0, 1, 1]), torch.zeros(3), torch.tensor([0.0, 0, 1]))
    return Reference()(g, CAMERA, pose.inverse().matrix(), torch.zeros(3), RasterSettings()).rgb


def written(folder: Path, form: str, g: Gaussians) -> Path:
    path = folder / f"a.{form}"
    if form == "spz4":
        pytest.importorskip("zstandard", reason="zstandard (extra `spz`) is not installed")
        path = folder / "a4.spz"
        SpzCodec(version=4).save(path, g, {}, Silent())
    else:
        save_splat(path, g)
    return path


def same_splat(theirs: Gaussians, ours: Gaussians) -> None:
    """Counts, bounds, and the picture."""
    assert len(theirs) == len(ours)
    step = 2e-3 * float(ours.means.abs().max())
    for end in (torch.amin, torch.amax):
        assert (end(theirs.means, 0) - end(ours.means, 0)).abs().max() < step
    degree = min(theirs.sh_degree, ours.sh_degree)
    shown = picture(theirs.with_sh_degree(degree)), picture(ours.with_sh_degree(degree))
    assert psnr(*shown) > 45, f"{float(psnr(*shown)):.1f} dB"


# --------------------------------------------------------------------------------------------------- splat-transform


@pytest.fixture(scope="session")
def transform() -> Callable[..., None]:
    """Runs splat-transform."""
    command = os.environ.get("SPLAT_TRANSFORM") or shutil.which("splat-transform")
    if not command:
        pytest.skip("splat-transform is not installed: npm install -g @playcanvas/splat-transform")

    def run(*arguments: object) -> None:
        words = [*shlex.split(command), "-q", "-w", "-g", "cpu", *map(str, arguments)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr

    return run


@pytest.mark.parametrize("form", [*FORMATS, "spz4"])
def test_splat_transform_reads_what_we_write(form: str, transform: Callable[..., None], tmp_path: Path) -> None:
    path = written(tmp_path, form, scene())
    transform(path, tmp_path / "theirs.ply")
    same_splat(load_splat(tmp_path / "theirs.ply"), load_splat(path))


@pytest.mark.parametrize("form", ["ply", "compressed.ply", "spz", "sog"])
def test_we_read_what_splat_transform_writes(form: str, transform: Callable[..., None], tmp_path: Path) -> None:
    if form == "spz":
        pytest.importorskip("zstandard", reason="zstandard (extra `spz`) is not installed")
    g = scene()
    save_splat(tmp_path / "a.ply", g)
    transform(tmp_path / "a.ply", tmp_path / f"theirs.{form}")
    back = load_splat(tmp_path / f"theirs.{form}", Silent())
    assert len(back) == len(g) and psnr(picture(back), picture(g)) > 35


def test_a_glb_of_splat_transform_is_ours_up_to_half_a_turn_about_y(
    transform: Callable[..., None], tmp_path: Path
) -> None:
    """It turns a .ply about z, we turn it about x, as `.spz` is: between both lies a half turn about the vertical."""
    g = scene()
    save_splat(tmp_path / "a.ply", g)
    save_splat(tmp_path / "ours.glb", g)
    transform(tmp_path / "a.ply", tmp_path / "theirs.glb")
    theirs, ours = _attributes(tmp_path / "theirs.glb"), _attributes(tmp_path / "ours.glb")
    assert theirs.keys() == ours.keys()
    back = load_splat(tmp_path / "theirs.glb")
    assert np.allclose(theirs["POSITION"] * [-1, 1, -1], ours["POSITION"], atol=1e-5)
    half = Similarity(1.0, torch.diag(torch.tensor([-1.0, -1.0, 1.0])).double(), torch.zeros(3).double())
    same_splat(back.transformed(half), g)


def test_a_streamed_sog_has_the_layout_of_splat_transform(transform: Callable[..., None], tmp_path: Path) -> None:
    g = scene()
    save_splat(tmp_path / "a.ply", g)
    save_splat(tmp_path / "half.ply", g[: len(g) // 2])
    transform(tmp_path / "a.ply", "-l", 0, tmp_path / "half.ply", "-l", 1, tmp_path / "theirs" / "lod-meta.json")
    same_splat(load_splat(tmp_path / "theirs"), g)
    save_splat(tmp_path / "ours.lod", g)
    theirs, ours = (json.loads((tmp_path / n / "lod-meta.json").read_text()) for n in ("theirs", "ours.lod"))
    assert theirs.keys() == ours.keys() and theirs["version"] == ours["version"]
    assert _kinds(theirs["tree"]) == _kinds(ours["tree"])
    transform(tmp_path / "ours.lod" / ours["filenames"][0], tmp_path / "level.ply")
    assert len(load_splat(tmp_path / "level.ply")) == ours["counts"][0]


def _attributes(path: Path) -> dict[str, np.ndarray]:
    data = path.read_bytes()
    size = struct.unpack_from("<I", data, 12)[0]
    tree, binary = json.loads(data[20 : 20 + size]), data[28 + size :]
    found = {}
    for name, index in tree["meshes"][0]["primitives"][0]["attributes"].items():
        a = tree["accessors"][index]
        width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[a["type"]]
        dtype = {5121: "u1", 5123: "<u2", 5126: "<f4"}[a["componentType"]]
        start = tree["bufferViews"][a["bufferView"]].get("byteOffset", 0)
        found[name] = np.frombuffer(binary, dtype, a["count"] * width, start).reshape(-1, width)
    return found


def _kinds(node: dict[str, Any]) -> set[str]:
    """What a node and its bounds and levels are made of."""
    found = {f"{key}:{type(value).__name__}" for key, value in node.items()} | set(node["bound"])
    for child in node.get("children", []):
        found |= _kinds(child)
    for lod in node.get("lods", {}).values():
        found |= set(lod)
    return found - {"children:list"}


# ------------------------------------------------------------------------------------------------ gsply, gaussforge


@pytest.mark.parametrize("form", ["ply", "compressed.ply", "spz", "spz4", "sog"])
def test_gsply_reads_what_we_write(form: str, tmp_path: Path) -> None:
    gsply = pytest.importorskip("gsply", reason="gsply is not installed: pip install gsply")
    if form == "sog":
        pytest.importorskip("imagecodecs", reason="gsply reads .sog by imagecodecs: pip install imagecodecs")
    path = written(tmp_path, form, scene())
    read = {".spz": "read_spz", ".sog": "sogread"}.get(path.suffix, "plyread")
    theirs = getattr(gsply, read)(str(path))
    gsply.plywrite(str(tmp_path / "theirs.ply"), theirs)
    back = load_splat(tmp_path / "theirs.ply")
    same_splat(_from_stored(back) if path.suffix == ".spz" else back, load_splat(path))


@pytest.mark.parametrize("form", [*FORMATS, "ksplat"])
def test_gaussforge_reads_what_we_write_and_we_read_its_ksplat(form: str, tmp_path: Path) -> None:
    gaussforge = pytest.importorskip("gaussforge", reason="gaussforge is not installed: pip install gaussforge")
    forge, g = gaussforge.GaussForge(), scene()
    if form == "ksplat":
        source = written(tmp_path, "ply", g).read_bytes()
        (tmp_path / "theirs.ksplat").write_bytes(_made(forge.convert(source, "ply", "ksplat")))
        back = load_splat(tmp_path / "theirs.ksplat")
        shown = g.with_sh_degree(back.sh_degree)
        assert len(back) == len(g) and psnr(picture(back), picture(shown)) > 30
        return
    path = written(tmp_path, form, g)
    (tmp_path / "theirs.ply").write_bytes(_made(forge.convert(path.read_bytes(), form, "ply")))
    back = load_splat(tmp_path / "theirs.ply")
    same_splat(_from_stored(back) if form == "spz" else back, load_splat(path))


def _from_stored(g: Gaussians) -> Gaussians:
    """From the axes that `.spz` stores (right, up, back), which gsply and gaussforge leave as they are, to ours."""
    return g.transformed(Similarity(1.0, torch.diag(torch.tensor([1.0, -1.0, -1.0])).double(), torch.zeros(3).double()))


def _made(answer: Any) -> bytes:
    assert "error" not in answer or not answer["error"], answer.get("error")
    return bytes(answer["data"])


def test_the_vertical_axis_turns_a_glb(tmp_path: Path) -> None:
    save_splat(tmp_path / "a.glb", scene(10), {UP: "z"})
    up = _attributes(tmp_path / "a.glb")["POSITION"][:, 1]
    assert np.allclose(up, scene(10).means[:, 2], atol=1e-6)
