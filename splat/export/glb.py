"""`.glb` with KHR_gaussian_splatting (Khronos, ratified; kernel "ellipse", sRGB display-referred colours).

A primitive of POINTS with float32 attributes: POSITION, and with the prefix `KHR_gaussian_splatting:` ROTATION (unit
quaternion xyzw), SCALE (linear), OPACITY (0 to 1) and SH_DEGREE_l_COEF_m (red green blue; the signs of the 3DGS code).
COLOR_0 is what a viewer shows that knows points alone: linear red green blue, opacity. glTF's up is +y: Gaussians, with
their SH, are turned; `extras` of the node say how, and hold the local origin and whether they were trained with
anti-aliasing, for which the extension has no room.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from splat.core.capture import Capture
from splat.core.errors import SplatError
from splat.core.foreign import read_bytes, shown
from splat.core.gaussians import Gaussians
from splat.core.geometry import Similarity, matrix_from_quat, rotation_between
from splat.core.reading import check_expansion, reading
from splat.core.slots import Reporter, SplatFile
from splat.export.deliverable import Direction, Scene
from splat.export.glb_file import Glb, GlbWriter, linear
from splat.export.header import MIP, MODE, OFFSET, UP, offset_of, up_of, up_said, valid_offset, with_offset
from splat.export.packing import arrays, bundle, colour_from_dc, decoded_bytes
from splat.export.repair import repaired
from splat.export.sidecar import write_sidecar
from splat.export.splat_files import SplatDeliverable

EXTENSION = "KHR_gaussian_splatting"
_PREFIX = EXTENSION + ":"
_MAX_FILE = 64 * 2**30
_MAX_LOG = 88.0
_DEGREES = {1: 0, 4: 1, 9: 2, 16: 3}


@dataclass(frozen=True)
class GlbCodec:
    """Lossless but for the rotation to +y up, in float32."""

    up: Direction | None = None
    """Which way is up in what is saved; None: as the header says, else -y."""
    name = "glb"
    suffixes = (".glb",)
    about = "glTF with KHR_gaussian_splatting (ratified), +y up: points with colours where it is not known"

    def save(self, path: Path, gaussians: Gaussians, header: dict[str, str], report: Reporter | None = None) -> None:
        turn = _to_y(self.up or up_of(header))
        means, quats, log_scales, opacities, sh = arrays(gaussians.transformed(_turned(turn)))
        glb, attributes = GlbWriter(), dict[str, int]()
        attributes["POSITION"] = glb.add(means, bounds=True)
        attributes["COLOR_0"] = glb.add(_fallback(sh[:, 0], opacities), normalized=True)
        attributes[f"{_PREFIX}ROTATION"] = glb.add(quats[:, [1, 2, 3, 0]])
        attributes[f"{_PREFIX}SCALE"] = glb.add(np.exp(np.minimum(log_scales, _MAX_LOG)))
        attributes[f"{_PREFIX}OPACITY"] = glb.add(opacities)
        for i, name in enumerate(_harmonics(_DEGREES[sh.shape[1]])):
            attributes[name] = glb.add(sh[:, i])
        said: dict[str, Any] = {"gltf_from_file": turn.tolist()} | {k: header[k] for k in (MODE, UP) if k in header}
        if OFFSET in header:
            said[OFFSET] = list(offset_of(header))
        kind = {"kernel": "ellipse", "colorSpace": "srgb_rec709_display"}
        kind |= {"projection": "perspective", "sortingMethod": "cameraDistance"}
        primitive = {"attributes": attributes, "mode": 0, "extensions": {EXTENSION: kind}}
        tree = {
            "asset": {"version": "2.0", "generator": "splat"},
            "extensionsUsed": [EXTENSION],
            "scene": 0,
            "scenes": [{"nodes": [0]}],
            "nodes": [{"mesh": 0, "extras": {"splat": said}}],
            "meshes": [{"primitives": [primitive]}],
        }
        glb.write(path, tree)

    def load(self, path: Path, report: Reporter | None = None) -> SplatFile:
        """Every splat of the scene, placed as its nodes say; a file of `save` in the frame that it was saved from,
        another one with +y up."""
        with reading(path, ".glb"):
            data = read_bytes(path, _MAX_FILE)
            glb = Glb.of(data, path)
            found = list(_placed(glb))
            if not found:
                raise SplatError(f"{shown(path)} has no splat ({EXTENSION}): give the splat, not a mesh.")
            rows = [glb.rows(p["attributes"]["POSITION"]) for p, _, _ in found]
            degrees = [_degree(p["attributes"]) for p, _, _ in found]
            check_expansion(path, decoded_bytes(sum(rows), (max(degrees) + 1) ** 2), len(data))
            parts = [_gaussians(glb, p["attributes"], d).transformed(m) for (p, m, _), d in zip(found, degrees)]
            merged = parts[0]
            if len(parts) > 1:
                merged = Gaussians.cat([p.with_sh_degree(max(degrees)) for p in parts])
            said = next((extras for _, _, extras in found if extras), {}) if len(found) == 1 else {}
            gaussians, header = _as_saved(merged, said)
            return SplatFile(repaired(gaussians, path, report), header)


@dataclass(frozen=True)
class GlbDeliverable(SplatDeliverable):
    """A `.glb` whose up is that of the scene."""

    codec: GlbCodec

    def codec_of(self, scene: Scene) -> GlbCodec:
        return replace(self.codec, up=scene.up)

    def sidecar(self, path: Path, scene: Scene, capture: Capture) -> Path:
        """Of the coordinates that stand in the file, which are turned."""
        turn = _turned(_to_y(scene.up))
        as_is = capture.world_from_source if scene.frame == "world" else Similarity.identity()
        x, y, z = turn.apply(torch.tensor(scene.offset, dtype=torch.float64)).tolist()
        return write_sidecar(path, capture, "y-up", (x, y, z), turn @ (scene.file_from_source or as_is))


def _to_y(up: Direction) -> Float[Tensor, "3 3"]:
    return rotation_between(torch.tensor(up, dtype=torch.float64), torch.tensor([0.0, 1.0, 0.0]))


def _turned(rotation: Float[Tensor, "3 3"]) -> Similarity:
    return Similarity(1.0, rotation, torch.zeros(3, dtype=torch.float64))


def _harmonics(degree: int) -> list[str]:
    """Names of the attributes, in our order of the coefficients."""
    return [f"{_PREFIX}SH_DEGREE_{l}_COEF_{m}" for l in range(degree + 1) for m in range(2 * l + 1)]


def _fallback(dc: np.ndarray, opacities: np.ndarray) -> np.ndarray:
    """uint16 [n 4]: the colours of points, linear, and opacity."""
    rgb = linear(np.clip(colour_from_dc(dc), 0, 1))
    return np.rint(np.concatenate([rgb, opacities[:, None]], 1) * 65535).astype("<u2")


# -------------------------------------------------------------------------------------------------------------- reading


def _placed(glb: Glb) -> list[tuple[dict[str, Any], Similarity, dict[str, Any]]]:
    """Primitives that are splats, each with the transform of its node to the scene, and what we said in its extras."""
    scenes = glb.tree.get("scenes")
    roots = glb.item("scenes", glb.tree.get("scene", 0)).get("nodes", []) if scenes else range(_nodes(glb))
    found, visited = [], set[int]()
    stack = [(index, Similarity.identity()) for index in roots]
    while stack:
        index, above = stack.pop()
        node = glb.item("nodes", index)
        if index in visited:
            raise ValueError("a node has two parents")
        visited.add(index)
        here = above @ _transform(node)
        stack += [(child, here) for child in node.get("children", [])]
        if "mesh" not in node:
            continue
        extras = node.get("extras")
        said = extras.get("splat") if isinstance(extras, dict) else None
        for primitive in glb.item("meshes", node["mesh"])["primitives"]:
            extension = primitive.get("extensions", {}).get(EXTENSION)
            if not isinstance(extension, dict):
                continue
            if extension.get("extensions"):
                raise ValueError(f"compressed by {next(iter(extension['extensions']))}, which is not read")
            found.append((primitive, here, said if isinstance(said, dict) else {}))
    return found


def _nodes(glb: Glb) -> int:
    nodes = glb.tree.get("nodes")
    return len(nodes) if isinstance(nodes, list) else 0


def _transform(node: dict[str, Any]) -> Similarity:
    """Of a node. Raises ValueError where it is no similarity."""
    if "matrix" in node:
        m = torch.tensor(node["matrix"], dtype=torch.float64).reshape(4, 4).T
        linear, translation = m[:3, :3], m[:3, 3]
        scale = float(torch.linalg.det(linear)) ** (1 / 3) if float(torch.linalg.det(linear)) > 0 else 0.0
        rotation = linear / scale if scale else linear
    else:
        xyzw = torch.tensor(node.get("rotation", [0.0, 0.0, 0.0, 1.0]), dtype=torch.float64).reshape(4)
        rotation = matrix_from_quat(xyzw[[3, 0, 1, 2]][None])[0]
        scales = torch.tensor(node.get("scale", [1.0, 1.0, 1.0]), dtype=torch.float64).reshape(3)
        scale = float(scales[0]) if float(scales.max() - scales.min()) <= 1e-6 * float(scales.abs().max()) else 0.0
        translation = torch.tensor(node.get("translation", [0.0, 0.0, 0.0]), dtype=torch.float64).reshape(3)
    error = float((rotation @ rotation.T - torch.eye(3, dtype=torch.float64)).abs().max())
    if not scale > 0 or not error < 1e-4 or not bool(translation.isfinite().all()):
        raise ValueError("a node mirrors, or scales axes differently")
    return Similarity(scale, rotation, translation)


def _degree(attributes: dict[str, Any]) -> int:
    degree = 0
    while degree < 3 and f"{_PREFIX}SH_DEGREE_{degree + 1}_COEF_0" in attributes:
        degree += 1
    return degree


def _gaussians(glb: Glb, attributes: dict[str, Any], degree: int) -> Gaussians:
    means = glb.array(attributes["POSITION"], 3)
    fields = [glb.array(attributes[f"{_PREFIX}{n}"], w) for n, w in (("ROTATION", 4), ("SCALE", 3), ("OPACITY", 1))]
    names = _harmonics(degree)
    columns = [glb.array(attributes[name], 3) for name in names]
    if any(len(f) != len(means) for f in (*fields, *columns)):
        raise ValueError("its attributes have different numbers of Gaussians")
    quats, scales, opacities = fields
    with np.errstate(divide="ignore", invalid="ignore"):
        return bundle(means, quats[:, [3, 0, 1, 2]], np.log(scales), opacities[:, 0], np.stack(columns, 1))


def _as_saved(g: Gaussians, said: dict[str, Any]) -> tuple[Gaussians, dict[str, str]]:
    """In the frame that `save` was given, where the extras say which; else with +y up."""
    header = with_offset({}, valid_offset(said.get(OFFSET)) or (0.0, 0.0, 0.0))
    if said.get(MODE) in (MIP, "default"):
        header[MODE] = said[MODE]
    try:
        turn = torch.tensor(said["gltf_from_file"], dtype=torch.float64).reshape(3, 3)
        rotation = float((turn @ turn.T - torch.eye(3)).abs().max()) < 1e-6 and float(torch.linalg.det(turn)) > 0
    except (KeyError, ValueError, TypeError, RuntimeError):
        rotation = False
    if not rotation:
        return g, header | {UP: "y"}
    return g.transformed(_turned(turn.T.contiguous())), header | up_said(said.get(UP))
