"""What a capture is made of: a run is made again when that changes, and for nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import street

from splat.core.slots import ReadOptions
from splat.ingest.sources import source_files
from splat.run.fingerprint import fingerprint


def of(folder: Path, run: Path | None = None, masks: Path | None = None) -> str:
    return fingerprint(source_files(folder, ReadOptions(masks=masks), run))


def finished_run(folder: Path) -> None:
    for name in ("ingest/stage.json", ".lock", "export/splat.ply", "renders/test/0.png", "train.old-1/stage.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")


def test_runs_notes_and_hidden_files_below_the_photos_do_not_matter(tmp_path: Path) -> None:
    street.write_photos(tmp_path)
    before = of(tmp_path, tmp_path / "run")
    finished_run(tmp_path / "run")
    finished_run(tmp_path / "yesterday")
    for name in ("notes.txt", "0.xmp", ".DS_Store", "script.py", os.fsdecode(b"caf\xe9.txt")):
        (tmp_path / name).write_text("x")
    (tmp_path / "run" / "ingest" / "0.png").write_bytes(b"x")
    assert of(tmp_path, tmp_path / "run") == before


def test_a_run_in_the_folder_of_the_photos_itself_does_not_matter(tmp_path: Path) -> None:
    street.write_photos(tmp_path)
    before = of(tmp_path, tmp_path)
    finished_run(tmp_path)
    assert of(tmp_path, tmp_path) == before


def test_photos_masks_and_dataset_files_matter(tmp_path: Path) -> None:
    street.write_transforms(tmp_path)
    seen = {of(tmp_path)}
    for name in ("images/9.jpg", "masks/0.png", "transforms.json", "split.json", "sparse/0/images.bin", "points.ply"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"changed")
        assert of(tmp_path) not in seen, f"{name} went unnoticed"
        seen.add(of(tmp_path))


def test_a_photo_in_another_camera_s_folder_is_another_photo(tmp_path: Path) -> None:
    street.write_photos(tmp_path, [f"left/{i}.jpg" for i in range(8)])
    before = of(tmp_path)
    (tmp_path / "left").rename(tmp_path / "right")
    assert of(tmp_path) != before


def test_masks_given_from_elsewhere_matter(tmp_path: Path) -> None:
    street.write_photos(tmp_path / "photos")
    street.write_photos(tmp_path / "masks", ["0.png"])
    before = of(tmp_path / "photos", masks=tmp_path / "masks")
    (tmp_path / "masks" / "0.png").write_bytes(b"other")
    assert of(tmp_path / "photos", masks=tmp_path / "masks") != before


def test_moved_photos_are_the_same_photos(tmp_path: Path) -> None:
    street.write_photos(tmp_path / "a")
    before = of(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "b")
    assert of(tmp_path / "b") == before


def test_a_link_that_leads_back_ends(tmp_path: Path) -> None:
    street.write_photos(tmp_path)
    (tmp_path / "again").symlink_to(tmp_path)
    assert len(source_files(tmp_path, ReadOptions())) == 8
