"""Rotations, rigid motions, similarities: round trips and independent formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from torch import Tensor

from splat.core.geometry import (
    Rigid,
    Similarity,
    align_points,
    matrix_from_quat,
    multiply_quats,
    quat_from_matrix,
    rotation_from_axis_angle,
)

component = st.floats(-1, 1, allow_nan=False).map(lambda v: round(v, 6))
quaternions = st.tuples(component, component, component, component).filter(lambda q: sum(c * c for c in q) > 1e-4)


def random_rotation(seed: int) -> Tensor:
    return torch.from_numpy(Rotation.random(random_state=seed).as_matrix())


def random_rigid(seed: int) -> Rigid:
    generator = torch.Generator().manual_seed(seed)
    return Rigid(random_rotation(seed), torch.randn(3, generator=generator, dtype=torch.float64))


def random_similarity(seed: int, scale: float) -> Similarity:
    r = random_rigid(seed)
    return Similarity(scale, r.rotation, r.translation)


@given(quaternions)
@settings(max_examples=60, deadline=None)
def test_a_quaternion_survives_the_round_trip_up_to_sign(q: tuple[float, ...]) -> None:
    quat = torch.nn.functional.normalize(torch.tensor(q, dtype=torch.float64), dim=0)
    back = quat_from_matrix(matrix_from_quat(quat))
    assert back[0] >= 0
    assert min(float((back - quat).abs().max()), float((back + quat).abs().max())) < 1e-9


def test_quaternions_agree_with_scipy() -> None:
    rotations = Rotation.random(50, random_state=3)
    xyzw = torch.from_numpy(rotations.as_quat())
    ours = matrix_from_quat(torch.cat([xyzw[:, 3:], xyzw[:, :3]], 1))
    np.testing.assert_allclose(ours.numpy(), rotations.as_matrix(), atol=1e-12)


@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, -1, 1)])
def test_half_turns_have_a_quaternion(axis: tuple[int, ...]) -> None:
    """Where the real part vanishes, the textbook formula divides by zero."""
    for angle in (math.pi, math.pi - 1e-9, math.pi + 1e-7):
        m = torch.from_numpy(Rotation.from_rotvec(np.array(axis) / np.linalg.norm(axis) * angle).as_matrix())
        q = quat_from_matrix(m)
        assert abs(float(q.norm()) - 1) < 1e-12
        torch.testing.assert_close(matrix_from_quat(q), m, atol=1e-8, rtol=0)


def test_length_of_a_quaternion_means_nothing() -> None:
    q = torch.randn(5, 4, dtype=torch.float64)
    torch.testing.assert_close(matrix_from_quat(q), matrix_from_quat(q * 7.3))


def test_the_product_of_quaternions_is_the_product_of_rotations() -> None:
    a, b = (torch.nn.functional.normalize(torch.randn(20, 4, dtype=torch.float64), dim=-1) for _ in range(2))
    torch.testing.assert_close(matrix_from_quat(multiply_quats(a, b)), matrix_from_quat(a) @ matrix_from_quat(b))


def test_the_exponential_map_agrees_with_scipy_and_is_smooth_at_zero() -> None:
    vectors = torch.cat([torch.randn(20, 3), torch.randn(5, 3) * 1e-7, torch.zeros(1, 3)]).double()
    expected = Rotation.from_rotvec(vectors.numpy()).as_matrix()
    np.testing.assert_allclose(rotation_from_axis_angle(vectors).numpy(), expected, atol=1e-12)
    zero = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(rotation_from_axis_angle, zero)


@pytest.mark.parametrize("seed", range(3))
def test_rigid_motions_form_a_group(seed: int) -> None:
    a, b = random_rigid(seed), random_rigid(seed + 100)
    points = torch.randn(9, 3, dtype=torch.float64)
    torch.testing.assert_close((a @ b).apply(points), a.apply(b.apply(points)))
    torch.testing.assert_close((a @ a.inverse()).matrix(), torch.eye(4, dtype=torch.float64))
    torch.testing.assert_close((a @ b).matrix(), a.matrix() @ b.matrix())
    torch.testing.assert_close(Rigid.from_matrix(a.matrix()).matrix(), a.matrix())


@pytest.mark.parametrize("seed", range(3))
def test_similarities_form_a_group(seed: int) -> None:
    a, b = random_similarity(seed, 0.3), random_similarity(seed + 100, 5.0)
    points = torch.randn(9, 3, dtype=torch.float64)
    torch.testing.assert_close((a @ b).apply(points), a.apply(b.apply(points)))
    torch.testing.assert_close((a.inverse() @ a).matrix(), torch.eye(4, dtype=torch.float64))
    torch.testing.assert_close((a @ b).matrix(), a.matrix() @ b.matrix())


def test_a_camera_moved_with_its_scene_sees_the_same() -> None:
    """Its picture does not change; depth grows with the scene."""
    world_from_cam, a_from_world = random_rigid(1), random_similarity(2, 3.5)
    points = torch.randn(20, 3, dtype=torch.float64)
    seen = world_from_cam.inverse().apply(points)
    moved = a_from_world.apply_pose(world_from_cam).inverse().apply(a_from_world.apply(points))
    torch.testing.assert_close(moved, seen * 3.5)


def test_look_at_puts_the_target_ahead_and_up_upwards() -> None:
    eye, target, up = torch.tensor([3.0, -2, 1]), torch.tensor([0.0, 1, 0.5]), torch.tensor([0.0, 0, 1])
    pose = Rigid.look_at(eye, target, up)
    torch.testing.assert_close(torch.linalg.det(pose.rotation), torch.tensor(1.0, dtype=torch.float64))
    seen = pose.inverse().apply(torch.stack([target, target + up]).double())
    torch.testing.assert_close(
        seen[0], torch.tensor([0, 0, float((target - eye).norm())], dtype=torch.float64), atol=1e-6, rtol=0
    )
    assert seen[1, 1] < 0, "image y grows downwards, so what is higher has a smaller y"
    assert abs(float(seen[1, 0])) < 1e-6


@pytest.mark.parametrize("n", [3, 4, 50])
@pytest.mark.parametrize("scale", [0.01, 1.0, 250.0])
def test_alignment_recovers_a_similarity_exactly(n: int, scale: float) -> None:
    truth = random_similarity(n, scale)
    source = torch.randn(n, 3, dtype=torch.float64)
    found = align_points(source, truth.apply(source))
    torch.testing.assert_close(found.matrix(), truth.matrix(), atol=1e-9 * max(1, scale), rtol=1e-9)


def test_alignment_never_mirrors() -> None:
    """For a mirrored target the best proper rotation is returned (Umeyama's correction of Arun et al.)."""
    source = torch.randn(30, 3, dtype=torch.float64)
    found = align_points(source, source * torch.tensor([1.0, 1, -1], dtype=torch.float64))
    assert float(torch.linalg.det(found.rotation)) == pytest.approx(1.0)


def test_alignment_of_points_in_a_plane_is_a_rotation() -> None:
    truth = random_similarity(5, 2.0)
    source = torch.randn(12, 3, dtype=torch.float64) * torch.tensor([1.0, 1, 0], dtype=torch.float64)
    torch.testing.assert_close(align_points(source, truth.apply(source)).matrix(), truth.matrix())


def test_alignment_is_the_least_squares_minimum() -> None:
    """No small similarity applied on top lowers the error of a noisy alignment."""
    source = torch.randn(40, 3, dtype=torch.float64)
    target = random_similarity(7, 1.7).apply(source) + 0.1 * torch.randn(40, 3, dtype=torch.float64)
    best = align_points(source, target)
    error = (best.apply(source) - target).square().sum()
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        step = torch.randn(7, generator=generator, dtype=torch.float64) * 1e-3
        nudge = Similarity(1 + float(step[6]), rotation_from_axis_angle(step[:3]), step[3:6])
        assert ((nudge @ best).apply(source) - target).square().sum() >= error
