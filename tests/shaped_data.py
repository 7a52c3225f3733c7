"""Folders of the shape in which authors publish their scenes, with small pictures of noise: what a protocol is checked
and dry-run on where its data are not here."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import cv2
import layouts
import numpy as np

from splat.bench.protocols import Protocol
from splat.bench.protocols.layouts import Blender, Colmap, Idr, Layout, Llff


def write_data(data: Path, protocol: Protocol, scenes: int | None = None, photos: int | None = None) -> None:
    """All scenes of a protocol (or the first `scenes`), with as many photos as it wants (or `photos`)."""
    wanted = [(s.name, s.layout, photos or s.photos or 17) for s in protocol.scenes[:scenes]]
    if not wanted:
        layout = protocol.any_layout or Layout("images")
        wanted = [("first", Llff("images") if isinstance(layout, Llff) else layout, photos or 17)]
    templates: dict[tuple[Layout, int], Path] = {}
    for name, layout, count in wanted:
        folder = data / name
        if (layout, count) in templates:
            shutil.copytree(templates[layout, count], folder, copy_function=os.link)
        else:
            templates[layout, count] = folder
            _write_scene(folder, layout, count)


def _write_scene(root: Path, layout: Layout, count: int) -> None:
    root.mkdir(parents=True)
    scene = layouts.make_scene(views=count)
    if isinstance(layout, Blender):
        _photos(root / "train", [f"r_{i}" for i in range(count // 3)], layout.size or (60, 60))
        _photos(root / "test", [f"r_{i}" for i in range(count - count // 3)], layout.size or (60, 60))
        for role, first, last in (("train", 0, count // 3), ("test", count // 3, count)):
            poses = [layouts.opengl(p) for p in scene.world_from_cam[first:last]]
            frames = [{"file_path": f"./{role}/r_{i}", "transform_matrix": p} for i, p in enumerate(poses)]
            (root / f"transforms_{role}.json").write_text(json.dumps({"camera_angle_x": 0.7, "frames": frames}))
        return
    _photos(root / layout.images, scene.stems, layout.size or (80, 60))
    if isinstance(layout, Colmap):
        layouts.write_colmap_text(scene, root, "PINHOLE")
    elif isinstance(layout, Llff):
        layouts.write_llff(scene, root)
    elif isinstance(layout, Idr):
        layouts.write_idr(scene, root / "template")
        (root / "template" / "cameras_sphere.npz").rename(root / "cameras_sphere.npz")
        shutil.rmtree(root / "template")
        _photos(root / "mask", scene.stems, (80, 60))


def _photos(folder: Path, stems: list[str], size: tuple[int, int]) -> None:
    """One picture under all names."""
    folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 256, (size[1] // 20 + 1, size[0] // 20 + 1, 3), np.uint8)
    pixels = cv2.resize(noise, size, interpolation=cv2.INTER_NEAREST)
    cv2.imwrite(str(folder / f"{stems[0]}.png"), pixels)
    for stem in stems[1:]:
        os.link(folder / f"{stems[0]}.png", folder / f"{stem}.png")
