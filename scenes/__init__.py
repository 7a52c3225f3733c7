"""Scenes this project makes itself: ray-traced photos with exact poses, depth and normals.

`make("atelier", folder)` writes `folder/images/` (what a camera would have given) and `folder/truth/` (what really was
there); `load_truth(folder)` reads the latter. World coordinates are metres, z up.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from splat.core.camera import Camera
from splat.core.errors import SplatError
from splat.core.files import write_json
from splat.core.geometry import Rigid
from splat.core.slots import Reporter, Silent
from splat.scenes import atelier, orbit, shelf, street
from splat.scenes.light import bake
from splat.scenes.render import render
from splat.scenes.shot import Session, Shot, save

SCENES: dict[str, Callable[[int | None, float | int, int], Session]] = {
    "atelier": atelier.session,
    "shelf": shelf.session,
    "orbit": orbit.session,
    "street": street.session,
}
"""Name -> session(views or None for all, scale of the photos, seed of the noise)."""

WORKERS = 2


@dataclass(frozen=True, eq=False)
class Truth:
    """What a made scene really is."""

    folder: Path
    scene: str
    names: tuple[str, ...]
    """File names of the photos in `folder/images`."""
    cameras: tuple[Camera, ...]
    world_from_cam: tuple[Rigid, ...]
    exposure_ev: tuple[float, ...]
    """By how many stops each photo is brighter than the scene's own exposure."""
    test: tuple[bool, ...]
    """Held out by the scene itself; all False where the layout leaves that to the reader."""

    @property
    def images(self) -> Path:
        return self.folder / "images"

    def depth(self, name: str) -> Float[Tensor, "h w"]:
        """z-depth in metres at pixel centres; 0 where the camera sees nothing."""
        return torch.from_numpy(self._file(name)["depth"])

    def normals(self, name: str) -> Float[Tensor, "h w 3"]:
        """World normals towards the camera at pixel centres (unit up to float16); 0 where the camera sees nothing."""
        return torch.from_numpy(self._file(name)["normals"].astype(np.float32))

    def ids(self, name: str) -> Int[Tensor, "h w"]:
        """Which solid is seen at pixel centres; -1 for none."""
        return torch.from_numpy(self._file(name)["ids"].astype(np.int64))

    def _file(self, name: str) -> Any:
        if name not in self.names:
            raise SplatError(
                f"{self.folder} has no photo {name!r}: its photos are {self.names[0]} to {self.names[-1]}."
            )
        return np.load(self.folder / "truth" / f"{Path(name).stem}.npz")


def make(
    name: str,
    folder: Path,
    scale: float | int = 1.0,
    views: int | None = None,
    seed: int = 0,
    report: Reporter | None = None,
) -> Truth:
    """Photograph a scene into `folder`, or return at once what is there when it was made with the same parameters.

    `scale` is the size of the photos and of the scene's textures (the scene itself stays), `views` takes fewer photos
    along the same walk (of `street`: at its beginning), `seed` draws other noise. Same arguments, same machine: same
    bytes.
    """
    if name not in SCENES:
        raise SplatError(f"There is no scene {name!r}: choose one of {', '.join(SCENES)}.")
    folder, report = Path(folder), report or Silent()
    key = {"scene": name, "scale": scale, "views": views, "seed": seed, "code": _code()}
    record = folder / "truth" / "cameras.json"
    if record.exists() and json.loads(record.read_text()).get("key") == key:
        truth = load_truth(folder)
        if all((truth.images / n).exists() for n in truth.names):
            return truth
    record.unlink(missing_ok=True)
    session = SCENES[name](views, scale, seed)
    total = len(session.shots) + 1
    report.progress(0, total)
    scene = session.scene()
    bake(scene, WORKERS)

    def take(index: int, shot: Shot) -> None:
        picture = render(scene, shot.camera, shot.world_from_cam)
        save(shot, index, picture, session, folder / "images", folder / "truth")

    with ThreadPoolExecutor(WORKERS) as pool:
        for done, _ in enumerate(pool.map(take, range(total - 1), session.shots)):
            report.progress(done + 2, total)
    for file, layout in session.layouts(name).items():
        write_json(folder / file, layout)
    write_json(record, {"key": key, "scene": name, "views": [_row(shot) for shot in session.shots]})
    return load_truth(folder)


def load_truth(folder: Path) -> Truth:
    """The truth that `make` left in a folder."""
    folder = Path(folder)
    record = folder / "truth" / "cameras.json"
    if not record.exists():
        raise SplatError(f"{record} does not exist: {folder} is not a finished made scene, make it again.")
    value = json.loads(record.read_text())
    rows = value["views"]
    return Truth(
        folder,
        value["scene"],
        tuple(r["name"] for r in rows),
        tuple(Camera(**r["camera"]) for r in rows),
        tuple(Rigid.from_matrix(torch.tensor(r["world_from_cam"], dtype=torch.float64)) for r in rows),
        tuple(r["exposure_ev"] for r in rows),
        tuple(r["test"] for r in rows),
    )


def _row(shot: Shot) -> dict[str, Any]:
    return {
        "name": shot.name,
        "camera": {k: v for k, v in asdict(shot.camera).items() if k != "lens"},
        "world_from_cam": shot.world_from_cam.matrix().tolist(),
        "exposure_ev": shot.exposure_ev,
        "test": shot.test,
    }


def _code() -> str:
    """A hash of the files that make the pictures: other code, other photos."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.name != "odd.py":  # it changes pictures that are there
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
