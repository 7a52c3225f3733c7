"""Scenes for tests of the viewer, made by code, and clients that speak to its server without a browser."""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import cv2
import numpy as np
import pytest
import torch

from splat import raster
from splat.core.camera import Camera
from splat.core.capture import View
from splat.core.gaussians import Gaussians
from splat.core.geometry import Rigid
from splat.core.slots import PathCamera
from splat.export import save_splat
from splat.viewer.edits import Pinhole, Recipe, placed_from_scene, write_recipe
from splat.viewer.scene import Scene, SceneCamera

WIDTH, HEIGHT = 160, 120


def camera(width: int = WIDTH, height: int = HEIGHT) -> Camera:
    return Camera(width * 0.9, width * 0.9, width / 2, height / 2, width, height)


def gaussians(count: int = 500, seed: int = 0, sh: float = 0.15) -> Gaussians:
    """A cloud of radius 0.6 about the origin; `sh`: how much colour changes with the direction. Few colours leave
    [0, 1], where a screen clips each Gaussian and our rasterizer their sum."""
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g)

    harmonics = torch.cat([0.6 * normal(count, 1, 3), sh * normal(count, 15, 3)], 1)
    means, quats, scales = 0.3 * normal(count, 3), normal(count, 4), -2.6 + 0.3 * normal(count, 3)
    return Gaussians(means, quats, scales, 2 + normal(count), harmonics)


def poses(count: int) -> list[Rigid]:
    """On an arc at a distance of 2, upright (up is -y), looking at the origin."""
    up = torch.tensor([0.0, -1.0, 0.0], dtype=torch.float64)
    angles = [0.5 * (i - (count - 1) / 2) for i in range(count)]
    eyes = [torch.tensor([2 * math.sin(a), -0.3, -2 * math.cos(a)], dtype=torch.float64) for a in angles]
    return [Rigid.look_at(eye, torch.zeros(3, dtype=torch.float64), up) for eye in eyes]


class FolderSaver:
    """As `stages.viewing.FileSaver`, in a few lines."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def splat(self, gaussians: Gaussians, recipe: Recipe) -> list[Path]:
        path = self.folder / "edited.ply"
        save_splat(path, gaussians.transformed(placed_from_scene(recipe)))
        write_recipe(path.with_suffix(".json"), recipe)
        return [path, path.with_suffix(".json")]

    def video(
        self, gaussians: Gaussians, cameras: Sequence[PathCamera], fps: float, progress: Callable[[int, int], None]
    ) -> list[Path]:
        path = self.folder / "path.txt"
        path.write_text(f"{len(gaussians)} {len(cameras)} {cameras[0].camera.width} {fps}")
        progress(len(cameras), len(cameras))
        return [path]


def scene(folder: Path, count: int = 500, cameras: int = 3, scale: int = 1, **changes: Any) -> Scene:
    """Gaussians and photos of them of `scale` x 160 x 120 px, the last one held out, its PSNR 25 dB."""
    g, drawer = gaussians(count), raster.choose("cpu")
    views = []
    for i, pose in enumerate(poses(cameras)):
        path = folder / f"photo {i}.png"
        image = np.full((scale * HEIGHT, scale * WIDTH, 3), (60 * i + 40) % 256, np.uint8)
        path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
        role = "test" if i == cameras - 1 and cameras > 1 else "train"
        shape = camera(scale * WIDTH, scale * HEIGHT)
        shown = View(path.name, path, (shape.width, shape.height), shape, pose, role)
        views.append(SceneCamera(shown, 25.0 if role == "test" else None))
    about: dict[str, Any] = {"name": "sample", "rasterizer": drawer, "gaussians": g, "cameras": tuple(views)}
    return Scene(**(about | {"saver": FolderSaver(folder)} | changes))


def pinhole(pose: Rigid, shape: Camera | None = None) -> Pinhole:
    c = shape or camera()
    rows = tuple((a, b, c, d) for a, b, c, d in pose.matrix()[:3].tolist())
    return Pinhole(c.width, c.height, c.fx, c.fy, c.cx, c.cy, rows)


def as_json(view: Pinhole) -> dict[str, Any]:
    return {**vars(view), "world_from_cam": [list(row) for row in view.world_from_cam]}


def without_browser(reason: str) -> NoReturn:
    """Skip a test of the page; where SPLAT_REQUIRE_BROWSER is set, fail it."""
    if os.environ.get("SPLAT_REQUIRE_BROWSER", "0") not in {"", "0"}:
        pytest.fail(reason)
    pytest.skip(reason)


# ------------------------------------------------------------------------------------------------------------- clients


class Client:
    """A browser without a screen."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket
        self.heard: list[dict[str, Any]] = []
        """Every text message so far."""

    def send(self, message: Any) -> None:
        self.socket.send(message if isinstance(message, str | bytes) else json.dumps(message))

    def next(self, kind: str | int, timeout: float = 60.0) -> Any:
        """The next message of a type (text) or a number (binary); others are passed over."""
        while True:
            message = self.socket.recv(timeout=timeout)
            if isinstance(message, bytes):
                if struct.unpack_from("<I", message)[0] == kind:
                    return message
            else:
                self.heard.append(json.loads(message))
                if self.heard[-1]["type"] == kind:
                    return self.heard[-1]

    def splats(self) -> tuple[int, int, bytes]:
        """Step, count and planes of the next snapshot; says that it was shown."""
        planes = b""
        while True:
            part = self.next(1)
            _, step, count, _, index, parts = struct.unpack_from("<6I", part)
            planes = part[24:] if index == 0 else planes + part[24:]
            if index == parts - 1:
                self.send({"kind": "shown", "step": step})
                return step, count, planes

    def closed(self, timeout: float = 60.0) -> int:
        """The code that the server closes with."""
        from websockets.exceptions import ConnectionClosed

        try:
            while True:
                self.socket.recv(timeout=timeout)
        except ConnectionClosed as e:
            return e.rcvd.code if e.rcvd is not None else 1006


@contextmanager
def connected(viewer: Any, **changes: Any) -> Iterator[Client]:
    """A client of a `Viewer`. `changes`: `token`, `origin`, or other arguments of websockets' `connect`."""
    from websockets.sync.client import connect

    token = changes.pop("token", viewer.access.token)
    arguments: dict[str, Any] = {"origin": f"http://127.0.0.1:{viewer.port}", "max_size": None}
    address = f"ws://127.0.0.1:{viewer.port}/socket?token={token}"
    with connect(address, **(arguments | changes)) as socket:
        yield Client(socket)
