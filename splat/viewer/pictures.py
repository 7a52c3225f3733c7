"""The pictures that our own rasterizer draws for the viewer, and what is found in them."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from splat.core.camera import Camera
from splat.core.gaussians import Gaussians
from splat.core.geometry import Rigid
from splat.core.slots import Rasterizer, RasterSettings, Render
from splat.geometry.compositing import composite_photo, exposed
from splat.geometry.drawing import draw_view
from splat.geometry.page import Extent
from splat.viewer.edits import Brush, Pinhole
from splat.viewer.protocol import Mode
from splat.viewer.scene import Scene

MAX_PIXELS = 2_500_000
"""Of a picture; larger ones are drawn smaller."""
_SOLID = 0.5
"""Alpha from which depth and normals are shown."""
_FULL_DIFFERENCE = 0.25
"""Mean absolute difference of the channels that is shown brightest."""
_SUPPORT_SIDE = 320
_SAME_SURFACE = 0.05
"""Relative depth within which a Gaussian belongs to the surface that a photo shows."""


class Painter:
    """Draws a scene. What is computed once for a scene (supporting views) is kept."""

    def __init__(self, scene: Scene, gaussians: Gaussians) -> None:
        """`gaussians`: those of the scene that are left after edits."""
        self.scene, self.gaussians = scene, gaussians
        self._support: Int[Tensor, "n"] | None = None

    def png(self, mode: Mode, view: Pinhole, photo: int = -1) -> bytes:
        """The picture as a PNG. Raises ValueError where there is no such photo."""
        camera, pose = view.camera, view.pose
        pixels = camera.width * camera.height
        if pixels > MAX_PIXELS:
            camera = camera.scaled((MAX_PIXELS / pixels) ** 0.5)
        if mode == "difference":
            return encode_png(self._difference(photo))
        if mode == "normal":
            return encode_png(_normal_colours(self._draw(camera, pose, normals=True)))
        if mode == "support":
            return encode_png(self._support_colours(camera, pose))
        render = self._draw(camera, pose)
        if mode == "depth":
            return encode_png(_depth_colours(render))
        if mode == "alpha":
            return encode_png(_bytes(render.alpha[..., None].expand(-1, -1, 3)))
        return encode_png(_bytes(render.rgb))

    def reached(self, brush: Brush) -> Brush:
        """`brush`, with the depth of what is seen at each point where it says 0."""
        if all(far > 0 for _, _, far in brush.points):
            return brush
        camera, pose = brush.view.camera, brush.view.pose
        render = self._draw(camera, pose)
        depth = (render.depth / render.alpha.clamp(min=1e-6)).cpu()
        visible = (render.alpha >= 0.05).cpu()
        points = []
        for x, y, far in brush.points:
            column, row = int(x), int(y)
            inside = 0 <= row < camera.height and 0 <= column < camera.width
            if far <= 0 and inside and bool(visible[row, column]):
                far = float(depth[row, column]) * (1 + _SAME_SURFACE)
            points.append((x, y, far))
        return replace(brush, points=tuple(points))

    def point_at(self, view: Pinhole, x: float, y: float) -> tuple[float, float, float] | None:
        """The surface at a pixel (coordinates in px), in the frame of the scene; None where nothing is drawn."""
        left, top = math.floor(x), math.floor(y)
        camera = replace(view.camera, cx=view.cx - left, cy=view.cy - top, width=1, height=1)  # that pixel alone
        render = self._draw(camera, view.pose)
        alpha = float(render.alpha[0, 0])
        if alpha < _SOLID:
            return None
        depth = torch.tensor(float(render.depth[0, 0]) / alpha, dtype=torch.float64)
        pixel = torch.tensor([x - left, y - top], dtype=torch.float64)
        a, b, c = view.pose.apply(camera.unproject(pixel, depth)).tolist()
        return a, b, c

    def _draw(
        self, camera: Camera, pose: Rigid, normals: bool = False, features: Float[Tensor, "n c"] | None = None
    ) -> Render:
        settings = replace(self.scene.settings, normals=normals)
        gaussians, ball = self.gaussians, self.scene.surroundings
        if ball is not None and _distance(pose.translation, ball) > ball.radius:
            rows = _distance(gaussians.means, ball) <= ball.radius
            gaussians, features = gaussians[rows], None if features is None else features[rows]
        backdrop = gaussians.means.new_tensor(self.scene.background)
        return draw_view(gaussians, camera, pose, self.scene.rasterizer, settings, backdrop, features)

    def _difference(self, photo: int) -> UInt8[np.ndarray, "h w 3"]:
        if not 0 <= photo < len(self.scene.cameras):
            raise ValueError("there is no such photo")
        shown = self.scene.cameras[photo]
        render = exposed(self._draw(shown.view.camera, shown.view.pose).rgb.cpu(), shown.exposure)
        target = composite_photo(shown.view.load(quick=True), torch.tensor(self.scene.background))
        error = (render.clamp(0, 1) - target).abs().mean(-1) / _FULL_DIFFERENCE
        return _mapped(error.clamp(0, 1).numpy(), cv2.COLORMAP_INFERNO)

    def _support_colours(self, camera: Camera, pose: Rigid) -> UInt8[np.ndarray, "h w 3"]:
        if self._support is None:
            self._support = supporting_views(self.scene, self.gaussians)
        share = self._support.to(self.gaussians.means) / max(1, min(12, len(self.scene.cameras)))
        render = self._draw(camera, pose, features=share.clamp(0, 1)[:, None])
        assert render.features is not None
        value = (render.features[..., 0] / render.alpha.clamp(min=1e-6)).cpu().numpy()
        colours = _mapped(value.clip(0, 1), cv2.COLORMAP_VIRIDIS)
        return (colours * render.alpha.clamp(0, 1).cpu().numpy()[..., None]).astype(np.uint8)


def _distance(points: Float[Tensor, "*n 3"], ball: Extent) -> Float[Tensor, "*n"]:
    """From the middle of the ball."""
    return (points - points.new_tensor(ball.centre)).norm(dim=-1)


def supporting_views(scene: Scene, gaussians: Gaussians) -> Int[Tensor, "n"]:
    """How many training photos show each Gaussian: its centre is inside the photo, not behind the surface drawn there,
    and the training photos alone count. 12 or more look alike in the viewer."""
    counts = torch.zeros(len(gaussians), dtype=torch.int64)
    means = gaussians.means.cpu().double()
    for c in scene.cameras:
        if c.view.role != "train":
            continue
        camera = c.view.camera.at_most(_SUPPORT_SIDE)
        depth = _depth_from(gaussians, camera, c.view.pose, scene.rasterizer, scene.settings)
        points = c.view.pose.inverse().apply(means)
        ahead = points[:, 2] > 1e-6
        pixels = camera.project(torch.where(ahead[:, None], points, torch.ones(3, dtype=torch.float64)))
        seen = torch.nonzero(ahead & camera.contains(pixels))[:, 0]
        column, row = pixels[seen].floor().long().unbind(1)
        counts[seen] += (points[seen, 2] <= depth[row, column] * (1 + _SAME_SURFACE)).long()
    return counts


def _depth_from(
    gaussians: Gaussians, camera: Camera, pose: Rigid, rasterizer: Rasterizer, settings: RasterSettings
) -> Float[Tensor, "h w"]:
    """Expected depth, float64; infinite where little is drawn."""
    render = draw_view(gaussians, camera, pose, rasterizer, settings, gaussians.means.new_zeros(3))
    depth = torch.where(render.alpha >= _SOLID, render.depth / render.alpha.clamp(min=_SOLID), torch.inf)
    return depth.double().cpu()


def _bytes(rgb: Float[Tensor, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    return np.asarray((rgb.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy())


def _depth_colours(render: Render) -> UInt8[np.ndarray, "h w 3"]:
    """Inverse depth through the Turbo colours, from the 2nd to the 98th percentile of the picture: near red, far blue,
    black where less than half of a ray is stopped."""
    alpha = render.alpha.cpu().numpy()
    solid = alpha >= _SOLID
    if not solid.any():
        return np.zeros((*alpha.shape, 3), np.uint8)
    inverse = alpha / np.maximum(render.depth.cpu().numpy(), 1e-12)
    low, high = np.quantile(inverse[solid], [0.02, 0.98])
    colours = _mapped(((inverse - low) / max(high - low, 1e-12)).clip(0, 1), cv2.COLORMAP_TURBO)
    colours[~solid] = 0
    return colours


def _normal_colours(render: Render) -> UInt8[np.ndarray, "h w 3"]:
    """Camera axes as red (right), green (up), blue (towards the camera)."""
    assert render.normals is not None
    unit = torch.nn.functional.normalize(render.normals, dim=-1) * render.normals.new_tensor([1.0, -1.0, -1.0])
    colours = (unit + 1) / 2 * (render.alpha >= _SOLID)[..., None]
    return _bytes(colours)


def _mapped(value: Float[np.ndarray, "h w"], colours: int) -> UInt8[np.ndarray, "h w 3"]:
    bgr = cv2.applyColorMap((value * 255).astype(np.uint8), colours)
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def encode_png(rgb: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """Little compressed: it is written often and read once."""
    bgr = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2BGR)
    return cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


def photo_jpeg(scene: Scene, photo: int) -> bytes:
    """A photo at the working size, without its lens, over the background of the scene. Raises IndexError where there is
    none of this index."""
    if photo < 0:
        raise IndexError(photo)
    view = scene.cameras[photo].view
    rgb = _bytes(composite_photo(view.load(quick=True), torch.tensor(scene.background)))
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
