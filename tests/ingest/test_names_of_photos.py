"""The photo that a name in a dataset means, and what names may do."""

from __future__ import annotations

import json
import time
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from street import street, transforms, write_colmap, write_photos, write_transforms

from splat.core.errors import SplatError
from splat.core.slots import ReadOptions, Silent
from splat.export.colmap_model import write_colmap as write_dataset
from splat.ingest import read
from splat.ingest.names import match_names, safe_names

RIG = [f"{side}/{i}.jpg" for side in ("left", "right") for i in range(4)]
LEFT, RIGHT = RIG[:4], RIG[4:]


def found(names: list[str], have: list[str]) -> list[str | None]:
    return [None if i is None else have[i] for i in match_names(names, have)]


# ---------------------------------------------------------------------------------------------------------------- rules


@pytest.mark.parametrize(
    ("names", "have", "meant"),
    [
        (["0.jpg", "1.jpg"], ["images/0.jpg", "images/1.jpg"], None),
        (["images/0.jpg", "images/1.jpg"], ["0.jpg", "1.jpg"], None),
        (["images/left/0.jpg", "images/right/0.jpg"], ["left/0.jpg", "right/0.jpg"], None),
        (["left/0.jpg", "right/0.jpg"], ["images/left/0.jpg", "images/right/0.jpg"], None),
        (["images/0.jpg", "images/1.jpg"], ["data/0.jpg", "data/1.jpg"], None),
        (["C:\\scan\\left\\0.jpg", "C:\\scan\\right\\0.jpg"], ["left/0.jpg", "right/0.jpg"], None),
        (["/home/me/left/0.jpg", "/home/me/right/0.jpg"], ["left/0.jpg", "right/0.jpg"], None),
        (["IMG_0.png", "IMG_1.png"], ["img_0.JPG", "img_1.JPG"], None),
        (["0.jpg", "0.png"], ["0.jpg", "0.png"], None),
        ([unicodedata.normalize("NFD", "café.jpg")], [unicodedata.normalize("NFC", "café.jpg")], None),
        (["left/0.jpg", "right/1.jpg"], ["0.jpg", "1.jpg"], None),  # copied into one folder
        (["0.jpg", "1.jpg"], ["a/0.jpg", "b/1.jpg"], None),  # sorted into folders
        (["frame_0.1", "frame_0.2"], ["frame_0.1.jpg", "frame_0.2.jpg"], None),
        (RIG, LEFT, [*LEFT, *[None] * 4]),
        (RIG, [f"images/{n}" for n in RIGHT], [*[None] * 4, *(f"images/{n}" for n in RIGHT)]),
        (RIG, ["0.jpg", "1.jpg", "2.jpg", "3.jpg"], [None] * 8),  # of one camera, nobody knows which
        (LEFT, RIGHT, [None] * 4),
        (["left/0.jpg", "right/1.jpg"], ["back/0.jpg", "back/1.jpg"], [None] * 2),
        (["0.jpg", "1.jpg"], ["left/0.jpg", "left/1.jpg", "right/0.jpg", "right/1.jpg"], [None] * 2),
        (["0.jpg", "0.png"], ["0.jpg"], ["0.jpg", None]),
        (["0.tif", "0.png"], ["0.jpg"], [None, None]),
        (["/home/me/left/0.jpg", "/home/me/right/0.jpg"], ["right/0.jpg"], [None, "right/0.jpg"]),
        ([], ["0.jpg"], None),
        (["", "..", "/", "x" * 5000], ["0.jpg"], [None] * 4),
    ],
)
def test_one_rule_maps_all_names(names: list[str], have: list[str], meant: list[str | None] | None) -> None:
    assert found(names, have) == (have[: len(names)] if meant is None else meant)


def test_many_names_are_mapped_in_time_that_grows_with_their_number() -> None:
    def seconds(n: int) -> float:
        names = [f"/home/me/scan/cam_{i // 100}/IMG_{i % 100}.png" for i in range(n)]
        have = [f"cam_{i // 100}/img_{i % 100}.jpg" for i in range(n)]
        started = time.process_time()
        assert match_names(names, have) == list(range(n))
        return time.process_time() - started

    assert min(seconds(4000) for _ in range(3)) < 40 * max(seconds(400), 0.01)  # quadratic: 100


# ------------------------------------------------------------------------------------------------------------ datasets


def colmap(root: Path, names: list[str]) -> None:
    write_colmap(root, names)


def nerfstudio(root: Path, names: list[str]) -> None:
    (root / "transforms.json").write_text(json.dumps(transforms([f"images/{n}" for n in names])))


DATASETS = pytest.mark.parametrize("dataset", [colmap, nerfstudio])


@DATASETS
def test_poses_of_a_camera_whose_folder_is_missing_get_no_photos(tmp_path: Path, dataset: Callable) -> None:
    write_photos(tmp_path / "images", RIG)
    for name in RIGHT:
        (tmp_path / "images" / name).unlink()
    dataset(tmp_path, RIG)
    report = Silent()
    assert [v.name for v in read(tmp_path, ReadOptions(), report).views] == LEFT
    assert len(report.warnings) == 1
    assert "4 of the 8 photos" in report.warnings[0] and "right/0.jpg" in report.warnings[0]


@DATASETS
def test_photos_of_one_camera_without_its_folder_are_refused(tmp_path: Path, dataset: Callable) -> None:
    write_photos(tmp_path / "images", ["0.jpg", "1.jpg", "2.jpg", "3.jpg"])
    dataset(tmp_path, RIG)
    with pytest.raises(SplatError, match="None of the 8 photos"):
        read(tmp_path)


@DATASETS
def test_a_camera_that_is_named_gets_its_own_photos(tmp_path: Path, dataset: Callable) -> None:
    write_photos(tmp_path / "images", RIG)
    dataset(tmp_path, RIG)
    report = Silent()
    capture = read(tmp_path, ReadOptions(images="images/right", test_every=0), report)
    assert [v.name for v in capture.views] == RIGHT
    assert {v.image_path.parent for v in capture.views} == {tmp_path / "images" / "right"}


@DATASETS
@pytest.mark.parametrize("prefix", ["/home/me/scan/images/", "C:\\Users\\me\\images\\", "../../other/images/"])
def test_names_of_another_machine_mean_the_photos_here(tmp_path: Path, dataset: Callable, prefix: str) -> None:
    write_photos(tmp_path / "images", RIG)
    names = [prefix + n.replace("/", "\\" if "\\" in prefix else "/") for n in RIG]
    if dataset is colmap:
        write_colmap(tmp_path, names)
    else:
        (tmp_path / "transforms.json").write_text(json.dumps(transforms(names)))
    capture = read(tmp_path)
    assert [v.name for v in capture.views] == RIG
    assert [v.image_path for v in capture.views] == [tmp_path / "images" / n for n in RIG]


@pytest.mark.parametrize("absolute", [False, True])
def test_photos_outside_the_dataset_are_read(tmp_path: Path, absolute: bool) -> None:
    write_photos(tmp_path / "photos")
    root = tmp_path / "scan"
    root.mkdir()
    names = [f"{tmp_path if absolute else '..'}/photos/{i}.jpg" for i in range(8)]
    (root / "transforms.json").write_text(json.dumps(transforms(names)))
    assert [v.name for v in read(root).views] == [f"{i}.jpg" for i in range(8)]
    mixed = ["images/0.jpg", *names[1:]]
    write_photos(root / "images", ["0.jpg"])
    (root / "transforms.json").write_text(json.dumps(transforms(mixed)))
    views = read(root).views
    assert len(views) == 8 and not any(v.name.startswith(("/", ".")) for v in views)


def test_a_photo_outside_the_folder_of_the_others_is_read(tmp_path: Path) -> None:
    write_photos(tmp_path, [*(f"images/{i}.jpg" for i in range(7)), "photos/7.jpg"])
    write_colmap(tmp_path, [*(f"{i}.jpg" for i in range(7)), "../photos/7.jpg"])
    views = read(tmp_path).views
    assert sorted(v.name for v in views) == [*(f"{i}.jpg" for i in range(7)), "photos/7.jpg"]


def test_a_photo_serves_one_view(tmp_path: Path) -> None:
    path = write_transforms(tmp_path)
    data = json.loads(path.read_text())
    data["frames"].append(data["frames"][0] | {"file_path": "./images/../images/0.jpg"})
    data["frames"].append(data["frames"][1])
    path.write_text(json.dumps(data))
    report = Silent()
    assert len(read(tmp_path, ReadOptions(), report).views) == 8
    assert len(report.warnings) == 1 and "2 photos more than once" in report.warnings[0]


# --------------------------------------------------------------------------------------------------------------- lists

FILES = [f"images/{i}.jpg" for i in range(8)]
WORDS: dict[str, Callable[[str], str]] = {
    "as they are": lambda n: n,
    "suffix": lambda n: n.replace(".jpg", ".png"),
    "no suffix": lambda n: n.removesuffix(".jpg"),
    "case": str.upper,
    "file names": lambda n: n.removeprefix("images/"),
    "./": lambda n: f"./{n}",
    "another machine": lambda n: f"/home/me/scan/{n}",
    "another system": lambda n: "D:\\scan\\" + n.replace("/", "\\"),
}


@pytest.mark.parametrize("words", WORDS)
def test_lists_of_photos_may_use_other_words(tmp_path: Path, words: str) -> None:
    lists = [WORDS[words](n) for n in FILES]
    write_transforms(tmp_path, train_filenames=lists[:5], val_filenames=lists[5:6], test_filenames=lists[6:])
    report = Silent()
    capture = read(tmp_path, ReadOptions(), report)
    assert [v.name for v in capture.train_views] == [f"{i}.jpg" for i in range(5)]
    assert [v.name for v in capture.test_views] == ["6.jpg", "7.jpg"] and report.warnings == []
    write_colmap(tmp_path / "b", [f"{i}.jpg" for i in range(8)])
    write_photos(tmp_path / "b" / "images")
    (tmp_path / "b" / "split.json").write_text(json.dumps({"train": lists[:5], "test": lists[6:]}))
    capture = read(tmp_path / "b", ReadOptions(), report)
    assert [v.name for v in capture.train_views] == [f"{i}.jpg" for i in range(5)]
    assert [v.name for v in capture.test_views] == ["6.jpg", "7.jpg"] and report.warnings == []


def test_lists_of_a_rig_keep_its_cameras_apart(tmp_path: Path) -> None:
    write_photos(tmp_path / "images", RIG)
    data = transforms([f"images/{n}" for n in RIG])
    lists = {"train_filenames": [f"/data/{n}" for n in RIG[:3] + RIG[4:]], "test_filenames": ["/data/left/3.jpg"]}
    (tmp_path / "transforms.json").write_text(json.dumps(data | lists))
    assert [v.name for v in read(tmp_path).test_views] == ["left/3.jpg"]


def test_lists_that_match_nothing_are_a_warning(tmp_path: Path) -> None:
    other = [f"a{i}.jpg" for i in range(8)]
    path = write_transforms(tmp_path, train_filenames=other[:6], test_filenames=other[6:])
    report = Silent()
    capture = read(tmp_path, ReadOptions(), report)
    assert len(capture.views) == 8 and [v.name for v in capture.test_views] == ["0.jpg"]
    assert len(report.warnings) == 2 and all("a0.jpg" in w or "a6.jpg" in w for w in report.warnings)
    path.write_text(json.dumps(transforms(FILES)))
    (tmp_path / "split.json").write_text(json.dumps({"train": other[:6], "test": other[6:]}))
    capture = read(tmp_path, ReadOptions(), report)
    assert len(capture.views) == 8 and [v.name for v in capture.test_views] == ["0.jpg"]
    (tmp_path / "split.json").write_text(json.dumps({"train": ["0.jpg", "1.jpg", "2.jpg"], "test": other[6:]}))
    assert [(v.name, v.role) for v in read(tmp_path).views] == [
        ("0.jpg", "test"),
        ("1.jpg", "train"),
        ("2.jpg", "train"),
    ]


def test_absent_test_photos_are_a_warning(tmp_path: Path) -> None:
    write_photos(tmp_path / "images")
    data = transforms(FILES)
    (tmp_path / "transforms_train.json").write_text(json.dumps(data))
    test = data | {"frames": [f | {"file_path": "test/" + f["file_path"][7:]} for f in data["frames"][:2]]}
    report = Silent()
    for content in (json.dumps(test), json.dumps({"frames": []}), '{"frames": ['):
        (tmp_path / "transforms_test.json").write_text(content)
        capture = read(tmp_path, ReadOptions(), report)
        assert len(capture.views) == 8 and [v.name for v in capture.test_views] == ["images/0.jpg"]
        assert "transforms_test.json" in report.warnings.pop() and not report.warnings


# --------------------------------------------------------------------------------------------------------------- safety


@pytest.mark.parametrize(
    ("names", "safe"),
    [
        (["a.jpg", "b/c d.jpg", "ü.jpg"], ["a.jpg", "b/c d.jpg", "ü.jpg"]),
        (["/etc/passwd.jpg", "/etc/b/x.jpg"], ["passwd.jpg", "b/x.jpg"]),
        (["../../a.jpg", "b.jpg", "c/../../d.jpg"], ["a.jpg", "b.jpg", "c/d.jpg"]),
        (["C:\\a\\0.jpg", "D:\\a\\0.jpg"], ["C_/a/0.jpg", "D_/a/0.jpg"]),
        (["\x1b[2Ja.jpg", "a\nb.jpg", "\u202egpj.exe"], ["_[2Ja.jpg", "a_b.jpg", "_gpj.exe"]),
        (["x\x1b.jpg", "x_.jpg", "x\x1b.jpg"], ["x__2.jpg", "x_.jpg", "x__3.jpg"]),
        (["..", "/", ""], ["photo", "photo_2", "photo_3"]),
        (["a:b.jpg"], ["a_b.jpg"]),
    ],
)
def test_names_of_views_are_safe_and_different(names: list[str], safe: list[str]) -> None:
    assert safe_names(names) == safe


def test_names_of_views_are_never_too_long_for_a_file() -> None:
    names = safe_names(["q" * 300 + ".jpg", "q" * 301 + ".jpg", "é/" * 200 + "x.jpg"])
    assert len(set(names)) == 3 and all(len(n.encode()) < 230 and n.endswith(".jpg") for n in names)


ATTACKS = ["{root}/{i}.jpg", "../../{i}.jpg", "a/../../../{i}.jpg", "..\\..\\{i}.jpg"]


@pytest.mark.parametrize("attack", ATTACKS)
def test_names_in_a_model_overwrite_nothing(tmp_path: Path, attack: str) -> None:
    """`splat init` writes the photos of a capture under the names of its views."""
    root, out = tmp_path / "scan", tmp_path / "run" / "export" / "colmap"
    names = [attack.format(root=tmp_path, i=i) for i in range(8)]
    photos = write_photos(root / "images")
    write_colmap(root, names)
    victims = [f / f"{i}.jpg" for f in (tmp_path, tmp_path / "run", tmp_path / "run" / "export") for i in range(8)]
    for victim in victims:
        victim.parent.mkdir(parents=True, exist_ok=True)
        victim.write_bytes(b"precious")
    before = {p: p.read_bytes() for p in (*photos, *victims)}
    capture = read(root, ReadOptions(test_every=0)).resized(max_resolution=60)
    assert len(capture.views) == 8
    write_dataset(capture, out)
    assert {p for p in tmp_path.rglob("*.jpg") if p not in before} == {out / "images" / f"{i}.jpg" for i in range(8)}
    attacking = capture.with_views(tuple(replace(v, name=n) for v, n in zip(capture.views, names)))
    with pytest.raises(SplatError, match=r"is an absolute path|leads out of its folder"):
        write_dataset(attacking, out)  # a capture that no reader made
    assert {p: p.read_bytes() for p in before} == before


def test_links_in_the_output_folder_are_not_followed(tmp_path: Path) -> None:
    root, out = tmp_path / "scan", tmp_path / "out"
    photos = write_photos(root / "images")
    write_colmap(root, [p.name for p in photos])
    before = [p.read_bytes() for p in photos]
    capture = read(root, ReadOptions(test_every=0)).resized(max_resolution=60)
    out.mkdir()
    (out / "images").symlink_to(root / "images")
    with pytest.raises(SplatError, match="through a link"):
        write_dataset(capture, out)
    (out / "images").unlink()
    (out / "images").mkdir()
    for name in ("0.jpg", ".1.jpg.part.jpg"):
        (out / "images" / name).symlink_to(photos[0])
    with pytest.raises(SplatError, match="through a link"):
        write_dataset(capture, out)
    assert [p.read_bytes() for p in photos] == before


def test_views_of_equal_stems_are_written_as_two_photos(tmp_path: Path) -> None:
    names = ["0.jpg", "0.png", *(f"{i}.jpg" for i in range(2, 8))]
    write_photos(tmp_path / "in" / "images", names)
    write_colmap(tmp_path / "in", names)
    write_dataset(read(tmp_path / "in", ReadOptions(test_every=0)).resized(max_resolution=60), tmp_path / "out")
    assert len(read(tmp_path / "out").views) == len(street())
