"""Published splits that are lists of numbers, and masks that are for the evaluation alone."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from layouts import make_scene, write_idr

from splat.core.errors import SplatError
from splat.core.slots import ReadOptions
from splat.ingest import read


def scan(root: Path, views: int = 8) -> Path:
    scene = make_scene(views=views)
    write_idr(scene, root)
    for i in range(views):
        mask = np.zeros((180, 240), np.uint8)
        mask[:, :120] = 255
        (root / "mask").mkdir(exist_ok=True)
        cv2.imwrite(str(root / "mask" / f"{i:03d}.png"), mask)
    return root


def test_photos_in_neither_list_take_no_part(tmp_path: Path) -> None:
    capture = read(scan(tmp_path), ReadOptions(train_ids=(5, 2), test_ids=(0, 7)))
    roles = {int(v.name.split(".")[0]): v.role for v in capture.views}
    assert roles == {2: "train", 5: "train", 0: "test", 7: "test"}


def test_one_list_stands_for_all_others(tmp_path: Path) -> None:
    capture = read(scan(tmp_path), ReadOptions(test_ids=(1,)))
    assert [v.name for v in capture.test_views] == ["000001.png"] and len(capture.train_views) == 7
    capture = read(tmp_path, ReadOptions(train_ids=(1, 3)))
    assert len(capture.test_views) == 6


def test_masks_for_the_evaluation_are_not_known_to_training(tmp_path: Path) -> None:
    capture = read(scan(tmp_path), ReadOptions(train_ids=(0, 1), test_ids=(2,), mask_mode="test"))
    for view in capture.train_views:
        assert view.load().weight is None
    weight = capture.test_views[0].load().weight
    assert weight is not None and (weight[:, :110] == 255).all() and (weight[:, 130:] == 0).all()


@pytest.mark.parametrize(
    "ids,said", [(((0, 9), ()), "numbered from 0"), (((0, 1), (1,)), "both"), (((0,), ()), "at least 2")]
)
def test_lists_that_cannot_be_are_refused(tmp_path: Path, ids: tuple, said: str) -> None:
    with pytest.raises(SplatError, match=said):
        read(scan(tmp_path), ReadOptions(train_ids=ids[0], test_ids=ids[1]))
