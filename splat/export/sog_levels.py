"""Streamed `.sog` (PlayCanvas): a folder with levels of detail, of which a viewer loads what it needs.

`lod-meta.json` has a binary tree of boxes; each leaf says which rows of which file are its Gaussians at each level (0:
all of them). A file `LEVEL_NUMBER/meta.json` is an unpacked `.sog`. Coordinates are those of the `.ply`. Layout as
splat-transform (MIT) writes it, version 1. Coarser levels hold half as many Gaussians each, merged in pairs.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from splat.core.errors import SplatError
from splat.core.files import write_atomic
from splat.core.foreign import path_inside, read_json, regular_file, shown
from splat.core.gaussians import Gaussians
from splat.core.geometry import matrix_from_quat
from splat.core.reading import reading
from splat.core.slots import Reporter, SplatFile
from splat.export.header import MODE, UP, added, offset_of
from splat.export.repair import repaired
from splat.export.sog import SogCodec, read_parts, write_parts
from splat.geometry.decimation import merged
from splat.geometry.morton import morton_order

META = "lod-meta.json"
_MAX_FILES, _MAX_NAME = 4096, 120
_UNIT = re.compile(r"\d+_\d+")


@dataclass(frozen=True)
class SogLevelsCodec:
    """Up to twice the size of the `.sog`, in files of some megabytes."""

    levels: int = 4
    """At most: a level has at least `smallest` Gaussians."""
    smallest: int = 2000
    leaf: int = 32_768
    """Gaussians of level 0 in a leaf of the tree, at most."""
    unit: int = 524_288
    """Gaussians in a file, from when on the next is begun."""
    name = "sog-levels"
    suffixes = (".lod", META)
    about = "a folder for streaming: .sog files with levels of detail and their lod-meta.json (PlayCanvas)"

    def save(self, path: Path, gaussians: Gaussians, header: dict[str, str], report: Reporter | None = None) -> None:
        """Write the folder `path`, or that of its lod-meta.json. Files of an earlier one are removed."""
        folder = path.parent if path.name == META else path
        if folder.exists() and not folder.is_dir():
            raise SplatError(f"{shown(folder)} is a file where a folder is to be written: move it away and run again.")
        g = gaussians.detach().to(torch.device("cpu"))
        details = [g]
        while len(details) < self.levels and len(details[-1]) // 2 >= self.smallest:
            details.append(merged(details[-1], len(details[-1]) // 2))
        every = Gaussians.cat(details)
        level = torch.cat([torch.full((len(d),), i) for i, d in enumerate(details)])
        units: dict[int, list[list[Tensor]]] = {}
        names: list[str] = []
        tree = self._node(every, level, torch.arange(len(every)), units, names)
        for i, parts in units.items():
            for j, rows in enumerate(parts):
                if rows:
                    write_parts(folder / f"{i}_{j}", every[torch.cat(rows)], header, ordered=True)
        counts = [len(d) for d in details]
        meta = {"version": 1, "asset": {"generator": "splat"}, "count": sum(counts), "counts": counts}
        meta |= {"lodLevels": len(counts), "filenames": names, "tree": tree}
        write_atomic(folder / META, json.dumps(meta, separators=(",", ":")))
        for old in folder.iterdir():
            if _UNIT.fullmatch(old.name) and f"{old.name}/meta.json" not in names and (old / "meta.json").is_file():
                shutil.rmtree(old)

    def _node(
        self, g: Gaussians, level: Tensor, ids: Int[Tensor, "m"], units: dict[int, list[list[Tensor]]], names: list[str]
    ) -> dict[str, Any]:
        """A box, split at the median of its longest side until its leaves are small."""
        means = g.means[ids]
        sides = means.amax(0) - means.amin(0)
        if int((level[ids] == 0).sum()) > self.leaf and float(sides.max()) > 0:
            axis = int(sides.argmax())
            order = means[:, axis].argsort(stable=True)
            halves = ids[order[: len(ids) // 2]], ids[order[len(ids) // 2 :]]
            children = [self._node(g, level, half, units, names) for half in halves]
            low = [min(c["bound"]["min"][i] for c in children) for i in range(3)]
            high = [max(c["bound"]["max"][i] for c in children) for i in range(3)]
            return {"bound": {"min": low, "max": high}, "children": children}
        lods = {}
        for i in range(int(level.max()) + 1):
            own = ids[level[ids] == i]
            if len(own) == 0:
                continue
            parts = units.setdefault(i, [[]])
            name = f"{i}_{len(parts) - 1}/meta.json"
            if name not in names:
                names.append(name)
            start = sum(len(p) for p in parts[-1])
            lods[str(i)] = {"file": names.index(name), "offset": start, "count": len(own)}
            parts[-1].append(own[morton_order(g.means[own])])
            if start + len(own) > self.unit:
                parts.append([])
        return {"bound": _bound(g[ids]), "lods": lods}

    def load(self, path: Path, report: Reporter | None = None) -> SplatFile:
        """The finest level of every leaf, and the environment: the whole splat."""
        folder = path.parent if path.name == META else path
        with reading(path, "streamed .sog"):
            meta = read_json(folder / META)
            names = _names(meta)
            wanted: dict[int, list[tuple[int, int]]] = {}
            for lod in _finest(meta.get("tree")):
                file, start, count = (lod[k] for k in ("file", "offset", "count"))
                if not all(isinstance(v, int) and v >= 0 for v in (file, start, count)) or file >= len(names):
                    raise ValueError("a leaf that names no rows")
                wanted.setdefault(file, []).append((start, count))
            parts = [_rows(folder, names[file], rows, path) for file, rows in sorted(wanted.items())]
            environment = meta.get("environment")
            if isinstance(environment, str) and len(environment) <= _MAX_NAME:
                parts.append(_rows(folder, environment, None, path))
            if not parts:
                raise ValueError("its tree has no leaves")
            first = parts[0].header
            degree = max(p.gaussians.sh_degree for p in parts)
            placed = [_about(p, first).with_sh_degree(degree) for p in parts]
            header = added({k: v for k, v in first.items() if k in (MODE, UP)}, offset_of(first))
            return SplatFile(repaired(Gaussians.cat(placed), path, report), header)


def _bound(g: Gaussians) -> dict[str, list[float]]:
    """The box around the boxes of one standard deviation of each Gaussian."""
    reach = (matrix_from_quat(g.quats_wxyz.double()).abs() @ g.log_scales.double().exp()[..., None])[..., 0]
    low, high = (g.means.double() - reach).amin(0), (g.means.double() + reach).amax(0)
    return {"min": [float(f"{v:.7g}") for v in low.tolist()], "max": [float(f"{v:.7g}") for v in high.tolist()]}


def _names(meta: dict[str, Any]) -> list[str]:
    names = meta["filenames"]
    if not isinstance(names, list) or len(names) > _MAX_FILES:
        raise ValueError("filenames is no list of names")
    if not all(isinstance(n, str) and len(n) <= _MAX_NAME for n in names):
        raise ValueError("filenames has other things than names")
    return names


def _finest(tree: Any) -> Iterator[dict[str, Any]]:
    """The entry of the finest level of each leaf."""
    stack = [tree]
    while stack:
        node = stack.pop()
        if not isinstance(node, dict):
            raise ValueError("its tree is damaged")
        stack += reversed(node.get("children") or [])
        lods = node.get("lods")
        if isinstance(lods, dict) and lods:
            finest = lods[min(lods, key=int)]
            if not isinstance(finest, dict):
                raise ValueError("its tree is damaged")
            yield finest


def _rows(folder: Path, name: str, rows: list[tuple[int, int]] | None, of: Path) -> SplatFile:
    """Rows (start, count) of one of the files; None: all of them."""
    target = path_inside(folder, name, of)
    regular_file(target)
    if name.endswith("meta.json"):
        gaussians, header = read_parts(target.parent, target)
    else:
        splat = SogCodec().load(target)
        gaussians, header = splat.gaussians, splat.header
    if rows is None:
        return SplatFile(gaussians, header)
    n, total = len(gaussians), sum(count for _, count in rows)
    if total > n or any(start + count > n for start, count in rows):
        raise ValueError(f"{name} has {n} Gaussians, and its leaves {total}")
    ids = torch.cat([torch.arange(start, start + count) for start, count in rows])
    return SplatFile(gaussians[ids], header)


def _about(part: SplatFile, header: dict[str, str]) -> Gaussians:
    """Gaussians relative to the origin that `header` has."""
    shift = torch.tensor(offset_of(part.header)).double() - torch.tensor(offset_of(header)).double()
    if not bool(shift.any()):
        return part.gaussians
    return replace(part.gaussians, means=(part.gaussians.means.double() + shift).float())
