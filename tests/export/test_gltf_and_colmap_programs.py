"""Files of glTF pass the validator of Khronos and are read by three.js; COLMAP models are read by COLMAP's own program.

Run with `-m slow`: node with the packages gltf-validator and three (their folder `node_modules` in NODE_PATH), and
`colmap` on PATH (Debian has it).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import layouts
import pytest
import torch

from splat.core.gaussians import Gaussians
from splat.core.slots import ReadOptions, Silent
from splat.export import save_splat
from splat.export.colmap_model import write_colmap_model
from splat.export.mesh import Mesh
from splat.export.mesh_files import glb_bytes
from splat.ingest import read

pytestmark = pytest.mark.slow
TRIANGLE = Mesh(
    torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), torch.tensor([[0, 1, 2]]), torch.tensor([[1.0, 0.5, 0.0]] * 3)
)

VALIDATE = """
const validator = require("gltf-validator"), fs = require("fs");
validator.validateBytes(new Uint8Array(fs.readFileSync(process.argv[1])), {maxIssues: 20})
  .then((report) => console.log(JSON.stringify(report.issues)));
"""
LOAD = """
import { createRequire } from "module";
import { pathToFileURL } from "url";
import { readFileSync } from "fs";
const found = createRequire(process.env.FROM + "/x.js").resolve("three/examples/jsm/loaders/GLTFLoader.js");
const { GLTFLoader } = await import(pathToFileURL(found));
globalThis.self = globalThis;
const data = readFileSync(process.env.FILE);
new GLTFLoader().parse(data.buffer.slice(data.byteOffset, data.byteOffset + data.length), "", (gltf) => {
  const out = [];
  gltf.scene.updateMatrixWorld(true);
  gltf.scene.traverse((o) => {
    if (!o.geometry) return;
    const attributes = o.geometry.attributes, p = attributes.position.clone().applyMatrix4(o.matrixWorld);
    const values = (a) => a && Array.from({ length: a.count }, (_, i) => [a.getX(i), a.getY(i), a.getZ(i)]);
    out.push({ type: o.type, index: o.geometry.index && Array.from(o.geometry.index.array), position: values(p),
               colour: values(attributes.color) });
  });
  console.log(JSON.stringify(out));
}, (error) => { console.error(error); process.exit(1); });
"""


def node(package: str, *arguments: str, **environment: str) -> str:
    """What a script prints; skips where node or the package is missing."""
    folder = os.environ.get("NODE_PATH", "")
    if shutil.which("node") is None or not (Path(folder) / package).is_dir():
        pytest.skip(f"node with {package} is not here: npm install {package}, and its node_modules in NODE_PATH")
    where = {**os.environ, "FROM": folder, **environment}
    done = subprocess.run(["node", *arguments], env=where, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def splat(count: int, degree: int) -> Gaussians:
    g = torch.Generator().manual_seed(0)
    quats = torch.nn.functional.normalize(torch.randn(count, 4, generator=g), dim=1)
    means, log_scales = torch.randn(count, 3, generator=g), torch.randn(count, 3, generator=g) - 3
    sh = 0.3 * torch.randn(count, (degree + 1) ** 2, 3, generator=g)
    return Gaussians(means, quats, log_scales, torch.randn(count, generator=g), sh)


def issues_of(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(node("gltf-validator", "-e", VALIDATE, str(path)))
    return found


def test_a_mesh_is_valid_gltf(tmp_path: Path) -> None:
    path = tmp_path / "a.mesh.glb"
    path.write_bytes(glb_bytes(TRIANGLE, (10.0, 20.0, 7.0), (0.0, 0.0, 1.0)))
    found = issues_of(path)
    assert found["numErrors"] == found["numWarnings"] == 0, found["messages"]


@pytest.mark.parametrize("degree", [0, 1, 3])
def test_a_splat_is_valid_gltf_but_for_an_extension_that_the_validator_does_not_know(
    degree: int, tmp_path: Path
) -> None:
    path = tmp_path / "a.glb"
    save_splat(path, splat(100, degree))
    found = issues_of(path)
    about_the_extension = ("/extensionsUsed/", "/meshes/0/primitives/0/attributes/KHR_gaussian_splatting:")
    others = [m for m in found["messages"] if not m["pointer"].startswith(about_the_extension)]
    assert others == [] and found["numWarnings"] == 0


def test_three_reads_a_mesh_where_it_stands(tmp_path: Path) -> None:
    """Scene axes (x, y, z up) become (x, z, -y) of glTF."""
    path = tmp_path / "a.mesh.glb"
    path.write_bytes(glb_bytes(TRIANGLE, (10.0, 20.0, 7.0), (0.0, 0.0, 1.0)))
    found = json.loads(node("three", "--input-type=module", "-e", LOAD, FILE=str(path)))
    assert [f["type"] for f in found] == ["Mesh"] and found[0]["index"] == [0, 1, 2]
    expected = [[10.0 + x, 7.0 + z, -(20.0 + y)] for x, y, z in TRIANGLE.vertices.tolist()]
    for theirs, right in zip(found[0]["position"], expected, strict=True):
        assert theirs == pytest.approx(right, abs=1e-5)
    assert found[0]["colour"][0] == pytest.approx([1, 0.2140, 0], abs=1e-4)


def test_three_reads_a_splat_as_points_at_its_centres(tmp_path: Path) -> None:
    g = splat(50, 1)
    path = tmp_path / "a.glb"
    save_splat(path, g)
    found = json.loads(node("three", "--input-type=module", "-e", LOAD, FILE=str(path)))
    assert [f["type"] for f in found] == ["Points"] and len(found[0]["position"]) == 50
    theirs = torch.tensor(found[0]["position"])
    right = g.means * torch.tensor([1.0, -1.0, -1.0])
    assert torch.allclose(theirs.sort(0).values, right.sort(0).values, atol=1e-5)


@pytest.mark.parametrize("text", [False, True])
def test_colmap_reads_a_model(text: bool, tmp_path: Path) -> None:
    """COLMAP's own program counts what was written and turns it into the other form."""
    if shutil.which("colmap") is None:
        pytest.skip("colmap is not here: apt install colmap")
    scene = layouts.make_scene()
    layouts.write_colmap_text(scene, tmp_path, "OPENCV")
    scene.write_photos(tmp_path / "images")
    whole = read(tmp_path, ReadOptions(), Silent())
    folder = tmp_path / "model"
    count = write_colmap_model(folder, whole, Silent(), text=text)
    model = next(p.parent for p in folder.rglob("cameras.*"))
    said = _colmap("model_analyzer", "--path", str(model))
    points = 0 if whole.points is None else len(whole.points.positions)
    assert f"Images: {count}" in said and f"Registered images: {count}" in said and f"Points: {points}" in said
    other = tmp_path / "other"
    other.mkdir()
    _colmap("model_converter", "--input_path", str(model), "--output_path", str(other), "--output_type", "TXT")
    lines = [x for x in (other / "cameras.txt").read_text().splitlines() if not x.startswith("#")]
    assert {line.split()[1] for line in lines} == {"OPENCV"}
    back = read(_with_photos(other, tmp_path), ReadOptions(), Silent())
    for theirs, ours in zip(back.views, whole.views, strict=True):
        assert theirs.name == ours.name and torch.allclose(theirs.pose.matrix(), ours.pose.matrix(), atol=1e-6)


def _with_photos(model: Path, photos: Path) -> Path:
    """A folder with that model and the photos of another one."""
    root = model / "again"
    (root / "sparse" / "0").mkdir(parents=True)
    for file in model.glob("*.txt"):
        shutil.copy(file, root / "sparse" / "0")
    shutil.copytree(photos / "images", root / "images")
    return root


def _colmap(*arguments: str) -> str:
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    done = subprocess.run(["colmap", *arguments], capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr
