"""Which depth map belongs to which photo."""

from __future__ import annotations

from pathlib import Path

import pytest

from splat.core.camera import Camera
from splat.core.capture import Capture, View
from splat.core.errors import SplatError
from splat.ingest.depth_files import find_depth_files

CAMERA = Camera(50.0, 50.0, 20.0, 15.0, 40, 30)


def capture(*names: str) -> Capture:
    return Capture(tuple(View(n, Path(n), (40, 30), CAMERA) for n in names))


def found(tmp_path: Path, files: list[str], *names: str) -> dict[str, str]:
    for file in files:
        path = tmp_path / "depth" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    folder = tmp_path / "depth"
    return {n: p.relative_to(folder).as_posix() for n, p in find_depth_files(folder, capture(*names)).items()}


@pytest.mark.parametrize(
    "scheme", ["{}.npy", "{}.jpg.npz", "{}.PNG", "{}_depth.png", "depth_{}.tiff", "{}-disp.pfm", "{}.jpg_depth.png"]
)
def test_maps_are_found_by_the_names_of_their_photos(tmp_path: Path, scheme: str) -> None:
    files = [scheme.format(s) for s in ("a", "b")]
    assert found(tmp_path, files, "a.jpg", "b.jpg") == dict(zip(("a.jpg", "b.jpg"), files, strict=True))


def test_cameras_of_a_rig_keep_their_maps_apart(tmp_path: Path) -> None:
    files = ["left/0.npy", "right/0.npy"]
    assert found(tmp_path, files, "left/0.jpg", "right/0.jpg") == {"left/0.jpg": files[0], "right/0.jpg": files[1]}


def test_numbers_come_before_pictures_of_them(tmp_path: Path) -> None:
    assert found(tmp_path, ["a.png", "a.npy", "b.png"], "a.jpg", "b.jpg") == {"a.jpg": "a.npy", "b.jpg": "b.png"}


def test_a_name_with_dots_is_not_cut(tmp_path: Path) -> None:
    files = ["IMG.left.npy", "IMG.right.npy"]
    assert found(tmp_path, files, "IMG.left.jpg", "IMG.right.jpg") == {
        "IMG.left.jpg": files[0],
        "IMG.right.jpg": files[1],
    }


def test_photos_without_a_map_are_left_out(tmp_path: Path) -> None:
    assert found(tmp_path, ["b.npy", "other.npy"], "a.jpg", "b.jpg") == {"b.jpg": "b.npy"}


def test_a_folder_that_is_none_or_fits_no_photo_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SplatError, match="not a folder of depth maps"):
        find_depth_files(tmp_path / "nothing", capture("a.jpg"))
    with pytest.raises(SplatError, match=r"1 maps, and none that belongs to a photo.*a\.npy"):
        found(tmp_path, ["x.npy"], "a.jpg")
