"""The photos that a dataset's names mean, and names that are safe to show and to write.

Other programs name photos relative to a folder that is not given, with the suffix of another format, in another case,
or by the absolute path on the machine they ran on. What differs must differ in the same way for all names of a file:
one rule is chosen for all of them. A folder that some names have and others have not is never ignored, because cameras
of a rig have photos of equal file names (`left/0.jpg`, `right/0.jpg`).
"""

from __future__ import annotations

import functools
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

from splat.core.foreign import some_of as some_of
from splat.ingest.folders import is_photo_name, list_photos_deep, name_in, posix_path

Parts = tuple[str, ...]

_CONTAINER = re.compile(r"^(images?(_\d+)?|input|photos?|rgb|frames?|data|color|colour)$", re.I)
"""Folders that contain all photos. Any other folder in a name tells cameras apart."""
_SUFFIX = re.compile(r"\.[a-z][a-z0-9]{1,4}$")
_HARMFUL = {"Cc", "Cs", "Zl", "Zp"}
_TURNS_TEXT = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_MAX_NAME_BYTES = 220
"""Of a view's name. It becomes part of file names such as `left_0.jpg.render.png`, and a file system takes 255."""


def find_in_folder(folder: Path, names: Sequence[str]) -> list[Path | None]:
    """The photo below `folder` that each name means, or None; different names never mean the same photo. Where some are
    found, others may be the paths of photos elsewhere (`../photos/0.jpg`)."""
    photos = list_photos_deep(folder)
    have = [PurePosixPath(name_in(folder, p)).parts for p in photos]
    found = match(names, have, above=folder.absolute().parts)
    out = [None if i is None else photos[i] for i in found]
    if None in out and any(out):
        used = set(out)
        for k, name in enumerate(names):
            path = folder / posix_path(name)
            if out[k] is None and path not in used and is_photo_name(path) and is_file(path):
                out[k] = path
    return out


def match_names(names: Sequence[str], have: Sequence[str]) -> list[int | None]:
    """The index in `have` that each name means, or None: `match` for the names of a list."""
    return match(names, [_parts(h) for h in have])


def match(names: Sequence[str], have: Sequence[Parts], above: Parts = ()) -> list[int | None]:
    """The index of the path in `have` that each name means, or None.

    A name means a path that ends in it, after the same number of leading folders was removed from every name: only
    folders that all names share are removed (others tell photos apart), and the paths found all start with the same
    folder. Of all such rules the one that finds most paths is taken, of equals the one that removes least. Case, the
    suffix and the Unicode form may differ where this leaves one path. `above`: folders above those of `have`.

    Two exceptions. Names without folders may mean paths in several folders, where the file names are unique. Where no
    rule finds anything, folders that tell names apart are removed too, if the names stay different and the paths have
    no folders (all photos were copied into one folder).
    """
    wanted = [_parts(n) for n in names]
    distinct = [w for w in dict.fromkeys(wanted) if w]
    if not distinct or not have:
        return [None] * len(wanted)
    shared = _shared_folders(distinct)
    endings = _endings(have)
    rules = [_by_one_folder(distinct, k, have, endings, above) for k in range(shared + 1)]
    if all(len(w) == shared + 1 for w in distinct) and _is_container(distinct[0], shared):
        rules.append(_by_file_name(distinct, shared, endings))
    if not any(rules):
        flat = [h if len(h) == 1 else () for h in have]
        endings = _endings(flat)
        for k in range(shared + 1, min(map(len, distinct))):
            if len({loose(w)[k:] for w in distinct}) == len(distinct):
                rules.append(_by_one_folder(distinct, k, flat, endings, ()))
    found = max(rules, key=len)
    return [found.get(w) for w in wanted]


@functools.lru_cache(maxsize=100_000)
def loose(parts: Parts) -> Parts:
    """Path components without case, Unicode form and the suffix of the last one: equal for names of one photo."""
    *folders, last = _folded(parts)
    return (*folders, _SUFFIX.sub("", last) or last)


def _folded(parts: Parts) -> Parts:
    return tuple(unicodedata.normalize("NFC", p).casefold() for p in parts)


def _parts(name: str) -> Parts:
    plain = name.replace("\\", "/")
    parts = [p for p in plain.split("/") if p not in {"", "."}]
    return ("/", *parts) if plain.startswith("/") else tuple(parts)


def _shared_folders(names: Sequence[Parts]) -> int:
    """How many leading folders all names have in common."""
    depth = 0
    while names and all(len(n) > depth + 1 for n in names) and len({n[depth] for n in names}) == 1:
        depth += 1
    return depth


def _is_container(name: Parts, removed: int) -> bool:
    """Whether the folders removed from a name say nothing about which camera took it."""
    return removed == 0 or bool(_CONTAINER.match(name[removed - 1]))


def _endings(have: Sequence[Parts]) -> dict[Parts, list[int]]:
    """Every ending of every path, in the loose form -> indices of the paths."""
    out = defaultdict[Parts, list[int]](list)
    for i, path in enumerate(have):
        key = loose(path) if path else ()
        for start in range(len(path)):
            out[key[start:]].append(i)
    return out


def _by_one_folder(
    names: list[Parts], removed: int, have: Sequence[Parts], endings: dict[Parts, list[int]], above: Parts
) -> dict[Parts, int]:
    """Names -> paths that consist of one folder and the name without its first `removed` folders."""
    folded_above = _folded(above)
    by_folder = defaultdict[Parts, dict[Parts, list[int]]](dict)
    for name in names:
        tail = loose(name)[removed:]
        for i in endings.get(tail, ()):
            by_folder[have[i][: len(have[i]) - len(tail)]].setdefault(name, []).append(i)
        for start in range(1, min(len(tail), len(above) + 1)):
            if tail[:start] == folded_above[-start:]:  # `images/0.jpg` for 0.jpg of the folder images/
                whole = [i for i in endings.get(tail[start:], ()) if len(have[i]) == len(tail) - start]
                by_folder[()].setdefault(name, []).extend(whole)
    if not _is_container(names[0], removed):  # left/0.jpg may be 0.jpg, but not right/0.jpg
        by_folder = defaultdict(dict, {folder: c for folder, c in by_folder.items() if not folder})
    rules = {folder: _one_each(candidates, have) for folder, candidates in by_folder.items()}
    count = max(map(len, rules.values()), default=0)
    best = [folder for folder, rule in rules.items() if len(rule) == count]
    if () in best:
        return rules[()]
    return rules[best[0]] if len(best) == 1 else {}


def _one_each(candidates: dict[Parts, list[int]], have: Sequence[Parts]) -> dict[Parts, int]:
    """The nearest path of each name, where one is nearest, and each path for one name only."""
    claims = defaultdict[int, list[tuple[int, Parts]]](list)
    for name, ids in candidates.items():
        by_distance = defaultdict[int, set[int]](set)
        for i in ids:
            by_distance[_distance(name[-1], have[i][-1])].add(i)
        nearest = min(by_distance, default=0)
        if len(by_distance[nearest]) == 1:
            claims[by_distance[nearest].pop()].append((nearest, name))
    out = dict[Parts, int]()
    for i, claimed in claims.items():
        claimed.sort()
        if len(claimed) == 1 or claimed[0][0] < claimed[1][0]:
            out[claimed[0][1]] = i
    return out


def _distance(name: str, file: str) -> int:
    """0: the same, 1: in another case or Unicode form, 2: with another suffix."""
    if name == file:
        return 0
    return 1 if _folded((name,)) == _folded((file,)) else 2


def _by_file_name(names: list[Parts], removed: int, endings: dict[Parts, list[int]]) -> dict[Parts, int]:
    """Names -> the only path with this file name, in any folder."""
    tails = Counter(loose(n)[removed:] for n in names)
    found = {n: endings.get(tail, []) for n in names if tails[tail := loose(n)[removed:]] == 1}
    return {n: ids[0] for n, ids in found.items() if len(ids) == 1}


def safe_names(names: Sequence[str]) -> list[str]:
    """Names of views that are relative paths inside a folder, can be shown, and are different from each other.

    Names that are so already stay. Where a name is absolute (`/home/me/images/0.jpg`, `C:\\images\\0.jpg`) or leads out
    of its folder, the folders that all names share are removed from all.
    """
    paths = [_parts(n) for n in names]
    if any(map(_leads_out, paths)):
        shared = _shared_folders(paths)
        paths = [p[shared:] for p in paths]
    cleaned = [_shortened("/".join(filter(None, map(_cleaned, p)))) or "photo" for p in paths]
    first = dict[str, int]()
    for i in sorted(range(len(names)), key=lambda i: cleaned[i] != names[i]):  # names that stay come first
        first.setdefault(cleaned[i], i)
    used, count = set(first), Counter[str]()
    out = list[str]()
    for i, name in enumerate(cleaned):
        suffix = PurePosixPath(name).suffix
        stem = name.removesuffix(suffix)
        while first[cleaned[i]] != i and name in used:
            count[cleaned[i]] += 1
            name = f"{stem}_{count[cleaned[i]] + 1}{suffix}"
        used.add(name)
        out.append(name)
    return out


def _leads_out(path: Parts) -> bool:
    return bool(path) and (path[0] == "/" or ".." in path or bool(PureWindowsPath(path[0]).drive))


def _cleaned(part: str) -> str:
    """A component of a path without what a terminal or Windows would take for something else; "" for one
    that moves (`..`)."""
    if part in {"..", "/"}:
        return ""
    part = "".join("_" if unicodedata.category(c) in _HARMFUL or c in _TURNS_TEXT else c for c in part)
    if PureWindowsPath(part).drive:
        part = part.replace(":", "_")
    return part


def _shortened(name: str) -> str:
    """The end of a name that is too long for a file, with its folders or without."""
    data = os.fsencode(name)
    if len(data) <= _MAX_NAME_BYTES:
        return name
    return data[len(data) - _MAX_NAME_BYTES :].decode("utf-8", "ignore").strip("/")


def is_file(path: Path) -> bool:
    """`Path.is_file`, also for names that no file system takes."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
