"""Camera paths: they look at the scene, stay where the photographer was, and move smoothly."""

import math
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest
import torch
from torch import Tensor

from splat.core.camera import Camera
from splat.core.capture import Capture, PointCloud, View
from splat.core.errors import SplatError
from splat.core.geometry import Rigid, Similarity, rotation_from_axis_angle
from splat.core.layout import layout_of
from splat.export.paths import CameraPath, interpolated_path, orbit_path, path_camera, tour

CAMERA = Camera(500.0, 505.0, 310.0, 245.0, 640, 480)
FOCUS = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
UP = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)


def capture_at(eyes: list[Tensor], targets: list[Tensor], kind: str = "photos") -> Capture:
    views = tuple(
        View(f"{i:03d}.jpg", Path(f"{i:03d}.jpg"), (640, 480), CAMERA, Rigid.look_at(eye, target, UP))
        for i, (eye, target) in enumerate(zip(eyes, targets))
    )
    return Capture(views, kind="video" if kind == "video" else "photos")


def ring(n: int, degrees: float, radius: float = 3.0, height: float = 1.0, inward: bool = True) -> Capture:
    """n cameras on a circle about FOCUS, a little jittered, looking at it or away from it."""
    generator = torch.Generator().manual_seed(n)
    eyes, targets = [], []
    for i in range(n):
        a = math.radians(degrees) * i / (n if degrees == 360 else n - 1)
        out = torch.tensor([radius * math.cos(a), radius * math.sin(a), height], dtype=torch.float64)
        eye = FOCUS + out + 0.05 * torch.randn(3, generator=generator).double()
        eyes.append(eye)
        targets.append(FOCUS if inward else eye + out)
    return capture_at(eyes, targets)


def grid(columns: int = 5, rows: int = 4) -> Capture:
    """Cameras side by side before a wall five away, with points on it."""
    eyes = [torch.tensor([x - 1.0, 0.0, y], dtype=torch.float64) * 0.5 for y in range(rows) for x in range(columns)]
    ahead = torch.tensor([0.0, 5.0, 0.0], dtype=torch.float64)
    wall = torch.rand(200, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([6.0, 0.2, 4.0])
    points = PointCloud(wall + torch.tensor([-3.0, 5.0, -1.0]), torch.ones(200, 3))
    return replace(capture_at(eyes, [e + ahead for e in eyes]), points=points)


def centres(path: CameraPath) -> Tensor:
    return torch.stack([c.world_from_cam.translation for c in path.cameras])


def looks(path: CameraPath) -> Tensor:
    return torch.stack([c.world_from_cam.rotation[:, 2] for c in path.cameras])


def steps(path: CameraPath) -> Tensor:
    c = centres(path)
    return (torch.cat([c[1:], c[:1]]) - c if path.closed else c[1:] - c[:-1]).norm(dim=1)


def test_a_ring_of_photos_gives_a_closed_orbit_that_looks_at_the_focus():
    path = orbit_path(ring(16, 360), frames=90)
    assert path.kind == "orbit" and path.closed and len(path.cameras) == 90
    to_focus = torch.nn.functional.normalize(FOCUS - centres(path), dim=1)
    assert (looks(path) * to_focus).sum(1).min() > math.cos(math.radians(2))
    assert steps(path).max() < 1.5 * steps(path).median()
    level = torch.stack([c.world_from_cam.rotation[2, 0] for c in path.cameras])
    assert level.abs().max() < 0.05  # the horizon is level


@pytest.mark.parametrize("degrees", [90, 150, 220])
def test_an_orbit_stays_in_the_arc_where_the_cameras_were(degrees: float):
    """... and at their distance and height."""
    path = orbit_path(ring(9, degrees), frames=60)
    assert path.kind == "arc" and path.closed
    offset = centres(path) - FOCUS
    azimuth = torch.rad2deg(torch.atan2(offset[:, 1], offset[:, 0])) % 360
    azimuth = torch.where(azimuth > 350, azimuth - 360, azimuth)
    assert azimuth.min() > -2 and azimuth.max() < degrees + 2
    assert azimuth.max() - azimuth.min() > 0.7 * degrees
    distance = offset.norm(dim=1) / math.hypot(3, 1)
    assert distance.min() > 0.9 and distance.max() < 1.1
    assert steps(path).max() < 1.1 * 0.45 * math.radians(degrees) * (2 * math.pi / 60) * math.hypot(3, 1)


def test_an_orbit_over_a_dome_stays_on_it():
    generator = torch.Generator().manual_seed(2)
    d = torch.nn.functional.normalize(torch.randn(100, 3, generator=generator).double(), dim=1)
    d[:, 2] = d[:, 2].abs()
    path = orbit_path(capture_at(list(FOCUS + 4 * d), [FOCUS] * 100), frames=60)
    offset = centres(path) - FOCUS
    assert path.kind == "orbit"
    assert (offset.norm(dim=1) - 4).abs().max() < 0.2 and offset[:, 2].min() > 0.4


def test_forward_facing_photos_give_a_spiral_inside_their_frame():
    c = grid()
    path = orbit_path(c, frames=80)
    assert path.kind == "spiral"
    inside, box = centres(path), c.camera_centres()
    assert (inside.amin(0) >= box.amin(0) - 1e-9).all() and (inside.amax(0) <= box.amax(0) + 1e-9).all()
    assert inside[:, 0].max() - inside[:, 0].min() > 0.5 * (box[:, 0].max() - box[:, 0].min())
    hits = inside + looks(path) * ((5 - inside[:, 1]) / looks(path)[:, 1])[:, None]
    assert (hits - hits.mean(0)).norm(dim=1).max() < 0.3  # all look at one point of the wall


def test_cameras_that_look_outward_are_never_circled():
    c = ring(14, 360, inward=False)
    assert orbit_path(c, frames=50).kind == "interpolated"


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_few_photos_are_enough_and_the_path_stays_between_them(n: int):
    c = ring(n, 20) if n > 1 else capture_at([FOCUS + torch.tensor([3.0, 0, 1])], [FOCUS])
    for path in (orbit_path(c, frames=30), interpolated_path(c, frames=30)):
        assert len(path.cameras) == 30
        reach = (c.camera_centres() - c.camera_centres().mean(0)).norm(dim=1).max()
        away = (centres(path) - c.camera_centres().mean(0)).norm(dim=1).max()
        assert away <= max(float(reach), 0.15) + 1e-6
        assert centres(path).isfinite().all() and looks(path).isfinite().all()


def test_the_interpolated_path_stays_within_the_hull_of_neighbouring_cameras():
    """Its distance to the ring of cameras is at most the sagitta of an arc over three of their gaps."""
    path = interpolated_path(ring(20, 360), frames=200)
    radius = (centres(path) - FOCUS)[:, :2].norm(dim=1)
    assert radius.max() < 3.2 and radius.min() > 3 * math.cos(math.radians(27)) - 0.15
    assert not path.closed


def test_the_interpolated_path_is_smooth_and_starts_and_ends_at_cameras():
    c = ring(12, 200)
    path = interpolated_path(c, frames=150)
    first, last = centres(path)[0], centres(path)[-1]
    for end in (first, last):
        assert (c.camera_centres() - end).norm(dim=1).min() < 1e-6
    turns = torch.acos((looks(path)[1:] * looks(path)[:-1]).sum(1).clamp(-1, 1))
    assert steps(path).max() < 1.6 * steps(path).median()
    assert turns.max() < 2.5 * turns.median()
    bends = (centres(path)[2:] - 2 * centres(path)[1:-1] + centres(path)[:-2]).norm(dim=1)
    assert bends.max() < 0.25 * steps(path).max()


def test_video_frames_are_flown_in_time():
    walk = [torch.tensor([0.3 * i, math.sin(i / 2), 1.0], dtype=torch.float64) for i in range(30)]
    ahead = torch.tensor([0.2, 5.0, 0.0], dtype=torch.float64)
    path = interpolated_path(capture_at(walk, [e + ahead for e in walk], "video"), frames=100)
    x = centres(path)[:, 0]
    assert (x[1:] > x[:-1]).all() and x[0] == 0 and abs(x[-1] - 0.3 * 29) < 1e-9


def test_the_tour_of_few_cameras_is_the_shortest_there_is():
    generator = torch.Generator().manual_seed(5)
    found_shortest = 0
    for _ in range(10):
        eyes = list(torch.randn(7, 3, generator=generator).double())
        layout = layout_of(capture_at(eyes, [e + torch.tensor([0, 9.0, 0]) for e in eyes]))

        def length(order: tuple[int, ...] | list[int], c: Tensor = layout.centres) -> float:
            p = c[list(order)]
            return float((p[1:] - p[:-1]).norm(dim=1).sum())

        order = tour(layout)
        assert sorted(order) == list(range(7))
        shortest = min(length(p) for p in permutations(range(7)))
        assert length(order) < 1.15 * shortest
        found_shortest += length(order) < shortest + 1e-9
    assert found_shortest >= 6


def test_a_jump_between_two_places_is_not_flown():
    """Two rooms: the path stays in the one with more photos."""
    a = ring(10, 120)
    far = [v.world_from_cam.translation + torch.tensor([60.0, 0, 0]) for v in ring(6, 60).views if v.world_from_cam]
    both = capture_at([*a.camera_centres(), *far], [FOCUS] * 10 + [FOCUS + torch.tensor([60.0, 0, 0])] * 6)
    path = interpolated_path(both, frames=60)
    assert centres(path)[:, 0].max() < 10


def test_paths_turn_and_scale_with_the_scene():
    c = ring(16, 360)
    moved = Similarity(
        2.5,
        rotation_from_axis_angle(torch.tensor([0.3, 1.2, -0.4], dtype=torch.float64)),
        torch.tensor([7.0, -3.0, 2.0], dtype=torch.float64),
    )
    for make in (orbit_path, interpolated_path):
        a, b = centres(make(c, frames=40)), centres(make(c.transformed(moved), frames=40))
        # the orbit may start at another azimuth: compare the curves, not the frames
        gap = torch.cdist(moved.apply(a), b).amin(1).max()
        assert gap < 0.6 * 2.5 * float((a[1:] - a[:-1]).norm(dim=1).max())


def test_the_path_camera_is_even_and_centred_and_at_most_as_large_as_asked():
    odd = Camera(500.0, 505.0, 300.0, 250.0, 641, 481)
    c = ring(4, 90)
    c = c.with_views(tuple(replace(v, camera=odd) for v in c.views))
    camera = path_camera(c, max_size=400)
    assert (camera.width, camera.height) == (400, 300)
    assert (camera.cx, camera.cy) == (200, 150) and abs(camera.fx / 400 - 500 / 641) < 1e-3


def test_without_poses_the_message_says_so():
    c = ring(3, 90)
    c = c.with_views(tuple(replace(v, world_from_cam=None) for v in c.views))
    with pytest.raises(SplatError, match="at least one photo with a pose"):
        orbit_path(c)
