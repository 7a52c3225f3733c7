"""A tiny posed dataset whose truth is known: photos of random Gaussians, drawn by the rasterizer of this machine."""

import json
import math
from pathlib import Path

import oracles
import torch

from splat.core.camera import Camera
from splat.core.geometry import Rigid
from splat.core.image import write_png
from splat.core.slots import RasterSettings
from splat.raster import choose

WIDTH, HEIGHT, VIEWS = 112, 84, 10


def write_posed_photos(root: Path) -> Path:
    """A nerfstudio folder: `images/*.png` and `transforms.json` (OpenGL axes)."""
    generator = torch.Generator().manual_seed(3)
    scene = oracles.random_gaussians(300, generator, sh_degree=0, scale=0.16, dtype=torch.float32)
    camera = Camera(110.0, 110.0, WIDTH / 2, HEIGHT / 2, WIDTH, HEIGHT)
    raster = choose("cpu")
    frames = []
    for i in range(VIEWS):
        angle = 0.16 * (i - VIEWS / 2)
        eye = torch.tensor([4 * math.sin(angle), -0.5 + 0.1 * (i % 3), -4 * math.cos(angle)])
        pose = Rigid.look_at(eye, torch.zeros(3), torch.tensor([0.0, -1.0, 0.0]))
        with torch.no_grad():
            render = raster(scene, camera, pose.inverse().matrix().float(), torch.full((3,), 0.3), RasterSettings())
        name = f"images/{i:03d}.png"
        write_png(root / name, (render.rgb.clamp(0, 1) * 255).round().byte().numpy())
        opengl = pose.matrix() @ torch.diag(torch.tensor([1.0, -1, -1, 1], dtype=torch.float64))
        frames.append({"file_path": name, "transform_matrix": opengl.tolist()})
    data = {
        "camera_model": "PINHOLE", "w": WIDTH, "h": HEIGHT, "fl_x": camera.fx, "fl_y": camera.fy,
        "cx": camera.cx, "cy": camera.cy, "frames": frames,
    }  # fmt: skip
    (root / "transforms.json").write_text(json.dumps(data))
    return root
