"""The made captures: photos that agree with their own truth, the same every time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from splat.bench.scenes import load_scenes
from splat.core.errors import SplatError
from splat.core.image import read_pixels

SCENES = load_scenes()
Small = Callable[[str], Any]
NAMES = ("atelier", "shelf", "orbit", "street")


def rgb(truth: Any, name: str) -> torch.Tensor:
    return torch.from_numpy(read_pixels(truth.images / name).astype(np.float32) / 255)


def sample(image: torch.Tensor, pixels: torch.Tensor, mode: str = "bilinear") -> torch.Tensor:
    """Values [n c] of an image [h w c] at pixel positions [n 2]."""
    h, w = image.shape[:2]
    grid = pixels / torch.tensor([w / 2, h / 2]) - 1
    out = torch.nn.functional.grid_sample(
        image.permute(2, 0, 1)[None], grid[None, None].float(), mode, align_corners=False
    )
    return out[0, :, 0].T


def carried(truth: Any, i: int, j: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pixels of view i that view j sees too: their positions in i, in j, and their depth in j's frame."""
    a, b = truth.names[i], truth.names[j]
    depth, pixels = truth.depth(a).double(), truth.cameras[i].pixel_centres().double()
    seen = depth > 0
    world = truth.world_from_cam[i].apply(truth.cameras[i].unproject(pixels[seen], depth[seen]))
    cam = truth.world_from_cam[j].inverse().apply(world)
    there = truth.cameras[j].project(cam)
    w, h = truth.cameras[j].width, truth.cameras[j].height
    inside = (cam[:, 2] > 0.1) & (there > 1).all(1) & (there[:, 0] < w - 1) & (there[:, 1] < h - 1)
    found = sample(truth.depth(b)[..., None].double().float(), there[inside].float(), "nearest")[:, 0]
    z = cam[inside, 2].float()
    visible = (found - z).abs() < 0.03 * z
    return pixels[seen][inside][visible], there[inside][visible], z[visible]


@pytest.mark.parametrize("name", NAMES)
def test_a_point_has_the_same_colour_in_every_photo_that_sees_it(small: Small, name: str) -> None:
    """Depth, poses, intrinsics and pixels agree: photos carried over by their depth match, and match worse when the
    depth is 3 % wrong."""
    truth = small(name)
    # orbit: a training photo and the nearest test one; street: the next that looks to the same side
    i, j = {"orbit": (0, len(truth.names) - 1), "street": (1, 3)}.get(name, (1, 2))
    here, there, _ = carried(truth, i, j)
    assert len(here) > 0.15 * truth.depth(truth.names[i]).numel() * (0.3 if name == "orbit" else 1)
    gain = 2.0 ** ((truth.exposure_ev[j] - truth.exposure_ev[i]) / 2.2)
    a, b = (rgb(truth, truth.names[k])[..., :3] for k in (i, j))
    error = (sample(a, here) * gain - sample(b, there)).abs().median()
    shifted = (sample(a, here) * gain - sample(b, there + torch.tensor([3.0, 0.0]))).abs().median()
    assert error < 0.03 and error < 0.6 * shifted, (float(error), float(shifted))


@pytest.mark.parametrize("name", NAMES)
def test_normals_are_the_slopes_of_the_depth(small: Small, name: str) -> None:
    """Cross products of neighbouring points, inside one solid, away from its edges."""
    truth = small(name)
    camera, photo = truth.cameras[0], truth.names[0]
    depth, ids, normals = truth.depth(photo).double(), truth.ids(photo), truth.normals(photo)
    points = truth.world_from_cam[0].apply(camera.unproject(camera.pixel_centres().double(), depth))
    right, down = points[1:-1, 2:] - points[1:-1, :-2], points[2:, 1:-1] - points[:-2, 1:-1]
    slope = torch.nn.functional.normalize(torch.linalg.cross(down, right), dim=-1).float()
    n = normals[1:-1, 1:-1]
    same = (ids[1:-1, 1:-1] >= 0) & (n.norm(dim=-1) > 0.9)
    for dy, dx in ((0, 1), (2, 1), (1, 0), (1, 2)):
        h, w = ids.shape
        same &= ids[dy : h - 2 + dy, dx : w - 2 + dx] == ids[1:-1, 1:-1]
        same &= (normals[dy : h - 2 + dy, dx : w - 2 + dx] * n).sum(-1) > 0.95
    cosine = (slope * n).sum(-1)[same]
    assert same.float().mean() > (0.08 if name == "orbit" else 0.4)
    assert torch.quantile(cosine, 0.02) > 0.99 and cosine.median() > 0.9999
    assert (n[same].norm(dim=-1) - 1).abs().max() < 2e-3


@pytest.mark.parametrize("name", NAMES)
def test_photos_are_well_exposed_and_full_of_detail(small: Small, name: str) -> None:
    """Neither black nor burnt out, and their finest octave has energy: texture up to Nyquist, not only noise."""
    truth = small(name)
    for photo in truth.names:
        pixels = rgb(truth, photo)
        solid = pixels[..., 3] > 0.99 if pixels.shape[2] == 4 else torch.ones(pixels.shape[:2], dtype=torch.bool)
        grey = pixels[..., :3].mean(-1)
        assert 0.2 < grey[solid].mean() < 0.65
        assert (pixels[..., :3][solid].amax(-1) > 0.996).float().mean() < 0.02
        flat = grey[1:, 1:] - grey[:-1, 1:] - grey[1:, :-1] + grey[:-1, :-1]
        noise_alone = 2 / 255 / 3**0.5 * 2
        assert flat[solid[1:, 1:]].std() > 4 * noise_alone


def test_the_same_arguments_give_the_same_bytes_and_another_seed_other_noise(small: Small, tmp_path: Path) -> None:
    truth = small("orbit")
    again = SCENES.make("orbit", tmp_path / "again", scale=0.25, views=4)
    files = sorted(p.relative_to(truth.folder) for p in truth.folder.rglob("*") if p.suffix in {".png", ".json"})
    assert len(files) > 6
    for file in files:
        assert (truth.folder / file).read_bytes() == (again.folder / file).read_bytes(), file
    for photo in truth.names:
        assert torch.equal(truth.depth(photo), again.depth(photo))
    other = SCENES.make("orbit", tmp_path / "other", scale=0.25, views=4, seed=1)
    difference = rgb(truth, truth.names[0])[..., :3] - rgb(other, truth.names[0])[..., :3]
    solid = rgb(truth, truth.names[0])[..., 3] == 1
    assert float(difference[solid].std()) == pytest.approx(2**0.5 / 255, rel=0.2)  # sigma 1/255 in each


def test_what_is_complete_is_not_made_again_and_what_is_not_is(tmp_path: Path) -> None:
    arguments = {"scale": 0.25, "views": 2}
    first = SCENES.make("orbit", tmp_path, **arguments)
    stamps = {p: p.stat().st_mtime_ns for p in sorted(tmp_path.rglob("*.png"))}
    SCENES.make("orbit", tmp_path, **arguments)
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps
    (first.images / first.names[1]).unlink()
    SCENES.make("orbit", tmp_path, **arguments)
    assert (first.images / first.names[1]).exists()
    (tmp_path / "truth" / "cameras.json").unlink()
    with pytest.raises(SplatError, match=r"cameras\.json"):
        SCENES.load_truth(tmp_path)


def test_an_unknown_scene_or_photo_is_one_sentence(small: Small, tmp_path: Path) -> None:
    with pytest.raises(SplatError, match=r"attic.*atelier"):
        SCENES.make("attic", tmp_path)
    with pytest.raises(SplatError, match="nowhere"):
        small("orbit").depth("nowhere.png")


@pytest.mark.parametrize(
    ("name", "count", "size"),
    [
        ("atelier", 24, (640, 480)),
        ("shelf", 12, (640, 480)),
        ("orbit", 44, (400, 400)),
        ("street", 200, (320, 240)),
    ],
)
def test_the_full_scenes_have_their_promised_photos(name: str, count: int, size: tuple[int, int]) -> None:
    session = SCENES.SCENES[name](None, 1.0, 0)
    assert len(session.shots) == count and len({s.name for s in session.shots}) == count
    assert {(s.camera.width, s.camera.height) for s in session.shots} == {size}
    assert sum(s.test for s in session.shots) == (8 if name == "orbit" else 0)


def test_the_exposure_of_the_walk_drifts_slowly_around_zero() -> None:
    """Within 0.3 stops, zero mean, smooth; nothing hidden: the held-out photos drift too."""
    ev = np.array([s.exposure_ev for s in SCENES.SCENES["atelier"](None, 1.0, 0).shots])
    assert np.abs(ev).max() == pytest.approx(0.3) and abs(ev.mean()) < 1e-9
    assert np.abs(np.diff(ev)).max() < 0.2
    assert 0.02 < np.abs(ev[::8]).mean() < 0.15


def test_neighbours_of_the_walk_overlap(small: Small) -> None:
    truth = small("atelier")  # every seventh photo or so of the full walk: further apart than neighbours
    here, _, _ = carried(truth, 1, 2)
    assert len(here) > 0.4 * truth.depth(truth.names[1]).numel()


def test_orbit_reads_as_nerf_synthetic_and_its_alpha_is_the_object(small: Small) -> None:
    from splat.core.slots import ReadOptions, Silent
    from splat.ingest import read

    truth = small("orbit")
    layout = json.loads((truth.folder / "transforms_train.json").read_text())
    assert len(layout["frames"]) == sum(not t for t in truth.test)
    capture = read(truth.folder, ReadOptions(), Silent())
    assert {v.role for v in capture.views} == {"train", "test"}
    for view in capture.views:
        k = truth.names.index(Path(view.image_path).name)
        assert view.camera.fx == pytest.approx(truth.cameras[k].fx)
        assert torch.allclose(view.world_from_cam.matrix(), truth.world_from_cam[k].matrix())
        alpha = rgb(truth, truth.names[k])[..., 3]
        inside = truth.ids(truth.names[k]) >= 0
        assert alpha[inside].min() > 0 and 0.1 < inside.float().mean() < 0.6
        assert ((alpha > 0.5) == inside).float().mean() > 0.99


def test_street_brings_its_poses_and_no_photo_shows_both_ends(small: Small) -> None:
    from splat.core.slots import ReadOptions, Silent
    from splat.ingest import read
    from splat.scenes import street

    truth = small("street")
    capture = read(truth.folder, ReadOptions(), Silent())
    for view, pose, camera in zip(capture.views, truth.world_from_cam, truth.cameras, strict=True):
        assert torch.allclose(view.pose.matrix(), pose.matrix()) and view.camera.fx == pytest.approx(camera.fx)
    ends = torch.tensor([[*street.place(a)[:2], 1.6] for a in (-3.2, street.LENGTH + 3.2)], dtype=torch.float64)
    for shot in street.session(None, 1.0, 0).shots:
        at = shot.world_from_cam.inverse().apply(ends)
        assert not ((at[:, 2] > 0) & shot.camera.contains(shot.camera.project(at))).all()
