"""A small world with exact poses: textured boards before a textured wall, photographed from an arc."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from splat.core.camera import Camera
from splat.core.capture import Capture, View
from splat.core.geometry import Rigid
from splat.core.image import write_png
from splat.core.slots import PoseResult, Silent
from splat.poses.sfm import Attempt

SIZE = (400, 300)
FOCAL = 420.0  # the photos come with a guess of 480


def texture(seed: int, side: int = 512) -> np.ndarray:
    """uint8 [side side 3] with energy at every scale from a blob to a pixel."""
    rng = np.random.default_rng(seed)
    out = np.zeros((side, side, 3))
    for cells in (4, 8, 16, 32, 64, 128, 256):
        noise = rng.standard_normal((cells, cells, 3)) * (6 / cells) ** 0.35
        out += cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)
    out = (out - out.mean()) / out.std()
    return np.clip(127 + 55 * out, 0, 255).astype(np.uint8)


# corner, and the two edges that span each board, far ones first
BOARDS = [
    (np.array([-3.5, -2.6, 2.0]), np.array([7.0, 0, 0]), np.array([0, 5.2, 0])),
    (np.array([-1.7, -0.9, 0.6]), np.array([1.5, 0, -0.6]), np.array([0, 1.6, 0.2])),
    (np.array([0.3, -0.6, 0.1]), np.array([1.3, 0.1, 0.5]), np.array([-0.1, 1.5, 0])),
]


def photograph(camera: Camera, world_from_cam: Rigid, seed: int = 0) -> np.ndarray:
    """uint8 [h w 3], rendered at twice the size and averaged."""
    big = camera.resized(2 * camera.width, 2 * camera.height)
    pose = world_from_cam.inverse()
    rotation, translation = pose.rotation.numpy(), pose.translation.numpy()
    image = np.full((big.height, big.width, 3), 90, np.uint8)
    shift = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]])  # our pixel centres are at .5, cv2's at 0
    for i, (corner, right, down) in enumerate(BOARDS):
        tex = texture(10 * seed + i)
        plane = np.stack([right / tex.shape[1], down / tex.shape[0], corner], 1)
        to_image = big.matrix().numpy() @ (rotation @ plane + np.outer(translation, [0, 0, 1]))
        warp = shift @ to_image @ np.linalg.inv(shift)
        size = (big.width, big.height)
        drawn = cv2.warpPerspective(tex, warp, size, flags=cv2.INTER_LINEAR)
        cover = cv2.warpPerspective(np.full(tex.shape[:2], 255, np.uint8), warp, size, flags=cv2.INTER_NEAREST)
        image[cover > 0] = drawn[cover > 0]
    return cv2.resize(image, (camera.width, camera.height), interpolation=cv2.INTER_AREA)


def arc(n: int) -> list[Rigid]:
    """world_from_cam of n cameras on an arc of 60 degrees, 4 from the origin, at two heights; up is -y."""
    poses = []
    for i, angle in enumerate(np.radians(np.linspace(-30, 30, n))):
        eye = torch.tensor([4 * np.sin(angle), 0.3 - 0.8 * (i % 2), -4 * np.cos(angle)])
        poses.append(Rigid.look_at(eye, torch.tensor([0.0, 0.0, 0.7]), torch.tensor([0.0, -1.0, 0.0])))
    return poses


def view_of(path: Path, size: tuple[int, int] = SIZE, group: str = "camera") -> View:
    """A photo whose lens is only guessed."""
    width, height = size
    guess = Camera(1.2 * max(size), 1.2 * max(size), width / 2, height / 2, width, height)
    return View(path.name, path, size, guess, camera_group=group)


@dataclass(frozen=True, eq=False)
class World:
    """Photos of the boards, and some that do not belong."""

    capture: Capture
    """Views 0-6: the boards. 7-9: another place. 10: a blank wall."""
    truth: list[Rigid]
    camera: Camera
    boards: list[tuple[np.ndarray, np.ndarray, np.ndarray]]
    """Corner and the two edges of every plane."""

    def photos(self, ids: list[int]) -> Capture:
        return replace(self.capture, views=tuple(self.capture.views[i] for i in ids))

    def centres(self, names: list[str]) -> torch.Tensor:
        by_name = {v.name: t for v, t in zip(self.capture.views, self.truth)}
        return torch.stack([by_name[n].translation for n in names])


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("boards")
    camera = Camera(FOCAL, FOCAL, SIZE[0] / 2, SIZE[1] / 2, *SIZE)
    truth = arc(7)
    paths = []
    for i, pose in enumerate(truth):
        paths.append(folder / f"{i:03d}.png")
        write_png(paths[-1], photograph(camera, pose))
    for i in (1, 2, 3):
        paths.append(folder / f"elsewhere{i}.png")
        write_png(paths[-1], photograph(camera, truth[i], seed=7))
    paths.append(folder / "wall.png")
    blank = 128 + np.random.default_rng(0).integers(-1, 2, (SIZE[1], SIZE[0], 3))
    write_png(paths[-1], blank.astype(np.uint8))
    return World(Capture(tuple(view_of(p) for p in paths)), truth, camera, BOARDS)


@pytest.fixture(scope="session")
def sfm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sfm")


@pytest.fixture(scope="session")
def attempt(world: World, sfm_folder: Path) -> Attempt:
    """The first attempt on all photos, with its features and matches."""
    from splat.poses import Sfm
    from splat.poses.attempts import attempt_sequence
    from splat.poses.sfm import AttemptRunner

    settings = attempt_sequence(len(world.capture.views), max_count=1500)[0]
    return AttemptRunner(Sfm(attempts=1, max_features=1500), world.capture, sfm_folder, Silent()).run(settings)


@pytest.fixture(scope="session")
def posed(world: World, sfm_folder: Path) -> PoseResult:
    """All photos through structure from motion, once; features stay in `sfm_folder`."""
    from splat.poses import Sfm

    return Sfm(attempts=1, max_features=1500)(world.capture, sfm_folder, Silent())
