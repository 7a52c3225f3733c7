"""The train/test split: from `split.json`, from the dataset, or every n-th photo by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from splat.core.capture import Capture
from splat.core.errors import SplatError
from splat.core.foreign import read_json, shown
from splat.core.slots import Reporter
from splat.ingest.names import match_names, some_of


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
            raise SplatError(f'{path} lists {shown(both[0])[:120]} under both "train" and "test": remove it from one.')
        return split


def assign_roles(capture: Capture, split: Split, test_every: int | None, report: Reporter) -> Capture:
    """The capture with roles from `split.json`, else those of the dataset, else with every n-th view by name held out
    (index % n == 0). Raises SplatError where no photo would be left for training."""
    if split.train is not None or split.test is not None:
        return _by_lists(capture, split, test_every, report)
    return _every(capture, test_every, report)


def by_numbers(capture: Capture, train_ids: Sequence[int], test_ids: Sequence[int]) -> Capture:
    """The capture with roles by the numbers of its photos (sorted by name, from 0). One empty list stands for all
    photos that are not in the other; photos in neither of two lists are left out. Raises SplatError for numbers that no
    photo has, or that are in both lists, and where fewer than two photos are left for training."""
    count = len(capture.views)
    for flag, ids in (("--train-ids", train_ids), ("--test-ids", test_ids)):
        wrong = [i for i in ids if not 0 <= i < count]
        if wrong:
            raise SplatError(f"{flag} {wrong[0]}: there are {count} photos, numbered from 0 by name.")
    both = sorted({*train_ids} & {*test_ids})
    if both:
        raise SplatError(f"Photo {both[0]} is in both --train-ids and --test-ids: remove it from one.")
    by_name = sorted(range(count), key=lambda i: capture.views[i].name)
    test = {by_name[i] for i in test_ids}
    train = {by_name[i] for i in train_ids} or set(range(count)) - test
    if not test_ids:
        test = set(range(count)) - train
    if len(train) < 2:
        raise SplatError(f"--train-ids and --test-ids leave {len(train)} photos to train on: at least 2 are needed.")
    return _with_test(capture, test).select([i in train or i in test for i in range(count)])


def _every(capture: Capture, test_every: int | None, report: Reporter) -> Capture:
    """Every n-th view by name held out, where none is yet."""
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


def _by_lists(capture: Capture, split: Split, test_every: int | None, report: Reporter) -> Capture:
    """Roles by the lists of `split.json`. A list in which no photo is found is ignored with a warning."""
    found = match_names([*(split.train or ()), *(split.test or ())], [v.name for v in capture.views])
    lists = {"train": split.train, "test": split.test}
    ids = dict[str, set[int] | None]()
    unmatched = list[str]()
    for key, names in lists.items():
        mine, found = found[: len(names or ())], found[len(names or ()) :]
        ids[key] = None if names is None else {i for i in mine if i is not None}
        unmatched += [n for n, i in zip(names or (), mine) if i is None]
    if unmatched:
        report.warn(
            f"{shown(split.path)} names {len(unmatched)} photos that do not exist (first: {some_of(unmatched[:1])})."
        )
    for key, names in lists.items():
        if names and not ids[key]:
            report.warn(f'None of the photos in "{key}" of {shown(split.path)} is there: the list is ignored.')
            ids[key] = None
    train, test = ids["train"], ids["test"]
    if train is None and test is None:
        return _every(capture, test_every, report)
    everything = set(range(len(capture.views)))
    if test is None:
        test = everything - (train or set()) if split.test is None else set()
    if train is None:
        train = everything - test
    if not train:
        raise SplatError(
            f'{shown(split.path)} leaves no photo to train on: correct its "train" list or remove the file.'
        )
    capture = _with_test(capture, test)
    keep = [i in train or i in test for i in range(len(capture.views))]
    if not all(keep):
        report.info(f"{keep.count(False)} photos are in neither list of {split.path.name}: left out.")
        capture = capture.select(keep)
    if len(capture.views) < 2:
        raise SplatError(f"{shown(split.path)} leaves only one photo: correct its lists or remove the file.")
    return capture if capture.test_views or not split.test else _every(capture, test_every, report)
