"""Camera paths through keyframes: every keyframe is passed through, with a smooth velocity."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from splat.core.geometry import Rigid, matrix_from_quat, quats_on_one_side


def keyframe_path(keyframes: Sequence[Rigid], frames: int) -> list[Rigid]:
    """`frames` poses from the first to the last of at least two keyframes, the same time between any two of them.

    Positions follow a cubic Hermite spline whose tangents are those of Catmull and Rom (1974); rotations are the
    normalized quaternions of the same spline, on one side of the sphere.
    """
    centres = torch.stack([k.translation.double() for k in keyframes])
    quats = quats_on_one_side(torch.stack([k.rotation for k in keyframes]))
    times = torch.linspace(0, len(keyframes) - 1, frames, dtype=torch.float64)
    positions, turns = _catmull_rom(centres, times), _catmull_rom(quats, times)
    return [Rigid(r, p) for r, p in zip(matrix_from_quat(turns), positions)]


def _catmull_rom(keys: Float[Tensor, "k d"], times: Float[Tensor, "m"]) -> Float[Tensor, "m d"]:
    """The spline at times in units of keys; its tangent at an end is that of the chord."""
    tangents = torch.empty_like(keys)
    tangents[1:-1] = (keys[2:] - keys[:-2]) / 2
    tangents[0], tangents[-1] = keys[1] - keys[0], keys[-1] - keys[-2]
    left = times.floor().long().clamp(max=len(keys) - 2)
    t = (times - left)[:, None]
    a, b, m, n = keys[left], keys[left + 1], tangents[left], tangents[left + 1]
    t2, t3 = t * t, t * t * t
    return (2 * t3 - 3 * t2 + 1) * a + (t3 - 2 * t2 + t) * m + (3 * t2 - 2 * t3) * b + (t3 - t2) * n
