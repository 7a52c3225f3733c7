"""Cameras between the photos: where they are; neither the world's origin nor the sequence of photos matters."""

from __future__ import annotations

import math
import random

import pytest
import torch
from scipy.sparse.csgraph import minimum_spanning_tree
from torch import Tensor

from splat.core.geometry import Rigid, matrix_from_quat, rotation_from_axis_angle
from splat.geometry.virtual_path import between_photos, distance_weights, neighbour_pairs, slerp, virtual_path


def ring(count: int, origin: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> list[Rigid]:
    """Cameras on an exact circle about a point, looking at it."""
    centre = torch.tensor(origin, dtype=torch.float64)
    poses = []
    for k in range(count):
        a = 2 * math.pi * k / count
        eye = centre + torch.tensor([math.cos(a), 0.1, math.sin(a)], dtype=torch.float64) * 3
        poses.append(Rigid.look_at(eye, centre, torch.tensor([0.0, -1.0, 0.0])))
    return poses


def angle(a: Tensor, b: Tensor) -> float:
    cosine = float(((a.T @ b).trace() - 1) / 2)
    return math.acos(max(-1.0, min(1.0, cosine)))


def test_the_ends_of_a_way_are_the_photos_and_its_centres_lie_on_the_line_between() -> None:
    poses = ring(5)
    path = virtual_path(poses, 10)
    assert len(path) == 4 * 11
    for between in path:
        a, b = poses[between.first], poses[between.second]
        way, here = b.translation - a.translation, between.world_from_cam.translation - a.translation
        assert torch.allclose(here, between.share * way, atol=1e-12)
        if between.share in (0.0, 1.0):
            end = b if between.share else a
            assert torch.equal(between.world_from_cam.rotation, end.rotation)
        rotation = between.world_from_cam.rotation
        turned, whole = angle(a.rotation, rotation), angle(a.rotation, b.rotation)
        assert turned == pytest.approx(between.share * whole, abs=1e-6)
        assert turned + angle(rotation, b.rotation) == pytest.approx(whole, abs=1e-6)


def test_half_a_turn_and_no_turn_are_rotations_too() -> None:
    a = Rigid.identity()
    for turn in (0.0, 1e-9, math.pi - 1e-9, math.pi):
        b = Rigid(rotation_from_axis_angle(torch.tensor([0.0, turn, 0.0], dtype=torch.float64)), torch.ones(3).double())
        middle = slerp(a, b, 0.5).rotation
        assert torch.allclose(middle @ middle.T, torch.eye(3, dtype=torch.float64), atol=1e-9)
        assert angle(a.rotation, middle) == pytest.approx(turn / 2, abs=1e-6)


def test_neighbours_are_those_in_space_whatever_the_sequence_of_the_photos() -> None:
    line = [Rigid(torch.eye(3).double(), torch.tensor([1.3**k, 0.0, 0.0]).double()) for k in range(7)]
    shuffled = list(range(7))
    random.Random(3).shuffle(shuffled)
    pairs = neighbour_pairs([line[i] for i in shuffled])
    assert {tuple(sorted((shuffled[i], shuffled[j]))) for i, j in pairs} == {(k, k + 1) for k in range(6)}
    assert neighbour_pairs(line[:1]) == [] and virtual_path([]) == []


def test_neighbours_of_hundreds_are_those_of_the_smallest_tree() -> None:
    generator = torch.Generator().manual_seed(0)
    turns = torch.nn.functional.normalize(torch.randn(400, 4, generator=generator), dim=1).double()
    centres = torch.randn(400, 3, generator=generator).double()
    poses = [Rigid(matrix_from_quat(q), c) for q, c in zip(turns, centres, strict=True)]
    apart, axes = torch.cdist(centres, centres), torch.stack([p.rotation[:, 2] for p in poses])
    cost = (apart / (apart.sum() / (400 * 399)) + 1 - axes @ axes.T).fill_diagonal_(0)
    tree = minimum_spanning_tree(cost.numpy()).toarray()
    found = neighbour_pairs(poses)
    assert len(found) == 399 and sum(float(cost[p]) for p in found) == pytest.approx(tree.sum(), rel=1e-9)


def test_neither_way_nor_weights_depend_on_the_origin_of_the_world() -> None:
    turn = rotation_from_axis_angle(torch.tensor([0.3, -1.1, 0.4], dtype=torch.float64))
    move = Rigid(turn, torch.tensor([50.0, -20.0, 7.0], dtype=torch.float64))
    poses = ring(6)
    here, there = virtual_path(poses), virtual_path([move @ p for p in poses])
    for a, b in zip(here, there, strict=True):
        assert (a.first, a.second, a.share) == (b.first, b.second, b.share)
        assert torch.allclose((move @ a.world_from_cam).matrix(), b.world_from_cam.matrix(), atol=1e-9)
    weights = [
        distance_weights(
            torch.stack([v.world_from_cam.translation for v in path]), torch.stack([p.translation for p in of])
        )
        for path, of in ((here, poses), (there, [move @ p for p in poses]))
    ]
    assert torch.allclose(*weights, atol=1e-9)


def test_fewer_cameras_than_there_are_between_the_photos_are_spread_over_all_ways() -> None:
    poses = ring(8, (0.0, 0.0, 0.0))
    ways = neighbour_pairs(poses)
    middles = between_photos(poses, 10, len(ways))
    assert [(b.first, b.second) for b in middles] == ways and {b.share for b in middles} == {0.5}
    assert len(between_photos(poses, 10, 24)) == 24 and len({b.share for b in between_photos(poses, 10, 24)}) > 2
    assert len(between_photos(poses, 10, 1000)) == 9 * len(ways) and between_photos([], 10, 3) == []


@pytest.mark.parametrize("count", [2, 3, 8])
def test_weights_are_0_at_photos_within_0_and_1_and_finite_for_two_photos_and_exact_orbits(count: int) -> None:
    for origin in ((0.0, 0.0, 0.0), (5.0, 1.0, 2.0)):
        poses = ring(count, origin)
        training = torch.stack([p.translation for p in poses])
        path = virtual_path(poses)
        weights = distance_weights(torch.stack([b.world_from_cam.translation for b in path]), training)
        assert bool(weights.isfinite().all()) and float(weights.min()) >= 0 and float(weights.max()) <= 1
        at_photos = torch.tensor([b.share in (0.0, 1.0) for b in path])
        assert float(weights[at_photos].max()) < 1e-9 and float(weights[~at_photos].min()) > 0
        assert float(weights.max()) == pytest.approx(1.0)


def test_the_weight_is_sixteen_times_the_distance_over_that_of_the_second_farthest() -> None:
    training = torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [4.0, 0, 0]])  # second farthest: 1, 1, 3
    assert float(distance_weights(torch.tensor([[0.1, 0, 0]]), training)) == pytest.approx(16 * 0.1 / (1.2 * 3))
    one_place = torch.zeros(3, 3)
    assert distance_weights(torch.tensor([[0.0, 0, 0], [0.1, 0, 0]]), one_place).tolist() == [0, 1]
