"""The scenes, loaded as the program loads them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from splat.bench.scenes import load_scenes

SCENES = load_scenes()


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """name -> truth of a few small photos of that scene, made once."""
    made: dict[str, Any] = {}
    root: Path = tmp_path_factory.mktemp("scenes")

    def get(name: str) -> Any:
        if name not in made:
            made[name] = SCENES.make(name, root / name, scale=0.25, views=4)
        return made[name]

    return get
