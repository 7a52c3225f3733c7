"""Rotations, rigid motions and similarities.

Names carry frames: `a_from_b` maps coordinates in frame b to coordinates in frame a, so adjacent names must match in
a composition: `world_from_cam @ cam_from_rig`. Quaternions are wxyz (real part first) and need not be unit when read.
Poses are float64 on the CPU; cast where they meet float32 pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


def matrix_from_quat(quats_wxyz: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 3 3"]:
    """Rotation matrices of quaternions, normalized first."""
    w, x, y, z = torch.nn.functional.normalize(quats_wxyz, dim=-1).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, -1).reshape(*quats_wxyz.shape[:-1], 3, 3)


def quat_from_matrix(rotation: Float[Tensor, "*n 3 3"]) -> Float[Tensor, "*n 4"]:
    """Unit quaternions (wxyz, w >= 0) of rotation matrices, stable at every angle."""
    m = rotation
    # The four squared components, up to a factor of four; the largest is a safe divisor.
    t = torch.stack(
        [
            1 + m[..., 0, 0] + m[..., 1, 1] + m[..., 2, 2],
            1 + m[..., 0, 0] - m[..., 1, 1] - m[..., 2, 2],
            1 - m[..., 0, 0] + m[..., 1, 1] - m[..., 2, 2],
            1 - m[..., 0, 0] - m[..., 1, 1] + m[..., 2, 2],
        ],
        -1,
    )
    a, b, c = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    d, e, f = m[..., 1, 0] + m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 2, 1] + m[..., 1, 2]
    candidates = torch.stack(
        [
            torch.stack([t[..., 0], a, b, c], -1),
            torch.stack([a, t[..., 1], d, e], -1),
            torch.stack([b, d, t[..., 2], f], -1),
            torch.stack([c, e, f, t[..., 3]], -1),
        ],
        -2,
    )
    best = t.argmax(-1)[..., None, None].expand(*t.shape[:-1], 1, 4)
    q = torch.nn.functional.normalize(candidates.gather(-2, best).squeeze(-2), dim=-1)
    return torch.where(q[..., :1] < 0, -q, q)


def multiply_quats(a_wxyz: Float[Tensor, "*n 4"], b_wxyz: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 4"]:
    """Hamilton product: the rotation `a` after the rotation `b`."""
    aw, ax, ay, az = a_wxyz.unbind(-1)
    bw, bx, by, bz = b_wxyz.unbind(-1)
    return torch.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        -1,
    )


def rotation_from_axis_angle(axis_angle: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3 3"]:
    """Exponential map of so(3), by Rodrigues' formula: I + a K + b K^2, with K the cross-product matrix, t the angle,
    a = sin(t) / t and b = (1 - cos(t)) / t^2. Below 0.1 rad, a and b are series in t^2, so the map is differentiable at
    zero. (torch.matrix_exp blocks on a GPU.)"""
    x, y, z = axis_angle.unbind(-1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*axis_angle.shape[:-1], 3, 3)
    square = axis_angle.square().sum(-1)[..., None, None]
    small = square < 1e-2
    t = torch.where(small, torch.ones_like(square), square).sqrt()
    a = torch.where(small, 1 - square / 6 * (1 - square / 20 * (1 - square / 42)), t.sin() / t)
    b = torch.where(small, 0.5 - square / 24 * (1 - square / 30 * (1 - square / 56)), 2 * ((t / 2).sin() / t).square())
    return torch.eye(3, dtype=skew.dtype, device=skew.device) + a * skew + b * (skew @ skew)


def rotation_between(a: Float[Tensor, "3"], b: Float[Tensor, "3"]) -> Float[Tensor, "3 3"]:
    """The smallest rotation that turns unit vector `a` into unit vector `b` (Rodrigues), float64."""
    a, b = a.double(), b.double()
    cosine = float(a @ b)
    if cosine < -1 + 1e-12:  # opposite: half a turn about any perpendicular axis
        axis = torch.zeros(3, dtype=torch.float64)
        axis[int(a.abs().argmin())] = 1.0
        axis = torch.nn.functional.normalize(axis - (axis @ a) * a, dim=0)
        return 2 * torch.outer(axis, axis) - torch.eye(3, dtype=torch.float64)
    v = torch.linalg.cross(a, b)
    skew = torch.tensor([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]], dtype=torch.float64)
    return torch.eye(3, dtype=torch.float64) + skew + skew @ skew / (1 + cosine)


def quats_on_one_side(rotations: Float[Tensor, "n 3 3"]) -> Float[Tensor, "n 4"]:
    """Quaternions wxyz, float64, each the one of q and -q that is nearer to the one before: so that means of them are
    meaningful."""
    quats = quat_from_matrix(rotations.double()).clone()
    for i in range(1, len(quats)):
        if quats[i] @ quats[i - 1] < 0:
            quats[i] = -quats[i]
    return quats


def needs_local_origin(distance: float, spread: float) -> bool:
    """Whether float32 is too coarse for coordinates of a scene of size `spread` at a `distance` from the origin, as in
    UTM or state plane coordinates: it has 24 bits, so a step is 6e-8 to 1.2e-7 of the distance.

    True beyond a thousand spreads (steps of a ten-thousandth of the scene), and beyond 8192 units (steps of a
    millimetre, where a unit is a metre) where a local origin gains at least a digit.
    """
    return distance > 1e3 * max(spread, 1e-9) or (distance > 8192 and distance > 10 * spread)


@dataclass(frozen=True, eq=False)
class Rigid:
    """A rotation followed by a translation: `x_a = rotation @ x_b + translation` for `a_from_b`."""

    rotation: Float[Tensor, "3 3"]
    translation: Float[Tensor, "3"]

    @staticmethod
    def identity() -> Rigid:
        return Rigid(torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64))

    @staticmethod
    def from_matrix(matrix: Tensor) -> Rigid:
        """From the top three rows of a 3x4 or 4x4 matrix."""
        m = torch.as_tensor(matrix, dtype=torch.float64)
        return Rigid(m[:3, :3].contiguous(), m[:3, 3].contiguous())

    @staticmethod
    def look_at(eye: Tensor, target: Tensor, up: Tensor) -> Rigid:
        """`world_from_cam` of a camera at `eye` whose optical axis meets `target`; `up` points up in the image."""
        eye, target, up = (torch.as_tensor(v, dtype=torch.float64) for v in (eye, target, up))
        z = torch.nn.functional.normalize(target - eye, dim=0)
        x = torch.nn.functional.normalize(torch.linalg.cross(z, up), dim=0)
        y = torch.linalg.cross(z, x)
        return Rigid(torch.stack([x, y, z], 1), eye)

    def inverse(self) -> Rigid:
        return Rigid(self.rotation.T.contiguous(), -self.rotation.T @ self.translation)

    def apply(self, points: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
        return points @ self.rotation.T.to(points) + self.translation.to(points)

    def __matmul__(self, other: Rigid) -> Rigid:
        return Rigid(self.rotation @ other.rotation, self.rotation @ other.translation + self.translation)

    def matrix(self) -> Float[Tensor, "4 4"]:
        m = torch.eye(4, dtype=self.rotation.dtype)
        m[:3, :3], m[:3, 3] = self.rotation, self.translation
        return m


@dataclass(frozen=True, eq=False)
class Similarity:
    """`x_a = scale * rotation @ x_b + translation` for `a_from_b`."""

    scale: float
    rotation: Float[Tensor, "3 3"]
    translation: Float[Tensor, "3"]

    @staticmethod
    def identity() -> Similarity:
        return Similarity(1.0, torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64))

    def inverse(self) -> Similarity:
        rotation = self.rotation.T.contiguous()
        return Similarity(1 / self.scale, rotation, -(rotation @ self.translation) / self.scale)

    def apply(self, points: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
        return self.scale * (points @ self.rotation.T.to(points)) + self.translation.to(points)

    def apply_pose(self, b_from_cam: Rigid) -> Rigid:
        """`a_from_cam` from `b_from_cam`. Only the position is scaled: the result is rigid."""
        return Rigid(self.rotation @ b_from_cam.rotation, self.apply(b_from_cam.translation))

    def __matmul__(self, other: Similarity) -> Similarity:
        return Similarity(self.scale * other.scale, self.rotation @ other.rotation, self.apply(other.translation))

    def matrix(self) -> Float[Tensor, "4 4"]:
        m = torch.eye(4, dtype=torch.float64)
        m[:3, :3], m[:3, 3] = self.scale * self.rotation, self.translation
        return m


def align_points(source: Float[Tensor, "n 3"], target: Float[Tensor, "n 3"]) -> Similarity:
    """The least-squares `target_from_source` of corresponding points (Umeyama 1991, eq. 34-43).

    Needs at least three points that do not lie on one line.
    """
    source, target = source.double(), target.double()
    mean_s, mean_t = source.mean(0), target.mean(0)
    s, t = source - mean_s, target - mean_t
    u, d, vt = torch.linalg.svd(t.T @ s / len(s))
    sign = torch.ones(3, dtype=torch.float64)
    sign[2] = torch.sign(torch.linalg.det(u) * torch.linalg.det(vt))
    rotation = u @ torch.diag(sign) @ vt
    scale = float((d * sign).sum() / s.square().sum(1).mean())
    return Similarity(scale, rotation, mean_t - scale * rotation @ mean_s)
