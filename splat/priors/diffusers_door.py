"""The one way to `diffusers` for the plug-ins that use it: whether it is there and safe, and networks from folders of
safetensors. Nothing is downloaded, and no code that a folder brings is run."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from splat.core.errors import SplatError
from splat.core.foreign import shown
from splat.priors.weights import named_folder

MIN_VERSION = (0, 38)
"""Earlier releases could be made to run code that a folder of weights brings (CVE-2026-44513)."""
_INDEX = "model_index.json"
_INSTALL = 'pip install "splat3d[diffusion]"'


def unusable(title: str, *packages: str) -> str | None:
    """Why the networks called `title` cannot be loaded here, in one sentence without its full stop; None if they can.
    `packages`: what they need beside diffusers and transformers."""
    for package in ("diffusers", "transformers", *packages):
        if importlib.util.find_spec(package) is None:
            return f"{title} needs the package {package} (Apache-2.0): {_INSTALL}"
    version = importlib.metadata.version("diffusers")
    return None if is_safe(version) else f"diffusers {version} is too old to be safe: {_INSTALL}"


def is_safe(version: str) -> bool:
    """Whether this version of `diffusers` runs no code that a folder of weights brings."""
    return tuple(int(n) for n in version.split(".")[:2] if n.isdigit()) >= MIN_VERSION


def find(name: str, folder: Path | None = None) -> Path | None:
    """The folder of weights called `name` in `folder` or, without one, in that named by SPLAT_WEIGHTS; or that itself
    where it has this name."""
    named = named_folder(folder)
    if named is None:
        return None
    places = [named / name, *([named] if named.name == name else [])]
    return next((p for p in places if (p / _INDEX).is_file()), None)


def load(kind: str, folder: Path, title: str, **options: Any) -> Any:
    """The pipeline or network of class `kind` of diffusers from a folder of safetensors. Raises SplatError where they
    are damaged or of something else."""
    import diffusers

    diffusers.utils.logging.disable_progress_bar()
    with _refused(folder, title):
        found = getattr(diffusers, kind).from_pretrained(
            str(folder), local_files_only=True, use_safetensors=True, **options
        )
    if hasattr(found, "set_progress_bar_config"):
        found.set_progress_bar_config(disable=True)
    return found


def scheduler(kind: str, pipeline: Any, folder: Path, title: str, **options: Any) -> Any:
    """A scheduler of class `kind` of diffusers with the numbers of that of a pipeline from `folder`. Raises SplatError
    as `load`."""
    import diffusers

    with _refused(folder, title):
        return getattr(diffusers, kind).from_config(pipeline.scheduler.config, **options)


@contextmanager
def _refused(folder: Path, title: str) -> Iterator[None]:
    """What goes wrong inside is the folder's fault."""
    try:
        yield
    except Exception as e:  # damaged files raise all kinds
        reason = (shown(e) or type(e).__name__)[:160]
        raise SplatError(f"{shown(folder)} cannot be loaded as {title} ({reason}): copy it again.") from None
