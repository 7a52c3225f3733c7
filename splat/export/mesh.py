"""Gaussians -> a triangle mesh: depth drawn and matched from the cameras of the photos, fused, and its zero level."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from splat.core.errors import SplatError
from splat.core.gaussians import Gaussians
from splat.core.slots import DepthMap, PathCamera, Rasterizer, RasterSettings, Reporter
from splat.export.surface_maps import Measure, drawn_map, matched_map
from splat.export.surface_nets import surface_nets
from splat.export.tsdf import SIDE, SurfaceMap, Tsdf, blocks_near
from splat.geometry.surface_depth import surface_depth

_TRUNCATION = 4.0
"""Of the field, in voxels."""
_PIXELS = 1.5
"""Side of a voxel, in pixels at the median depth."""

_MIN_SIZE = 64
"""Of photos that are matched, px."""


@dataclass(frozen=True)
class MeshOptions:
    """How a mesh is made."""

    voxel: float | None = None
    """Side of a voxel, in the units of the frame that is written (default: as fine as the pixels of the photos)."""
    max_voxels: int = 24_000_000
    """Memory takes about 30 bytes a voxel: voxels are made larger until there are at most this many."""
    matching_size: int = 640
    """Photos are matched at this long side, px, at most 40 of them, for depth beside that of the Gaussians, which few
    photos hold in place; what training matched is used where it is as fine. 0: the Gaussians alone."""
    min_views: int = 2
    """Surface that fewer depth maps measure is left out; a photo that is matched has two, drawn and matched."""
    min_part: float = 0.002
    """Parts that hang together and are smaller than this, relative to the area of the largest, are left out."""

    def check(self) -> None:
        """Raises SplatError for values that mean nothing."""
        if self.voxel is not None and not 0 < self.voxel < math.inf:
            raise SplatError(f"--mesh.voxel {self.voxel} must be above 0.")
        if self.matching_size != 0 and self.matching_size < _MIN_SIZE:
            raise SplatError(f"--mesh.matching-size {self.matching_size} must be 0 or at least {_MIN_SIZE}.")
        if self.max_voxels < 10_000 or self.min_views < 1 or not 0 <= self.min_part <= 1:
            raise SplatError(
                "--mesh.max-voxels must be at least 10000, --mesh.min-views at least 1, --mesh.min-part from 0 to 1."
            )


@dataclass(frozen=True, eq=False)
class Mesh:
    """n coloured vertices and m triangles, counter-clockwise from outside."""

    vertices: Float[Tensor, "n 3"]
    faces: Int[Tensor, "m 3"]
    rgb: Float[Tensor, "n 3"]
    """In [0, 1], sRGB."""

    def normals(self) -> Float[Tensor, "n 3"]:
        """Unit normals of the vertices: those of the faces around each, by area."""
        a, b, c = (self.vertices[self.faces[:, i]].double() for i in range(3))
        across = torch.linalg.cross(b - a, c - a)
        total = torch.zeros_like(self.vertices, dtype=torch.float64)
        for i in range(3):
            total.index_add_(0, self.faces[:, i], across)
        return torch.nn.functional.normalize(total, dim=1).float()

    def areas(self) -> Float[Tensor, "m"]:
        a, b, c = (self.vertices[self.faces[:, i]] for i in range(3))
        return torch.linalg.cross(b - a, c - a).norm(dim=1) / 2


def mesh_from_gaussians(
    gaussians: Gaussians,
    cameras: Sequence[PathCamera],
    rasterizer: Rasterizer,
    settings: RasterSettings,
    options: MeshOptions,
    report: Reporter,
    matched: Sequence[DepthMap | None] = (),
) -> Mesh:
    """The surface that the cameras see, in the frame of the Gaussians. `options.voxel` is in that frame too.

    `matched`: what matching found of each camera's depth, with normals; None where it was not tried, nothing where it
    was nowhere. Raises SplatError where the cameras see no surface.
    """
    near = _depths(gaussians, cameras, rasterizer, settings)
    voxel = options.voxel or _PIXELS * near.pixel

    def maps(truncation: float) -> Iterator[SurfaceMap]:
        measure = Measure(truncation, near.depth)
        for c, found in zip(cameras, matched or (None,) * len(cameras), strict=True):
            drawn = surface_depth(gaussians, c.camera, c.world_from_cam, rasterizer, settings)
            yield drawn_map(c, drawn, measure)
            if found is not None:
                yield matched_map(c, found, drawn.rgb, measure)

    while True:
        truncation = _TRUNCATION * voxel
        keys = _blocks(maps(truncation), voxel, truncation)
        if len(keys) * SIDE**3 <= options.max_voxels:
            break
        voxel *= max(1.05, (len(keys) * SIDE**3 / options.max_voxels) ** 0.5)
        report.info(f"voxels are enlarged to {voxel:g} to stay under {options.max_voxels} of them.")
    tsdf = Tsdf(keys, voxel, truncation)
    total = len(cameras) + sum(m is not None for m in matched)
    for i, view in enumerate(maps(truncation)):
        tsdf.fuse(view)
        report.progress(i + 1, total)
    min_views = min(options.min_views, len(cameras))
    vertices, faces, rgb = surface_nets(keys, tsdf.values(min_views), tsdf.colours(), voxel)
    if not len(faces):
        raise SplatError("The photos' cameras see no surface, so that there is no mesh: train for longer.")
    return without_small_parts(Mesh(vertices, faces, rgb), options.min_part)


@dataclass(frozen=True)
class _Depths:
    depth: float
    """Median depth of all pixels."""
    pixel: float
    """Side of a pixel at the median depth."""


def _depths(
    gaussians: Gaussians, cameras: Sequence[PathCamera], rasterizer: Rasterizer, settings: RasterSettings
) -> _Depths:
    found, sides = [], []
    for c in cameras[:: max(1, len(cameras) // 16)]:
        small = c.camera.at_most(160)
        depth = surface_depth(gaussians, small, c.world_from_cam, rasterizer, settings).depth
        known = depth[depth > 0].flatten()
        found.append(known)
        sides.append(known / c.camera.fx)
    depths = torch.cat(found)
    if not len(depths):
        raise SplatError("The photos' cameras see no surface, so that there is no mesh: train for longer.")
    return _Depths(float(depths.median()), float(torch.cat(sides).median()))


def _blocks(maps: Iterator[SurfaceMap], voxel: float, truncation: float) -> Tensor:
    keys = torch.zeros(0, dtype=torch.int64)
    for view in maps:
        keys = torch.cat([keys.to(view.depth.device), blocks_near(view, voxel, truncation, 2)]).unique()
    return keys


def parts_of(faces: Int[Tensor, "m 3"], count: int) -> Int[Tensor, "n"]:
    """For each of `count` vertices the lowest vertex that it hangs together with."""
    label = torch.arange(count, device=faces.device)
    while True:
        lowest = label[faces].amin(1)
        new = label.clone()
        for i in range(3):
            new.scatter_reduce_(0, label[faces[:, i]], lowest, "amin")
        new = new[new]
        while not torch.equal(new, new[new]):
            new = new[new]
        new = new[label]
        if torch.equal(new, label):
            return label
        label = new


def without_small_parts(mesh: Mesh, min_part: float) -> Mesh:
    """Parts of at least `min_part` times the area of the largest."""
    label = parts_of(mesh.faces, len(mesh.vertices))
    of_face = label[mesh.faces[:, 0]]
    area = torch.zeros(len(mesh.vertices), device=label.device).index_add_(0, of_face, mesh.areas())
    return _with_faces(mesh, mesh.faces[area[of_face] >= min_part * area.max()])


def _with_faces(mesh: Mesh, faces: Tensor) -> Mesh:
    """Only these faces, and the vertices that they use."""
    used = torch.zeros(len(mesh.vertices), dtype=torch.bool, device=faces.device)
    used[faces.flatten()] = True
    number = used.cumsum(0) - 1
    return Mesh(mesh.vertices[used], number[faces], mesh.rgb[used])
