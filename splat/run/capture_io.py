"""A capture on disk: `views.json` for people and programs, `points.npz` for the numbers."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from splat.core.camera import Camera, Lens
from splat.core.capture import Capture, PointCloud, Tracks, View
from splat.core.files import atomic_path, write_json
from splat.core.geometry import Rigid, Similarity


def save_capture(folder: Path, capture: Capture) -> None:
    world = capture.world_from_source
    views = [_view_to_json(v) for v in capture.views]
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


def load_capture(folder: Path) -> Capture:
    data = json.loads((folder / "views.json").read_text())
    world = data["world_from_source"]
    points = tracks = None
    if (folder / "points.npz").exists():
        with np.load(folder / "points.npz") as z:
            if "positions" in z:
                points = PointCloud(torch.from_numpy(z["positions"]), torch.from_numpy(z["rgb"]))
            if "view_ids" in z:
                tracks = Tracks(*(torch.from_numpy(z[k]) for k in ("view_ids", "point_ids", "pixels")))
    return Capture(
        views=tuple(_view_from_json(v) for v in data["views"]),
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


def _view_to_json(v: View) -> dict[str, Any]:
    out: dict[str, Any] = {
        "name": v.name,
        "image_path": str(v.image_path),
        "photo_size": list(v.photo_size),
        "camera": asdict(v.camera),
        "world_from_cam": None if v.world_from_cam is None else v.world_from_cam.matrix().tolist(),
        "role": v.role,
        "as_stored": v.as_stored,
        "mask_path": None if v.mask_path is None else str(v.mask_path),
        "invert_mask": v.invert_mask,
        "mask_mode": v.mask_mode,
        "camera_group": v.camera_group,
        "focal_from": v.focal_from,
        "gps": v.gps,
    }
    return out


def _view_from_json(d: dict[str, Any]) -> View:
    camera = dict(d["camera"])
    lens = camera.pop("lens")
    if lens is not None:
        lens = Lens(lens["model"], tuple(lens["params"]), lens["width"], lens["height"])
    pose = d["world_from_cam"]
    return View(
        name=d["name"],
        image_path=Path(d["image_path"]),
        photo_size=(d["photo_size"][0], d["photo_size"][1]),
        camera=Camera(**camera, lens=lens),
        world_from_cam=None if pose is None else Rigid.from_matrix(torch.tensor(pose, dtype=torch.float64)),
        role=d["role"],
        as_stored=bool(d.get("as_stored")),
        mask_path=None if d["mask_path"] is None else Path(d["mask_path"]),
        invert_mask=d["invert_mask"],
        mask_mode=d["mask_mode"],
        camera_group=d["camera_group"],
        focal_from=d["focal_from"],
        gps=None if d.get("gps") is None else (d["gps"][0], d["gps"][1], d["gps"][2]),
    )
