"""The train/test split: from `split.json`, from the dataset, or every n-th photo by name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal

from splat.core.capture import Capture, View
from splat.core.errors import SplatError
from splat.core.foreign import read_json
from splat.core.slots import Reporter


@dataclass(frozen=True)
class Split:
    """`split.json` of a dataset: {"images": folder, "train": [names], "test": [names]}; every key may be absent."""

    path: Path
    images: str | None = None
    train: tuple[str, ...] | None = None
    test: tuple[str, ...] | None = None

    @staticmethod
    def load(root: Path) -> Split:
        """The split of a dataset folder, or an empty one where there is none."""
        path = (root if root.is_dir() else root.parent) / "split.json"
        if not path.is_file():
            return Split(path)
        data = read_json(path)
        for key, kind in (("images", str), ("train", list), ("test", list)):
            if key in data and not isinstance(data[key], kind):
                raise SplatError(f'{path} has a "{key}" that is no {kind.__name__}: correct or remove it.')
        names = {k: tuple(map(str, data[k])) if k in data else None for k in ("train", "test")}
        split = Split(path, data.get("images"), names["train"], names["test"])
        both = sorted(set(split.train or ()) & set(split.test or ()))
        if both:
            raise SplatError(f'{path} lists {both[0]} under both "train" and "test": remove it from one.')
        return split


def assign_roles(capture: Capture, split: Split, test_every: int | None, report: Reporter) -> Capture:
    """The capture with roles from `split.json`, else those of the dataset, else with every n-th view by name held out
    (index % n == 0). Raises SplatError where no photo would be left for training."""
    if split.train is not None or split.test is not None:
        return _by_lists(capture, split, report)
    if not test_every or capture.test_views:
        return capture
    if test_every == 1:
        raise SplatError("--test-every 1 leaves no photo to train on: use 2 or more, or 0 to train on all.")
    by_name = sorted(range(len(capture.views)), key=lambda i: capture.views[i].name)
    held_out = set(by_name[::test_every])
    if len(capture.views) - len(held_out) < 2:
        report.warn(f"{len(capture.views)} photos are too few to hold one out: all are used for training.")
        return capture
    return _with_test(capture, held_out)


def _with_test(capture: Capture, held_out: set[int]) -> Capture:
    def role(i: int) -> Literal["train", "test"]:
        return "test" if i in held_out else "train"

    return capture.with_views(tuple(replace(v, role=role(i)) for i, v in enumerate(capture.views)))


def _by_lists(capture: Capture, split: Split, report: Reporter) -> Capture:
    train, unmatched_train = _named(capture.views, split.train)
    test, unmatched_test = _named(capture.views, split.test)
    unmatched = unmatched_train + unmatched_test
    if unmatched:
        report.warn(f"{split.path} names {len(unmatched)} photos that do not exist (first: {unmatched[0]}).")
    if split.train is None:
        train = set(range(len(capture.views))) - test
    elif split.test is None:
        test = set(range(len(capture.views))) - train
    if not train:
        raise SplatError(f'{split.path} leaves no photo to train on: correct its "train" list or remove the file.')
    capture = _with_test(capture, test)
    keep = [i in train or i in test for i in range(len(capture.views))]
    if not all(keep):
        report.info(f"{keep.count(False)} photos are in neither list of {split.path.name}: left out.")
        capture = capture.select(keep)
    return capture


def _named(views: tuple[View, ...], names: tuple[str, ...] | None) -> tuple[set[int], list[str]]:
    """Indices of the views that `names` refer to (by name, file name, or stem if it is unique), and unmatched names."""
    found, unmatched = set[int](), list[str]()
    levels: list[dict[str, list[int]]] = [{}, {}, {}]
    for i, view in enumerate(views):
        path = PurePosixPath(view.name)
        for level, key in zip(levels, (view.name, path.name, path.stem)):
            level.setdefault(key, []).append(i)
    for name in names or ():
        path = PurePosixPath(name.replace("\\", "/"))
        for level, key in zip(levels, (path.as_posix(), path.name, path.stem)):
            if len(level.get(key, [])) == 1:
                found.add(level[key][0])
                break
        else:
            unmatched.append(name)
    return found, unmatched
