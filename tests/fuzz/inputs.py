"""Valid inputs of every reader, as small as they may be: three photos of 32x24 px, twenty Gaussians."""

from __future__ import annotations

import gzip
import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from splat.core.capture import Capture
from splat.core.gaussians import Gaussians
from splat.core.ply import write_ply
from splat.core.slots import Silent
from splat.export import save_splat
from splat.export.header import MIP, MODE, OFFSET
from splat.ingest import read
from splat.run.capture_io import save_capture
from splat.run.outputs import written_since
from splat.run.trained import Trained, save_trained
from splat.train import checkpoint

WIDTH, HEIGHT, FOCAL = 32, 24, 30.0
COUNT = 3


def pixels(i: int) -> np.ndarray:
    """uint8 [h w 3]: smooth noise, another one for each i."""
    noise = np.random.default_rng(i).integers(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(noise, (WIDTH, HEIGHT))


def write_photos(folder: Path, suffix: str = ".png", **options: Any) -> list[str]:
    """Photos 0 to 2; returns their names."""
    folder.mkdir(parents=True, exist_ok=True)
    if suffix == ".heic":
        import pillow_heif

        pillow_heif.register_heif_opener()
    for i in range(COUNT):
        Image.fromarray(pixels(i)).save(folder / f"{i}{suffix}", **options)
    return [f"{i}{suffix}" for i in range(COUNT)]


def write_turned_photos(folder: Path) -> None:
    """JPEG files with the EXIF data that readers look at."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x0110] = 6, "Canon", "Canon EOS 5D"
    exif.get_ifd(0x8769).update({0x920A: 28.0, 0xA405: 28})
    exif.get_ifd(0x8825).update({1: "N", 2: (47.0, 30.0, 1.0), 3: "E", 4: (8.0, 30.0, 1.0), 5: b"\0", 6: 400.0})
    write_photos(folder, ".jpg", exif=exif)


def write_masked(root: Path) -> None:
    write_photos(root / "images")
    (root / "masks").mkdir()
    for i in range(COUNT):
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[4:20, 6 : 20 + i] = 255
        Image.fromarray(mask).save(root / "masks" / f"{i}.png")


def write_video(path: Path, codec: str) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 10.0, (WIDTH, HEIGHT))
    for i in range(6):
        writer.write(pixels(i))
    writer.release()


# ---------------------------------------------------------------------------------------------------------------- poses


def cameras() -> list[np.ndarray]:
    """[4 4] world_from_cam, OpenCV axes: side by side, turned inwards."""
    poses = []
    for i in range(COUNT):
        a, m = 0.2 * (i - 1), np.eye(4)
        m[:3, :3] = [[np.cos(a), 0, -np.sin(a)], [0, 1, 0], [np.sin(a), 0, np.cos(a)]]
        m[:3, 3] = [0.5 * (i - 1), 0.1 * i, -3]
        poses.append(m)
    return poses


def opengl(pose: np.ndarray) -> list[list[float]]:
    return (pose @ np.diag([1.0, -1, -1, 1])).tolist()


POINTS = np.random.default_rng(5).uniform(-1, 1, (20, 3))


def write_points(path: Path, faces: bool = False, binary: bool = True) -> None:
    rows = np.zeros(len(POINTS), [(a, "f4") for a in "xyz"] + [(c, "u1") for c in ("red", "green", "blue")])
    for i, axis in enumerate("xyz"):
        rows[axis] = POINTS[:, i]
    elements = {"vertex": rows}
    if faces:
        elements["face"] = np.zeros(4, [("vertex_indices", "i4", (3,))])
    write_ply(path, elements, comments=["made by a test"], binary=binary)


def write_nerfstudio(root: Path) -> None:
    names = write_photos(root / "images")
    write_points(root / "sparse_pc.ply")
    size = {"fl_x": FOCAL, "fl_y": FOCAL, "cx": 16.0, "cy": 12.0, "w": WIDTH, "h": HEIGHT}
    frames = [{"file_path": f"images/{n}", "transform_matrix": opengl(p)} for n, p in zip(names, cameras())]
    data = size | {"camera_model": "OPENCV", "k1": 0.05, "k2": 0.0, "p1": 0.0, "p2": 0.0, "frames": frames}
    data |= {"applied_transform": np.eye(4)[:3].tolist(), "applied_scale": 0.5, "ply_file_path": "sparse_pc.ply"}
    data |= {"train_filenames": [f"images/{n}" for n in names[:2]], "test_filenames": [f"images/{names[2]}"]}
    (root / "transforms.json").write_text(json.dumps(data))


def write_point_cloud_case(root: Path, faces: bool, binary: bool) -> None:
    write_nerfstudio(root)
    write_points(root / "sparse_pc.ply", faces, binary)


def write_instant_ngp(root: Path) -> None:
    names = write_photos(root / "images", ".jpg")
    own = {"fl_x": FOCAL, "fl_y": FOCAL, "cx": 16.0, "cy": 12.0, "w": 32.0, "h": 24.0, "k1": 0.02, "k2": 0.0}
    frames = [
        {"file_path": f"./images/{n}", "sharpness": 1.0, "transform_matrix": opengl(p), **own}
        for n, p in zip(names, cameras())
    ]
    (root / "transforms.json").write_text(json.dumps({"aabb_scale": 4, "is_fisheye": True, "frames": frames}))


def write_blender(root: Path) -> None:
    for role, ids in (("train", (0, 1)), ("test", (2,))):
        (root / role).mkdir(parents=True)
        frames = []
        for i in ids:
            rgba = np.dstack([pixels(i), np.full((HEIGHT, WIDTH), 255 - 40 * i, np.uint8)])
            Image.fromarray(rgba).save(root / role / f"r_{i}.png")
            frames.append({"file_path": f"./{role}/r_{i}", "rotation": 0.1, "transform_matrix": opengl(cameras()[i])})
        (root / f"transforms_{role}.json").write_text(json.dumps({"camera_angle_x": 0.98, "frames": frames}))


def write_split(root: Path) -> None:
    names = write_photos(root / "images")
    (root / "split.json").write_text(json.dumps({"images": "images", "train": names[:2], "test": names[2:]}))


def write_llff(root: Path) -> None:
    write_photos(root / "images")
    rows = []
    for pose in cameras():
        right, down, ahead, where = pose[:3].T
        m = np.stack([down, right, -ahead, where, [HEIGHT, WIDTH, FOCAL]], 1)
        rows.append(np.concatenate([m.ravel(), [1.0, 9.0]]))
    np.save(root / "poses_bounds.npy", np.array(rows))


def write_idr(root: Path) -> None:
    """NeuS and DTU: `world_mat_i` is the projection, `scale_mat_i` the normalization."""
    (root / "mask").mkdir(parents=True)
    write_photos(root / "image")
    arrays = {}
    for i, pose in enumerate(cameras()):
        Image.fromarray(np.full((HEIGHT, WIDTH), 255, np.uint8)).save(root / "mask" / f"{i:03d}.png")
        (root / "image" / f"{i}.png").rename(root / "image" / f"{i:03d}.png")
        k = np.eye(4)
        k[:3, :3] = [[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]]
        arrays |= {f"world_mat_{i}": k @ np.linalg.inv(pose), f"scale_mat_{i}": np.eye(4)}
    np.savez(root / "cameras.npz", **arrays)


def write_colmap(root: Path, binary: bool, frames: bool = True) -> None:
    """A model with points and tracks; without `frames` as COLMAP before 3.12 wrote it."""
    import pycolmap

    names, model = write_photos(root / "images"), pycolmap.Reconstruction()
    values = [FOCAL, WIDTH / 2, HEIGHT / 2, 0.05]
    camera = pycolmap.Camera(model="SIMPLE_RADIAL", width=WIDTH, height=HEIGHT, params=values, camera_id=1)
    model.add_camera_with_trivial_rig(camera)
    seen = list[list[int]]()
    for i, (name, pose) in enumerate(zip(names, cameras()), 1):
        cam = np.linalg.inv(pose)
        local = POINTS @ cam[:3, :3].T + cam[:3, 3]
        xy = FOCAL * local[:, :2] / local[:, 2:] + [WIDTH / 2, HEIGHT / 2]
        seen.append([k for k, (x, y) in enumerate(xy) if 0 < x < WIDTH and 0 < y < HEIGHT])
        image = pycolmap.Image(name=name, points2D=pycolmap.Point2DList(), camera_id=1, image_id=i)
        image.points2D = pycolmap.Point2DList([pycolmap.Point2D(xy[k]) for k in seen[-1]])
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(cam[:3]))
    for k, xyz in enumerate(POINTS):
        elements = [pycolmap.TrackElement(i + 1, ids.index(k)) for i, ids in enumerate(seen) if k in ids]
        if len(elements) > 1:
            model.add_point3D(xyz, pycolmap.Track(elements), np.array([k, 2 * k, 3 * k], np.uint8))
    folder = root / "sparse" / "0"
    folder.mkdir(parents=True)
    (model.write_binary if binary else model.write_text)(folder)
    for name in () if frames else ("rigs", "frames"):
        (folder / f"{name}{'.bin' if binary else '.txt'}").unlink()


# --------------------------------------------------------------------------------------------------------------- splats


def gaussians(degree: int = 1) -> Gaussians:
    g = torch.Generator().manual_seed(0)
    n = 20
    return Gaussians(
        means=torch.randn(n, 3, generator=g),
        quats_wxyz=torch.randn(n, 4, generator=g),
        log_scales=torch.randn(n, 3, generator=g) - 3,
        logit_opacities=torch.randn(n, generator=g),
        sh=0.3 * torch.randn(n, (degree + 1) ** 2, 3, generator=g),
    )


def write_splat(path: Path, degree: int = 1) -> None:
    """With a local origin and the mark of anti-aliasing: in the file, or in a JSON beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_splat(path, gaussians(degree), {MODE: MIP, OFFSET: "431000.5 4582000 12.25"}, Silent())


def write_ascii_splat(path: Path) -> None:
    from splat.export.ply_rows import vertex_rows

    path.parent.mkdir(parents=True, exist_ok=True)
    write_ply(path, {"vertex": vertex_rows(gaussians(0))}, binary=False)


def write_spz_zstd(path: Path) -> None:
    """Version 4: a plain header, the sizes of the streams, the streams."""
    import zstandard

    write_splat(path, 2)
    plain = gzip.decompress(path.read_bytes())
    _, _, n, degree, bits, flags, _ = struct.unpack_from("<4sIIBBBB", plain)
    at, streams = 16, list[tuple[bytes, int]]()
    for width in (9, 1, 3, 3, 4, 3 * ((degree + 1) ** 2 - 1)):
        streams.append((zstandard.ZstdCompressor().compress(plain[at : at + n * width]), n * width))
        at += n * width
    head = struct.pack("<4sIIBBBBI", b"NGSP", 4, n, degree, bits, flags, len(streams), 32).ljust(32, b"\0")
    sizes = b"".join(struct.pack("<QQ", len(packed), size) for packed, size in streams)
    path.write_bytes(b"".join([head, sizes, *(packed for packed, _ in streams)]))


def write_sog_folder(root: Path) -> None:
    write_splat(root / "a.sog", 1)
    with zipfile.ZipFile(root / "a.sog") as z:
        z.extractall(root)
    (root / "a.sog").unlink()


def write_sog_levels(root: Path) -> None:
    from splat.export.sog_levels import SogLevelsCodec

    g = gaussians(1)
    SogLevelsCodec(levels=2, smallest=1, leaf=8, unit=8).save(root / "a.lod", g, {MODE: MIP}, Silent())


def write_foreign_glb(path: Path) -> None:
    """As another program may write it: no extras, nodes with matrices, rotations and scales, no scene."""
    write_splat(path)
    data = path.read_bytes()
    size = int.from_bytes(data[12:16], "little")
    tree, rest = json.loads(data[20 : 20 + size]), data[20 + size :]
    del tree["scene"], tree["scenes"], tree["nodes"][0]["extras"]
    tree["nodes"][0] |= {"translation": [1.0, 2.0, 3.0], "rotation": [0.0, 0.6, 0.0, 0.8], "scale": [2.0, 2.0, 2.0]}
    text = json.dumps(tree).encode()
    text += b" " * (-len(text) % 4)
    head = struct.pack("<4sIIII", b"glTF", 2, 20 + len(text) + len(rest), len(text), 0x4E4F534A)
    path.write_bytes(head + text + rest)


def write_ksplat(path: Path, level: int) -> None:
    from hostile import ksplat

    path.write_bytes(ksplat([(2, 4, [3, 1]), (1, 1, [])], level, 2))


# ----------------------------------------------------------------------------------------------------------------- runs


def _capture(root: Path) -> Capture:
    write_nerfstudio(root / "scan")
    return read(root / "scan")


def write_run(root: Path, hashes: bool = True) -> None:
    """What `render`, `evaluate` and `export` open. Without `hashes` as version 0.1.0 wrote it, which kept none of the
    files that a stage makes."""
    capture = _capture(root)
    run = root / "run"
    save_capture(run / "poses", capture, root / "scan")
    names = [v.name for v in capture.views]
    trained = Trained(
        gaussians=gaussians(),
        exposures={n: torch.eye(4)[:3] for n in names},
        poses={n: torch.eye(4) for n in names},
        background=torch.zeros(3),
        scene_extent=2.0,
        steps=10,
        history=[{"step": 10, "gaussians": 20, "seconds": 1.0}],
    )
    save_trained(run / "train", trained)
    for stage in ("poses", "train"):
        outputs = {"outputs": written_since(run / stage, {})} if hashes else {}
        (run / stage / "stage.json").write_text(json.dumps(_MARKS | outputs))
    config = {"antialiased": True, "photos": "scan", "command": {"preset": "fast"}}
    (run / "config.json").write_text(json.dumps(config))
    (run / "metrics.json").write_text(json.dumps({"resolution": [WIDTH, HEIGHT], "psnr": 20.0}))


_MARKS = {"key": "a" * 16, "code": "b" * 16, "version": "0.1.0", "extent": 10, "seconds": 1.5, "complete": True}


def write_stage_record(root: Path) -> None:
    (root / "a.bin").write_bytes(b"made by a stage")
    (root / "stage.json").write_text(json.dumps(_MARKS | {"outputs": written_since(root, {})}))


def write_checkpoint(root: Path) -> None:
    checkpoint.save(root, {"step": 3, "values": torch.arange(20.0), "names": ["a", "b"]}, "key")
