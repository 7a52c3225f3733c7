"""A distance field in sparse blocks -> triangles, by naive surface nets (Gibson 1998): one vertex in every cell that
the surface crosses, at the mean of where it crosses the cell's edges, and one quad around every edge that it crosses.

A cell with a corner whose distance is not known has no vertex, so the mesh stays open there.
"""

from __future__ import annotations

import itertools

import torch
from jaxtyping import Float, Int
from torch import Tensor

from splat.export.tsdf import SIDE, find, pack, unpack

_BLOCKS_AT_ONCE = 8192
_CORNERS = torch.tensor(list(itertools.product((0, 1), repeat=3)))
"""Of a cell, x slowest: number 4 x + 2 y + z."""
_EDGES = torch.tensor([(a, b) for a in range(8) for b in range(8) if a < b and (a ^ b) in (1, 2, 4)])


def surface_nets(
    keys: Int[Tensor, "m"], values: Float[Tensor, "m n"], colours: Float[Tensor, "m n 3"], voxel: float
) -> tuple[Float[Tensor, "v 3"], Int[Tensor, "f 3"], Float[Tensor, "v 3"]]:
    """Vertices (world units), faces (counter-clockwise seen from the positive side) and colours of the zero level.

    `keys`: sorted, of the blocks; `values`, `colours`: of their voxels; NaN: not known.
    """
    cells, corners, shades = [], [], []
    for begin in range(0, len(keys), _BLOCKS_AT_ONCE):
        rows = torch.arange(begin, min(begin + _BLOCKS_AT_ONCE, len(keys)), device=keys.device)
        field = _padded(keys, values[..., None], rows)[..., 0]
        parts = [field[:, x : x + SIDE, y : y + SIDE, z : z + SIDE] for x, y, z in _CORNERS.tolist()]
        low, high = parts[0], parts[0]
        for part in parts[1:]:
            low, high = torch.minimum(low, part), torch.maximum(high, part)  # NaN stays
        where = ((low < 0) & (high >= 0)).nonzero()
        if not len(where):
            continue
        block, x, y, z = where.unbind(1)
        cells.append(unpack(keys[rows[block]]) * SIDE + where[:, 1:])
        corners.append(torch.stack([part[block, x, y, z] for part in parts], 1))
        tints = _padded(keys, colours, rows)
        shades.append(torch.stack([tints[block, x + a, y + b, z + c] for a, b, c in _CORNERS.tolist()], 1).mean(1))
    if not cells:
        none = values.new_zeros(0, 3)
        return none, torch.zeros(0, 3, dtype=torch.int64, device=keys.device), none
    cell, corner = torch.cat(cells), torch.cat(corners)
    cell_keys, order = pack(cell).sort()
    cell, corner, shade = cell[order], corner[order], torch.cat(shades)[order]
    vertices = (cell.float() + _crossings(corner)) * voxel
    return vertices, _faces(cell, cell_keys, corner, vertices), shade


def _padded(keys: Tensor, values: Float[Tensor, "m n c"], rows: Tensor) -> Float[Tensor, "k s s s c"]:
    """Voxels of some blocks, with the first layers of the next blocks; NaN where there is no block."""
    n, c = len(rows), values.shape[-1]
    out = values.new_full((n, SIDE + 1, SIDE + 1, SIDE + 1, c), torch.nan)
    grid = values.view(len(keys), SIDE, SIDE, SIDE, c)
    blocks = unpack(keys[rows])
    for step in itertools.product((0, 1), repeat=3):
        at = find(keys, pack(blocks + blocks.new_tensor(step)))
        have = (at >= 0).nonzero()[:, 0]
        source = grid[at[have]]
        take = [slice(0, 1) if s else slice(0, SIDE) for s in step]
        put = [slice(SIDE, SIDE + 1) if s else slice(0, SIDE) for s in step]
        out[have, put[0], put[1], put[2]] = source[:, take[0], take[1], take[2]]
    return out


def _crossings(corner: Float[Tensor, "k 8"]) -> Float[Tensor, "k 3"]:
    """Mean position, in units of the cell, of where its edges cross zero."""
    at = _CORNERS.to(corner)
    total, count = corner.new_zeros(len(corner), 3), corner.new_zeros(len(corner), 1)
    for a, b in _EDGES.tolist():
        from_, to = corner[:, a], corner[:, b]
        crosses = ((from_ < 0) != (to < 0)).to(corner)[:, None]
        t = (from_ / torch.where(from_ == to, 1.0, from_ - to))[:, None]
        total += crosses * (at[a] + t * (at[b] - at[a]))
        count += crosses
    return total / count


def _faces(cell: Tensor, keys: Tensor, corner: Tensor, vertices: Tensor) -> Int[Tensor, "f 3"]:
    faces = []
    for axis in range(3):
        along = 4 >> axis
        inside = corner[:, 0] < 0
        at = (inside != (corner[:, along] < 0)).nonzero()[:, 0]
        p, q = cell.new_zeros(3), cell.new_zeros(3)
        p[(axis + 1) % 3], q[(axis + 2) % 3] = 1, 1
        around = [find(keys, pack(cell[at] - shift)) for shift in (p + q, q, 0 * p, p)]
        quad = torch.stack(around, 1)
        closed = (quad >= 0).all(1)
        quad, at = quad[closed], at[closed]
        quad = torch.where(inside[at][:, None], quad, quad.flip(1))
        a, b, c, d = (vertices[quad[:, i]] for i in range(4))
        short = (a - c).norm(dim=1) <= (b - d).norm(dim=1)
        one = torch.where(short[:, None], quad[:, [0, 1, 2]], quad[:, [0, 1, 3]])
        two = torch.where(short[:, None], quad[:, [0, 2, 3]], quad[:, [1, 2, 3]])
        faces += [one, two]
    return torch.cat(faces)
