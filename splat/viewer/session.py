"""What a viewer shows at the moment, and what was done to it: the state behind the server, shared by its threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jaxtyping import Bool
from torch import Tensor

from splat.core.errors import SplatError
from splat.core.gaussians import Gaussians
from splat.core.geometry import Rigid
from splat.core.slots import PathCamera
from splat.geometry.page import pack_splats
from splat.viewer.edits import Brush, Frame, Operation, Recipe, kept
from splat.viewer.keyframes import keyframe_path
from splat.viewer.pictures import Painter
from splat.viewer.protocol import Look, Pick, mask_message
from splat.viewer.protocol import Path as CameraPath
from splat.viewer.scene import Scene, describe


class Steering:
    """What browsers ask of a training run. A `slots.Control`."""

    def __init__(self) -> None:
        self.paused = False
        self.ends = False
        self._watched: Callable[[], bool] = lambda: False

    def watched_by(self, watched: Callable[[], bool]) -> None:
        """`watched`: whether a browser is there, which alone may keep training paused."""
        self._watched = watched

    def wait(self, stopped: Callable[[], bool]) -> None:
        while self.paused and not self.ends and not stopped() and self._watched():
            time.sleep(0.05)
        self.paused = self.paused and not self.ends and self._watched()


@dataclass(frozen=True, eq=False)
class Packed:
    """A snapshot as it is sent."""

    version: int
    step: int
    count: int
    sh_degree: int
    planes: bytes


class Session:
    """One scene at a time. Methods may be called from any thread; `changed` is called, without a lock, after each that
    browsers should hear of. Those that draw take their time."""

    def __init__(self, changed: Callable[[], None] = lambda: None) -> None:
        self.changed = changed
        self.steering = Steering()
        self._lock, self._packing = threading.RLock(), threading.Lock()
        self._scene: Scene | None = None
        self._painter: Painter | None = None
        self._packed: Packed | None = None
        self._recipe = Recipe()
        self._mask: Bool[Tensor, "n"] | None = None
        self.hello: dict[str, Any] = {"type": "hello", "name": "", "cameras": [], "extent": None, "editable": False}
        self.figures: dict[str, Any] = {"type": "progress"}
        self._spent = 0.0
        self.versions = {"hello": 1, "progress": 0, "splats": 0, "edited": 0}
        self.saved: list[Path] = []
        """Files that were written, which browsers may download by their index."""

    # ------------------------------------------------------------------------------------------- what the program says

    def show(self, scene: Scene) -> None:
        """Show another scene, or another state of the one that is shown."""
        known = self._scene
        same = known is not None and known.cameras is scene.cameras and known.name == scene.name
        # what a run that trains is said to be does not change from snapshot to snapshot
        again = same and known is not None and known.gaussians is not None and known.saver is scene.saver
        # before the first step nothing surrounds it
        again = again and known is not None and known.surroundings == scene.surroundings
        hello = self.hello if again else describe(scene)
        with self._lock:
            self._scene, self._packed, self._mask = scene, None, None
            if not same or scene.saver is None:
                up = tuple(float(v) for v in scene.up)
                self._recipe = Recipe((), Frame.of(scene.scene_from_file), (up[0], up[1], up[2]), scene.file)
            self._painter = None if scene.gaussians is None else Painter(scene, scene.gaussians)
            if hello != self.hello:
                self.hello = hello
                self.versions["hello"] += 1
            if scene.gaussians is not None:
                self.versions["splats"] += 1
            self.versions["edited"] += 1
        self.changed()

    def progress(self, **figures: Any) -> None:
        """What training, or the stage before it, has come to."""
        with self._lock:
            self.figures = {"type": "progress", **figures}
            self.versions["progress"] += 1
        self.changed()

    def spend(self, seconds: float) -> None:
        """Note what serving browsers has cost this computer."""
        with self._lock:
            self._spent += seconds

    def spent(self) -> float:
        """Seconds that serving browsers has cost since this was last asked."""
        with self._lock:
            spent, self._spent = self._spent, 0.0
            return spent

    # ------------------------------------------------------------------------------------------- what browsers ask for

    @property
    def scene(self) -> Scene | None:
        return self._scene

    @property
    def recipe(self) -> Recipe:
        return self._recipe

    def packed(self) -> Packed | None:
        """The Gaussians as they are sent. Packed once, when somebody asks, and not under the lock that who shows the
        next snapshot needs."""
        with self._packing:
            with self._lock:
                scene, version, packed = self._scene, self.versions["splats"], self._packed
            if packed is not None or scene is None or scene.gaussians is None:
                return packed
            g, started = scene.gaussians, time.thread_time()
            packed = Packed(version, scene.step, len(g), g.sh_degree, pack_splats(g))
            self.spend(time.thread_time() - started)
            with self._lock:
                if self.versions["splats"] == version:
                    self._packed = packed
            return packed

    def mask(self) -> bytes | None:
        """The binary `mask` of the present edits; None where nothing was removed."""
        with self._lock:
            return None if self._mask is None else mask_message(self._mask)

    def edited(self) -> dict[str, Any]:
        """The `edited` message."""
        with self._lock:
            total = 0 if self._scene is None or self._scene.gaussians is None else len(self._scene.gaussians)
            left = total if self._mask is None else int(self._mask.sum())
            kinds = [o.kind for o in self._recipe.operations]
            return {"type": "edited", "operations": kinds, "kept": left, "total": total}

    def picture(self, look: Look) -> bytes:
        """Raises ValueError where it cannot be drawn."""
        painter = self._painter
        if painter is None:
            raise ValueError("there are no Gaussians yet")
        started = time.perf_counter()
        try:
            return painter.png(look.mode, look.view, look.photo)
        finally:
            self.spend(time.perf_counter() - started)

    def pick(self, pick: Pick) -> dict[str, Any]:
        """The `picked` message."""
        painter = self._painter
        inside = 0 <= pick.x < pick.view.width and 0 <= pick.y < pick.view.height
        point = painter.point_at(pick.view, pick.x, pick.y) if painter is not None and inside else None
        return {"type": "picked", "id": pick.id, "point": point}

    def edit(self, operation: Operation, replace_last: bool = False) -> None:
        """Add an operation. Raises SplatError while training changes the scene, or if nothing would be left."""
        scene = self._editable()
        before = self._recipe.operations
        if replace_last and before and before[-1].kind == operation.kind:
            before = before[:-1]
        if isinstance(operation, Brush) and self._painter is not None:
            operation = self._painter.reached(operation)
        self._apply(scene, replace(self._recipe, operations=(*before, operation)))

    def undo(self, everything: bool = False) -> None:
        """Take the last operation back, or all."""
        scene = self._editable()
        left = () if everything else self._recipe.operations[:-1]
        self._apply(scene, replace(self._recipe, operations=left))

    def save(self) -> list[Path]:
        """Write the edited splat and its recipe."""
        scene = self._editable()
        assert scene.gaussians is not None and scene.saver is not None
        gaussians = (
            scene.gaussians if self._mask is None else scene.gaussians[self._mask.to(scene.gaussians.means.device)]
        )
        return self._noted(scene.saver.splat(gaussians, self._recipe))

    def poses(self, path: CameraPath) -> list[Rigid]:
        return keyframe_path([k.pose for k in path.keyframes], path.frames)

    def render(self, path: CameraPath, progress: Callable[[int, int], None]) -> list[Path]:
        """Write a camera path as a video of what is left of the scene."""
        scene = self._editable()
        assert scene.gaussians is not None and scene.saver is not None
        camera = path.keyframes[0].camera
        even = camera.resized(max(2, camera.width // 2 * 2), max(2, camera.height // 2 * 2))
        cameras = [PathCamera(even, pose) for pose in self.poses(path)]
        return self._noted(scene.saver.video(self._left(scene.gaussians), cameras, path.fps, progress))

    def _left(self, gaussians: Gaussians) -> Gaussians:
        """Those that edits have left."""
        mask = self._mask
        return gaussians if mask is None else gaussians[mask.to(gaussians.means.device)]

    def _editable(self) -> Scene:
        scene = self._scene
        if scene is None or scene.gaussians is None or scene.saver is None:
            raise SplatError("the scene can be edited and saved once training has ended.")
        return scene

    def _noted(self, files: list[Path]) -> list[Path]:
        with self._lock:
            self.saved += files
        return files

    def _apply(self, scene: Scene, recipe: Recipe) -> None:
        assert scene.gaussians is not None
        mask = kept(recipe, scene.gaussians, scene.seen_past)
        if not bool(mask.any()):
            raise SplatError("nothing would be left: that edit was not made.")
        left = scene.gaussians if bool(mask.all()) else scene.gaussians[mask.to(scene.gaussians.means.device)]
        with self._lock:
            self._recipe = recipe
            self._mask = mask
            self._painter = Painter(scene, left)
            self.versions["edited"] += 1
        self.changed()


def pinhole_rows(pose: Rigid) -> list[float]:
    """The twelve numbers of `world_from_cam`, row by row."""
    return [round(v, 7) for v in pose.matrix()[:3].flatten().tolist()]
