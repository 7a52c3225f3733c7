"""Every reader of the program as a target of the fuzzer: a valid input, and the call that the product makes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from fuzz import inputs
from fuzz.mutate_images import exif_tags
from noting import Noting
from PIL import features

from splat.core.capture import Capture
from splat.core.gaussians import Gaussians
from splat.core.slots import ReadOptions
from splat.export import read_splat, save_splat
from splat.export.header import offset_of
from splat.ingest import read
from splat.run.completed import CompletedRun
from splat.run.outputs import damage_to
from splat.run.record import StageRecord
from splat.train import checkpoint


@dataclass(frozen=True)
class Target:
    """One reader or codec."""

    name: str
    make: Callable[[Path], object]
    """Writes a valid input into an empty folder."""
    read: Callable[[Path, Noting], object]
    """Reads such a folder as the product does, and judges what comes out (AssertionError)."""
    focus: str = "*"
    """Which of its files are changed most: alternatives separated by |."""
    mutation: Callable | None = None
    """Instead of the mutation that the suffix of a file suggests."""

    def is_focus(self, name: str) -> bool:
        return any(fnmatch(name, pattern) for pattern in self.focus.split("|"))


# ------------------------------------------------------------------------------------------- what the product must make


def judge_capture(capture: Capture) -> None:
    """What the stages after ingest rely on. Photos are loaded."""
    assert len(capture.views) >= 2, "fewer than two views"
    assert len({v.name for v in capture.views}) == len(capture.views), "two views have one name"
    for v in capture.views:
        c = v.camera
        assert isinstance(v.name, str) and type(c.width) is type(c.height) is int, f"types of {v.name!r}, {c}"
        assert all(isinstance(x, float | int) and math.isfinite(x) for x in (c.fx, c.fy, c.cx, c.cy)), str(c)
        assert min(c.fx, c.fy) > 0 and min(c.width, c.height) >= 1, str(c)
        assert v.role in ("train", "test"), f"role {v.role!r}"
        if v.world_from_cam is not None:
            r, t = v.world_from_cam.rotation, v.world_from_cam.translation
            assert r.isfinite().all() and t.isfinite().all(), "a pose is not finite"
            off = float((r @ r.T - torch.eye(3, dtype=r.dtype)).abs().max())
            assert off < 1.1e-2 and torch.linalg.det(r) > 0, f"a pose is no rotation, by {off:.3g}"
        if v.gps is not None:
            assert all(map(math.isfinite, v.gps)), f"position {v.gps}"
        photo = v.load()
        shape = (c.height, c.width)
        assert photo.rgb.dtype == np.uint8 and photo.rgb.shape == (*shape, 3), f"photo {photo.rgb.shape} for {c}"
        for layer in (photo.alpha, photo.weight):
            assert layer is None or (layer.dtype == np.uint8 and layer.shape == shape), "mask of another shape"
    w = capture.world_from_source
    assert math.isfinite(w.scale) and w.scale > 0, f"scale {w.scale}"
    assert w.rotation.isfinite().all() and w.translation.isfinite().all(), "world_from_source is not finite"
    if capture.points is not None:
        assert capture.points.positions.isfinite().all() and capture.points.rgb.isfinite().all(), (
            "a point is not finite"
        )
    if capture.tracks is not None:
        k = capture.tracks
        assert k.pixels.isfinite().all(), "an observation is not finite"
        assert (k.view_ids < len(capture.views)).all() and (k.view_ids >= 0).all(), "an observation of no view"


def judge_gaussians(g: Gaussians) -> None:
    n = len(g)
    shapes = [tuple(f.shape) for f in (g.means, g.quats_wxyz, g.log_scales, g.logit_opacities)]
    assert shapes == [(n, 3), (n, 4), (n, 3), (n,)] and g.sh.shape[0] == n and g.sh.shape[1] in (1, 4, 9, 16), str(
        shapes
    )
    for field in (g.means, g.quats_wxyz, g.log_scales, g.logit_opacities, g.sh):
        assert field.dtype == torch.float32 and field.isfinite().all(), "values that are not finite"


# -------------------------------------------------------------------------------------------------------------- readers


def capture(below: str = "", ignore_poses: bool = False) -> Callable[[Path, Noting], object]:
    """Reads the folder, or a file in it, as `splat reconstruct` does."""

    def consume(root: Path, report: Noting) -> None:
        judge_capture(read(root / below, ReadOptions(workdir=root / "work", ignore_poses=ignore_poses), report))

    return consume


def splat(name: str) -> Callable[[Path, Noting], object]:
    """Reads a splat, and converts what came out, as `splat convert` does."""

    def consume(root: Path, report: Noting) -> None:
        found = read_splat(root / name, report)
        judge_gaussians(found.gaussians)
        save_splat(root / "out.ply", found.gaussians, found.header, report)
        again = read_splat(root / "out.ply", report)
        assert len(again.gaussians) == len(found.gaussians), "converted, it has another number of Gaussians"
        assert offset_of(again.header) == offset_of(found.header), f"header {found.header} became {again.header}"

    return consume


def _run(root: Path, report: Noting) -> None:
    run = CompletedRun.open(root / "run", "reference")
    run.require(run.capture.views)
    for file in ("poses/views.json", "poses/points.npz", "train/trained.json", "train/gaussians.npz"):
        stage, name = file.split("/")
        record = StageRecord.read(root / "run" / stage / "stage.json")
        if record is None or name not in (record.outputs or {}):
            return  # its hash was removed: see `_old_run`
    judge_capture(run.capture)
    judge_gaussians(run.trained.gaussians)
    assert run.trained.background.shape == (3,), f"background {run.trained.background}"


def _old_run(root: Path, report: Noting) -> None:
    """Without hashes a value that was edited is not noticed: it need only be of a kind that can be read."""
    CompletedRun.open(root / "run", "reference")


def _stage_record(root: Path, report: Noting) -> None:
    record = StageRecord.read(root / "stage.json")
    if record is not None and record.outputs is not None:
        damage_to(root, record.outputs)


def _checkpoint(root: Path, report: Noting) -> None:
    checkpoint.load(root, "key", report)


def _frames_again(root: Path, report: Noting) -> None:
    """The folder has a video and the frames that were extracted from it."""
    judge_capture(read(root / "a.avi", ReadOptions(workdir=root / "work"), report))


def _with_frames(root: Path) -> None:
    inputs.write_video(root / "a.avi", "MJPG")
    read(root / "a.avi", ReadOptions(workdir=root / "work"))


def _photos(suffix: str) -> Target:
    def make(root: Path) -> None:
        inputs.write_photos(root, suffix)

    return Target(f"photos-{suffix[1:]}", make, capture())


def _ksplat(level: int) -> Target:
    return Target(f"ksplat-{level}", lambda r: inputs.write_ksplat(r / "a.ksplat", level), splat("a.ksplat"))


def _all() -> Iterator[Target]:
    yield from map(_photos, (".png", ".jpg", ".tif", ".bmp", ".webp", ".gif"))
    if features.check("avif"):
        yield _photos(".avif")
    if find_spec("pillow_heif"):
        yield _photos(".heic")
    yield Target("exif", inputs.write_turned_photos, capture(), mutation=exif_tags)
    yield Target("exif-bytes", inputs.write_turned_photos, capture())
    yield Target("masks", inputs.write_masked, capture(), "masks/*")
    yield Target("video-avi", lambda r: inputs.write_video(r / "a.avi", "MJPG"), capture("a.avi"))
    yield Target("video-mp4", lambda r: inputs.write_video(r / "a.mp4", "mp4v"), capture("a.mp4"))
    yield Target("video-frames", _with_frames, _frames_again, "work/*.json")
    yield Target("nerfstudio", inputs.write_nerfstudio, capture(), "*.json")
    yield Target("ignored-poses", inputs.write_nerfstudio, capture(ignore_poses=True), "*.json")
    yield Target("instant-ngp", inputs.write_instant_ngp, capture(), "*.json")
    yield Target("blender", inputs.write_blender, capture(), "*.json")
    yield Target("split", inputs.write_split, capture(), "split.json")
    yield Target("colmap-txt", lambda r: inputs.write_colmap(r, False), capture(), "sparse/*")
    yield Target("colmap-txt-old", lambda r: inputs.write_colmap(r, False, False), capture(), "sparse/*")
    yield Target("colmap-bin", lambda r: inputs.write_colmap(r, True), capture(), "sparse/*")
    yield Target("colmap-bin-old", lambda r: inputs.write_colmap(r, True, False), capture(), "sparse/*")
    yield Target("llff", inputs.write_llff, capture(), "*.npy")
    yield Target("idr", inputs.write_idr, capture(), "*.npz")
    yield Target("points-ply", lambda r: inputs.write_point_cloud_case(r, False, True), capture(), "*.ply")
    yield Target("mesh-ply", lambda r: inputs.write_point_cloud_case(r, True, True), capture(), "*.ply")
    yield Target("mesh-ply-ascii", lambda r: inputs.write_point_cloud_case(r, True, False), capture(), "*.ply")
    yield Target("ply", lambda r: inputs.write_splat(r / "a.ply"), splat("a.ply"))
    yield Target("ply-ascii", lambda r: inputs.write_ascii_splat(r / "a.ply"), splat("a.ply"))
    yield Target("compressed-ply", lambda r: inputs.write_splat(r / "a.compressed.ply"), splat("a.compressed.ply"))
    yield Target("spz", lambda r: inputs.write_splat(r / "a.spz", 2), splat("a.spz"))
    if find_spec("zstandard"):
        yield Target("spz-zstd", lambda r: inputs.write_spz_zstd(r / "a.spz"), splat("a.spz"))
    yield Target("sog", lambda r: inputs.write_splat(r / "a.sog"), splat("a.sog"))
    yield Target("sog-folder", inputs.write_sog_folder, splat("meta.json"))
    yield Target("sog-levels", inputs.write_sog_levels, splat("a.lod/lod-meta.json"))
    yield Target("sog-levels-tree", inputs.write_sog_levels, splat("a.lod"), "*lod-meta.json")
    yield Target("glb", lambda r: inputs.write_splat(r / "a.glb"), splat("a.glb"))
    yield Target("glb-nodes", lambda r: inputs.write_foreign_glb(r / "a.glb"), splat("a.glb"))
    yield from (_ksplat(level) for level in range(3))
    yield Target("splat", lambda r: inputs.write_splat(r / "a.splat", 0), splat("a.splat"))
    yield Target("splat-notes", lambda r: inputs.write_splat(r / "a.splat", 0), splat("a.splat"), "*.json")
    yield Target("run", inputs.write_run, _run, "run/*")
    yield Target("run-old", lambda r: inputs.write_run(r, False), _old_run, "run/*")
    yield Target("stage-record", inputs.write_stage_record, _stage_record)
    yield Target("checkpoint", inputs.write_checkpoint, _checkpoint)


TARGETS = {t.name: t for t in _all()}
