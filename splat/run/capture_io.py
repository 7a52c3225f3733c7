"""A capture on disk: `views.json` for people and programs, `points.npz` for the numbers.

A photo is found again where it was (an absolute path), where it lies beside the run folder, when both were moved
together, or below the folder of photos that a command is given. Its fingerprint says whether it is that photo.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from splat.core.camera import Camera, Lens
from splat.core.capture import Capture, PointCloud, Tracks, View
from splat.core.errors import SplatError
from splat.core.files import atomic_path, write_json
from splat.core.foreign import read_json, regular_file, shown
from splat.core.geometry import Rigid, Similarity
from splat.run.fingerprint import file_fingerprint


def save_capture(folder: Path, capture: Capture, photos: Path | None = None) -> None:
    """`folder`: of a stage in a run folder. `photos`: the folder that the photos were read from."""
    world = capture.world_from_source
    views = [_view_to_json(v, _Places(folder.parent, photos)) for v in capture.views]
    arrays: dict[str, np.ndarray] = {}
    if capture.points is not None:
        arrays |= {"positions": capture.points.positions.numpy(), "rgb": capture.points.rgb.numpy()}
    if capture.tracks is not None:
        t = capture.tracks
        arrays |= {"view_ids": t.view_ids.numpy(), "point_ids": t.point_ids.numpy(), "pixels": t.pixels.numpy()}
    if arrays:
        with atomic_path(folder / "points.npz") as part, part.open("wb") as f:
            np.savez(f, **arrays)  # type: ignore[arg-type]  # keywords are array names here
    write_json(
        folder / "views.json",
        {
            "kind": capture.kind,
            "source": capture.source,
            "world_from_source": {
                "scale": world.scale,
                "rotation": world.rotation.tolist(),
                "translation": world.translation.tolist(),
            },
            "views": views,
        },
    )


def is_capture(folder: Path) -> bool:
    """Whether `save_capture` wrote to a folder (of a stage, or of a block's input)."""
    if not (folder / "views.json").is_file():
        return False
    try:
        found = read_json(folder / "views.json")
    except SplatError:
        return False
    return isinstance(found, dict) and {"views", "world_from_source", "source"} <= found.keys()


def capture_files(folder: Path) -> list[tuple[str, Path]]:
    """(name, file) of what makes a written capture another one; the fingerprints of its photos are among that."""
    return [(n, folder / n) for n in ("points.npz", "views.json") if (folder / n).is_file()]


def load_capture(folder: Path, photos: Path | None = None) -> Capture:
    """The capture that a stage saved. `photos`: a folder to look for its photos in besides where they were.

    Raises SplatError where a photo or mask is gone or has changed.
    """
    capture, lost = read_capture(folder, photos)
    for sentence in lost.values():
        raise SplatError(sentence)
    return capture


def read_capture(folder: Path, photos: Path | None = None) -> tuple[Capture, dict[str, str]]:
    """As `load_capture`, for those who may do without the photos. Also name of view -> what is wrong with its photo or
    mask, for the views that cannot be loaded."""
    data = read_json(folder / "views.json")
    world = data["world_from_source"]
    places = _Places(folder.parent, photos)
    points = tracks = None
    if (folder / "points.npz").exists():
        regular_file(folder / "points.npz")
        with np.load(folder / "points.npz") as z:
            if "positions" in z:
                points = PointCloud(torch.from_numpy(z["positions"]), torch.from_numpy(z["rgb"]))
            if "view_ids" in z:
                tracks = Tracks(*(torch.from_numpy(z[k]) for k in ("view_ids", "point_ids", "pixels")))
    views, lost = [], {}
    for row in data["views"]:
        view, problem = _view_from_json(row, places)
        views.append(view)
        if problem:
            lost[view.name] = problem
    capture = Capture(
        views=tuple(views),
        points=points,
        tracks=tracks,
        world_from_source=Similarity(
            world["scale"],
            torch.tensor(world["rotation"], dtype=torch.float64),
            torch.tensor(world["translation"], dtype=torch.float64),
        ),
        kind=data["kind"],
        source=data["source"],
    )
    return capture, lost


class _Places:
    """Where files of a capture may lie: relative to the run folder, and to the folder of its photos."""

    def __init__(self, run: Path, photos: Path | None) -> None:
        self.run = Path(run).absolute()
        self.photos = None if photos is None else Path(photos).absolute()

    def describe(self, path: Path) -> dict[str, str | None]:
        here = path.absolute()
        below = None if self.photos is None else os.path.relpath(here, self.photos)
        return {
            "path": str(here),
            "from_run": os.path.relpath(here, self.run),
            "from_photos": None if below is None or below.startswith("..") else below,
            "fingerprint": file_fingerprint(path),
        }

    def find(self, described: dict[str, str | None], name: str) -> tuple[Path, str]:
        """The file, and what is wrong with it ("": nothing)."""
        here = Path(str(described["path"]))
        from_run, from_photos = described["from_run"], described["from_photos"]
        candidates = [here]
        if from_run is not None:
            moved = Path(os.path.normpath(self.run / from_run))
            # frames of a video lie in the run folder: a copy of it uses its own
            candidates.insert(len(candidates) if from_run.startswith("..") else 0, moved)
        if self.photos is not None:
            candidates += [self.photos / below for below in (from_photos, name) if below]
        there = [c for c in dict.fromkeys(candidates) if c.is_file()]
        for path in there:
            if file_fingerprint(path) == described["fingerprint"]:
                return path, ""
        what = "has changed since the run was made" if there else "is not where it was"
        place = shown(there[0] if there else here)
        return here, f"the photo or mask {place} {what}: say where those of the run are with --photos FOLDER."


def _view_to_json(v: View, places: _Places) -> dict[str, Any]:
    out: dict[str, Any] = {
        "name": v.name,
        "photo": places.describe(v.image_path),
        "photo_size": list(v.photo_size),
        "camera": asdict(v.camera),
        "world_from_cam": None if v.world_from_cam is None else v.world_from_cam.matrix().tolist(),
        "role": v.role,
        "as_stored": v.as_stored,
        "white": v.white,
        "mask": None if v.mask_path is None else places.describe(v.mask_path),
        "invert_mask": v.invert_mask,
        "mask_mode": v.mask_mode,
        "camera_group": v.camera_group,
        "focal_from": v.focal_from,
        "bounds": v.bounds,
        "gps": v.gps,
    }
    return out


def _view_from_json(d: dict[str, Any], places: _Places) -> tuple[View, str]:
    """The view, and what is wrong with its files ("": nothing)."""
    camera = dict(d["camera"])
    lens = camera.pop("lens")
    if lens is not None:
        lens = Lens(lens["model"], tuple(lens["params"]), lens["width"], lens["height"])
    pose = d["world_from_cam"]
    mask_path, problem_of_mask = None, ""
    if "photo" in d:
        image_path, problem = places.find(d["photo"], d["name"])
        if d["mask"] is not None:
            mask_path, problem_of_mask = places.find(d["mask"], "")
    else:  # written before photos could move
        image_path, problem = Path(d["image_path"]), ""
        mask_path = None if d["mask_path"] is None else Path(d["mask_path"])
    view = View(
        name=d["name"],
        image_path=image_path,
        photo_size=(d["photo_size"][0], d["photo_size"][1]),
        camera=Camera(**camera, lens=lens),
        world_from_cam=None if pose is None else Rigid.from_matrix(torch.tensor(pose, dtype=torch.float64)),
        role=d["role"],
        as_stored=bool(d.get("as_stored")),
        white=None if d.get("white") is None else float(d["white"]),
        mask_path=mask_path,
        invert_mask=d["invert_mask"],
        mask_mode=d["mask_mode"],
        camera_group=d["camera_group"],
        focal_from=d["focal_from"],
        bounds=None if d.get("bounds") is None else (d["bounds"][0], d["bounds"][1]),
        gps=None if d.get("gps") is None else (d["gps"][0], d["gps"][1], d["gps"][2]),
    )
    return view, problem or problem_of_mask
