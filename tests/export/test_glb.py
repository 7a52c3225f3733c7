"""`.glb` with KHR_gaussian_splatting: what is written is what the extension says, and comes back bit for bit."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
import torch

from splat.core.errors import SplatError
from splat.core.gaussians import Gaussians
from splat.core.geometry import Similarity, matrix_from_quat
from splat.core.sh import sh_basis
from splat.core.slots import Silent
from splat.export import read_splat, save_splat
from splat.export.glb import EXTENSION, GlbCodec
from splat.export.header import OFFSET, UP


def scene(n: int = 50, degree: int = 2) -> Gaussians:
    g = oracles.random_gaussians(n, torch.Generator().manual_seed(5), degree, dtype=torch.float32)
    return replace(g, quats_wxyz=torch.nn.functional.normalize(g.quats_wxyz, dim=1))


def parsed(path: Path) -> tuple[dict[str, Any], bytes]:
    data = path.read_bytes()
    magic, version, total, size, kind = struct.unpack_from("<4sIIII", data)
    assert (magic, version, total, kind) == (b"glTF", 2, len(data), 0x4E4F534A)
    return json.loads(data[20 : 20 + size]), data[28 + size :]


def rewritten(path: Path, tree: dict[str, Any]) -> None:
    _, binary = parsed(path)
    text = json.dumps(tree).encode()
    text += b" " * (-len(text) % 4)
    head = struct.pack("<4sIIII", b"glTF", 2, 28 + len(text) + len(binary), len(text), 0x4E4F534A)
    path.write_bytes(head + text + struct.pack("<II", len(binary), 0x004E4942) + binary)


def test_everything_comes_back(tmp_path: Path) -> None:
    g, said = scene(), {"SplatRenderMode": "mip", OFFSET: "500000 5700000 300.5", UP: "z"}
    save_splat(tmp_path / "a.glb", g, said)
    back = read_splat(tmp_path / "a.glb")
    assert back.header == said
    for name, values in oracles.fields(g).items():
        there = oracles.fields(back.gaussians)[name]
        if name == "quats_wxyz":
            there = there * (there * values).sum(1, keepdim=True).sign()
        assert torch.allclose(there, values, atol=3e-6), name


def test_what_is_written_is_what_the_extension_says(tmp_path: Path) -> None:
    """Of a scene whose up is -y: POINTS with +y up, unit quaternions xyzw, linear scales, opacities, SH of the turned
    functions, and colours of points in linear light."""
    g = scene()
    save_splat(tmp_path / "a.glb", g)
    tree, binary = parsed(tmp_path / "a.glb")
    (primitive,) = tree["meshes"][0]["primitives"]
    assert tree["extensionsUsed"] == [EXTENSION] and "extensionsRequired" not in tree and primitive["mode"] == 0
    kind = primitive["extensions"][EXTENSION]
    assert kind["kernel"] == "ellipse" and kind["colorSpace"] == "srgb_rec709_display"

    def column(name: str) -> torch.Tensor:
        a = tree["accessors"][primitive["attributes"][name]]
        view = tree["bufferViews"][a["bufferView"]]
        dtype = {5126: "<f4", 5123: "<u2"}[a["componentType"]]
        width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[a["type"]]
        assert view["byteOffset"] % 4 == 0 and a["count"] == len(g)
        values = np.frombuffer(binary, dtype, a["count"] * width, view["byteOffset"]).reshape(-1, width)
        return torch.from_numpy(values.astype(np.float64))

    flip = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))
    position = column("POSITION")
    assert torch.allclose(position, g.means.double() @ flip)
    accessor = tree["accessors"][primitive["attributes"]["POSITION"]]
    assert np.allclose(accessor["min"], position.amin(0)) and np.allclose(accessor["max"], position.amax(0))
    xyzw, scale = column(f"{EXTENSION}:ROTATION"), column(f"{EXTENSION}:SCALE")
    half = matrix_from_quat(xyzw[:, [3, 0, 1, 2]]) * scale[:, None]
    expected = flip @ g.covariances.double() @ flip
    assert torch.allclose(half @ half.transpose(1, 2), expected, atol=1e-5) and torch.allclose(
        xyzw.norm(dim=1), torch.ones(len(g), dtype=torch.float64)
    )
    assert torch.allclose(column(f"{EXTENSION}:OPACITY")[:, 0], g.opacities.double(), atol=1e-6)
    coefficients = torch.stack(
        [column(f"{EXTENSION}:SH_DEGREE_{l}_COEF_{m}") for l in range(3) for m in range(2 * l + 1)], 1
    )
    direction = torch.nn.functional.normalize(torch.tensor([[0.3, -0.5, 0.8]], dtype=torch.float64), dim=1)
    here = torch.einsum("k,nkc->nc", sh_basis(direction @ flip, 2)[0], g.sh.double())
    there = torch.einsum("k,nkc->nc", sh_basis(direction, 2)[0], coefficients)
    assert torch.allclose(there, here, atol=1e-5), "the same colour from the same side"
    rgb = g.base_rgb.double().clamp(0, 1)
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    assert torch.allclose(column("COLOR_0")[:, :3] / 65535, linear, atol=1e-4)


def test_up_of_a_scene_becomes_y(tmp_path: Path) -> None:
    g = scene()
    GlbCodec(up=(0.6, 0.0, 0.8)).save(tmp_path / "a.glb", g, {})
    tree, _ = parsed(tmp_path / "a.glb")
    turn = torch.tensor(tree["nodes"][0]["extras"]["splat"]["gltf_from_file"])
    assert torch.allclose(turn @ torch.tensor([0.6, 0.0, 0.8]), torch.tensor([0.0, 1.0, 0.0]), atol=1e-6)
    assert torch.allclose(read_splat(tmp_path / "a.glb").gaussians.means, g.means, atol=1e-5)


def test_a_file_of_another_program_is_placed_by_its_nodes_with_y_up(tmp_path: Path) -> None:
    """Two nodes of one mesh, one below another, the matrix of one and the rotation of the other."""
    g = scene(20, 1)
    save_splat(tmp_path / "a.glb", g, {UP: "y"})
    tree, _ = parsed(tmp_path / "a.glb")
    half = [0.0, 0.0, 2.0, 0.0, 0.0, 2.0, 0.0, 0.0, -2.0, 0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 1.0]
    tree["nodes"] = [
        {"matrix": half, "children": [1], "mesh": 0},
        {"mesh": 0, "rotation": [0.0, 0.7071067811865476, 0.0, 0.7071067811865476], "scale": [3.0, 3.0, 3.0]},
    ]
    rewritten(tmp_path / "a.glb", tree)
    back = read_splat(tmp_path / "a.glb")
    rotation = torch.tensor([[0.0, 0, -1], [0, 1, 0], [1, 0, 0]], dtype=torch.float64)
    upper = Similarity(2.0, rotation, torch.tensor([1.0, 2, 3], dtype=torch.float64))
    lower = Similarity(3.0, rotation.T.contiguous(), torch.zeros(3, dtype=torch.float64))
    expected = Gaussians.cat([g.transformed(upper), g.transformed(upper @ lower)])
    assert back.header == {UP: "y"} and len(back.gaussians) == 40
    order = torch.cdist(expected.means, back.gaussians.means).argmin(1)
    assert torch.allclose(back.gaussians.means[order], expected.means, atol=1e-4)
    assert torch.allclose(back.gaussians.sh[order], expected.sh, atol=1e-4)
    assert torch.allclose(back.gaussians.log_scales[order], expected.log_scales, atol=1e-4)


def test_quantized_attributes_are_read(tmp_path: Path) -> None:
    g = scene(8, 0)
    save_splat(tmp_path / "a.glb", g, {UP: "y"})
    tree, binary = parsed(tmp_path / "a.glb")
    a = tree["accessors"][tree["meshes"][0]["primitives"][0]["attributes"][f"{EXTENSION}:ROTATION"]]
    view = tree["bufferViews"][a["bufferView"]]
    start = view["byteOffset"]
    quats = np.frombuffer(binary, "<f4", 32, start).reshape(8, 4)
    packed = np.rint(quats * 32767).astype("<i2").tobytes()
    data = bytearray((tmp_path / "a.glb").read_bytes())
    at = len(data) - len(binary) + start
    data[at : at + len(packed)] = packed
    (tmp_path / "a.glb").write_bytes(bytes(data))
    a |= {"componentType": 5122, "normalized": True}
    rewritten(tmp_path / "a.glb", tree)
    back = read_splat(tmp_path / "a.glb").gaussians
    assert ((back.quats_wxyz * g.quats_wxyz).sum(1).abs() > 1 - 1e-4).all()


@pytest.mark.parametrize("fault", ["mesh", "compressed", "mirrored", "two parents", "beyond", "counts", "uri"])
def test_what_cannot_be_read_is_one_sentence(fault: str, tmp_path: Path) -> None:
    save_splat(tmp_path / "a.glb", scene(8, 0))
    tree, _ = parsed(tmp_path / "a.glb")
    primitive = tree["meshes"][0]["primitives"][0]
    if fault == "mesh":
        del primitive["extensions"]
    elif fault == "compressed":
        primitive["extensions"][EXTENSION]["extensions"] = {"KHR_gaussian_splatting_compression_spz_2": {}}
    elif fault == "mirrored":
        tree["nodes"][0]["scale"] = [1.0, 1.0, -1.0]
    elif fault == "two parents":
        tree["nodes"][0]["children"] = [0]
    elif fault == "beyond":
        tree["accessors"][0]["count"] = 1 << 30
    elif fault == "counts":
        tree["accessors"][primitive["attributes"][f"{EXTENSION}:SCALE"]]["count"] = 4
    else:
        tree["buffers"][0]["uri"] = "/etc/passwd"
    rewritten(tmp_path / "a.glb", tree)
    with pytest.raises(SplatError, match=r"a\.glb") as e:
        read_splat(tmp_path / "a.glb", Silent())
    assert "\n" not in str(e.value)
