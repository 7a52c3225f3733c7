"""Streamed `.sog`: every Gaussian is in one leaf, inside its box, at the rows that the tree names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import oracles
import pytest
import torch

from splat.core.errors import SplatError
from splat.core.gaussians import Gaussians
from splat.export import load_splat, read_splat, save_splat
from splat.export.header import OFFSET
from splat.export.sog_levels import SogLevelsCodec

SMALL = SogLevelsCodec(levels=3, smallest=20, leaf=50, unit=120)


def scene(n: int = 400) -> Gaussians:
    return oracles.random_gaussians(n, torch.Generator().manual_seed(11), 1, dtype=torch.float32)


def leaves(node: dict[str, Any]) -> list[dict[str, Any]]:
    return [leaf for c in node["children"] for leaf in leaves(c)] if "children" in node else [node]


def test_the_tree_names_every_row_once_and_bounds_it(tmp_path: Path) -> None:
    SMALL.save(tmp_path / "a.lod", scene(), {"SplatRenderMode": "mip", OFFSET: "10 20 30"})
    meta = json.loads((tmp_path / "a.lod" / "lod-meta.json").read_text())
    assert meta["version"] == 1 and meta["counts"] == [400, 200, 100] and meta["count"] == 700
    assert meta["lodLevels"] == 3 and len(leaves(meta["tree"])) >= 8
    assert len([n for n in meta["filenames"] if n.startswith("0_")]) > 1, "files are split"
    units = {n: load_splat(tmp_path / "a.lod" / n) for n in meta["filenames"]}
    taken = {n: torch.zeros(len(g), dtype=torch.int64) for n, g in units.items()}
    for leaf in leaves(meta["tree"]):
        low, high = (torch.tensor(leaf["bound"][k]) for k in ("min", "max"))
        for level, lod in leaf["lods"].items():
            name = meta["filenames"][lod["file"]]
            assert name.startswith(f"{level}_") and lod["count"] > 0
            rows = slice(lod["offset"], lod["offset"] + lod["count"])
            taken[name][rows] += 1
            means = units[name].means[rows]
            assert ((means >= low - 1e-3) & (means <= high + 1e-3)).all()
    assert all((t == 1).all() for t in taken.values())


def test_the_finest_level_is_the_splat(tmp_path: Path) -> None:
    g = scene()
    SMALL.save(tmp_path / "a.lod", g, {"SplatRenderMode": "mip", OFFSET: "10 20 30"})
    for path in (tmp_path / "a.lod", tmp_path / "a.lod" / "lod-meta.json"):
        back = read_splat(path)
        assert back.header == {"SplatRenderMode": "mip", OFFSET: "10 20 30"}
        distance, ids = torch.cdist(g.means.double(), back.gaussians.means.double()).min(1)
        assert len(back.gaussians) == len(g) == len(ids.unique()) and distance.max() < 1e-3
        assert (back.gaussians.opacities[ids] - g.opacities).abs().max() < 1 / 255


def test_a_smaller_scene_leaves_no_files_of_the_larger_one(tmp_path: Path) -> None:
    SMALL.save(tmp_path / "a.lod", scene(), {})
    (tmp_path / "a.lod" / "notes").mkdir()
    SMALL.save(tmp_path / "a.lod" / "lod-meta.json", scene(30), {})
    assert sorted(p.name for p in (tmp_path / "a.lod").iterdir()) == ["0_0", "lod-meta.json", "notes"]
    save_splat(tmp_path / "b.lod", scene(30))
    first = {p.name: p.read_bytes() for p in (tmp_path / "b.lod" / "0_0").iterdir()}
    assert first == {p.name: p.read_bytes() for p in (tmp_path / "a.lod" / "0_0").iterdir()}, "the same bytes"


@pytest.mark.parametrize("fault", ["outside", "rows", "overlap", "no leaves", "not a name", "gone"])
def test_what_cannot_be_read_is_one_sentence(fault: str, tmp_path: Path) -> None:
    SMALL.save(tmp_path / "a.lod", scene(40), {})
    path = tmp_path / "a.lod" / "lod-meta.json"
    meta = json.loads(path.read_text())
    (leaf,) = leaves(meta["tree"])
    if fault == "outside":
        meta["filenames"][0] = "../a.lod/0_0/meta.json"
    elif fault == "rows":
        leaf["lods"]["0"]["offset"] = 1
    elif fault == "overlap":
        meta["tree"] = {"children": [leaf, leaf]}
    elif fault == "no leaves":
        meta["tree"] = {}
    elif fault == "not a name":
        meta["filenames"] = [7]
    else:
        meta["filenames"][0] = "7_7/meta.json"
    path.write_text(json.dumps(meta))
    with pytest.raises(SplatError) as e:
        read_splat(tmp_path / "a.lod")
    assert "\n" not in str(e.value)
