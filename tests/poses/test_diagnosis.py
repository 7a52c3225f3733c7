"""Photos that cannot be registered are refused after matching, by what their matches show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from splat.core.camera import Camera
from splat.core.capture import Capture, View
from splat.core.errors import SplatError
from splat.core.slots import Silent
from splat.poses import Sfm
from splat.poses.diagnosis import one_place
from splat.poses.parallax import PairMotion, pair_motion
from tests.street import FOCAL, HEIGHT, WIDTH, street

QUICK = Sfm(max_features=800, threads=1)


def capture_of(folder: Path, photos: Sequence[np.ndarray]) -> Capture:
    views = []
    for i, photo in enumerate(photos):
        path = folder / f"{i}.png"
        assert cv2.imwrite(str(path), photo)
        h, w = photo.shape[:2]
        views.append(View(path.name, path, (w, h), Camera(1.2 * w, 1.2 * w, w / 2, h / 2, w, h), camera_group="one"))
    return Capture(tuple(views))


def refusal(folder: Path, photos: Sequence[np.ndarray], sfm: Sfm = QUICK) -> str:
    """What is said of photos that are refused before a model is tried."""
    work = folder / "work"
    with pytest.raises(SplatError) as caught:
        sfm(capture_of(folder, photos), work, Silent())
    assert not (work / "database.db").exists()
    return str(caught.value)


def yaw(angle: float, pitch: float = 0.0) -> np.ndarray:
    return cv2.Rodrigues(np.array([0.0, angle, 0.0]))[0] @ cv2.Rodrigues(np.array([pitch, 0.0, 0.0]))[0]


def test_one_photo_saved_again_and_again_is_one_place(tmp_path: Path) -> None:
    photo = street()[3].bgr
    coded = [cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_QUALITY, q])[1] for q in (60, 75, 95)]
    said = refusal(tmp_path, [cv2.imdecode(c, cv2.IMREAD_COLOR) for c in coded])
    assert "the photos were all taken from one place: move the camera" in said and "same picture" in said


def test_a_tripod_is_one_place(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    photos = [(street()[3].bgr + rng.normal(0, 4, (HEIGHT, WIDTH, 3))).clip(0, 255).astype(np.uint8) for _ in range(3)]
    assert "taken from one place" in refusal(tmp_path, photos)


def test_a_panorama_is_one_place(tmp_path: Path) -> None:
    big = cv2.resize(street(2, 1440, 1080)[0].bgr, (1440, 1080))
    wide, narrow = (np.array([[f, 0, w / 2], [0, f, h / 2], [0, 0, 1]])
                    for f, w, h in ((420.0, 1440, 1080), (420.0, WIDTH, HEIGHT)))  # fmt: skip
    photos = [
        cv2.warpPerspective(big, narrow @ yaw(a, p).T @ np.linalg.inv(wide), (WIDTH, HEIGHT))
        for a, p in ((-0.3, 0.0), (0.0, 0.1), (0.3, -0.1), (0.15, 0.1))
    ]
    said = refusal(tmp_path, photos)
    assert "taken from one place" in said and "turns on the spot" in said


def pairs_of_plane(poses: Sequence[tuple[np.ndarray, np.ndarray]], focal: float = FOCAL) -> list[PairMotion]:
    """Motion of points on the plane z = 5 between all cameras (cam_from_world rotation, centre)."""
    rng = np.random.default_rng(0)
    k = np.array([[focal, 0, WIDTH / 2], [0, focal, HEIGHT / 2], [0, 0, 1]])
    points = np.concatenate([rng.uniform(-6, 6, (4000, 2)), np.full((4000, 1), 5.0)], 1)
    pixels = []
    for turn, centre in poses:
        p = (points - centre) @ turn.T @ k.T
        at = p[:, :2] / p[:, 2:] + rng.normal(0, 0.4, (4000, 2))
        inside = (at > 0).all(1) & (at < [WIDTH, HEIGHT]).all(1) & (p[:, 2] > 0)
        pixels.append(np.where(inside[:, None], at, np.nan))
    out = []
    for i, a in enumerate(pixels):
        for b in pixels[i + 1 :]:
            seen = np.isfinite(a[:, 0] + b[:, 0])
            if seen.sum() >= 30:
                out.append(pair_motion(a[seen][:300], b[seen][:300], (WIDTH, HEIGHT), (WIDTH, HEIGHT)))
    return out


SIDEWAYS = [(np.eye(3), np.array([0.4 * i, 0.0, 0.0])) for i in range(6)]
FROM_ABOVE = [(yaw(0.02 * (i % 3), 0.03 * (i % 2)), np.array([1.0 * (i % 3), 1.0 * (i // 3), 0.0])) for i in range(6)]
ROUND = [(yaw(0.3 - 0.12 * i), np.array([-1.5 + 0.6 * i, 0.1 * (i % 2), 0.0])) for i in range(6)]
NEARER = [(np.eye(3), np.array([0.0, 0.0, 0.3 * i])) for i in range(6)]


@pytest.mark.parametrize("poses", [SIDEWAYS, FROM_ABOVE, ROUND, NEARER])
def test_a_plane_seen_from_several_places_is_not_one_place(poses) -> None:
    motion = pairs_of_plane(poses)
    assert len(motion) > 8 and one_place(motion) is None


@pytest.mark.parametrize("focal", [260.0, 420.0, 800.0])
def test_turning_on_the_spot_before_a_plane_is_one_place(focal: float) -> None:
    motion = pairs_of_plane([(yaw(40 * i / focal, 15 * (i % 2) / focal), np.zeros(3)) for i in range(6)], focal)
    assert len(motion) > 8 and "turns on the spot" in (one_place(motion) or "")


def test_a_panorama_among_photos_from_other_places_is_no_reason_to_refuse() -> None:
    mixed = [*[(yaw(0.1 * i), np.zeros(3)) for i in range(4)], *ROUND]
    assert one_place(pairs_of_plane(mixed)) is None
    assert one_place([]) is None


def turntable(count: int, background: int, seed: int = 0) -> list[np.ndarray]:
    """Photos of a textured box that turns before a background of noise whose contrast is `background`."""
    rng = np.random.default_rng(seed)

    def noise(side: int) -> np.ndarray:
        layers = (rng.integers(0, 256, (k, k, 3)).astype(np.float32) for k in (9, 40, 130))
        return np.sum([cv2.resize(n, (side, side)) / 3 for n in layers], axis=0)

    still = 128 + (cv2.resize(noise(500), (WIDTH, HEIGHT)) - 128) * (background / 100)
    faces = [noise(300) for _ in range(4)]
    k = np.array([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]])
    photos = []
    for i in range(count):
        image, r = still.copy(), yaw(0.25 * i - 0.4, 0.0)
        for side, face in enumerate(faces):
            q = r @ yaw(np.pi / 2 * side)
            if (q @ [0, 0, -1.0])[2] > -0.15:  # turned away
                continue
            corner = q @ [-0.8, -0.8, -0.8] + [0, 0, 4]
            h = k @ np.stack([q @ [1.6 / 300, 0, 0], q @ [0, 1.6 / 300, 0], corner], 1)
            on = cv2.warpPerspective(np.ones((300, 300), np.float32), h, (WIDTH, HEIGHT))[..., None]
            image = image * (1 - on) + cv2.warpPerspective(face, h, (WIDTH, HEIGHT)) * on
        photos.append((image + rng.normal(0, 2, image.shape)).clip(0, 255).astype(np.uint8))
    return photos


@pytest.mark.parametrize("background", [100, 50])
def test_a_background_that_stays_while_the_object_turns_is_to_be_masked(tmp_path: Path, background: int) -> None:
    said = refusal(tmp_path, turntable(4, background))
    assert "background stays" in said and "mask" in said and "turntable" in said


def test_photos_without_texture_or_contrast_say_so(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    smooth = [cv2.resize(rng.integers(60, 200, (3, 4, 3)).astype(np.uint8), (320, 240)) for _ in range(3)]
    assert "too little texture" in refusal(tmp_path, smooth)
    flat = [(120 + v.bgr.astype(float) / 255 * 3).round().astype(np.uint8) for v in street()[:3]]
    assert "almost no contrast" in refusal(tmp_path, flat)


def test_masks_that_leave_nothing_are_named(tmp_path: Path) -> None:
    capture = capture_of(tmp_path, [cv2.resize(v.bgr, (240, 180)) for v in street()[:2]])
    cv2.imwrite(str(tmp_path / "mask.png"), np.zeros((180, 240), np.uint8))
    views = tuple(replace(v, mask_path=tmp_path / "mask.png") for v in capture.views)
    with pytest.raises(SplatError, match="masks leave almost nothing"):
        QUICK(Capture(views), tmp_path / "work", Silent())


def test_photos_that_share_nothing_are_tried_twice_not_five_times(tmp_path: Path) -> None:
    photos = [cv2.resize(turntable(1, 100, seed)[0], (240, 180)) for seed in (1, 2, 3)]
    lines = Lines()
    with pytest.raises(SplatError, match="no two show the same points"):
        QUICK(capture_of(tmp_path, photos), tmp_path / "work", lines)
    assert len([line for line in lines.said if line.startswith("poses (")]) <= 2


class Lines(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def info(self, message: str) -> None:
        self.said.append(message)
