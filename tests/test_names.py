"""The field's words: names that were coined here and made readers stop do not come back."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "splat"

COINED = {
    *("room", "telling", "told", "sent", "shot", "drawn", "made", "forget", "sprout", "explore", "pull", "seen_from"),
    *("witness", "witnesses", "witnessed", "see_past", "sees_past", "there_and_back", "holds", "complaints"),
    *("clearance", "filling", "tangents", "order", "ranks", "ladder", "dropped", "finished", "story", "strict"),
    *("placing", "divided"),
}
"""In snake case; a class `ThereAndBack` is `there_and_back`."""
VAGUE = re.compile(r"^(most|least|fewest|largest|smallest|finest)_")
"""`max_` and `min_` say it."""
ALLOWED: dict[str, str] = {
    "export/packing.py:smallest_three": "the usual name of this quaternion encoding",
    "ingest/colmap.py:_largest_model": "COLMAP leaves several models, and the one with most photos is meant, no limit",
    "poses/pairs.py:most_similar": "retrieval: the k nearest in a ranking, no limit",
}
""""file:name" -> why the word is the right one there."""


def snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().strip("_")


def defined(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Names of modules' constants, classes, functions, parameters and fields (of classes and of `self`)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node.lineno
            if isinstance(node, ast.ClassDef):
                for inner in node.body:
                    if isinstance(inner, ast.AnnAssign) and isinstance(inner.target, ast.Name):
                        yield inner.target.id, inner.lineno
            else:
                a = node.args
                for argument in [*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg]:
                    if argument is not None:
                        yield argument.arg, argument.lineno
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and isinstance(node.value, ast.Name)
            and node.value.id == "self"
        ):
            yield node.attr, node.lineno
    for node in tree.body:
        for target in node.targets if isinstance(node, ast.Assign) else []:
            if isinstance(target, ast.Name):
                yield target.id, target.lineno


def test_the_walk_finds_names() -> None:
    tree = ast.parse("MOST_X = 1\nclass ThereAndBack:\n    order: int\n    def f(self, told, *sent): self.room = told")
    names = {"most_x", "there_and_back", "order", "f", "self", "told", "sent", "room"}
    assert {snake(n) for n, _ in defined(tree)} == names


def test_no_name_is_one_of_those_that_made_readers_stop() -> None:
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        where = file.relative_to(PACKAGE).as_posix()
        names = [(file.stem, 1), *defined(ast.parse(file.read_text()))]
        for name, line in names:
            plain = snake(name)
            if plain in COINED or VAGUE.match(plain):
                found[f"{where}:{name}"] = line
    assert found.keys() <= ALLOWED.keys(), {name: line for name, line in found.items() if name not in ALLOWED}
    assert ALLOWED.keys() <= found.keys(), f"remove what is no longer there: {ALLOWED.keys() - found.keys()}"
