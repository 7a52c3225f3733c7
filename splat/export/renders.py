"""Cameras -> pictures: PNGs, 16-bit depth with its scale, a coloured preview of it, and a video."""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
import torch

from splat.core.camera import Camera
from splat.core.files import utf8_path, write_json
from splat.core.foreign import path_inside
from splat.core.gaussians import Gaussians
from splat.core.geometry import Rigid
from splat.core.image import write_png
from splat.core.slots import (
    FrameEnhancer,
    PathCamera,
    Rasterizer,
    RasterSettings,
    RenderedView,
    Reporter,
    Silent,
)
from splat.export.enhance import ENHANCED_FILE, Change, describe_changes
from splat.export.video import write_video
from splat.geometry.drawing import draw_view
from splat.geometry.holes import HOLE_ALPHA, hole_mask, with_holes_filled

HOLES_FILE = "holes.json"
"""Describes the masks of the holes in a folder of renders."""
SOLID = 0.5
"""Depth is known where at least this much of the ray is stopped."""

_DEFAULTS = RasterSettings()
_MAX_STEM_BYTES = 200
"""Of a file written for a view: `.preview.png` and the marks of a temporary file follow, and 255 is the limit."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One rendered view."""

    rgb: np.ndarray
    """uint8 [h w 3]."""
    depth: np.ndarray
    """float32 [h w], expected z-depth in world units; 0 where less than half of the ray is stopped."""
    alpha: np.ndarray
    """float32 [h w]."""

    def view(self, camera: PathCamera) -> RenderedView:
        """For filters of frames; colours in [0, 1]."""
        rgb = torch.from_numpy(self.rgb.astype(np.float32) / 255)
        maps = torch.from_numpy(self.alpha), torch.from_numpy(self.depth)
        return RenderedView(camera.camera, camera.world_from_cam, rgb, *maps)


@dataclass(frozen=True)
class RenderFiles:
    """What `write_renders` wrote."""

    rgb: tuple[Path, ...] = ()
    depth: tuple[Path, ...] = ()
    previews: tuple[Path, ...] = ()
    holes: tuple[Path, ...] = ()
    """Masks of holes, and their description."""
    filled: tuple[Path, ...] = ()
    video: Path | None = None
    enhanced: tuple[Path, ...] = ()
    """Enhanced pictures, and the accounts of what was changed."""


def render_frame(
    gaussians: Gaussians,
    camera: Camera,
    world_from_cam: Rigid,
    rasterizer: Rasterizer,
    settings: RasterSettings = _DEFAULTS,
    background: tuple[float, float, float] = (0.0, 0.0, 0.0),
    beyond: Gaussians | None = None,
) -> Frame:
    """Draw one view, without gradients. `beyond`: as in `draw_view`."""
    with torch.no_grad():
        colour = gaussians.means.new_tensor(background)
        render = draw_view(gaussians, camera, world_from_cam, rasterizer, settings, colour, beyond=beyond)
        depth = torch.where(render.alpha >= SOLID, render.depth / render.alpha.clamp(min=SOLID), 0.0)
        rgb = (render.rgb.clamp(0, 1) * 255).round().to(torch.uint8)
    return Frame(rgb.cpu().numpy(), depth.float().cpu().numpy(), render.alpha.float().cpu().numpy())


def write_renders(
    folder: Path,
    gaussians: Gaussians,
    cameras: Sequence[PathCamera],
    rasterizer: Rasterizer,
    settings: RasterSettings = _DEFAULTS,
    *,
    background: tuple[float, float, float] = (0.0, 0.0, 0.0),
    names: Sequence[str] | None = None,
    images: bool = True,
    depth: bool = True,
    video: Path | None = None,
    fps: float = 30.0,
    units_per_world: float = 1.0,
    holes: bool = True,
    fill: bool = False,
    enhance: FrameEnhancer | None = None,
    beyond: Gaussians | None = None,
    report: Reporter | None = None,
) -> RenderFiles:
    """Draw every camera into `folder`: `NAME.png`, `depth/NAME.png`, `depth/NAME.preview.png`, masks of the holes as
    `holes/NAME.png` (white: nothing was drawn), and optionally a video.

    With `fill`, holes are closed for presentation (`geometry.holes`) in further pictures, `filled/NAME_filled.png`, and
    in the video, whose name ends in `_filled` too.

    Names default to 0000, 0001, ...; a name's sub-folders and suffix are flattened (`a/b.jpg` -> `a_b`). Depth is
    described in `depth/depth.json`; `units_per_world` turns world units into the units it should be told in (the
    original frame's: 1 / world_from_source.scale). Frames are drawn, written and forgotten one by one. `beyond`: what
    is behind the Gaussians, of which depth and holes know nothing.
    """
    report = report or Silent()
    stems = flat_names(names) if names is not None else [f"{i:04d}" for i in range(len(cameras))]
    step = depth_step(gaussians, cameras) * units_per_world if depth and cameras else 0.0
    histogram = np.zeros(65536, np.int64)
    rgb_paths: list[Path] = []
    depth_paths: list[Path] = []
    filled_paths: list[Path] = []
    enhanced_paths: list[Path] = []
    percents: dict[str, float] = {}
    changes: dict[str, Change] = {}
    suffix = ("_enhanced" if enhance is not None else "") + ("_filled" if fill else "")
    if video is not None:
        video = video.with_stem(f"{video.stem}{suffix}")
    pending: deque[tuple[int, Frame]] = deque()

    def views() -> Iterator[RenderedView]:
        """Draws and writes what was drawn; frames wait in `pending` until they have been enhanced."""
        for i, (stem, c) in enumerate(zip(stems, cameras)):
            frame = render_frame(gaussians, c.camera, c.world_from_cam, rasterizer, settings, background, beyond)
            if images:
                rgb_paths.append(path_inside(folder, f"{stem}.png"))
                write_png(rgb_paths[-1], frame.rgb)
            if depth:
                levels = depth_levels(frame.depth * units_per_world, step)
                histogram[:] += np.bincount(levels.ravel(), minlength=65536)
                depth_paths.append(path_inside(folder, f"depth/{stem}.png"))
                write_png(depth_paths[-1], levels)
            if holes:
                mask = hole_mask(frame.alpha)
                percents[stem] = round(100 * float((mask > 0).mean()), 3)
                write_png(path_inside(folder, f"holes/{stem}.png"), mask)
            pending.append((i, frame))
            yield frame.view(c)

    def pictures() -> Iterator[tuple[int, Frame, np.ndarray]]:
        """Each frame, and the picture that is made of it, which is its own where nothing is enhanced."""
        if enhance is None:
            for _ in views():
                i, frame = pending.popleft()
                yield i, frame, frame.rgb
            return
        for enhanced in enhance(views()):
            i, frame = pending.popleft()
            picture = (enhanced.rgb.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
            from_frames = [stems[i + offset] for offset in enhanced.frames]
            changes[stems[i]] = Change.of(frame.rgb, picture, enhanced.photos, from_frames)
            if images:
                enhanced_paths.append(path_inside(folder, f"enhanced/{stems[i]}_enhanced.png"))
                write_png(enhanced_paths[-1], picture)
            yield i, frame, picture

    def frames() -> Iterator[np.ndarray]:
        for i, frame, picture in pictures():
            if fill:
                picture = with_holes_filled(picture, frame.alpha, frame.depth, background)
            if fill and images:
                filled_paths.append(path_inside(folder, f"filled/{stems[i]}{suffix}.png"))
                write_png(filled_paths[-1], picture)
            report.progress(i + 1, len(cameras))
            yield picture

    if video is not None:
        write_video(video, frames(), fps)
    else:
        for _ in frames():
            pass
    if enhance is not None:
        accounts = [folder / "enhanced" / ENHANCED_FILE] if images else []
        accounts += [video.with_suffix(".json")] if video is not None else []
        for path in accounts:
            describe_changes(path, enhance.about(), changes)
        enhanced_paths += accounts
    previews: list[Path] = []
    if depth_paths:
        near, far = _range(histogram)
        _describe_depth(folder / "depth" / "depth.json", step, near, far)
        for path in depth_paths:
            with utf8_path(path) as readable:
                levels = np.asarray(cv2.imread(str(readable), cv2.IMREAD_UNCHANGED))
            previews.append(path.with_suffix(".preview.png"))
            write_png(previews[-1], depth_preview(levels, near, far))
    hole_paths = [folder / "holes" / f"{stem}.png" for stem in percents]
    if percents:
        hole_paths.append(folder / "holes" / HOLES_FILE)
        _describe_holes(hole_paths[-1], percents)
    return RenderFiles(
        *(tuple(rgb_paths), tuple(depth_paths), tuple(previews), tuple(hole_paths), tuple(filled_paths), video),
        enhanced=tuple(enhanced_paths),
    )


def _describe_holes(path: Path, percents: dict[str, float]) -> None:
    write_json(
        path,
        {
            "format": "8-bit PNG, 255: a hole, what no photo showed",
            "alpha_below": HOLE_ALPHA,
            "percent": percents,
            "mean_percent": round(sum(percents.values()) / len(percents), 3),
        },
    )


def flat_name(name: str) -> str:
    """A view's name as one file stem, which stays in its folder whatever the name is: `left/IMG_1.jpg` ->
    `left_IMG_1`, `../../IMG_1.jpg` -> `IMG_1`."""
    path = PurePosixPath(name.replace("\\", "/"))
    parts = [p for p in (*path.parent.parts, path.stem) if p.strip("/") not in {"", ".", ".."}]
    stem = "_".join(parts).replace("\0", "_").replace(":", "_") or "view"
    data = stem.encode("utf-8", "surrogatepass")
    if len(data) > _MAX_STEM_BYTES:
        stem = data[: _MAX_STEM_BYTES - 13].decode("utf-8", "ignore") + "_" + hashlib.sha256(data).hexdigest()[:12]
    return stem


def flat_names(names: Sequence[str]) -> list[str]:
    """`flat_name` of each, made different where two are the same (`a/b.jpg` and `a_b.jpg`)."""
    stems = [flat_name(n) for n in names]
    all_stems, used, out = set(stems), set[str](), list[str]()
    for stem in stems:
        unique, k = stem, 2
        while unique in used or (unique != stem and unique in all_stems):
            unique, k = f"{stem}_{k}", k + 1
        used.add(unique)
        out.append(unique)
    return out


def depth_step(gaussians: Gaussians, cameras: Sequence[PathCamera]) -> float:
    """World units per level of a 16-bit depth image, one for all frames: the smallest of 1, 2, 5 x 10^k that reaches
    1.5 x the 99.5th percentile of the z-depth of the Gaussians that count (opacity at least a half)."""
    means = gaussians.means[gaussians.opacities >= SOLID].detach().cpu().double()
    means = means[:: max(1, len(means) // 20_000)]
    depths = []
    for c in cameras[:: max(1, len(cameras) // 16)]:
        z = c.world_from_cam.inverse().apply(means)[:, 2]
        depths.append(z[z > 0])
    ahead = torch.cat(depths) if depths else torch.zeros(0)
    reach = 1.5 * float(np.quantile(ahead.numpy(), 0.995)) if len(ahead) else 1.0
    exact = reach / 65535
    power = 10.0 ** math.floor(math.log10(exact))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= exact)


def depth_levels(depth: np.ndarray, step: float) -> np.ndarray:
    """uint16: depth / step rounded; 0 = nothing there, 65535 = at least that far."""
    levels = np.clip(np.rint(depth / step), 1, 65535).astype(np.uint16)
    levels[depth <= 0] = 0
    return levels


def depth_preview(levels: np.ndarray, near: int, far: int) -> np.ndarray:
    """uint8 [h w 3]: inverse depth through the Turbo colours, `near` red, `far` blue, nothing black."""
    inverse = 1 / np.maximum(levels, 1).astype(np.float32)
    low, high = 1 / max(far, 1), 1 / max(near, 1)
    t = np.clip((inverse - low) / max(high - low, 1e-12), 0, 1)
    bgr = cv2.applyColorMap((t * 255).astype(np.uint8), cv2.COLORMAP_TURBO)
    rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    rgb[levels == 0] = 0
    return rgb


def _range(histogram: np.ndarray) -> tuple[int, int]:
    """Levels at the 2nd and 98th percentile of everything that is known, over all frames."""
    known = histogram.copy()
    known[0] = 0
    cumulated = known.cumsum()
    if cumulated[-1] == 0:
        return 1, 65535
    near, far = (int(np.searchsorted(cumulated, q * cumulated[-1])) for q in (0.02, 0.98))
    return max(1, near), max(far, near + 1)


def _describe_depth(path: Path, step: float, near: int, far: int) -> None:
    write_json(
        path,
        {
            "format": "16-bit PNG, z-depth along the camera's axis",
            "units_per_level": step,
            "units": "those of the original frame (metres only where its scale is metric)",
            "nothing": 0,
            "beyond": 65535,
            "preview_near": near * step,
            "preview_far": far * step,
        },
    )
