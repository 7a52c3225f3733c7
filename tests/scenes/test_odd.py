"""Odd captures are what they say: made here of the walk through `atelier` in a bare room with a pillar."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from splat.bench.scenes import load_scenes
from splat.core.capture import Capture, View
from splat.core.errors import SplatError
from splat.core.image import load_photo, read_pixels
from splat.ingest import read

SCENES = load_scenes()
odd = importlib.import_module("splat.scenes.odd")
atelier = importlib.import_module("splat.scenes.atelier")
furnish = importlib.import_module("splat.scenes.furnish")
shot = importlib.import_module("splat.scenes.shot")
trace = importlib.import_module("splat.scenes.trace")

Made = Callable[[str], Path]


def _bare(views: int | None, scale: float, seed: int) -> Any:
    """A box with a pillar in the middle: surfaces where `atelier` has them, made in a moment."""

    def scene() -> Any:
        room = furnish.Room(0.1, 0)
        w, back, front, top = atelier.HALF_WIDTH, atelier.BACK, atelier.FRONT, atelier.CEILING
        y, half, z = (back + front) / 2, (back - front) / 2, top / 2
        room.wall((0, y, 0), (w, 0, 0), (0, half, 0), room.plain("#8a6a4a"))
        room.wall((0, back, z), (w, 0, 0), (0, 0, z), room.plain("#3f7a7a"))
        room.wall((-w, y, z), (0, half, 0), (0, 0, z), room.plain("#a33b3f"))
        room.wall((w, y, z), (0, -half, 0), (0, 0, z), room.plain("#d9b84a"))
        room.wall((0, y, top), (w, 0, 0), (0, -half, 0), room.plain("#d8cfbb"))
        room.box((0, 1.2, 0.6), (0.5, 0.5, 1.2), room.plain("#e3d8be"), yaw=20)
        return trace.Scene(tuple(room.solids), ())

    plain = atelier.session(views, scale, seed)
    return shot.Session(scene, plain.shots, plain.noise, seed)


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SCENES.SCENES, "bare", _bare)
        yield SCENES.make("bare", tmp_path_factory.mktemp("truth"), scale=0.2)


@pytest.fixture(scope="module")
def made(truth: Any, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """name -> folder of that capture, made once."""
    root = tmp_path_factory.mktemp("odd")
    return lambda name: odd.make(name, truth, root / name)


def pixels_of(folder: Path, photo: str) -> np.ndarray:
    return read_pixels(folder / "images" / photo).astype(int)


def changed(made: Made, name: str, photo: str) -> np.ndarray:
    """Which pixels differ from those of the plain capture."""
    different: np.ndarray = (pixels_of(made(name), photo) != pixels_of(made("plain"), photo)).any(-1)
    return different


def full(truth: Any, index: int) -> Any:
    return odd._seen(truth, index, 0, True)


@pytest.mark.parametrize("name", odd.CAPTURES)
def test_splat_reads_each_capture_with_its_poses_and_its_split(made: Made, truth: Any, name: str) -> None:
    folder = made(name)
    capture: Capture = read(folder)
    assert capture.source == "nerfstudio" and capture.posed
    split = json.loads((folder / "split.json").read_text())
    assert [v.name for v in capture.train_views] == split["train"]
    assert [v.name for v in capture.test_views] == split["test"]
    assert len(split["test"]) >= 3 and len(capture.views) == len(list((folder / "images").iterdir()))
    by_stem = {Path(n).stem: i for i, n in enumerate(truth.names)}
    for view in capture.views:
        i = by_stem[Path(view.name).stem]
        assert view.world_from_cam is not None
        torch.testing.assert_close(view.world_from_cam.matrix(), truth.world_from_cam[i].matrix(), atol=1e-9, rtol=0)
        w, h = view.photo_size
        assert (view.camera.width, view.camera.height) == (w, h) == pixels_of(folder, view.name).shape[1::-1]


@pytest.mark.parametrize("name", ["two_photos", "three_photos"])
def test_what_few_photos_hold_out_was_seen_by_those_they_train_on(truth: Any, name: str) -> None:
    train, test = odd.CAPTURES[name].roles(len(truth.names))
    assert len(train) == {"two_photos": 2, "three_photos": 3}[name] and not set(train) & set(test)
    for i in test:
        points, shown = torch.from_numpy(full(truth, i).points()), []
        for j in train:
            cam, camera = truth.world_from_cam[j].inverse().apply(points), truth.cameras[j]
            there = camera.project(cam)
            x, y = (there.floor().long()[..., k].clamp(0, s - 1) for k, s in ((0, camera.width), (1, camera.height)))
            nearest = truth.depth(truth.names[j]).double()[y, x]
            shown.append(camera.contains(there) & (cam[..., 2] > 0) & (cam[..., 2] < 1.05 * nearest))
        assert float(torch.stack(shown).any(0).double().mean()) > 0.9, (i, train)


def test_the_blank_wall_is_one_colour_and_nothing_else_changes(made: Made, truth: Any) -> None:
    """One up to the exposure of each photo; seen through it, all photos show the same colour."""
    for i in (0, 11, 20):
        seen = full(truth, i)
        wall = truth.ids(truth.names[i]).numpy() == 1
        painted = odd.blank_wall(seen).pixels
        above = wall & (seen.points()[..., 2] > 0.14)
        assert above.mean() > 0.1
        colours = np.unique(painted[above], axis=0)
        assert len(colours) == 1
        linear = shot.srgb_from_linear(np.array(odd.PAINT) * 2.0 ** truth.exposure_ev[i])
        assert np.abs(colours[0] / 255 - linear).max() < 0.003
        away = seen.points()[..., 1] < atelier.BACK - odd.HANGS
        assert (painted[away] == seen.pixels[away]).all() and (wall | away).mean() > 0.98
        assert changed(made, "blank_wall", f"{Path(truth.names[i]).stem}.png").mean() > 0.1


def test_the_sky_is_where_walls_were_and_does_not_depend_on_the_position(truth: Any) -> None:
    seen = full(truth, 11)
    moved = replace(seen.world_from_cam, translation=seen.world_from_cam.translation + 3.0)
    here = odd.sky_colour(seen.rays())
    np.testing.assert_array_equal(here, odd.sky_colour(replace(seen, world_from_cam=moved).rays()))
    np.testing.assert_allclose(here, odd.sky_colour(2.5 * seen.rays()), rtol=1e-12)
    photo, points, ids = odd.sky(seen), seen.points(), truth.ids(truth.names[11]).numpy()
    open_ = np.isin(ids, (1, 2, 3, 4)) & (points[..., 2] > odd.WALLS_END)
    assert open_.mean() > 0.15
    expected = shot.srgb_from_linear(here * seen.gain)
    assert np.abs(photo.pixels[open_] / 255 - expected[open_]).max() < 0.003
    assert (photo.pixels[~open_] == seen.pixels[~open_]).all()
    steps = np.abs(np.diff(expected, axis=1)).max(), np.abs(np.diff(expected, axis=0)).max()
    assert max(steps) < 0.02  # smooth
    assert expected[open_].std(0).max() > 0.01  # but not one colour


def test_two_photos_that_look_the_same_way_see_the_same_sky(truth: Any) -> None:
    """By what was written into the photos, exposure taken out: the colour of a direction is that of the other photo
    in the nearest direction."""
    found = []
    for i in (3, 9):
        seen = odd.sky(full(truth, i))
        p = seen.points()
        open_ = (p[..., 1] > atelier.BACK - 0.01) & (p[..., 2] > odd.WALLS_END + 0.01)
        rays = seen.rays()[open_]
        linear = importlib.import_module("splat.scenes.texels").linear_from_srgb(seen.pixels[open_] / 255)
        found.append((rays / np.linalg.norm(rays, axis=1, keepdims=True), linear / seen.gain))
    (a, colour_a), (b, colour_b) = found
    cosine = a @ b.T
    nearest = cosine.argmax(1)
    close = cosine.max(1) > np.cos(np.radians(0.4))
    assert close.sum() > 200
    assert np.abs(colour_a[close] - colour_b[nearest[close]]).max() < 0.02


def test_the_ball_is_nearer_than_what_it_hides_and_hidden_by_what_is_nearer(truth: Any) -> None:
    """A ball behind the pillar, so that part of it shows: pixel by pixel against points on its surface."""
    seen = full(truth, 0)
    ids = truth.ids(truth.names[0]).numpy()
    rows, columns = np.nonzero(ids == 5)
    side = rows == int(np.median(rows))
    row, column = int(np.median(rows)), int(columns[side].max())
    beyond = seen.eye() + (seen.depth[row, column] + 0.5) * seen.rays()[row, column]
    photo = odd.with_ball(seen, beyond)
    shown = ~photo.use
    assert (photo.pixels[~shown] == seen.pixels[~shown]).all()
    gap = np.linalg.norm(seen.eye() - beyond) - odd.BALL_RADIUS  # nothing of the ball is nearer to the eye
    distance = np.linalg.norm(seen.points() - seen.eye(), axis=-1)
    assert (distance[shown] > gap).all() and shown.sum() > 20
    to_ray = np.linalg.norm(np.cross(seen.rays(), beyond - seen.eye()), axis=-1) / np.linalg.norm(seen.rays(), axis=-1)
    outline = to_ray < odd.BALL_RADIUS
    assert (shown <= outline).all()
    hidden = outline & ~shown
    assert (ids[hidden] == 5).mean() > 0.95 and hidden.sum() > 20  # by the pillar and nothing else, but for its edge
    assert not (shown & (ids == 5)).any()
    nearer = odd.with_ball(seen, seen.eye() + 0.7 * (seen.depth[row, column]) * seen.rays()[row, column])
    assert (~nearer.use & (ids == 5)).sum() > 20  # the same ball before the pillar hides it


def test_a_quarter_of_the_training_photos_show_the_ball_each_elsewhere_and_no_held_out_one(
    made: Made, truth: Any
) -> None:
    split = json.loads((made("moved_object") / "split.json").read_text())
    with_ball = [n for n in split["train"] if changed(made, "moved_object", n).any()]
    assert not any(changed(made, "moved_object", n).any() for n in split["test"])
    assert 0.2 < len(with_ball) / len(split["train"]) < 0.3
    centres = []
    for n in with_ball:
        y, x = np.nonzero(changed(made, "moved_object", n))
        assert y.size > 0.005 * truth.cameras[0].width * truth.cameras[0].height / odd.SHRINK**2
        centres.append((x.mean(), y.mean()))
    apart = [np.hypot(a[0] - b[0], a[1] - b[1]) for k, a in enumerate(centres) for b in centres[:k]]
    assert max(apart) > 10


def test_masks_cover_exactly_the_ball(made: Made) -> None:
    """White where to use: the reader leaves out what differs from the photo without a ball, and nothing else."""
    capture = read(made("masked_object"))
    masked = [v for v in capture.views if v.mask_path is not None]
    assert len(masked) == len([v for v in capture.train_views if changed(made, "moved_object", v.name).any()]) > 3

    def left_out(view: View) -> np.ndarray:
        return ~load_photo(view.image_path, view.camera, view.mask_path, view.invert_mask, view.mask_mode).usable()

    for view in masked:
        ball, out = changed(made, "masked_object", view.name), left_out(view)
        assert (ball <= out).all()  # nothing of it is learnt
        assert (out & ~ball).sum() <= 0.02 * out.sum() + 1  # and nothing else left out, but where it has its colour
        np.testing.assert_array_equal(
            pixels_of(made("masked_object"), view.name), pixels_of(made("moved_object"), view.name)
        )


def test_a_world_point_shows_the_same_content_in_photos_of_all_sizes(made: Made) -> None:
    """Held against the plain photo at the same points; and worse where the principal point had stayed."""
    mixed, plain = read(made("mixed_sizes")), {v.name: v for v in read(made("plain")).views}
    sizes = {v.photo_size for v in mixed.train_views}
    assert len(sizes) == 4 and len({round(w / h, 1) for w, h in sizes}) == 2
    assert {v.photo_size for v in mixed.test_views} == {plain[v.name].photo_size for v in mixed.test_views}
    rng = np.random.default_rng(3)
    shifts = []
    for view in mixed.train_views:
        if view.photo_size == plain[view.name].photo_size:
            continue
        assert view.world_from_cam is not None
        cam = view.camera.unproject(
            torch.from_numpy(rng.uniform(0.1, 0.9, (400, 2)) * np.array(view.photo_size)), torch.full((400,), 2.5)
        )
        whole_photo, part = pixels_of(made("plain"), view.name), pixels_of(made("mixed_sizes"), view.name)
        error = np.abs(_at(part, view.camera.project(cam)) - _at(whole_photo, plain[view.name].camera.project(cam)))
        wrong = replace(view.camera, cx=view.camera.width / 2)
        other = np.abs(_at(part, wrong.project(cam)) - _at(whole_photo, plain[view.name].camera.project(cam)))
        assert np.median(error) < 6
        if abs(view.camera.cx - view.camera.width / 2) > 1:
            shifts.append(float(other.mean() / (error.mean() + 0.1)))
    assert len(shifts) > 4 and np.median(shifts) > 1.5


def _at(photo: np.ndarray, positions: torch.Tensor) -> np.ndarray:
    x, y = positions.numpy().T
    found: np.ndarray = photo[y.astype(int), x.astype(int)]
    return found


def test_the_same_arguments_give_the_same_bytes_and_what_is_there_is_left(
    made: Made, truth: Any, tmp_path: Path
) -> None:
    for name in ("masked_object", "sky"):
        first, again = made(name), odd.make(name, truth, tmp_path / name)
        files = sorted(p.relative_to(first) for p in first.rglob("*") if p.is_file())
        assert files == sorted(p.relative_to(again) for p in again.rglob("*") if p.is_file()) and len(files) > 20
        for file in files:
            assert (first / file).read_bytes() == (again / file).read_bytes(), file
    stamp = (again / "split.json").stat().st_mtime_ns
    odd.make("sky", truth, again)
    assert (again / "split.json").stat().st_mtime_ns == stamp
    odd.make("plain", truth, again)  # of another capture: made anew
    assert (again / "split.json").stat().st_mtime_ns != stamp


def test_an_unknown_capture_is_one_sentence(truth: Any, tmp_path: Path) -> None:
    with pytest.raises(SplatError, match=r"fog.*two_photos"):
        odd.make("fog", truth, tmp_path)
