"""Settings are nested frozen dataclasses; a setting's name is its dotted path ("train.rates.means"), as in flags."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

T = TypeVar("T")


def setting_at(settings: Any, name: str) -> Any:
    """The value at a dotted path. Raises AttributeError where there is no such field."""
    for part in name.split("."):
        settings = getattr(settings, part)
    return settings


def replace_at(settings: T, name: str, value: Any) -> T:
    """A copy with the value at a dotted path replaced. Raises AttributeError where there is no such field."""
    head, _, rest = name.partition(".")
    if head not in {f.name for f in fields(settings)}:  # type: ignore[arg-type]
        raise AttributeError(f"{type(settings).__name__} has no field {head}.")
    new = replace_at(getattr(settings, head), rest, value) if rest else value
    return replace(settings, **{head: new})  # type: ignore[type-var]


def changed_settings(settings: Any, default: Any) -> frozenset[str]:
    """Dotted names of the fields in which two settings of one class differ."""
    found: set[str] = set()
    for f in fields(settings):
        a, b = getattr(settings, f.name), getattr(default, f.name)
        if is_dataclass(a) and not isinstance(a, type) and type(a) is type(b):
            found |= {f"{f.name}.{name}" for name in changed_settings(a, b)}
        elif a != b:
            found.add(f.name)
    return frozenset(found)


def with_defaults(settings: T, defaults: Mapping[str, Any], explicit: Iterable[str]) -> T:
    """A copy with fields set to these defaults (dotted name -> value), except the `explicit` ones."""
    given = set(explicit)
    for name, value in defaults.items():
        if name not in given:
            settings = replace_at(settings, name, value)
    return settings
