"""The one door to the scenes this project makes itself: `splat.scenes` where it is installed, the folder `scenes/`
beside the package in a checkout."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from splat.bench.protocols.protocol import Scene
from splat.core.errors import SplatError


def load_scenes() -> ModuleType:
    """The package with `SCENES`, `make` and `load_truth`, importable as `splat.scenes` from then on."""
    name = "splat.scenes"
    if name in sys.modules:
        return sys.modules[name]
    if importlib.util.find_spec(name) is not None:
        return importlib.import_module(name)
    folder = Path(__file__).resolve().parents[2] / "scenes"
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None or not (folder / "__init__.py").exists():
        raise SplatError(f"{folder} does not exist: this copy of splat came without its scenes, install it again.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def traced(name: str, folder: Path) -> Scene:
    """A scene that the project ray-traces itself, from its photos alone; made in `folder` where it is not there yet."""
    if not (folder / "images").is_dir():
        load_scenes().make(name, folder)
    return Scene(name, folder / "images", {"ignore-poses": True})
